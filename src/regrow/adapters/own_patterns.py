"""Patterns that users write: what an engine can be given, the rulebook with them in it, and their examples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from regrow.adapters.patterns import PatternRefused, compile_patterns, growth
from regrow.capture import causes_from_text
from regrow.classify import USER_RANK, Pattern, Rule, Rulebook, classify
from regrow.errors import RuleError
from regrow.model import Audience, Category, OwnRule, RuleState

#: Precision that is assumed of a pattern that its owner wrote for his own errors. An estimate.
CONFIDENCE = 0.99

#: Longest key of a category and id of a rule, in characters: the ledger's columns hold no more.
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


def fault(pattern: Any) -> str:
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


def refusal(pattern: str) -> str:
    """Why the engine refuses a pattern; '' if it does not."""
    try:
        compile_patterns([pattern])
    except PatternRefused as error:
        return error.why
    return ""


def with_patterns(built_in: Rulebook, own: Sequence[Pattern]) -> Rulebook:
    """The rulebook in which these are asked first.

    Raises:
        PatternRefused: The engine refuses one of them.
        RuleError: All together are too many or too large.
    """
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
    return replace(built_in, own_patterns=tuple(own), own_matcher=matcher)


def rule_patterns(rules: Iterable[OwnRule], categories: Mapping[str, Category]) -> list[Pattern]:
    """The patterns of those rules that are live."""
    return [
        Pattern(pattern, Rule(one.id, category_of(one.category, categories), USER_RANK, CONFIDENCE))
        for one in rules
        if one.state is RuleState.LIVE
        for pattern in one.patterns
    ]


def category_of(key: str, categories: Mapping[str, Category]) -> Category:
    """A category by its key; one that is not known here is the administrator's."""
    return categories.get(key) or Category(key, Audience.ADMINISTRATOR)


def check_rules(
    built_in: Rulebook,
    rules: Sequence[OwnRule],
    categories: Mapping[str, Category],
    *,
    others: Sequence[Pattern] = (),
) -> list[str]:
    """What is wrong with rules, with the rule and the mend in each line; empty if all is well.

    Args:
        built_in: The built-in rules.
        rules: The rules.
        categories: The categories that are known.
        others: Patterns of other rules of the user's own, which are asked at the same time.
    """
    wrong = [
        f"rule {one.id!r}: the pattern {pattern!r:.80}: {why}"
        for one in rules
        for pattern in one.patterns
        if (why := fault(pattern) or refusal(pattern))
    ]
    if wrong:
        return wrong
    try:
        rulebook = with_patterns(built_in, [*others, *rule_patterns(rules, categories)])
    except RuleError as error:
        return [str(error)]
    return [line for one in rules if one.state is RuleState.LIVE for line in _examples(one, rulebook)]


def _examples(rule: OwnRule, rulebook: Rulebook) -> list[str]:
    """The examples that are not as they must be."""
    wrong = []
    only = alone(rulebook)
    for text in rule.must_match:
        verdict = classify(causes_from_text("", text, ""), rulebook)
        said = f"rule {rule.id!r}: must_match {text!r:.120}"
        if not _hits(rule, text, only):
            wrong.append(f"{said} is matched by none of its patterns; change a pattern or the text")
        elif verdict.category.key != rule.category:
            by = f"{verdict.category.key} by {verdict.rule}"
            wrong.append(f"{said} is {by}, not {rule.category}; make one of the two rules narrower")
    wrong += [
        f"rule {rule.id!r}: must_not_match {text!r:.120} matches; make a pattern narrower or change the text"
        for text in rule.must_not_match
        if _hits(rule, text, only)
    ]
    return wrong


def alone(rulebook: Rulebook) -> Rulebook:
    """The user's own rules of a rulebook, and nothing else that could speak up."""
    return replace(rulebook, words={}, codes={}, classes={}, patterns=(), matcher=_NOTHING, model=None)


def _hits(rule: OwnRule, text: str, only: Rulebook) -> bool:
    """True if a pattern of the rule occurs in a text; `only` holds users' own rules and no other."""
    verdict = classify(causes_from_text("", text, ""), only)
    return rule.id in (verdict.rule, *(one.rule for one in verdict.runners_up))


class _Nothing:
    """Finds nothing (`ports.Matcher`)."""

    def hits(self, text: str) -> list[tuple[int, int]]:
        """Nothing."""
        return []

    def matched(self, hit: tuple[int, int], text: str) -> str:
        """Nothing."""
        return ""


_NOTHING = _Nothing()
