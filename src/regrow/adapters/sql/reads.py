"""The ledger for readers: what the CLI, reports and pages show. Nothing here writes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, and_, func, or_, select

from regrow.adapters.sql.engine import Database
from regrow.adapters.sql.tables import attempt, failure, outbox
from regrow.model import AttemptRecord, Balance, Record, State

#: A longer number is no id: it would not fit a 64-bit column.
ID_DIGITS = 18

#: A failure with the text of its last attempt.
_LATEST = select(failure, attempt.c.exception_type, attempt.c.message).outerjoin(
    attempt, and_(attempt.c.failure_id == failure.c.id, attempt.c.number == failure.c.attempts)
)


class SqlLedger:
    """The ledger to read from (`ports.Ledger`).

    Args:
        database: Where it lies.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def balance(self, now: datetime) -> Balance:
        """The ledger equation.

        `captured` counts the tasks that have a recorded run, which is written beside the state and never changes: so a
        state that is lost, doubled or unknown shows.
        """
        with self._database.read() as connection:
            counts = connection.execute(select(failure.c.state, func.count()).group_by(failure.c.state))
            by_state = dict.fromkeys(State, 0) | {State(state): count for state, count in counts}
            captured = select(func.count(func.distinct(attempt.c.failure_id)))
            overdue = select(func.count()).where(failure.c.due_at <= now)
            parked = select(func.count()).where(failure.c.parked)
            undelivered = select(func.count()).where(outbox.c.delivered_at.is_(None))
            return Balance(
                captured=connection.execute(captured).scalar_one(),
                by_state=by_state,
                overdue=connection.execute(overdue).scalar_one(),
                parked=connection.execute(parked).scalar_one(),
                undelivered=connection.execute(undelivered).scalar_one(),
            )

    def failures(
        self,
        *,
        states: Sequence[State] = (),
        category: str = "",
        task_name: str = "",
        before: int | None = None,
        limit: int = 50,
    ) -> list[Record]:
        """Failures, newest first."""
        query = _LATEST.order_by(failure.c.id.desc()).limit(limit)
        if states:
            query = query.where(failure.c.state.in_(states))
        if category:
            query = query.where(failure.c.category == category)
        if task_name:
            query = query.where(failure.c.task_name == task_name)
        if before is not None:
            query = query.where(failure.c.id < before)
        with self._database.read() as connection:
            return [_record(row) for row in connection.execute(query)]

    def find(self, which: str) -> Record | None:
        """One failure with its history, by id or task id."""
        # A task id may consist of digits too, so both are looked up; the ledger's own id goes first.
        number = int(which) if which.isascii() and which.isdigit() and len(which) <= ID_DIGITS else -1
        query = _LATEST.where(or_(failure.c.id == number, failure.c.task_id == which))
        with self._database.read() as connection:
            rows = sorted(connection.execute(query), key=lambda row: row.id != number)
            if not rows:
                return None
            runs = connection.execute(
                select(attempt).where(attempt.c.failure_id == rows[0].id).order_by(attempt.c.number)
            )
            return _record(rows[0], tuple(_attempt(run) for run in runs))


def _record(row: Row[Any], history: tuple[AttemptRecord, ...] = ()) -> Record:
    return Record(
        id=row.id,
        task_id=row.task_id,
        task_name=row.task_name,
        state=State(row.state),
        category=row.category,
        reason=row.reason,
        fingerprint=row.fingerprint,
        attempts=row.attempts,
        parked=row.parked,
        due_at=row.due_at,
        queue=row.queue,
        user_id=row.user_id,
        first_failed_at=row.first_failed_at,
        last_failed_at=row.last_failed_at,
        ended_at=row.ended_at,
        message=": ".join(filter(None, (row.exception_type, row.message))),
        history=history,
    )


def _attempt(row: Row[Any]) -> AttemptRecord:
    return AttemptRecord(
        number=row.number,
        failed_at=row.failed_at,
        exception_type=row.exception_type,
        message=row.message,
        traceback=row.traceback,
        worker=row.worker,
        category=row.category,
        confidence=row.confidence,
        rule=row.rule,
        verdict=row.verdict,
        action=row.action,
        reason=row.reason,
        retry_at=row.retry_at,
    )
