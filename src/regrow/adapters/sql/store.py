"""The ledger on SQLAlchemy Core: set-based statements, one transaction each, the same for SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Update,
    and_,
    bindparam,
    case,
    delete,
    insert,
    literal,
    not_,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from regrow.adapters.sql import coding
from regrow.adapters.sql.engine import Database
from regrow.adapters.sql.tables import TASK_ID_LIMIT, Instant, attempt, envelope, failure, folded, outbox
from regrow.model import (
    Due,
    DueMessage,
    Failure,
    Handled,
    Header,
    History,
    Message,
    Reason,
    State,
)

#: A worker has begun what was sent under the row's token.
_BEGUN = failure.c.started_retries > coding.STARTED_BEFORE

_ENDED = (State.HANDED_OVER, State.EXHAUSTED, State.DISMISSED)


class SqlTransaction:
    """One transaction on the ledger (`ports.LedgerTransaction`)."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def histories(self, failures: Sequence[Failure]) -> list[History]:
        """What the ledger knows of each failure's task."""
        known = self._known(failures, lock=True)
        return [known.get(_key(one), History()) for one in failures]

    def write(self, handled: Sequence[Handled]) -> list[Handled]:
        """Keep failures, attempts, decisions and messages."""
        ids = self._insert_new([one for one in handled if one.history.failure is None])
        kept: list[Handled] = []
        late: list[int] = []
        taken: set[int] = set()
        for index, one in enumerate(handled):
            known = one.history.failure or ids.pop(_key(one.failure), None)
            # A second failure of one task in a batch, or of a task that another process just recorded, is not new.
            second = known is None or known in taken
            if second and not one.duplicate:
                late.append(index)
            elif known is not None and not one.duplicate:
                taken.add(known)
            kept.append(replace(one, id=known, duplicate=one.duplicate or second))
        fresh = [one for one in kept if not one.duplicate]
        self._advance([one for one in fresh if one.history.failure is not None])
        self._insert_rows(fresh)
        known_now = self._known([kept[index].failure for index in late])
        for index in late:
            history = known_now.get(_key(kept[index].failure), History())
            kept[index] = replace(kept[index], history=history, id=history.failure, messages=())
        return kept

    def _known(self, failures: Sequence[Failure], *, lock: bool = False) -> dict[str, History]:
        if not failures:
            return {}
        query = select(failure).where(failure.c.task_id.in_({one.task_id for one in failures}))
        if lock:  # always in one order, or two batches could wait for each other for ever
            query = query.order_by(failure.c.id).with_for_update()
        return {row.task_id: _history(row) for row in self._connection.execute(query)}

    def _insert_new(self, handled: Sequence[Handled]) -> dict[str, int]:
        if not handled:
            return {}
        dialect = sqlite if self._connection.dialect.name == "sqlite" else postgresql
        statement = (
            dialect.insert(failure)
            .on_conflict_do_nothing(index_elements=["task_id"])
            .returning(failure.c.id, failure.c.task_id)
        )
        # In one order, as locks are taken: see _known.
        ordered = sorted(handled, key=lambda one: _key(one.failure))
        rows = self._connection.execute(statement, [coding.failure_row(one) for one in ordered])
        return {row.task_id: row.id for row in rows}

    def _advance(self, handled: Sequence[Handled]) -> None:
        if not handled:
            return
        columns = coding.advanced_row(handled[0]).keys() - {"failure_id"}
        self._connection.execute(
            update(failure)
            .where(failure.c.id == bindparam("failure_id"))
            .values({column: bindparam(column) for column in columns}),
            [coding.advanced_row(one) for one in handled],
        )

    def _insert_rows(self, handled: Sequence[Handled]) -> None:
        if not handled:
            return
        self._connection.execute(insert(attempt), [coding.attempt_row(one) for one in handled])
        kept = [coding.envelope_row(one) for one in handled if one.failure.envelope is not None]
        if kept:
            replaced = [row["failure_id"] for row in kept]
            self._connection.execute(delete(envelope).where(envelope.c.failure_id.in_(replaced)))
            self._connection.execute(insert(envelope), kept)
        messages = [
            coding.message_row(one.id, message, one.failure.failed_at)
            for one in handled
            for message in one.messages
            if one.id is not None
        ]
        insert_messages(self._connection, messages)


def _key(one: Failure) -> str:
    """The task id as the ledger keeps it."""
    return folded(one.task_id, TASK_ID_LIMIT)


def _history(row: Row[Any]) -> History:
    return History(row.id, State(row.state), row.attempts, row.parked, row.token)


def insert_messages(connection: Connection, rows: Sequence[dict[str, object]]) -> None:
    """Put messages into the outbox; one whose key is there already was said before."""
    if rows:
        dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
        connection.execute(dialect.insert(outbox).on_conflict_do_nothing(index_elements=["key"]), rows)


