"""`regrow doctor` on real set-ups: each is broken in one way, and the doctor names the fault, its mend and no more."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from regrow import wiring
from regrow.adapters.sql import Database, SqlStore
from regrow.model import DISPATCHER, WORKER, Member, State
from tests.celery_worker import QUICK, ROOT, Site, mariadb_database, new_key, postgres_database, site, until
from tests.integration import proj_site

#: Nothing listens there.
CLOSED = "127.0.0.1:1"

#: What the file broker of the tests lacks, and a ledger can make up for.
TRACKED = {**QUICK, "track_starts": True, "lease_seconds": 30}


@dataclass
class Told:
    """What the doctor said.

    Args:
        code: Its exit code.
        out: What it printed.
        err: What it complained about.
        seconds: How long it took.
    """

    code: int
    out: str
    err: str
    seconds: float

    @property
    def findings(self) -> list[dict[str, str]]:
        """Everything it found."""
        found: list[dict[str, str]] = json.loads(self.out)["findings"]
        return found

    @property
    def names(self) -> set[str]:
        """Names of what is not fine."""
        return {one["name"] for one in self.findings if one["level"] != "fine"}

    @property
    def problems(self) -> set[str]:
        """Names of what is a problem."""
        return {one["name"] for one in self.findings if one["level"] == "problem"}

    def named(self, name: str, *parts: str) -> None:
        """The fault is named, with these parts of its text and its mend."""
        (found,) = [one for one in self.findings if one["name"] == name] or [None]
        assert found is not None, self.out
        for part in parts:
            assert part in f"{found['text']} {found['mend']}", found
        assert self.code == (1 if self.problems else 0)


def doctor(made: Site, *, json: bool = True, **environment: str) -> Told:
    """Ask the doctor, as a person in the project's folder does."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "regrow", "-A", "tests.integration.proj_app", "doctor", *(["--json"] if json else [])],
        cwd=made.folder,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            proj_site.SITE: str(made.folder / "site.json"),
            **made.environment,
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    return Told(done.returncode, done.stdout, done.stderr, time.monotonic() - began)


def alone(tmp_path: Path, **options: Any) -> Any:
    """A project of which nothing runs."""
    return site(tmp_path, **{"regrow": dict(TRACKED), **options})


#: What follows when nothing runs.
NOBODY = {"no_worker", "no_dispatcher"}


# -- nothing is wrong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["files", "redis", "rabbit"])
def test_healthy(kind: str, tmp_path: Path) -> None:
    """A set-up that works has no problem and no warning, on each broker."""
    with site(tmp_path, kind, regrow=dict(TRACKED)) as made:
        made.worker()
        made.dispatcher_process()
        until(lambda: len(made.ledger.members()) == 2, "both signs of life")
        told = doctor(made)
        assert told.err == ""
        assert told.names == set(), told.out
        assert told.code == 0
        assert {"broker", "results", "ledger", "dispatcher", "workers", "queues", "folders"} <= {
            one["name"] for one in told.findings
        }


def test_lines_for_people(tmp_path: Path) -> None:
    """Without --json there is one line for each finding, in the reader's language, with the same exit code."""
    with alone(tmp_path, migrate=False) as made:
        told = doctor(made, json=False, FAILURE_LANGUAGE="zh")
        assert told.code == 1
        assert told.err == ""
        first = told.out.splitlines()[0].split("\t")
        assert first[:2] == ["problem", "ledger_not_set_up"]
        assert "还没有台账" in first[2]
        assert first[3].endswith("db upgrade")


def test_changes_nothing(tmp_path: Path) -> None:
    """The doctor leaves no file, no row and no folder behind."""

    def seen(made: Site) -> dict[str, bytes]:
        files = [one for one in made.folder.rglob("*") if one.is_file() and not one.name.endswith(("-wal", "-shm"))]
        folders = {str(one): b"" for one in made.folder.rglob("*") if one.is_dir()}
        return folders | {str(one): one.read_bytes() for one in files}

    for number, migrate in enumerate((True, False)):
        (tmp_path / str(number)).mkdir()
        with alone(tmp_path / str(number), migrate=migrate) as made:
            doctor(made)  # the first question on this broker makes its folders, as every client does
            before = seen(made)
            assert doctor(made).code == 1
            assert seen(made) == before
            assert not (made.folder / "results.db").exists()
            assert (made.folder / "ledger.db").exists() is migrate


# -- settings ---------------------------------------------------------------------------------------------------------


def test_wrong_setting(tmp_path: Path) -> None:
    """A wrong setting ends with 2 and is named, as everywhere."""
    with alone(tmp_path) as made:
        told = doctor(made, FAILURE_RETRY_JITTER="7")
        assert told.code == 2
        assert "FAILURE_RETRY_JITTER='7'" in told.err


