"""SQLite: one file, one writer at a time."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from threading import RLock
from time import monotonic, sleep
from typing import Any
from weakref import WeakSet

from sqlalchemy import Connection, Engine, create_engine, event, func
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import URL

from regrow.adapters.sql.kinds import kind
from regrow.adapters.sql.kinds.kind import Conflicts, Trouble

#: Pages of 4 kB that SQLite's write-ahead log may hold before whoever commits must copy them into the database, which
#: waits for the disk: SQLite's own number, and that for a failing task, which leaves the work to others if it can.
COPY_AT_PAGES = 1_000
COPY_AT_PAGES_IN_TASK = 8_000


class _Forks:
    """Closes SQLite's connections before a fork.

    SQLite notes in memory which locks a process holds on a file, and by which descriptor. A fork copies the note, not
    the locks; and a worker's dispatcher closes what it has inherited. With a connection open in the parent every
    connection of such a child failed after 10 s with `locking protocol`, for ever (8 times of 8).
    Source: https://www.sqlite.org/howtocorrupt.html, section 2.6.
    """

    def __init__(self) -> None:
        self._engines: WeakSet[Engine] = WeakSet()
        self._in_use = RLock()
        self._held = False
        os.register_at_fork(before=self._before, after_in_parent=self._after, after_in_child=self._in_child)

    def add(self, engine: Engine) -> None:
        """Look after the connections of an engine."""
        self._engines.add(engine)

    def held_off(self) -> AbstractContextManager[bool]:
        """No fork while this is held; transactions of one process follow one another, as SQLite's writers do anyway."""
        return self._in_use

    def _before(self) -> None:
        # Not for ever: a fork must not wait for a thread that hangs.
        self._held = self._in_use.acquire(timeout=2 * kind.BUSY_SECONDS)
        for engine in list(self._engines):
            engine.dispose()

    def _after(self) -> None:
        if self._held:
            self._in_use.release()

    def _in_child(self) -> None:
        self._in_use = RLock()  # whoever held it is not in this process


class Sqlite(Conflicts):
    """SQLite in WAL mode."""

    dialect = sqlite

    def checked(self, url: URL) -> URL:
        """See `Kind`."""
        if url.database in (None, "", ":memory:"):
            raise ValueError("a ledger in memory would lose every failure at the end of the process")
        if not str(url.database).startswith("file:"):
            return url.set(database=str(Path(str(url.database)).absolute()))  # wherever the process goes from here
        return url

    def open(self, url: URL, patience_seconds: float | None) -> Engine:
        """See `Kind`."""
        engine = create_engine(url, connect_args={"timeout": kind.BUSY_SECONDS, "check_same_thread": False})
        event.listen(engine, "connect", _prepare)
        event.listen(engine, "begin", _begin)
        _FORKS.add(engine)
        return engine

    def alone(self) -> AbstractContextManager[object]:
        """See `Kind`."""
        return _FORKS.held_off()

    def absent(self, url: URL) -> bool:
        """See `Kind`."""
        file = url.database or ""
        return not file.startswith("file:") and not Path(file).exists()

    @contextmanager
    def capturing(self, raw: Any, *, durable: bool) -> Iterator[None]:
        """See `Kind`."""
        for statement in _begin_with(durable=durable, copy_at_pages=COPY_AT_PAGES_IN_TASK):
            raw.execute(statement)
        yield

    def run(self, raw: Any, text: str, rows: Sequence[Any]) -> list[Any]:
        """See `Kind`."""
        if len(rows) == 1:
            return [raw.execute(text, rows[0])]
        if text.startswith("SELECT") or "RETURNING" in text:
            # Read at once: an open cursor is a statement of its own, and SQLite goes through all of them at each write.
            return [_Read(raw.execute(text, row).fetchall()) for row in rows]
        return [raw.executemany(text, rows)]

    def seconds(self, begin: Any, end: Any) -> Any:
        """See `Kind`."""
        return (func.julianday(end) - func.julianday(begin)) * 86400

    def lock_journal(self, connection: Connection) -> None:
        """See `Kind`. Whoever writes is alone."""

    def trouble(self, error: BaseException) -> Trouble:
        """See `Kind`."""
        if any(words in str(error) for words in ("no such table", "no such column", "has no column named")):
            return Trouble.NOT_MIGRATED
        return super().trouble(error)

    def hint(self, error: BaseException, url: URL) -> str:
        """See `Kind`."""
        if "unable to open database file" not in str(error):
            return ""
        folder = Path(url.database or "").absolute().parent
        return f"cannot open the ledger {url}: is the folder {folder} there and writable?"


class _Read:
    """A cursor that has been read."""

    def __init__(self, rows: list[Any]) -> None:
        self._rows = rows

    def fetchall(self) -> list[Any]:
        """The rows."""
        return self._rows


_FORKS = _Forks()


def _prepare(connection: sqlite3.Connection, _record: object) -> None:
    # Transactions are begun by _begin, not by the driver's guesses.
    connection.isolation_level = None
    _switch_to_wal(connection)
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA foreign_keys=ON")


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """Two that open a new ledger at once refuse each other the switch, and SQLite's own wait does not cover it."""
    until = monotonic() + kind.BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or monotonic() >= until:
                raise
            sleep(0.01)
        else:
            return


def _begin(connection: Connection) -> None:
    options: dict[str, Any] = dict(connection.get_execution_options())
    if options.get("regrow_write"):
        durable = bool(options.get("regrow_durable"))
        for statement in _begin_with(durable=durable, copy_at_pages=COPY_AT_PAGES):
            connection.exec_driver_sql(statement)
    else:
        connection.exec_driver_sql("BEGIN")


def _begin_with(*, durable: bool, copy_at_pages: int) -> tuple[str, ...]:
    """What begins a transaction that writes."""
    return (
        # In WAL mode NORMAL may lose the last commits with the power; a parked row is the only copy of its task.
        f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}",
        f"PRAGMA wal_autocheckpoint={copy_at_pages}",
        # A transaction that reads first and then writes would deadlock with its like, so it takes the lock at once.
        "BEGIN IMMEDIATE",
    )
