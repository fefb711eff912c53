"""What classification knows: rules, the patterns that speak for them, and tables of codes and classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from regrow.model import Category
from regrow.ports import Matcher

#: Rank of a rule that the user wrote: above every rule of ours.
USER_RANK = 1_000


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


def code_key(kind: str, value: str) -> tuple[str, str]:
    """A code as it is looked up: gRPC's names come as `UNAVAILABLE` and `ResourceExhausted`, Oracle's as `00060`."""
    if kind == "grpc":
        value = value.replace("_", "")
    if kind == "oracle":
        value = value.lstrip("0")
    return kind, value.upper() if kind in ("sqlstate", "grpc", "sqlite") else value
