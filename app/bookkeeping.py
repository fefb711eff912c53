"""Keeps a row in the table of tasks for each task that is sent: made when it is sent, followed while it runs.

Only Celery's signals are used, so the tasks themselves know nothing of it. A database that is away costs rows, never a
task. What Regrow does with a failed task is not seen here but comes through `app.mirror`.

A row whose worker has died ends in no signal. The next worker of that name finds it and says that it failed; from then
on the scan takes care of it (G9). So a worker must keep its name, and no two may share one.
"""

from __future__ import annotations

import functools
import inspect
import json
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from billiard.exceptions import WorkerLostError
from celery import Celery, signals, states
from celery import Task as CeleryTask
from celery.app.task import Context
from celery.exceptions import TaskRevokedError
from kombu.utils.json import dumps
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError

from app.db import Session
from app.models import FAILED, PENDING, RETRYING, RUNNING, SUCCEEDED, Task
from regrow import capture
from regrow.model import type_of

log = logging.getLogger(__name__)

#: Tasks that run the application itself get no rows.
_MAINTENANCE = ("celery.", "app.tasks.failure_tasks.")


class NeverBegunError(Exception):
    """The worker was lost before it began the task: unlike with WorkerLostError, no work can have been done."""


def connect(celery_app: Celery) -> None:
    """Keep rows for the tasks of this application. Call it once, where the application is made."""
    rows = _Rows(celery_app)
    for signal, receiver in (
        (signals.before_task_publish, rows.sent),
        (signals.task_received, rows.received),
        (signals.task_prerun, rows.begun),
        (signals.task_retry, rows.retried),
        (signals.task_success, rows.succeeded),
        (signals.task_failure, rows.failed),
        (signals.task_revoked, rows.revoked),
        (signals.task_postrun, rows.over),
        (signals.worker_ready, rows.worker_ready),
        (signals.worker_shutdown, rows.worker_shutdown),
    ):
        signal.connect(_harmless(receiver), weak=False, dispatch_uid=f"rows-{receiver.__name__}-{id(celery_app)}")


def is_recorded(task: CeleryTask) -> bool:
    """True if rows are kept for this task."""
    return not task.name.startswith(_MAINTENANCE) and getattr(task, "regrow", None) is not False


def error_name(kind: type[BaseException]) -> str:
    """An exception's class as `Task.error_type` names it."""
    return f"{kind.__module__}.{kind.__qualname__}"


