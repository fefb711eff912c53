"""Where it is played: a fresh folder, the settings of the processes, and the processes themselves."""

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
from app.demo import plot

#: The application's own folder of data, so that every command of the guide shows afterwards what the demo has left.
#: Relative to where the demo is started, as are the commands that it prints.
FOLDER = Path("var", "app")
FORMER = FOLDER.with_suffix(".before")
LEDGER = f"sqlite:///{FOLDER / 'regrow.db'}"
RECEIPTS = FOLDER / "receipts"
SCREENSHOTS = FOLDER / "screenshots"

#: Held by the demo and by each of its processes for as long as it lives; names those processes.
LOCK = FOLDER.with_suffix(".lock")

#: A node name of its own, and the same after the kill: by it the new worker finds what the former one left.
NODE = "demo@localhost"

#: As many tasks run at a time; the one that is cut off must fill it.
POOL = 2

#: The package `app` lies in it; our processes must find it from wherever they are started.
_ROOT = Path(__file__).resolve().parents[2]

#: A worker finishes the task in hand when it is told to stop.
_STOP_SECONDS = 20

#: Where not even root may write a file.
_NOWHERE = Path("/sys/kernel")

#: What somebody's .env may name, and no demo should reach, least of all with mails. Set and empty wins over the file.
_NOT_OURS = (
    "APP_DATABASE_URL", "CELERY_BROKER_URL", "CELERY_RESULT_BACKEND", "SHOP_URL", "SMTP_URL", "SMS_WEBHOOK",
    "DINGTALK_WEBHOOK", "PROMETHEUS_PORT", "ELASTICSEARCH_URL", "ELASTIC_APM_SERVER_URL",
)  # fmt: skip


class StageError(Exception):
    """A process of the demo could not do its part."""


# -- the folder --------------------------------------------------------------------------------------------------------


def take_folder() -> TextIO:
    """Make the folder ours; return the lock on it.

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
    return lock


def clear_folder() -> bool:
    """Begin with an empty folder; what is in it is moved to `FORMER`. Return whether there was anything.

    Raises:
        StageError: A worker or a beat uses it.
    """
    former = FOLDER.exists()
    if former:
        command = [sys.executable, "-m", "app.demo.neighbour"]
        asked = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if asked.returncode:
            who = asked.stdout.strip() or asked.stderr.strip()
            raise StageError(f"{FOLDER} is in use; stop this first: {who}")
        shutil.rmtree(FORMER, ignore_errors=True)
        FOLDER.rename(FORMER)
    FOLDER.mkdir(parents=True)
    return former


def shut_receipts() -> None:
    """Let no receipt be written: its folder is there, but nobody may write to it."""
    if os.geteuid() == 0 and _NOWHERE.exists():
        RECEIPTS.symlink_to(_NOWHERE)
    else:
        RECEIPTS.mkdir(mode=0o500)


def open_receipts() -> None:
    """Give the folder back, as an administrator would."""
    if RECEIPTS.is_symlink():
        RECEIPTS.unlink()
        RECEIPTS.mkdir()
    else:
        RECEIPTS.chmod(0o755)


# -- the settings ------------------------------------------------------------------------------------------------------


def addresses(courier: Courier) -> dict[str, str]:
    """The environment of every process of ours: where things are."""
    return {
        "APP_VAR": str(FOLDER),
        "COURIER_URL": courier.url,
        "COURIER_KEY": plot.COURIER_KEY,
        # A proxy for the internet is no way to our own machine.
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
        "PYTHONPATH": os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH")))),
    }


def bad_day(courier: Courier) -> dict[str, str]:
    """What makes a bad day, and one of a minute: all that is quick is here, and nothing of it in the code."""
    return {
        **dict.fromkeys(_NOT_OURS, ""),
        "RECEIPTS_DIR": str(RECEIPTS),
        "SCREENSHOTS_DIR": str(SCREENSHOTS),
        "COURIER_URL_YT": courier.pickup_url,
        "COURIER_KEY_JD": plot.EXPIRED_KEY,
        "COURIER_TIMEOUT_SECONDS": "5",
        "FAILURE_DATABASE_URL": LEDGER,
        "FAILURE_MODE": "recover",
        "FAILURE_RECOVERY_ENABLED": "true",
        "FAILURE_NOTIFICATION_ENABLED": "true",
        "FAILURE_MAX_RECOVERY_ATTEMPTS": "3",
        "FAILURE_NETWORK_RETRY_SECONDS": "1",
        "FAILURE_SYSTEM_RETRY_SECONDS": "1",
        "FAILURE_TEMPORARY_RETRY_SECONDS": "1",
        "FAILURE_RETRY_JITTER": "0",
        "FAILURE_LEASE_SECONDS": "10",
        "FAILURE_TICK_SECONDS": "0.5",
    }


def run(*arguments: str, environment: Mapping[str, str]) -> str:
    """Run `regrow ...` to its end and return what it printed.

    Raises:
        StageError: It failed.
    """
    command = [sys.executable, "-m", "regrow", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, env=environment)
    if done.returncode:
        raise StageError(f"regrow {' '.join(arguments)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


# -- the processes -----------------------------------------------------------------------------------------------------


class Company:
    """The processes beside our own.

    Args:
        lock: The lock on the folder.
    """

    def __init__(self, lock: TextIO) -> None:
        self._lock = lock
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        """Whatever is started from now on will be stopped."""
        return self

    def start_worker(self) -> int:
        """Start a worker, which brings its dispatcher; return its process id."""
        size = ("--pool", "prefork", "--concurrency", str(POOL))
        quiet = ("--loglevel", "INFO", "--without-gossip", "--without-mingle")
        return self._start("worker", "worker", "-n", NODE, *size, *quiet)

    def start_beat(self) -> int:
        """Start the clock; return its process id."""
        return self._start("beat", "beat", "--loglevel", "INFO")

    def kill_worker(self) -> int:
        """Kill the worker with all its processes, as the machine does that runs out of memory; return its end."""
        child = self._children.pop("worker")
        os.killpg(child.pid, signal.SIGKILL)
        return child.wait()

    def __exit__(self, *_: object) -> None:
        """Stop them, whatever happened."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # an impatient second Ctrl-C must not leave them behind
        # The worker stops its pool and its dispatcher itself, so only the parent is told.
        for child in self._children.values():
            child.terminate()
        deadline = monotonic() + _STOP_SECONDS
        for child in self._children.values():
            try:
                child.wait(max(deadline - monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()

    def _start(self, name: str, *arguments: str) -> int:
        with log_of(name).open("ab") as log:
            child = self._children[name] = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "app.tasks.celery_app", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A group of its own: Ctrl-C reaches us only, and we stop the others in order.
                start_new_session=True,
                pass_fds=(self._lock.fileno(),),
            )
        self._lock.truncate(0)
        self._lock.write(" ".join(str(one.pid) for one in self._children.values()))
        self._lock.flush()
        return child.pid

    def check(self) -> None:
        """See that all are alive.

        Raises:
            StageError: One has ended.
        """
        for name, child in self._children.items():
            if child.poll() is not None:
                raise StageError(f"{name} ended with code {child.returncode}; see {log_of(name)}")


def log_of(name: str) -> Path:
    """What one of our processes prints. Its log proper is celery.log, in the folder of logs."""
    return FOLDER / f"{name}.log"
