"""Where it is played: an empty folder, the settings of the processes, and the processes themselves."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from time import monotonic
from typing import Self, TextIO

from app.courier import Courier

#: Relative to where the demo is started, as are the commands that it prints.
FOLDER = Path("var", "demo")
LEDGER = f"sqlite:///{FOLDER / 'regrow.db'}"
LOGS = FOLDER / "logs"

#: Held by the demo and by each of its processes for as long as it lives; names those processes.
LOCK = FOLDER.with_suffix(".lock")

#: The package `app` lies in it; our processes must find it from wherever they are started.
_ROOT = Path(__file__).resolve().parents[2]

#: A worker finishes the task in hand when it is told to stop.
_STOP_SECONDS = 12


class StageError(Exception):
    """A process of the demo could not do its part."""


def take_folder(*, fresh: bool) -> TextIO:
    """Make the folder ours; return the lock on it.

    Args:
        fresh: True: remove first what an earlier run left.

    Raises:
        StageError: Somebody still uses it.
    """
    LOCK.parent.mkdir(exist_ok=True)
    lock = LOCK.open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        pids = lock.read()
        lock.close()
        raise StageError(
            f"something runs in {FOLDER} already; if it was killed, end what it left: kill {pids}"
        ) from None
    lock.truncate(0)
    if fresh and FOLDER.exists():
        shutil.rmtree(FOLDER)
    LOGS.mkdir(parents=True, exist_ok=True)
    return lock


def settings(courier: Courier, language: str, shop_key: str) -> dict[str, str]:
    """The environment of every process of the demo: all that makes it quick is here, and nothing of it in the code."""
    return {
        "APP_VAR": str(FOLDER),
        "CELERY_BROKER_URL": "",
        "CELERY_RESULT_BACKEND": "",
        "COURIER_URL": courier.url,
        "COURIER_PICKUP_URL": courier.pickup_url,
        "COURIER_KEY": shop_key,
        "COURIER_TIMEOUT_SECONDS": "0.5",
        "FAILURE_DATABASE_URL": LEDGER,
        "FAILURE_LOGS_DIR": str(LOGS),
        "FAILURE_LANGUAGE": language,
        "FAILURE_MODE": "recover",
        "FAILURE_RECOVERY_ENABLED": "true",
        "FAILURE_NOTIFICATION_ENABLED": "true",
        "FAILURE_MAX_RECOVERY_ATTEMPTS": "3",
        "FAILURE_NETWORK_RETRY_SECONDS": "1",
        "FAILURE_SYSTEM_RETRY_SECONDS": "1",
        "FAILURE_TEMPORARY_RETRY_SECONDS": "1",
        "FAILURE_RETRY_JITTER": "0",
        "FAILURE_LEASE_SECONDS": "60",
        "FAILURE_TICK_SECONDS": "0.5",
        # A proxy for the internet is no way to our own machine.
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
        "PYTHONPATH": os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH")))),
    }


def run(*arguments: str, environment: Mapping[str, str] | None = None) -> str:
    """Run `regrow ...` to its end and return what it printed.

    Raises:
        StageError: It failed.
    """
    command = [sys.executable, "-m", "regrow", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, env=environment)
    if done.returncode:
        raise StageError(f"regrow {' '.join(arguments)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


class Company:
    """The processes beside our own: a worker and a dispatcher, as in production.

    Args:
        lock: The lock on the folder.
    """

    def __init__(self, lock: TextIO) -> None:
        self._lock = lock
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        """Whatever is started from now on will be stopped."""
        return self

    def start(self) -> None:
        """Start them."""
        celery = ("celery", "-A", "app.tasks.celery_app", "worker", "--pool", "prefork", "--concurrency", "2")
        self._start("celery", *celery, "--loglevel", "INFO", "--without-gossip", "--without-mingle")
        self._start("dispatcher", "regrow", "-A", "app.tasks.celery_app", "run")

    def __exit__(self, *_: object) -> None:
        """Stop them, whatever happened."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # an impatient second Ctrl-C must not leave them behind
        # The worker stops its pool itself, so only the parent is told.
        for child in self._children.values():
            child.terminate()
        deadline = monotonic() + _STOP_SECONDS
        for child in self._children.values():
            try:
                child.wait(max(deadline - monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()

    def _start(self, name: str, *arguments: str) -> None:
        with log_of(name).open("wb") as log:
            child = self._children[name] = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A group of its own: Ctrl-C reaches us only, and we stop the others in order.
                start_new_session=True,
                pass_fds=(self._lock.fileno(),),
            )
        self._lock.write(f"{child.pid} ")
        self._lock.flush()

    def check(self) -> None:
        """See that all are alive.

        Raises:
            StageError: One has ended.
        """
        for name, child in self._children.items():
            if child.poll() is not None:
                raise StageError(f"{name} ended with code {child.returncode}; see {log_of(name)}")


def log_of(name: str) -> Path:
    """The log file of one of our processes."""
    return LOGS / f"{name}.log"
