"""What a person orders: retry, dismiss, confirm; and what waits for persons: alerts, inboxes."""

# typer makes a flag of a boolean, however it is declared.
# ruff: noqa: FBT002

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from regrow.cli.common import AsJson, FailureId, complain, found, person
from regrow.errors import SettingsError

if TYPE_CHECKING:
    from regrow.cli.session import Session
    from regrow.model import Record


def retry(
    context: typer.Context,
    failure: FailureId,
    force: Annotated[bool, typer.Option("--force", help="Even if all allowed retries were made.")] = False,
    json: AsJson = False,
) -> None:
    """Run one failed task again now.

    It keeps its own id, and a dispatcher sends it at its next look. A retry that waits for its time is sent now.
    """
    from regrow import notify

    session: Session = context.obj
    _ = session.words
    record = found(session, failure)
    answer = session.oversight.again(str(record.id), force=force, by=person())
    if answer.success:
        text = _("Failure {id} will be sent again at once.").format(id=record.id)
    else:
        text = _("Failure {id} is not sent again: {why}").format(id=record.id, why=notify.refusal(answer, _))
    _answer(record, text, done=answer.success, json=json)


def dismiss(context: typer.Context, failure: FailureId, json: AsJson = False) -> None:
    """Leave one failed task.

    It is not retried, and Celery ends it as failed if it still waits for it.
    """
    session: Session = context.obj
    _ = session.words
    record = found(session, failure)
    done = session.store.dismiss(record.id, now=session.now(), by=person())
    good = _("Failure {id} is dismissed.")
    bad = _("Failure {id} cannot be dismissed: it is {state}.")
    text = (good if done else bad).format(id=record.id, state=record.state)
    _answer(record, text, done=done, json=json)


def confirm(
    context: typer.Context,
    failure: FailureId,
    category: Annotated[str, typer.Argument(metavar="CATEGORY", help="The right category, e.g. unrecoverable_data.")],
    json: AsJson = False,
) -> None:
    """Say which category is right for a failure.

    `regrow status` shows how accurate the classifier is by these answers.
    """
    from regrow.model import CATEGORIES

    session: Session = context.obj
    if category not in CATEGORIES:
        raise SettingsError(f"no such category: {category}; known are: {', '.join(CATEGORIES)}")
    record = found(session, failure)
    done = session.store.confirm(record.id, category, now=session.now(), by=person())
    text = session.words("Failure {id} is confirmed as {category}.").format(id=record.id, category=category)
    _answer(record, text, done=done, json=json)


def _answer(record: Record, text: str, *, done: bool, json: bool) -> None:
    """Say what came of a person's decision; a refusal ends with exit code 1."""
    from regrow.cli.text import to_json

    if json:
        typer.echo(to_json({"id": record.id, "task_id": record.task_id, "success": done, "message": text}, indent=2))
    else:
        typer.echo(text, err=not done)
    if not done:
        raise typer.Exit(1)


alerts = typer.Typer(
    help="System alerts: open until their cause is gone or somebody closes them.", rich_markup_mode=None
)


@alerts.callback(invoke_without_command=True)
def list_alerts(
    context: typer.Context,
    closed: Annotated[bool, typer.Option("--closed", help="Those that are closed.")] = False,
    json: AsJson = False,
) -> None:
    """System alerts: open until their cause is gone or somebody closes them."""
    if context.invoked_subcommand is not None:
        return
    from dataclasses import asdict

    from regrow.cli.text import to_json

    session: Session = context.obj
    listed = session.ledger.alerts(closed=closed)
    if json:
        typer.echo(to_json({"alerts": [asdict(one) for one in listed]}, indent=2))
    else:
        from regrow.cli.show_more import show_alerts

        show_alerts(listed, session.screen)


@alerts.command("close")
def close_alert(
    context: typer.Context, alert: Annotated[int, typer.Argument(metavar="ID", help="The alert's id.")]
) -> None:
    """Close an alert."""
    session: Session = context.obj
    if not session.store.close_alert(alert, now=session.now(), by=person()):
        complain(session.words("no open alert with the id {id}").format(id=alert))
        raise typer.Exit(1)
    typer.echo(session.words("Alert {id} is closed.").format(id=alert))


def inbox(
    context: typer.Context,
    user: Annotated[str, typer.Argument(metavar="USER", help="The user's id.")],
    unread: Annotated[bool, typer.Option("--unread", help="Only what was not read yet.")] = False,
    json: AsJson = False,
) -> None:
    """What an end user has been told."""
    from dataclasses import asdict

    from regrow.cli.text import to_json

    session: Session = context.obj
    listed = session.ledger.inbox(user, unread=unread)
    if json:
        typer.echo(to_json({"messages": [asdict(one) for one in listed]}, indent=2))
    else:
        from regrow.cli.show_more import show_inbox

        show_inbox(listed, session.screen)
