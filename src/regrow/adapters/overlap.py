"""Where a user's own rules and the built-in ones speak of the same texts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from regrow.adapters.own_patterns import alone, rule_patterns, with_patterns
from regrow.adapters.rules import Entry
from regrow.capture import causes_from_text
from regrow.classify import Rulebook, classify
from regrow.errors import RuleError
from regrow.model import CATEGORIES, Cause, Overlap, RuleFile


def overlaps(built_in: Rulebook, entries: Iterable[Entry], file: RuleFile) -> list[Overlap]:
    """The examples of built-in rules that a file of rules would change; none if it cannot be used.

    Args:
        built_in: The built-in rules.
        entries: The same, as they stand in their files.
        file: The file of rules.
    """
    categories = {**CATEGORIES, **file.categories}
    try:
        own = with_patterns(built_in, rule_patterns(file.rules, categories))
    except RuleError:  # whoever checks the file says why
        return []
    only = alone(own)
    found = []
    for entry in entries:
        before = entry.values.get("category")
        for example in entry.values.get("examples", ()):
            verdict = classify(_causes(entry, example), only)
            if verdict.layer == "user" and before is not None and verdict.category.key != before:
                found.append(Overlap(verdict.rule, entry.id, example, before, verdict.category.key))
    return found


def _causes(entry: Entry, example: str) -> Sequence[Cause]:
    """What a user's own pattern sees of an example."""
    if entry.section == "codes":
        return (Cause("", ""),)
    if entry.section == "classes":
        return (Cause(example, ""),)
    return causes_from_text("", example, "")
