"""From a message that no worker could run to a `Failure`: its task is unknown, or nobody can read it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any
from uuid import uuid4

from celery import Celery
from celery.app.task import Context

from regrow import capture
from regrow.adapters.celery import envelope
from regrow.adapters.celery.facts import USER_HEADER, Terms
from regrow.capture.clean import clean
from regrow.model import Failure, Reason

#: Name of a task of which nothing is known.
NAMELESS = "(no task)"

#: How much of a body is shown, in characters.
SHOWN = 500


def failure(message: Any, error: Exception, *, now: datetime, terms: Terms, app: Celery | None = None) -> Failure:
    """What is known of a message that was thrown away.

    Args:
        message: The broker's message.
        error: Why it could not be run.
        now: When it came.
        terms: What is kept of it.
        app: The application, if the call itself can be read and only the task is unknown: then it is kept, for a
            worker that knows the task.
    """
    headers = message.headers if isinstance(message.headers, Mapping) else {}
    task_id, name = headers.get("id"), headers.get("task")
    if not isinstance(task_id, str) or not task_id:  # an older protocol has them in the body
        body = _payload(message)
        task_id, name = (body.get("id"), body.get("task")) if isinstance(body, Mapping) else (None, name)
    causes = terms.redact.causes(capture.causes_from_exception(error))
    # Two messages with the same bytes are one and the same fault.
    task_id = task_id if isinstance(task_id, str) and task_id else f"message-{_digest(message)}"
    name = name if isinstance(name, str) and name else NAMELESS
    call = _call(message, headers, name, app, terms.limit_bytes) if app is not None else None
    return Failure(
        task_id=task_id,
        task_name=name,
        failed_at=now,
        causes=causes,
        traceback=terms.redact.text(_shown(message, headers)),
        fingerprint=capture.fingerprint(causes, ""),
        queue=str((message.delivery_info or {}).get("routing_key") or ""),
        envelope=call,
        key=uuid4().hex,
        user_id=str(headers.get(USER_HEADER) or ""),
        final=Reason.NOT_RUN,
        ended=True,
    )


def _payload(message: Any) -> Any:
    try:
        return message.payload
    except Exception:  # what cannot be decoded raises anything
        return None


def _digest(message: Any) -> str:
    body = message.body
    return sha256(body if isinstance(body, bytes) else str(body).encode("utf-8", "replace")).hexdigest()[:32]


def _shown(message: Any, headers: Mapping[str, Any]) -> str:
    """What an administrator wants to see of it, in place of a traceback."""
    # What the sender has put into words; the body itself only if there are none.
    call = f"args {headers['argsrepr']}, kwargs {headers.get('kwargsrepr')}" if "argsrepr" in headers else ""
    body = call or repr(message.body[:SHOWN] if isinstance(message.body, bytes | str) else message.body)
    origin = f"content type {message.content_type}, encoding {message.content_encoding}, from {headers.get('origin')}"
    return clean(f"{origin}\n{body}", 4 * SHOWN)


def _call(message: Any, headers: Mapping[str, Any], name: str, app: Celery, limit: int) -> str | None:
    """The call as it would be sent again, None if it cannot be read."""
    payload = _payload(message)
    match payload:
        case [list() | tuple() as args, dict() as kwargs, dict() as embed]:
            pass
        case _:
            return None
    properties = message.properties or {}
    request = Context(
        {
            **headers,
            **embed,
            "args": args,
            "kwargs": kwargs,
            "delivery_info": {
                **{key: (message.delivery_info or {}).get(key) for key in ("exchange", "routing_key")},
                "priority": properties.get("priority"),
            },
            "reply_to": properties.get("reply_to"),
            "correlation_id": properties.get("correlation_id"),
        }
    )
    unknown = type("Unknown", (app.Task,), {"name": name, "__module__": __name__})()
    return envelope.keep(unknown, request, limit=limit)
