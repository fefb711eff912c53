"""Connections to the ledger: one kept engine per process, opened after the fork, the same for SQLite and PostgreSQL."""

from __future__ import annotations

import os
import re
import select
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from threading import Lock, RLock
from time import monotonic, sleep
from typing import Any
from weakref import WeakSet

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, DisconnectionError, NoSuchModuleError, SQLAlchemyError

from regrow.adapters.sql.direct import Direct, Prepared
from regrow.adapters.sql.patience import listen_patiently
from regrow.errors import LedgerError, NotMigrated, SettingsError, Unkeepable

#: How long a writer waits for another before it reports the ledger as locked. A worker's task waits with it.
BUSY_SECONDS = 5.0

#: A ledger that took so long to fail is not asked again for the second time: whoever fails meanwhile need not wait.
SLOW_SECONDS = 1.0
REST_SECONDS = 5.0

#: Pages of 4 kB that SQLite's write-ahead log may hold before whoever commits must copy them into the database, which
#: waits for the disk: SQLite's own number, and that for a failing task, which leaves the work to others if it can.
COPY_AT_PAGES = 1_000
COPY_AT_PAGES_IN_TASK = 8_000

#: PostgreSQL's code for a missing table. Source: https://www.postgresql.org/docs/current/errcodes-appendix.html
UNDEFINED_TABLE = "42P01"
UNDEFINED_COLUMN = "42703"


class _Forks:
    """Closes SQLite's connections before a fork.

    SQLite notes in memory which locks a process holds on a file, and by which descriptor. A fork copies the note, not
    the locks; and a worker's dispatcher closes what it has inherited. With a connection open in the parent every
    connection of such a child failed after 10 s with `locking protocol`, for ever (8 times of 8).
    Source: https://www.sqlite.org/howtocorrupt.html, section 2.6.
    """

    def __init__(self) -> None:
        self._databases: WeakSet[Database] = WeakSet()
        self._in_use = RLock()
        self._held = False
        os.register_at_fork(before=self._before, after_in_parent=self._after, after_in_child=self._in_child)

    def add(self, database: Database) -> None:
        """Look after a database."""
        self._databases.add(database)

    def held_off(self) -> AbstractContextManager[bool]:
        """No fork while this is held; transactions of one process follow one another, as SQLite's writers do anyway."""
        return self._in_use

    def _before(self) -> None:
        # Not for ever: a fork must not wait for a thread that hangs.
        self._held = self._in_use.acquire(timeout=2 * BUSY_SECONDS)
        for database in list(self._databases):
            database.close()

    def _after(self) -> None:
        if self._held:
            self._in_use.release()

    def _in_child(self) -> None:
        self._in_use = RLock()  # whoever held it is not in this process


