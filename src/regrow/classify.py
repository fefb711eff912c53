"""Failure -> Verdict: why a task failed, and which fact says so.

Five kinds of fact are read, all evidence is kept, and the most specific one wins (`Rule.rank`): the user's own
patterns, structured text, codes, exception classes, patterns over messages. At equal rank the root cause beats its
wrapper; where facts of equal rank in one exception disagree, the label that does not retry wins.
What the labels mean: spec/labels.md. The rules themselves are data: `regrow/rules/*.toml`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from regrow.model import NETWORK, TEMPORARY, UNKNOWN, Category, Cause, Evidence, Verdict
from regrow.ports import Matcher

#: Rank of a rule that the user wrote: above every rule of ours.
USER_RANK = 1_000

_LAYERS = ("user", "structured", "code", "class", "pattern")
_ROOT_CAUSE_LIMIT = 500
_RUNNERS_UP_LIMIT = 8

# `[NETWORK] Connection timeout: ...`, `【网络错误】...`. Source: guide, best practice 1.
_BRACKETED = re.compile(r"\s*[\[【［]\s*([^\]】］\n]{1,40}?)\s*[\]】］]")
# What SQLAlchemy appends to a message: the statement and its values say nothing about why it failed.
_STATEMENT = "[SQL: "
# A minus sign belongs to a number only where no word stands before it: `Errno -2`, but `ORA-00060`.
_WORDS = re.compile(r"(?:(?<!\w)-)?\w(?:[\w.\-]*\w)?")
_IDENTIFIER = re.compile(r"\b[A-Za-z]+(?:_[A-Za-z]+)+\b|\b[A-Za-z]?[a-z]+(?:[A-Z][a-z]+)+\b")
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")
_IDENTIFIERS_LIMIT = 20
# Builtins whose message means nothing without them: `KeyError: 'DATABASE_URL'`, `PermissionError: Managers only`.
_NAMES_WITH_TEXT = frozenset({"KeyError", "PermissionError"})
_WAIT = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|milli|h|小时|m|分|s|秒)?", re.IGNORECASE)
_UNIT_SECONDS = {
    "ms": 0.001,
    "milli": 0.001,
    "h": 3600,
    "小时": 3600,
    "m": 60,
    "分": 60,
    "s": 1,
    "秒": 1,
    "": 1,
}


@dataclass(frozen=True, slots=True)
class Rule:
    """What one kind of fact means.

    Args:
        id: Unique name, e.g. `http.throttled`.
        category: The kind of failure it speaks for.
        rank: How specific it is; the meaning of the numbers stands in `rules/README.md`.
        confidence: Precision between 0 and 1. An estimate until it is measured on labelled failures.
        caution: Why such a failure must never be retried without a person, '' if nothing speaks against it.
    """

    id: str
    category: Category
    rank: int
    confidence: float
    caution: str = ""


@dataclass(frozen=True, slots=True)
class Pattern:
    """One regular expression, and what is done with what it finds.

    Args:
        pattern: In the engine's syntax: no lookaround, no backreference; case is ignored.
        rule: The rule that a hit speaks for; None for a pattern that reads something else out of the text.
        reads: `''`, or a kind of code (`http`, `errno` ...), or `wait` (seconds to wait), or `store` (the other
            side is a database, cache or broker).
        take: For a code: which word of the match is its value, 0 the first, -1 the last.
    """

    pattern: str
    rule: Rule | None = None
    reads: str = ""
    take: int = -1


@dataclass(frozen=True, slots=True)
class Rulebook:
    """Everything classification knows.

    Args:
        words: Words of structured text, lower case, e.g. `network`.
        codes: (kind, value) or (kind, first characters of the value) to rule.
        classes: Full dotted class name to rule; builtins by their bare name.
        stores: Top-level packages of database, cache and broker clients.
        patterns: All patterns, in the order of `matcher`.
        matcher: Finds them.
        own_patterns: The user's patterns, in the order of `own_matcher`.
        own_matcher: Finds those.
    """

    words: Mapping[str, Rule]
    codes: Mapping[tuple[str, str], Rule]
    classes: Mapping[str, Rule]
    stores: frozenset[str]
    patterns: tuple[Pattern, ...]
    matcher: Matcher
    own_patterns: tuple[Pattern, ...] = ()
    own_matcher: Matcher | None = None

    def with_rule(
        self,
        rule_id: str,
        category: Category,
        pattern: str,
        compile_patterns: Callable[[Sequence[str]], Matcher],
    ) -> Rulebook:
        """A rulebook in which this pattern is asked before every built-in rule.

        Args:
            rule_id: Unique name of the rule.
            category: What a hit means.
            pattern: Regular expression in the engine's syntax.
            compile_patterns: The engine, e.g. `regrow.adapters.patterns.compile_patterns`.

        Raises:
            RuleError: The engine refuses the pattern.
        """
        own = (*self.own_patterns, Pattern(pattern, Rule(rule_id, category, USER_RANK, 0.99)))
        return replace(self, own_patterns=own, own_matcher=compile_patterns([entry.pattern for entry in own]))


@dataclass(frozen=True, slots=True)
class _Fact:
    rule: Rule
    layer: str
    matched: str
    depth: int


@dataclass(slots=True)
class _Reading:
    """What one scan over one cause's text found."""

    facts: list[_Fact] = field(default_factory=list)
    codes: list[tuple[str, str]] = field(default_factory=list)
    wait: float | None = None
    store: bool = False


