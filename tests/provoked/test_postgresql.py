"""A private PostgreSQL that fails in every way it can, through five drivers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool, QueuePool

from regrow.model import BUSINESS, CONFIG, DATA, TEMPORARY, Category
from tests.provoked import servers
from tests.provoked.servers import closed_port, serve
from tests.provoked.table import Case, Field, check, shared
from tests.services import require_library

postgresql = Field("postgresql")

_BINARIES = "/usr/lib/postgresql/*/bin"
_PASSWORD = "right"


# -- the server --------------------------------------------------------------------------------------------------------


@dataclass
class _Cluster:
    """A folder of data, and the server that runs over it."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self._exit = contextlib.ExitStack()

    def start(self, **settings: str) -> None:
        """Start without waiting."""
        options = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "off",
            "max_connections": "20",
            "superuser_reserved_connections": "3",
            "shared_buffers": "16MB",
            "deadlock_timeout": "50ms",
            "statement_timeout": f"{servers.PATIENCE_SECONDS:.0f}s",  # the bound of every wait in here
            **settings,
        }
        arguments = [servers.program(f"{_BINARIES}/postgres"), "-D", str(self.folder), "-p", str(self.port)]
        for name, value in options.items():
            arguments += ["-c", f"{name}={value}"]
        log = self.folder.parent / "log"
        self.process = self._exit.enter_context(servers.running(arguments, log=log, user="postgres"))

    def stop(self) -> None:
        """Kill it."""
        if self.process is not None:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(servers.PATIENCE_SECONDS)
        self._exit.close()

    def address(self, **parts: Any) -> dict[str, Any]:
        """Where to connect, for `connect`."""
        usual = {"host": "127.0.0.1", "port": self.port, "user": "app", "password": _PASSWORD, "database": "shop"}
        return {**usual, **parts}

    def admin(self) -> psycopg.Connection:
        """A superuser's session."""
        parts = self.address(user="postgres")
        return psycopg.connect(dbname=parts.pop("database"), autocommit=True, connect_timeout=10, **parts)

    def copy(self) -> _Cluster:
        """The same data before its first start, for a server of one failure's own."""
        folder = self.folder.parent / f"copy-{closed_port()}" / "data"
        folder.parent.mkdir()
        shutil.copytree(self.folder.parent / "fresh", folder)
        if os.geteuid() == 0:
            subprocess.run(["chown", "-R", "postgres", str(folder.parent)], check=True, timeout=60)
        return _Cluster(folder, closed_port())


@contextmanager
def _initialised() -> Iterator[_Cluster]:
    with servers.folder() as folder:
        initdb = servers.program(f"{_BINARIES}/initdb")
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres")
        password = folder / "password"
        password.write_text(_PASSWORD)
        password.chmod(0o644)
        arguments = ["-D", str(folder / "data"), "-U", "postgres", "--pwfile", str(password), "-A", "scram-sha-256"]
        servers.finish([initdb, *arguments, "-N", "--locale=C", "-E", "UTF8"], log=folder / "log", user="postgres")
        hba = "host all outsider 127.0.0.1/32 reject\nhost shop,postgres,gone all 127.0.0.1/32 scram-sha-256\n"
        (folder / "data/pg_hba.conf").write_text(hba)
        shutil.copytree(folder / "data", folder / "fresh")
        yield _Cluster(folder / "data", closed_port())


_SCHEMA = """
CREATE TABLE customer (id int PRIMARY KEY, name varchar(5) NOT NULL, email text UNIQUE, age int CHECK (age > 0));
CREATE TABLE purchase (id int PRIMARY KEY, customer_id int NOT NULL REFERENCES customer (id));
CREATE TABLE slot (during int4range, EXCLUDE USING gist (during WITH &&));
CREATE TABLE secret (id int);
CREATE TABLE number (id int PRIMARY KEY, n int);
INSERT INTO customer VALUES (1, 'Ada', 'ada@example.com', 36);
INSERT INTO purchase VALUES (1, 1);
INSERT INTO slot VALUES ('[1,5)');
INSERT INTO number VALUES (1, 0), (2, 0);
CREATE FUNCTION ship() RETURNS void LANGUAGE plpgsql AS
  $$ BEGIN RAISE EXCEPTION 'Order 4711 has already been shipped'; END $$;
CREATE FUNCTION deeper(n int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN deeper(n + 1); END $$;
GRANT ALL ON customer, purchase, slot, number TO app;
"""


