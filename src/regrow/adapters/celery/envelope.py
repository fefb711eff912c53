"""A task's call as JSON text: kept when the task fails, sent again later exactly as it was."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeGuard

from celery import Task
from celery.app.task import Context
from kombu.utils.json import dumps as _dumps
from kombu.utils.json import loads as _loads

from regrow.errors import DispatchError
from regrow.model import Due, Header

#: Message header under which a re-sent task says that it is one of ours.
HEADER = "regrow"

#: What a broker adds on delivery and no sender may set.
_DELIVERY_ONLY = ("redelivered", "consumer_tag", "delivery_tag")

#: What a message says of its arguments, for those that show it.
_DESCRIPTIONS = ("argsrepr", "kwargsrepr")

#: The key under which kombu writes what JSON does not know.
OBJECT = '"__type__"'

_PLAIN = frozenset({int, float, bool, type(None)})
_SURROGATE = re.compile(r"[\ud800-\udfff]")

#: Options by which a task reports its end to others. A task that Celery has already failed has reported that.
_REPORTS = ("chord", "link_error")


def keep(
    task: Task, request: Context, *, limit: int, call: tuple[Any, Any] | None = None, expires: object = None
) -> str | None:
    """The call that is running now, as JSON text.

    Args:
        task: The running task.
        request: Its request.
        limit: Largest size that is kept, in bytes.
        call: Its arguments as they came; without them those of the request.
        expires: The task's own expiry. A retry's message does not carry it, but the next decision needs it.

    Returns:
        None if JSON would change the arguments, or if the text would pass the limit.
    """
    args, kwargs = call or (request.args, request.kwargs)
    signature = task.signature_from_request(request, args, kwargs, countdown=0, retries=request.retries or 0)
    options = {name: value for name, value in signature.options.items() if name not in _DELIVERY_ONLY}
    for name in _DESCRIPTIONS:  # a caller may have given them so that no secret shows
        said = getattr(request, name, None)
        if said is not None:
            options[name] = said
    if expires:
        options["expires"] = expires.isoformat() if isinstance(expires, datetime) else expires
    try:
        text: str = _dumps({**signature, "options": options})
    except (TypeError, ValueError, RecursionError):
        return None
    if len(text) > limit:  # JSON text is ASCII: characters are bytes
        return None
    # Whatever the task's own serializer is: the sender of this message may have chosen another one.
    if _certain([*signature.args, signature.kwargs, *options.values()]):
        return text
    read = _loads(text)
    sent, sent_read = [list(signature.args), signature.kwargs], [read["args"], read["kwargs"]]
    kept = _same(sent, sent_read, exact=True) and _same(options, read["options"], exact=False)
    return text if kept else None


def _certain(value: Any) -> bool:
    """True if JSON is certain to keep a value, so that nobody needs to read it back; most calls are so plain."""
    kind = type(value)
    if kind is str:
        # Of two lone surrogates JSON makes one character.
        return value.isascii() or not _SURROGATE.search(value)
    if kind is dict:
        # kombu writes what JSON does not know as a dict with such a key.
        return (
            "__type__" not in value
            and all(type(key) is str and key.isascii() for key in value)
            and _certain([*value.values()])
        )
    if kind is list:
        return all(map(_certain, value))
    return kind in _PLAIN


def _same(kept: Any, read: Any, *, exact: bool) -> bool:
    """True if JSON kept what other serializers (pickle, msgpack, yaml) keep, such as keys that are no text, and tuples.

    In the options tuples may become lists: they hold the steps of a chain, and Celery does not mind.
    """
    if isinstance(kept, dict):
        return (
            isinstance(read, dict)
            and kept.keys() == read.keys()
            and all(_same(kept[key], read[key], exact=exact) for key in kept)
        )
    if isinstance(kept, list) or (isinstance(kept, tuple) and not exact):
        return (
            isinstance(read, list)
            and len(kept) == len(read)
            and all(_same(one, other, exact=exact) for one, other in zip(kept, read, strict=True))
        )
    if exact and type(kept) is not type(read):
        return False
    return bool(kept == read or kept != kept)  # noqa: PLR0124  # NaN stays NaN


def unpack(due: Due) -> tuple[dict[str, Any], str]:
    """The kept call, a signature as a dict, and the task's own expiry, '' if it has none.

    The expiry is no option of the call any longer: the decision to retry has looked at it, and a full queue must not
    revoke a parked task.

    Raises:
        DispatchError: Its call was not kept.
    """
    if due.envelope is None:
        raise DispatchError("its call was not kept", permanent=True)
    call: dict[str, Any] = _loads(due.envelope) if OBJECT in due.envelope else json.loads(due.envelope)
    options: dict[str, Any] = call["options"]
    expires = str(options.get("expires") or "")
    options["expires"] = None
    if not due.parked:
        for name in _REPORTS:
            options.pop(name, None)
    return call, expires


def stamped(headers: Mapping[str, Any] | None, header: Header) -> dict[str, Any]:
    """The message headers of a re-sent call: its own, and ours."""
    ours: dict[str, Any] = {"failure": header.failure, "attempt": header.attempt, "token": header.token}
    if header.close:
        ours |= {"close": True, "error": header.error}
    if header.expires:
        ours |= {"expires": header.expires}
    return {**(headers or {}), HEADER: ours}


def read_header(request: Context) -> Header | None:
    """Our header on a running task, None if the message is not one of ours or its header is damaged."""
    raw = request.headers.get(HEADER) if isinstance(request.headers, Mapping) else None
    if not isinstance(raw, dict):
        return None
    failure, attempt, token = raw.get("failure"), raw.get("attempt"), raw.get("token")
    if not (_counts(failure) and _counts(attempt) and isinstance(token, str)):
        return None
    return Header(
        failure,
        attempt,
        token,
        close=raw.get("close") is True,
        error=str(raw.get("error") or ""),
        expires=str(raw.get("expires") or ""),
    )


def _counts(value: object) -> TypeGuard[int]:
    """True for a whole number that fits a column of the ledger."""
    return type(value) is int and 0 < value < 2**63


def context(due: Due) -> Context:
    """The request of a kept call, for ending a task from outside a worker."""
    call = _loads(due.envelope or "{}")
    options: dict[str, Any] = call.get("options", {})
    names = ("root_id", "parent_id", "group_index", "chord", "chain", "reply_to", "ignore_result")
    return Context(
        id=due.task_id,
        task=due.task_name,
        args=call.get("args"),
        kwargs=call.get("kwargs"),
        group=options.get("group_id"),
        callbacks=options.get("link"),
        errbacks=options.get("link_error"),
        correlation_id=due.task_id,
        delivery_info={},
        **{name: options.get(name) for name in names},
    )