def _harmless(receiver: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(receiver)
    def safe(*args: Any, **kwargs: Any) -> None:
        try:
            receiver(*args, **kwargs)
        except Exception:
            log.exception("bookkeeping: %s failed; the task goes on", receiver.__name__)

    return safe


class _Rows:
    """Receives Celery's signals.

    A success is the last word: a run that was taken for dead and ends late does not take it back.

    Args:
        app: The Celery application.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app

    # -- a message --------------------------------------------------------------------------------------------------

    def sent(
        self,
        sender: str,
        body: Any,
        headers: Mapping[str, Any],
        properties: Mapping[str, Any],
        exchange: str | None,
        routing_key: str | None,
        **_: Any,
    ) -> None:
        """A message is about to be sent. Before, not after: a worker may be quicker than we are."""
        task = self._named(sender)
        if task is None or not is_recorded(task) or "regrow" in headers:
            return
        args, kwargs, embed = body
        params = _json({"args": args, "kwargs": kwargs})
        delivery = {"exchange": exchange, "routing_key": routing_key, "priority": properties.get("priority")}
        request = Context({**headers, **embed, "reply_to": properties.get("reply_to"), "delivery_info": delivery})
        user = headers.get("user_id") or _argument(task, args, kwargs, "user_id")
        row = Task(
            task_type=type_of(sender),
            params=None if params is None else json.loads(params),
            call=params and _json(task.signature_from_request(request, args, kwargs, countdown=0, retries=0)),
            celery_task_id=headers["id"],
            user_id=None if user is None else str(user),
        )
        # Its id is known: a native retry, a task that replaces itself, or somebody who sends it again.
        with suppress(IntegrityError), Session.begin() as session:
            session.add(row)

    def received(self, sender: Any, request: Any, **_: Any) -> None:
        """A worker has taken a message from the broker, and may lose it before it begins."""
        if self._ours(request.task):
            _write(Task.celery_task_id == request.id, Task.status == PENDING, worker=sender.hostname)

    # -- a run ------------------------------------------------------------------------------------------------------

    def begun(self, sender: CeleryTask, task_id: str, **_: Any) -> None:
        """A worker begins a task, or a stale copy of it that the door will drop: see `over`."""
        if not self._ours(sender):
            return
        with Session.begin() as session:
            before = session.execute(
                select(Task.status, Task.worker).where(Task.celery_task_id == task_id)
            ).one_or_none()
        if before is None or before.status == SUCCEEDED:
            return
        if _write(
            Task.celery_task_id == task_id,
            Task.status == before.status,  # whoever writes at this very moment knows more
            Task.worker.is_not_distinct_from(before.worker),
            status=RUNNING,
            worker=sender.request.hostname,
        ):
            sender.request.row_before = before

    def over(self, sender: CeleryTask, task_id: str, state: str, **_: Any) -> None:
        """A run is over. One that was dropped has never been: the row says again what it said before."""
        before = getattr(sender.request, "row_before", None)
        if before is not None and state in (states.IGNORED, states.REJECTED):
            mine = Task.worker.is_not_distinct_from(sender.request.hostname)
            _write(
                Task.celery_task_id == task_id, Task.status == RUNNING, mine, status=before.status, worker=before.worker
            )

    def retried(self, sender: CeleryTask, request: Any, reason: Any, **_: Any) -> None:
        """A run failed, and another one will follow: Celery's own retry, or a task parked by Regrow."""
        if self._ours(sender):
            self._failed(request.id, RETRYING, getattr(reason, "exc", None) or reason)

    def succeeded(self, sender: CeleryTask, **_: Any) -> None:
        """A run succeeded."""
        if self._ours(sender):
            _write(Task.celery_task_id == sender.request.id, status=SUCCEEDED)

    def failed(self, sender: CeleryTask, task_id: str, exception: BaseException, **_: Any) -> None:
        """A run failed for good."""
        if self._ours(sender):
            self._failed(task_id, FAILED, exception)

    def revoked(self, sender: CeleryTask, request: Any, *, expired: bool = False, **_: Any) -> None:
        """A person has revoked a task, or it has expired."""
        if self._ours(sender):
            self._failed(request.id, FAILED, TaskRevokedError("expired" if expired else "revoked"))

    def _failed(self, task_id: str, status: str, error: BaseException) -> None:
        cause = capture.causes_from_exception(error)[0]  # whatever the exception does, it is text now
        _write(
            Task.celery_task_id == task_id,
            Task.status != SUCCEEDED,
            status=status,
            error_type=cause.type,
            error_message=cause.message,
            failed_at=datetime.now(UTC),
        )

    # -- a worker ---------------------------------------------------------------------------------------------------

    def worker_ready(self, sender: Any, **_: Any) -> None:
        """A worker has started: what the former one of its name has left behind is lost.

        A row that the ledger holds is left alone: it sees the silence itself.
        """
        if sender.app is not self._app:
            return
        name = sender.hostname
        for status, kind, text in (
            (RUNNING, WorkerLostError, f"Worker exited prematurely: {name} ended while it ran this task."),
            (PENDING, NeverBegunError, f"Worker {name} was lost before it began this task."),
        ):
            lost = _write(
                Task.worker == name,
                Task.status == status,
                Task.recovery_revision == 0,
                status=FAILED,
                error_type=error_name(kind),
                error_message=text,
                failed_at=datetime.now(UTC),
            )
            if lost:
                log.warning("bookkeeping: %d tasks that were %s were lost with the former %s", lost, status, name)

    def worker_shutdown(self, sender: Any, **_: Any) -> None:
        """A worker stops in order: what it had taken and not begun goes back to the broker."""
        if sender.app is self._app:
            _write(Task.worker == sender.hostname, Task.status == PENDING, worker=None)

    # -- which tasks ------------------------------------------------------------------------------------------------

    def _named(self, name: str) -> CeleryTask | None:
        """Our task of this name. Who sends by name alone (`celery call`) has not imported the tasks."""
        if name not in self._app.tasks:
            self._app.loader.import_default_modules()
        return self._app.tasks.get(name)

    def _ours(self, task: CeleryTask) -> bool:
        return task.app is self._app and is_recorded(task)


def _write(*where: Any, **values: Any) -> int:
    """Change the rows that are so; return how many."""
    with Session.begin() as session:
        return int(session.execute(update(Task).where(*where).values(**values)).rowcount)  # type: ignore[attr-defined]


def _argument(task: CeleryTask, args: Any, kwargs: Any, name: str) -> Any:
    """What a call gives for this argument, by position or by name; None if nothing."""
    try:
        return inspect.signature(task.run).bind_partial(*args, **kwargs).arguments.get(name)
    except (TypeError, ValueError):  # a call that does not fit the task, or a task without a signature
        return kwargs.get(name)


def _json(value: Any) -> str | None:
    """As Celery writes JSON; None if it cannot."""
    try:
        return str(dumps(value))
    except (TypeError, ValueError, RecursionError):
        return None