def classify(causes: Sequence[Cause], rulebook: Rulebook) -> Verdict:
    """Why a task failed.

    Args:
        causes: The exception chain, outermost first.
        rulebook: What is known.
    """
    readings = [_read(depth, cause, rulebook) for depth, cause in enumerate(causes)]
    facts = [
        *_user_facts(causes, rulebook),
        *_structured_facts(causes, rulebook),
        *_code_facts(causes, readings, rulebook),
        *_class_facts(causes, rulebook),
        *(fact for reading in readings for fact in reading.facts),
    ]
    if _meets_store(causes, readings, rulebook):
        facts = [_at_store(fact) for fact in facts]
    facts.sort(key=_precedence)
    return _verdict(causes, facts, _wait(causes, readings))


def _read(depth: int, cause: Cause, rulebook: Rulebook) -> _Reading:
    """Scan a cause's text once, and sort what was found by what it is good for."""
    reading = _Reading()
    for index, matched in rulebook.matcher.scan(_text(cause, rulebook)):
        pattern = rulebook.patterns[index]
        if pattern.rule is not None:
            reading.facts.append(_Fact(pattern.rule, "pattern", matched, depth))
        elif pattern.reads == "store":
            reading.store = True
        elif pattern.reads == "wait":
            reading.wait = _seconds(matched) if reading.wait is None else reading.wait
        else:
            reading.codes.append((pattern.reads, _word(matched, pattern.take)))
    return reading


def _text(cause: Cause, rulebook: Rulebook) -> str:
    """The text that patterns see: last part of the class name, then the message.

    Not the whole class path, whose package names mislead. No name where a table knows the class or a code that
    the exception carries: a word in a name must not overrule them. Not JSON details: the next cause holds what
    they say.
    """
    if ("details", "json") in cause.codes:
        return ""
    name = "" if _is_known(cause, rulebook) else cause.type.rpartition(".")[2]
    message = cause.message.partition(_STATEMENT)[0]
    return f"{name}: {message}{_spelled_out(message)}"


def _is_known(cause: Cause, rulebook: Rulebook) -> bool:
    """True if the full class name, or a code in an attribute, already says what the name could."""
    if cause.type in _NAMES_WITH_TEXT:
        return False
    exact = cause.type in rulebook.classes and bool(cause.bases or "." in cause.type)
    return exact or any(_code_rule(kind, value, rulebook.codes) for kind, value in cause.codes)


def _spelled_out(message: str) -> str:
    """The identifiers of a message as words, on a line of their own: `ZONE_NOT_SUPPORTED` -> `zone not supported`."""
    if "_" not in message and not _HUMP.search(message):  # most messages, and quicker to see
        return ""
    names = _IDENTIFIER.findall(message)[:_IDENTIFIERS_LIMIT]
    return "\n" + ", ".join(_HUMP.sub(" ", name).replace("_", " ") for name in names) if names else ""


def _user_facts(causes: Sequence[Cause], rulebook: Rulebook) -> Iterator[_Fact]:
    if rulebook.own_matcher is None:
        return
    for depth, cause in enumerate(causes):
        # The message alone too: `^` means its beginning, whatever class of exception says it.
        texts = (cause.message, f"{cause.type}: {cause.message}") if cause.type else (cause.message,)
        found: dict[int, str] = {}
        for text in texts:
            for index, matched in rulebook.own_matcher.scan(text):
                found.setdefault(index, matched)
        for index, matched in found.items():
            rule = rulebook.own_patterns[index].rule
            if rule is not None:
                yield _Fact(rule, "user", matched, depth)


def _structured_facts(causes: Sequence[Cause], rulebook: Rulebook) -> Iterator[_Fact]:
    """`[DATA] ...` at the start of a message, or a category's word as the type in JSON details (G23)."""
    for depth, cause in enumerate(causes):
        bracketed = _BRACKETED.match(cause.message)
        for word in (bracketed[1] if bracketed else "", cause.type):
            rule = rulebook.words.get(word.lower())
            if rule is not None:
                yield _Fact(rule, "structured", word, depth)


