"""An operator's word over what the classifier found."""

from __future__ import annotations

from dataclasses import replace

from regrow.model import OPERATOR, Category, Evidence, Failure, Label, Verdict

#: Precision that is assumed of an operator's word: he may err, and a group may hold two causes. An estimate.
CONFIDENCE = 0.99

#: A verdict's runners-up at most.
RUNNERS_UP = 8

#: Said of a task whose process was lost with it, where no rule says it. The same words as in `rules/30_classes.toml`.
CUT_OFF = "work may be done already: the task was cut off while it ran"


def judged(failure: Failure, verdict: Verdict, label: Label, category: Category) -> Verdict:
    """The verdict over a failure of a group for which an operator has given his word.

    What speaks against a retry without a person goes on speaking: he has said what the failure is, not that its work
    was not done.

    Args:
        failure: What happened.
        verdict: What the classifier found.
        label: The operator's word.
        category: What it names.
    """
    found = Evidence(verdict.category.key, verdict.layer, verdict.rule, verdict.matched, 0, verdict.confidence)
    others = verdict.runners_up if verdict.layer == "none" else (found, *verdict.runners_up)
    return replace(
        verdict,
        category=category,
        confidence=CONFIDENCE,
        rule=OPERATOR,
        layer=OPERATOR,
        matched=_said(label),
        conflict=False,
        caution=verdict.caution or (CUT_OFF if failure.died else ""),
        runners_up=others[:RUNNERS_UP],
    )


def _said(label: Label) -> str:
    because = f": {label.because}" if label.because else ""
    return f"{label.by}, {label.at:%Y-%m-%d %H:%M:%S} UTC{because}"
