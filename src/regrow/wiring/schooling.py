"""What operators teach, and the rules that they try."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from regrow.config import Settings
from regrow.errors import RuleError
from regrow.model import CATEGORIES, Overlap, OwnRule, RuleFile
from regrow.ports import Classifier, Ledger, Store
from regrow.school import School
from regrow.wiring.parts import clock, open_rule_file


def open_school(
    settings: Settings, store: Store, ledger: Ledger, patterns: Mapping[Any, Sequence[str]] | None = None
) -> School:
    """What takes in what an operator teaches.

    Args:
        settings: The settings.
        store: The ledger to write to.
        ledger: The ledger to read from.
        patterns: The application's own patterns.

    Raises:
        RuleError: The file of rules, or a pattern of the application's own, is wrong.
    """
    from regrow.adapters.own_patterns import check_rules, rule_patterns
    from regrow.adapters.own_rules import categories_of
    from regrow.adapters.rehearsal import Rehearsal, own_patterns
    from regrow.adapters.rules import load_rulebook

    built_in, file = load_rulebook(), open_rule_file(settings)()
    categories = {**CATEGORIES, **categories_of(patterns or {}), **file.categories}
    own = own_patterns(built_in, patterns or {})

    def check(rules: Sequence[OwnRule], beside: Sequence[OwnRule]) -> list[str]:
        others = [*own, *rule_patterns([*file.rules, *beside], categories)]
        return check_rules(built_in, rules, categories, others=others)

    def rehearse(asked: RuleFile, in_ledger: Sequence[OwnRule], tried: frozenset[str]) -> Rehearsal:
        return Rehearsal(built_in, own, [*asked.rules, *in_ledger], tried, {**categories, **asked.categories})

    _refuse(_said(file, check_rules(built_in, file.rules, categories, others=own)))
    return School(
        store=store,
        ledger=ledger,
        clock=clock,
        categories=categories,
        file=file,
        check=check,
        rehearse=rehearse,
    )


def check_file(path: Path) -> tuple[RuleFile, list[str]]:
    """A file of rules, and what is wrong with its patterns and examples.

    Raises:
        RuleError: It cannot be read, or its form is wrong.
    """
    from regrow.adapters.own_patterns import check_rules
    from regrow.adapters.rule_file import read_rules
    from regrow.adapters.rules import load_rulebook

    file = read_rules(path)
    return file, _said(file, check_rules(load_rulebook(), file.rules, {**CATEGORIES, **file.categories}))


def open_classifier(
    settings: Settings, store: Store, patterns: Mapping[Any, Sequence[str]] | None = None
) -> Classifier:
    """The classifier as a worker has it at this moment: with the file of rules, and with those of the ledger.

    A ledger that is not there, or cannot be read, is done without.

    Raises:
        RuleError: The file of rules, or a pattern of the application's own, is wrong.
    """
    from regrow.adapters.own_patterns import check_rules
    from regrow.adapters.own_rules import OwnRules
    from regrow.adapters.rules import load_rulebook
    from regrow.adapters.teaching import Teaching

    built_in, file = load_rulebook(), open_rule_file(settings)
    read = file()
    _refuse(_said(read, check_rules(built_in, read.rules, {**CATEGORIES, **read.categories})))
    teaching = Teaching(file, patterns)
    teaching.refresh(store.lessons)
    return OwnRules(built_in, patterns or {}, teaching.taught)


def _said(file: RuleFile, wrong: Sequence[str]) -> list[str]:
    return [f"{file.path}: {line}" for line in wrong]


def _refuse(wrong: Sequence[str]) -> None:
    if wrong:
        raise RuleError("\n".join(wrong))


@cache
def built_in_rules() -> tuple[OwnRule, ...]:
    """The rules of this package that speak for a category: their texts as patterns, their source as author."""
    from regrow.adapters.rules import packaged, read_entries

    texts = ("patterns", "words", "names", "values")
    return tuple(
        OwnRule(
            id=one.id,
            category=one.values["category"],
            patterns=tuple(text for field in texts for text in one.values.get(field, ())),
            must_match=tuple(one.values.get("examples", ())),
            author=one.values["source"],
        )
        for one in read_entries(packaged())
        if "category" in one.values
    )


def overlaps(file: RuleFile) -> list[Overlap]:
    """The examples of built-in rules that a file of rules would change."""
    from regrow.adapters.overlap import overlaps as find
    from regrow.adapters.rules import load_rulebook, packaged, read_entries

    return find(load_rulebook(), list(read_entries(packaged())), file)


def id_fault(name: str) -> str:
    """What is wrong with the id of a rule; '' if nothing is."""
    from regrow.adapters.rule_file import id_fault as fault

    return fault(name)
