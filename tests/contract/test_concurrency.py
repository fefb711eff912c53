"""Many at once: threads, processes, locks and lost connections."""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path
from threading import Barrier, Event
from typing import Any

import psycopg
import pymysql
import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.engine import make_url

from regrow.adapters.sql import Database, SqlLedger, SqlStore
from regrow.adapters.sql.direct import Direct
from regrow.adapters.sql.kinds import kind as kinds
from regrow.adapters.sql.tables import envelope, run
from regrow.errors import LedgerError, Unkeepable
from regrow.model import Header, State
from regrow.pipeline import DUE_STATES
from regrow.testing import LEASE, START, FrozenClock, RecordingDispatcher, a_failure, a_regrow, claim, parked_task

ROWS = 10_000
SPAWN = get_context("spawn")

postgresql_only = pytest.mark.parametrize("kind", ["postgresql"])
sqlite_only = pytest.mark.parametrize("kind", ["sqlite"])


def fill(store: SqlStore, rows: int) -> None:
    """Park many tasks."""
    regrow = a_regrow(store)
    for first in range(0, rows, 1000):
        regrow.handle([a_failure() for _ in range(first, min(first + 1000, rows))])


def dispatch(url: str, path: str, barrier: Callable[[], object] = lambda: None) -> None:
    """Act until nothing is due, and write down what was sent."""
    dispatcher = RecordingDispatcher()
    database = Database(url)
    regrow = a_regrow(SqlStore(database), clock=FrozenClock(START + timedelta(seconds=30)), dispatcher=dispatcher)
    barrier()
    while regrow.act().sent:
        pass
    database.close()
    Path(path).write_text("\n".join(due.task_id for due in dispatcher.sent))


@pytest.mark.parametrize("pool", ["threads", "processes"])
def test_each_row_is_sent_once(pool: str, store: SqlStore, store_url: str, tmp_path: Path) -> None:
    """Two dispatchers share 10,000 due rows: each is sent by exactly one of them."""
    fill(store, ROWS)
    paths = [tmp_path / "0", tmp_path / "1"]
    if pool == "threads":
        barrier = Barrier(2)
        with ThreadPoolExecutor(2) as threads:
            runs = [threads.submit(dispatch, store_url, str(path), barrier.wait) for path in paths]
    else:
        with ProcessPoolExecutor(2, mp_context=SPAWN) as processes:
            runs = [processes.submit(dispatch, store_url, str(path)) for path in paths]
    for one in runs:
        one.result()
    sent = Counter(line for path in paths for line in path.read_text().splitlines())
    assert len(sent) == ROWS
    assert set(sent.values()) == {1}


def test_one_of_many_starts(store: SqlStore, database: Database) -> None:
    """Twenty workers get the same copy at once: one may run it."""
    parked_task(store)
    (due,) = claim(store)
    barrier = Barrier(20)

    def begin() -> bool:
        barrier.wait()
        header = Header(due.failure, 2, due.token)
        return store.start(header, retries=0, idempotent=False, due_at=START + timedelta(seconds=99))

    with ThreadPoolExecutor(20) as threads:
        answers = [one.result() for one in [threads.submit(begin) for _ in range(20)]]
    assert answers.count(True) == 1


def record(url: str, ids: list[str]) -> list[bool]:
    """Record a failure of each task; say which were new."""
    database = Database(url)
    handled = a_regrow(SqlStore(database)).handle([a_failure(task_id=one) for one in ids])
    database.close()
    assert all(one.id is not None for one in handled)
    return [not one.duplicate for one in handled]


def test_two_processes_record_one_task(store_url: str, ledger: SqlLedger) -> None:
    """Whoever comes second finds the row there: one row, one attempt, and no deadlock whatever the order."""
    ids = [f"same-{number:04}" for number in range(1000)]
    with ProcessPoolExecutor(2, mp_context=SPAWN) as processes:
        for _ in range(3):
            runs = [processes.submit(record, store_url, part) for part in (ids, ids[::-1])]
            new = [sum(one.result()) for one in runs]
            ids = [f"x{one}" for one in ids]
            assert sum(new) == 1000
    records = ledger.failures(limit=5000)
    assert len(records) == 3000
    assert {one.attempts for one in records} == {1}
    assert ledger.balance(START).balanced


def test_a_batch_with_duplicates(store: SqlStore, ledger: SqlLedger, database: Database) -> None:
    """Of 1,000 failures of 700 tasks, 700 are recorded, in a first batch and in one of known tasks."""
    regrow = a_regrow(store)
    batch = [a_failure(task_id=f"b{number % 700}") for number in range(1000)]
    handled = regrow.handle(batch)
    assert [one.duplicate for one in handled] == [False] * 700 + [True] * 300
    assert [one.id for one in handled[700:]] == [one.id for one in handled[:300]]
    with database.write() as connection:
        connection.execute(text("UPDATE regrow_failure SET state = 'recovered', due_at = NULL, parked = false"))
    again = regrow.handle(batch)
    assert [one.duplicate for one in again] == [False] * 700 + [True] * 300
    assert {one.attempts for one in ledger.failures(limit=1000)} == {2}
    assert ledger.balance(START).by_state[State.SCHEDULED] == 700