class Database:
    """Opens the ledger's database lazily and anew in each process.

    Args:
        url: SQLAlchemy URL, e.g. `sqlite:///regrow.db` or `postgresql+psycopg://user@host/db`.
        patience_seconds: How long a server may take for one statement before it counts as gone; None: for ever.

    Raises:
        SettingsError: The URL is wrong or names a database that Regrow does not support.
    """

    def __init__(self, url: str, *, patience_seconds: float | None = None) -> None:
        self.url = _checked(url)
        self._patience = patience_seconds
        self._rest_until = 0.0
        self._lock = Lock()
        self._engine: Engine | None = None
        self._prepared: dict[Any, Prepared] = {}
        self._pid = os.getpid()
        if self.sqlite:
            _FORKS.add(self)

    @property
    def sqlite(self) -> bool:
        """True on SQLite."""
        return self.url.get_backend_name() == "sqlite"

    @property
    def engine(self) -> Engine:
        """This process's engine. A forked child must never use its parent's connections."""
        if self._pid != os.getpid():
            # A thread of the parent may have held the lock when it forked, and nobody would ever give it back here.
            inherited, self._engine, self._lock, self._pid = self._engine, None, Lock(), os.getpid()
            if inherited is not None:
                inherited.dispose(close=False)
        with self._lock:
            if self._engine is None:
                self._engine = self._open()
            return self._engine

    def close(self) -> None:
        """Close the connections; the next use opens new ones."""
        if self._engine is not None and self._pid == os.getpid():
            self._engine.dispose()
        self._engine = None

    @contextmanager
    def write(self, *, durable: bool = False) -> Iterator[Connection]:
        """A transaction that writes; `durable` ones are on the disk itself once they are committed."""
        yield from self._transaction(write=True, durable=durable)

    @contextmanager
    def capture(self, *, durable: bool) -> Iterator[Direct]:
        """The same as `write`, by the shortest way: a failing task waits for it."""
        with self._asked(), _FORKS.held_off() if self.sqlite else nullcontext():
            engine = self.engine
            driver_error = engine.dialect.loaded_dbapi.Error
            try:
                connection = engine.raw_connection()
            except (SQLAlchemyError, driver_error) as error:
                raise self._explain(error) from error
            try:
                raw: Any = connection.driver_connection
                if self.sqlite:
                    for statement in _begin_sqlite_with(durable=durable, copy_at_pages=COPY_AT_PAGES_IN_TASK):
                        raw.execute(statement)
                # PostgreSQL gets statements together, and is waited for where an answer is read: at the commit at last.
                with nullcontext() if self.sqlite else raw.pipeline():
                    yield Direct(raw, engine.dialect, self._prepared)
                    raw.commit()
            except driver_error as error:
                lost = engine.dialect.is_disconnect(error, raw, None)
                if lost:
                    connection.invalidate(error)
                raise self._explain(error, lost=lost) from error
            finally:
                connection.close()  # what is not committed is rolled back

    @contextmanager
    def read(self, *, single: bool = False) -> Iterator[Connection]:
        """A transaction that only reads, and that no writer makes wait.

        Args:
            single: True for a single statement, which needs no transaction: PostgreSQL is asked once, not three times.
        """
        file = self.url.database or ""
        if self.sqlite and not file.startswith("file:") and not Path(file).exists():
            raise NotMigrated(f"there is no ledger at {self.url} yet; run: regrow db upgrade")
        yield from self._transaction(write=False, durable=False, single=single)

    def _transaction(self, *, write: bool, durable: bool, single: bool = False) -> Iterator[Connection]:
        try:
            with (
                self._asked(),
                _FORKS.held_off() if self.sqlite else nullcontext(),
                self.engine.connect() as plain,
            ):
                connection = plain.execution_options(regrow_write=write, regrow_durable=durable)
                if not write and not self.sqlite:  # all statements of a reader must see one and the same ledger
                    level = "AUTOCOMMIT" if single else "REPEATABLE READ"
                    connection = connection.execution_options(isolation_level=level)
                with connection.begin():
                    yield connection
        except SQLAlchemyError as error:
            raise self._explain(error) from error

    @contextmanager
    def _asked(self) -> Iterator[None]:
        """Ask the database something, but not while it rests after a failure that took its time."""
        began = monotonic()
        if self._patience is not None and began < self._rest_until:
            raise LedgerError(f"the ledger at {self._place()} gave no answer a moment ago")
        try:
            yield
        except (SQLAlchemyError, LedgerError):
            if monotonic() - began >= SLOW_SECONDS:
                self._rest_until = monotonic() + REST_SECONDS
            raise

    def _open(self) -> Engine:
        if self.sqlite:
            engine = create_engine(self.url, connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False})
            event.listen(engine, "connect", _prepare_sqlite)
            event.listen(engine, "begin", _begin_sqlite)
            return engine
        given = self.url.query.get("options", ())
        options = {
            "connect_timeout": int(BUSY_SECONDS),
            "application_name": "regrow",
            # A server that has gone silent must not hold a user's task for ever.
            "tcp_user_timeout": int(BUSY_SECONDS * 1000),
            "keepalives_idle": max(1, int(BUSY_SECONDS)),
            "keepalives_interval": 2,
            "keepalives_count": 3,
            # What the address itself says comes last, so it wins.
            "options": " ".join(
                (f"-c lock_timeout={int(BUSY_SECONDS * 1000)}", *((given,) if isinstance(given, str) else given))
            ),
        }
        engine = create_engine(self.url, connect_args=options)
        event.listen(engine, "checkout", _refuse_closed)
        if self._patience is not None:
            listen_patiently(engine, self._patience)
        return engine

    def _place(self) -> str:
        return self.url.set(query={}).render_as_string(hide_password=True)

    def _explain(self, error: Exception, *, lost: bool = False) -> LedgerError:
        place = self._place()
        cause = getattr(error, "orig", None) or error
        code = getattr(cause, "sqlstate", None)
        text = str(cause).strip()
        absent = any(words in text for words in ("no such table", "no such column", "has no column named"))
        if code in (UNDEFINED_TABLE, UNDEFINED_COLUMN) or (self.sqlite and absent):
            return NotMigrated(f"the ledger at {place} is not set up or out of date; run: regrow db upgrade")
        if self.sqlite and "unable to open database file" in text:
            folder = Path(self.url.database or "").absolute().parent
            return LedgerError(f"cannot open the ledger {place}: is the folder {folder} there and writable?")
        first = text.splitlines()[0] if text else type(cause).__name__
        # By the names of PEP 249, which both drivers follow.
        if {"DataError", "IntegrityError"} & {kind.__name__ for kind in type(cause).__mro__}:
            return Unkeepable(f"the ledger at {place} cannot keep this: {first}")
        lost = lost or (isinstance(error, DBAPIError) and error.connection_invalidated)
        kind = "cannot reach" if lost else "cannot use"
        return LedgerError(f"{kind} the ledger at {place}: {first}")


