"""From a task that failed in a worker to a `Failure`."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from billiard.exceptions import WorkerLostError
from celery import Task
from celery.app.task import Context

from regrow import capture
from regrow.adapters.celery import envelope, tracebacks
from regrow.capture.clean import clean, text_of
from regrow.model import Failure, Header, TaskOptions

log = logging.getLogger("regrow")

#: Longest traceback and stored error, in characters. A deep recursion's traceback has a thousand frames.
TRACEBACK_LIMIT = 20_000
ERROR_LIMIT = 20_000

#: Message header by which the sender of a task names the end user it serves (G6).
USER_HEADER = "user_id"


@dataclass(frozen=True, slots=True)
class Terms:
    """What is kept of a failed run.

    Args:
        limit_bytes: Largest call that is kept.
        redact: What is taken out of texts; the call stays exact.
    """

    limit_bytes: int
    redact: capture.Redaction = field(default_factory=capture.Redaction)


def options(task: Task) -> TaskOptions | None:
    """What the task's owner said in `@app.task(regrow=...)`; None if Regrow is to leave the task alone.

    A wrong option is reported, and the task is then never retried: its owner meant to restrain us.
    """
    given = getattr(task, "regrow", None)
    if given is None or given is True:
        return TaskOptions()
    if given is False:
        return None
    wrong = not isinstance(given, Mapping) or not all(
        name in TaskOptions.__slots__ and isinstance(value, bool) for name, value in given.items()
    )
    if wrong:
        log.error(
            "task %s: regrow=%r is not understood; it takes False, or a dict of 'retry', 'idempotent', 'park' and "
            "'track' with True or False. Until that is mended the task is not retried.",
            task.name,
            given,
        )
        return TaskOptions(retry=False)
    return TaskOptions(**given)


def is_expected(task: Task, error: BaseException) -> bool:
    """True if the task declares this exception in `throws`, one class or several, as Celery reads it."""
    return isinstance(error, task.throws or ())


def failure(
    task: Task,
    request: Context,
    error: BaseException | None,
    wishes: TaskOptions,
    *,
    now: datetime,
    terms: Terms,
    header: Header | None = None,
    call: tuple[Any, Any] | None = None,
    trace: str = "",
) -> Failure:
    """What happened, from the running task and the exception that ended it.

    Args:
        task: The task.
        request: Its request.
        error: The exception; None if the task has only begun.
        wishes: The task owner's options.
        now: When it failed.
        terms: What is kept of it.
        header: Our header on the message, if Regrow sent it.
        call: The arguments as they came, if the task may have changed its own.
        trace: The formatted traceback, where the exception itself has lost its own.
    """
    redact = terms.redact
    causes = redact.causes(capture.causes_from_exception(error)) if error is not None else ()
    text = redact.text(shortened(trace) if trace or error is None else _traceback(error))
    headers = request.headers if isinstance(request.headers, Mapping) else {}
    expires = request.expires or (header.expires if header else "")
    return Failure(
        task_id=str(request.id),
        task_name=str(task.name),
        failed_at=now,
        causes=causes,
        traceback=text,
        attempt=header.attempt if header else 1,
        token=header.token if header else None,
        fingerprint=capture.fingerprint(causes, text) if causes else "",
        worker=str(request.hostname or ""),
        queue=str((request.delivery_info or {}).get("routing_key") or ""),
        options=wishes,
        envelope=envelope.keep(task, request, limit=terms.limit_bytes, call=call, expires=expires),
        error=redact.json(_stored(task, error)) if error is not None else "{}",
        expected=error is not None and is_expected(task, error),
        parkable=True,
        expires_at=_expiry(expires),
        user_id=str(headers.get(USER_HEADER) or ""),
    )


def cut_off(error: BaseException) -> Exception:
    """What Celery makes of an order to exit that comes out of a task."""
    lost: Exception = WorkerLostError(f"Worker exited prematurely: {text_of(error) or type(error).__name__}")
    return lost


def _traceback(error: BaseException) -> str:
    """The formatted traceback; the middle of a very long one is left out."""
    try:
        return shortened(tracebacks.text_of(error))
    except Exception as broken:  # a hostile __str__ or __cause__ must not cost the record
        return f"(the traceback cannot be formatted: {type(broken).__name__})"


def shortened(text: str) -> str:
    """A traceback without the middle, if it is a very long one."""
    text = clean(text, 50 * TRACEBACK_LIMIT)
    if len(text) <= TRACEBACK_LIMIT:
        return text
    half = TRACEBACK_LIMIT // 2
    # From the start of a line: half a line may hold a secret without its name.
    start = text.find("\n", len(text) - half - 1) + 1 or len(text) - half
    return f"{text[:half]}\n... {start - half} characters left out ...\n{text[start:]}"


def _stored(task: Task, error: BaseException) -> str:
    """The exception in Celery's JSON result form, for ending the task with it later."""
    try:
        form: dict[str, Any] = task.backend.prepare_exception(error, "json")
        text = json.dumps(form)
    except Exception:  # arguments that no result backend could keep either
        text = ""
    if not text or len(text) > ERROR_LIMIT:
        kind = type(error)
        text = json.dumps(
            {"exc_type": kind.__name__, "exc_module": kind.__module__, "exc_message": [text_of(error, 1000)]}
        )
    return text


def _expiry(expires: object) -> datetime | None:
    """The task's own expiry; Celery sends it as ISO text and hands it out as it came."""
    if isinstance(expires, str):
        try:
            expires = datetime.fromisoformat(expires)
        except ValueError:
            return None
    if not isinstance(expires, datetime):
        return None
    return expires if expires.tzinfo else expires.replace(tzinfo=UTC)
