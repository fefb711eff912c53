"""How rules, their trials and their faults look."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from regrow.cli.text import one_line, plain
from regrow.model import OwnRule, RuleState, Sample

if TYPE_CHECKING:
    from regrow.cli.screen import Screen
    from regrow.ports import Words
    from regrow.teach import Change, Trial

#: Characters of a pattern or an error that a table shows.
SHOWN = 100


@dataclass(frozen=True, slots=True)
class Listed:
    """A rule as a list shows it.

    Args:
        id: Its id.
        source: `built-in`, `file`, `ledger` or `proposed`.
        state: `live`, `disabled`, `proposed` or `refused`.
        category: Key of the category.
        text: Its pattern, or what else it is found by.
        author: Who wrote it.
    """

    id: str
    source: str
    state: str
    category: str
    text: str
    author: str = ""


def listed(rule: OwnRule) -> Listed:
    """A rule of one's own as a list shows it."""
    proposed = rule.state in (RuleState.PROPOSED, RuleState.REFUSED)
    source = "file" if rule.from_file else "proposed" if proposed else "ledger"
    return Listed(rule.id, source, rule.state, rule.category, " | ".join(rule.patterns), rule.author)


def rule_json(rule: OwnRule) -> dict[str, Any]:
    """A rule of one's own for programs."""
    return {**asdict(rule), "source": listed(rule).source}


def show_rules(rules: Sequence[Listed], screen: Screen) -> None:
    """A list of rules."""
    _ = screen.words
    if screen.piped:
        for one in rules:
            fields = (one.id, one.source, one.state, one.category, one.author, one.text)
            sys.stdout.write("\t".join(one_line(field, 1000) for field in fields) + "\n")
        return
    from rich.console import Group
    from rich.text import Text

    rows = []
    for one in rules:
        where, off = source_name(one.source, _), one.state in (RuleState.DISABLED, RuleState.REFUSED)
        if off:
            where = _("{source}, {state}").format(source=where, state=state_name(one.state, _))
        style = "dim" if off else "yellow" if one.source == "proposed" else ""
        text = Text(one_line(one.text, SHOWN), "dim", overflow="fold")
        what = Group(Text(plain(one.id), "bold"), Text(one.category), text)
        rows.append((Text(where, style), what))
    screen.table((_("From"), _("Rule, category, text")), rows)


def source_name(source: str, _: Words) -> str:
    """Where a rule comes from, for people."""
    return {
        "built-in": _("built-in"),
        "file": _("file"),
        "ledger": _("ledger"),
        "proposed": _("proposed"),
    }[source]


def state_name(state: str, _: Words) -> str:
    """Where a rule stands, for people."""
    return {
        RuleState.LIVE.value: _("in force"),
        RuleState.PROPOSED.value: _("proposed"),
        RuleState.DISABLED.value: _("disabled"),
        RuleState.REFUSED.value: _("refused"),
    }[state]


def show_rule(facts: Iterable[tuple[str, str]], examples: Sequence[tuple[str, Sequence[str]]], screen: Screen) -> None:
    """All of one rule."""
    screen.facts(facts)
    for title, texts in examples:
        if texts:
            screen.print()
            screen.heading(title)
            for text in texts:
                screen.print(f"  {one_line(text)}")


def trial_json(trial: Trial, days: float) -> dict[str, Any]:
    """What came of a trial, for programs."""
    return {
        "days": days,
        "failures": trial.seen,
        "matched": trial.hits,
        "changed": trial.changed,
        "changes": [
            {"from": one.before, "to": one.after, "count": one.count, "examples": [_example(x) for x in one.examples]}
            for one in _largest_first(trial.changes.values())
        ],
        "starts": {"count": trial.starts.count, "examples": [_example(one) for one in trial.starts.examples]},
        "stops": {"count": trial.stops.count, "examples": [_example(one) for one in trial.stops.examples]},
        "risky_starts": trial.risky,
        "held": trial.held,
    }


def _example(sample: Sample) -> dict[str, Any]:
    names = ("id", "task_name", "last_failed_at", "exception_type", "category", "rule")
    return {**{name: getattr(sample, name) for name in names}, "message": one_line(sample.message)}


def _largest_first(changes: Iterable[Change]) -> list[Change]:
    return sorted(changes, key=lambda one: (-one.count, one.before, one.after))


def show_trial(trial: Trial, days: float, screen: Screen) -> None:
    """What came of a trial."""
    _ = screen.words
    screen.print(
        _("Failures of the last {days} days: {seen}; matched: {hits}; with another category: {changed}").format(
            days=f"{days:g}", seen=trial.seen, hits=trial.hits, changed=trial.changed
        )
    )
    for change in _largest_first(trial.changes.values()):
        screen.print()
        screen.heading(f"{change.before} -> {change.after}: {change.count}")
        _show_examples(change, screen)
    screen.print()
    screen.facts(
        (
            (_("Retries it would start"), str(trial.starts.count)),
            (_("Retries it would stop"), str(trial.stops.count)),
            (_("Held for a person"), str(trial.held or "")),
        )
    )
    if trial.risky:
        screen.print(
            _("Of the retries that it would start, {n} are of failures that are business or data failures now.").format(
                n=trial.risky
            )
        )


def _show_examples(change: Change, screen: Screen) -> None:
    for one in change.examples:
        kind = one.exception_type.rpartition(".")[2]
        error = ": ".join(part for part in (kind, one.message) if part)
        screen.print(f"  {one.id}  {one_line(one.task_name, 60)}  {one_line(error, SHOWN)}")
