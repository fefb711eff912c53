"""`regrow scan`, `report` and `analyze`: what beat does by the clock, by hand."""

# typer makes a flag of a boolean, however it is declared.
# ruff: noqa: FBT002

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from regrow.cli.common import AsJson, complain

if TYPE_CHECKING:
    from regrow.cli.session import Session


def scan(context: typer.Context, json: AsJson = False) -> None:
    """Look for failures that no door saw.

    The sources are those that your application has given to `install`.
    """
    from dataclasses import asdict

    from regrow.cli.text import to_json

    session: Session = context.obj
    _ = session.words
    session.needed_app()
    result = session.oversight.scan()
    if json:
        typer.echo(to_json(asdict(result), indent=2))
    elif result.busy:
        typer.echo(_("Another scan is running; nothing was done."), err=True)
    else:
        text = _("{found} failed tasks found, {taken} of them new.")
        typer.echo(text.format(found=result.found, taken=result.taken))
    if not json:
        for error in result.errors:
            complain(error)
    if result.busy or result.errors:
        raise typer.Exit(1)


def report(context: typer.Context) -> None:
    """Report every failure handled since the last report.

    JSON on stdout, and a file in the folder of reports.
    """
    from regrow.cli.text import to_json

    session: Session = context.obj
    typer.echo(to_json(session.oversight.report(), indent=2))


def analyze(
    context: typer.Context,
    days: Annotated[int, typer.Option(min=1, max=365, help="How far back.")] = 7,
) -> None:
    """Report the pattern of the last days' failures.

    JSON on stdout, and a file in the folder of reports.
    """
    from regrow.cli.text import to_json

    session: Session = context.obj
    typer.echo(to_json(session.oversight.analyze(days=days), indent=2))
