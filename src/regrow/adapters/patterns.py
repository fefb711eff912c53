r"""Engines that run rule patterns: Hyperscan, and google-re2 where Hyperscan has no wheel (docs/adr/0004).

Both take time linear in the text, so no pattern can hang a worker. Python's `re` never runs a rule pattern.
In both, case is ignored and `.` does not match a line break, as in the guide's `re` patterns; `\b` and `\w`
know ASCII only, so `\btime` also matches behind a Chinese character.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

from regrow.errors import RuleError
from regrow.ports import Matcher

#: Longest matched text that is reported, in characters.
MATCH_LIMIT = 200

# One-character texts with nothing in common: a pattern that finds something in each of them matches anything.
_PROBES = ("a", "7", "~", "错")
_ALL = -1  # key of the whole database among the scratch spaces
# A single `.`, `[^x]` or `\S` is one character, not one byte; with `*` or `+` both are the same.
# Looks at patterns, never at texts.
_COUNTS_CHARACTERS = re.compile(rb"(?<!\\)\.(?![*+])|\[\^[^\]]*\](?![*+])|\\[SWD](?![*+])")
_ADVICE = (
    "write it without lookaround, backreference, atomic group or possessive quantifier, "
    "with at least one literal part, and with counts below 1000"
)


def compile_patterns(patterns: Sequence[str], *, engine: str = "") -> Matcher:
    """An engine that looks for all the patterns at once.

    Args:
        patterns: Regular expressions; their position is their index in what `scan` returns.
        engine: `hyperscan`, `re2`, or '' for the first of them that is installed.

    Raises:
        RuleError: A pattern is one that the engine refuses, or matches every text; or no engine is installed.
    """
    for name, factory in (("hyperscan", HyperscanMatcher), ("re2", Re2Matcher)):
        if engine in ("", name) and find_spec(name) is not None:
            matcher = factory(patterns)
            _refuse_matches_everything(patterns, matcher)
            return matcher
    raise RuleError(f"no pattern engine {engine!r}: install `hyperscan`, or `google-re2` where it has no wheel")


class HyperscanMatcher:
    """Hyperscan, in two steps: one database says which patterns occur; a small one for each of those, where.

    To know where a match starts makes a large database ten times slower to compile, and few patterns ever occur.
    Databases serve all threads and forked children; scratch space is each thread's own.

    Args:
        patterns: Regular expressions.

    Raises:
        RuleError: The engine refuses a pattern.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        import hyperscan

        self._hyperscan: Any = hyperscan
        self._local = threading.local()
        self._patterns = tuple(patterns)
        self._places: dict[int, Any] = {}
        expressions = [_bytes(index, pattern) for index, pattern in enumerate(patterns)]
        self._database: Any = self._compile(expressions) if patterns else None

    def scan(self, text: str) -> list[tuple[int, str]]:
        """The patterns that occur in `text`: (index, matched text), in pattern order, each once."""
        if self._database is None or not text:
            return []
        data = text.encode("utf-8", "replace")
        ends: dict[int, int] = {}
        self._run(_ALL, self._database, data, lambda index, _start, end: ends.setdefault(index, end))
        return [(index, self._matched(index, data, ends[index])) for index in sorted(ends)]

    def _matched(self, index: int, data: bytes, end: int) -> str:
        """The leftmost match, as short as it can be; where its start cannot be known, what stands before its end."""
        database = self._place(index)
        spans: list[tuple[int, int]] = []
        if database is not None:
            # The engine reports every end, in rising order: the first of the leftmost start is the shortest.
            self._run(index, database, data, lambda _index, start, end: spans.append((start, end)))
        start, end = min(spans, default=(max(0, end - MATCH_LIMIT), end))
        return data[start:end].decode("utf-8", "ignore")[:MATCH_LIMIT]

    def _place(self, index: int) -> Any:
        """The database that says where one pattern matches, None if the engine finds it too large for that."""
        if index not in self._places:
            expression = self._patterns[index].encode("utf-8")
            try:
                self._places[index] = self._build([expression], self._hyperscan.HS_FLAG_SOM_LEFTMOST)
            except self._hyperscan.error:
                self._places[index] = None
        return self._places[index]

    def _run(self, key: int, database: Any, data: bytes, found: Callable[[int, int, int], object]) -> None:
        # Scratch must never be used by two scans at once, and a scan lets other threads run.
        scratches: dict[Any, Any] = self._local.__dict__
        if key not in scratches:
            scratches[key] = self._hyperscan.Scratch(database)

        def keep(index: int, start: int, end: int, _flags: int, _context: object) -> None:
            found(index, start, end)

        database.scan(data, match_event_handler=keep, scratch=scratches[key])

    def _compile(self, expressions: list[bytes]) -> Any:
        """All patterns in one database; only if that fails, each alone, to find and name the culprit."""
        once = self._hyperscan.HS_FLAG_SINGLEMATCH
        try:
            return self._build(expressions, once)
        except self._hyperscan.error as whole:
            for index, expression in enumerate(expressions):
                try:
                    self._build([expression], once)
                except self._hyperscan.error as error:
                    raise _refused(index, self._patterns[index], str(error)) from error
            raise RuleError(f"the {len(expressions)} patterns do not fit into one database: {whole}") from whole

    def _build(self, expressions: list[bytes], extra: int) -> Any:
        database = self._hyperscan.Database()
        flags = [self._flags(expression) | extra for expression in expressions]
        count = len(expressions)
        database.compile(expressions=expressions, ids=list(range(count)), elements=count, flags=flags)
        return database

    def _flags(self, expression: bytes) -> int:
        """UTF-8 only where it makes a difference: it makes `.` and every negated class several times larger."""
        caseless = int(self._hyperscan.HS_FLAG_CASELESS)
        plain = expression.isascii() and not _COUNTS_CHARACTERS.search(expression)
        return caseless if plain else caseless | int(self._hyperscan.HS_FLAG_UTF8)


