"""The ledger's other half: what persons decide, whom they were told by, leases, counts, and copies kept elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import ColumnElement, Update, and_, bindparam, case, delete, literal, not_, or_, select, update

from regrow.adapters.sql import coding
from regrow.adapters.sql.part import Part
from regrow.adapters.sql.reads import full_records
from regrow.adapters.sql.tables import Instant, alert, attempt, envelope, failure, lease, notice, run
from regrow.adapters.sql.transaction import TOUCHED, insert_messages, insert_notes
from regrow.model import Deed, Message, Reason, Record, State

#: A person is needed.
_NEEDS_PERSON = (State.HANDED_OVER, State.EXHAUSTED, State.HELD)


_OPEN = alert.c.closed_at.is_(None)


class Keeping(Part):
    """The part of the ledger (`ports.Store`) that is not on the way of a failing task."""

    def _changed(self, statement: Update) -> bool:
        with self._database.write(durable=True) as connection:
            return connection.execute(statement).rowcount == 1

    def _update(self, failures: Iterable[int], guard: ColumnElement[bool], **values: object) -> None:
        ids = list(failures)
        if ids:
            with self._database.write() as connection:
                # In one order, as locks are taken: see SqlTransaction._known. MySQL takes no such SELECT in the UPDATE.
                mine = select(failure.c.id).where(failure.c.id.in_(ids), guard).order_by(failure.c.id).with_for_update()
                locked = connection.execute(mine).scalars().all()
                if locked:
                    connection.execute(update(failure).where(failure.c.id.in_(locked)).values(**values))

    # -- what persons decide ----------------------------------------------------------------------------------------

    def again(self, one: int, *, now: datetime, by: str = "") -> bool:
        """A person wants this one retried."""
        resting = failure.c.state.in_((State.SCHEDULED, State.HELD, *coding.ENDED))
        # An order to fail that is on its way must not meet the retry.
        free = or_(failure.c.state.in_((State.SCHEDULED, State.HELD)), not_(failure.c.parked))
        kept = select(envelope.c.failure_id).where(envelope.c.failure_id == one).exists()
        statement = update(failure).where(failure.c.id == one, resting, free, kept)
        values: dict[str, Any] = {"state": State.SCHEDULED, "reason": Reason.BY_HAND, "due_at": now, "token": None}
        values |= {
            "started_retries": None,
            "rescues": 0,
            "deaths": 0,
            "deaths_since": None,
            "ended_at": None,
            "manual": True,
        }
        return self._by_person(statement.values(**values, **TOUCHED), one, now, Deed.RETRIED, by=by)

    def dismiss(self, one: int, *, now: datetime, by: str = "") -> bool:
        """A person says: leave it."""
        able = failure.c.state.in_((State.SCHEDULED, State.HELD, State.HANDED_OVER, State.EXHAUSTED))
        statement = (
            update(failure)
            .where(failure.c.id == one, able)
            .values(
                state=State.DISMISSED,
                reason=Reason.DISMISSED,
                due_at=case((failure.c.parked, literal(now, Instant)), else_=None),
                token=None,
                manual=False,
                started_retries=None,
                ended_at=now,
                **TOUCHED,
            )
        )
        return self._by_person(statement, one, now, Deed.DISMISSED, by=by)

    def confirm(self, one: int, category: str, *, now: datetime, by: str = "") -> bool:
        """A person says which category is right."""
        statement = update(failure).where(failure.c.id == one).values(confirmed=category, **TOUCHED)
        return self._by_person(statement, one, now, Deed.CONFIRMED, by=by, detail=category)

    def _by_person(self, statement: Update, one: int, now: datetime, deed: Deed, **more: str) -> bool:
        with self._database.write(durable=True) as connection:
            changed = connection.execute(statement).rowcount
            insert_notes(connection, [one] * changed, now, deed, **more)
        return changed == 1

    # -- one at a time ----------------------------------------------------------------------------------------------

    def take_lease(self, name: str, *, now: datetime, until: datetime) -> str | None:
        """Be the only one who does `name` until then."""
        token = uuid4().hex
        statement = self._kind.putting(
            lease, ["name"], lambda new: {"token": new.token, "until": new.until}, where=lease.c.until <= now
        )
        with self._database.write() as connection:
            connection.execute(statement.values(name=name, token=token, until=until))
            holder = connection.execute(select(lease.c.token).where(lease.c.name == name)).scalar_one()
        return token if holder == token else None

    def give_lease(self, name: str, token: str) -> None:
        """Give a lease back before its end."""
        with self._database.write() as connection:
            connection.execute(delete(lease).where(lease.c.name == name, lease.c.token == token))

    # -- copies elsewhere -------------------------------------------------------------------------------------------

    def changed(self, now: datetime, *, limit: int) -> list[Record]:
        """Failures that have changed since they were last projected."""
        due = select(failure.c.id).where(failure.c.project_at <= now).order_by(failure.c.project_at, failure.c.id)
        with self._database.read() as connection:
            return full_records(connection, list(connection.execute(due.limit(limit)).scalars()))

    def projected(self, revisions: Mapping[int, int]) -> None:
        """These failures are projected."""
        if revisions:
            statement = update(failure).where(failure.c.id == bindparam("one"), failure.c.revision == bindparam("seen"))
            with self._database.write() as connection:
                connection.execute(
                    statement.values(project_at=None),
                    [{"one": one, "seen": revision} for one, revision in sorted(revisions.items())],
                )

    def unprojected(self, failures: Sequence[int], *, due_at: datetime) -> None:
        """These could not be projected."""
        self._update(failures, failure.c.project_at.isnot(None), project_at=due_at)

    def reported(self, attempts: Mapping[int, int], *, now: datetime) -> None:
        """These failures are in a report."""
        if attempts:
            statement = update(attempt).where(
                attempt.c.failure_id == bindparam("one"),
                attempt.c.number <= bindparam("last"),
                attempt.c.reported_at.is_(None),
            )
            with self._database.write() as connection:
                connection.execute(
                    statement.values(reported_at=now),
                    [{"one": one, "last": number} for one, number in attempts.items()],
                )

    def counted(self, process: str, minute: datetime, *, runs: int, failed: int) -> None:
        """A process ran so many tasks in this minute."""
        statement = self._kind.putting(
            run,
            ["minute", "process"],
            lambda new: {"runs": run.c.runs + new.runs, "failed": run.c.failed + new.failed},
        )
        with self._database.write() as connection:
            connection.execute(statement.values(minute=minute, process=process, runs=runs, failed=failed))

    # -- alerts and inboxes -----------------------------------------------------------------------------------------

    def count_alert(self, message: Message, *, now: datetime) -> None:
        """Open an alert for the message's group, or count the message to the open one."""

        def counted(new: Any) -> dict[str, Any]:
            return {
                "count": alert.c.count + case((alert.c.last_key == new.last_key, 0), else_=1),
                "category": new.category,
                "priority": new.priority,
                "title": new.title,
                "body": new.body,
                "last_at": new.last_at,
                "last_key": new.last_key,
            }

        statement = self._kind.putting(alert, ["about"], counted, only=_OPEN)
        with self._database.write() as connection:
            connection.execute(statement.values(**_alert_row(message, now)))

    def raise_alert(self, message: Message, told: Sequence[Message], *, now: datetime) -> bool:
        """Open an alert and tell people, unless one is open for its group."""
        with self._database.write() as connection:
            opened = self._kind.insert_one(connection, alert, "about", _alert_row(message, now), _OPEN)
            if opened:
                insert_messages(connection, self._kind, [coding.message_row(None, one, now) for one in told])
        return opened

    def clear_alert(self, group: str, told: Sequence[Message], *, now: datetime) -> bool:
        """Close the open alert of a group and tell people."""
        opened = and_(alert.c.about == group, _OPEN)
        with self._database.write() as connection:
            closed = connection.execute(update(alert).where(opened).values(closed_at=now)).rowcount
            if closed:
                insert_messages(connection, self._kind, [coding.message_row(None, one, now) for one in told])
        return bool(closed)

    def close_alert(self, one: int, *, now: datetime, by: str = "") -> bool:
        """An administrator closes an alert."""
        opened = and_(alert.c.id == one, _OPEN)
        return self._changed(update(alert).where(opened).values(closed_at=now, closed_by=by))

    def settle_alerts(self, *, now: datetime) -> int:
        """Close alerts about failures of which none needs a person any longer."""
        needed = (
            select(failure.c.id)
            .where(failure.c.fingerprint == alert.c.about, failure.c.state.in_(_NEEDS_PERSON))
            .exists()
        )
        # An alert without a category is about no failure.
        about_failures = and_(_OPEN, alert.c.category != "")
        with self._database.write() as connection:
            return int(
                connection.execute(update(alert).where(about_failures, not_(needed)).values(closed_at=now)).rowcount
            )

    def put_notice(self, message: Message, *, now: datetime) -> None:
        """Put a message into its user's inbox."""
        row = {"key": message.key, "user_id": message.user_id, "title": message.title, "body": message.body}
        statement = self._kind.adding(notice, ["key"]).values(**row, task_id=message.task_id, created_at=now)
        with self._database.write() as connection:
            connection.execute(statement)

    def read_notice(self, one: int, *, now: datetime) -> bool:
        """The user has read it."""
        return self._changed(update(notice).where(notice.c.id == one, notice.c.read_at.is_(None)).values(read_at=now))


def _alert_row(message: Message, now: datetime) -> dict[str, object]:
    return {
        "about": message.group or message.task_id,
        "category": message.category,
        "priority": message.priority,
        "title": message.title,
        "body": message.body,
        "count": 1,
        "opened_at": now,
        "last_at": now,
        "last_key": message.key,
        "closed_by": "",
    }
