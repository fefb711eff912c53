"""What the person who is told can do, chosen by the facts of a verdict.

What is said for which fact is data: the tables `ADVICE` of the modules `of_*`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import groupby

from regrow.model import CATEGORIES, UNKNOWN, Audience, Verdict
from regrow.notify import of_business, of_recoverable, of_unrecoverable
from regrow.notify.row import Row
from regrow.ports import Words

#: All rows; those of one category stand together.
ADVICE: tuple[Row, ...] = (*of_recoverable.ADVICE, *of_unrecoverable.ADVICE, *of_business.ADVICE)

_ROWS = {category: tuple(rows) for category, rows in groupby(ADVICE, key=lambda row: row.category)}


def advice(about: Verdict | str, _: Words) -> str:
    """What the person who is told can do.

    Args:
        about: Why it failed, or the key of a category where no more is known.
    """
    row = _general(about) if isinstance(about, str) else row_of(about)
    return _(row.text)


def cause(verdict: Verdict, _: Words) -> str:
    """Why it failed, in a few words for a title; a category of the application's own is called as it calls itself."""
    row = row_of(verdict)
    return _(row.name) if verdict.category.key in CATEGORIES else _(verdict.category.key)


def user_advice(verdict: Verdict, _: Words) -> tuple[str, str]:
    """What an end user reads: why in a few words, '' where we cannot tell, and what can be done."""
    row = row_of(verdict)
    return "" if row is of_business.ADVICE[-1] else _(row.name), _(row.text)


def row_of(verdict: Verdict) -> Row:
    """The advice that fits best: the fact that won decides, and where it says nothing, the others of its category."""
    return _row(verdict.category.key, verdict.category.audience, tuple(_facts(verdict)))


@lru_cache(maxsize=1024)  # a task that fails again mostly fails by the same facts
def _row(category: str, audience: Audience, facts: tuple[tuple[str, str], ...]) -> Row:
    general = _general(category, audience)
    for rule, matched in facts:
        for row in _ROWS.get(category, ()):
            if row is not general and _fits(row, rule, matched):
                return row
    return general


def _facts(verdict: Verdict) -> Iterator[tuple[str, str]]:
    yield verdict.rule, verdict.matched
    for evidence in verdict.runners_up:
        if evidence.category == verdict.category.key:
            yield evidence.rule, evidence.matched


def _fits(row: Row, rule: str, matched: str) -> bool:
    if rule in row.facts or matched in row.facts:
        return True
    return bool(row.words) and re.search(row.words, matched, re.IGNORECASE) is not None


def _general(category: str, audience: Audience = Audience.ADMINISTRATOR) -> Row:
    """What is said where nothing more is known than the category: its last row."""
    if category in _ROWS:
        return _ROWS[category][-1]
    return of_business.ADVICE[-1] if audience is Audience.USER else _ROWS[UNKNOWN.key][-1]
