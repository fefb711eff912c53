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
from contextlib import nullcontext, suppress
from dataclasses import replace
from enum import Enum, auto
from queue import Full
from typing import Any
from uuid import uuid4

from billiard.einfo import ExceptionInfo
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


class Taken(Enum):
    """What has become of a death."""

    PARKED = auto()  # Celery keeps the task open
    RECORDED = auto()  # Celery is to end it as it always does, and all that it tells of it is known
    LEFT = auto()  # Celery's business; what it tells of it is news


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

    def takes(self, request: Request, info: Any, *, by_child: bool) -> Taken:
        """A task has failed or died: park it or record it, unless somebody else does.

        Args:
            request: Its request.
            info: Celery's ExceptionInfo.
            by_child: True if the task's own process has reported it, and so recorded it.
        """
        try:
            error = getattr(info.exception, "exc", info.exception)
            if isinstance(error, Reject) and not error.requeue:
                self.net.rejected(request.task, request._context, error, str(info))  # noqa: SLF001
                return Taken.RECORDED
            if by_child:
                return Taken.RECORDED
            if _goes_on(request, error):
                return Taken.LEFT
            taken = Taken.LEFT
            if not _is_over(request, error):
                exit_order = isinstance(error, (SystemExit, KeyboardInterrupt))
                taken = self._died(request, info, facts.cut_off(error) if exit_order else error)
            self._finish(request)
            return taken
        except Exception:
            log.exception("regrow could not record the death of task %s[%s]", request.name, request.id)
            return Taken.LEFT

    def _finish(self, request: Request) -> None:
        """The start ledger, if it knew of the run, need no longer look for it."""
        task_id, boot = str(request.id), self._boot
        with suppress(Full):  # it then finds a run that is recorded
            self._caretaker.tell(lambda regrow: regrow.store.finish(task_id, boot))

    def _died(self, request: Request, info: Any, error: BaseException) -> Taken:
        header = read_header(request._context)  # noqa: SLF001
        if header is not None and header.close:  # our order to fail: Celery fails it now
            return Taken.RECORDED
        failure = self._facts(request, error, str(info))
        unparked = replace(failure, parkable=False, ended=True)
        if not self._live().would_park(failure):
            self._caretaker.keep(unparked)
        elif self._caretaker.keep(replace(failure, parked=True), or_else=unparked):
            try:
                self._park(request, info, failure)
            except Exception:  # Celery's own hooks and events; the task is held all the same
                log.exception("regrow could not tell Celery all about parked task %s[%s]", request.name, request.id)
            return Taken.PARKED
        return Taken.RECORDED

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

        regrow_taken: Taken | None = None

        def on_failure(self, exc_info: Any, *args: Any, return_ok: bool = False, **kwargs: Any) -> Any:
            """The task has failed or died."""
            if self.regrow_taken is Taken.PARKED:
                return None
            self.regrow_taken = parent.takes(self, exc_info, by_child=return_ok)
            if self.regrow_taken is Taken.PARKED:
                return None
            with parent.net.deaf() if self.regrow_taken is Taken.RECORDED else nullcontext():
                return super().on_failure(exc_info, *args, return_ok=return_ok, **kwargs)

        def on_timeout(self, soft: Any, timeout: float) -> Any:
            """The task has run for too long. At the hard limit billiard calls `on_failure` first, gevent does not."""
            if not soft and self.regrow_taken is None:
                self.regrow_taken = parent.takes(self, _einfo(TimeLimitExceeded(timeout)), by_child=False)
            if not soft and self.regrow_taken is Taken.PARKED:
                return None
            with parent.net.deaf() if self.regrow_taken is Taken.RECORDED else nullcontext():
                return super().on_timeout(soft, timeout)

    return GuardedRequest


def _einfo(error: Exception) -> ExceptionInfo:
    try:
        raise error
    except type(error):
        return ExceptionInfo()


def _goes_on(request: Request, error: BaseException) -> bool:
    """True if Celery itself keeps the task going, or the worker is told to stop at once."""
    if isinstance(error, (Ignore, Retry, Reject, MemoryError)) or worker_state.should_terminate:
        return True
    task = request.task
    # Given back to the broker, to be delivered again at once; the door counts how often. But not a retry of ours.
    late = task.acks_late and read_header(request._context) is None  # noqa: SLF001
    if isinstance(error, TimeLimitExceeded):
        return bool(late and delivers_again_on_timeout(task))
    if not isinstance(error, WorkerLostError):
        return False
    # New in Celery 5.7. Where Celery gives that up it does not give the message back either.
    if getattr(task, "retry_on_worker_lost", None):
        return task.max_retries is None or bool(request._context.retries < task.max_retries)  # noqa: SLF001
    return bool(late and task.reject_on_worker_lost)


def _is_over(request: Request, error: BaseException) -> bool:
    """True if Celery has ended the task by order, or knows that it was done."""
    if isinstance(error, Terminated):
        return True
    if isinstance(error, (SystemExit, KeyboardInterrupt)):
        return bool(request._already_cancelled or request._already_revoked)  # noqa: SLF001  # Celery asks the same
    stored = getattr(request, "_success_was_stored", None)  # new in Celery 5.7
    return isinstance(error, WorkerLostError) and stored is not None and bool(stored())


def delivers_again_on_timeout(task: Task) -> bool:
    """True if Celery gives a message back to the broker when its task has run into the hard limit."""
    # Before Celery 5.7 there was one setting for both.
    return not getattr(task, "acks_on_timeout", getattr(task, "acks_on_failure_or_timeout", True))
