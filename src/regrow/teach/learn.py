"""The journal of lessons -> what is known."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from regrow.model import Label, Lesson, Lessons, OwnRule, RuleState, Teaching

#: What an operator's word does to a rule that stands somewhere; in every other case it does nothing.
_STEPS = {
    (Teaching.DISABLE, RuleState.LIVE): RuleState.DISABLED,
    (Teaching.DISABLE, RuleState.PROPOSED): RuleState.REFUSED,
    (Teaching.ENABLE, RuleState.DISABLED): RuleState.LIVE,
    (Teaching.ENABLE, RuleState.REFUSED): RuleState.PROPOSED,
}

#: A rule that stands there was never added, so that its id can still be given.
_NEVER_ADDED = (RuleState.PROPOSED, RuleState.REFUSED)


def learn(lessons: Lessons, journal: Iterable[Lesson]) -> Lessons:
    """What is known after some more lines of the journal; lines that are counted already change nothing.

    Args:
        lessons: What was known before.
        journal: The lines, in their order.
    """
    labels, rules, last = dict(lessons.labels), dict(lessons.rules), lessons.last
    for lesson in journal:
        if lesson.id <= last:
            continue
        last = lesson.id
        if lesson.kind is Teaching.LABEL:
            labels[lesson.subject] = _label(lesson)
        elif lesson.kind is Teaching.UNLABEL:
            labels.pop(lesson.subject, None)
        else:
            _learn_rule(rules, lesson)
    return Lessons(labels, rules, last)


def _label(lesson: Lesson) -> Label:
    return Label(lesson.subject, lesson.category, lesson.by, lesson.at, lesson.because, lesson.text)


def _learn_rule(rules: dict[str, OwnRule], lesson: Lesson) -> None:
    known = rules.get(lesson.subject)
    if lesson.kind is Teaching.PROPOSE:
        if known is None and lesson.rule is not None:
            rules[lesson.subject] = _standing(lesson.rule, RuleState.PROPOSED, lesson)
    elif lesson.kind is Teaching.ADD:
        # An id that two operators give in one moment is the first one's.
        if lesson.rule is not None and (known is None or known.state in _NEVER_ADDED):
            rules[lesson.subject] = _standing(lesson.rule, RuleState.LIVE, lesson)
            proposal = rules.get(lesson.proposal)
            if proposal is not None and proposal.state in _NEVER_ADDED:
                del rules[lesson.proposal]
    elif known is not None and (lesson.kind, known.state) in _STEPS:
        rules[lesson.subject] = _standing(known, _STEPS[lesson.kind, known.state], lesson)


def _standing(rule: OwnRule, state: RuleState, lesson: Lesson) -> OwnRule:
    return replace(rule, id=lesson.subject, state=state, at=lesson.at, changed_by=lesson.by)
