"""The ledger's journal of what operators have taught, and what a rule is tried on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, and_, func, insert, or_, select, update

from regrow.adapters.sql.part import Part
from regrow.adapters.sql.tables import attempt, envelope, failure, lesson
from regrow.adapters.sql.transaction import TOUCHED, insert_notes
from regrow.model import Deed, Group, Lesson, OwnRule, Sample, State, Teaching

#: Nobody but a person sends these again, and no person has said to leave them.
_RESTING = (State.HELD, State.HANDED_OVER, State.EXHAUSTED)

#: What a rule is, beside its id and where it stands.
_RULE_FIELDS = ("category", "patterns", "must_match", "must_not_match", "author", "note")


class LessonOrders(Part):
    """The part of the ledger (`ports.Store`) that keeps what operators teach."""

    def lessons(self, after: int) -> list[Lesson]:
        """What operators have taught since this line of the journal."""
        with self._database.read(single=True) as connection:
            rows = connection.execute(select(lesson).where(lesson.c.id > after).order_by(lesson.c.id)).all()
        # A newer version may teach what this one does not understand.
        return [_lesson(row) for row in rows if row.kind in set(Teaching)]

    def teach(self, lessons: Sequence[Lesson], *, last: int, failure: int | None = None) -> bool:
        """Write lessons into the journal, if its last line is still `last`."""
        with self._database.write(durable=True) as connection:
            # One writer at a time: whoever has read a line must never meet a smaller number later.
            self._kind.lock_journal(connection)
            if (connection.execute(select(func.max(lesson.c.id))).scalar() or 0) != last:
                return False
            for one in lessons:
                connection.execute(insert(lesson).values(**_row(one)))
                if failure is not None and one.kind in (Teaching.LABEL, Teaching.UNLABEL):
                    _confirm(connection, failure, one)
        return True


class LessonReads(Part):
    """The part of the ledger (`ports.Ledger`) that a rule is tried on."""

    def group(self, fingerprint: str, *, limit: int) -> Group:
        """The failures of a fingerprint."""
        mine = failure.c.fingerprint == fingerprint
        kept = select(envelope.c.failure_id).where(envelope.c.failure_id == failure.c.id).exists()
        resting = select(failure.c.id).where(mine, failure.c.state.in_(_RESTING), kept)
        waiting = select(failure.c.id).where(mine, failure.c.state == State.SCHEDULED)
        counts = select(failure.c.state, func.count()).where(mine).group_by(failure.c.state)
        with self._database.read() as connection:

            def newest(query: Select[int]) -> tuple[int, ...]:
                rows = connection.execute(query.order_by(failure.c.id.desc()).limit(limit))
                return tuple(int(row[0]) for row in rows)

            return Group(
                fingerprint,
                by_state={str(state): int(count) for state, count in connection.execute(counts)},
                resting=newest(resting),
                scheduled=newest(waiting),
                latest=connection.execute(select(func.max(failure.c.id)).where(mine)).scalar(),
            )

    def samples(
        self, since: datetime, until: datetime, *, before: tuple[datetime, int] | None, limit: int
    ) -> list[Sample]:
        """The tasks that failed in this time, latest first."""
        query = (
            select(failure, attempt.c.exception_type, attempt.c.message, attempt.c.traceback, attempt.c.verdict)
            .add_columns(attempt.c.rule)
            .join(attempt, and_(attempt.c.failure_id == failure.c.id, attempt.c.number == failure.c.attempts))
            .where(failure.c.last_failed_at >= since, failure.c.last_failed_at <= until)
            .order_by(failure.c.last_failed_at.desc(), failure.c.id.desc())
            .limit(limit)
        )
        if before is not None:
            at, number = before
            same = and_(failure.c.last_failed_at == at, failure.c.id < number)
            # The first condition alone is what the index can use.
            query = query.where(failure.c.last_failed_at <= at, or_(failure.c.last_failed_at < at, same))
        with self._database.read() as connection:
            return [_sample(row) for row in connection.execute(query)]

    def decided(self, rules: Sequence[str], since: datetime) -> dict[str, int]:
        """How many failed runs each of these rules has decided since then."""
        query = (
            select(attempt.c.rule, func.count())
            .join(failure, failure.c.id == attempt.c.failure_id)
            .where(failure.c.last_failed_at >= since, attempt.c.failed_at >= since, attempt.c.rule.in_(rules))
            .group_by(attempt.c.rule)
        )
        with self._database.read() as connection:
            return {str(rule): int(count) for rule, count in connection.execute(query)}


def _confirm(connection: Any, one: int, said: Lesson) -> None:
    category = said.category if said.kind is Teaching.LABEL else ""
    changed = connection.execute(
        update(failure).where(failure.c.id == one).values(confirmed=category, **TOUCHED)
    ).rowcount
    insert_notes(connection, [one] * changed, said.at, Deed.CONFIRMED, by=said.by, detail=category)


def _row(one: Lesson) -> dict[str, object]:
    body: dict[str, Any] = {"because": one.because, "text": one.text, "proposal": one.proposal}
    if one.rule is not None:
        body["rule"] = {name: getattr(one.rule, name) for name in _RULE_FIELDS}
    return {
        "at": one.at,
        "by": one.by,
        "kind": one.kind,
        "subject": one.subject,
        "category": one.category,
        "body": json.dumps({key: value for key, value in body.items() if value}, ensure_ascii=False),
    }


def _lesson(row: Row[Any]) -> Lesson:
    body: dict[str, Any] = json.loads(row.body)
    rule = None
    if "rule" in body:
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in body["rule"].items()
            if name in _RULE_FIELDS  # a newer version may know more of a rule than this one
        }
        rule = OwnRule(row.subject, **values)
    return Lesson(
        kind=Teaching(row.kind),
        subject=row.subject,
        by=row.by,
        at=row.at,
        category=row.category,
        because=body.get("because", ""),
        text=body.get("text", ""),
        rule=rule,
        proposal=body.get("proposal", ""),
        id=row.id,
    )


def _sample(row: Row[Any]) -> Sample:
    try:
        verdict = json.loads(row.verdict)
        layer, caution = str(verdict.get("layer", "")), str(verdict.get("caution", ""))
    except (ValueError, AttributeError):  # written by another version
        layer, caution = "", ""
    return Sample(
        id=row.id,
        task_name=row.task_name,
        last_failed_at=row.last_failed_at,
        fingerprint=row.fingerprint,
        exception_type=row.exception_type,
        message=row.message,
        traceback=row.traceback,
        category=row.category,
        layer=layer,
        rule=row.rule,
        caution=caution,
    )
