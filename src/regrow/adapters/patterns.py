r"""Engines that run rule patterns: Hyperscan, and google-re2 where Hyperscan has no wheel (docs/adr/0004).

Both take time linear in the text, so no pattern can hang a worker. Python's `re` never runs a user's pattern; of our
own it only finds the place of what the engine has found, within a few hundred characters.
In both, case is ignored and `.` does not match a line break, as in the guide's `re` patterns; `\b` and `\w`
know ASCII only, so `\btime` also matches behind a Chinese character.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import stat
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from regrow.errors import RuleError
from regrow.ports import Matcher

#: Longest matched text that is reported, in characters.
MATCH_LIMIT = 200

# One-character texts with nothing in common: a pattern that finds something in each of them matches anything.
_PROBES = ("a", "7", "~", "错")
#: `re` looks for the place of one of our own matches in so many characters before its end; beyond, the engine is asked.
_NEAR = 300
_ALL = -1  # key of the whole database among the scratch spaces
# One escape, class or dot of a pattern, and whether `*` or `+` follows. Looks at patterns, never at texts.
_ATOM = re.compile(rb"(\\.|\[(?:\\.|[^\]\\])*\]|\.)([*+]?)", re.DOTALL)
_NEGATED = re.compile(rb"\.|\[\^.*|\[.*\\[SWD].*|\\[SWD]", re.DOTALL)
# What a pattern is made of; for `{2,5}` the numbers.
_TOKEN = re.compile(
    r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\((?:\?[^:)=!<]*:|\?P?<\w+>)?|\{(?P<least>\d+),?(?P<most>\d*)\}|.", re.DOTALL
)
# Where a match of a pattern starts is asked only if counts make it longer by no more than this: else to compile that
# can take seconds. Source: measured on 3,000 random patterns.
_PLACE_GROWTH = 100
# A file in the cache: its digest, then the database. Others of this age, in seconds, are swept out.
_DIGEST_LENGTH = 32
_STALE_SECONDS = 30 * 86_400
_ADVICE = (
    "write it without lookaround, backreference, atomic group or possessive quantifier, "
    "with at least one literal part, and with counts below 1000"
)


@cache
def _expression(pattern: str) -> re.Pattern[str]:
    """One of our own patterns for `re`, which reads it as the engines do."""
    return re.compile(pattern, re.IGNORECASE | re.ASCII)


class PatternRefused(RuleError):
    """No engine will run a pattern.

    Args:
        index: Its position among those that were given.
        pattern: The pattern.
        why: What is wrong with it, and what to do about it.
    """

    def __init__(self, index: int, pattern: str, why: str) -> None:
        super().__init__(f"pattern {index} {pattern!r} cannot be used: {why}")
        self.why = why


def compile_patterns(patterns: Sequence[str], *, engine: str = "", keep: bool = False) -> Matcher:
    """An engine that looks for all the patterns at once.

    Args:
        patterns: Regular expressions; their position is their index in what `hits` returns.
        engine: `hyperscan`, `re2`, or '' for the first of them that is installed.
        keep: They are our own: keep what was compiled in the user's cache folder, for the next process (Hyperscan).

    Raises:
        RuleError: A pattern is one that the engine refuses, or matches every text; or no engine is installed.
    """
    if engine in ("", "hyperscan") and find_spec("hyperscan") is not None:
        return HyperscanMatcher(patterns, keep=keep)
    if engine in ("", "re2") and find_spec("re2") is not None:
        return Re2Matcher(patterns)
    raise RuleError(f"no pattern engine {engine!r}: install `hyperscan`, or `google-re2` where it has no wheel")


def growth(pattern: str) -> tuple[int, int]:
    """How large an engine must make a pattern: the places that its counts add, and how deep its groups are nested.

    `a{3}` adds 2, `(ab){0,50}` adds 98; a character that takes three bytes counts three times.
    """
    stack = [[0, 0]]  # for each open group: its places, and those of what a count would repeat
    plain = deepest = 0
    for token in _TOKEN.finditer(pattern):
        text, top = token[0], stack[-1]
        if text.startswith("("):
            stack.append([0, 0])
            deepest = max(deepest, len(stack) - 1)
        elif text == ")" and len(stack) > 1:
            places = stack.pop()[0]
            stack[-1] = [stack[-1][0] + places, places]
        elif token["least"]:
            times = max(int(token["most"] or token["least"]), 1)
            top[0] += top[1] * (times - 1)
            top[1] *= times
        elif text not in "*+?|^$":
            top[1] = 1 if text.isascii() else len(text.encode("utf-8", "replace"))
            top[0] += top[1]
            plain += top[1]
    return sum(places for places, _ in stack) - plain, deepest


class HyperscanMatcher:
    """Hyperscan, in two steps: one database says which patterns occur; a small one for each of those, where.

    To know where a match starts makes a large database ten times slower to compile, and few patterns ever occur.
    Databases serve all threads and forked children; scratch space is each thread's own.

    Texts are scanned in vectored mode, though each comes in one piece: in block mode the engine breaks its own stack on
    texts that repeat themselves (`(ab)+` over 400 bytes of `ab ab ...`), and the process is gone. Source: 6,000 random
    patterns in hyperscan 0.9.1 (Vectorscan 5.4.12): 51 crashed in block mode, none in vectored mode.

    Args:
        patterns: Regular expressions.
        keep: These are our own: keep the large database in the user's cache folder (what stands there was checked when
            it was made), and trust Python's `re` to find the place of what the engine has found.

    Raises:
        RuleError: The engine refuses a pattern, or it matches every text.
    """

    def __init__(self, patterns: Sequence[str], *, keep: bool = False) -> None:
        import hyperscan

        self._hyperscan: Any = hyperscan
        self._local = threading.local()
        self._patterns = tuple(patterns)
        self._ours = keep
        self._places: dict[int, Any] = {}
        expressions = [_bytes(index, pattern) for index, pattern in enumerate(patterns)]
        cached = self._cache_file(expressions) if keep and patterns else None
        self._database: Any = self._load(cached) if cached else None
        if self._database is None and patterns:
            self._database = self._compile(expressions)
            _refuse_matches_everything(patterns, lambda probe: {index for index, _ in self.hits(probe)})
            if cached:
                _write(cached, self._hyperscan.dumpb(self._database))

    def hits(self, text: str) -> list[tuple[int, int]]:
        """The patterns that occur in `text`, in their order, each with the byte where its first match ends."""
        if self._database is None or not text:
            return []
        found: list[tuple[int, int]] = []
        self._run(_ALL, self._database, text.encode("utf-8", "replace"), _ends, found.append)
        if len(found) > 1:
            found.sort()
        return found

    def matched(self, hit: tuple[int, int], text: str) -> str:
        """The leftmost match, as short as it can be; where its start cannot be known, what stands before its end."""
        index, end = hit
        if self._ours:
            # Exact, because nothing ends before `end`; and bounded, because only what stands close before it is read.
            last = end if text.isascii() else len(text.encode("utf-8", "replace")[:end].decode("utf-8", "ignore"))
            match = _expression(self._patterns[index]).search(text, max(0, last - _NEAR), last)
            if match:
                return match[0][:MATCH_LIMIT]
        data = text.encode("utf-8", "replace")
        database = self._place(index)
        spans: list[tuple[int, int]] = []
        if database is not None:
            # The engine reports every end, in rising order: the first of the leftmost start is the shortest.
            self._run(index, database, data, _spans, spans.append)
        start, end = min(spans, default=(max(0, end - MATCH_LIMIT), end))
        return data[start:end].decode("utf-8", "ignore")[:MATCH_LIMIT]

    def _place(self, index: int) -> Any:
        """The database that says where one pattern matches, None if it would be too large."""
        if index not in self._places:
            place = None
            if growth(self._patterns[index])[0] <= _PLACE_GROWTH:
                with suppress(self._hyperscan.error):
                    expression = self._patterns[index].encode("utf-8")
                    place = self._build([expression], self._hyperscan.HS_FLAG_SOM_LEFTMOST)
            # Two threads may build it at once; both go on with the first, for scratch belongs to one database.
            self._places.setdefault(index, place)
        return self._places[index]

    def _run(self, key: int, database: Any, data: bytes, event: Callable[..., None], keep: Callable[..., None]) -> None:
        # Scratch must never be used by two scans at once, and a scan lets other threads run.
        scratches: dict[Any, Any] = self._local.__dict__
        scratch = scratches.get(key)
        if scratch is None:
            scratch = scratches[key] = self._hyperscan.Scratch(database)
        database.scan([data], match_event_handler=event, scratch=scratch, context=keep)

    def _compile(self, expressions: list[bytes]) -> Any:
        """All patterns in one database; only if that fails, each alone, to find and name the culprit."""
        once = self._hyperscan.HS_FLAG_SINGLEMATCH
        try:
            return self._build(expressions, once)
        except self._hyperscan.error as whole:
            if len(expressions) == 1:
                raise _refused(0, self._patterns[0], str(whole)) from whole
            for index, expression in enumerate(expressions):
                try:
                    self._build([expression], once)
                except self._hyperscan.error as error:
                    raise _refused(index, self._patterns[index], str(error)) from error
            raise RuleError(f"the {len(expressions)} patterns do not fit into one database: {whole}") from whole

    def _build(self, expressions: list[bytes], extra: int) -> Any:
        database = self._hyperscan.Database(mode=self._hyperscan.HS_MODE_VECTORED)
        flags = [self._flags(expression) | extra for expression in expressions]
        count = len(expressions)
        database.compile(expressions=expressions, ids=list(range(count)), elements=count, flags=flags)
        return database

    def _flags(self, expression: bytes) -> int:
        """UTF-8 only where it makes a difference: it makes `.` and every negated class several times larger."""
        caseless = int(self._hyperscan.HS_FLAG_CASELESS)
        plain = expression.isascii() and not _counts_characters(expression)
        return caseless if plain else caseless | int(self._hyperscan.HS_FLAG_UTF8)

    def _cache_file(self, expressions: Sequence[bytes]) -> Path | None:
        """The file for these patterns, this engine and this kind of machine, None if there is no home for it."""
        folder = _cache_folder()
        if folder is None:
            return None
        # `info` names the engine's version, its mode, and the processor's features that it compiles for.
        facts = [
            sys.platform,
            platform.machine(),
            self._hyperscan.__version__,
            int(self._hyperscan.HS_FLAG_SINGLEMATCH),
            self._build([b"a"], 0).info(),
        ]
        digest = hashlib.sha256(repr(facts).encode())
        for expression in expressions:
            digest.update(b"\0%d\0%d\0%b" % (self._flags(expression), len(expression), expression))
        return folder / f"patterns-{digest.hexdigest()[:40]}.hsdb"

    def _load(self, file: Path) -> Any:
        """The database in a file, None unless it is ours, whole and usable here."""
        data = _read(file)
        if data is None:
            return None
        try:
            database = self._hyperscan.loadb(data, self._hyperscan.HS_MODE_VECTORED)
            self._hyperscan.Scratch(database)
        except self._hyperscan.error:
            return None
        return database


# What the engine calls for each match, with what `_run` was given to keep it by.
def _spans(_index: int, start: int, end: int, _flags: int, keep: Callable[[tuple[int, int]], None]) -> None:
    keep((start, end))


def _ends(index: int, _start: int, end: int, _flags: int, keep: Callable[[tuple[int, int]], None]) -> None:
    keep((index, end))


class Re2Matcher:
    """google-re2. Patterns with gaps (`a.*b`) stand in a set of their own: they slow a whole set down.

    Args:
        patterns: Regular expressions.

    Raises:
        RuleError: The engine refuses a pattern, or it matches every text.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        import re2

        self._expressions: list[Any] = []
        groups: tuple[list[int], list[int]] = ([], [])
        for index, pattern in enumerate(patterns):
            self._expressions.append(self._expression(re2, index, pattern))
            groups[".*" in pattern or ".{" in pattern].append(index)
        self._sets = [(group, self._set(re2, group, patterns)) for group in groups if group]
        _refuse_matches_everything(patterns, lambda probe: {index for index, _ in self.hits(probe)})

    def hits(self, text: str) -> list[tuple[int, int]]:
        """The patterns that occur in `text`, in their order; this engine does not say where."""
        clean = text.encode("utf-8", "replace").decode("utf-8")
        return sorted((group[i], -1) for group, engine in self._sets for i in engine.Match(clean) or ())

    def matched(self, hit: tuple[int, int], text: str) -> str:
        """The leftmost match."""
        match = self._expressions[hit[0]].search(text.encode("utf-8", "replace").decode("utf-8"))
        return match.group()[:MATCH_LIMIT] if match else ""

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


