"""What is counted in the ledger over a window of time."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, func, literal, or_, select

from regrow.adapters.sql.engine import Database
from regrow.adapters.sql.tables import Instant, attempt, failure, outbox, run
from regrow.model import UNKNOWN, Audience, Breakdown, Figures, State


class Counting:
    """The part of the ledger to read from (`ports.Ledger`) that counts.

    Args:
        database: Where it lies.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def figures(self, since: datetime, now: datetime) -> Figures:
        """What happened since then."""
        with self._database.read() as connection:
            runs, failed_runs = self._runs(connection, since)
            handling, confidence = self._attempts(connection, since)
            return Figures(
                since=since,
                until=now,
                confirmed=_count(connection, failure.c.confirmed != "", failure.c.last_failed_at >= since),
                confirmed_right=_count(
                    connection, failure.c.confirmed == failure.c.category, failure.c.last_failed_at >= since
                ),
                failed=_count(connection, failure.c.first_failed_at >= since, failure.c.last_failed_at >= since),
                unknown=_count(connection, failure.c.category == UNKNOWN.key, failure.c.last_failed_at >= since),
                recovered=_ended(connection, State.RECOVERED, since),
                exhausted=_ended(connection, State.EXHAUSTED, since),
                streak=self._streak(connection, since),
                telling_seconds=self._telling(connection, since, now),
                runs=runs,
                failed_runs=failed_runs,
                handling_seconds=handling,
                confidence=confidence,
            )

    def _streak(self, connection: Connection, since: datetime) -> int:
        healed = select(func.max(failure.c.ended_at)).where(
            failure.c.state == State.RECOVERED, failure.c.ended_at >= since
        )
        return _ended(connection, State.EXHAUSTED, connection.execute(healed).scalar_one() or since)

    def _runs(self, connection: Connection, since: datetime) -> tuple[int, int]:
        sums = select(func.coalesce(func.sum(run.c.runs), 0), func.coalesce(func.sum(run.c.failed), 0))
        runs, failed = connection.execute(sums.where(run.c.minute >= since)).one()
        return int(runs), int(failed)

    def _attempts(self, connection: Connection, since: datetime) -> tuple[float | None, float | None]:
        spent = self._seconds(attempt.c.failed_at, attempt.c.decided_at)
        query = (
            select(func.max(spent), func.avg(attempt.c.confidence))
            .join(failure, failure.c.id == attempt.c.failure_id)
            .where(failure.c.last_failed_at >= since, attempt.c.failed_at >= since)
        )
        handling, confidence = connection.execute(query).one()
        return _number(handling), _number(confidence)

    def _telling(self, connection: Connection, since: datetime, now: datetime) -> float | None:
        waited = self._seconds(outbox.c.created_at, func.coalesce(outbox.c.delivered_at, literal(now, Instant)))
        waits = and_(outbox.c.delivered_at.is_(None), outbox.c.due_at.isnot(None))
        query = select(func.max(waited)).where(
            outbox.c.audience != Audience.MACHINE, or_(outbox.c.created_at >= since, waits)
        )
        return _number(connection.execute(query).scalar_one())

    def _seconds(self, begin: Any, end: Any) -> ColumnElement[float]:
        """The seconds between two instants; none if the clock went back."""
        seconds: Any = self._database.kind.seconds(begin, end)
        return case((seconds > 0, seconds), else_=0.0)

    def breakdown(self, since: datetime, now: datetime) -> Breakdown:
        """The failures since then by kind."""
        before = since - (now - since)
        with self._database.read() as connection:
            return Breakdown(
                since=since,
                until=now,
                by_category=_groups(connection, failure.c.category, since),
                by_task=_groups(connection, failure.c.task_name, since),
                previous=_count(connection, failure.c.last_failed_at >= before, failure.c.last_failed_at < since),
            )


def _count(connection: Connection, *conditions: ColumnElement[bool]) -> int:
    return int(connection.execute(select(func.count()).select_from(failure).where(*conditions)).scalar_one())


def _ended(connection: Connection, state: State, since: datetime) -> int:
    return _count(connection, failure.c.state == state, failure.c.ended_at >= since)


def _groups(connection: Connection, column: ColumnElement[str], since: datetime) -> dict[str, int]:
    number = func.count()
    query = select(column, number).where(failure.c.last_failed_at >= since).group_by(column)
    return {str(name): int(count) for name, count in connection.execute(query.order_by(number.desc(), column))}


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
