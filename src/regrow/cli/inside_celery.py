"""`celery -A proj regrow ...`: hands its arguments to `regrow`, with the application that Celery loaded."""

from __future__ import annotations

import os

import click


@click.command(
    "regrow",
    short_help="Failed tasks: what failed, why, and what became of it.",
    add_help_option=False,  # so that `celery regrow --help` is the help of `regrow`
    context_settings={"ignore_unknown_options": True},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def celery_command(context: click.Context, arguments: tuple[str, ...]) -> None:
    """Failed tasks: what failed, why, and what became of it."""
    from regrow.cli.app import run
    from regrow.cli.session import Session

    if context.obj.no_color:
        os.environ["NO_COLOR"] = "1"

    run(arguments, program="celery regrow", session=Session(app=context.obj.app))
