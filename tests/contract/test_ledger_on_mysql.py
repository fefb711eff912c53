"""What is true of a ledger on MariaDB alone: its connections, its sessions, its deadlocks, its texts."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import Any

import pymysql
import pytest
from sqlalchemy import case, select, text, update
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import make_url

from regrow.adapters.sql import Database, SqlLedger, SqlStore
from regrow.adapters.sql.kinds import kind_of
from regrow.adapters.sql.kinds import mysql as kinds_mysql
from regrow.adapters.sql.kinds.mysql import in_order
from regrow.adapters.sql.tables import alert, failure, lease
from regrow.errors import LedgerError, SettingsError, Unkeepable
from regrow.model import Header, State
from regrow.testing import START, a_failure, a_message, a_regrow, claim, parked_task
from tests.conftest import mariadb
from tests.fault_proxy import FaultProxy


@pytest.fixture
def kind() -> str:
    """MariaDB alone."""
    return "mariadb"


# -- connections ------------------------------------------------------------------------------------------------------


def connection_of(database: Database) -> int:
    """The server's number of the connection that is next in use."""
    with database.read() as connection:
        return int(connection.execute(text("SELECT connection_id()")).scalar_one())


def kill(number: int) -> None:
    """End a connection from outside, and wait until it is over."""
    mariadb(f"KILL CONNECTION {number}")
    while mariadb(f"SELECT id FROM information_schema.processlist WHERE id = {number}"):
        time.sleep(0.01)
    time.sleep(0.05)


def test_a_connection_that_the_server_has_closed_is_replaced(store: SqlStore, database: Database) -> None:
    """Whoever comes next does not notice: neither a failing task nor a writer nor a reader."""
    parked_task(store, task_id="first")
    uses: list[Callable[[], Any]] = [
        lambda: parked_task(store, task_id="next"),
        lambda: claim(store),
        lambda: store.history("next"),
    ]
    for number, use in enumerate(uses):
        kill(connection_of(database))
        assert use(), number


def test_a_connection_lost_inside_a_transaction(store: SqlStore, database: Database) -> None:
    """What was in the making is lost with a LedgerError, and nothing else is."""

    def write() -> None:
        with database.write() as connection:
            kill(connection.execute(text("SELECT connection_id()")).scalar_one())
            connection.execute(text("SELECT 1"))

    def capture() -> None:
        with database.capture(durable=True) as ledger:
            kill(ledger._connection.thread_id())
            ledger.run(select(lease.c.name), [{}])

    for use in (write, capture):
        with pytest.raises(LedgerError, match="cannot reach the ledger"):
            use()
    assert not parked_task(store).duplicate


def test_a_child_holds_no_connection_of_its_parent(store: SqlStore, database: Database, store_url: str) -> None:
    """A transaction that its process has given up ends at the server too, though a child was forked meanwhile."""
    parked_task(store, task_id="a")
    raw = database.engine.raw_connection()
    connection: Any = raw.driver_connection
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM regrow_failure FOR UPDATE")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writer)
        os.read(reader, 1)  # until the parent has seen enough
        os._exit(0)
    os.close(reader)
    try:
        connection._force_close()  # as PyMySQL does when a server has been silent for too long
        raw.invalidate()
        a_regrow(store).handle([a_failure(task_id="a")])  # waits for the row
    finally:
        os.close(writer)
        os.waitpid(child, 0)


def test_a_server_that_is_silent_is_given_up(store_url: str) -> None:
    """Frozen in the middle, or while a connection is opened: an error within the bound, and all is well afterwards."""
    proxy = FaultProxy(3306)
    url = make_url(store_url).set(port=proxy.port).render_as_string()
    with closing(Database(url, patience_seconds=1)) as database:
        store = SqlStore(database)
        parked_task(store, task_id="a")
        proxy.freeze()
        for _ in range(2):
            began = time.monotonic()
            with pytest.raises(LedgerError, match=r"cannot reach the ledger|gave no answer"):
                parked_task(store, task_id="b")
            assert time.monotonic() - began < 20
        proxy.heal()
        database._rest_until = 0.0
        assert store.history("a").attempts == 1
        parked_task(store, task_id="c")
    proxy.close()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://root@127.0.0.1:1/test", "cannot reach the ledger"),
        ("mysql://root:s3cret@127.0.0.1/regrow_none", "cannot use the ledger.*(Unknown database|Access denied)"),
        ("mariadb://nobody:s3cret@127.0.0.1/test", "cannot use the ledger.*Access denied"),
    ],
)
def test_no_ledger_and_no_server(url: str, words: str, store_url: str) -> None:
    """What cannot be used says why, in one line, without the password."""
    with closing(Database(url)) as database, pytest.raises(LedgerError, match=words) as caught:
        parked_task(SqlStore(database))
    assert "s3cret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_server_that_is_too_old(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused by its version, before anything is asked of it."""
    monkeypatch.setattr(kinds_mysql, "OLDEST", {"MariaDB": (99, 1), "MySQL": (99, 1)})
    with closing(Database(store_url)) as database:
        for use in (lambda: parked_task(SqlStore(database)), lambda: SqlLedger(database).balance(START)):
            with pytest.raises(LedgerError, match=r"is on MariaDB 1\d\.\S+; it needs MariaDB 99\.1 or newer"):
                use()


