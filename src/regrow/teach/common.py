"""What error messages have in common: the longest sequence of words that stands in all of them, with gaps."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from regrow.model import Label

#: Operators' words that must agree before a rule is proposed.
NEEDED = 3

#: Words of a message that are looked at: what follows varies by what was in it.
_WORDS_LIMIT = 60
#: Labels that are compared with a new one: the latest.
_LABELS_LIMIT = 60
_PARTNERS_LIMIT = 8

# A word, or one Chinese character (CJK Unified Ideographs).
_TOKEN = re.compile(r"[A-Za-z][A-Za-z0-9_]*|[\u4e00-\u9fff]")
# What `capture.fingerprint.parameterise` puts in place of what varies.
_VARIES = re.compile(r"<[a-z]+>")

#: A word counts 2, a Chinese character 1; so much must be common. Two words, or four characters.
_ENOUGH = 4
_SHORTEST_WORD = 3
_SHORTEST_RUN = 2

# Words that stand in any error message, so that having them in common says nothing.
_STOP = frozenset(
    """
    a an and are as at be been but by can cannot could did do does error errors exception fail failed failure for
    from get got had has have if in into invalid is it its may new no not null none of off on or our out over
    please raised received request response return returned run so some such task than that the their then there
    this to too try type unable up us use used value was we were when which while will with without you your true
    false
    """.split()  # noqa: SIM905  # a list would take sixty lines
)
_STOP_CHARACTERS = frozenset(
    "的了是在不有和与或及被把将对为从到由于其此该这那个请您我们你他它也都就还未没无法能可以错误失败异常"
)


@dataclass(frozen=True, slots=True)
class _Text:
    """A message as a sequence of words, what stands between them, and which sides of each touch what varies."""

    tokens: tuple[str, ...]
    between: tuple[str, ...]
    touching: tuple[tuple[bool, bool], ...]


@dataclass(frozen=True, slots=True)
class _Shared:
    """A word that texts have in common, and its place in each of them."""

    token: str
    places: tuple[int, ...]


def propose(new: Label, labels: Iterable[Label], shape: Callable[[str], str]) -> tuple[str, tuple[Label, ...]] | None:
    """A pattern for what the messages of a new label and of two others of its category have in common.

    Args:
        new: What an operator has just said.
        labels: What operators say, the new label included.
        shape: Takes out of a message what varies from run to run.

    Returns:
        The pattern and the labels that it was made of; None if no three have enough in common.
    """
    others = [one for one in labels if one.category == new.category and one.fingerprint != new.fingerprint]
    others.sort(key=lambda one: (one.at, one.fingerprint), reverse=True)
    texts = {one.fingerprint: _text(shape(one.text)) for one in (new, *others[:_LABELS_LIMIT])}
    mine = texts[new.fingerprint]
    pairs = [(one, _shared(_as_shared(mine), texts[one.fingerprint])) for one in others[:_LABELS_LIMIT]]
    pairs = [pair for pair in pairs if _weight([mine, texts[pair[0].fingerprint]], pair[1]) >= _ENOUGH]
    pairs.sort(key=lambda pair: -len(pair[1]))
    best: tuple[int, str, tuple[Label, ...]] = (0, "", ())
    for number, (second, common) in enumerate(pairs[:_PARTNERS_LIMIT]):
        for third, _ in pairs[number + 1 :]:
            read = [mine, texts[second.fingerprint], texts[third.fingerprint]]
            all_three = _shared(common, read[2])
            weight = _weight(read, all_three)
            if weight >= _ENOUGH and weight > best[0]:
                best = weight, _pattern(read, all_three), (new, second, third)
    return (best[1], best[2]) if best[0] else None


def common_pattern(messages: Sequence[str]) -> str:
    """A pattern for what some messages have in common; '' if that is not enough to tell them from others.

    Args:
        messages: Without what varies from run to run: `Order <number> not found`.
    """
    first, *rest = [_text(message) for message in messages]
    common = _as_shared(first)
    for one in rest:
        common = _shared(common, one)
    read = [first, *rest]
    return _pattern(read, common) if _weight(read, common) >= _ENOUGH else ""


def _text(message: str) -> _Text:
    """The words of the first line that has some."""
    line = next((one for one in message.splitlines() if _TOKEN.search(one)), "")
    # What varies is a gap, and none of its own words counts.
    line = _VARIES.sub("\0", line)
    found = list(_TOKEN.finditer(line))[:_WORDS_LIMIT]
    between = tuple(line[one.end() : other.start()] for one, other in pairwise(found))
    touching = tuple(
        (line[one.start() - 1 : one.start()] == "\0", line[one.end() : one.end() + 1] == "\0") for one in found
    )
    return _Text(tuple(one[0].lower() for one in found), between, touching)


def _as_shared(text: _Text) -> list[_Shared]:
    return [_Shared(token, (place,)) for place, token in enumerate(text.tokens)]


def _shared(common: Sequence[_Shared], text: _Text) -> list[_Shared]:
    """The longest common subsequence; of equal ones that which comes first."""
    rows, columns = len(common), len(text.tokens)
    lengths = [[0] * (columns + 1) for _ in range(rows + 1)]
    for row in reversed(range(rows)):
        for column in reversed(range(columns)):
            same = common[row].token == text.tokens[column]
            lengths[row][column] = (
                lengths[row + 1][column + 1] + 1 if same else max(lengths[row + 1][column], lengths[row][column + 1])
            )
    found: list[_Shared] = []
    row = column = 0
    while row < rows and column < columns:
        if common[row].token == text.tokens[column]:
            found.append(_Shared(common[row].token, (*common[row].places, column)))
            row, column = row + 1, column + 1
        elif lengths[row + 1][column] >= lengths[row][column + 1]:
            row += 1
        else:
            column += 1
    return found


def _runs(texts: Sequence[_Text], common: Sequence[_Shared]) -> list[list[_Shared]]:
    """Words that stand side by side in all texts, with the same between them; runs that say nothing are left out."""
    runs: list[list[_Shared]] = []
    for one in common:
        if runs and _adjoin(texts, runs[-1][-1], one):
            runs[-1].append(one)
        else:
            runs.append([one])
    return [run for run in runs if _telling(run)]


def _adjoin(texts: Sequence[_Text], one: _Shared, other: _Shared) -> bool:
    if any(second != first + 1 for first, second in zip(one.places, other.places, strict=True)):
        return False
    between = {text.between[place] for text, place in zip(texts, one.places, strict=True)}
    return len(between) == 1 and "\0" not in between.pop()


def _telling(run: Sequence[_Shared]) -> set[str]:
    """The words and characters of a run that tell one error from another."""
    words = {one.token for one in run if one.token.isascii() and len(one.token) >= _SHORTEST_WORD} - _STOP
    chinese = [one.token for one in run if not one.token.isascii()]
    # A single character in common says nothing: it may belong to any word.
    return words | (set(chinese) - _STOP_CHARACTERS if len(chinese) >= _SHORTEST_RUN else set())


def _weight(texts: Sequence[_Text], common: Sequence[_Shared]) -> int:
    """How much they have in common; what comes again counts once."""
    told = set[str]().union(*(_telling(run) for run in _runs(texts, common)))
    return sum(2 if one.isascii() else 1 for one in told)


def _pattern(texts: Sequence[_Text], common: Sequence[_Shared]) -> str:
    return ".*".join(_written(texts, run) for run in _runs(texts, common))


def _written(texts: Sequence[_Text], run: Sequence[_Shared]) -> str:
    parts = [run[0].token]
    for one, other in pairwise(run):
        parts += [_escaped(texts[0].between[one.places[0]]), other.token]
    left, right = (
        # `word7` is a word that touches what varies: it does not end there.
        r"\b"
        if one.token.isascii()
        and not any(text.touching[place][side] for text, place in zip(texts, one.places, strict=True))
        else ""
        for side, one in enumerate((run[0], run[-1]))
    )
    return f"{left}{''.join(parts)}{right}"


def _escaped(text: str) -> str:
    return "".join(f"\\{char}" if char in r"\.^$*+?()[]{}|/" else char for char in text)
