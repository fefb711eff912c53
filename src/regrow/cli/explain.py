"""What `explain` and `classify` say: which fact decided, what it matched, and what else spoke up."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from regrow import notify
from regrow.cli.text import one_line
from regrow.model import CATEGORIES, AttemptRecord, Audience, Category, Evidence, Label, Reason, Verdict
from regrow.ports import Words

if TYPE_CHECKING:
    from regrow.cli.screen import Screen


def show_verdict(verdict: Verdict, screen: Screen, *, decision: str = "", label: Label | None = None) -> None:
    """Why a task failed, and how we know.

    Args:
        verdict: Why it failed.
        screen: Where to print.
        decision: Why the last decision was taken; '' for a text that is in no ledger.
        label: What an operator has said of its group; None if nobody has.
    """
    _ = screen.words
    key = verdict.category.key
    wait = verdict.retry_after_seconds
    screen.facts(
        (
            (_("Category"), _("{name} ({key})").format(name=notify.name(key, _), key=key)),
            (_("Retry"), _retry(verdict, _)),
            (_("Decided by"), _winner(verdict, _)),
            (_("Matched"), one_line(verdict.matched)),
            (_("Root cause"), verdict.root_cause),
            (_("Told to wait"), "" if wait is None else screen.span(wait)),
            (_("Conflict"), _conflict(_) if verdict.conflict else ""),
            (_("Decision"), decision),
            (_("Relabelled"), "" if label is None else label_text(label, screen)),
            (_("Advice"), notify.advice(verdict if label is None else label.category, _)),
        )
    )
    if verdict.runners_up:
        screen.print()
        screen.heading(_("What else spoke up"))
        titles = (_("Category"), _("Sure"), _("Kind of fact"), _("Matched, rule"))
        screen.table(titles, [_runner_up(one, _) for one in verdict.runners_up], numbers=(1,))


def verdict_line(verdict: Verdict) -> str:
    """A verdict on one line."""
    retry = "retry" if verdict.category.retry and not verdict.caution else "no retry"
    fields = (
        verdict.category.key,
        percent(verdict.confidence),
        retry,
        verdict.rule,
        one_line(verdict.matched),
    )
    return "  ".join(fields).rstrip()


def stored_verdict(attempt: AttemptRecord) -> Verdict:
    """The verdict as it was given when the run failed; what cannot be read is left empty."""
    try:
        found = json.loads(attempt.verdict)
    except ValueError:
        found = {}
    fields: dict[str, Any] = found if isinstance(found, dict) else {}
    # What an application calls its own is known by what was decided about it.
    heals = attempt.reason not in (Reason.NOT_HEALABLE, Reason.UNKNOWN_CAUSE, Reason.EXPECTED)
    return Verdict(
        category=CATEGORIES.get(attempt.category, Category(attempt.category, Audience.ADMINISTRATOR, heals)),
        confidence=attempt.confidence,
        rule=attempt.rule,
        layer=str(fields.get("layer", "")),
        matched=str(fields.get("matched", "")),
        root_cause=str(fields.get("root_cause", "")),
        retry_after_seconds=fields.get("retry_after_seconds"),
        conflict=bool(fields.get("conflict")),
        caution=str(fields.get("caution", "")),
        runners_up=tuple(Evidence(**one) for one in fields.get("runners_up", ())),
    )


def percent(confidence: float) -> str:
    """A confidence for people."""
    return f"{100 * confidence:.0f} %"


def label_text(label: Label, screen: Screen) -> str:
    """What an operator has said of a group of failures."""
    _ = screen.words
    name = _("{name} ({key})").format(name=notify.name(label.category, _), key=label.category)
    said = _("{category}, for all failures of this group from then on; said by {who}, {time}").format(
        category=name, who=one_line(label.by), time=screen.moment(label.at)
    )
    return _("{said}: {because}").format(said=said, because=one_line(label.because)) if label.because else said


def layer_name(layer: str, _: Words) -> str:
    """A kind of fact for people."""
    return {
        "operator": _("an operator's word"),
        "user": _("a rule of your own"),
        "structured": _("structured text"),
        "code": _("an error code"),
        "class": _("the exception's class"),
        "pattern": _("words in the message"),
        "statistics": _("the wording as a whole"),
        "none": _("nothing"),
    }.get(layer, layer)


def _retry(verdict: Verdict, _: Words) -> str:
    if verdict.layer == "none":
        return _("no, nothing says that waiting would help")
    if not verdict.category.retry:
        return _("no, trying again cannot heal this")
    if verdict.caution:
        return _("only if a person says so: {caution}").format(caution=_(verdict.caution))
    return _("yes, time may heal this")


def _winner(verdict: Verdict, _: Words) -> str:
    if verdict.layer == "none":
        return _("nothing in the text says why it failed")
    return _("{layer}, rule {rule}, {percent} sure").format(
        layer=layer_name(verdict.layer, _), rule=verdict.rule, percent=percent(verdict.confidence)
    )


def _conflict(_: Words) -> str:
    return _("facts of equal weight disagreed, so the careful answer was taken")


def _runner_up(one: Evidence, _: Words) -> tuple[str, str, str, str]:
    said = f"{one_line(one.matched, 60)} ({one.rule})"
    return one.category, percent(one.confidence), layer_name(one.layer, _), said