def _code_facts(causes: Sequence[Cause], readings: Sequence[_Reading], rulebook: Rulebook) -> Iterator[_Fact]:
    """Codes in attributes; codes in the text only where the exception itself carries none of that kind."""
    for depth, (cause, reading) in enumerate(zip(causes, readings, strict=True)):
        kinds = {kind for kind, _ in cause.codes}
        for kind, value in (*cause.codes, *(code for code in reading.codes if code[0] not in kinds)):
            rule = _code_rule(kind, value, rulebook.codes)
            if rule is not None:
                yield _Fact(rule, "code", f"{kind} {value}", depth)


def _code_rule(kind: str, value: str, codes: Mapping[tuple[str, str], Rule]) -> Rule | None:
    """The rule of the exact code, else of its class: SQLSTATE `08006` -> `08`, HTTP `599` -> `5`."""
    kind, value = code_key(kind, value)
    rule = codes.get((kind, value))
    for length in (2, 1):
        rule = rule or codes.get((kind, value[:length] + "*"))
    return rule


def code_key(kind: str, value: str) -> tuple[str, str]:
    """A code as it is looked up: gRPC's names come as `UNAVAILABLE` and `ResourceExhausted`, Oracle's as `00060`."""
    if kind == "grpc":
        value = value.replace("_", "")
    if kind == "oracle":
        value = value.lstrip("0")
    return kind, value.upper() if kind in ("sqlstate", "grpc", "sqlite") else value


def _class_facts(causes: Sequence[Cause], rulebook: Rulebook) -> Iterator[_Fact]:
    """The first class of the MRO that is known: the most specific one."""
    for depth, cause in enumerate(causes):
        for name in cause.bases or (cause.type,):
            rule = rulebook.classes.get(name.removeprefix("builtins."))
            if rule is not None:
                yield _Fact(rule, "class", name, depth)
                break


def _meets_store(causes: Sequence[Cause], readings: Sequence[_Reading], rulebook: Rulebook) -> bool:
    """True if the other side is plainly a database, a cache or a message broker."""
    if any(reading.store for reading in readings):
        return True
    for cause in causes:
        names = (cause.type, *cause.bases, *(value for kind, value in cause.codes if kind == "package"))
        if any(name.partition(".")[0] in rulebook.stores for name in names):
            return True
    return False


def _at_store(fact: _Fact) -> _Fact:
    """A connection that fails at a store is that store's outage (labels.md, boundaries)."""
    if fact.rule.category is not NETWORK or fact.layer in ("user", "structured"):
        return fact
    return replace(fact, rule=replace(fact.rule, category=TEMPORARY))


def _precedence(fact: _Fact) -> tuple[int, int, bool, int, int, str]:
    """Sort key: best fact first, and the same order on every machine."""
    rule = fact.rule
    return (
        -rule.rank,
        -fact.depth,
        rule.category.retry,
        _LAYERS.index(fact.layer),
        -len(fact.matched),
        rule.id,
    )


def _wait(causes: Sequence[Cause], readings: Sequence[_Reading]) -> float | None:
    """How long the other side asked us to wait, in seconds; what an exception carries beats what its text says."""
    carried = [cause.retry_after_seconds for cause in causes if cause.retry_after_seconds is not None]
    said = [reading.wait for reading in readings if reading.wait is not None]
    return max(carried or said, default=None)


def _verdict(causes: Sequence[Cause], facts: Sequence[_Fact], wait: float | None) -> Verdict:
    if not facts:
        return Verdict(UNKNOWN, 0.0, "none", "none", "", _shown(causes, len(causes) - 1), wait)
    best = facts[0]
    equals = [fact for fact in facts if (fact.rule.rank, fact.depth) == (best.rule.rank, best.depth)]
    return Verdict(
        category=best.rule.category,
        confidence=best.rule.confidence,
        rule=best.rule.id,
        layer=best.layer,
        matched=best.matched,
        root_cause=_shown(causes, max(fact.depth for fact in facts)),
        retry_after_seconds=wait,
        conflict=len({fact.rule.category.key for fact in equals}) > 1,
        caution=next((fact.rule.caution for fact in facts if fact.rule.caution), ""),
        runners_up=tuple(_evidence(fact) for fact in facts[1 : _RUNNERS_UP_LIMIT + 1]),
    )


def _evidence(fact: _Fact) -> Evidence:
    rule = fact.rule
    return Evidence(rule.category.key, fact.layer, rule.id, fact.matched, fact.depth, rule.confidence)


def _shown(causes: Sequence[Cause], depth: int) -> str:
    if not causes:
        return ""
    cause = causes[depth]
    return ": ".join(part for part in (cause.type, cause.message) if part)[:_ROOT_CAUSE_LIMIT]


def _word(matched: str, take: int) -> str:
    words = _WORDS.findall(matched)
    return words[take] if words else matched


def _seconds(matched: str) -> float | None:
    """`try again in 1m30s` -> 90."""
    parts = _WAIT.findall(matched)
    return sum(float(number) * _UNIT_SECONDS[unit.lower()] for number, unit in parts) if parts else None
