"""A private MariaDB that fails in every way it can, through PyMySQL and SQLAlchemy."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy
from sqlalchemy.pool import NullPool, QueuePool

from regrow.model import BUSINESS, CONFIG, DATA, TEMPORARY, Category
from tests.provoked import servers
from tests.provoked.servers import closed_port, serve
from tests.provoked.table import Case, Field, check, shared
from tests.services import require_library

mysql = Field("mysql")

_SCHEMA = """
CREATE TABLE customer (id int PRIMARY KEY, name varchar(5) NOT NULL, email varchar(50) UNIQUE, age int CHECK (age > 0));
CREATE TABLE purchase (id int PRIMARY KEY, customer_id int NOT NULL, FOREIGN KEY (customer_id) REFERENCES customer (id));
CREATE TABLE number (id int PRIMARY KEY, n int, made date);
CREATE TABLE secret (id int);
INSERT INTO customer VALUES (1, 'Ada', 'ada@example.com', 36);
INSERT INTO purchase VALUES (1, 1);
INSERT INTO number (id, n) VALUES (1, 0), (2, 0);
CREATE PROCEDURE ship() SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'Order 4711 has already been shipped';
CREATE USER app IDENTIFIED BY 'right';
CREATE USER few IDENTIFIED BY 'right' WITH MAX_USER_CONNECTIONS 1;
CREATE USER locked IDENTIFIED BY 'right' ACCOUNT LOCK;
GRANT ALL ON shop.customer TO app;
GRANT ALL ON shop.purchase TO app;
GRANT ALL ON shop.number TO app;
GRANT EXECUTE, CREATE ON shop.* TO app;
GRANT SELECT ON shop.* TO few;
"""


@shared
@contextmanager
def port() -> Iterator[int]:
    """The port of the server."""
    with servers.folder() as folder:
        if os.geteuid() == 0:
            shutil.chown(folder, "mysql")
        install = servers.program("mariadb-install-db")
        log, data, number = folder / "log", folder / "data", closed_port()
        arguments = [install, "--no-defaults", f"--datadir={data}", "--auth-root-authentication-method=normal"]
        servers.finish([*arguments, "--skip-test-db", f"--tmpdir={folder}"], log=log, user="mysql")
        options = [
            *(
                "--no-defaults",
                f"--tmpdir={folder}",
                f"--datadir={data}",
                f"--socket={folder}/sock",
                f"--pid-file={folder}/pid",
            ),
            *(f"--port={number}", "--bind-address=127.0.0.1", "--innodb-buffer-pool-size=16M", "--max-connections=10"),
            *("--innodb-lock-wait-timeout=1", "--max-allowed-packet=1M", "--innodb-flush-log-at-trx-commit=0"),
        ]
        with servers.running([servers.program("mariadbd", "/usr/sbin/mariadbd"), *options], log=log, user="mysql"):
            servers.wait(lambda: servers.listens(number), "MariaDB")
            pymysql = require_library("pymysql")
            with pymysql.connect(unix_socket=f"{folder}/sock", user="root") as root, root.cursor() as cursor:
                cursor.execute("CREATE DATABASE shop")
                cursor.execute("USE shop")
                for statement in _SCHEMA.split(";\n"):
                    if statement.strip():
                        cursor.execute(statement)
                cursor.execute("CREATE USER admin IDENTIFIED BY 'right'")
                cursor.execute("GRANT ALL ON *.* TO admin WITH GRANT OPTION")
                cursor.execute("FLUSH PRIVILEGES")
            yield number


class _Session:
    """PyMySQL in autocommit mode."""

    def __init__(self, **parts: Any) -> None:
        pymysql = require_library("pymysql")
        usual = {"host": "127.0.0.1", "user": "app", "password": "right", "database": "shop", "connect_timeout": 10}
        if "port" not in parts:
            usual["port"] = port()
        self.connection = pymysql.connect(**{"autocommit": True, "read_timeout": 30, **usual, **parts})

    def run(self, statement: str) -> Any:
        """One statement, its rows read."""
        with self.connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall()

    def close(self) -> None:
        """End it whatever its state."""
        self.connection.close()

    def __enter__(self) -> _Session:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(Exception):
            self.close()


class _Alchemy(_Session):
    """SQLAlchemy over PyMySQL."""

    def __init__(self, **parts: Any) -> None:
        require_library("pymysql")
        usual = {"host": "127.0.0.1", "user": "app", "password": "right", "database": "shop"}
        if "port" not in parts:
            usual["port"] = port()
        given = {**usual, **parts}
        names = ("user", "password", "host", "port", "database")
        url = sqlalchemy.URL.create("mysql+pymysql", *(given.pop(name) for name in names))
        arguments = {"connect_timeout": 10, "read_timeout": 30, **given}
        engine = sqlalchemy.create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args=arguments)
        self.connection = engine.connect()

    def run(self, statement: str) -> Any:
        result = self.connection.exec_driver_sql(statement)
        return result.fetchall() if result.returns_rows else None

    def close(self) -> None:
        self.connection.invalidate()
        self.connection.close()


DRIVERS: dict[str, type[_Session]] = {"pymysql": _Session, "sqlalchemy-pymysql": _Alchemy}

STATEMENTS: list[tuple[str, tuple[Category, ...], list[str]]] = [
    ("missing-table-named-in-full", (CONFIG,), ["SELECT * FROM information_schema.no_such_table"]),
    ("missing-column", (CONFIG,), ["SELECT no_such_column FROM customer"]),
    ("missing-procedure", (CONFIG,), ["CALL no_such_procedure()"]),
    ("missing-database", (CONFIG,), ["USE gone"]),
    ("table-already-there", (CONFIG,), ["CREATE TABLE number (id int)"]),
    ("command-denied-for-table", (CONFIG,), ["SELECT * FROM secret"]),
    ("command-denied-for-user", (CONFIG,), ["SET GLOBAL max_connections = 5"]),
    ("unique", (DATA,), ["INSERT INTO customer VALUES (2, 'Bob', 'ada@example.com', 4)"]),
    ("not-null", (DATA,), ["INSERT INTO customer VALUES (3, NULL, NULL, 3)"]),
    ("no-default", (DATA,), ["INSERT INTO customer (id) VALUES (3)"]),
    ("foreign-key", (DATA,), ["INSERT INTO purchase VALUES (2, 99)"]),
    ("still-referenced", (DATA,), ["DELETE FROM customer WHERE id = 1"]),
    ("check", (DATA,), ["INSERT INTO customer VALUES (4, 'Eve', NULL, -1)"]),
    ("too-long", (DATA,), ["INSERT INTO customer VALUES (5, 'Bartholomew', NULL, 3)"]),
    ("out-of-range", (DATA,), ["INSERT INTO number (id) VALUES (99999999999)"]),
    ("no-integer", (DATA,), ["INSERT INTO number (id) VALUES ('twelve')"]),
    ("no-date", (DATA,), ["INSERT INTO number (id, made) VALUES (9, '2026-02-31')"]),
    ("column-count", (DATA,), ["INSERT INTO number (id, n) VALUES (1)"]),
    ("more-than-one-row", (DATA,), ["SELECT (SELECT id FROM number)"]),
    ("syntax", (DATA,), ["SELEC 1"]),
    ("statement-timeout", (TEMPORARY,), ["SET max_statement_time = 0.05", "SELECT SLEEP(20) FROM number"]),
    ("read-only-transaction", (TEMPORARY, CONFIG), ["SET SESSION TRANSACTION READ ONLY", "DELETE FROM number"]),
    ("own-exception", (BUSINESS,), ["CALL ship()"]),
]


def _statements(session: type[_Session], statements: list[str]) -> None:
    with session() as opened:
        for statement in statements:
            opened.run(statement)


for _driver, _session in DRIVERS.items():
    for _name, _labels, _texts in STATEMENTS:
        mysql.add(f"{_name}/{_driver}", _labels, lambda s=_session, t=_texts: _statements(s, t))
    for _name, _labels, _parts in (
        ("wrong-password", (CONFIG,), {"password": "wrong"}),
        ("missing-user", (CONFIG,), {"user": "nobody"}),
        ("locked-account", (CONFIG,), {"user": "locked"}),
        ("missing-database-at-connect", (CONFIG,), {"user": "admin", "database": "gone"}),
        ("denied-database-at-connect", (CONFIG,), {"database": "mysql"}),
        ("dns", (TEMPORARY,), {"host": "regrow.invalid"}),
    ):
        mysql.add(f"{_name}/{_driver}", _labels, lambda s=_session, p=_parts: s(**p).close())
    mysql.add(f"refused/{_driver}", TEMPORARY, lambda s=_session: s(port=closed_port()).close())


def _missing_table(session: type[_Session]) -> None:
    with session(user="admin") as opened:
        opened.run("SELECT * FROM no_such_table")


def _missing_function(session: type[_Session]) -> None:
    with session(user="admin") as opened:
        opened.run("SELECT no_such_function(1)")


def _silent_server(session: type[_Session]) -> None:
    with serve(servers.silent) as number:
        session(port=number, connect_timeout=1, read_timeout=1)


def _hang_up(session: type[_Session]) -> None:
    with serve(servers.hang_up) as number:
        session(port=number)


def _lock_timeout(session: type[_Session]) -> None:
    with session() as one, session() as two:
        one.run("BEGIN")
        one.run("UPDATE number SET n = 1 WHERE id = 1")
        two.run("UPDATE number SET n = 2 WHERE id = 1")


def _nowait(session: type[_Session]) -> None:
    with session() as one, session() as two:
        one.run("BEGIN")
        one.run("UPDATE number SET n = 1 WHERE id = 1")
        two.run("SELECT * FROM number WHERE id = 1 FOR UPDATE NOWAIT")


def _deadlock(session: type[_Session]) -> None:
    failures: list[Exception] = []
    with session() as one, session() as two:
        for opened, row in ((one, 1), (two, 2)):
            opened.run("SET innodb_lock_wait_timeout = 20")
            opened.run("BEGIN")
            opened.run(f"UPDATE number SET n = n + 1 WHERE id = {row}")

        def cross(opened: _Session, row: int) -> None:
            try:
                opened.run(f"UPDATE number SET n = n + 1 WHERE id = {row}")
            except Exception as error:
                failures.append(error)

        thread = threading.Thread(target=cross, args=(two, 1))
        thread.start()
        cross(one, 2)
        thread.join(servers.PATIENCE_SECONDS)
    raise failures[0]


def _kill(opened: _Session, what: str = "") -> None:
    (row,) = opened.run("SELECT CONNECTION_ID()")
    with _Session(user="admin") as admin:
        admin.run(f"KILL {what} {row[0]}")


def _killed_between(session: type[_Session]) -> None:
    with session() as opened:
        _kill(opened)
        opened.run("SELECT 1")


def _killed_within(session: type[_Session], what: str = "") -> None:
    with session() as opened:
        (row,) = opened.run("SELECT CONNECTION_ID()")
        with _Session(user="admin") as admin:
            timer = threading.Timer(0.2, admin.run, (f"KILL {what} {row[0]}",))
            timer.start()
            try:
                opened.run("SELECT SLEEP(20) FROM number")
            finally:
                timer.join()


def _read_timeout(session: type[_Session]) -> None:
    with session(read_timeout=1) as opened:
        opened.run("SELECT SLEEP(20)")


def _user_limit(session: type[_Session]) -> None:
    with session(user="few"):
        session(user="few")


def _too_many(session: type[_Session]) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(30):
            stack.enter_context(session())


def _read_only_server(session: type[_Session]) -> None:
    with _Session(user="admin") as admin, session() as opened:
        admin.run("SET GLOBAL read_only = 1")
        try:
            opened.run("DELETE FROM number WHERE id = 9")
        finally:
            admin.run("SET GLOBAL read_only = 0")


for _id, _labels, _provoke in (
    ("missing-table", (CONFIG,), _missing_table),
    ("missing-function", (CONFIG,), _missing_function),
    ("connect-timeout", (TEMPORARY,), _silent_server),
    ("closed-at-once", (TEMPORARY,), _hang_up),
    ("lock-timeout", (TEMPORARY,), _lock_timeout),
    ("nowait", (TEMPORARY,), _nowait),
    ("deadlock", (TEMPORARY,), _deadlock),
    ("killed-between-statements", (TEMPORARY,), _killed_between),
    ("killed-within-a-statement", (TEMPORARY,), _killed_within),
    ("read-timeout", (TEMPORARY,), _read_timeout),
    ("user's-connections-used-up", (TEMPORARY,), _user_limit),
    ("too-many-connections", (TEMPORARY,), _too_many),
    ("read-only-server", (TEMPORARY, CONFIG), _read_only_server),
):
    for _driver, _session in DRIVERS.items():
        mysql.add(f"{_id}/{_driver}", _labels, lambda p=_provoke, s=_session: p(s))


@mysql.case("pool-exhausted/sqlalchemy", TEMPORARY)
def _pool() -> None:
    url = sqlalchemy.URL.create("mysql+pymysql", "app", "right", "127.0.0.1", port(), "shop")
    engine = sqlalchemy.create_engine(url, poolclass=QueuePool, pool_size=1, max_overflow=0, pool_timeout=0.05)
    try:
        with engine.connect():
            engine.connect()
    finally:
        engine.dispose()


@mysql.case("closed-connection/pymysql", TEMPORARY)
def _closed() -> None:
    session = _Session()
    session.close()
    session.run("SELECT 1")


@mysql.case("missing-socket/pymysql", TEMPORARY)
def _missing_socket() -> None:
    require_library("pymysql").connect(unix_socket="/nonexistent/mysqld.sock", user="app", password="right")


@mysql.each()
def test_mysql(case: Case) -> None:
    """As PostgreSQL: outage, set-up or data."""
    check(case)
