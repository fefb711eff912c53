"""Text that others wrote, made safe to print: a task's name must not steer the reader's terminal."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from regrow.model import Label, Member, Record, Verdict

#: Control characters (not tab and newline), marks that turn the direction of writing, line separators, and
#: lone surrogates, which no encoding takes.
#: Source: Unicode 15.1 sections 23.1 and 23.2; Trojan Source (CVE-2021-42574).
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def plain(text: str) -> str:
    r"""`text` with all that a terminal would obey written out, e.g. `\x1b`; newlines and tabs stay."""
    return _UNSAFE.sub(_written_out, text.replace("\r\n", "\n"))


def one_line(text: str, limit: int = 300) -> str:
    """The first `limit` characters of `text` on a single line."""
    line = " ".join(plain(text[: 4 * limit]).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def to_json(value: object, *, indent: int | None = None) -> str:
    """`value` as JSON that is readable, that every parser takes, and that no terminal obeys."""
    text = json.dumps(value, ensure_ascii=not _speaks_unicode(), indent=indent, default=_instant)
    return _escaped(text)


def json_line() -> Callable[[object], str]:
    """`to_json` for many values: what it needs to know is asked once."""
    encode = json.JSONEncoder(ensure_ascii=not _speaks_unicode(), default=_instant).encode
    return lambda value: _escaped(encode(value))


def _escaped(text: str) -> str:
    # What is unsafe stands inside strings only, where JSON knows this way of writing it.
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def record_json(record: Record, *, history: bool) -> dict[str, Any]:
    """One failed task for programs; times are in UTC."""
    fields = asdict(record)
    attempts = fields.pop("history")
    if history:
        fields["history"] = [{**run, "verdict": _parsed(run["verdict"])} for run in attempts]
    return fields


def member_json(member: Member, *, alive: bool) -> dict[str, Any]:
    """A process that gives signs of life for programs."""
    names = ("kind", "name", "pid", "seen_at", "queues", "skew_seconds", "spooled_bytes")
    return {"alive": alive, **{name: getattr(member, name) for name in names}}


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    """A verdict for programs, in the form in which the ledger keeps it."""
    retry = verdict.category.retry and not verdict.caution
    return {**asdict(verdict), "category": verdict.category.key, "retry": retry}


def label_json(label: Label | None) -> dict[str, Any]:
    """What an operator has said of a failure's group; nothing if nobody has."""
    return {} if label is None else {"label": asdict(label)}


def _written_out(match: re.Match[str]) -> str:
    if match[0].isascii():
        return f"\\x{ord(match[0]):02x}"
    return match[0].encode("ascii", "backslashreplace").decode()


def _speaks_unicode() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf")


def _instant(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _parsed(verdict: str) -> object:
    try:
        return json.loads(verdict)
    except ValueError:  # written by another version: show what is there
        return verdict
