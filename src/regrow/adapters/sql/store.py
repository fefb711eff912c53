"""The ledger on SQLAlchemy Core: set-based statements, one transaction each, the same for each kind of database."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Row, and_, case, delete, func, literal, not_, or_, select, true, update

from regrow.adapters.sql import coding
from regrow.adapters.sql.draining import DrainOrders
from regrow.adapters.sql.keeping import Keeping
from regrow.adapters.sql.lessons import LessonOrders
from regrow.adapters.sql.part import once_more
from regrow.adapters.sql.presence import Presence
from regrow.adapters.sql.tables import Instant, attempt, envelope, failure, outbox
from regrow.adapters.sql.transaction import (
    TOUCHED,
    SqlTransaction,
    history_of,
    insert_messages,
    insert_notes,
)
from regrow.decide import DEATH_WINDOW
from regrow.model import Audience, Deed, Due, DueMessage, Header, History, Message, Reason, State

#: A worker has begun what was sent under the row's token.
_BEGUN = failure.c.started_retries > coding.STARTED_BEFORE


@once_more
class SqlStore(Keeping, Presence, DrainOrders, LessonOrders):
    """The ledger (`ports.Store`).

    Args:
        database: Where it lies.
    """

    @contextmanager
    def transaction(self, *, durable: bool) -> Iterator[SqlTransaction]:
        """Open a transaction that writes."""
        with self._database.capture(durable=durable) as ledger:
            yield SqlTransaction(ledger)

    def claim(self, now: datetime, *, limit: int, lease: timedelta, states: Sequence[State]) -> list[Due]:
        """Take what is due, oldest first, under one fresh token."""
        token = uuid4().hex
        # Not the bare column: SQLite would take its index, and go through all rows of a state that are long at rest.
        state = failure.c.state.concat("")
        due = (
            select(failure, envelope.c.coding, envelope.c.body, attempt.c.error)
            .outerjoin(envelope, envelope.c.failure_id == failure.c.id)
            .outerjoin(attempt, and_(attempt.c.failure_id == failure.c.id, attempt.c.number == failure.c.attempts))
            .where(failure.c.due_at <= now, or_(state.in_([one.value for one in states]), failure.c.manual))
            .order_by(failure.c.due_at)
            .limit(limit)
            .with_for_update(skip_locked=True, of=failure)
        )
        with self._database.write() as connection:
            rows = connection.execute(due).all()
            if rows:
                silent = failure.c.state == State.DISPATCHED
                unstarted = failure.c.started_retries.is_(None)
                died, old = and_(silent, _BEGUN), failure.c.deaths_since > now - DEATH_WINDOW
                connection.execute(
                    update(failure)
                    .where(failure.c.id.in_([row.id for row in rows]))
                    .values(
                        token=token,
                        due_at=now + lease,
                        state=case((failure.c.state == State.SCHEDULED, State.DISPATCHED.value), else_=failure.c.state),
                        rescues=failure.c.rescues + case((and_(silent, unstarted), 1), else_=0),
                        deaths=case((died, case((old, failure.c.deaths + 1), else_=1)), else_=failure.c.deaths),
                        deaths_since=case(
                            (and_(died, func.coalesce(not_(old), true())), literal(now, Instant)),
                            else_=failure.c.deaths_since,
                        ),
                        # Not forgotten until it is settled: were this dispatcher to die now, the next one must know.
                        started_retries=case((and_(silent, not_(unstarted)), coding.STARTED_BEFORE), else_=None),
                        **TOUCHED,
                    )
                )
        return [coding.due(row, token, now) for row in rows]

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
        self._update(failures, mine, due_at=due_at, state=waiting, token=None, **TOUCHED)

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

    def start(self, header: Header, *, retries: int, idempotent: bool, due_at: datetime) -> bool:
        """May this worker run the attempt?"""
        mine = and_(failure.c.id == header.failure, failure.c.token == header.token)
        if header.close:
            waits = and_(failure.c.parked, failure.c.state.in_(coding.ENDED), failure.c.started_retries.is_(None))
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
                .values(
                    state=State.RECOVERED,
                    ended_at=now,
                    due_at=None,
                    token=None,
                    parked=False,
                    ordered=False,
                    manual=False,
                    **TOUCHED,
                )
            ).rowcount
            insert_notes(connection, [one] * changed, now, Deed.RECOVERED)
            # The call is needed no longer, and its arguments are nobody's business.
            connection.execute(delete(envelope).where(envelope.c.failure_id == one))
        return changed == 1

    def closed(self, failures: Sequence[int], *, now: datetime) -> None:
        """Celery has ended these tasks."""
        touched = {name: case((failure.c.parked, value), else_=failure.c[name]) for name, value in TOUCHED.items()}
        ended = failure.c.state.in_(coding.ENDED)
        self._update(failures, ended, due_at=None, token=None, ordered=False, parked=False, **touched)

    def history(self, task_id: str) -> History:
        """What the ledger knows of a task."""
        with self._database.read() as connection:
            row = connection.execute(select(failure).where(failure.c.task_id == task_id)).first()
        return history_of(row) if row is not None else History()

    def claim_messages(
        self, now: datetime, *, limit: int, lease: timedelta, audiences: Sequence[Audience] = tuple(Audience)
    ) -> list[DueMessage]:
        """Take messages that are due, oldest first, under one fresh token."""
        token = uuid4().hex
        due = (
            select(outbox)
            .where(outbox.c.due_at <= now, outbox.c.audience.in_([one.value for one in audiences]))
            .order_by(outbox.c.due_at, outbox.c.id)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        with self._database.write() as connection:
            rows = connection.execute(due).all()
            if rows:
                mine = outbox.c.id.in_([row.id for row in rows])
                connection.execute(update(outbox).where(mine).values(token=token, due_at=now + lease))
            return list(self._read_messages(connection, rows, token))

    def _read_messages(self, connection: Connection, rows: Sequence[Row[Any]], token: str) -> Iterator[DueMessage]:
        for row in rows:
            try:
                yield DueMessage(row.id, token, row.tries, coding.message(row.message))
            except (ValueError, TypeError, KeyError) as error:  # one that nobody can read must not stop the others
                damaged = update(outbox).where(outbox.c.id == row.id)
                connection.execute(damaged.values(due_at=None, last_error=f"it cannot be read: {error!r}"))

    def release(self, token: str, messages: Sequence[int], *, due_at: datetime) -> None:
        """These were not tried: give them back."""
        mine = and_(outbox.c.id.in_(messages), outbox.c.token == token)
        with self._database.write() as connection:
            connection.execute(update(outbox).where(mine).values(due_at=due_at, token=None))

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

    def _stop(
        self,
        token: str,
        failures: Sequence[int],
        messages: Sequence[Message],
        now: datetime,
        *,
        reason: Reason,
        **values: object,
    ) -> None:
        with self._database.write() as connection:
            mine = and_(failure.c.id.in_(failures), failure.c.token == token)
            found = select(failure.c.id, failure.c.task_id).where(mine).order_by(failure.c.id).with_for_update()
            ids = {row.task_id: row.id for row in connection.execute(found)}
            connection.execute(
                update(failure)
                .where(failure.c.id.in_(list(ids.values())))
                .values(token=None, manual=False, reason=reason, **values, **TOUCHED)
            )
            insert_notes(connection, ids.values(), now, Deed.STOPPED, detail=reason)
            told = [coding.message_row(ids[one.task_id], one, now) for one in messages if one.task_id in ids]
            insert_messages(connection, self._kind, told)
