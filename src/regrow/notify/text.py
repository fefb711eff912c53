"""Text that others wrote, made fit to stand inside a sentence of ours."""

from __future__ import annotations

import re

_DOTTED = re.compile(r"[\w.]+\.(\w+)")


def one_line(text: str, limit: int = 120) -> str:
    """The first `limit` characters of `text` on a single line, without what does not print."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text[: 4 * limit]).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def short_error(error: str) -> str:
    """`requests.exceptions.ConnectionError: text ...` -> `ConnectionError: text ...` on one line."""
    kind, colon, message = error.partition(": ")
    dotted = _DOTTED.fullmatch(kind)
    return one_line((dotted[1] if dotted else kind) + colon + message)
