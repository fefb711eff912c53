"""Facts -> Verdict: which fact wins, and what else spoke up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from regrow.classify.facts import Fact, Reading
from regrow.classify.rulebook import Rulebook
from regrow.model import NETWORK, TEMPORARY, UNKNOWN, Cause, Evidence, Verdict

_LAYERS = {"user": 0, "structured": 1, "code": 2, "class": 3, "pattern": 4}
_ROOT_CAUSE_LIMIT = 500
_RUNNERS_UP_LIMIT = 8


def classify(causes: Sequence[Cause], rulebook: Rulebook, *, brief: bool = False) -> Verdict:
    """Why a task failed.

    Args:
        causes: The exception chain, outermost first.
        rulebook: What is known.
        brief: Leave out the runners-up, whose matched texts cost as much again.
    """
    reading = Reading(causes, rulebook)
    facts = reading.facts
    if any(_is_connection(fact) for fact in facts) and (reading.store or _names_store(causes, rulebook)):
        facts = [_at_store(fact) for fact in facts]
    if len(facts) > 1:
        facts.sort(key=_precedence)
    carried = [cause.retry_after_seconds for cause in causes if cause.retry_after_seconds is not None]
    return _verdict(causes, facts, max(carried) if carried else reading.wait, brief=brief)


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
        matched=max((fact.matched for fact in equals if fact.rule is best.rule), key=len),
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
