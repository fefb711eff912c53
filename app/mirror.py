"""The table of tasks as Regrow sees it: what has failed there unseen, and what the ledger says about it (G9, G22).

The ledger is the truth; this is its mirror.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, tzinfo
from typing import Any

from celery import Celery
from celery import Task as CeleryTask
from celery.exceptions import TaskRevokedError
from kombu.utils.json import dumps
from sqlalchemy import case, func, or_, select, update

from app.bookkeeping import error_name
from app.db import Session
from app.models import FAILED, RETRYING, SUCCEEDED, Task
from regrow import capture, notify, wiring
from regrow.model import Failure, Record, State, TaskOptions, type_of


class TaskMirror:
    """Source and projection over the table of tasks (`ports.Source`, `ports.Projection`).

    Args:
        celery_app: The Celery application whose tasks stand in the table.
        language: Language of `recovery_notes`, `zh` or `en`.
        zone: Time zone of its readers; None is the machine's.
    """

    def __init__(self, celery_app: Celery, language: str = "zh", zone: tzinfo | None = None) -> None:
        self._app = celery_app
        self._words = wiring.words(language)
        self._zone = zone

    # -- source -----------------------------------------------------------------------------------------------------

    def failed(self, since: datetime) -> Iterator[Failure]:
        """Tasks that have failed since then, whoever wrote their rows; not those that a person revoked."""
        self._app.loader.import_default_modules()  # all tasks must be known by name
        last = func.coalesce(Task.failed_at, Task.created_at)
        revoked = error_name(TaskRevokedError)
        asked = select(Task).where(
            Task.status == FAILED, last >= since, or_(Task.error_type.is_(None), Task.error_type != revoked)
        )
        with Session() as session:
            rows = session.scalars(asked.order_by(Task.id)).all()
        return map(self._failure, rows)

    def user_of(self, failure: Failure) -> str:
        """The end user of a task, '' if its row names none."""
        with Session() as session:
            user = session.scalar(select(Task.user_id).where(Task.celery_task_id == failure.task_id))
        return user or ""

    def _failure(self, row: Task) -> Failure:
        name = self._name(row)
        call = row.call or self._call(row, name)
        options = json.loads(call)["options"] if call else {}
        expires = options.get("expires")
        causes = capture.causes_from_text(row.error_type or "", row.error_message or "", "")
        return Failure(
            task_id=row.celery_task_id,
            task_name=name or row.task_type,
            failed_at=row.failed_at or row.created_at,
            causes=causes,
            fingerprint=capture.fingerprint(causes, ""),
            worker=row.worker or "",
            queue=options.get("queue") or options.get("routing_key") or "",
            options=_wishes(self._app.tasks.get(name)),
            envelope=call,
            expires_at=datetime.fromisoformat(expires) if expires else None,
            user_id=row.user_id or "",
            scanned=True,
        )

    def _name(self, row: Task) -> str:
        """The task's full name; '' if none or several are of its type, for no other task may run in its place."""
        if row.call:
            return str(json.loads(row.call)["task"])
        names = [name for name in self._app.tasks if type_of(name) == row.task_type]
        return names[0] if len(names) == 1 else ""

    def _call(self, row: Task, name: str) -> str | None:
        """The call of a row that other code wrote, as Celery would send it."""
        if not name or row.params is None:
            return None
        headers = {"user_id": row.user_id} if row.user_id else None
        signature = self._app.signature(
            name,
            args=row.params.get("args") or [],
            kwargs=row.params.get("kwargs") or {},
            options={"task_id": row.celery_task_id, "headers": headers},
        )
        return str(dumps(signature))

    # -- projection -------------------------------------------------------------------------------------------------

    def project(self, record: Record) -> None:
        """Write what has become of a failure; what is older than the row is left out."""
        values: dict[str, Any] = {
            "status": _status(record),
            "recovery_attempts": record.retries,
            "recovery_notes": notify.story(record, self._words, zone=self._zone),
            "recovery_revision": record.revision,
        }
        if record.history:
            last = record.history[-1]
            values |= {"error_type": last.exception_type, "error_message": last.message, "failed_at": last.failed_at}
        row = update(Task).where(Task.celery_task_id == record.task_id, Task.recovery_revision < record.revision)
        with Session.begin() as session:
            session.execute(row.values(values))

    def ids(self, task_ids: Sequence[str]) -> Mapping[str, int]:
        """The ids by which people know these tasks."""
        asked = select(Task.celery_task_id, Task.id).where(Task.celery_task_id.in_(task_ids))
        with Session() as session:
            return {celery: number for celery, number in session.execute(asked)}  # noqa: C416


def _status(record: Record) -> Any:
    """What the row's status becomes."""
    if record.state is State.RECOVERED:
        return SUCCEEDED
    if record.state in (State.SCHEDULED, State.DISPATCHED) or (record.state is State.HELD and record.parked):
        # The retry may have succeeded since: Celery's signal was quicker than this record.
        return case((Task.status == SUCCEEDED, SUCCEEDED), else_=RETRYING)
    return FAILED


def _wishes(task: CeleryTask | None) -> TaskOptions:
    """What the task's owner declared in `@app.task(regrow=...)`."""
    declared = getattr(task, "regrow", None)
    return TaskOptions(**declared) if isinstance(declared, Mapping) else TaskOptions(retry=declared is not False)
