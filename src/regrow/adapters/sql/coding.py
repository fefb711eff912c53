"""Values to rows of the ledger and back."""

from __future__ import annotations

import json
import zlib
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row

from regrow import decide
from regrow.model import Action, Audience, Due, Handled, Message, State, Verdict

#: A signature with a chain of 200 steps is 42 kB, 5 kB compressed; a plain one is 0.8 kB (measured).
COMPRESS_ABOVE_BYTES = 4096


#: In `started_retries` of a claimed row: an earlier sending of the attempt began, and its silence is counted already.
STARTED_BEFORE = -1

#: Nothing of Regrow's own is left to do, except that Celery may still wait for the end.
ENDED = (State.HANDED_OVER, State.EXHAUSTED, State.DISMISSED)

#: In `project_at`: it has changed, and nobody has tried to project that yet.
AT_ONCE = datetime(1970, 1, 1, tzinfo=UTC)

_text = json.JSONEncoder(ensure_ascii=False).encode


def failure_row(one: Handled) -> dict[str, object]:
    """The row of a task that fails for the first time."""
    return {
        "task_id": one.failure.task_id,
        "task_name": one.failure.task_name,
        "first_failed_at": one.failure.failed_at,
        "idempotent": one.failure.options.idempotent,
        "queue": one.failure.queue,
        "user_id": one.failure.user_id,
        "scanned": one.failure.scanned,
        "revision": 1,
        "project_at": AT_ONCE,
        **_progress(one),
    }


def advanced_row(one: Handled) -> dict[str, object]:
    """What changes in the row of a task that has failed before; `failure_id` says which."""
    return {"failure_id": one.id, **_progress(one)}


def _progress(one: Handled) -> dict[str, object]:
    failure, decision = one.failure, one.decision
    state = decision.action.state
    open_task = failure.parked or (one.history.parked and not failure.ended)
    waits = state is State.SCHEDULED or (open_task and state in (State.HANDED_OVER, State.EXHAUSTED))
    deaths, since = decide.deaths(failure, one.history)
    return {
        "state": state,
        "category": one.verdict.category.key,
        "reason": decision.reason,
        "fingerprint": failure.fingerprint,
        "attempts": one.attempt,
        "rescues": 0,
        "deaths": deaths,
        "deaths_since": since,
        # A parked task that is over stays marked until Celery has ended it (`Store.closed`).
        "parked": decision.park or (open_task and waits and state is not State.SCHEDULED),
        "due_at": decision.due_at if waits else None,
        "token": None,
        "manual": False,
        "started_retries": None,
        "ordered": False,
        "last_failed_at": failure.failed_at,
        "ended_at": None if state.live or state is State.HELD else failure.failed_at,
    }


def attempt_row(one: Handled) -> dict[str, object]:
    """The row of one failed run."""
    outer = one.failure.causes[0]
    return {
        "failure_id": one.id,
        "number": one.attempt,
        "failed_at": one.failure.failed_at,
        "exception_type": outer.type,
        "message": outer.message,
        "traceback": one.failure.traceback,
        "error": one.failure.error,
        "worker": one.failure.worker,
        "category": one.verdict.category.key,
        "confidence": one.verdict.confidence,
        "rule": one.verdict.rule,
        "verdict": verdict_text(one.verdict),
        "action": one.decision.action,
        "reason": one.decision.reason,
        "retry_at": one.decision.due_at if one.decision.action is Action.RETRY else None,
        "decided_at": one.decided_at or one.failure.failed_at,
        "told": one.told,
        "trouble": one.trouble,
        "key": one.failure.key or None,
    }


def verdict_text(verdict: Verdict) -> str:
    """A verdict as JSON text."""
    evidence = [_fields(one) for one in verdict.runners_up]
    return _text({**_fields(verdict), "category": verdict.category.key, "runners_up": evidence})


def envelope_row(one: Handled) -> dict[str, object]:
    """The row that keeps the call."""
    kind, body = packed(one.failure.envelope or "")
    return {"failure_id": one.id, "coding": kind, "body": body}


def packed(text: str) -> tuple[str, bytes]:
    """Text as it is kept, and how it is coded."""
    body = text.encode("utf-8", "surrogatepass")
    return ("json+zlib", zlib.compress(body)) if len(body) > COMPRESS_ABOVE_BYTES else ("json", body)


def unpacked(coding: str, body: bytes) -> str:
    """Text from what is kept of it."""
    return (zlib.decompress(body) if coding == "json+zlib" else body).decode("utf-8", "surrogatepass")


def message_row(failure: int | None, message: Message, now: datetime) -> dict[str, object]:
    """The row of a message that is due at once."""
    return {
        "failure_id": failure,
        "key": message.key,
        "audience": message.audience,
        "message": _text(_fields(message)),
        "created_at": now,
        "due_at": now,
        "tries": 0,
        "last_error": "",
    }


def _fields(one: Any) -> dict[str, Any]:
    """A flat dataclass with slots as a dict; `asdict` would copy what nobody changes, which takes ten times as long."""
    return {name: getattr(one, name) for name in one.__slots__}


def message(text: str) -> Message:
    """A message from its row's text."""
    fields: dict[str, Any] = json.loads(text)
    # A newer version may know more of a message than this one.
    known = {name: value for name, value in fields.items() if name in Message.__slots__}
    return Message(**{**known, "audience": Audience(fields["audience"])})


def due(row: Row[Any], token: str, now: datetime) -> Due:
    """A claimed failure from its row as it was before the claim; its counts include the silence found now."""
    silent = row.state == State.DISPATCHED
    started = silent and row.started_retries is not None
    recent = row.deaths_since is not None and row.deaths_since > now - decide.DEATH_WINDOW
    return Due(
        failure=row.id,
        task_id=row.task_id,
        task_name=row.task_name,
        category=row.category,
        state=State(row.state),
        attempts=row.attempts,
        token=token,
        parked=row.parked,
        started=started,
        rescues=row.rescues + (silent and not started),
        deaths=(row.deaths if recent else 0) + (started and row.started_retries != STARTED_BEFORE),
        idempotent=row.idempotent,
        envelope=None if row.body is None else unpacked(row.coding, row.body),
        error=row.error or "{}",
        closing=row.ordered,
        fingerprint=row.fingerprint,
    )