def test_the_balance_holds_while_others_write(store: SqlStore, ledger: SqlLedger) -> None:
    """A reader sees one moment of the ledger, however busy it is."""
    stop = Event()

    def write() -> None:
        while not stop.is_set():
            fill(store, 20)

    with ThreadPoolExecutor(1) as threads:
        busy = threads.submit(write)
        balances = [ledger.balance(START) for _ in range(150)]
        stop.set()
        busy.result()
    assert all(balance.balanced for balance in balances)


def test_naive_times_are_refused(store: SqlStore) -> None:
    """A time without a zone is a mistake, whichever way it comes."""
    naive = START.replace(tzinfo=None)
    with pytest.raises(LedgerError, match="aware datetimes only"):
        a_regrow(store).handle([a_failure(failed_at=naive)])
    with pytest.raises(LedgerError, match="aware datetimes only"):
        store.claim(naive, limit=1, lease=LEASE, states=DUE_STATES)
    with pytest.raises(LedgerError, match="aware datetimes only"):
        store.recovered(1, now=naive)


def test_readers_are_not_blocked_by_a_writer(store: SqlStore, ledger: SqlLedger, database: Database) -> None:
    """While a writer holds its transaction open, readers read what was committed."""
    parked_task(store, task_id="a")
    with database.write() as connection:
        connection.execute(text("UPDATE regrow_failure SET queue = 'changed'"))
        found = ledger.find("a")
        assert found is not None
        assert found.queue != "changed"
        assert ledger.balance(START).captured == 1
        assert store.history("a").attempts == 1