def test_the_driver_is_one() -> None:
    """Another driver, or an address without a database, is refused at the start."""
    for url, words in [("mysql+mysqldb://h/d", "pymysql, not mysqldb"), ("mariadb://h", "names no database")]:
        with pytest.raises(SettingsError, match=words):
            Database(url)
    assert str(Database("mariadb://h/d").url) == str(Database("mysql+pymysql://h/d").url) == "mysql+pymysql://h/d"


def test_sessions_are_set_up(database: Database, store_url: str) -> None:
    """Whatever the server is set to: strict, READ COMMITTED, no endless wait for a lock; UTF-8 of any length."""
    ask = "SELECT @@sql_mode, @@tx_isolation, @@innodb_lock_wait_timeout, @@lock_wait_timeout, @@character_set_client"
    wanted = (kinds_mysql.SQL_MODE, "READ-COMMITTED", 5, 5, "utf8mb4")
    with database.write() as connection:
        (mode, *rest) = connection.execute(text(ask)).one()
    assert (set(mode.split(",")), *rest) == (set(wanted[0].split(",")), *wanted[1:])
    with database.capture(durable=True) as ledger, ledger._connection.cursor() as cursor:
        cursor.execute(ask)
        assert cursor.fetchone()[1:] == wanted[1:]
    with closing(Database(f"{store_url}?connect_timeout=7")) as other:  # what the address says is taken
        assert other.engine.dialect.create_connect_args(other.url)[1]["connect_timeout"] == 7
        assert connection_of(other)


def test_tables_are_made_for_it(database: Database) -> None:
    """InnoDB, and a collation that takes no two texts for the same, whatever the database's own is."""
    with database.read() as connection:
        found = connection.execute(
            text(
                "SELECT engine, table_collation FROM information_schema.tables WHERE table_schema = DATABASE()"
                " AND table_name LIKE 'regrow\\_%' AND table_name <> 'regrow_alembic_version'"
            )
        )
        assert {tuple(row) for row in found} == {("InnoDB", "utf8mb4_nopad_bin")}


# -- values -----------------------------------------------------------------------------------------------------------


def test_texts_that_look_alike_stay_apart(store: SqlStore) -> None:
    """Letters of another case or with an accent, and spaces at the end, tell one task from another."""
    ids = ["a", "A", "á", "a ", "ß", "ss", "钱", "\U0001f4a3", "\U0001f4a4"]
    handled = a_regrow(store).handle([a_failure(task_id=one) for one in ids])
    assert [one.duplicate for one in handled] == [False] * len(ids)
    assert [store.history(one).failure for one in ids] == [one.id for one in handled]


def test_what_is_larger_than_a_packet_is_refused_for_ever(store: SqlStore, database: Database) -> None:
    """The server takes no statement beyond max_allowed_packet: trying again cannot help, and others are kept."""
    with database.read() as connection:
        limit = connection.execute(text("SELECT @@max_allowed_packet")).scalar_one()
    import random

    large = random.Random(1).randbytes(limit).hex()  # half of it is left when it is compressed
    with pytest.raises(Unkeepable, match="max_allowed_packet"):
        parked_task(store, envelope=large)
    assert not parked_task(store).duplicate


def test_times_are_exact_and_in_utc(store: SqlStore, database: Database) -> None:
    """To the microsecond, whatever zone the server and the session have."""
    at = START + timedelta(microseconds=123457)
    parked_task(store, task_id="a", failed_at=at)
    with database.write() as connection:
        connection.execute(text("SET SESSION time_zone = '+08:00'"))
        assert connection.execute(select(failure.c.last_failed_at)).scalar_one() == at
        now = connection.execute(select(database.kind.now())).scalar_one()
    assert abs(now.timestamp() - time.time()) < 60


def test_one_alert_is_open_for_a_group(store: SqlStore, ledger: SqlLedger, database: Database) -> None:
    """A second one is counted to it; closed ones stay, as many as there are."""
    for number in range(3):
        for _ in range(2):
            store.count_alert(a_message(f"k{number}-{_}", group="g"), now=START)
        assert [one.count for one in ledger.alerts()] == [2]
        assert not store.raise_alert(a_message("other", group="g"), [], now=START)
        assert store.clear_alert("g", [], now=START)
    assert [one.count for one in ledger.alerts(closed=True)] == [2, 2, 2]
    assert store.raise_alert(a_message("k", group="g"), [], now=START)
    with database.read() as connection:
        assert len(connection.execute(select(alert.c.id)).all()) == 4


