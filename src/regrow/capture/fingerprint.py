"""The shape of a failure: the same for all runs that failed in the same way."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from regrow.model import Cause

#: Changes whenever the method does, so that an upgrade never regroups old failures silently.
VERSION = "v1"
_FRAMES = 8

# One joined expression, tried at each place from left to right; the order decides between overlapping ones.
# Counts are bounded so that no text takes quadratic time.
# Source: own; the list of things that vary follows Sentry's grouping (notes/classify.md section 2).
_VARYING = re.compile(
    r"""
      (?P<url>\b[a-z][a-z0-9+.\-]{1,20}://[^\s'"<>)\]]+)
    | (?P<email>(?<![\w.+\-])[\w.+\-]{1,64}@[\w\-]{1,63}\.[\w.\-]{1,190})
    | (?P<quoted>'[^'\n]{1,200}'|"[^"\n]{1,200}"|“[^”\n]{1,200}”|「[^」\n]{1,200}」|‘[^’\n]{1,200}’)
    | (?P<uuid>\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b)
    | (?P<time>\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+\-]\d\d:?\d\d)?)?
      |\b\d\d:\d\d:\d\d(?:[.,]\d+)?)
    | (?P<ip>\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b|\[?(?:[0-9a-f]{0,4}:){3,7}[0-9a-f]{0,4}\]?(?::\d+)?)
    | (?P<path>(?<![\w/])(?:[A-Za-z]:)?(?:[\\/][\w.\-@+~]+){2,})
    | (?P<host>\b(?:[a-z0-9\-]{1,63}\.){2,8}[a-z]{2,24}\b(?::\d+)?|\blocalhost(?::\d+)?)
    | (?P<hex>\b0x[0-9a-f]+\b|\b(?=[0-9a-f]{0,64}\d)[0-9a-f]{8,}\b)
    | (?P<number>[+\-]?\d+(?:[.,]\d+)*)
    """,
    re.VERBOSE | re.IGNORECASE,
)
# Beyond this a message varies by what was in it, not by what went wrong; and the expression stays cheap.
_SHAPE_LIMIT = 1_000
# Not `\s`: from each of many empty lines it would run over all the others.
_FRAME = re.compile(r'^[^\S\n]*File "(?P<file>[^"]+)", line \d+, in (?P<function>\S+)', re.MULTILINE)
_FOREIGN = re.compile(r"(?:site|dist)-packages|[\\/]lib[\\/]python\d|<frozen|[\\/]Lib[\\/]")


def fingerprint(causes: Sequence[Cause], traceback: str) -> str:
    """A short name for the shape of a failure, `v1:` and 16 hexadecimal digits.

    Made of the exception types, their messages without what varies from run to run, and the functions of the
    user's own code on the traceback (line numbers move with every edit; libraries' frames with every upgrade).

    Args:
        causes: The chain, outermost first.
        traceback: The formatted traceback, '' where unknown.
    """
    parts = [f"{cause.type}\x1f{parameterise(cause.message)}" for cause in causes]
    frames = [match["function"] for match in _FRAME.finditer(traceback) if not _FOREIGN.search(match["file"])]
    text = "\x1e".join([*parts, *frames[-_FRAMES:]])
    return f"{VERSION}:{hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()[:16]}"


def parameterise(message: str) -> str:
    """`message` with what varies replaced by its kind: `Order <number> not found`."""
    return _VARYING.sub(lambda match: f"<{match.lastgroup}>", message[:_SHAPE_LIMIT])
