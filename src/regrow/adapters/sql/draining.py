"""The ledger while it is emptied: a person's orders for all that it holds, and what is left of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, case, exists, func, literal, not_, or_, select, update

from regrow.adapters.sql import coding
from regrow.adapters.sql.figures import Counting
from regrow.adapters.sql.part import Part
from regrow.adapters.sql.tables import Instant, failure, note, outbox
from regrow.adapters.sql.transaction import TOUCHED, insert_notes
from regrow.model import DRAIN, Audience, Deed, Left, Leftover, Reason, State

_LIVE = tuple(state for state in State if state.live)
_SCHEDULED = failure.c.state == State.SCHEDULED
_HELD = and_(failure.c.state == State.HELD, failure.c.parked)

#: Live, or Celery waits for its end.
_LEFT = or_(failure.c.parked, failure.c.state.in_(_LIVE))


def _noted(since: datetime, *deeds: Deed) -> ColumnElement[bool]:
    """True for failures of which one of these things was done to empty the ledger since then."""
    mine = and_(note.c.failure_id == failure.c.id, note.c.deed.in_(deeds), note.c.detail == DRAIN, note.c.at >= since)
    return exists().where(mine)


class DrainOrders(Part):
    """The part of the ledger (`ports.Store`) that empties it."""

    def order_last_runs(self, since: datetime, *, now: datetime, by: str, limit: int) -> int:
        """A person orders one last run of what is scheduled."""
        # An order that has not run yet is marked; what has had its last run is to be ended.
        waiting = and_(_SCHEDULED, not_(failure.c.manual), not_(_noted(since, Deed.RETRIED)))
        values: dict[str, Any] = {"reason": Reason.BY_HAND, "due_at": now, "token": None, "manual": True}
        values |= {"started_retries": None, "rescues": 0, "deaths": 0, "deaths_since": None}
        return self._drain(waiting, values, now, Deed.RETRIED, by, limit)

    def end_waiting(self, since: datetime, *, scheduled: bool, now: datetime, by: str, limit: int) -> int:
        """A person ends what is held, and what is scheduled after its last run."""
        over = _SCHEDULED if scheduled else and_(_SCHEDULED, not_(failure.c.manual), _noted(since, Deed.RETRIED))
        values: dict[str, Any] = {"state": State.DISMISSED, "reason": Reason.DISMISSED, "ended_at": now, "token": None}
        values |= {"due_at": case((failure.c.parked, literal(now, Instant)), else_=None)}
        values |= {"manual": False, "started_retries": None}
        return self._drain(or_(_HELD, over), values, now, Deed.DISMISSED, by, limit)

    def _drain(
        self, which: ColumnElement[bool], values: dict[str, Any], now: datetime, deed: Deed, by: str, limit: int
    ) -> int:
        # In one order, as locks are taken (SqlTransaction._known); what somebody works on has its turn later.
        mine = select(failure.c.id).where(which).order_by(failure.c.id).limit(limit).with_for_update(skip_locked=True)
        with self._database.write(durable=True) as connection:
            # Not inside of the UPDATE: PostgreSQL may look there more than once, and take more than the limit.
            ids = connection.execute(mine).scalars().all()
            connection.execute(update(failure).where(failure.c.id.in_(ids)).values(**values, **TOUCHED))
            insert_notes(connection, ids, now, deed, by=by, detail=DRAIN)
        return len(ids)


class DrainReads(Counting):
    """The part of the ledger to read from (`ports.Ledger`) that says what is left."""

    def left(self, since: datetime, *, audiences: Sequence[Audience]) -> Left:
        """What is left, and what has become of the rest since then."""
        to_them = outbox.c.audience.in_([one.value for one in audiences])
        ended = and_(failure.c.state.in_(coding.ENDED), failure.c.ended_at >= since, failure.c.first_failed_at < since)
        # Without parking a failed run is held; and clocks of workers may be behind.
        ordered = and_(failure.c.state.in_((*coding.ENDED, State.HELD)), _noted(since, Deed.RETRIED, Deed.DISMISSED))
        failed = and_(or_(ended, ordered), not_(failure.c.parked))
        recovered = and_(failure.c.state == State.RECOVERED, failure.c.ended_at >= since)
        with self._database.read() as connection:

            def count(*which: ColumnElement[bool]) -> int:
                return int(connection.execute(select(func.count()).where(*which)).scalar_one())

            return Left(
                tasks=count(_LEFT),
                sent=count(failure.c.state == State.DISPATCHED),
                messages=count(outbox.c.due_at.isnot(None), to_them),
                copies=count(failure.c.project_at.isnot(None)),
                recovered=count(recovered),
                failed=count(failed),
            )

    def leftovers(self, *, limit: int) -> list[Leftover]:
        """The failures that are left, oldest first."""
        with self._database.read() as connection:
            rows = connection.execute(select(failure).where(_LEFT).order_by(failure.c.id).limit(limit)).all()
        return [
            Leftover(
                id=row.id,
                task_id=row.task_id,
                task_name=row.task_name,
                state=State(row.state),
                parked=row.parked,
                queue=row.queue,
                started=row.started_retries is not None and row.started_retries > coding.STARTED_BEFORE,
                ordered=row.ordered,
                first_failed_at=row.first_failed_at,
            )
            for row in rows
        ]