class Re2Matcher:
    """google-re2. Patterns with gaps (`a.*b`) stand in a set of their own: they slow a whole set down.

    Args:
        patterns: Regular expressions.

    Raises:
        RuleError: The engine refuses a pattern.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        import re2

        self._expressions: list[Any] = []
        groups: tuple[list[int], list[int]] = ([], [])
        for index, pattern in enumerate(patterns):
            self._expressions.append(self._expression(re2, index, pattern))
            groups[".*" in pattern or ".{" in pattern].append(index)
        self._sets = [(group, self._set(re2, group, patterns)) for group in groups if group]

    def scan(self, text: str) -> list[tuple[int, str]]:
        """The patterns that occur in `text`: (index, matched text), in pattern order, each once."""
        clean = text.encode("utf-8", "replace").decode("utf-8")
        found = sorted(group[i] for group, engine in self._sets for i in engine.Match(clean) or ())
        hits = ((index, self._expressions[index].search(clean)) for index in found)
        return [(index, match.group()[:MATCH_LIMIT]) for index, match in hits if match]

    @staticmethod
    def _options(re2: Any) -> Any:
        options = re2.Options()
        options.case_sensitive = False
        options.log_errors = False
        options.max_mem = 64 << 20  # Source: notes/classify.md section 3; 8 MiB is too little for 1000 patterns.
        return options

    def _expression(self, re2: Any, index: int, pattern: str) -> Any:
        _bytes(index, pattern)
        try:
            expression = re2.compile(pattern, self._options(re2))
        except re2.error as error:
            raise _refused(index, pattern, str(error)) from error
        if expression.search(""):
            raise _refused(index, pattern, "it matches the empty text")
        return expression

    def _set(self, re2: Any, group: list[int], patterns: Sequence[str]) -> Any:
        engine = re2.Set.SearchSet(self._options(re2))
        for index in group:
            engine.Add(patterns[index])
        engine.Compile()
        return engine


def _bytes(index: int, pattern: str) -> bytes:
    if not pattern.strip():
        raise _refused(index, pattern, "it is empty")
    try:
        return pattern.encode("utf-8")
    except UnicodeEncodeError as error:
        raise _refused(index, pattern, "it holds half a character (a lone surrogate)") from error


def _refuse_matches_everything(patterns: Sequence[str], matcher: Matcher) -> None:
    everywhere = set.intersection(*({index for index, _ in matcher.scan(probe)} for probe in _PROBES))
    for index in sorted(everywhere):
        raise _refused(index, patterns[index], "it matches every text")


def _refused(index: int, pattern: str, why: str) -> RuleError:
    return RuleError(f"pattern {index} {pattern!r} cannot be used: {why.rstrip('.')}; {_ADVICE}")