@shared
@contextmanager
def cluster() -> Iterator[_Cluster]:
    """The server that all failures share which leave it as it was."""
    with _initialised() as made:
        made.start()
        try:
            servers.wait(lambda: servers.listens(made.port), "PostgreSQL")
            _set_up(made)
            yield made
        finally:
            made.stop()


def _set_up(made: _Cluster) -> None:
    parts = made.address(user="postgres")
    del parts["database"]
    sessions = []

    def connected() -> bool:
        try:
            sessions.append(psycopg.connect(dbname="postgres", autocommit=True, connect_timeout=10, **parts))
        except psycopg.OperationalError:
            return False
        return True

    servers.wait(connected, "PostgreSQL")
    with sessions[0] as session:
        session.execute(f"CREATE ROLE app LOGIN PASSWORD '{_PASSWORD}'")
        session.execute(f"CREATE ROLE outsider LOGIN PASSWORD '{_PASSWORD}'")
        session.execute(f"CREATE ROLE few LOGIN PASSWORD '{_PASSWORD}' CONNECTION LIMIT 1")
        session.execute("CREATE DATABASE shop")
    with made.admin() as session:
        session.execute(_SCHEMA.encode())


# -- the drivers -------------------------------------------------------------------------------------------------------


class _Session:
    """One driver's connection in autocommit mode.

    Args:
        address: Host, port, user, password, database; `seconds` bounds connecting.
    """

    def __init__(self, **address: Any) -> None:
        raise NotImplementedError

    def run(self, statement: str) -> None:
        """One statement, its rows read."""

    def close(self) -> None:
        """End it whatever its state."""

    def __enter__(self) -> _Session:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(Exception):
            self.close()


class _Psycopg(_Session):
    def __init__(self, *, database: str, seconds: int = 10, **address: Any) -> None:
        self.connection = psycopg.connect(dbname=database, connect_timeout=seconds, autocommit=True, **address)

    def run(self, statement: str) -> None:
        self.connection.execute(statement.encode())

    def close(self) -> None:
        self.connection.close()


class _Psycopg2(_Session):
    def __init__(self, *, database: str, seconds: int = 10, **address: Any) -> None:
        psycopg2 = require_library("psycopg2")
        self.connection = psycopg2.connect(dbname=database, connect_timeout=seconds, **address)
        self.connection.autocommit = True

    def run(self, statement: str) -> None:
        with self.connection.cursor() as cursor:
            cursor.execute(statement)

    def close(self) -> None:
        self.connection.close()


class _Asyncpg(_Session):
    def __init__(self, *, seconds: float = 10, **address: Any) -> None:
        asyncpg = require_library("asyncpg")
        self.loop = asyncio.new_event_loop()
        try:
            self.connection = self.loop.run_until_complete(asyncpg.connect(timeout=seconds, **address))
        except BaseException:
            self.loop.close()
            raise

    def run(self, statement: str) -> None:
        self.loop.run_until_complete(self.connection.execute(statement))

    def close(self) -> None:
        self.connection.terminate()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()


class _Alchemy(_Session):
    """SQLAlchemy over psycopg2."""

    def __init__(self, *, seconds: int = 10, **address: Any) -> None:
        require_library("psycopg2")
        url = _url("postgresql+psycopg2", **address)
        arguments = {"connect_timeout": seconds}
        if "sslmode" in address:
            arguments["sslmode"] = address["sslmode"]
        engine = sqlalchemy.create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args=arguments)
        self.connection = engine.connect()

    def run(self, statement: str) -> None:
        self.connection.exec_driver_sql(statement.replace("%", "%%"))

    def close(self) -> None:
        self.connection.invalidate()
        self.connection.close()


class _AsyncAlchemy(_Session):
    """SQLAlchemy over asyncpg."""

    def __init__(self, *, seconds: float = 10, **address: Any) -> None:
        require_library("asyncpg")
        url = _url("postgresql+asyncpg", **address)
        engine = create_async_engine(
            url, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args={"timeout": seconds}
        )
        self.loop = asyncio.new_event_loop()

        async def connect() -> Any:
            return await engine.connect()

        try:
            self.connection = self.loop.run_until_complete(connect())
        except BaseException:
            self.loop.close()
            raise

    def run(self, statement: str) -> None:
        self.loop.run_until_complete(self.connection.exec_driver_sql(statement))

    def close(self) -> None:
        self.loop.run_until_complete(self.connection.invalidate())
        self.loop.run_until_complete(self.connection.close())
        self.loop.close()


