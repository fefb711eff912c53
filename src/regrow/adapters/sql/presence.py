"""The ledger's knowledge of who is at work: signs of life, and the tasks that workers have begun."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, and_, case, delete, or_, select

from regrow.adapters import failure_json
from regrow.adapters.sql import coding
from regrow.adapters.sql.part import Part
from regrow.adapters.sql.tables import TASK_ID_LIMIT, begun, folded, member
from regrow.decide import DEATH_WINDOW
from regrow.model import Begun, Failure, Member

#: A process that has been silent for so long, and has left nothing behind, is forgotten.
FORGET_AFTER = timedelta(hours=24)

_BEGUN = select(begun, member.c.name, member.c.seen_at).outerjoin(member, member.c.boot == begun.c.boot)


class Presence(Part):
    """The part of the ledger (`ports.Store`) that knows who is at work."""

    # -- signs of life ----------------------------------------------------------------------------------------------

    def beat(self, one: Member) -> float:
        """A process is alive."""
        row = {name: getattr(one, name) for name in Member.__slots__} | {"queues": json.dumps(one.queues)}
        changing = ("seen_at", "queues", "skew_seconds", "spooled_bytes")
        statement = self._kind.putting(member, ["boot"], lambda new: {name: new[name] for name in changing})
        clock = self._kind.now()
        with self._database.write() as connection:
            connection.execute(statement.values(**row))
            if clock is None:
                return 0.0
            theirs: datetime = connection.execute(select(clock)).scalar_one()
        return (one.seen_at - theirs).total_seconds()

    def gone(self, boot: str) -> None:
        """A process has ended in order."""
        with self._database.write() as connection:
            connection.execute(delete(member).where(member.c.boot == boot))

    # -- tasks begun ------------------------------------------------------------------------------------------------

    def begin(self, call: Failure, boot: str) -> None:
        """A worker begins a task."""
        kind, facts = coding.packed(failure_json.dumps(call))
        row = {
            "task_id": call.task_id,
            "boot": boot,
            "at": call.failed_at,
            "coding": kind,
            "facts": facts,
            "rescues": 0,
        }
        changing = ("boot", "at", "coding", "facts")
        statement = self._kind.putting(begun, ["task_id"], lambda new: {name: new[name] for name in changing})
        # Were it lost with the power, so would be the task.
        with self._database.write(durable=True) as connection:
            connection.execute(statement.values(**row))

    def finish(self, task_id: str, boot: str) -> bool:
        """A worker has ended a task, in whatever way."""
        with self._database.write() as connection:
            gone = connection.execute(delete(begun).where(begun.c.task_id == task_id, begun.c.boot.in_([boot, ""])))
        return gone.rowcount == 1

    def rescued(self, task_id: str, *, now: datetime) -> int:
        """A worker begins a task that the broker has delivered again."""
        row = {"task_id": task_id, "boot": "", "at": now, "coding": "json", "facts": b""}
        row |= {"rescues": 1, "rescues_since": now}
        recent = begun.c.rescues_since > now - DEATH_WINDOW
        statement = self._kind.putting(
            begun,
            ["task_id"],
            lambda new: {
                "rescues": case((recent, begun.c.rescues + 1), else_=1),
                "rescues_since": case((recent, begun.c.rescues_since), else_=new.rescues_since),
            },
        )
        count = select(begun.c.rescues).where(begun.c.task_id == task_id)
        with self._database.write(durable=True) as connection:
            connection.execute(statement.values(**row))
            return int(connection.execute(count).scalar_one())

    def begun(self, task_id: str) -> Begun | None:
        """What is known of a task that was begun and has not ended."""
        with self._database.read() as connection:
            row = connection.execute(_BEGUN.where(begun.c.task_id == folded(task_id, TASK_ID_LIMIT))).first()
        return None if row is None else _begun(row)

    def orphans(self, silent_since: datetime, *, limit: int) -> list[Begun]:
        """Tasks whose worker began them and is gone, or has been silent since then."""
        known = select(member.c.boot, member.c.seen_at, member.c.skew_seconds)
        with self._database.read() as connection:
            seen = {row.boot: row.seen_at - timedelta(seconds=row.skew_seconds) for row in connection.execute(known)}
            alive = [boot for boot, at in seen.items() if at >= silent_since]
            # Who has given no sign of life may be about to give his first one.
            silent = and_(begun.c.boot.not_in(["", *alive]), or_(begun.c.boot.in_(seen), begun.c.at < silent_since))
            rows = connection.execute(_BEGUN.where(silent).limit(limit)).all()
        return [_begun(row) for row in rows]

    def forget(self, found: Sequence[Begun], *, now: datetime) -> None:
        """These orphans are taken in; with them goes who has long been silent and left nothing behind."""
        with self._database.write() as connection:
            for one in sorted(found, key=lambda one: one.task_id):
                mine = and_(begun.c.task_id == one.task_id, begun.c.boot == one.boot)
                connection.execute(delete(begun).where(mine))
            connection.execute(delete(begun).where(begun.c.boot == "", begun.c.rescues_since < now - DEATH_WINDOW))
            left = select(begun.c.boot).where(begun.c.boot == member.c.boot).exists()
            connection.execute(delete(member).where(member.c.seen_at < now - FORGET_AFTER, ~left))


def _begun(row: Row[Any]) -> Begun:
    try:
        call = failure_json.loads(coding.unpacked(row.coding, row.facts)) if row.facts else None
    except ValueError:  # written by a version that knew better; its id is all that is left
        call = None
    return Begun(call, row.task_id, row.boot, row.name or "", row.seen_at)
