"""The real application in a folder of a test's own: its settings, its data, its processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.celery_worker import ROOT, Process, new_key, until

APP = "app.tasks.celery_app"

#: What a developer's own .env or environment may hold, and a test must not.
_OURS = ("FAILURE_", "APP_", "CELERY_", "COURIER_", "PROMETHEUS_", "ELASTIC", "SMTP_", "SMS_", "DINGTALK_")


class Place:
    """A folder in which the application runs as in the project's root.

    Args:
        folder: It.
        environment: Environment variables of its processes.
    """

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.var = folder / "var"
        self.logs = folder / "logs"
        self.processes: list[Process] = []
        (folder / "regrow.toml").write_text((ROOT / "regrow.toml").read_text())
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(_OURS)},
            "APP_VAR": str(self.var),
            "FAILURE_LOGS_DIR": str(self.logs),
            "FAILURE_REPORTS_DIR": str(folder / "reports"),
            # Set and empty: not even a .env in the root names another one.
            "CELERY_BROKER_URL": "",
            "CELERY_RESULT_BACKEND": "",
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "PYTHONIOENCODING": "utf-8",
            "C_FORCE_ROOT": "1",
            **environment,
        }

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run `python <arguments>` to its end."""
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=120,
            check=False,
        )

    def ask(self, code: str, **environment: str) -> Any:
        """What `code` prints as JSON, in a fresh process of the application."""
        done = self.run("-c", code, **environment)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def start(self, *arguments: str, **environment: str) -> Process:
        """Start `python <arguments>`."""
        log = self.folder / f"process-{len(self.processes)}.log"
        with log.open("wb") as out:
            popen = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=self.folder,
                env={**self.environment, **environment},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        process = Process(popen, log)
        self.processes.append(process)
        return process

    def worker(self, *arguments: str, **environment: str) -> Process:
        """Start a worker, as the guide does, and wait until it answers."""
        node = f"{new_key()}@test"
        process = self.start("-m", "celery", "-A", APP, "worker", "-c", "1", "-n", node, *arguments, **environment)

        def answers() -> bool:
            assert process.popen.poll() is None, process.text()
            return node in self.run("-m", "celery", "-A", APP, "inspect", "ping", "-d", node).stdout

        until(answers, "a worker")
        return process

    def messages(self, queue: str) -> list[dict[str, Any]]:
        """What lies in a queue."""
        found = []
        for file in sorted((self.var / "broker").glob(f"*.{queue}.msg")):
            with suppress(FileNotFoundError):  # a worker has just taken it
                found.append(json.loads(file.read_text()))
        return found

    def log(self) -> str:
        """What stands in logs/celery.log."""
        file = self.logs / "celery.log"
        return file.read_text(encoding="utf-8") if file.exists() else ""

    def close(self) -> None:
        """End everything that was started here, beat too."""
        for process in reversed(self.processes):
            process.kill_tree()
        with suppress(OSError, ValueError):
            code = "from app import beat; raise SystemExit(beat.running() is None)"
            if not self.run("-c", code, PYTHONPATH=str(ROOT)).returncode:
                os.kill(int((self.var / "beat" / "beat.pid").read_text()), signal.SIGKILL)


@contextmanager
def place(folder: Path, **environment: str) -> Iterator[Place]:
    """The application for the length of a test."""
    made = Place(folder, **environment)
    try:
        yield made
    finally:
        made.close()
