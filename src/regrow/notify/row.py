"""The shape of the advice tables."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """What is said about one cause.

    A row fits a fact that it names, or in which its words occur. Rows are asked in the order in which they stand, so
    a narrow one stands before a wide one; the last row of a category has neither facts nor words, and is for the rest.

    Args:
        category: Key of the category that it is for.
        facts: What means it: ids of rules (`http.throttled`), and codes (`http 429`).
        words: Regular expression that is looked for in what a rule has matched; case is ignored.
        name: The cause in a few words, for a title.
        text: What the person who is told can do.
    """

    category: str
    facts: tuple[str, ...]
    words: str
    name: str
    text: str


def _(text: str, /) -> str:
    """Mark a text that is translated where it is said."""
    return text
