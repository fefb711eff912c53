"""How targets, alerts and inboxes look on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from regrow.cli.screen import Screen
from regrow.cli.text import one_line
from regrow.model import Alert, Notice
from regrow.report import Target

#: A title may hold the error where the cause is unknown; `regrow show` has all of it.
TITLE_LIMIT = 80


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
