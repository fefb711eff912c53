"""A tiny Celery application whose tasks get rows, and its workers.

A worker loads it as `celery -A tests.app.rows_site`; the test's own process is the client.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import Ignore

import regrow
from app import bookkeeping, broker, db
from app.mirror import TaskMirror
from app.models import Task
from tests.celery_worker import QUICK, ROOT, Process, until

FOLDER = "APP_VAR"
NAME = "rows@test"


def mark(name: str) -> int:
    """Append a line to a file; return how many it has."""
    path = Path(os.environ[FOLDER]) / f"mark-{name}"
    with path.open("a") as file:
        file.write("x\n")
    return path.read_text().count("\n")


def wait_for(name: str) -> None:
    """Wait until the test says so."""
    until((Path(os.environ[FOLDER]) / f"go-{name}").exists, f"go-{name}")


def make(folder: Path) -> Celery:
    """The application."""
    control = folder / "broker" / "control"
    control.mkdir(parents=True, exist_ok=True)
    app = Celery("rows", set_as_current=True)
    app.conf.update(
        broker_url=f"{broker.SCHEME}://localhost",
        broker_transport_options={
            "data_folder_in": str(folder / "broker"),
            "data_folder_out": str(folder / "broker"),
            "control_folder": str(control),
            "polling_interval": 0.05,
        },
        result_backend=f"db+sqlite:///{folder / 'results.db'}",
        database_engine_options={"connect_args": {"timeout": 30}},
        result_chord_retry_interval=0.1,
        broker_connection_retry_on_startup=True,
    )

    def task(**options: Any) -> Callable[[Callable[..., Any]], Any]:
        return lambda run: app.task(name=f"rows.{run.__name__}", shared=False, **options)(run)

    @task()
    def add(x: float, y: float, user_id: int | None = None) -> float:
        return x + y

    @task()
    def total(numbers: list[float]) -> float:
        return sum(numbers)

    @task()
    def fail(text: str) -> None:
        raise ConnectionRefusedError(111, text)

    @task(regrow={"idempotent": True})
    def wait(name: str) -> str:
        """Run until the test says so."""
        mark(name)
        wait_for(name)
        return name

    @task(bind=True, max_retries=3)
    def stumble(self: Any, name: str) -> str:
        """Fail once, and let Celery itself try again when the test says so."""
        if mark(name) == 1:
            raise self.retry(exc=TimeoutError("read timed out"), countdown=0)
        wait_for(name)
        return name

    @task()
    def ignore() -> None:
        raise Ignore

    @task()
    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    @task(regrow=False)
    def leave_alone() -> None:
        pass

    @app.task(name="app.tasks.failure_tasks.nothing", shared=False)
    def nothing() -> None:
        pass

    bookkeeping.connect(app)
    if "ROWS_REGROW" in os.environ:
        mirror = TaskMirror(app, "en")
        regrow.install(
            app,
            sources=[mirror],
            projection=mirror,
            user_of=mirror.user_of,
            database_url=f"sqlite:///{folder / 'regrow.db'}",
            logs_dir=str(folder / "logs"),
            reports_dir=str(folder / "reports"),
            language="en",
            **QUICK,
        )
    return app


def row(task_id: str) -> Task:
    """The one row of a task."""
    with db.Session() as session:
        return session.query(Task).filter(Task.celery_task_id == task_id).one()


def settled(task_id: str, status: str) -> Task:
    """The row of a task, as soon as it has this status."""
    return until(lambda: (found := row(task_id)).status == status and found, f"{task_id} to be {status}")


def rows() -> int:
    """How many rows there are."""
    with db.Session() as session:
        return session.query(Task).count()


class Site:
    """A folder, the application as its client sees it, and its workers.

    Args:
        folder: Where everything lies.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.app = make(folder)
        self.workers: list[Process] = []

    def task(self, name: str) -> Any:
        """The task of this short name."""
        return self.app.tasks[f"rows.{name}"]

    def go(self, name: str) -> None:
        """Let a waiting task go on."""
        (self.folder / f"go-{name}").touch()

    def marked(self, name: str) -> None:
        """Wait until a task has begun."""
        until((self.folder / f"mark-{name}").exists, f"{name} to begin")

    def worker(self, *arguments: str, children: int = 2) -> Process:
        """Start a worker, always of the same name, and wait until it takes tasks."""
        log = self.folder / f"worker-{len(self.workers)}.log"
        with log.open("wb") as out:
            popen = subprocess.Popen(
                [
                    *(sys.executable, "-m", "celery", "-A", "tests.app.rows_site", "worker", "-l", "INFO", "-n", NAME),
                    *("-c", str(children), "--without-gossip", "--without-mingle", "--without-heartbeat", *arguments),
                ],
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": str(ROOT), "C_FORCE_ROOT": "1", "ROWS_WORKER": "1"},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        process = Process(popen, log)
        self.workers.append(process)
        until(lambda: process.said(" ready.") or popen.poll() is not None, "a worker")
        assert popen.poll() is None, process.text()
        return process

    def close(self) -> None:
        """End all workers."""
        for process in self.workers:
            process.kill_tree()
        db.db.remove()
        self.app.close()


@contextmanager
def site(folder: Path, *, with_regrow: bool = False) -> Iterator[Site]:
    """A site for the length of a test."""
    with pytest.MonkeyPatch.context() as patch:
        if with_regrow:
            patch.setenv("ROWS_REGROW", "1")
        patch.setenv(FOLDER, str(folder))
        patch.delenv("APP_DATABASE_URL", raising=False)
        made = Site(folder)
        try:
            yield made
        finally:
            made.close()


if "ROWS_WORKER" in os.environ:
    app = make(Path(os.environ[FOLDER]))
