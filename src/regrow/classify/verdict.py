"""Facts -> Verdict: which fact wins, and what else spoke up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from regrow.classify.facts import Fact, Reading, last_part, without_statement
from regrow.classify.rulebook import Rule, Rulebook
from regrow.classify.script import simplified
from regrow.classify.statistics import Model, features
from regrow.model import CATEGORIES, NETWORK, TEMPORARY, UNKNOWN, Cause, Evidence, Verdict

_LAYERS = {"user": 0, "structured": 1, "code": 2, "class": 3, "pattern": 4, "statistics": 5}
#: Why a failure is not retried on the word of the model alone.
UNSURE = "only the wording suggests that time may heal this"
_BY_WORDS = "statistics.words"
#: No wording is surer than this, whatever the model computes: measured by `make evaluate`.
_CEILING = 0.95
#: From this rank on, a fact is not weighed against words: measured by `make evaluate`.
_SURE = 88
#: From this rank on, facts that agree are not weighed.
_AGREED = 70
#: From this rank on, what a table says of a code or a class is not weighed against words.
_TABLE = 40
#: From this rank on, a fact that speaks against a retry is enough to ask a person.
_DOUBT = 60
_ROOT_CAUSE_LIMIT = 500
_RUNNERS_UP_LIMIT = 8


def classify(causes: Sequence[Cause], rulebook: Rulebook, *, brief: bool = False) -> Verdict:
    """Why a task failed.

    Args:
        causes: The exception chain, outermost first.
        rulebook: What is known.
        brief: Leave out the runners-up, whose matched texts cost as much again.
    """
    facts, wait = facts_of(causes, rulebook)
    if rulebook.model is not None and causes and not _is_plain(facts):
        facts = _weighed(causes, facts, rulebook.model)
    carried = [cause.retry_after_seconds for cause in causes if cause.retry_after_seconds is not None]
    return _verdict(causes, facts, max(carried) if carried else wait, brief=brief)


def facts_of(causes: Sequence[Cause], rulebook: Rulebook) -> tuple[list[Fact], float | None]:
    """What speaks for which category, best first, and how many seconds the text asks us to wait."""
    reading = Reading(causes, rulebook)
    facts = reading.facts
    if any(_is_connection(fact) for fact in facts) and (reading.store or _names_store(causes, rulebook)):
        facts = [_at_store(fact) for fact in facts]
    if len(facts) > 1:
        facts.sort(key=_precedence)
    return facts, reading.wait


def _names_store(causes: Sequence[Cause], rulebook: Rulebook) -> bool:
    """True if a class or a package in the chain belongs to a client of a database, a cache or a message broker."""
    for cause in causes:
        names = (cause.type, *cause.bases, *(value for kind, value in cause.codes if kind == "package"))
        if any(name.partition(".")[0] in rulebook.stores for name in names):
            return True
    return False


def _is_connection(fact: Fact) -> bool:
    return fact.rule.category is NETWORK and fact.layer not in ("user", "structured")


def _at_store(fact: Fact) -> Fact:
    """A connection that fails at a store is that store's outage (labels.md, boundaries)."""
    return fact.under(replace(fact.rule, category=TEMPORARY)) if _is_connection(fact) else fact


def weighed(causes: Sequence[Cause], facts: Sequence[Fact]) -> list[str]:
    """What a model looks at: the class of the outermost exception, all messages, and the facts, best first."""
    text = simplified("\n".join(without_statement(cause.message) for cause in causes))
    return features(last_part(causes[0].type), text, [(f.rule.rank, f.rule.category.key, f.rule.id) for f in facts])


def _is_plain(facts: Sequence[Fact]) -> bool:
    """True if the facts need not be weighed: the best is sure, comes from a table, or nothing disagrees with it."""
    if not facts:
        return False
    best = facts[0].rule
    if best.rank >= _SURE or (facts[0].layer in ("code", "class") and best.rank >= _TABLE):
        return True
    return best.rank >= _AGREED and all(fact.rule.category.key == best.category.key for fact in facts)


def _weighed(causes: Sequence[Cause], facts: list[Fact], model: Model) -> list[Fact]:
    """The facts with the model's own before them, unless it is unsure or says the same as the best of them."""
    found = weighed(causes, facts)
    chances = model.judge(found)
    chance = max(chances)
    key = model.categories[chances.index(chance)]
    best = facts[0].rule.category if facts else UNKNOWN
    if key == best.key or chance < (model.overrule if facts else model.guess):
        return facts
    category = CATEGORIES[key]
    # What says so may be no more than words that often stand beside outages: no reason to run a payment again.
    doubted = any(not fact.rule.category.retry and fact.rule.rank >= _DOUBT for fact in facts)
    sure = not doubted and (best.retry or (chance >= model.retry and not facts))
    caution = UNSURE if category.retry and not sure else ""
    said = ", ".join(model.because(found, key))
    return [
        Fact(Rule(_BY_WORDS, category, _SURE, round(min(chance, _CEILING), 2), caution), "statistics", 0, said),
        *facts,
    ]


def _precedence(fact: Fact) -> tuple[int, int, bool, int, str]:
    """Sort key: best fact first, and the same order on every machine."""
    rule = fact.rule
    return (-rule.rank, -fact.depth, rule.category.retry, _LAYERS[fact.layer], rule.id)


def _verdict(causes: Sequence[Cause], facts: Sequence[Fact], wait: float | None, *, brief: bool) -> Verdict:
    if not facts:
        return Verdict(UNKNOWN, 0.0, "none", "none", "", _shown(causes, len(causes) - 1), wait)
    best = facts[0]
    rank, depth, category = best.rule.rank, best.depth, best.rule.category
    equals = [fact for fact in facts if fact.rule.rank == rank and fact.depth == depth]
    return Verdict(
        category=category,
        confidence=best.rule.confidence,
        rule=best.rule.id,
        layer=best.layer,
        matched=max((one.matched for one in equals if one.rule.id == best.rule.id), key=len),
        root_cause=_shown(causes, max(fact.depth for fact in facts)),
        retry_after_seconds=wait,
        conflict=any(fact.rule.category.key != category.key for fact in equals),
        caution=next((fact.rule.caution for fact in facts if fact.rule.caution), ""),
        runners_up=() if brief else tuple(_evidence(fact) for fact in facts[1 : _RUNNERS_UP_LIMIT + 1]),
    )


def _evidence(fact: Fact) -> Evidence:
    rule = fact.rule
    return Evidence(rule.category.key, fact.layer, rule.id, fact.matched, fact.depth, rule.confidence)


def _shown(causes: Sequence[Cause], depth: int) -> str:
    if not causes:
        return ""
    cause = causes[depth]
    return ": ".join(part for part in (cause.type, cause.message) if part)[:_ROOT_CAUSE_LIMIT]