# -- statements -------------------------------------------------------------------------------------------------------


def assigned(statement: Any) -> list[str]:
    """The columns of an UPDATE in the order in which they are written."""
    sql = str(in_order(statement).compile(dialect=mysql.dialect(paramstyle="named")))
    return [one.split("=")[0].strip() for one in sql.partition(" SET ")[2].partition(" WHERE ")[0].split(", ")]


def test_assignments_see_the_row_as_it_was() -> None:
    """Who reads a column comes before who changes it; where that cannot be, the statement is refused."""
    was = failure.c.state == State.DISPATCHED
    statement = update(failure).where(failure.c.id == 1)
    chain = statement.values(
        state="x",
        rescues=case((was, failure.c.deaths), else_=0),
        deaths=case((was, failure.c.deaths + 1), else_=failure.c.attempts),
        attempts=failure.c.attempts + 1,
    )
    assert assigned(chain)[:2] == ["rescues", "deaths"]
    assert sorted(assigned(chain)[2:]) == ["attempts", "state"]
    plain = statement.values(state="x", deaths=failure.c.deaths + 1)
    assert in_order(plain) is plain
    with pytest.raises(ValueError, match="need each other"):
        in_order(statement.values(deaths=failure.c.rescues, rescues=failure.c.deaths))


def test_mysql_is_asked_in_its_own_words() -> None:
    """MySQL knows the new row of an upsert by an alias, MariaDB by a function: each is asked as its version wants it."""
    kind = kind_of(make_url("mysql://h/d"))
    statement = kind.putting(lease, ["name"], lambda new: {"token": new.token}, where=lease.c.until <= START)
    dialect: Any = mysql.dialect()
    said = {}
    for name in ("MySQL", "MariaDB"):
        dialect._requires_alias_for_on_duplicate_key = name == "MySQL"  # SQLAlchemy's own, from the server's version
        said[name] = str(statement.compile(dialect=dialect)).partition("ON DUPLICATE KEY UPDATE ")
    assert said["MySQL"][0].endswith("AS new ")
    assert "THEN new.token ELSE" in said["MySQL"][2]
    assert "THEN VALUES(token) ELSE" in said["MariaDB"][2]


# -- deadlocks --------------------------------------------------------------------------------------------------------


@contextmanager
def in_the_way(url: str, first: int, second: int) -> Iterator[None]:
    """A transaction that has `second`, wants `first` as soon as somebody waits for it, and weighs more than he does.

    The server undoes the one of two that has written less.
    """

    def hold() -> None:
        other = pymysql.connect(host="127.0.0.1", user="root", database=make_url(url).database)
        with closing(other), other.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO regrow_lease VALUES (%s, 't', '2026-01-01')", [(str(n),) for n in range(99)]
            )
            cursor.execute("UPDATE regrow_failure SET queue = 'x' WHERE id = %s", (second,))
            started.append(1)
            until = time.monotonic() + 20
            while not mariadb("SELECT 1 FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"):
                assert time.monotonic() < until, "nobody waits"
                time.sleep(0.02)
            cursor.execute("UPDATE regrow_failure SET queue = 'y' WHERE id = %s", (first,))
            time.sleep(0.1)
            other.commit()

    started: list[int] = []
    with ThreadPoolExecutor(1) as threads:
        held = threads.submit(hold)
        while not started and not held.done():
            time.sleep(0.01)
        yield
        held.result()


def deadlocks() -> int:
    """How many deadlocks the server has settled."""
    return int(mariadb("SHOW GLOBAL STATUS LIKE 'Innodb_deadlocks'")[0][1])


def test_what_a_deadlock_has_undone_runs_once_more(store: SqlStore, store_url: str, database: Database) -> None:
    """A failing task and a dispatcher lose against somebody else: they do their work all the same, once."""
    ids = [parked_task(store, task_id=one).id or 0 for one in ("a", "b")]
    due = claim(store)
    assert all(store.start(Header(one.failure, 2, one.token), retries=0, idempotent=False, due_at=START) for one in due)
    before = deadlocks()
    with in_the_way(store_url, *ids):
        handled = a_regrow(store).handle([a_failure(task_id=one, attempt=2, token=due[0].token) for one in ("a", "b")])
    assert [(one.id, one.duplicate, one.attempt) for one in handled] == [(ids[0], False, 2), (ids[1], False, 2)]
    assert deadlocks() == before + 1
    due = claim(store, 10_000)
    with database.write() as connection:
        connection.execute(text("DELETE FROM regrow_lease"))
    with in_the_way(store_url, *ids):
        store.postpone(due[0].token, ids, due_at=START + timedelta(days=9))
    assert deadlocks() == before + 2
    assert [store.history(one).state for one in ("a", "b")] == [State.SCHEDULED] * 2