def test_switched_off(tmp_path: Path) -> None:
    """What is switched off is a warning, and its mend names the place that counts."""
    regrow = {"mode": "observe", "recovery_enabled": False, "track_starts": True}
    with alone(tmp_path, regrow=regrow) as made:
        made.worker()
        told = doctor(made, FAILURE_NOTIFICATION_ENABLED="false")
        told.named("observing", "regrow.install(app, mode='recover')")
        told.named("retries_off", "regrow.install(app, recovery_enabled=True)")
        told.named("messages_off", "FAILURE_NOTIFICATION_ENABLED=true")
        assert told.problems == set(), told.out
        assert told.code == 0


def test_not_installed(tmp_path: Path) -> None:
    """An application without Regrow is told so."""
    with site(tmp_path, regrow=None) as made:
        made.worker()
        told = doctor(made, FAILURE_MODE="recover")
        told.named("not_installed", "regrow.install(app)")
        told.named("ledger_not_set_up", "regrow -A tests.integration.proj_app db upgrade")
        assert "no_worker" not in told.names


# -- the ledger -------------------------------------------------------------------------------------------------------


def test_ledger_not_set_up(tmp_path: Path) -> None:
    """Without tables there is nothing to read, and all other checks go on."""
    with alone(tmp_path, migrate=False) as made:
        told = doctor(made)
        told.named("ledger_not_set_up", str(made.folder / "ledger.db"), "db upgrade")
        assert {"broker", "results", "folders"} <= {one["name"] for one in told.findings}


@pytest.mark.parametrize(("revision", "name"), [("0001", "ledger_outdated"), ("9999", "ledger_too_new")])
def test_ledger_of_another_version(revision: str, name: str, tmp_path: Path) -> None:
    """Older and newer tables are told apart."""
    with alone(tmp_path) as made:
        with closing(sqlite3.connect(made.folder / "ledger.db")) as connection, connection:
            connection.execute("UPDATE regrow_alembic_version SET version_num = ?", (revision,))
        doctor(made).named(name, revision)


def test_ledger_down(tmp_path: Path) -> None:
    """A ledger that nobody serves is a problem, and hides no other finding."""
    regrow = {**TRACKED, "database_url": f"postgresql://root:geheim@{CLOSED}/none"}
    with alone(tmp_path, regrow=regrow, migrate=False) as made:
        told = doctor(made)
        told.named("ledger_unreachable", "refused", CLOSED, "FAILURE_DATABASE_URL")
        told.named("no_worker", "celery -A tests.integration.proj_app worker")
        assert "geheim" not in told.out


@pytest.mark.parametrize("database", [postgres_database, mariadb_database], ids=["postgresql", "mariadb"])
def test_ledger_on_a_server(database: Any, tmp_path: Path) -> None:
    """The same on a server, whose clock is asked too."""
    with database() as url, alone(tmp_path, regrow={**TRACKED, "database_url": url}) as made:
        made.worker()
        made.dispatcher_process()
        until(lambda: len(made.ledger.members()) == 2, "both signs of life")
        told = doctor(made)
        assert told.names == set(), told.out
        made._database.close()


def test_unbalanced_and_overdue(tmp_path: Path) -> None:
    """A ledger that has lost a run, and work that nobody looks at."""
    with alone(tmp_path) as made:
        worker = made.worker()
        lost, late = (made.sig("flaky", new_key(), 9).delay() for _ in range(2))
        until(lambda: made.ledger_state(lost.id) is State.SCHEDULED, "the first failure")
        until(lambda: made.ledger_state(late.id) is State.SCHEDULED, "the second failure")
        worker.terminate()
        with closing(sqlite3.connect(made.folder / "ledger.db")) as connection, connection:
            connection.execute(
                "DELETE FROM regrow_attempt WHERE failure_id = (SELECT id FROM regrow_failure WHERE task_id = ?)",
                (lost.id,),
            )
            connection.execute(
                "UPDATE regrow_failure SET due_at = '2020-01-01 00:00:00.000000' WHERE task_id = ?", (late.id,)
            )
        told = doctor(made)
        told.named("ledger_unbalanced", "1 failures were captured, 2 stand")
        told.named("overdue_work", "regrow -A tests.integration.proj_app run")
        told.named("no_worker", made.name)


# -- who is at work ---------------------------------------------------------------------------------------------------


def test_no_dispatcher(tmp_path: Path) -> None:
    """A worker alone retries nothing."""
    with alone(tmp_path) as made:
        made.worker()
        told = doctor(made)
        told.named("no_dispatcher", "regrow -A tests.integration.proj_app run")
        assert told.names == {"no_dispatcher"}


