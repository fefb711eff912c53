"""Connections to the ledger: one kept engine per process, opened after the fork, the same for each kind of database."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from time import monotonic
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from regrow.adapters.sql.direct import Direct, Prepared
from regrow.adapters.sql.kinds import Kind, Trouble, kind_of
from regrow.errors import Deadlock, LedgerError, NotMigrated, SettingsError, Unkeepable

#: A ledger that took so long to fail is not asked again for the second time: whoever fails meanwhile need not wait.
SLOW_SECONDS = 1.0
REST_SECONDS = 5.0


class Database:
    """Opens the ledger's database lazily and anew in each process.

    Args:
        url: SQLAlchemy URL, e.g. `sqlite:///regrow.db`, `postgresql+psycopg://user@host/db`, `mysql://user@host/db`.
        patience_seconds: How long a server may take for one statement before it counts as gone; None: for ever.

    Raises:
        SettingsError: The URL is wrong or names a database that Regrow does not support.
    """

    def __init__(self, url: str, *, patience_seconds: float | None = None) -> None:
        self.url, self.kind = _checked(url)
        self._patience = patience_seconds
        self._rest_until = 0.0
        self._lock = Lock()
        self._engine: Engine | None = None
        self._prepared: dict[Any, Prepared] = {}
        self._pid = os.getpid()

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
                self._engine = self.kind.open(self.url, self._patience)
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
        with self._asked(), self.kind.alone():
            engine = self.engine
            driver_error = engine.dialect.loaded_dbapi.Error
            try:
                connection = engine.raw_connection()
            except (SQLAlchemyError, driver_error) as error:
                raise self._explain(error) from error
            try:
                raw: Any = connection.driver_connection
                with self.kind.capturing(raw, durable=durable):
                    yield Direct(raw, self.kind, engine.dialect, self._prepared)
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
            single: True for a single statement, which needs no transaction of its own.
        """
        if self.kind.absent(self.url):
            raise NotMigrated(f"there is no ledger at {self.url} yet; run: regrow db upgrade")
        yield from self._transaction(write=False, durable=False, single=single)

    def _transaction(self, *, write: bool, durable: bool, single: bool = False) -> Iterator[Connection]:
        try:
            with (
                self._asked(),
                self.kind.alone(),
                self.engine.connect() as plain,
            ):
                connection = plain.execution_options(regrow_write=write, regrow_durable=durable)
                if not write:
                    connection = self.kind.reader(connection, single=single)
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

    def _place(self) -> str:
        return self.url.set(query={}).render_as_string(hide_password=True)

    def _explain(self, error: Exception, *, lost: bool = False) -> LedgerError:
        place = self._place()
        cause = getattr(error, "orig", None) or error
        trouble, said = self.kind.trouble(cause), self.kind.text(cause, self.url)
        if trouble is Trouble.NOT_MIGRATED:
            return NotMigrated(f"the ledger at {place} is not set up or out of date; run: regrow db upgrade")
        if trouble is Trouble.UNKEEPABLE:
            return Unkeepable(f"the ledger at {place} cannot keep this: {said}")
        if trouble is Trouble.UNDONE:
            return Deadlock(f"the ledger at {place} has undone this: {said}")
        if hint := self.kind.hint(cause, self.url):
            return LedgerError(hint)
        lost = lost or trouble is Trouble.AWAY or (isinstance(error, DBAPIError) and error.connection_invalidated)
        kind = "cannot reach" if lost else "cannot use"
        return LedgerError(f"{kind} the ledger at {place}: {said}")


def _checked(url: str) -> tuple[URL, Kind]:
    mend = "set FAILURE_DATABASE_URL, for example to sqlite:///regrow.db or postgresql+psycopg://user@host/db"
    try:
        made = make_url(url)
        kind = kind_of(made)
        made = kind.checked(made)
        made.get_dialect()
    except (ArgumentError, NoSuchModuleError, ImportError, ValueError) as error:
        shown = re.sub(r":[^:/@]+@", ":***@", url)  # never a password in a log
        raise SettingsError(f"the ledger's address {shown!r} cannot be used ({error}); {mend}") from None
    return made, kind
