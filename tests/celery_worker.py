"""Real workers, dispatchers and ledgers for tests: each test process is a client, everything else is a subprocess."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from celery import Celery

from app import broker
from regrow import wiring
from regrow.adapters.sql import Database, SqlLedger
from regrow.config import Settings
from regrow.model import Balance, Record, State
from regrow.ports import Ledger
from tests.integration import proj_site
from tests.services import require

ROOT = Path(__file__).parents[1]

#: Bound of every wait for a condition; the machine may be busy, a condition that holds ends the wait at once.
PATIENCE_SECONDS = float(os.environ.get("REGROW_TEST_PATIENCE", "60"))

#: Quick enough for a test, slow enough for a busy machine.
QUICK: dict[str, Any] = {
    "mode": "recover",
    "network_retry_seconds": 0.2,
    "system_retry_seconds": 0.2,
    "temporary_retry_seconds": 0.2,
    "max_recovery_attempts": 1,
    "lease_seconds": 5,
    "tick_seconds": 0.1,
}

Found = TypeVar("Found")


def until(look: Callable[[], Found], what: str, patience: float = PATIENCE_SECONDS) -> Found:
    """What `look` returns, as soon as that is true."""
    end = time.monotonic() + patience
    while not (found := look()):
        assert time.monotonic() < end, f"waited {patience:.0f} s in vain for {what}"
        time.sleep(0.03)
    return found


def new_key() -> str:
    """A fresh name for a task's side effects."""
    return uuid.uuid4().hex[:12]