@pytest.mark.parametrize("how", ["no install", "wrong setting"])
def test_worker_without_regrow(how: str, tmp_path: Path) -> None:
    """A worker that runs tasks and records nothing is named, whether Regrow is missing there or refused its settings."""
    with alone(tmp_path) as made:
        other = made.folder / "other.json"
        other.write_text(json.dumps(json.loads((made.folder / "site.json").read_text()) | {"regrow": None}))
        broken = {proj_site.SITE: str(other)} if how == "no install" else {"FAILURE_LANGUAGE": "xx"}
        made.worker(**broken)
        made.dispatcher_process()
        until(lambda: made.ledger.members(), "the dispatcher's sign of life")
        told = doctor(made)
        told.named("worker_without_regrow", "@", "regrow is NOT active", str(made.folder / "ledger.db"))
        assert told.names == {"worker_without_regrow"}


def test_clock_skew(tmp_path: Path) -> None:
    """A clock that is wrong is named with its owner."""
    with alone(tmp_path, regrow={**TRACKED, "lease_seconds": 60}) as made:
        store, now = SqlStore(Database(made.settings.database_url)), wiring.clock()
        store.beat(Member("1", WORKER, "celery@fast", 1, now, now, (), 120.0))
        store.beat(Member("2", DISPATCHER, "slow", 2, now, now, (), -30.0, 2048))
        told = doctor(made)
        told.named("clock_skew", "worker celery@fast is 2 min ahead", "dispatcher slow is 30 s behind", "timedatectl")
        told.named("spool_elsewhere", "slow (2.05 kB)")


# -- queues -----------------------------------------------------------------------------------------------------------


BEAT = {
    "scan-and-process": {"task": "tests.flaky", "schedule": 1800, "options": {"queue": "recovery"}},
    "analyze-patterns": {"task": "tests.flaky", "schedule": 21600, "options": {"queue": "monitoring"}},
    "by-the-router": {"task": "tests.broken", "schedule": 60},
}


def test_queues_that_nobody_consumes(tmp_path: Path) -> None:
    """A worker on another queue leaves beat's messages, parked tasks and the default queue alone."""
    with alone(tmp_path, conf={"beat_schedule": BEAT, "task_routes": {"tests.broken": {"queue": "routed"}}}) as made:
        first = made.worker()
        parked = made.sig("flaky", new_key(), 9).delay()
        until(lambda: made.ledger_state(parked.id) is State.SCHEDULED, "the failure")
        first.terminate()
        made.worker("-Q", "recovery,other")
        told = doctor(made)
        told.named("parked_queue_unconsumed", made.name, "again: 1", f"worker -Q {made.name}")
        texts = [one["text"] + one["mend"] for one in told.findings if one["name"] == "beat_queue_unconsumed"]
        assert len(texts) == 2, told.out
        assert "monitoring" in texts[0]
        assert "analyze-patterns" in texts[0]
        assert "celery -A tests.integration.proj_app worker -Q routed" in texts[1]
        assert told.problems == {"parked_queue_unconsumed", "beat_queue_unconsumed", "no_dispatcher"}


def test_default_queue(tmp_path: Path) -> None:
    """A default queue without a worker may be meant so."""
    with alone(tmp_path) as made:
        made.worker("-Q", "other")
        made.dispatcher_process()
        until(lambda: len(made.ledger.members()) == 2, "both signs of life")
        told = doctor(made)
        told.named("default_queue_unconsumed", made.name, f"worker -Q {made.name}")
        assert told.names == {"default_queue_unconsumed"}
        assert told.code == 0


# -- broker and results -----------------------------------------------------------------------------------------------


def test_servers_down(tmp_path: Path) -> None:
    """Broker and result backend that nobody serves are problems; the ledger is examined all the same."""
    conf = {"broker_url": f"redis://:geheim@{CLOSED}/0", "result_backend": f"redis://:geheim@{CLOSED}/1"}
    with alone(tmp_path, conf=conf) as made:
        told = doctor(made)
        told.named("broker_unreachable", CLOSED, "refused", "broker_url")
        told.named("results_unreachable", CLOSED, "result_backend")
        assert told.problems == {"broker_unreachable", "results_unreachable", "no_dispatcher"}
        assert "geheim" not in told.out
        assert "ledger" in {one["name"] for one in told.findings}


