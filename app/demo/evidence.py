"""What all witnesses say in the end, and what the files of logs and reports have got from this run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.courier import Courier
from app.demo import plot, stage
from app.demo.hands import Hands
from app.demo.play import Play
from app.demo.plot import Scene
from app.demo.stage import StageError
from regrow import wiring
from regrow.model import Alert, Balance, Category, Notice, Record, State

if TYPE_CHECKING:
    from celery.result import AsyncResult

LOGS = ("admin_alerts.log", "user_notifications.log", "customer_service.log", "finance.log", "celery.log")
REPORTS = ("failure_processing", "failure_analysis")


class Files:
    """The folders of logs and reports, which are appended to by each run and never emptied.

    Args:
        logs: The folder of logs.
        reports: The folder of reports.
    """

    def __init__(self, logs: Path, reports: Path) -> None:
        self.logs = logs
        self.reports = reports
        self._sizes = {name: _size(logs / name) for name in LOGS}
        self._before = set(self._all_reports())

    def lines(self, name: str) -> list[str]:
        """What a log has got since this object was made."""
        if not (self.logs / name).exists():
            return []
        with (self.logs / name).open("rb") as file:
            file.seek(self._sizes[name])
            return file.read().decode(errors="replace").splitlines()

    def new_reports(self) -> list[Path]:
        """The reports that have been written since, in order."""
        return sorted(set(self._all_reports()) - self._before)

    def _all_reports(self) -> list[Path]:
        return [file for kind in REPORTS for file in (self.reports / kind).glob("*.json")]


@dataclass(frozen=True)
class Row:
    """A task as its table shows it."""

    id: int
    status: str
    recovery_attempts: int
    recovery_notes: str


@dataclass(frozen=True)
class Evidence:
    """What all witnesses say after the end.

    Args:
        courier: The service that the tasks asked.
        results: Celery's results.
        answers: What the waiting calls returned, or the exception that they raised.
        records: What the ledger says, by task; a task that it does not know is missing.
        rows: What the table of tasks says.
        balance: The ledger equation.
        alerts: The open system alerts.
        inboxes: What the end users find, by their ids.
        files: Logs and reports.
        logs: The new lines of each log file, by its name.
        processing: The new reports on what was done.
        analyses: The new reports on patterns.
        returned: What the application's own tasks returned, by their names.
        held: What the killed worker had in its hands; None if it was not killed.
        died: How it ended, as a process's exit code.
        lost: What it had taken and not begun.
        browser: True if there is a browser to take pictures with.
        status: What `regrow status --json` prints.
        over: True if everything came to an end in time.
    """

    courier: Courier
    results: Mapping[Scene, AsyncResult]
    answers: Mapping[Scene, object]
    records: Mapping[Scene, Record]
    rows: Mapping[Scene, Row]
    balance: Balance
    alerts: Sequence[Alert]
    inboxes: Mapping[str, Sequence[Notice]]
    files: Files
    logs: Mapping[str, Sequence[str]]
    processing: Sequence[Mapping[str, Any]]
    analyses: Sequence[Mapping[str, Any]]
    returned: Mapping[str, Sequence[Any]]
    held: Hands | None
    died: int
    lost: frozenset[Scene]
    browser: bool
    status: str
    over: bool

    def fate(self, scene: Scene) -> tuple[Category | None, State | None]:
        """What a task's failures must be called, and where it must end; Nones if it must not fail."""
        return plot.fate(scene, lost=self.lost, browser=self.browser)

    def requests(self, scene: Scene) -> int:
        """How many requests the service must have seen from a task, by the ledger."""
        record = self.records.get(scene)
        if record is None:
            return 1
        # What another program wrote down has asked nobody here, nor has a run that met a closed port or had no browser.
        silent = sum(
            scene.local
            or (scene is plot.FOREIGN and run.number == 1)
            or "refused" in run.message
            or run.exception_type.endswith((".NeverBegunError", ".BrowserMissing"))
            for run in record.history
        )
        return record.attempts - silent + (record.state is State.RECOVERED)


def gather(play: Play, courier: Courier, files: Files, shell: Mapping[str, str]) -> Evidence:
    """Ask all witnesses, now that nothing moves any more.

    Args:
        play: The performance.
        courier: The service that the tasks asked.
        files: Logs and reports.
        shell: The environment in which a person would ask for the ledger's status.
    """
    from app.tasks.celery_app import celery_app

    ledger = wiring.open_ledger(wiring.load_settings())
    found = {scene: ledger.find(result.id) for scene, result in play.results.items()}
    try:
        status = stage.run("status", "--json", environment=shell)
    except StageError as error:
        status = str(error)
    written = {path: json.loads(path.read_text(encoding="utf-8")) for path in files.new_reports()}
    return Evidence(
        courier=courier,
        results={scene: celery_app.AsyncResult(result.id) for scene, result in play.results.items()},
        answers=dict(play.answers),
        records={scene: record for scene, record in found.items() if record is not None},
        rows=_rows(play.results),
        balance=ledger.balance(wiring.clock()),
        alerts=ledger.alerts(),
        inboxes={scene.user: ledger.inbox(scene.user) for scene in plot.SCENES if scene.user},
        files=files,
        logs={name: files.lines(name) for name in LOGS},
        processing=[report for path, report in written.items() if path.parent.name == REPORTS[0]],
        analyses=[report for path, report in written.items() if path.parent.name == REPORTS[1]],
        returned=dict(play.reports),
        held=play.held,
        died=play.died,
        lost=frozenset(play.lost()),
        browser=play.browser,
        status=status,
        over=play.over,
    )


def _rows(results: Mapping[Scene, AsyncResult]) -> dict[Scene, Row]:
    from sqlalchemy import select

    from app.db import Session
    from app.models import Task

    scenes = {result.id: scene for scene, result in results.items()}
    with Session() as session:
        rows = session.scalars(select(Task).where(Task.celery_task_id.in_(scenes))).all()
    return {
        scenes[row.celery_task_id]: Row(row.id, row.status, row.recovery_attempts, row.recovery_notes) for row in rows
    }


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0