def _url(kind: str, **address: Any) -> sqlalchemy.URL:
    return sqlalchemy.URL.create(
        kind, address["user"], address["password"], address["host"], address["port"], address["database"]
    )


DRIVERS: dict[str, type[_Session]] = {
    "psycopg": _Psycopg,
    "psycopg2": _Psycopg2,
    "asyncpg": _Asyncpg,
    "sqlalchemy-psycopg2": _Alchemy,
    "sqlalchemy-asyncpg": _AsyncAlchemy,
}


def _through_each(name: str, *labels: Category) -> Callable[[Callable[[type[_Session]], object]], None]:
    """Decorator: the failure through every driver."""

    def register(provoke: Callable[[type[_Session]], object]) -> None:
        for driver, session in DRIVERS.items():
            postgresql.add(f"{name}/{driver}", labels, lambda s=session: provoke(s))

    return register


# -- one statement -----------------------------------------------------------------------------------------------------

STATEMENTS: list[tuple[str, tuple[Category, ...], list[str]]] = [
    ("missing-table", (CONFIG,), ["SELECT * FROM no_such_table"]),
    ("missing-column", (CONFIG,), ["SELECT no_such_column FROM customer"]),
    ("missing-function", (CONFIG,), ["SELECT no_such_function(1)"]),
    ("missing-schema", (CONFIG,), ["SELECT * FROM no_such_schema.orders"]),
    ("missing-extension", (CONFIG,), ["CREATE EXTENSION no_such_extension"]),
    ("missing-sequence", (CONFIG,), ["SELECT nextval('no_such_sequence')"]),
    ("missing-type", (CONFIG,), ["SELECT 1::no_such_type"]),
    ("table-already-there", (CONFIG,), ["CREATE TEMP TABLE again (id int)", "CREATE TEMP TABLE again (id int)"]),
    ("permission-denied-for-table", (CONFIG,), ["SELECT * FROM secret"]),
    ("permission-denied-for-database", (CONFIG,), ["CREATE SCHEMA mine"]),
    ("superuser-only", (CONFIG,), ["SELECT pg_read_file('/etc/hostname')"]),
    ("unique", (DATA,), ["INSERT INTO customer VALUES (2, 'Bob', 'ada@example.com', 4)"]),
    ("primary-key", (DATA,), ["INSERT INTO customer VALUES (1, 'Bob')"]),
    ("not-null", (DATA,), ["INSERT INTO customer VALUES (3, NULL)"]),
    ("foreign-key", (DATA,), ["INSERT INTO purchase VALUES (2, 99)"]),
    ("still-referenced", (DATA,), ["DELETE FROM customer WHERE id = 1"]),
    ("check", (DATA,), ["INSERT INTO customer VALUES (4, 'Eve', NULL, -1)"]),
    ("exclusion", (DATA,), ["INSERT INTO slot VALUES ('[3,9)')"]),
    ("too-long", (DATA,), ["INSERT INTO customer VALUES (5, 'Bartholomew')"]),
    ("out-of-range", (DATA,), ["SELECT 99999999999::int"]),
    ("no-integer", (DATA,), ["SELECT 'twelve'::int"]),
    ("no-date", (DATA,), ["SELECT '2026-02-31'::date"]),
    ("no-uuid", (DATA,), ["SELECT 'x'::uuid"]),
    ("no-json", (DATA,), ["SELECT '{oops'::json"]),
    ("no-utf8", (DATA,), [r"SELECT convert_from('\xff'::bytea, 'UTF8')"]),
    ("division-by-zero", (DATA,), ["SELECT 1/0"]),
    ("syntax", (DATA,), ["SELEC 1"]),
    ("type-mismatch", (DATA,), ["SELECT 1 + true"]),
    ("not-grouped", (DATA,), ["SELECT name, count(*) FROM customer"]),
    ("more-than-one-row", (DATA,), ["SELECT (SELECT id FROM number)"]),
    ("bad-regular-expression", (DATA,), ["SELECT 'a' ~ '('"]),
    ("too-large-a-value", (DATA,), ["SELECT repeat('x', 1073741824)"]),
    ("endless-recursion", (DATA,), ["SELECT deeper(1)"]),
    ("statement-timeout", (TEMPORARY,), ["SET statement_timeout = 20", "SELECT pg_sleep(30)"]),
    ("idle-in-transaction", (TEMPORARY,), ["SET idle_in_transaction_session_timeout = 10", "BEGIN", "", "SELECT 1"]),
    ("read-only-transaction", (TEMPORARY, CONFIG), ["SET default_transaction_read_only = on", "DELETE FROM number"]),
    ("aborted-transaction", (TEMPORARY,), ["BEGIN", "!SELECT 1/0", "SELECT 1"]),
    ("terminated", (TEMPORARY,), ["SELECT pg_terminate_backend(pg_backend_pid())"]),
    ("used-after-terminated", (TEMPORARY,), ["!SELECT pg_terminate_backend(pg_backend_pid())", "SELECT 1"]),
    ("own-exception", (BUSINESS,), ["SELECT ship()"]),
]


