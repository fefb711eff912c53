"""What was done about failed tasks (G11)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from regrow.model import BUSINESS, Action, AttemptRecord, Audience, Reason, Record, State
from regrow.ports import Words

#: Decisions after which nobody is told on purpose.
QUIET = (Reason.EXPECTED, Reason.OBSERVING)

#: States in which a failure waits for a person.
WITH_A_PERSON = (State.HELD, State.HANDED_OVER, State.EXHAUSTED)


def processing(
    records: Sequence[Record],
    *,
    ids: Mapping[str, Any],
    errors: Sequence[str],
    settings: Mapping[str, Any],
    now: datetime,
    retry_text: Callable[[float], str],
    explain: Callable[[str], str],
    _: Words,
) -> dict[str, Any]:
    """The report on failures that were handled: one result for each, which is what its last failed run led to.

    A result's `success` is false if the failure is in nobody's hands: no retry, and nobody was told who should be.

    Args:
        records: The failures, with their history.
        ids: What the application calls its tasks, by Celery's id; those that are missing keep Celery's.
        errors: What went wrong while failures were looked for or people were told.
        settings: The switches in force.
        now: The moment of the report, aware, in the reader's time zone.
        retry_text: Says that a retry follows after so many seconds.
        explain: Says what a `Reason` means.
    """
    results = [_result(record, ids, now, retry_text, explain, _) for record in records]
    return {
        "success": True,
        "message": _("Failed tasks processed"),
        "total_processed": len(results),
        "stats": {
            "scanned": len(results),
            "analyzed": len(results),
            "recovered": sum(result["action_taken"] == "auto_recovery" for result in results),
            "notified": sum(bool(record.history[-1].told) for record in records),
            "errors": [*errors, *_troubles(records, _)],
        },
        "results": results,
        "processed_at": _local(now, now),
        "settings": dict(settings),
    }


def _result(
    record: Record,
    ids: Mapping[str, Any],
    now: datetime,
    retry_text: Callable[[float], str],
    explain: Callable[[str], str],
    _: Words,
) -> dict[str, Any]:
    last = record.history[-1]
    result: dict[str, Any] = {
        "task_id": ids.get(record.task_id, record.task_id),
        "category": last.category,
        "action_taken": _action_taken(last),
        "success": _in_hands(record, last),
        "message": _message(record, last, retry_text, explain, _),
    }
    if last.action == Action.RETRY and last.retry_at is not None:
        result["retry_delay"] = _delay_seconds(last, last.retry_at)
        result["retry_at"] = _local(last.retry_at, now)
    if _needs_administrator(record, last):
        result["priority"] = "high"
    return result | {"task_type": record.task_type, "celery_task_id": record.task_id}


def _action_taken(last: AttemptRecord) -> str:
    if last.reason in QUIET:
        return "none"
    if last.action == Action.HAND_OVER:
        notified: dict[str, str] = {Audience.ADMINISTRATOR: "notify_admin", Audience.USER: "notify_user"}
        return notified.get(last.told, "none")
    taken: dict[str, str] = {Action.RETRY: "auto_recovery", Action.HOLD: "held", Action.GIVE_UP: "exhausted"}
    return taken.get(last.action, last.action)


def _in_hands(record: Record, last: AttemptRecord) -> bool:
    settled = record.state in (State.RECOVERED, State.DISMISSED) or last.reason == Reason.EXPECTED
    return settled or last.action == Action.RETRY or bool(last.told)


def _needs_administrator(record: Record, last: AttemptRecord) -> bool:
    if record.state not in WITH_A_PERSON or record.reason in QUIET:
        return False
    # With messages switched off nobody was told, but whose business it is does not change.
    users = last.told == Audience.USER or (not last.told and last.category == BUSINESS.key and bool(record.user_id))
    return not (users and last.action == Action.HAND_OVER)


def _message(
    record: Record,
    last: AttemptRecord,
    retry_text: Callable[[float], str],
    explain: Callable[[str], str],
    _: Words,
) -> str:
    """What was done and where it stands now, which may be further than the last decision."""
    if record.state is State.RECOVERED:
        return _("The task was run again and has succeeded.")
    if record.state is State.DISPATCHED:
        return _("A retry was sent; its result is awaited.")
    if last.action == Action.RETRY and record.state is State.SCHEDULED and last.retry_at is not None:
        return retry_text(_delay_seconds(last, last.retry_at))
    why = explain(record.reason)
    if record.reason != last.reason or last.reason in QUIET:
        return why
    told: dict[str, str] = {
        Audience.ADMINISTRATOR: _("{why} The administrator was told."),
        Audience.USER: _("{why} The user was told."),
    }
    return told.get(last.told, _("{why} Nobody was told.")).format(why=why)


def _delay_seconds(attempt: AttemptRecord, retry_at: datetime) -> float:
    """The wait that was decided, without the moment that the decision itself took."""
    # What a scan finds may have failed hours before anything was decided.
    decided_at = attempt.decided_at or attempt.failed_at
    seconds = max(0.0, (retry_at - decided_at).total_seconds())
    rounded = round(seconds, 1 if seconds < 10 else 0)  # noqa: PLR2004  # a tenth matters only in a short wait
    return int(rounded) if rounded.is_integer() else rounded


def _troubles(records: Iterable[Record], _: Words) -> list[str]:
    """What went wrong in plug-ins: each trouble once, with the task that had it, or how many had."""
    tasks: dict[str, list[str]] = {}
    for record in records:
        for trouble in {attempt.trouble: None for attempt in record.history if attempt.trouble}:
            tasks.setdefault(trouble, []).append(record.task_id)
    return [
        _("{trouble} (task {task_id})").format(trouble=trouble, task_id=ids[0])
        if len(ids) == 1
        else _("{trouble} ({n} tasks)").format(trouble=trouble, n=len(ids))
        for trouble, ids in tasks.items()
    ]


def _local(moment: datetime, now: datetime) -> str:
    """An instant in the time zone of `now`, as the guide writes it: 2023-12-01T14:00:00."""
    return moment.astimezone(now.tzinfo).replace(tzinfo=None).isoformat(timespec="seconds")
