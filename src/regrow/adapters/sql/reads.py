"""The ledger for readers: what the CLI, reports and pages show. Nothing here writes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, and_, func, or_, select

from regrow.adapters.sql.draining import DrainReads
from regrow.adapters.sql.lessons import LessonReads
from regrow.adapters.sql.tables import (
    TASK_ID_LIMIT,
    alert,
    attempt,
    envelope,
    failure,
    folded,
    member,
    note,
    notice,
    outbox,
)
from regrow.model import Alert, AttemptRecord, Balance, Deed, Member, Note, Notice, Record, State

#: A longer number is no id: it would not fit a 64-bit column.
ID_DIGITS = 18

#: A failure with the text of its last attempt.
_KEPT = select(envelope.c.failure_id).where(envelope.c.failure_id == failure.c.id).exists()
_LATEST = select(failure, attempt.c.exception_type, attempt.c.message, _KEPT.label("kept")).outerjoin(
    attempt, and_(attempt.c.failure_id == failure.c.id, attempt.c.number == failure.c.attempts)
)

#: States from which a failure may run again without anybody sending it anew.
_WAITING = (State.NEW, State.SCHEDULED, State.DISPATCHED, State.HELD)

#: Ids asked for in one statement.
_CHUNK = 500

_Id = TypeVar("_Id", int, str)


class SqlLedger(DrainReads, LessonReads):
    """The ledger to read from (`ports.Ledger`).

    Args:
        database: Where it lies.
    """

    def balance(self, now: datetime) -> Balance:
        """The ledger equation.

        `captured` counts the tasks that have a recorded run, which is written beside the state and never changes: so a
        state that is lost, doubled or unknown shows.
        """
        with self._database.read() as connection:
            counts = connection.execute(select(failure.c.state, func.count()).group_by(failure.c.state))
            by_state = dict.fromkeys(State, 0) | {State(state): count for state, count in counts}
            captured = select(func.count(func.distinct(attempt.c.failure_id)))
            overdue = select(func.count(), func.min(failure.c.due_at)).where(failure.c.due_at <= now)
            parked = select(func.count()).where(failure.c.parked)
            undelivered = select(func.count()).where(outbox.c.delivered_at.is_(None))
            late, late_since = connection.execute(overdue).one()
            return Balance(
                captured=connection.execute(captured).scalar_one(),
                by_state=by_state,
                overdue=late,
                overdue_since=late_since,
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
            return full_records(connection, [rows[0].id])[0] if rows else None

    def known(self, task_ids: Sequence[str]) -> set[str]:
        """Those of these task ids that the ledger knows."""
        kept = {folded(one, TASK_ID_LIMIT): one for one in task_ids}
        with self._database.read() as connection:
            found = [
                connection.execute(select(failure.c.task_id).where(failure.c.task_id.in_(chunk))).scalars().all()
                for chunk in _chunks(list(kept))
            ]
        return {kept[one] for chunk in found for one in chunk}

    def unreported(self, *, limit: int) -> list[Record]:
        """Failures with runs that are in no report yet, oldest first."""
        ids = select(attempt.c.failure_id).where(attempt.c.reported_at.is_(None)).distinct()
        with self._database.read() as connection:
            found = connection.execute(ids.order_by(attempt.c.failure_id).limit(limit)).scalars().all()
            return full_records(connection, found)

    def undelivered(self, *, limit: int) -> list[str]:
        """Why messages could not be delivered so far."""
        query = select(outbox.c.key, outbox.c.last_error).where(
            outbox.c.delivered_at.is_(None), outbox.c.last_error != ""
        )
        with self._database.read() as connection:
            return [f"{row.key}: {row.last_error}" for row in connection.execute(query.limit(limit))]

    def alerts(self, *, closed: bool = False, limit: int = 100) -> list[Alert]:
        """The open alerts, or the closed ones; newest first."""
        over = alert.c.closed_at.isnot(None) if closed else alert.c.closed_at.is_(None)
        with self._database.read() as connection:
            rows = connection.execute(select(alert).where(over).order_by(alert.c.id.desc()).limit(limit))
            return [_alert(row) for row in rows]

    def members(self) -> list[Member]:
        """Everybody who has given a sign of life and not said good-bye; the latest first."""
        with self._database.read() as connection:
            rows = connection.execute(select(member).order_by(member.c.seen_at.desc())).all()
        return [_member(row) for row in rows]

    def waiting(self) -> dict[str, int]:
        """How many failures wait to run again, by the routing key of their queue."""
        mine = and_(failure.c.state.in_(_WAITING), or_(failure.c.state != State.HELD, failure.c.parked))
        query = select(failure.c.queue, func.count()).where(mine, failure.c.queue != "").group_by(failure.c.queue)
        with self._database.read() as connection:
            return {row[0]: int(row[1]) for row in connection.execute(query.order_by(failure.c.queue))}

    def inbox(self, user_id: str, *, unread: bool = False, limit: int = 100) -> list[Notice]:
        """A user's messages, newest first."""
        query = select(notice).where(notice.c.user_id == user_id)
        if unread:
            query = query.where(notice.c.read_at.is_(None))
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(notice.c.id.desc()).limit(limit))
            return [_notice(row) for row in rows]


def full_records(connection: Connection, ids: Sequence[int]) -> list[Record]:
    """Failures with their history, in the order of `ids`."""
    records: dict[int, Record] = {}
    for chunk in _chunks(ids):
        runs: dict[int, list[AttemptRecord]] = {}
        notes: dict[int, list[Note]] = {}
        query = select(attempt).where(attempt.c.failure_id.in_(chunk)).order_by(attempt.c.number)
        for row in connection.execute(query):
            runs.setdefault(row.failure_id, []).append(_attempt(row))
        for row in connection.execute(select(note).where(note.c.failure_id.in_(chunk)).order_by(note.c.id)):
            notes.setdefault(row.failure_id, []).append(Note(row.at, Deed(row.deed), row.by, row.detail))
        for row in connection.execute(_LATEST.where(failure.c.id.in_(chunk))):
            records[row.id] = _record(row, tuple(runs.get(row.id, ())), tuple(notes.get(row.id, ())))
    return [records[one] for one in ids if one in records]


def _chunks(ids: Sequence[_Id]) -> list[Sequence[_Id]]:
    return [ids[start : start + _CHUNK] for start in range(0, len(ids), _CHUNK)]


def _record(row: Row[Any], history: tuple[AttemptRecord, ...] = (), notes: tuple[Note, ...] = ()) -> Record:
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
        notes=notes,
        revision=row.revision,
        kept=bool(row.kept),
        manual=row.manual,
        confirmed=row.confirmed,
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
        told=row.told,
        trouble=row.trouble,
        decided_at=row.decided_at,
    )


def _member(row: Row[Any]) -> Member:
    values = {name: getattr(row, name) for name in Member.__slots__}
    return Member(**values | {"queues": tuple(json.loads(row.queues))})


def _alert(row: Row[Any]) -> Alert:
    return Alert(
        id=row.id,
        group=row.about,
        category=row.category,
        priority=row.priority,
        title=row.title,
        body=row.body,
        count=row._mapping["count"],  # noqa: SLF001  # the row's own method has that name
        opened_at=row.opened_at,
        last_at=row.last_at,
        closed_at=row.closed_at,
        closed_by=row.closed_by,
    )


def _notice(row: Row[Any]) -> Notice:
    return Notice(
        id=row.id,
        user_id=row.user_id,
        title=row.title,
        body=row.body,
        task_id=row.task_id,
        created_at=row.created_at,
        read_at=row.read_at,
    )