def _statements(session: type[_Session], statements: list[str]) -> None:
    with session(**cluster().address()) as opened:
        for statement in statements:
            if not statement:
                _until_alone()
            elif statement.startswith("!"):
                with contextlib.suppress(Exception):
                    opened.run(statement[1:])
            else:
                opened.run(statement)


def _until_alone() -> None:
    """Until the server has ended every other session of the application's."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'"
    with cluster().admin() as admin:
        servers.wait(lambda: admin.execute(query).fetchone() == (0,), "the end of the sessions")


for _name, _labels, _texts in STATEMENTS:
    for _driver, _session in DRIVERS.items():
        postgresql.add(f"{_name}/{_driver}", _labels, lambda s=_session, t=_texts: _statements(s, t))


# -- two sessions ------------------------------------------------------------------------------------------------------


def _pair(session: type[_Session]) -> tuple[_Session, _Session]:
    one = session(**cluster().address())
    try:
        return one, session(**cluster().address())
    except BaseException:
        one.close()
        raise


@_through_each("lock-timeout", TEMPORARY)
def _lock_timeout(session: type[_Session]) -> None:
    one, two = _pair(session)
    with one, two:
        one.run("BEGIN")
        one.run("UPDATE number SET n = 1 WHERE id = 1")
        two.run("SET lock_timeout = 20")
        two.run("UPDATE number SET n = 2 WHERE id = 1")


@_through_each("nowait", TEMPORARY)
def _nowait(session: type[_Session]) -> None:
    one, two = _pair(session)
    with one, two:
        one.run("BEGIN")
        one.run("UPDATE number SET n = 1 WHERE id = 1")
        two.run("SELECT * FROM number WHERE id = 1 FOR UPDATE NOWAIT")


@_through_each("deadlock", TEMPORARY)
def _deadlock(session: type[_Session]) -> None:
    failures: list[Exception] = []
    one, two = _pair(session)
    with one, two:
        for opened, row in ((one, 1), (two, 2)):
            opened.run("BEGIN")
            opened.run(f"UPDATE number SET n = 1 WHERE id = {row}")

        def cross(opened: _Session, row: int) -> None:
            try:
                opened.run(f"UPDATE number SET n = 2 WHERE id = {row}")
            except Exception as error:
                failures.append(error)
                opened.run("ROLLBACK")

        thread = threading.Thread(target=cross, args=(two, 1))
        thread.start()
        cross(one, 2)
        thread.join(servers.PATIENCE_SECONDS)
    raise failures[0]


@_through_each("serialization", TEMPORARY)
def _serialization(session: type[_Session]) -> None:
    one, two = _pair(session)
    with one, two:
        for opened in (one, two):
            opened.run("BEGIN ISOLATION LEVEL SERIALIZABLE")
            opened.run("SELECT sum(n) FROM number")
        one.run("UPDATE number SET n = n + 1 WHERE id = 1")
        one.run("COMMIT")
        two.run("UPDATE number SET n = n + 1 WHERE id = 1")


# -- connecting --------------------------------------------------------------------------------------------------------


def _connect(session: type[_Session], **parts: Any) -> None:
    session(**cluster().address(**parts)).close()


for _name, _labels, _parts in (
    ("wrong-password", (CONFIG,), {"password": "wrong"}),
    ("missing-role", (CONFIG,), {"user": "nobody_at_all"}),
    ("missing-database", (CONFIG,), {"database": "gone"}),
    ("rejected-by-hba", (CONFIG,), {"user": "outsider"}),
    ("no-hba-entry", (CONFIG,), {"database": "template1"}),
    ("dns", (TEMPORARY,), {"host": "regrow.invalid"}),
):
    for _driver, _session in DRIVERS.items():
        postgresql.add(f"{_name}/{_driver}", _labels, lambda s=_session, p=_parts: _connect(s, **p))


@_through_each("refused", TEMPORARY)
def _refused(session: type[_Session]) -> None:
    session(host="127.0.0.1", port=closed_port(), user="app", password="x", database="shop")


@_through_each("closed-at-once", TEMPORARY)
def _closed_at_once(session: type[_Session]) -> None:
    with serve(servers.hang_up) as port:
        session(host="127.0.0.1", port=port, user="app", password="x", database="shop")


@_through_each("connect-timeout", TEMPORARY)
def _connect_timeout(session: type[_Session]) -> None:
    with serve(servers.silent) as port:  # libpq waits two seconds at least
        session(host="127.0.0.1", port=port, user="app", password="x", database="shop", seconds=2)


for _driver in ("psycopg", "psycopg2", "sqlalchemy-psycopg2"):
    postgresql.add(f"server-without-tls/{_driver}", CONFIG, lambda s=DRIVERS[_driver]: _connect(s, sslmode="require"))


@_through_each("role's-connections-used-up", TEMPORARY)
def _role_limit(session: type[_Session]) -> None:
    with session(**cluster().address(user="few")):
        _connect(session, user="few")


@contextmanager
def _own_server(**settings: str) -> Iterator[_Cluster]:
    """A server that one failure may maltreat; only its superuser and the database `postgres` are there."""
    own = cluster().copy()
    own.start(**settings)
    try:
        servers.wait(lambda: servers.listens(own.port), "PostgreSQL")
        yield own
    finally:
        own.stop()


def _as_admin(own: _Cluster) -> dict[str, Any]:
    return own.address(user="postgres", database="postgres")


@shared
@contextmanager
def _full_server() -> Iterator[_Cluster]:
    with _own_server(max_connections="5", superuser_reserved_connections="0", max_wal_senders="0") as own:
        sessions: list[_Session] = []

        def full() -> bool:
            try:
                sessions.append(_Psycopg(**_as_admin(own)))
            except psycopg.OperationalError as error:
                return "too many clients" in str(error)
            return False

        servers.wait(full, "a full server")
        try:
            yield own
        finally:
            for session in sessions:
                session.close()


@_through_each("too-many-connections", TEMPORARY)
def _too_many(session: type[_Session]) -> None:
    session(**_as_admin(_full_server()))


@shared
@contextmanager
def _starting_server() -> Iterator[_Cluster]:
    own = cluster().copy()
    (own.folder / "standby.signal").touch(mode=0o644)
    own.start(restore_command="sleep 20; false")
    try:
        servers.wait(lambda: servers.listens(own.port), "PostgreSQL")
        yield own
    finally:
        own.stop()


@_through_each("starting-up", TEMPORARY)
def _starting(session: type[_Session]) -> None:
    session(**_as_admin(_starting_server()))


@shared
@contextmanager
def _stopping_server() -> Iterator[_Cluster]:
    with _own_server() as own:
        sessions: list[_Session] = []

        def connected() -> bool:
            try:
                sessions.append(_Psycopg(**_as_admin(own)))
            except psycopg.OperationalError:
                return False
            return True

        servers.wait(connected, "PostgreSQL")
        assert own.process is not None
        own.process.send_signal(signal.SIGTERM)  # smart: waits for the session
        log = own.folder.parent / "log"
        servers.wait(lambda: "smart shutdown" in log.read_text(), "the shutdown")
        try:
            yield own
        finally:
            sessions[0].close()


@_through_each("shutting-down", TEMPORARY)
def _stopping(session: type[_Session]) -> None:
    session(**_as_admin(_stopping_server()))


@_through_each("stopped-in-a-session", TEMPORARY)
def _stopped(session: type[_Session]) -> None:
    with _own_server() as own:
        opened: list[_Session] = []

        def connected() -> bool:
            try:
                opened.append(session(**_as_admin(own)))
            except Exception:
                return False
            return True

        servers.wait(connected, "PostgreSQL")
        with opened[0]:
            opened[0].run("SELECT 1")
            own.stop()
            opened[0].run("SELECT 1")


# -- pools, and what the client itself refuses -------------------------------------------------------------------------


@postgresql.case("pool-exhausted/sqlalchemy", TEMPORARY)
def _queue_pool() -> None:
    url = _url("postgresql+psycopg", **cluster().address())
    engine = sqlalchemy.create_engine(url, poolclass=QueuePool, pool_size=1, max_overflow=0, pool_timeout=0.05)
    try:
        with engine.connect():
            engine.connect()
    finally:
        engine.dispose()


@postgresql.case("pool-exhausted/psycopg2", TEMPORARY)
def _psycopg2_pool() -> None:
    pool = require_library("psycopg2.pool").ThreadedConnectionPool(1, 1, dbname="shop", **_no_database())
    try:
        pool.getconn()
        pool.getconn()
    finally:
        pool.closeall()


def _no_database() -> dict[str, Any]:
    parts = cluster().address()
    del parts["database"]
    return parts


@postgresql.case("pool-exhausted/asyncpg", TEMPORARY)
def _asyncpg_pool() -> None:
    asyncpg = require_library("asyncpg")

    async def acquire() -> None:
        async with asyncpg.create_pool(min_size=1, max_size=1, **cluster().address()) as pool, pool.acquire():
            await pool.acquire(timeout=0.05)

    asyncio.run(acquire())


@postgresql.case("command-timeout/asyncpg", TEMPORARY)
def _asyncpg_command() -> None:
    asyncpg = require_library("asyncpg")

    async def sleep() -> None:
        connection = await asyncpg.connect(command_timeout=0.05, **cluster().address())
        try:
            await connection.execute("SELECT pg_sleep(30)")
        finally:
            connection.terminate()

    asyncio.run(sleep())


@postgresql.case("statement-that-another-thread-cancels/psycopg", TEMPORARY)
def _cancelled() -> None:
    with _Psycopg(**cluster().address()) as session:
        timer = threading.Timer(0.1, session.connection.cancel_safe)
        timer.start()
        try:
            session.run("SELECT pg_sleep(30)")
        finally:
            timer.join()


@postgresql.case("closed-connection/psycopg", TEMPORARY)
def _closed() -> None:
    session = _Psycopg(**cluster().address())
    session.close()
    session.run("SELECT 1")


@postgresql.case("closed-connection/psycopg2", TEMPORARY)
def _closed2() -> None:
    session = _Psycopg2(**cluster().address())
    session.close()
    session.run("SELECT 1")


@postgresql.case("value-of-no-known-type/psycopg", DATA)
def _unknown_type() -> None:
    with _Psycopg(**cluster().address()) as session:
        session.connection.execute("SELECT %s", (object(),))


@postgresql.case("value-of-no-known-type/psycopg2", DATA)
def _unknown_type2() -> None:
    with _Psycopg2(**cluster().address()) as session, session.connection.cursor() as cursor:
        cursor.execute("SELECT %s", (object(),))


@postgresql.case("value-of-wrong-type/asyncpg", DATA)
def _wrong_type() -> None:
    with _Asyncpg(**cluster().address()) as session:
        session.loop.run_until_complete(session.connection.fetch("SELECT $1::int", "twelve"))


@postgresql.case("nul-character/psycopg", DATA)
def _nul() -> None:
    with _Psycopg(**cluster().address()) as session:
        session.connection.execute("SELECT %s::text", ("a\0b",))


@postgresql.case("nul-character/psycopg2", DATA)
def _nul2() -> None:
    with _Psycopg2(**cluster().address()) as session, session.connection.cursor() as cursor:
        cursor.execute("SELECT %s", ("a\0b",))


@postgresql.case("missing-parameter/psycopg", DATA)
def _missing_parameter() -> None:
    with _Psycopg(**cluster().address()) as session:
        session.connection.execute("SELECT %s, %s", (1,))


@postgresql.case("copy-of-bad-rows/psycopg", DATA)
def _bad_copy() -> None:
    with _Psycopg(**cluster().address()) as session, session.connection.cursor() as cursor:
        with cursor.copy("COPY number FROM STDIN WITH (FORMAT csv)") as copy:
            copy.write("3,not a number\n")


@postgresql.each()
def test_postgresql(case: Case) -> None:
    """A connection that fails is an outage, a wrong password is set-up, a constraint is data."""
    check(case)
