"""How spool, processes, targets, alerts and inboxes look on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from rich.text import Text

from regrow.cli.screen import Screen
from regrow.cli.text import one_line, plain
from regrow.model import DISPATCHER, WORKER, Alert, Member, Notice
from regrow.ports import Words
from regrow.report import Target

#: A title may hold the error where the cause is unknown; `regrow show` has all of it.
TITLE_LIMIT = 80

#: Processes that are listed; a ledger may serve hundreds.
MEMBERS_SHOWN = 10


def spool_fact(waiting: int, damaged: int, folder: str, _: Words) -> Text:
    """What waits on this machine's disk."""
    text = Text(_("{n} bytes wait in {folder}").format(n=waiting, folder=plain(folder)))
    if damaged:
        text.append("\n" + _("{n} bytes more are damaged and were put aside there").format(n=damaged), "yellow")
    return text


def show_members(members: Sequence[Member], silence: timedelta, screen: Screen) -> None:
    """Who is at work, and who has fallen silent."""
    _ = screen.words
    alive = [one for one in members if one.silent_for(screen.now) <= silence]
    silent = [one for one in members if one.silent_for(screen.now) > silence]
    rows: list[list[Text]] = []
    for one in alive:
        when = _("since {time}").format(time=screen.moment(one.started_at, short=True))
        rows.append([Text(cell) for cell in _member(one, when, _)])
    for one in silent:
        when = _("last seen {time}").format(time=screen.moment(one.seen_at, short=True))
        rows.append([Text(cell, "yellow") for cell in _member(one, when, _)])
    screen.print()
    screen.heading(_("At work"))
    if rows:
        screen.table((_("Process"), _("Signs of life"), _("Name")), rows[:MEMBERS_SHOWN])
    else:
        screen.print(_("  no worker and no dispatcher has given a sign of life"))
    if len(rows) > MEMBERS_SHOWN:
        screen.remark(_("{n} more: regrow status --json").format(n=len(rows) - MEMBERS_SHOWN))


def _member(member: Member, when: str, _: Words) -> list[str]:
    kinds = {WORKER: _("worker"), DISPATCHER: _("dispatcher")}
    name = one_line(member.name)
    if member.spooled_bytes:
        name = _("{name}, {n} bytes in its spool").format(name=name, n=member.spooled_bytes)
    return [kinds.get(member.kind, member.kind), when, name]


def show_targets(targets: Sequence[Target], screen: Screen) -> None:
    """How the running system compares with its targets."""
    _ = screen.words
    screen.print()
    screen.heading(_("Targets, last 7 days"))
    marks = {True: _("met"), False: _("missed"), None: ""}
    screen.table(
        ("", "", "", ""),
        [(one.text, one.shown, _("target {target}").format(target=one.target), marks[one.met]) for one in targets],
    )


def show_alerts(alerts: Sequence[Alert], screen: Screen) -> None:
    """Alerts, newest first."""
    _ = screen.words
    if not alerts:
        screen.print(_("No alerts."))
        return
    screen.heading(_("System alerts"))
    screen.table(
        [_("Alert"), _("Opened"), _("Count"), _("What")],
        [
            [str(one.id), screen.moment(one.opened_at, short=True), str(one.count), one_line(one.title, TITLE_LIMIT)]
            for one in alerts
        ],
    )


def show_inbox(notices: Sequence[Notice], screen: Screen) -> None:
    """A user's messages, newest first."""
    _ = screen.words
    if not notices:
        screen.print(_("No messages."))
    for number, one in enumerate(notices):
        if number:
            screen.print()
        screen.heading(f"{screen.moment(one.created_at)}  {one.title}")
        screen.print(one.body)
