"""The commands: what they take, and in which order they do things."""

# typer makes a flag of a boolean, however it is declared.
# ruff: noqa: FBT001, FBT002

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from regrow.cli import doctor, orders, reports, rules
from regrow.cli.common import AsJson, complain, found
from regrow.cli.drain import drain
from regrow.cli.relabel import relabel
from regrow.cli.session import Session
from regrow.errors import RegrowError, SettingsError

if TYPE_CHECKING:
    from regrow.model import State, Verdict

#: The targets look at so long a time (G17).
TARGET_WINDOW = timedelta(days=7)

#: What a shell reports for a program that SIGINT or SIGPIPE has ended.
INTERRUPTED = 130
PIPE_CLOSED = 141


class Commands(TyperGroup):
    """Turns what goes wrong into one clear line and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            answer = super().invoke(ctx)
            sys.stdout.flush()
            return answer
        except RegrowError as error:
            complain(str(error))
            raise typer.Exit(2 if isinstance(error, SettingsError) else 1) from None
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            drop_output()
            raise typer.Exit(PIPE_CLOSED) from None


def drop_output() -> None:
    """Nobody reads our output any longer (`regrow failures | head`): let what is left of it vanish."""
    # Python flushes stdout once more when it ends, and would complain.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


cli = typer.Typer(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Failed Celery tasks: what failed, why, and what became of it.",
    no_args_is_help=True,
    # rich would cost half of the time that `--help` takes.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for command in (
    doctor.doctor,
    orders.retry,
    orders.dismiss,
    orders.confirm,
    relabel,
    reports.scan,
    reports.report,
    reports.analyze,
):
    cli.command()(command)
cli.add_typer(orders.alerts, name="alerts")
cli.add_typer(rules.rules, name="rules")
cli.command()(orders.inbox)
cli.command()(drain)
database = typer.Typer(help="Set up the ledger.", no_args_is_help=True)
cli.add_typer(database, name="db")


def run(arguments: Sequence[str] | None = None, *, program: str = "regrow", session: Session | None = None) -> NoReturn:
    """Run a command line and end the process with its exit code."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character gets its number, not a traceback.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    session = session or Session()
    try:
        try:
            typer.main.get_command(cli).main(args=arguments, prog_name=program, obj=session)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        drop_output()
        sys.exit(PIPE_CLOSED)
    except Exception as error:
        # A mistake of ours, or of the application that -A loads.
        if session.debug:
            raise
        complain(f"unexpected {type(error).__name__}: {error} (regrow --debug ... shows where)")
        sys.exit(1)
    sys.exit(0)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"regrow {version('regrow')}")
        raise typer.Exit


@cli.callback()
def options(
    context: typer.Context,
    app: Annotated[
        str,
        typer.Option("--app", "-A", envvar="REGROW_APP", metavar="APP", help="Celery application, as for celery -A."),
    ] = "",
    database_url: Annotated[
        str, typer.Option(metavar="URL", help="The ledger's database, if not the one of the settings.")
    ] = "",
    debug: Annotated[bool, typer.Option("--debug", help="Show where an unexpected error comes from.")] = False,
    _version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit."),
    ] = False,
) -> None:
    """Failed Celery tasks: what failed, why, and what became of it."""
    session: Session = context.obj
    session.app_name, session.database_url, session.debug = app, database_url, debug


@database.command()
def upgrade(context: typer.Context) -> None:
    """Create or update the ledger's tables. Doing it twice does no harm.

    Stop workers and dispatchers before you update: a large ledger takes longer than they wait, and an older version
    does not know what a newer one writes.
    """
    from regrow.wiring import upgrade as upgrade_ledger

    session: Session = context.obj
    before, now = upgrade_ledger(session.settings)
    _ = session.words
    if before == now:
        typer.echo(_("The ledger is up to date (version {version}).").format(version=now))
    elif before is None:
        typer.echo(_("The ledger is set up (version {version}).").format(version=now))
    else:
        typer.echo(_("The ledger was updated from version {before} to {version}.").format(before=before, version=now))


