"""A user's own error patterns (G15): asked before every built-in rule, followed when their owner changes them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from regrow.adapters.own_patterns import (
    CONFIDENCE,
    KEY_LIMIT,
    check_rules,
    fault,
    refusal,
    rule_patterns,
    with_patterns,
)
from regrow.adapters.patterns import PatternRefused
from regrow.classify import USER_RANK, Pattern, Rule, Rulebook, classify
from regrow.errors import RuleError
from regrow.model import CATEGORIES, Audience, Category, Cause, OwnRule, RuleFile, Verdict

log = logging.getLogger("regrow")

_Snapshot = tuple[tuple[Any, tuple[Any, ...]], ...]


@dataclass(frozen=True, slots=True)
class Taught:
    """The rules that a process knows beside the application's own patterns.

    Args:
        file: The file of rules.
        rules: The live rules of the ledger.
    """

    file: RuleFile = field(default_factory=RuleFile)
    rules: tuple[OwnRule, ...] = ()


_UNTAUGHT = Taught()

#: All that a user has written: what stands in the application's mapping, and the rules of file and ledger.
_Seen = tuple[_Snapshot, Taught]


class OwnRules:
    """A classifier that knows a user's own patterns and rules too (`ports.Classifier`).

    Args:
        rulebook: The built-in rules.
        patterns: Category -> regular expressions. A category is a `Category`, its key, or a member of an Enum whose
            value is the key; one that Regrow does not know is told to the administrator, unless one of the keys that
            name it has an `audience`. The mapping may be changed at any time: the next verdict follows.
        taught: Gives the rules of file and ledger as they are now; the next verdict follows too. What is wrong with
            those is said, and never stops anybody.

    Raises:
        RuleError: A pattern or a category of the mapping cannot be used; the message names each one and says why.
    """

    def __init__(
        self,
        rulebook: Rulebook,
        patterns: Mapping[Any, Sequence[str]],
        taught: Callable[[], Taught] = lambda: _UNTAUGHT,
    ) -> None:
        self._built_in = rulebook
        self._patterns = patterns
        self._taught = taught
        self._refused: dict[str, str] = {}
        self._said: set[str] = set()
        # The file that was checked last, and the last one that was found good.
        self._checked, self._good = RuleFile(), RuleFile()
        try:
            own = _snapshot(patterns)
        except Exception as error:
            raise RuleError(
                f"your own patterns cannot be read ({type(error).__name__}: {error}); give a dict of lists"
            ) from error
        made, wrong = self._make((own, _UNTAUGHT))
        if wrong:
            raise RuleError("\n".join(wrong))
        # What was seen, and the rules made of it. Replaced as one and without a lock: threads that see a change at the
        # same moment both follow it, and a forked child never waits for a thread that it does not have.
        self._state: tuple[_Seen, Rulebook] = (own, _UNTAUGHT), made
        _ = self.rulebook

    def __call__(self, causes: Sequence[Cause], *, brief: bool = False) -> Verdict:
        """The verdict over an exception chain."""
        return classify(causes, self.rulebook, brief=brief)

    @property
    def rulebook(self) -> Rulebook:
        """The rules as all is now. What is wrong in it is said once and left out: no worker may die of it."""
        known, rulebook = self._state
        try:
            seen = _snapshot(self._patterns), self._taught()
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

    def _make(self, seen: _Seen) -> tuple[Rulebook, list[str]]:
        """The rules, and what is wrong with the patterns that were left out.

        Raises:
            RuleError: All together are too many or too large.
        """
        own, wrong = self._read(seen)
        try:
            return with_patterns(self._built_in, own), wrong
        except PatternRefused:
            for one in own:
                if why := refusal(one.pattern):
                    self._refused[one.pattern] = why
        own, wrong = self._read(seen)
        return with_patterns(self._built_in, own), wrong

    def _read(self, seen: _Seen) -> tuple[list[Pattern], list[str]]:
        """The patterns that may be used, and what is wrong with the others."""
        patterns, taught = seen
        file = self._checked_file(taught.file)
        named, wrong = _named(patterns)
        categories = {**CATEGORIES, **{one.key: one for one, _ in named}, **file.categories}
        own: dict[tuple[str, str], Pattern] = {}
        for category, its_patterns in named:
            rule = Rule(f"own.{category.key}", category, USER_RANK, CONFIDENCE)
            for pattern in its_patterns:
                if why := fault(pattern) or self._refused.get(pattern):
                    wrong.append(f"a pattern for {category.key} is {_short(pattern)}: {why}")
                else:
                    own[category.key, pattern] = Pattern(pattern, rule)
        rules = rule_patterns(file.rules, categories)
        for one in taught.rules:
            good = []
            for pattern in one.patterns:
                if why := fault(pattern) or self._refused.get(pattern):
                    wrong.append(f"a pattern of the rule {one.id} is {_short(pattern)}: {why}")
                else:
                    good.append(pattern)
            rules += rule_patterns([replace(one, patterns=tuple(good))], categories)
        return [*own.values(), *rules], wrong

    def _checked_file(self, file: RuleFile) -> RuleFile:
        """The file, if its patterns and examples are good; else the last one that was."""
        if file is not self._checked:
            wrong = check_rules(self._built_in, file.rules, {**CATEGORIES, **file.categories})
            if wrong:
                lines = "; ".join(f"{file.path}: {line}" for line in wrong)
                self._say(f"regrow goes on with the rules that it has: {lines}")
            else:
                self._good = file
            self._checked = file
        return self._good


def categories_of(patterns: Mapping[Any, Sequence[str]]) -> dict[str, Category]:
    """The categories that an application's own patterns name, by key; what cannot be read is left out."""
    try:
        return {category.key: category for category, _ in _named(_snapshot(patterns))[0]}
    except Exception:  # anybody's mapping
        return {}


def _named(seen: _Snapshot) -> tuple[list[tuple[Category, tuple[Any, ...]]], list[str]]:
    """Patterns with the category that each key stands for, and what is wrong with the other keys."""
    audiences = {key: category.audience for key, category in CATEGORIES.items()}
    named: list[tuple[str, tuple[Any, ...]]] = []
    wrong: list[str] = []
    for key, patterns in seen:
        try:
            named.append((_name(key, audiences), patterns))
        except RuleError as error:
            wrong.append(str(error))
    return [
        (CATEGORIES.get(name) or Category(name, audiences.get(name, Audience.ADMINISTRATOR)), patterns)
        for name, patterns in named
    ], wrong


def _snapshot(patterns: Mapping[Any, Sequence[str]]) -> _Snapshot:
    """What stands in the mapping now; cheap, for it is taken for every failure. A single text is one pattern."""
    return tuple(
        [
            (key, tuple(value) if isinstance(value, list | tuple | set | frozenset) else (value,))
            for key, value in list(patterns.items())
        ]
    )


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
