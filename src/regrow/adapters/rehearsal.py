"""Rules tried on failures of the ledger: what each would have been."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from regrow.adapters.own_patterns import alone, category_of, rule_patterns, with_patterns
from regrow.adapters.own_rules import OwnRules
from regrow.capture import causes_from_text
from regrow.classify import Pattern, Rulebook, classify
from regrow.model import OPERATOR, Category, OwnRule, Sample


def own_patterns(built_in: Rulebook, patterns: Mapping[Any, Sequence[str]]) -> list[Pattern]:
    """The application's own patterns, checked.

    Raises:
        RuleError: One of them cannot be used.
    """
    return list(OwnRules(built_in, patterns).rulebook.own_patterns)


class Rehearsal:
    """Says what category a failure of the ledger would get by these rules (`school.Judge`).

    The ledger keeps the texts of a failure, and not all facts that were read from the live exception. So the category
    that was found then stands, unless a rule of one's own speaks for the failure now, or a person decided then.

    Args:
        built_in: The built-in rules.
        own: The application's own patterns.
        rules: The rules that would be in force.
        tried: Ids of those that are tried.
        categories: The categories that are known.

    Raises:
        RuleError: A rule cannot be used.
    """

    def __init__(
        self,
        built_in: Rulebook,
        own: Sequence[Pattern],
        rules: Sequence[OwnRule],
        tried: frozenset[str],
        categories: Mapping[str, Category],
    ) -> None:
        self._rulebook = with_patterns(built_in, [*own, *rule_patterns(rules, categories)])
        self._alone = alone(self._rulebook)
        self._tried = tried
        self._categories = categories

    def __call__(self, sample: Sample) -> tuple[Category, bool]:
        """Its category, and whether one of the rules that are tried speaks for it."""
        causes = causes_from_text(sample.exception_type, sample.message, sample.traceback)
        verdict = classify(causes, self._alone)
        hit = verdict.rule in self._tried or any(one.rule in self._tried for one in verdict.runners_up)
        if verdict.layer == "user":
            return verdict.category, hit
        if sample.layer in ("user", OPERATOR):  # a person decided then, and would no longer
            return classify(causes, self._rulebook).category, hit
        return category_of(sample.category, self._categories), hit
