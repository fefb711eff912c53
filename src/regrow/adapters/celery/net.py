"""The net under the doors: what Celery says, by signals and hooks, of tasks and messages that came to no door."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from threading import local
from typing import Any
from uuid import uuid4

from billiard.exceptions import TimeLimitExceeded
from celery import Celery, Task, signals
from celery._state import get_current_task
from celery.app.task import Context
from celery.exceptions import InvalidTaskError, NotRegistered, Reject, TaskRevokedError

from regrow.adapters.celery import facts, messages
from regrow.adapters.celery.caretaker import Caretaker
from regrow.adapters.celery.envelope import read_header
from regrow.model import Failure, Reason, TaskOptions
from regrow.ports import Clock

log = logging.getLogger("regrow")

Wishes = Callable[[Task], TaskOptions | None]


class Net:
    """Hears, in a worker's main process, what nobody else can record.

    Args:
        clock: Tells the time.
        wishes: What a task's owner said; None if Regrow is to leave the task alone.
        caretaker: Has the ledger take what is heard; the main loop must not wait for that.
        terms: What is kept of a failed run.
    """

    def __init__(self, clock: Clock, wishes: Wishes, caretaker: Caretaker, *, terms: facts.Terms) -> None:
        self._clock = clock
        self._wishes = wishes
        self._caretaker = caretaker
        self._terms = terms
        self._deaf = local()

    def spread(self) -> None:
        """Listen to Celery's signals."""
        for signal, receiver in (
            (signals.task_failure, self._task_failure),
            (signals.task_unknown, self._task_unknown),
            (signals.task_rejected, self._task_rejected),
            (signals.task_revoked, self._task_revoked),
        ):
            signal.connect(receiver, weak=False, dispatch_uid=f"regrow-net-{signal.name}-{id(self)}")

    def hook(self, consumer: Any) -> None:
        """Hear of messages that cannot be decoded: Celery has no signal for those, and throws them away."""
        inner = getattr(consumer, "on_decode_error", None)
        if inner is None or hasattr(inner, "regrow"):
            return

        def on_decode_error(message: Any, error: Exception) -> Any:
            self._never_run(message, error)
            return inner(message, error)

        on_decode_error.regrow = True  # type: ignore[attr-defined]
        consumer.on_decode_error = on_decode_error

    @contextmanager
    def deaf(self) -> Iterator[None]:
        """While Celery goes on with what a request of ours has recorded, its `task_failure` is no news."""
        before = getattr(self._deaf, "depth", 0)
        self._deaf.depth = before + 1
        try:
            yield
        finally:
            self._deaf.depth = before

    def rejected(self, task: Task, context: Context, error: BaseException, trace: str) -> None:
        """The task has rejected its message for good."""
        self._record(task, context, error, trace, final=Reason.REJECTED)

    # -- signals ----------------------------------------------------------------------------------------------------

    def _task_failure(
        self, sender: Any = None, task_id: str = "", exception: Any = None, einfo: Any = None, **kwargs: Any
    ) -> None:
        """A task was registered late, so its request is a plain one, and it has died or rejected its message."""
        # While a task runs, its door sees it.
        if getattr(self._deaf, "depth", 0) or get_current_task() is not None or sender is None:
            return
        whole = sender.request.id == task_id
        if not whole and isinstance(exception, TimeLimitExceeded):  # told twice, the second time with an empty request
            return
        given = {name: kwargs.get(name) for name in ("args", "kwargs")}
        context = sender.request if whole else Context(id=task_id, delivery_info={}, **given)
        if isinstance(exception, Reject):
            self.rejected(sender, context, exception, str(einfo))
        else:
            self._record(sender, context, exception, str(einfo), died=True)

    def _task_revoked(self, sender: Any = None, request: Any = None, expired: object = None, **_: Any) -> None:
        if expired and sender is not None:
            error = TaskRevokedError(f"expired at {request.expires}, before a worker took it")
            self._record(sender, request, error, final=Reason.EXPIRED)

    def _task_unknown(self, sender: Any = None, message: Any = None, name: str = "", **_: Any) -> None:
        self._never_run(message, NotRegistered(name), app=getattr(sender, "app", None))

    def _task_rejected(self, message: Any = None, exc: Exception | None = None, **_: Any) -> None:
        self._never_run(
            message, exc or InvalidTaskError("a message on the queue is no task: it names neither task nor id")
        )

    # -- to the ledger ----------------------------------------------------------------------------------------------

    def _record(
        self,
        task: Task,
        context: Context,
        error: BaseException,
        trace: str = "",
        *,
        died: bool = False,
        final: str = "",
    ) -> None:
        wishes = self._wishes(task)
        if wishes is not None:
            self._safely(
                lambda: replace(
                    facts.failure(
                        task,
                        context,
                        error,
                        wishes,
                        now=self._clock(),
                        terms=self._terms,
                        header=read_header(context),
                        trace=trace,
                    ),
                    key=uuid4().hex,
                    died=died,
                    final=final,
                    parkable=False,
                    ended=True,
                )
            )

    def _never_run(self, message: Any, error: Exception, app: Celery | None = None) -> None:
        self._safely(lambda: messages.failure(message, error, now=self._clock(), terms=self._terms, app=app))

    def _safely(self, make: Callable[[], Failure]) -> None:
        try:
            self._caretaker.keep(make())
        except Exception:  # whatever is wrong with a message, the worker goes on
            log.exception("regrow could not record a failure that Celery told of")
