"""A user's own error patterns (G15): asked before every built-in rule, followed when their owner changes them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import Enum
from threading import Lock
from typing import Any

from regrow.adapters.patterns import compile_patterns
from regrow.classify import USER_RANK, Pattern, Rule, Rulebook, classify
from regrow.errors import RuleError
from regrow.model import CATEGORIES, Audience, Category, Cause, Verdict

log = logging.getLogger("regrow")

#: Precision that is assumed of a pattern that its owner wrote for his own errors. An estimate.
CONFIDENCE = 0.99

#: Longest pattern, in characters, and most patterns of one's own: more is no rule but an accident.
PATTERN_LIMIT = 1_000
PATTERNS_LIMIT = 2_000

_Snapshot = tuple[tuple[Any, tuple[Any, ...]], ...]


class OwnRules:
    """A classifier that knows a user's own patterns too (`ports.Classifier`).

    Args:
        rulebook: The built-in rules.
        patterns: Category -> regular expressions. A category is a `Category`, its key, or a member of an Enum whose
            value is the key; one that Regrow does not know is told to the administrator, unless it has an `audience`.
            The mapping may be changed at any time: the next verdict follows.

    Raises:
        RuleError: A pattern cannot be used; the message names it.
    """

    def __init__(self, rulebook: Rulebook, patterns: Mapping[Any, Sequence[str]]) -> None:
        self._built_in = rulebook
        self._patterns = patterns
        self._lock = Lock()
        self._seen = _snapshot(patterns)
        self._rulebook = self._with([_rule(*one) for one in _listed(self._seen)])

    def __call__(self, causes: Sequence[Cause]) -> Verdict:
        """The verdict over an exception chain."""
        seen = _snapshot(self._patterns)
        if seen != self._seen:
            self._follow(seen)
        return classify(causes, self._rulebook)

    def _follow(self, seen: _Snapshot) -> None:
        """Take over what has changed. What cannot be used is said once and left out: a worker must not die of it."""
        with self._lock:
            if seen == self._seen:
                return
            good: list[Pattern] = []
            for category, pattern in _listed(seen, strict=False):
                try:
                    one = _rule(category, pattern)
                    compile_patterns([one.pattern])
                    good.append(one)
                except RuleError as error:
                    log.error("regrow leaves out a pattern of your own: %s", error)
            try:
                self._rulebook = self._with(good)
            except RuleError as error:  # each alone is good, all together are too many
                log.error("regrow goes on with the patterns that it has: %s", error)
            self._seen = seen

    def _with(self, own: Sequence[Pattern]) -> Rulebook:
        if len(own) > PATTERNS_LIMIT:
            raise RuleError(f"{len(own)} patterns of your own are more than the {PATTERNS_LIMIT} that are allowed")
        matcher = compile_patterns([one.pattern for one in own]) if own else None
        return replace(self._built_in, own_patterns=tuple(own), own_matcher=matcher)


def _snapshot(patterns: Mapping[Any, Sequence[str]]) -> _Snapshot:
    """What stands in the mapping now; cheap, for it is taken for every failure."""
    while True:
        try:
            return tuple((key, (value,) if isinstance(value, str) else tuple(value)) for key, value in patterns.items())
        except RuntimeError:  # its owner changes it in another thread at this moment
            continue


def _listed(seen: _Snapshot, *, strict: bool = True) -> list[tuple[Category, Any]]:
    listed: list[tuple[Category, Any]] = []
    for key, patterns in seen:
        try:
            category = category_of(key)
        except RuleError as error:
            if strict:
                raise
            log.error("regrow leaves out patterns of your own: %s", error)
            continue
        listed.extend((category, pattern) for pattern in patterns)
    return listed


def _rule(category: Category, pattern: object) -> Pattern:
    if not isinstance(pattern, str):
        raise RuleError(f"a pattern for {category} is {pattern!r}; it must be a regular expression as text")
    if len(pattern) > PATTERN_LIMIT:
        raise RuleError(f"a pattern for {category} has {len(pattern)} characters; at most {PATTERN_LIMIT} are allowed")
    return Pattern(pattern, Rule(f"own.{category.key}", category, USER_RANK, CONFIDENCE))


def category_of(key: object) -> Category:
    """The category that a key stands for.

    Args:
        key: A `Category`, its key, or a member of an Enum whose value is the key; it may carry an `audience`.

    Raises:
        RuleError: It is none of these.
    """
    if isinstance(key, Category):
        return key
    name = key.value if isinstance(key, Enum) else key
    if not isinstance(name, str) or not name.strip():
        raise RuleError(f"the category {key!r} of your own patterns is neither text nor a member of an Enum of texts")
    name = str.__str__(name)
    audience = getattr(key, "audience", Audience.ADMINISTRATOR)
    return CATEGORIES.get(name) or Category(name, Audience(audience))
