"""What is left of an exception as text -> its chain of causes."""

from __future__ import annotations

import json
import re

from regrow.capture.clean import NAME_LIMIT, clean
from regrow.capture.codes import Code, package_of_file
from regrow.model import Cause

#: Marks a cause whose message is a JSON object of details; the cause that follows it holds what they say (G23).
JSON_DETAILS: Code = ("details", "json")

_CHAIN_LIMIT = 16
_TRACEBACK_LIMIT = 64_000
# Of a traceback that ends in no exception, so much at its end is read as text.
_LOOSE_LINES = 4
_LOOSE_LIMIT = 800

# Source: CPython Lib/traceback.py, `_cause_message` and `_context_message`.
_CHAINED = re.compile(
    r"\n?The above exception was the direct cause of the following exception:\n"
    r"|\n?During handling of the above exception, another exception occurred:\n"
)
_TYPE = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_<]\w*>?)*")
_EXCEPTION_LINE = re.compile(rf"(?P<type>{_TYPE.pattern})(?::\s?(?P<message>.*))?", re.DOTALL)
_LOOKS_LIKE_TYPE = re.compile(
    r"(?:Error|Exception|Warning|Interrupt|Exit|Timeout|Failure|Failed|Fault|Exceeded|NotFound|DoesNotExist"
    r"|Refused|Denied|Lost|Group|Registered|Violation|Unavailable|Expired|Retry|Reject|Ignore|Invalid)$"
)
# Source: java.lang.Throwable.printStackTrace.
_JAVA_CAUSE = re.compile(r"^Caused by: (?P<type>[\w.$]+)(?:: (?P<message>.*))?$", re.MULTILINE)
# Not `\s`: from each of many empty lines it would run over all the others.
_FILE_LINE = re.compile(r'^[^\S\n]*File "([^"]+)"', re.MULTILINE)


def causes_from_text(exception_type: str, message: str, traceback: str) -> tuple[Cause, ...]:
    """The chain of causes, outermost first, as far as text tells it.

    Args:
        exception_type: Class name, short or dotted, '' where unknown. A short name stays short, unless the
            traceback spells the same class in full.
        message: The exception's text, '' where unknown.
        traceback: Formatted traceback or its last lines, '' where unknown.
    """
    exception_type, message = clean(exception_type, NAME_LIMIT).strip(), clean(message).strip()
    if not traceback:
        outer = _outermost(exception_type, message, None)
        return (outer, *_inside(outer))
    traceback = clean(traceback, _TRACEBACK_LIMIT).replace("\r\n", "\n")
    # Python prints the root cause first, Java last.
    java = [Cause(match["type"], clean(match["message"] or "")) for match in _JAVA_CAUSE.finditer(traceback)]
    parts = _CHAINED.split(traceback)
    printed = [*reversed(java), *(_last_exception(part) for part in parts)]
    *inner, last = printed or [None]
    outer = _outermost(exception_type, message, last)
    chain = [outer, *_inside(outer), *(cause for cause in reversed(inner) if cause)]
    if last is None or not last.type:
        chain += _loose(traceback, outer.message)
    return tuple(chain[:_CHAIN_LIMIT])


def _loose(traceback: str, message: str) -> list[Cause]:
    """What ends a traceback that ends in no exception: log lines, as a rule."""
    lines = [line.strip() for line in traceback.strip().split("\n")[-_LOOSE_LINES:]]
    text = clean("\n".join(line for line in lines if line and not line.startswith(("File ", "at ", "^"))), _LOOSE_LIMIT)
    return [Cause("", text)] if text and text not in message else []


def details(message: str) -> Cause | None:
    """What a message says that is a JSON object with `error_type` and `error_message` (guide, best practice 2)."""
    text = message.strip()
    if not (text.startswith("{") and text.endswith("}")):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):  # plain text that looks like JSON is still plain text
        return None
    name, said = (_field(found, *keys) for keys in (("error_type", "错误类型"), ("error_message", "错误信息")))
    if not said:
        return None
    status = _field(found, "status_code", "http_status") or _field(found.get("context"), "status_code", "http_status")
    codes = (("http", status),) if re.fullmatch(r"[45]\d\d", status) else ()
    return Cause(clean(name, NAME_LIMIT), clean(said), (), codes)


def _field(found: object, *keys: str) -> str:
    for key in keys:
        value = found.get(key) if isinstance(found, dict) else None
        if isinstance(value, (str, int)) and not isinstance(value, bool):
            return str(value).strip()
    return ""


def _outermost(name: str, message: str, last: Cause | None) -> Cause:
    """The exception the caller named, with what the last line of its traceback adds."""
    codes: tuple[Code, ...] = ()
    if last is not None and (not name or last.type == name or last.type.endswith("." + name)):
        name, message, codes = last.type, message or last.message, last.codes
    elif last is not None:
        codes = last.codes
        message = message or last.message
    if not name:
        name, message = _split_type(message)
    if details(message) is not None:
        codes += (JSON_DETAILS,)
    return Cause(name, message, (), codes)


def _split_type(message: str) -> tuple[str, str]:
    """`ValueError: no` -> type and message; a sentence that merely has a colon keeps it."""
    match = _EXCEPTION_LINE.fullmatch(message)
    if match and _LOOKS_LIKE_TYPE.search(match["type"]):
        return clean(match["type"], NAME_LIMIT), (match["message"] or "").strip()
    return "", message


def _inside(outer: Cause) -> list[Cause]:
    """What the message itself quotes: JSON details, or a whole traceback (as multiprocessing prints it)."""
    inner = details(outer.message)
    if inner is not None:
        return [inner]
    if "Traceback (most recent call last):" in outer.message:
        quoted = _last_exception(outer.message)
        return [quoted] if quoted else []
    return []


def _last_exception(part: str) -> Cause | None:
    """The last exception line of one traceback, with its continuation lines and the package that raised."""
    files = [package for path in _FILE_LINE.findall(part) if (package := package_of_file(path))]
    codes = (("package", files[-1]),) if files else ()
    lines = [line.removeprefix("  | ") for line in part.strip("\n").split("\n")]
    last = max((at for at, line in enumerate(lines) if line.strip()), default=0)
    for start in _starts(lines):
        # The line alone tells; to read all that follows for each of them would take quadratic time.
        line = lines[start].lstrip()
        match = _TYPE.match(line)
        if match is None or not (_LOOKS_LIKE_TYPE.search(match[0]) or "." in match[0]):
            continue
        rest = line[match.end() :]
        if rest.startswith(":") or (start == last and not rest.strip()):
            message = "\n".join((rest[1:], *lines[start + 1 :]))
            return Cause(clean(match[0], NAME_LIMIT), clean(message.strip()), (), codes)
    return Cause("", "", (), codes) if codes else None


def _starts(lines: list[str]) -> list[int]:
    """Line numbers where the exception's own text may begin: at the margin, after the last frame; in order."""
    frames = [i for i, line in enumerate(lines) if line.lstrip().startswith("File ") or line.startswith("    ")]
    first = frames[-1] + 1 if frames else 0
    return [i for i in range(first, len(lines)) if lines[i][:1] not in (" ", "\t", "")]