@cli.command("run")
def run_command(context: typer.Context) -> None:
    """Retry what is due and deliver messages, until stopped.

    Any number of dispatchers may run at the same time: they share the work.
    """
    import logging

    from regrow.wiring import run_dispatcher

    session: Session = context.obj
    app = session.needed_app()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("regrow").setLevel(logging.INFO)
    raise typer.Exit(run_dispatcher(app, session.settings))


@cli.command()
def status(context: typer.Context, json: AsJson = False) -> None:
    """The ledger at a glance, and how the last 7 days compare with the targets. Exit code 1 if it does not balance."""
    from regrow import report
    from regrow.cli.text import member_json, to_json

    session: Session = context.obj
    now = session.now()
    balance = session.ledger.balance(now)
    targets = report.targets(session.ledger.figures(now - TARGET_WINDOW, now), session.words)
    alerts, members = session.ledger.alerts(), session.ledger.members()
    spool, silence = session.spool, timedelta(seconds=session.settings.lease_seconds)
    kept = spool.look()
    if json:
        counts = {state.value: count for state, count in balance.by_state.items()}
        answer = {
            "ledger": {"captured": balance.captured, **counts, "balanced": balance.balanced},
            "parked": balance.parked,
            "overdue": balance.overdue,
            "undelivered": balance.undelivered,
            "open_alerts": len(alerts),
            "targets": {
                one.name: {"value": one.value, "target": one.target, "met": one.met, "shown": one.shown}
                for one in targets
            },
            "spool": {
                "bytes": kept.waiting,
                "damaged_bytes": kept.damaged,
                "folder": str(spool.folder),
            },
            "members": [member_json(one, alive=one.silent_for(now) <= silence) for one in members],
            "mode": session.settings.mode,
            "database": session.database,
        }
        typer.echo(to_json(answer, indent=2))
    else:
        from regrow.cli.show import show_balance
        from regrow.cli.show_more import show_alerts, show_members, show_targets, spool_fact

        waiting = spool_fact(kept.waiting, kept.damaged, str(spool.folder), session.words)
        show_balance(
            balance, database=session.database, mode=session.settings.mode, spool=waiting, screen=session.screen
        )
        show_members(members, silence, session.screen)
        show_targets(targets, session.screen)
        if alerts:
            session.screen.print()
            show_alerts(alerts, session.screen)
    raise typer.Exit(0 if balance.balanced else 1)


