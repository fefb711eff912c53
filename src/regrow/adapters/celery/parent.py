"""The door in a worker's main process, for tasks that die outside their own code.

A killed child and a hard time limit are known to the main process alone. Celery marks such a task FAILED, and its chord
is lost with it. So its `Request` gets a subclass that parks the task first, as the door in the child does:

1. The facts go to the spool, on this machine's disk: the main loop must not wait for the ledger.
2. Celery is told that the task is to be retried, its message is acknowledged, and no message is sent.
3. The caretaker hands the facts to the ledger a moment later. It decides: again, if the task is declared idempotent;
   else a person is asked, because nobody knows how far the task came.

What Celery itself does about a lost child goes first: its own retry (`retry_on_worker_lost`), and the redelivery of
`reject_on_worker_lost`, whose deaths are counted, so that it comes to an end (`Door`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from queue import Full
from typing import Any
from uuid import uuid4

from billiard.exceptions import Terminated, TimeLimitExceeded, WorkerLostError
from celery import Celery, Task
from celery.exceptions import Ignore, Reject, Retry
from celery.utils.imports import symbol_by_name
from celery.worker import state as worker_state
from celery.worker.request import Request, task_ready

from regrow.adapters.celery import facts
from regrow.adapters.celery.caretaker import Caretaker
from regrow.adapters.celery.envelope import read_header
from regrow.adapters.celery.net import Net, Wishes
from regrow.capture.clean import display
from regrow.model import Failure, TaskOptions
from regrow.pipeline import Regrow

log = logging.getLogger("regrow")


class Parent:
    """Stands behind the pool.

    Args:
        live: Gives the pipeline, with the settings as they are now.
        wishes: What a task's owner said; None if Regrow is to leave the task alone.
        net: Records what is no death.
        caretaker: Has the ledger take what happened.
        boot: Names this start of the worker.
        terms: What is kept of a failed run.
    """

    def __init__(
        self,
        live: Callable[[], Regrow],
        wishes: Wishes,
        net: Net,
        caretaker: Caretaker,
        *,
        boot: str,
        terms: facts.Terms,
    ) -> None:
        self._live = live
        self._wishes = wishes
        self.net = net
        self._caretaker = caretaker
        self._boot = boot
        self._terms = terms
        self._guarded: dict[type[Request], type[Request]] = {}

    def hang(self, app: Celery) -> None:
        """Let every task's requests come by here, those of a project's own class too."""
        for task in app.tasks.values():
            if not task.name.startswith("celery.") and self._wishes(task) is not None:
                task.Request = self._guard(symbol_by_name(task.Request))

    def _guard(self, base: type[Request]) -> type[Request]:
        if base in self._guarded.values():
            return base
        if base not in self._guarded:
            self._guarded[base] = _guarded(base, self)
        return self._guarded[base]

    def parks(self, request: Request, info: Any, *, by_child: bool) -> bool:
        """A task has failed or died; record it if nobody else does. True if it is parked, so that Celery keeps it open.

        Args:
            request: Its request.
            info: Celery's ExceptionInfo.
            by_child: True if the task's own process has reported it, and so recorded it.
        """
        try:
            error = getattr(info.exception, "exc", info.exception)
            if isinstance(error, Reject):
                if not error.requeue:
                    self.net.rejected(request.task, request._context, error, str(info))  # noqa: SLF001
                return False
            if by_child or _is_celerys(request, error):
                return False
            if isinstance(error, (SystemExit, KeyboardInterrupt)):
                error = facts.cut_off(error)
            return self._died(request, info, error)
        except Exception:
            log.exception("regrow could not record the death of task %s[%s]", request.name, request.id)
            return False

    def _died(self, request: Request, info: Any, error: BaseException) -> bool:
        header = read_header(request._context)  # noqa: SLF001
        task_id = str(request.id)
        closing = header is not None and header.close  # our order to fail: Celery fails it now
        # The door counts how often Celery delivers a task again.
        if closing or (header is None and _is_requeued(request.task, error)):
            return False
        failure = self._facts(request, error, str(info))
        parked = self._live().would_park(failure) and self._caretaker.keep(replace(failure, parked=True))
        if parked:
            self._park(request, info, failure)
        else:
            self._caretaker.keep(replace(failure, parkable=False, ended=True))
        # The start ledger, if it knew of the run, need no longer look for it.
        with suppress(Full):  # it then finds a run that is recorded
            self._caretaker.tell(lambda regrow: regrow.store.finish(task_id, self._boot))
        return parked

    def _park(self, request: Request, info: Any, failure: Failure) -> None:
        """Tell Celery that the task goes on."""
        task_ready(request)
        log.warning("Task %s[%s] parked by regrow: %s", request.name, request.id, display(failure.causes[0]))
        try:
            if request.store_errors:
                request.task.backend.mark_as_retry(
                    request.id,
                    info.exception,
                    info.traceback,
                    request=request._context,  # noqa: SLF001
                )
        except Exception as problem:  # each result backend raises what its driver raises; the task is held all the same
            log.error("the result backend does not take that task %s is retried: %s", request.id, problem)
        if request.task.acks_late:
            request.acknowledge()
        request.send_event("task-retried", exception=repr(info.exception), traceback=str(info.traceback))

    def _facts(self, request: Request, error: BaseException, trace: str) -> Failure:
        context = request._context  # noqa: SLF001
        made = facts.failure(
            request.task,
            context,
            error,
            self._wishes(request.task) or TaskOptions(),
            now=self._live().clock(),
            terms=self._terms,
            header=read_header(context),
            trace=trace,
        )
        return replace(made, key=uuid4().hex, died=True, expected=False)


def _guarded(base: type[Request], parent: Parent) -> type[Request]:
    class GuardedRequest(base):
        """A request whose task is parked if it dies outside its own code."""

        regrow_parked = False

        def on_failure(self, exc_info: Any, *args: Any, return_ok: bool = False, **kwargs: Any) -> Any:
            """The task has failed or died."""
            if self.regrow_parked:
                return None
            if parent.parks(self, exc_info, by_child=return_ok):
                self.regrow_parked = True
                return None
            with parent.net.deaf():
                return super().on_failure(exc_info, *args, return_ok=return_ok, **kwargs)

        def on_timeout(self, soft: Any, timeout: float) -> Any:
            """The task has run for too long; at the hard limit `on_failure` came before."""
            if not soft and self.regrow_parked:
                return None
            with parent.net.deaf():
                return super().on_timeout(soft, timeout)

    return GuardedRequest


def _is_celerys(request: Request, error: BaseException) -> bool:
    """True if Celery has ended the task by order, goes on with it by itself, or knows that it was done."""
    if isinstance(error, (Terminated, Ignore, Retry, MemoryError)) or worker_state.should_terminate:
        return True
    if isinstance(error, (SystemExit, KeyboardInterrupt)):
        return bool(request._already_cancelled or request._already_revoked)  # noqa: SLF001  # Celery asks the same
    if not isinstance(error, WorkerLostError):
        return False
    task = request.task
    # New in Celery 5.7, as the next one.
    if getattr(task, "retry_on_worker_lost", None) and (
        task.max_retries is None or request._context.retries < task.max_retries  # noqa: SLF001
    ):
        return True
    return hasattr(request, "_success_was_stored") and bool(request._success_was_stored())  # noqa: SLF001


def _is_requeued(task: Task, error: BaseException) -> bool:
    """True if Celery gives the message back to the broker, to be delivered again at once."""
    if not task.acks_late:
        return False
    if isinstance(error, TimeLimitExceeded):
        return not task.acks_on_timeout
    return isinstance(error, WorkerLostError) and bool(task.reject_on_worker_lost)