class SqlStore:
    """The ledger (`ports.Store`).

    Args:
        database: Where it lies.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    @contextmanager
    def transaction(self, *, durable: bool) -> Iterator[SqlTransaction]:
        """Open a transaction that writes."""
        with self._database.write(durable=durable) as connection:
            yield SqlTransaction(connection)

    def claim(self, now: datetime, *, limit: int, lease: timedelta, states: Sequence[State]) -> list[Due]:
        """Take what is due, oldest first, under one fresh token."""
        token = uuid4().hex
        # Not the bare column: SQLite would take its index, and go through all rows of a state that are long at rest.
        state = failure.c.state.concat("")
        due = (
            select(failure, envelope.c.coding, envelope.c.body, attempt.c.error)
            .outerjoin(envelope, envelope.c.failure_id == failure.c.id)
            .outerjoin(attempt, and_(attempt.c.failure_id == failure.c.id, attempt.c.number == failure.c.attempts))
            .where(failure.c.due_at <= now, state.in_([one.value for one in states]))
            .order_by(failure.c.due_at)
            .limit(limit)
            .with_for_update(skip_locked=True, of=failure)
        )
        with self._database.write() as connection:
            rows = connection.execute(due).all()
            if rows:
                silent = failure.c.state == State.DISPATCHED
                unstarted = failure.c.started_retries.is_(None)
                connection.execute(
                    update(failure)
                    .where(failure.c.id.in_([row.id for row in rows]))
                    .values(
                        token=token,
                        due_at=now + lease,
                        state=case((failure.c.state == State.SCHEDULED, State.DISPATCHED.value), else_=failure.c.state),
                        rescues=failure.c.rescues + case((and_(silent, unstarted), 1), else_=0),
                        deaths=failure.c.deaths + case((and_(silent, _BEGUN), 1), else_=0),
                        # Not forgotten until it is settled: were this dispatcher to die now, the next one must know.
                        started_retries=case((and_(silent, not_(unstarted)), coding.STARTED_BEFORE), else_=None),
                    )
                )
        return [coding.due(row, token) for row in rows]

    def sent(self, token: str, failures: Sequence[int], *, due_at: datetime) -> None:
        """The broker took these. A worker that has begun one of them already knows better when to look at it."""
        self._update(
            failures,
            failure.c.token == token,
            due_at=case((_BEGUN, failure.c.due_at), else_=literal(due_at, Instant)),
            ordered=failure.c.state != State.DISPATCHED,
            started_retries=case((_BEGUN, failure.c.started_retries), else_=None),
        )

    def postpone(self, token: str, failures: Sequence[int], *, due_at: datetime) -> None:
        """Give these back, due again later; but not one that a worker began though the broker seemed to refuse it."""
        waiting = case((failure.c.state == State.DISPATCHED, State.SCHEDULED.value), else_=failure.c.state)
        mine = and_(failure.c.token == token, or_(failure.c.started_retries.is_(None), not_(_BEGUN)))
        self._update(failures, mine, due_at=due_at, state=waiting, token=None)

    def hold(
        self, token: str, failures: Sequence[int], messages: Sequence[Message], *, reason: Reason, now: datetime
    ) -> None:
        """These need a person's word."""
        self._stop(token, failures, messages, now, state=State.HELD, reason=reason, due_at=None)

    def exhausted(
        self, token: str, failures: Sequence[int], messages: Sequence[Message], *, reason: Reason, now: datetime
    ) -> None:
        """Give these up; what Celery still waits for is due at once for its order to fail."""
        due_at = case((failure.c.parked, literal(now, Instant)), else_=None)
        self._stop(token, failures, messages, now, state=State.EXHAUSTED, reason=reason, due_at=due_at, ended_at=now)

    def over(
        self,
        token: str,
        failures: Sequence[int],
        messages: Sequence[Message],
        *,
        state: State,
        reason: Reason,
        now: datetime,
    ) -> None:
        """Celery has ended these without us."""
        ended_at = None if state is State.HELD else now
        self._stop(
            token, failures, messages, now, state=state, reason=reason, due_at=None, parked=False, ended_at=ended_at
        )

    def again(self, one: int, *, now: datetime) -> bool:
        """A person wants this one retried."""
        resting = failure.c.state.in_((State.HELD, *_ENDED))
        # An order to fail that is on its way must not meet the retry.
        free = or_(failure.c.state == State.HELD, not_(failure.c.parked))
        kept = select(envelope.c.failure_id).where(envelope.c.failure_id == one).exists()
        return self._changed(
            update(failure)
            .where(failure.c.id == one, resting, free, kept)
            .values(
                state=State.SCHEDULED, due_at=now, token=None, started_retries=None, rescues=0, deaths=0, ended_at=None
            )
        )

    def dismiss(self, one: int, *, now: datetime) -> bool:
        """A person says: leave it."""
        able = failure.c.state.in_((State.SCHEDULED, State.HELD, State.HANDED_OVER, State.EXHAUSTED))
        return self._changed(
            update(failure)
            .where(failure.c.id == one, able)
            .values(
                state=State.DISMISSED,
                reason=Reason.DISMISSED,
                due_at=case((failure.c.parked, literal(now, Instant)), else_=None),
                token=None,
                started_retries=None,
                ended_at=now,
            )
        )

    def _changed(self, statement: Update) -> bool:
        with self._database.write(durable=True) as connection:
            return connection.execute(statement).rowcount == 1

    def start(self, header: Header, *, retries: int, idempotent: bool, due_at: datetime) -> bool:
        """May this worker run the attempt?"""
        mine = and_(failure.c.id == header.failure, failure.c.token == header.token)
        if header.close:
            waits = and_(failure.c.parked, failure.c.state.in_(_ENDED), failure.c.started_retries.is_(None))
            statement = update(failure).where(mine, waits).values(due_at=due_at, started_retries=retries)
        else:
            first = or_(failure.c.started_retries.is_(None), failure.c.started_retries < retries)
            allowed = and_(
                mine,
                failure.c.state == State.DISPATCHED,
                failure.c.attempts == header.attempt - 1,
                or_(first, literal(idempotent)),
            )
            statement = update(failure).where(allowed).values(due_at=due_at, started_retries=retries, rescues=0)
        # Were this forgotten with the power, a run that had begun would be taken for one that had not.
        return self._changed(statement)

    def renew(self, headers: Sequence[Header], *, due_at: datetime) -> None:
        """These attempts are still running."""
        tokens = {header.token for header in headers}
        self._update(
            [header.failure for header in headers],
            and_(failure.c.token.in_(tokens), failure.c.state == State.DISPATCHED),
            due_at=due_at,
        )

    def recovered(self, one: int, *, now: datetime) -> bool:
        """A retry succeeded."""
        with self._database.write() as connection:
            changed = connection.execute(
                update(failure)
                .where(failure.c.id == one, failure.c.state != State.RECOVERED)
                .values(state=State.RECOVERED, ended_at=now, due_at=None, token=None, parked=False, ordered=False)
            ).rowcount
            # The call is needed no longer, and its arguments are nobody's business.
            connection.execute(delete(envelope).where(envelope.c.failure_id == one))
        return changed == 1

    def closed(self, failures: Sequence[int], *, now: datetime) -> None:
        """Celery has ended these tasks."""
        self._update(failures, failure.c.state.in_(_ENDED), due_at=None, token=None, parked=False, ordered=False)

    def history(self, task_id: str) -> History:
        """What the ledger knows of a task."""
        with self._database.read() as connection:
            row = connection.execute(select(failure).where(failure.c.task_id == task_id)).first()
        return _history(row) if row is not None else History()

    def claim_messages(self, now: datetime, *, limit: int, lease: timedelta) -> list[DueMessage]:
        """Take messages that are due, oldest first, under one fresh token."""
        token = uuid4().hex
        due = (
            select(outbox)
            .where(outbox.c.due_at <= now)
            .order_by(outbox.c.due_at, outbox.c.id)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        with self._database.write() as connection:
            rows = connection.execute(due).all()
            if rows:
                mine = outbox.c.id.in_([row.id for row in rows])
                connection.execute(update(outbox).where(mine).values(token=token, due_at=now + lease))
        return [DueMessage(row.id, token, row.tries, coding.message(row.message)) for row in rows]

    def delivered(self, token: str, messages: Sequence[int], *, now: datetime) -> None:
        """The channel took these."""
        with self._database.write() as connection:
            connection.execute(
                update(outbox)
                .where(outbox.c.id.in_(messages), outbox.c.token == token)
                .values(due_at=None, delivered_at=now, token=None, tries=outbox.c.tries + 1)
            )

    def undelivered(self, token: str, messages: Mapping[int, str], *, due_at: datetime | None) -> None:
        """The channel did not take these."""
        with self._database.write() as connection:
            for one, why in messages.items():
                connection.execute(
                    update(outbox)
                    .where(outbox.c.id == one, outbox.c.token == token)
                    .values(due_at=due_at, last_error=why, token=None, tries=outbox.c.tries + 1)
                )

    def _update(self, failures: Iterable[int], guard: ColumnElement[bool], **values: object) -> None:
        ids = list(failures)
        if ids:
            with self._database.write() as connection:
                connection.execute(update(failure).where(failure.c.id.in_(ids), guard).values(**values))

    def _stop(
        self, token: str, failures: Sequence[int], messages: Sequence[Message], now: datetime, **values: object
    ) -> None:
        with self._database.write() as connection:
            mine = and_(failure.c.id.in_(failures), failure.c.token == token)
            stopped = connection.execute(
                update(failure).where(mine).values(token=None, **values).returning(failure.c.id, failure.c.task_id)
            )
            ids = {row.task_id: row.id for row in stopped}
            told = [coding.message_row(ids[one.task_id], one, now) for one in messages if one.task_id in ids]
            insert_messages(connection, told)