def _counts_characters(expression: bytes) -> bool:
    r"""True if one `.`, `[^x]` or `\S` must be one character, not one byte; with `*` or `+` both are the same."""
    return any(_NEGATED.fullmatch(atom) and not repeated for atom, repeated in _ATOM.findall(expression))


def _cache_folder() -> Path | None:
    """`regrow` in the user's cache folder (XDG Base Directory Specification, LOCALAPPDATA on Windows)."""
    base = os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME", "")
    if Path(base).is_absolute():  # the specification says to ignore any other
        return Path(base) / "regrow"
    with suppress(RuntimeError):  # an account without a home
        return Path.home() / ".cache" / "regrow"
    return None


def _is_ours(status: os.stat_result) -> bool:
    """True if nobody else could have written it: the engine trusts the bytes it is given."""
    if sys.platform == "win32":  # LOCALAPPDATA is each user's own
        return True
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _read(file: Path) -> bytes | None:
    """What a cache file holds, None if it is missing, damaged or not ours."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        if not _is_ours(file.parent.stat()):
            return None
        with os.fdopen(os.open(file, flags), "rb") as opened:
            status = os.fstat(opened.fileno())
            if not (stat.S_ISREG(status.st_mode) and _is_ours(status)):
                return None
            whole = opened.read()
    except OSError:
        return None
    digest, data = whole[:_DIGEST_LENGTH], whole[_DIGEST_LENGTH:]
    return data if data and digest == _digest(file, data) else None


def _write(file: Path, data: bytes) -> None:
    """Put a cache file in place at once, and sweep out what nobody has written for long; a failure is no error."""
    with suppress(OSError):
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_ours(file.parent.stat()):
            return
        handle, name = tempfile.mkstemp(dir=file.parent, prefix=".patterns-")  # mode 0600
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as opened:
                opened.write(_digest(file, data) + data)
            written = temporary.stat().st_mtime
            temporary.replace(file)
        finally:
            temporary.unlink(missing_ok=True)
        for other in (*file.parent.glob("patterns-*.hsdb"), *file.parent.glob(".patterns-*")):
            if other.stat().st_mtime < written - _STALE_SECONDS:
                other.unlink(missing_ok=True)


def _digest(file: Path, data: bytes) -> bytes:
    # Over the name too: a whole file under another's name is a damaged one.
    return hashlib.sha256(file.name.encode() + b"\0" + data).digest()


def _refuse_matches_everything(patterns: Sequence[str], found: Callable[[str], set[int]]) -> None:
    everywhere = set.intersection(*(found(probe) for probe in _PROBES))
    for index in sorted(everywhere):
        raise _refused(index, patterns[index], "it matches every text")


def _refused(index: int, pattern: str, why: str) -> PatternRefused:
    return PatternRefused(index, pattern, f"{why.rstrip('.')}; {_ADVICE}")