@cli.command()
def failures(
    context: typer.Context,
    state: Annotated[
        list[str] | None,
        typer.Option(metavar="STATE", help="Only those in this state; may be given more than once."),
    ] = None,
    category: Annotated[str, typer.Option(metavar="KEY", help="Only those of this category.")] = "",
    task: Annotated[str, typer.Option(metavar="NAME", help="Only those of the task with this name.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 20,
    before: Annotated[int | None, typer.Option(metavar="ID", help="Only those older than this failure.")] = None,
    json: AsJson = False,
) -> None:
    """Failed tasks, newest first."""
    from regrow.cli.text import record_json, to_json

    session: Session = context.obj
    # One more than asked for says whether there is a next page.
    found = session.ledger.failures(
        states=_states(state or ()), category=category, task_name=task, before=before, limit=limit + 1
    )
    page, more = found[:limit], len(found) > limit
    if json:
        answer = {
            "failures": [record_json(record, history=False) for record in page],
            "next_before": page[-1].id if more else None,
        }
        typer.echo(to_json(answer, indent=2))
    else:
        from regrow.cli.show import show_failures

        show_failures(page, more=more, screen=session.screen)


@cli.command()
def show(
    context: typer.Context,
    failure: Annotated[str, typer.Argument(metavar="ID", help="The failure's id, or the task's id.")],
    json: AsJson = False,
) -> None:
    """The whole story of one failed task."""
    from regrow.cli.text import label_json, record_json, to_json

    session: Session = context.obj
    record = found(session, failure)
    label = session.label(record.fingerprint)
    if json:
        typer.echo(to_json({**record_json(record, history=True), **label_json(label)}, indent=2))
    else:
        from regrow.cli.show import show_record

        show_record(record, session.screen, label=label)


@cli.command()
def explain(
    context: typer.Context,
    failure: Annotated[str, typer.Argument(metavar="ID", help="The failure's id, or the task's id.")] = "",
    exception_type: Annotated[str, typer.Option("--type", metavar="CLASS", help="Or: an exception's class.")] = "",
    message: Annotated[str, typer.Option(metavar="TEXT", help="Or: an exception's text.")] = "",
    traceback: Annotated[str, typer.Option(metavar="TEXT", help="Or: a traceback; - reads it from stdin.")] = "",
    json: AsJson = False,
) -> None:
    """Why a task failed: which fact decided, and what else spoke up."""
    from regrow.cli.text import label_json, to_json, verdict_json

    session: Session = context.obj
    texts = exception_type, message, traceback
    if bool(failure) == any(texts):
        raise SettingsError("give either the ID of a failure, or texts with --type, --message, --traceback")
    decision, label = "", None
    if failure:
        from regrow.cli.explain import stored_verdict
        from regrow.cli.show import reason

        record = found(session, failure)
        label = session.label(record.fingerprint)
        verdict, decision = stored_verdict(record.history[-1]), reason(record.reason, session.words)
    else:
        text = sys.stdin.read() if traceback == "-" else traceback
        verdict = _classified(session, exception_type, message, text)
    if json:
        typer.echo(to_json({**verdict_json(verdict), **label_json(label)}, indent=2))
    else:
        from regrow.cli.explain import show_verdict

        show_verdict(verdict, session.screen, decision=decision, label=label)


@cli.command()
def classify(
    context: typer.Context,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="An error message.")] = "",
    jsonl: Annotated[
        str,
        typer.Option(
            metavar="FILE",
            help="A file (- is stdin) with one JSON object per line: id, exception_type, message, traceback.",
        ),
    ] = "",
    json: AsJson = False,
) -> None:
    """Classify an error message, or many of them."""
    if bool(text) == bool(jsonl):
        raise SettingsError("give either an error message, or --jsonl FILE")
    if jsonl:
        raise typer.Exit(0 if _classify_file(context.obj, jsonl) else 1)
    from regrow.cli.explain import verdict_line
    from regrow.cli.text import to_json, verdict_json

    verdict = _classified(context.obj, "", text, "")
    typer.echo(to_json(verdict_json(verdict), indent=2) if json else verdict_line(verdict))


def _states(names: Sequence[str]) -> list[State]:
    from regrow.model import State

    unknown = [name for name in names if name not in set(State)]
    if unknown:
        raise SettingsError(f"no such state: {', '.join(unknown)}; known are: {', '.join(State)}")
    return [State(name) for name in names]


def _classified(session: Session, exception_type: str, message: str, traceback: str) -> Verdict:
    from regrow.capture import causes_from_text

    return session.classifier(causes_from_text(exception_type, message, traceback))


#: From this size on, in bytes, the lines of a file are shared out among processes.
_LARGE = 2_000_000


def _classify_file(session: Session, name: str) -> bool:
    from regrow.cli.jsonl import classify_lines, classify_together

    try:
        file = sys.stdin.buffer if name == "-" else Path(name).open("rb")  # noqa: SIM115  # closed below
    except OSError as error:
        raise SettingsError(f"cannot read {name}: {error.strerror}") from None
    classify = partial(session.classifier, brief=True)
    with file:
        processes = os.cpu_count() or 1
        if name != "-" and processes > 1 and hasattr(os, "fork") and os.fstat(file.fileno()).st_size > _LARGE:
            return classify_together(file, classify, sys.stdout, sys.stderr, processes)
        return classify_lines(file, classify, sys.stdout, sys.stderr)
