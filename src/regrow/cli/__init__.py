"""`regrow ...`, and the same as `celery -A proj regrow ...`.

A person waits for `regrow --help`, so app.py and session.py load typer and the standard library only; what a
command needs beside that, it loads when it runs.

app.py            the commands: what they take, and in which order they do things
session.py        what they share: application, settings, language, ledger, screen
screen.py         how text gets to a terminal: escapes, colours, times, tables
show.py           what `status`, `failures` and `show` look like
explain.py        what `explain` and `classify` say
drain.py          `drain`
relabel.py        `relabel`
rules.py          `rules ...`; rules_text.py is what they look like
jsonl.py          `classify --jsonl`
inside_celery.py  the command that Celery's own command line loads
"""

from __future__ import annotations

from typing import Any


def main() -> None:
    """The console script."""
    from regrow.cli.app import run

    run()


def __getattr__(name: str) -> Any:
    """Celery's command line loads `celery_command`, which needs click; ours must not pay for that."""
    if name == "celery_command":
        from regrow.cli.inside_celery import celery_command

        return celery_command
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
