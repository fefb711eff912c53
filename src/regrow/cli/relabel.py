"""`regrow relabel`: say what the failures of a group are, from now on."""

# typer makes a flag of a boolean, however it is declared.
# ruff: noqa: FBT002

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from regrow.cli.common import AsJson, complain, found, person
from regrow.errors import SettingsError

if TYPE_CHECKING:
    from regrow.cli.screen import Screen
    from regrow.cli.session import Session
    from regrow.model import OwnRule, Record
    from regrow.ports import Words
    from regrow.school import Relabelled


def relabel(
    context: typer.Context,
    what: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ID] [CATEGORY]", help="The failure's or task's id, and the right category."),
    ] = None,
    group: Annotated[str, typer.Option(metavar="FINGERPRINT", help="A group, instead of a failure's ID.")] = "",
    author: Annotated[str, typer.Option(metavar="NAME", help="Who says so, if not you.")] = "",
    because: Annotated[str, typer.Option(metavar="TEXT", help="Why.")] = "",
    undo: Annotated[bool, typer.Option("--undo", help="Take back what was said of the group.")] = False,
    json: AsJson = False,
) -> None:
    """Say what the failures of a group are.

    From then on each failure with the same fingerprint is taken for that; running workers follow within seconds. What
    lies in the ledger already keeps its history.
    """
    session: Session = context.obj
    words = list(what or ())
    record, category = _asked(session, words, group, undo=undo)
    by = author or person()
    school = session.school
    if undo:
        answer = school.unlabel(record.fingerprint, by=by, failure=None if group else record.id)
    else:
        answer = school.relabel(record, category, by=by, because=because, alone=not group)
    if json:
        from regrow.cli.text import to_json

        typer.echo(to_json(_json(record, answer), indent=2))
    else:
        show_relabelled(record, answer, session.screen, retry=bool(category) and school.categories[category].retry)


def _asked(session: Session, words: list[str], group: str, *, undo: bool) -> tuple[Record, str]:
    """A failure of the group, and the category."""
    needed = (0 if group else 1) + (0 if undo else 1)
    if len(words) != needed:
        raise SettingsError(
            "give the ID of a failure and a CATEGORY, or --group FINGERPRINT and a CATEGORY; with --undo no CATEGORY"
        )
    category = "" if undo else words[-1]
    if not group:
        return found(session, words[0]), category
    latest = session.ledger.group(group, limit=1).latest
    if latest is None:
        complain(session.words("no failure with the fingerprint {fingerprint} in the ledger").format(fingerprint=group))
        raise typer.Exit(1)
    return found(session, str(latest)), category


def _json(record: Record, answer: Relabelled) -> dict[str, Any]:
    from dataclasses import asdict

    from regrow.cli.rules_text import rule_json

    return {
        "id": record.id,
        "fingerprint": record.fingerprint,
        "label": None if answer.label is None else asdict(answer.label),
        "before": None if answer.before is None else asdict(answer.before),
        "group": asdict(answer.group),
        "proposal": None if answer.proposal is None else rule_json(answer.proposal),
    }


def show_relabelled(record: Record, answer: Relabelled, screen: Screen, *, retry: bool) -> None:
    """What holds from now on, and what can be done about the failures that lie in the ledger.

    Args:
        record: A failure of the group.
        answer: What came of it.
        screen: Where to print.
        retry: True if failures of the category are retried.
    """
    from regrow import notify
    from regrow.cli.text import one_line

    _ = screen.words
    label, group = answer.label, answer.group
    if label is None:
        screen.print(_("From now on the rules judge this group again. Running workers follow within seconds."))
    else:
        name = _("{name} ({key})").format(name=notify.name(label.category, _), key=label.category)
        screen.print(
            _("From now on failures of this group count as {category}. Running workers follow within seconds.").format(
                category=name
            )
        )
    before = answer.before
    screen.facts(
        (
            (_("Fingerprint"), group.fingerprint),
            (_("Error"), one_line(record.message)),
            (_("Because"), "" if label is None else one_line(label.because)),
            (_("Before"), "" if before is None else f"{before.category}, {one_line(before.by)}"),
            (_("In the ledger"), ", ".join(f"{count} {state}" for state, count in sorted(group.by_state.items()))),
        )
    )
    if label is not None:
        for line in _to_do(answer, screen, retry=retry):
            screen.print(line)
    if answer.proposal is not None:
        show_proposal(answer.proposal, screen)


def _to_do(answer: Relabelled, screen: Screen, *, retry: bool) -> list[str]:
    """What can be done about those that lie in the ledger; they are left as they are."""
    _ = screen.words
    group, lines = answer.group, []
    if retry and group.resting:
        lines.append(
            _those(_, _("Those that rest stay as they are; to run them again: {commands}"), "retry", group.resting)
        )
    if not retry and group.scheduled:
        lines.append(
            _those(
                _,
                _("Those that wait for a retry stay as they are; to stop them: {commands}"),
                "dismiss",
                group.scheduled,
            )
        )
    if retry:
        lines.append(
            _("A task that may have done its work, or whose owner forbids retries, is still not retried by itself.")
        )
    return lines


def _those(_: Words, text: str, command: str, ids: tuple[int, ...]) -> str:
    return text.format(commands="; ".join(f"regrow {command} {one}" for one in reversed(ids)))


def show_proposal(rule: OwnRule, screen: Screen) -> None:
    """A rule that is proposed."""
    from regrow.cli.text import plain

    _ = screen.words
    screen.print()
    screen.heading(
        _("Three groups with this category have words in common, so a rule is proposed. It decides nothing yet.")
    )
    screen.facts(
        (
            (_("Rule"), rule.id),
            (_("Pattern"), plain(rule.patterns[0])),
            (_("Category"), rule.category),
            (_("Try it"), f"regrow rules try --proposal {rule.id}"),
            (_("Add it"), f"regrow rules add --proposal {rule.id}"),
            (_("Refuse it"), f"regrow rules disable {rule.id}"),
        )
    )
