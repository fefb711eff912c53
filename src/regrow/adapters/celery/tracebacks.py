"""A traceback as Python prints it, quicker when the same lines fail again."""

from __future__ import annotations

from itertools import pairwise
from traceback import StackSummary, TracebackException, extract_tb
from types import CodeType, TracebackType
from typing import Any

#: Frames that are remembered; more than a program has places that fail.
REMEMBERED = 2_000

#: Python folds a frame that repeats itself more often than this.
_REPEATED = 3

# A frame's lines depend on nothing but its place in the code. To find its source, and the columns to underline, takes
# most of the time of a traceback.
_lines: dict[tuple[CodeType, int], str] = {}


def text_of(error: BaseException) -> str:
    """What `traceback.format_exception` says, in one text."""
    # Python makes everything but the frames: causes, groups, notes, suggestions.
    whole = TracebackException(type(error), error, error.__traceback__, limit=0, compact=True)
    waiting: list[tuple[TracebackException, BaseException]] = [(whole, error)]
    while waiting:
        made, one = waiting.pop()
        made.stack = _Stack(_frames(one.__traceback__))  # type: ignore[arg-type]  # text, not frames
        pairs = [(made.__cause__, one.__cause__), (made.__context__, one.__context__)]
        if made.exceptions and isinstance(one, BaseExceptionGroup):
            pairs += zip(made.exceptions, one.exceptions, strict=True)
        waiting += [(inside, behind) for inside, behind in pairs if inside is not None and behind is not None]
    return "".join(whole.format())


class _Stack(StackSummary):
    """Frames that are text already."""

    def format(self, **_: Any) -> list[str]:
        """The frames' lines."""
        return [str(lines) for lines in self]


def _frames(trace: TracebackType | None) -> list[str]:
    """The lines of each frame, outermost first."""
    places: list[TracebackType] = []
    while trace is not None:
        places.append(trace)
        trace = trace.tb_next
    if not places or _folded(places):
        return extract_tb(places[0] if places else None).format()
    return [_lines_of(place) for place in places]


def _folded(places: list[TracebackType]) -> bool:
    """True if Python may fold some of these frames into one line."""
    run = 0
    for one, after in pairwise(places):
        run = run + 1 if one.tb_lineno == after.tb_lineno and one.tb_frame.f_code is after.tb_frame.f_code else 0
        if run >= _REPEATED:
            return True
    return False


def _lines_of(place: TracebackType) -> str:
    key = place.tb_frame.f_code, place.tb_lasti
    lines = _lines.get(key)
    if lines is None:
        if len(_lines) >= REMEMBERED:
            _lines.clear()
        lines = _lines[key] = "".join(extract_tb(place, limit=1).format())
    return lines
