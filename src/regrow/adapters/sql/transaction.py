"""One transaction on the ledger: failures with all that was decided about them are kept, or nothing is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Connection, Executable, Insert, Row, bindparam, case, insert, literal, select, update

from regrow.adapters.sql import coding
from regrow.adapters.sql.direct import Direct
from regrow.adapters.sql.kinds import Kind
from regrow.adapters.sql.tables import TASK_ID_LIMIT, Instant, attempt, envelope, failure, folded, note, outbox
from regrow.model import Deed, Failure, Handled, History, State

#: Goes with every change of a failure that its reader can see: see `project_at`.
TOUCHED = {"revision": failure.c.revision + 1, "project_at": literal(coding.AT_ONCE, Instant)}


class SqlTransaction:
    """One transaction on the ledger (`ports.LedgerTransaction`)."""

    def __init__(self, ledger: Direct) -> None:
        self._ledger = ledger

    def histories(self, failures: Sequence[Failure]) -> list[History]:
        """What the ledger knows of each failure's task."""
        known = self._known(failures, lock=True)
        seen = self._seen([one.key for one in failures if one.key])
        histories = [known.get(_key(one), History()) for one in failures]
        if not seen:
            return histories
        return [replace(history, seen=one.key in seen) for one, history in zip(failures, histories, strict=True)]

    def _seen(self, keys: Sequence[str]) -> set[str]:
        """Those runs that are recorded already."""
        if not keys:
            return set()
        values: dict[str, object] = {f"key_{number}": key for number, key in enumerate(keys)}
        return {row.key for row in self._ledger.run(_select_seen(len(keys)), [values])}

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
        # Celery has ended a task that the ledger holds: nobody waits for its end any longer.
        ended = [one for one in kept if one.duplicate and one.failure.ended and one.history.parked]
        self._ledger.run(_UNPARK, [{"failure_id": one.id} for one in ended])
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
        tasks = sorted({_key(one) for one in failures})
        values: dict[str, object] = {f"task_{number}": task for number, task in enumerate(tasks)}
        return {row.task_id: history_of(row) for row in self._ledger.run(_select_known(len(tasks), lock), [values])}

    def _insert_new(self, handled: Sequence[Handled]) -> dict[str, int]:
        # In one order, as locks are taken: see _known.
        ordered = sorted(handled, key=lambda one: _key(one.failure))
        rows = [coding.failure_row(one) for one in ordered]
        ids = self._ledger.kind.insert_new(self._ledger, failure, "task_id", rows)
        return {_key(one.failure): new for one, new in zip(ordered, ids, strict=True) if new is not None}

    def _advance(self, handled: Sequence[Handled]) -> None:
        if handled:
            rows = [coding.advanced_row(one) for one in handled]
            self._ledger.run(_update_known(tuple(rows[0])), rows)

    def _insert_rows(self, handled: Sequence[Handled]) -> None:
        kind = self._ledger.kind
        self._ledger.run(_INSERT_ATTEMPT, [coding.attempt_row(one) for one in handled])
        kept = [coding.envelope_row(one) for one in handled if one.failure.envelope is not None]
        self._ledger.run(_put_envelope(kind), kept)
        messages = [
            coding.message_row(one.id, message, one.decided_at or one.failure.failed_at)
            for one in handled
            for message in one.messages
            if one.id is not None
        ]
        self._ledger.run(_insert_message(kind), messages)


_UNPARK = (
    update(failure)
    .where(failure.c.id == bindparam("failure_id"), failure.c.parked)
    .values(
        parked=False,
        ordered=False,
        due_at=case(*((failure.c.state == one.value, None) for one in coding.ENDED), else_=failure.c.due_at),
        **TOUCHED,
    )
)
_INSERT_ATTEMPT = insert(attempt).inline()


@cache
def _insert_message(kind: Kind) -> Insert:
    """A message; one whose key is there already was said before."""
    return kind.adding(outbox, ["key"]).inline()


@cache
def _put_envelope(kind: Kind) -> Insert:
    """A call, in the place of the one that is there."""
    return kind.putting(envelope, ["failure_id"], lambda new: {"coding": new.coding, "body": new.body}).inline()


@cache
def _select_known(tasks: int, lock: bool) -> Executable:  # noqa: FBT001  # a key of the cache
    """The rows of so many tasks."""
    query = select(failure).where(failure.c.task_id.in_([bindparam(f"task_{one}") for one in range(tasks)]))
    # Locked in one order always, or two batches could wait for each other for ever.
    return query.order_by(failure.c.id).with_for_update() if lock else query


@cache
def _select_seen(keys: int) -> Executable:
    """Those of so many keys that are known."""
    return select(attempt.c.key).where(attempt.c.key.in_([bindparam(f"key_{one}") for one in range(keys)]))


@cache
def _update_known(names: tuple[str, ...]) -> Executable:
    """Move a failure on; `failure_id` says which."""
    columns: dict[str, Any] = {name: bindparam(name) for name in names if name != "failure_id"}
    return update(failure).where(failure.c.id == bindparam("failure_id")).values(columns | TOUCHED)


def _key(one: Failure) -> str:
    """The task id as the ledger keeps it."""
    return folded(one.task_id, TASK_ID_LIMIT)


def history_of(row: Row[Any]) -> History:
    """Where a failure stands, from its row."""
    state = State(row.state)
    return History(
        row.id,
        state,
        row.attempts,
        row.parked,
        row.token,
        row.first_failed_at,
        row.last_failed_at,
        row.deaths,
        row.deaths_since,
    )


def insert_messages(connection: Connection, kind: Kind, rows: Sequence[dict[str, object]]) -> None:
    """Put messages into the outbox; one whose key is there already was said before."""
    if rows:
        connection.execute(_insert_message(kind), rows)


def insert_notes(connection: Connection, failures: Iterable[int], at: datetime, deed: Deed, **more: str) -> None:
    """Write down what happened to these failures."""
    rows = [{"failure_id": one, "at": at, "deed": deed, "by": "", "detail": "", **more} for one in failures]
    if rows:
        connection.execute(insert(note), rows)
