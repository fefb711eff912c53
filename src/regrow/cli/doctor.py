"""`regrow doctor`: what is wrong with a set-up, and how to mend it."""

# typer makes a flag of a boolean, however it is declared.
# ruff: noqa: FBT002

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from regrow.cli.common import AsJson

if TYPE_CHECKING:
    from regrow.cli.screen import Screen
    from regrow.cli.session import Session
    from regrow.model import Finding


def doctor(context: typer.Context, json: AsJson = False) -> None:
    """What is wrong with your set-up, and how to mend it. Changes nothing.

    It asks broker, workers, result backend, ledger and this machine's folders; it takes some seconds. Exit code 1 if
    there is a problem; warnings alone are 0.
    """
    from regrow import report, wiring
    from regrow.cli.text import to_json
    from regrow.model import Level

    session: Session = context.obj
    app, settings = session.needed_app(), session.settings
    setup = wiring.examine(app, settings, app_name=session.app_name)
    findings = report.diagnose(setup, wiring.switches(settings), session.words)
    counts = Counter(one.level for one in findings)
    if json:
        answer = {
            "problems": counts[Level.PROBLEM],
            "warnings": counts[Level.WARNING],
            "findings": [asdict(one) for one in findings],
        }
        typer.echo(to_json(answer, indent=2))
    elif session.screen.piped:
        _print_lines(findings)
    else:
        show(findings, session.screen)
    raise typer.Exit(1 if counts[Level.PROBLEM] else 0)


def _print_lines(findings: Sequence[Finding]) -> None:
    """One line per finding with tabs between the fields, for grep, cut and awk."""
    from regrow.cli.text import one_line

    for one in findings:
        sys.stdout.write("\t".join((one.level, one.name, one_line(one.text, 1000), one_line(one.mend, 1000))) + "\n")


def show(findings: Sequence[Finding], screen: Screen) -> None:
    """What a person sees on a terminal."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    from regrow.cli.text import one_line
    from regrow.model import Level

    _ = screen.words
    styles = {Level.PROBLEM: "bold red", Level.WARNING: "yellow", Level.FINE: "green"}
    levels = {Level.PROBLEM: _("problem"), Level.WARNING: _("warning"), Level.FINE: _("fine")}
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for one in findings:
        text = Text(one_line(one.text, 1000))
        if one.level is Level.FINE:
            grid.add_row(Text(levels[one.level], styles[one.level]), text)
            continue
        mend = Text(_("Mend: {mend}").format(mend=one_line(one.mend, 1000)), "cyan")
        grid.add_row(Text(levels[one.level], styles[one.level]), Group(Text(one.name, "bold"), text, mend, Text()))
    screen.print(Padding(grid, (0, 0, 0, 2), expand=False))
    counts = Counter(one.level for one in findings)
    summary = _("Problems: {problems}, warnings: {warnings}").format(
        problems=counts[Level.PROBLEM], warnings=counts[Level.WARNING]
    )
    screen.print()
    screen.print(Text(f"  {summary}", styles[findings[0].level] if findings else ""))