@contextmanager
def silent_server() -> Iterator[str]:
    """A server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


def test_never_hangs(tmp_path: Path) -> None:
    """Servers that take a connection and never answer cost seconds, and are named."""
    with silent_server() as place:
        regrow = {**TRACKED, "database_url": f"postgresql://root@{place}/none"}
        conf = {"broker_url": f"redis://{place}/0", "result_backend": f"redis://{place}/1"}
        with alone(tmp_path, regrow=regrow, conf=conf, migrate=False) as made:
            told = doctor(made)
            assert told.problems == {"broker_unreachable", "results_unreachable", "ledger_unreachable"}, told.out
            assert told.code == 1
            assert told.seconds < 60


def test_broker_that_loses_messages(tmp_path: Path) -> None:
    """kombu's own file transport is a problem; no file transport delivers again."""
    conf = {"broker_url": "filesystem://localhost"}
    with site(tmp_path, conf=conf) as made:
        told = doctor(made)
        told.named("broker_loses_messages", "celery/kombu#1551", "amqp://")
        told.named("no_redelivery", "FAILURE_TRACK_STARTS=true")
        assert told.problems == NOBODY | {"broker_loses_messages"}
        assert "no_redelivery" not in doctor(made, FAILURE_TRACK_STARTS="true").names


@pytest.mark.parametrize(
    ("backend", "name"), [(None, "results_disabled"), ("rpc://", "results_without_chords")], ids=["none", "rpc"]
)
def test_results(backend: str | None, name: str, tmp_path: Path) -> None:
    """Without results, or with those of rpc, chords do not work: a warning."""
    with alone(tmp_path) as made:
        path = made.folder / "site.json"
        text = json.loads(path.read_text())
        text["conf"]["result_backend"] = backend or "disabled://"
        path.write_text(json.dumps(text))
        told = doctor(made)
        told.named(name, "chords", "result_backend = 'redis://...'")
        assert told.problems == NOBODY


@pytest.fixture
def own_redis() -> Iterator[str]:
    """A database on Redis that no other test uses: a short visibility time-out is every message's."""
    from redis import Redis

    from tests.services import require

    require("127.0.0.1", 6379, "Redis")
    client = Redis(port=6379, db=11)
    client.flushdb()
    yield "redis://127.0.0.1:6379/11"
    client.flushdb()
    client.close()


def test_visibility_timeout(own_redis: str, tmp_path: Path) -> None:
    """What a worker holds for longer than Redis waits is run twice: the tasks are named, and the number that mends it."""
    conf = {
        "broker_url": own_redis,
        "broker_transport_options": {"visibility_timeout": 600},
        "task_annotations": {
            "tests.native": {"default_retry_delay": 900},
            "tests.after": {"acks_late": True, "time_limit": 7300},
        },
    }
    with alone(tmp_path, kind="redis", conf=conf) as made:
        worker = made.worker()
        made.sig("plus", 1, 2).apply_async(countdown=1000)
        until(lambda: worker.said("received"), "the task that waits")
        told = doctor(made)
        told.named("retry_delay_above_visibility", "10 min", "tests.native (15 min)", '"visibility_timeout": 3600')
        told.named("time_limit_above_visibility", "tests.after (2 h)", '"visibility_timeout": 10800')
        told.named("eta_above_visibility", "tests.plus", '"visibility_timeout": 3600')
        assert told.code == 1
        worker.terminate()


# -- this machine's disk ----------------------------------------------------------------------------------------------


def test_folders_and_messages(tmp_path: Path) -> None:
    """A log folder that cannot be: the doctor says so, and what could not be delivered because of it."""
    (tmp_path / "file").write_text("in the way")
    with alone(tmp_path, regrow={**TRACKED, "logs_dir": str(tmp_path / "file" / "logs")}) as made:
        made.worker()
        made.dispatcher_process()
        made.sig("broken", new_key()).delay()
        until(lambda: made.ledger.undelivered(limit=9) and made.ledger.alerts(), "the message that is refused")
        told = doctor(made)
        told.named("folder_not_writable", f"{tmp_path}/file/logs", "Not a directory", "FAILURE_LOGS_DIR")
        told.named("undelivered_messages", "1", "admin_alerts.log", "regrow -A tests.integration.proj_app status")
        told.named("open_alerts", "1", "alerts close 1")
        assert told.names == {"folder_not_writable", "undelivered_messages", "open_alerts"}


def test_spool(tmp_path: Path) -> None:
    """What waits on the disk, what of it is damaged, and a spool that is nearly full."""
    with alone(tmp_path, regrow={**TRACKED, "spool_limit_bytes": 2000}) as made:
        spool = made.folder / "spool"
        spool.mkdir()
        (spool / "1-a.spool").write_bytes(b"x" * 1500)
        (spool / "1-b.damaged").write_bytes(b"y" * 200)
        os.utime(spool / "1-a.spool", (time.time() - 600,) * 2)
        told = doctor(made)
        told.named("spool_waiting", str(spool), "1.5 kB", "10 min", "regrow -A tests.integration.proj_app run")
        told.named("spool_damaged", "200 B", "*.damaged")
        told.named("spool_nearly_full", "1.7 kB of 2 kB", "regrow.install(app, spool_limit_bytes=4000)")
