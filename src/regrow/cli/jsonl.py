"""`regrow classify --jsonl`: many failures in, one verdict a line out. One bad line stops nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from regrow.capture import causes_from_text
from regrow.cli.text import json_line, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from regrow.model import Cause, Verdict

_TEXT_FIELDS = ("exception_type", "message", "traceback")


def classify_lines(
    lines: Iterable[bytes], classify: Callable[[Sequence[Cause]], Verdict], out: TextIO, complaints: TextIO
) -> bool:
    """Classify a JSON object a line: `id`, `exception_type`, `message`, `traceback`. Empty lines are skipped.

    Returns:
        False if some line could not be read; its answer says why, and `complaints` gets its number.
    """
    clean = True
    encode = json_line()
    for number, raw in enumerate(lines, 1):
        line = raw.decode("utf-8", errors="replace").removeprefix("\ufeff").strip()
        if not line:
            continue
        fields: dict[str, Any] = {}
        try:
            fields = _object(line)
            answer = _answer(fields, classify)
        except (ValueError, RecursionError) as error:
            clean = False
            problem = "nested too deeply" if isinstance(error, RecursionError) else str(error)
            print(plain(f"regrow: line {number}: {problem}"), file=complaints)
            answer = _refusal(problem)
        out.write(encode({"id": fields.get("id"), **answer}) + "\n")
    out.flush()
    return clean


def _object(line: str) -> dict[str, Any]:
    try:
        found = _DECODER.decode(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at character {error.pos + 1}") from None
    if not isinstance(found, dict):
        raise ValueError(f"a JSON object is needed, this is {type(found).__name__}")  # noqa: TRY004  # as bad as no JSON
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"not JSON: {name} is no JSON value")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def _answer(fields: dict[str, Any], classify: Callable[[Sequence[Cause]], Verdict]) -> dict[str, Any]:
    exception_type, message, traceback = [_text(fields.get(name)) for name in _TEXT_FIELDS]
    verdict = classify(causes_from_text(exception_type, message, traceback))
    return {
        "category": verdict.category.key,
        "confidence": verdict.confidence,
        "retry": verdict.category.retry and not verdict.caution,
        "rule": verdict.rule,
        "evidence": verdict.matched,
    }


def _text(value: object) -> str:
    """A field as text. Structured details are often logged as they are: they count as their JSON."""
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def _refusal(problem: str) -> dict[str, Any]:
    return {"category": "unknown", "confidence": 0, "retry": False, "rule": "none", "evidence": problem}