_FORKS = _Forks()


def _checked(url: str) -> URL:
    mend = "set FAILURE_DATABASE_URL, for example to sqlite:///regrow.db or postgresql+psycopg://user@host/db"
    try:
        made = make_url(url)
        if made.drivername == "postgresql":  # SQLAlchemy's default driver is psycopg2; ours is psycopg 3
            made = made.set(drivername="postgresql+psycopg")
        made.get_dialect()
    except (ArgumentError, NoSuchModuleError, ImportError, ValueError) as error:
        shown = re.sub(r":[^:/@]+@", ":***@", url)  # never a password in a log
        raise SettingsError(f"the ledger's address {shown!r} cannot be used ({error}); {mend}") from None
    if made.get_backend_name() not in ("sqlite", "postgresql"):
        name = made.get_backend_name()
        raise SettingsError(f"a ledger on {name} is not supported yet, only SQLite and PostgreSQL; {mend}")
    if made.get_backend_name() == "sqlite" and made.database in (None, "", ":memory:"):
        raise SettingsError(f"a ledger in memory would lose every failure at the end of the process; {mend}")
    if made.get_backend_name() == "sqlite" and not str(made.database).startswith("file:"):
        made = made.set(database=str(Path(str(made.database)).absolute()))  # wherever the process goes from here
    return made


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # Transactions are begun by _begin_sqlite, not by the driver's guesses.
    connection.isolation_level = None
    _switch_to_wal(connection)
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA foreign_keys=ON")


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """Two that open a new ledger at once refuse each other the switch, and SQLite's own wait does not cover it."""
    until = monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or monotonic() >= until:
                raise
            sleep(0.01)
        else:
            return


def _refuse_closed(connection: Any, _record: object, _proxy: object) -> None:
    """Let the pool open a new connection for one that the server has closed.

    A ping would say no more, and a failing task would wait for its answer: on a connection at rest there is nothing to
    read unless it is over, and one whose server is gone without a word is closed by TCP's keep-alive.
    """
    if connection.closed or _readable(connection.fileno()):
        raise DisconnectionError("the server has closed this connection")


def _readable(socket: int) -> bool:
    if not hasattr(select, "poll"):  # Windows, and whoever has patched it away
        return bool(select.select([socket], [], [], 0)[0])
    asked = select.poll()
    asked.register(socket, select.POLLIN)
    return bool(asked.poll(0))


def _begin_sqlite(connection: Connection) -> None:
    options: dict[str, Any] = dict(connection.get_execution_options())
    if options.get("regrow_write"):
        durable = bool(options.get("regrow_durable"))
        for statement in _begin_sqlite_with(durable=durable, copy_at_pages=COPY_AT_PAGES):
            connection.exec_driver_sql(statement)
    else:
        connection.exec_driver_sql("BEGIN")


def _begin_sqlite_with(*, durable: bool, copy_at_pages: int) -> tuple[str, ...]:
    """What begins a transaction that writes."""
    return (
        # In WAL mode NORMAL may lose the last commits with the power; a parked row is the only copy of its task.
        f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}",
        f"PRAGMA wal_autocheckpoint={copy_at_pages}",
        # A transaction that reads first and then writes would deadlock with its like, so it takes the lock at once.
        "BEGIN IMMEDIATE",
    )
