"""A user's own error patterns (G15): asked before every built-in rule, followed when their owner changes them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import Enum
from typing import Any

from regrow.adapters.patterns import PatternRefused, compile_patterns, growth
from regrow.classify import USER_RANK, Pattern, Rule, Rulebook, classify
from regrow.errors import RuleError
from regrow.model import CATEGORIES, Audience, Category, Cause, Verdict

log = logging.getLogger("regrow")

#: Precision that is assumed of a pattern that its owner wrote for his own errors. An estimate.
CONFIDENCE = 0.99

#: Longest key of a category, in characters: the ledger's column holds no more.
KEY_LIMIT = 64

#: Longest pattern, in characters; deepest nesting of groups; and by how much the counts of one pattern, and of all
#: together, may make them longer (`growth`). To compile a pattern beyond these may take the engine minutes, within
#: them it takes a second.
PATTERN_LIMIT = 1_000
DEPTH_LIMIT = 5
GROWTH_LIMIT = 250
TOTAL_GROWTH_LIMIT = 5_000

#: Most patterns of one's own.
PATTERNS_LIMIT = 2_000

_Snapshot = tuple[tuple[Any, tuple[Any, ...]], ...]


class OwnRules:
    """A classifier that knows a user's own patterns too (`ports.Classifier`).

    Args:
        rulebook: The built-in rules.
        patterns: Category -> regular expressions. A category is a `Category`, its key, or a member of an Enum whose
            value is the key; one that Regrow does not know is told to the administrator, unless one of the keys that
            name it has an `audience`. The mapping may be changed at any time: the next verdict follows.

    Raises:
        RuleError: A pattern or a category cannot be used; the message names each one and says why.
    """

    def __init__(self, rulebook: Rulebook, patterns: Mapping[Any, Sequence[str]]) -> None:
        self._built_in = rulebook
        self._patterns = patterns
        self._refused: dict[str, str] = {}
        self._said: set[str] = set()
        try:
            seen = _snapshot(patterns)
        except Exception as error:
            raise RuleError(
                f"your own patterns cannot be read ({type(error).__name__}: {error}); give a dict of lists"
            ) from error
        made, wrong = self._make(seen)
        if wrong:
            raise RuleError("\n".join(wrong))
        # What stood in the mapping, and the rules made of it. Replaced as one and without a lock: threads that see a
        # change at the same moment both follow it, and a forked child never waits for a thread that it does not have.
        self._state = seen, made

    def __call__(self, causes: Sequence[Cause], *, brief: bool = False) -> Verdict:
        """The verdict over an exception chain."""
        return classify(causes, self._current(), brief=brief)

    def _current(self) -> Rulebook:
        """The rules as the mapping is now. What is wrong in it is said once and left out: no worker may die of it."""
        known, rulebook = self._state
        try:
            seen = _snapshot(self._patterns)
            if seen == known:
                return rulebook
            try:
                rulebook, wrong = self._make(seen)
                for text in wrong:
                    self._say(f"regrow leaves out a pattern of your own: {text}")
            except RuleError as error:
                self._say(f"regrow goes on with the patterns that it has: {error}")
            self._state = seen, rulebook
        except Exception as error:  # anybody's mapping, perhaps changed by another thread at this very moment
            self._say(f"regrow cannot read your own patterns, and goes on with those that it has: {error!r}")
        return rulebook

    def _say(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            log.error("%s", text)

    def _make(self, seen: _Snapshot) -> tuple[Rulebook, list[str]]:
        """The rules, and what is wrong with the patterns that were left out.

        Raises:
            RuleError: All together are too many or too large.
        """
        own, wrong = self._read(seen)
        try:
            return self._with(own), wrong
        except PatternRefused:
            for one in own:
                try:
                    compile_patterns([one.pattern])
                except PatternRefused as error:
                    self._refused[one.pattern] = error.why
        own, wrong = self._read(seen)
        return self._with(own), wrong

    def _read(self, seen: _Snapshot) -> tuple[list[Pattern], list[str]]:
        """The patterns that may be used, and what is wrong with the others."""
        audiences = {key: category.audience for key, category in CATEGORIES.items()}
        named: list[tuple[str, tuple[Any, ...]]] = []
        wrong: list[str] = []
        for key, patterns in seen:
            try:
                named.append((_name(key, audiences), patterns))
            except RuleError as error:
                wrong.append(str(error))
        own: dict[tuple[str, str], Pattern] = {}
        for name, patterns in named:
            category = CATEGORIES.get(name) or Category(name, audiences.get(name, Audience.ADMINISTRATOR))
            rule = Rule(f"own.{name}", category, USER_RANK, CONFIDENCE)
            for pattern in patterns:
                if why := _fault(pattern) or self._refused.get(pattern):
                    wrong.append(f"a pattern for {name} is {_short(pattern)}: {why}")
                else:
                    own[name, pattern] = Pattern(pattern, rule)
        return list(own.values()), wrong

    def _with(self, own: Sequence[Pattern]) -> Rulebook:
        patterns = [one.pattern for one in own]
        if len(patterns) > PATTERNS_LIMIT:
            raise RuleError(f"{len(patterns)} patterns of your own are more than the {PATTERNS_LIMIT} that are allowed")
        places = sum(growth(pattern)[0] for pattern in patterns)
        if places > TOTAL_GROWTH_LIMIT:
            raise RuleError(
                f"the counts of your own patterns, as in {{0,200}}, add {places} places to them; at most "
                f"{TOTAL_GROWTH_LIMIT} are allowed; try `.*`"
            )
        matcher = compile_patterns(patterns) if patterns else None
        return replace(self._built_in, own_patterns=tuple(own), own_matcher=matcher)


def _snapshot(patterns: Mapping[Any, Sequence[str]]) -> _Snapshot:
    """What stands in the mapping now; cheap, for it is taken for every failure. A single text is one pattern."""
    return tuple(
        [
            (key, tuple(value) if isinstance(value, list | tuple | set | frozenset) else (value,))
            for key, value in list(patterns.items())
        ]
    )


def _fault(pattern: Any) -> str:
    """What can be seen to be wrong with a pattern before an engine compiles it; '' if nothing can."""
    if not isinstance(pattern, str):
        return "it must be a regular expression as text"
    if len(pattern) > PATTERN_LIMIT:
        return f"it has {len(pattern)} characters; at most {PATTERN_LIMIT} are allowed"
    places, depth = growth(pattern)
    if places > GROWTH_LIMIT:
        return f"its counts, as in {{0,200}}, add {places} places to it; at most {GROWTH_LIMIT} are allowed; try `.*`"
    if depth > DEPTH_LIMIT:
        return f"its groups are nested {depth} deep; at most {DEPTH_LIMIT} are allowed"
    return ""


def _name(key: object, audiences: dict[str, Audience]) -> str:
    """The name of the category that a key stands for; its audience, if the key has one, is added to `audiences`.

    Raises:
        RuleError: It stands for none, or for one that has another audience.
    """
    name = key.key if isinstance(key, Category) else key.value if isinstance(key, Enum) else key
    if not isinstance(name, str) or not name.strip():
        raise RuleError(f"the category {_short(key)} is neither text nor a member of an Enum of texts")
    name = str.__str__(name)
    if len(name) > KEY_LIMIT:
        raise RuleError(f"the category {_short(name)} has {len(name)} characters; at most {KEY_LIMIT} are allowed")
    given = getattr(key, "audience", None)
    if given is None:
        return name
    try:
        audience = Audience(given)
    except ValueError:
        known = ", ".join(Audience)
        raise RuleError(f"the category {name!r} has the audience {_short(given)}; known are {known}") from None
    if audiences.setdefault(name, audience) is not audience:
        raise RuleError(
            f"the category {name!r} is for the audience {audiences[name]}, not {audience}; give yours another key"
        )
    return name


def _short(thing: object) -> str:
    text = repr(thing)
    return text if len(text) <= KEY_LIMIT else f"{text[:KEY_LIMIT]}..."
