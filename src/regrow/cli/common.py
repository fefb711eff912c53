"""What the commands' modules share."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from regrow.cli.session import Session
    from regrow.model import Record

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
FailureId = Annotated[str, typer.Argument(metavar="ID", help="The failure's id, or the task's id.")]


def complain(problem: str) -> None:
    """Say on stderr what is wrong."""
    from regrow.cli.text import plain

    colour = False if "NO_COLOR" in os.environ else None
    typer.secho(f"regrow: {plain(problem)}", fg="red", err=True, color=colour)


def found(session: Session, which: str) -> Record:
    """One failure with its history; ends the command if there is none."""
    record = session.ledger.find(which)
    if record is None:
        complain(session.words("no failure with the id {id} in the ledger").format(id=which))
        raise typer.Exit(1)
    return record


def person() -> str:
    """Who is at the keyboard, for the story of a failure."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may have no name for its user
        return "cli"
