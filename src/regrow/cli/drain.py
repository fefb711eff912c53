"""`regrow drain`: empty the ledger of what it holds for Celery, before Regrow is removed."""

# typer makes a flag of a boolean, however it is declared.
# ruff: noqa: FBT002

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from regrow.cli.common import AsJson, complain, person
from regrow.errors import StillParking

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regrow.cli.screen import Screen
    from regrow.cli.session import Session
    from regrow.model import Hindrance, Left, Leftover
    from regrow.ports import Words

#: Failures that are listed when the time is over.
SHOWN = 20
SHOWN_TO_PROGRAMS = 1000


def drain(
    context: typer.Context,
    timeout: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="Stop after this time.")] = 600,
    fail: Annotated[bool, typer.Option("--fail", help="End what is scheduled as failed, without a last run.")] = False,
    json: AsJson = False,
) -> None:
    """Empty the ledger of what it holds for Celery, before Regrow is removed.

    What is scheduled gets one last run now, and what is held for a person is ended as failed. Set FAILURE_MODE=observe
    first, and keep the workers running. Exit code 0: nothing is left; 1: the time is over, and what is left is listed.
    """
    from regrow.oversight import Emptying
    from regrow.wiring import drain as empty

    session: Session = context.obj
    app, settings, _ = session.needed_app(), session.settings, session.words
    progress = (lambda _left: None) if json else Progress(session.screen).show
    wish = Emptying(person(), fail, settings.notification_enabled, timeout)
    _log_beside_progress(line=not json and not session.screen.piped)
    try:
        since, left, number = empty(app, settings, wish, progress)
    except StillParking:
        complain(
            _(
                "the mode is recover, so new tasks would be parked meanwhile; first set FAILURE_MODE=observe in .env "
                "or regrow.toml (running workers follow), or where else you set it, and restart the workers then"
            )
        )
        raise typer.Exit(2) from None
    listed = [] if left.nothing else session.oversight.leftovers(since, limit=SHOWN_TO_PROGRAMS if json else SHOWN)
    undelivered = session.ledger.undelivered(limit=SHOWN) if left.messages else []
    if json:
        _print_json(left, listed, undelivered)
    else:
        session.screen.end_progress()
        show_end(left, listed, undelivered, stopped=number != 0, screen=session.screen)
    raise typer.Exit(128 + number if number else 0 if left.nothing else 1)


def _log_beside_progress(*, line: bool) -> None:
    import logging

    # On a terminal the line of the progress gives way.
    logging.basicConfig(format=("\r\x1b[K" if line else "") + "%(levelname)s %(message)s", level=logging.WARNING)


class Progress:
    """Says what is left: on a terminal in one line that changes, in a pipe with a new line for each change.

    Args:
        screen: The reader's.
    """

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._said = ""

    def show(self, left: Left) -> None:
        """Say it, if it is news."""
        text = left_text(left, self._screen.words)
        if text != self._said:
            self._screen.progress(text)
            self._said = text


def left_text(left: Left, _: Words) -> str:
    """What is left, in one line."""
    parts = [_("tasks left: {n} ({sent} sent)").format(n=left.tasks, sent=left.sent)]
    if left.messages:
        parts.append(_("messages left: {n}").format(n=left.messages))
    if left.copies:
        parts.append(_("records of the application that are behind: {n}").format(n=left.copies))
    if left.spooled:
        parts.append(_("the spool is not empty"))
    return _("; ").join([*parts, counts(left, _)])


def counts(left: Left, _: Words) -> str:
    """What has become of the rest."""
    return _("recovered {recovered}, failed {failed}").format(recovered=left.recovered, failed=left.failed)


def show_end(
    left: Left,
    listed: Sequence[tuple[Leftover, Hindrance]],
    undelivered: Sequence[str],
    *,
    stopped: bool,
    screen: Screen,
) -> None:
    """What has come of it."""
    _ = screen.words
    if left.nothing:
        screen.print(_("Nothing is left: Regrow can be removed ({counts}).").format(counts=counts(left, _)))
        return
    why = _("Stopped: {left}.") if stopped else _("The time is over: {left}.")
    screen.print(why.format(left=left_text(left, _)))
    if listed:
        show_left(listed, screen)
    if left.tasks > len(listed):
        screen.remark(_("{n} more: regrow failures").format(n=left.tasks - len(listed)))
    for line in undelivered:
        screen.print(_("not delivered: {why}").format(why=line))
    screen.remark(_("Mend that and run it again: it goes on where it stopped."))


def show_left(listed: Sequence[tuple[Leftover, Hindrance]], screen: Screen) -> None:
    """What is left, with the reason."""
    from regrow.cli.text import one_line

    _ = screen.words
    rows = [
        (str(one.id), one.task_id, one.task_name, one.state.value, reason(hindrance, one, _))
        for one, hindrance in listed
    ]
    if screen.piped:
        for row in rows:
            sys.stdout.write("\t".join(one_line(cell) for cell in row) + "\n")
        return
    from rich.console import Group
    from rich.text import Text

    from regrow.cli.text import plain

    # Ids and names are shown whole, so that they can be copied; each gets a line of its own.
    screen.table(
        (_("Id"), _("State"), _("Task, why")),
        [
            (number, state, Group(Text(plain(name), "bold"), Text(plain(task_id), "dim"), Text(why)))
            for number, task_id, name, state, why in rows
        ],
        numbers=(0,),
    )


def reason(hindrance: Hindrance, one: Leftover, _: Words) -> str:
    """Why something is left."""
    from regrow.model import Hindrance

    return {
        Hindrance.RUNNING: _("a worker is running it"),
        Hindrance.QUEUED: _("it waits in the queue {queue}, whose workers are busy"),
        Hindrance.NO_WORKER: _("no worker has taken the order: is a worker running that consumes the queue {queue}?"),
        Hindrance.NOT_SENT: _("the broker has not taken the order yet; the lines above may say why"),
        Hindrance.ENDING: _("no worker has taken the order to fail it yet; after a while it is failed without one"),
        Hindrance.PARKED_MEANWHILE: _("a worker has parked it since: is one still in recover mode?"),
    }[hindrance].format(queue=one.queue or "?")


def _print_json(left: Left, listed: Sequence[tuple[Leftover, Hindrance]], undelivered: Sequence[str]) -> None:
    from regrow.cli.text import to_json

    numbers = asdict(left)
    del numbers["more"]
    rows = [
        {"id": one.id, "task_id": one.task_id, "task_name": one.task_name, "state": one.state, "queue": one.queue}
        | {"why": why.value}
        for one, why in listed
    ]
    typer.echo(to_json({"drained": left.nothing, **numbers, "left": rows, "undelivered": list(undelivered)}, indent=2))