@dataclass
class Process:
    """A subprocess in a session of its own.

    Args:
        popen: The process.
        log: Where its output goes.
    """

    popen: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        """Its id; also that of its process group."""
        return self.popen.pid

    def text(self) -> str:
        """What it has printed."""
        return self.log.read_text(errors="replace")

    def said(self, words: str) -> bool:
        """True if it has printed `words`."""
        return words in self.text()

    def wait(self, patience: float = PATIENCE_SECONDS) -> int:
        """Its exit code."""
        return self.popen.wait(patience)

    def terminate(self) -> int:
        """SIGTERM to this process alone; return its exit code."""
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """SIGKILL to this process alone."""
        self.popen.kill()
        self.popen.wait()

    def kill_tree(self) -> None:
        """SIGKILL to this process and all that it has started."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.popen.wait()


@dataclass
class Site:
    """One Celery project on disk: broker, result backend, ledger, counted side effects.

    Args:
        folder: Where it lives.
        kind: `files` (filesystem broker, SQLite results), `redis`, `rabbit` (RabbitMQ, SQLite results).
        regrow: What is given to `regrow.install`; None: Regrow is not installed.
        conf: Celery settings beyond the usual.
        dispatcher: True: the worker runs a dispatcher beside it.
        environment: Environment variables of its processes.
    """

    folder: Path
    kind: str = "files"
    regrow: dict[str, Any] | None = field(default_factory=lambda: dict(QUICK))
    conf: dict[str, Any] = field(default_factory=dict)
    dispatcher: bool = False
    environment: dict[str, str] = field(default_factory=dict)
    processes: list[Process] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Write down what the subprocesses read."""
        self.name = f"regrow-test-{new_key()}"
        for part in ("marks", "broker/control", "logs"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        if self.regrow is not None:
            self.regrow = {
                "database_url": f"sqlite:///{self.folder / 'ledger.db'}",
                "logs_dir": str(self.folder / "logs"),
                **self.regrow,
            }
        self.write()

    def write(self) -> None:
        """Write down what the subprocesses read, again after a change."""
        text = {
            "folder": str(self.folder),
            "conf": {**self._broker(), **self.conf},
            "queue": self.name,
            "regrow": self.regrow,
            "dispatcher": self.dispatcher,
        }
        (self.folder / "site.json").write_text(json.dumps(text))

    def _broker(self) -> dict[str, Any]:
        results = f"db+sqlite:///{self.folder / 'results.db'}"
        if self.kind == "files":
            place = str(self.folder / "broker")
            options = {
                "data_folder_in": place,
                "data_folder_out": place,
                "control_folder": f"{place}/control",
                "polling_interval": 0.05,
            }
            return {
                "broker_url": f"{broker.SCHEME}://localhost",
                "broker_transport_options": options,
                "result_backend": results,
            }
        if self.kind == "redis":
            require("127.0.0.1", 6379, "Redis")
            return {"broker_url": "redis://127.0.0.1:6379/7", "result_backend": "redis://127.0.0.1:6379/8"}
        require("127.0.0.1", 5672, "RabbitMQ")
        return {"broker_url": "amqp://guest:guest@127.0.0.1:5672//", "result_backend": results}

    # -- the client's side ------------------------------------------------------------------------------------------

    @cached_property
    def app(self) -> Celery:
        """The project as a client sees it: no worker, no Regrow."""
        return proj_site.make(json.loads((self.folder / "site.json").read_text()))

    def sig(self, task: str, *args: object, **kwargs: object) -> Any:
        """A signature of the task with this short name."""
        return self.app.tasks[proj_site.PREFIX + task].s(*args, **kwargs)

    def runs(self, key: str) -> int:
        """How often something left its mark."""
        path = self.folder / "marks" / key
        return path.read_text().count("\n") if path.exists() else 0

    def marks(self, key: str) -> list[str]:
        """The marks themselves."""
        path = self.folder / "marks" / key
        return path.read_text().splitlines() if path.exists() else []

    def state(self, task_id: str) -> str:
        """What the result backend says now."""
        return str(self.app.AsyncResult(task_id).state)

    def error(self, result: Any) -> BaseException:
        """The exception with which a task ended."""
        found = until(lambda: result.state in ("FAILURE", "SUCCESS") and result, f"the end of {result.id}")
        assert found.state == "FAILURE", found.result
        error: BaseException = found.result
        return error

    # -- the ledger -------------------------------------------------------------------------------------------------

    @property
    def settings(self) -> Settings:
        """Regrow's settings as its processes see them."""
        return wiring.load_settings(None, **(self.regrow or {}))

    def migrate(self) -> None:
        """Set the ledger up."""
        wiring.upgrade(self.settings)

    @cached_property
    def _database(self) -> Database:
        return Database(self.settings.database_url)

    @property
    def ledger(self) -> Ledger:
        """The ledger to read from."""
        return SqlLedger(self._database)

    def record(self, task_id: str) -> Record | None:
        """What the ledger says of a task."""
        return self.ledger.find(task_id)

    def ledger_state(self, task_id: str) -> State | None:
        """Where the ledger says that a task stands."""
        record = self.record(task_id)
        return record.state if record else None

    def settled(self, task_id: str, *states: State) -> Record:
        """The task's record, once it stands in one of these states and Celery waits for it no longer."""

        def look() -> Record | None:
            record = self.record(task_id)
            good = record is not None and record.state in states and (record.state is State.HELD or not record.parked)
            return record if good else None

        try:
            return until(look, f"{task_id} in {states}")
        except AssertionError as error:
            said = f"Celery says {self.state(task_id)}, the ledger {self.record(task_id)}"
            raise AssertionError(f"{error}; {said}\n{self.logs()}") from None

    def balance(self) -> Balance:
        """The ledger equation."""
        return self.ledger.balance(wiring.clock())

    # -- processes --------------------------------------------------------------------------------------------------

    def start(self, *arguments: str, name: str = "process", **environment: str) -> Process:
        """Start `python <arguments>` in this project."""
        log = self.folder / f"{name}-{len(self.processes)}.log"
        with log.open("wb") as out:
            popen = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=self.folder,
                env={
                    **os.environ,
                    "PYTHONPATH": str(ROOT),
                    "PYTHONUNBUFFERED": "1",
                    "C_FORCE_ROOT": "1",
                    proj_site.SITE: str(self.folder / "site.json"),
                    **self.environment,
                    **environment,
                },
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        process = Process(popen, log)
        self.processes.append(process)
        return process

    def worker(self, *arguments: str, pool: str = "prefork", children: int = 2, **environment: str) -> Process:
        """Start a worker and wait until it takes tasks."""
        process = self.start(
            *("-m", "celery", "-A", "tests.integration.proj_app", "worker", "-l", "INFO", "-P", pool),
            *("-c", str(children), "--without-gossip", "--without-mingle", "--without-heartbeat"),
            *("-n", f"{new_key()}@%h", *arguments),
            name="worker",
            **environment,
        )
        try:
            until(lambda: process.said(" ready.") or process.popen.poll() is not None, "a worker")
        finally:
            assert process.popen.poll() is None, process.text()
        return process

    def dispatcher_process(self, kill: str = "", *, wait: bool = True) -> Process:
        """Start a dispatcher; `kill` says where it kills itself (`tests.integration.dispatch`)."""
        process = self.start("-m", "tests.integration.dispatch", name="dispatcher", REGROW_TEST_KILL=kill)
        if wait:
            until(
                lambda: process.said("started") or process.popen.poll() is not None,
                "a dispatcher",
            )
            assert kill or process.popen.poll() is None, process.text()
        return process

    def logs(self) -> str:
        """The ends of all logs."""
        return "\n".join(f"== {one.log.name}\n{one.text()[-4000:]}" for one in self.processes)

    def close(self) -> None:
        """End everything that was started and leave nothing in the services."""
        for process in reversed(self.processes):
            process.kill_tree()
        if self.kind == "redis":
            self._clear_redis()
        elif self.kind == "rabbit":
            with self.app.connection_for_write() as connection:
                connection.default_channel.queue_delete(self.name)
        # Celery's own `close` leaves them open; and a child that a later test forks would wait for an answer on one.
        # The pool itself stays in use: kombu keeps one per broker, and the next site on this broker takes it again.
        self.app.pool.resize(self.app.pool.limit, reset=True)
        self.app.close()
        if "_database" in vars(self):
            self._database.close()

    def _clear_redis(self) -> None:
        from redis import Redis

        client = Redis(port=6379, db=7)
        keys = [key for key in client.scan_iter("*") if self.name.encode() in key]
        if keys:
            client.delete(*keys)
        client.close()


@contextmanager
def site(folder: Path, kind: str = "files", *, migrate: bool = True, **options: Any) -> Iterator[Site]:
    """A project for the length of a test."""
    made = Site(folder, kind, **options)
    try:
        if migrate and made.regrow is not None:
            made.migrate()
        yield made
    finally:
        made.close()


@contextmanager
def postgres_database() -> Iterator[str]:
    """The address of an empty database on PostgreSQL, gone afterwards."""
    require("127.0.0.1", 5432, "PostgreSQL")
    import psycopg

    name = f"regrow_test_{new_key()}"
    with psycopg.connect("host=127.0.0.1 user=root dbname=test", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        try:
            yield f"postgresql://root@127.0.0.1/{name}"
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def mariadb_database() -> Iterator[str]:
    """The same on MariaDB."""
    require("127.0.0.1", 3306, "MariaDB")
    import pymysql

    name = f"regrow_test_{new_key()}"
    with pymysql.connect(host="127.0.0.1", user="root", autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
        try:
            yield f"mysql://root@127.0.0.1:3306/{name}"
        finally:
            cursor.execute(f"DROP DATABASE {name}")


def alive(pid: int) -> bool:
    """True if the process runs and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gather(results: Sequence[Any], patience: float = PATIENCE_SECONDS) -> list[Any]:
    """The values of results, in order."""
    return [one.get(timeout=patience, interval=0.05) for one in results]