def test_a_locked_ledger_is_an_error_within_the_bound(
    kind: str, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that waits for another too long gives up with a LedgerError, and works again afterwards."""
    monkeypatch.setattr(kinds, "BUSY_SECONDS", 0.3)
    patient, holder = Database(store_url), Database(store_url)
    store = SqlStore(patient)
    parked_task(store, task_id="held")
    with holder.write() as connection:
        if kind != "sqlite":
            connection.execute(text("SELECT * FROM regrow_failure FOR UPDATE"))
        with pytest.raises(LedgerError, match=r"(?i)lock"):
            parked_task(store, task_id="held")
    assert not parked_task(store).duplicate
    patient.close()
    holder.close()


@postgresql_only
def test_a_lost_connection_heals(store: SqlStore, store_url: str) -> None:
    """A connection that PostgreSQL ends is replaced at the next use."""
    parked_task(store)
    with psycopg.connect(store_url.replace("+psycopg", ""), autocommit=True) as other:
        end = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'regrow'"
        assert other.execute(end).fetchall()
    assert len(claim(store)) == 1


@postgresql_only
def test_a_connection_lost_inside_a_transaction(store: SqlStore, database: Database) -> None:
    """What was in the making is lost with a LedgerError, and nothing else is."""
    with pytest.raises(LedgerError, match="cannot reach the ledger"), database.write() as connection:
        connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
    assert not parked_task(store).duplicate


@postgresql_only
def test_a_connection_lost_inside_a_capture(store: SqlStore, database: Database) -> None:
    """The same for what a failing task waits for."""
    with pytest.raises(LedgerError, match="cannot reach the ledger"), database.capture(durable=True) as ledger:
        ledger._connection.execute("SELECT pg_terminate_backend(pg_backend_pid())").fetchall()
    assert not parked_task(store).duplicate


@postgresql_only
def test_a_connection_that_the_server_has_closed_is_replaced(store: SqlStore, database: Database) -> None:
    """Whoever comes next does not notice: neither a failing task nor a reader."""
    for number, use in enumerate([lambda: parked_task(store, task_id="next"), lambda: store.history("next")]):
        with database.read() as connection:
            pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        with psycopg.connect(database.url.set(drivername="postgresql").render_as_string(hide_password=False)) as other:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        assert use(), number


def test_what_the_database_refuses_leaves_nothing(store: SqlStore, database: Database) -> None:
    """A statement that fails takes those before it along, though nobody has read their answer."""

    def write() -> None:
        with database.capture(durable=False) as ledger:
            ledger.run(insert(run).inline(), [{"minute": START, "process": "one", "runs": 1, "failed": 1}])
            ledger.run(insert(envelope).inline(), [{"failure_id": 10**6, "coding": "json", "body": b"{}"}])

    with pytest.raises(Unkeepable, match="cannot keep this"):
        write()
    with database.read() as connection:
        assert connection.execute(select(run)).all() == []
    assert not parked_task(store).duplicate


@postgresql_only
def test_postgresql_waits_for_the_disk(database: Database) -> None:
    """Each commit is as durable as the server is set to make it: a failure that is recorded stays recorded."""

    def setting(opened: Any) -> object:
        with opened as ledger:
            connection = ledger._connection if isinstance(ledger, Direct) else ledger.connection.driver_connection
            return connection.execute("SHOW synchronous_commit").fetchone()[0]

    captures = [setting(database.capture(durable=durable)) for durable in (False, True, False)]
    assert captures == ["on", "on", "on"]
    assert setting(database.write()) == "on"


def test_a_forked_child_has_its_own_connection(kind: str, store: SqlStore, database: Database) -> None:
    """A child opens a connection of its own, even if a thread of its parent was opening one when it forked."""

    def backend() -> str:
        with database.read() as connection:
            dbapi = connection.connection.dbapi_connection
            name = {"postgresql": "pg_backend_pid()", "mariadb": "connection_id()"}.get(kind)
            return str(connection.execute(text(f"SELECT {name}")).scalar_one() if name else id(dbapi))

    before = backend()
    reader, writer = os.pipe()
    with database._lock:  # as another thread would hold it
        child = os.fork()
    if child == 0:
        try:
            own = backend()
            parked_task(store, task_id="child")
            os.write(writer, b"same" if own == before and kind != "sqlite" else b"own")
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    assert os.read(reader, 10) == b"own"
    os.close(reader)
    # SQLite's connections are closed before a fork, the parent's too: see `_Forks`.
    assert backend() == before or kind == "sqlite"
    assert store.history("child").attempts == 1


@sqlite_only
def test_sqlite_is_synchronous_where_it_must_be(database: Database) -> None:
    """FULL inside a durable transaction, NORMAL otherwise, whatever came before; WAL and foreign keys always."""

    def pragma(name: str, *, durable: bool) -> object:
        with database.write(durable=durable) as connection:
            return connection.execute(text(f"PRAGMA {name}")).scalar_one()

    def captured(*, durable: bool) -> object:
        with database.capture(durable=durable) as ledger:
            return ledger._connection.execute("PRAGMA synchronous").fetchone()[0]

    assert [pragma("synchronous", durable=durable) for durable in (False, True, False, True)] == [1, 2, 1, 2]
    assert [captured(durable=durable) for durable in (False, True, False, True)] == [1, 2, 1, 2]
    assert pragma("journal_mode", durable=False) == "wal"
    assert pragma("foreign_keys", durable=False) == 1


def test_a_claim_uses_the_partial_index(kind: str, store: SqlStore, database: Database, store_url: str) -> None:
    """Among many tasks that are not due, the few that are come from the index of due work."""
    fill(store, 3000)
    seen: list[str] = []
    with database.write() as connection:
        connection.execute(text("UPDATE regrow_failure SET due_at = NULL, state = 'recovered' WHERE id % 100 > 0"))
    analyze = {"postgresql": "ANALYZE", "mariadb": "ANALYZE TABLE regrow_failure"}.get(kind, "SELECT 1")
    with database.write() as connection:
        connection.execute(text(analyze)).close()

    def keep(_c: object, cursor: object, statement: str, parameters: object, *_: object) -> None:
        if "FROM regrow_failure" in statement and "ORDER BY" in statement:
            seen.append(explain(kind, store_url, statement, parameters))

    from sqlalchemy import event

    event.listen(database.engine, "before_cursor_execute", keep)
    assert claim(store)
    assert len(seen) == 1
    assert "ix_regrow_failure_due_at" in seen[0], seen[0]


def explain(kind: str, url: str, statement: str, parameters: object) -> str:
    """The plan of a statement."""
    if kind == "postgresql":
        with psycopg.connect(url.replace("+psycopg", "")) as connection:
            rows = connection.execute(f"EXPLAIN {statement}".encode(), parameters).fetchall()  # type: ignore[arg-type]
            return "\n".join(str(row[0]) for row in rows)
    if kind == "mariadb":
        with pymysql.connect(host="127.0.0.1", user="root", database=make_url(url).database) as other:
            cursor = other.cursor(pymysql.cursors.DictCursor)
            cursor.execute(f"EXPLAIN {statement}", parameters)
            return "\n".join(str(row) for row in cursor.fetchall())
    with sqlite3.connect(url.removeprefix("sqlite:///")) as plain:
        rows = plain.execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall()  # type: ignore[call-overload]
    plain.close()
    return "\n".join(str(row[3]) for row in rows)
