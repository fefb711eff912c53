"""`regrow classify --jsonl`: many failures in, one verdict a line out. One bad line stops nothing."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from io import StringIO
from itertools import islice
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from regrow.capture import causes_from_text
from regrow.cli.text import json_line, plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regrow.model import Cause, Verdict

#: Lines that one process takes at a time.
PART = 2_000

_Classify = Callable[["Sequence[Cause]"], "Verdict"]
_TEXT_FIELDS = ("exception_type", "message", "traceback")


def classify_lines(
    lines: Iterable[bytes], classify: _Classify, out: TextIO, complaints: TextIO, first: int = 1
) -> bool:
    """Classify a JSON object a line: `id`, `exception_type`, `message`, `traceback`. Empty lines are skipped.

    Args:
        lines: The lines.
        classify: Gives the verdict.
        out: Gets an answer a line.
        complaints: Gets what is wrong with lines that cannot be read.
        first: Number of the first line.

    Returns:
        False if some line could not be read; its answer says why, and `complaints` gets its number.
    """
    clean = True
    encode = json_line()
    for number, raw in enumerate(lines, first):
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


def classify_together(
    lines: Iterable[bytes], classify: _Classify, out: TextIO, complaints: TextIO, processes: int
) -> bool:
    """The same by several processes at once, with the same answers in the same order; for many lines.

    Args:
        lines: The lines; those of a few parts are held in memory.
        classify: Gives the verdict; the processes are forked, so it need not be sent to them.
        out: Gets an answer a line.
        complaints: Gets what is wrong with lines that cannot be read.
        processes: How many.
    """
    waiting: deque[Future[tuple[str, str, bool]]] = deque()
    clean = True

    def take() -> bool:
        answers, wrong, good = waiting.popleft().result()
        out.write(answers)
        complaints.write(wrong)
        return good

    with ProcessPoolExecutor(processes, get_context("fork"), initializer=_begin, initargs=(classify,)) as pool:
        for number, part in enumerate(_parts(lines)):
            waiting.append(pool.submit(_part, part, number * PART + 1))
            if len(waiting) > 2 * processes:
                clean = take() and clean
        while waiting:
            clean = take() and clean
    out.flush()
    return clean


def _parts(lines: Iterable[bytes]) -> Iterator[list[bytes]]:
    left = iter(lines)
    while part := list(islice(left, PART)):
        yield part


_mine: list[_Classify] = []  # what a forked process was given


def _begin(classify: _Classify) -> None:
    _mine.append(classify)


def _part(lines: list[bytes], first: int) -> tuple[str, str, bool]:
    out, complaints = StringIO(), StringIO()
    clean = classify_lines(lines, _mine[0], out, complaints, first)
    return out.getvalue(), complaints.getvalue(), clean


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


def _answer(fields: dict[str, Any], classify: _Classify) -> dict[str, Any]:
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
