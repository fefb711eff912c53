"""MariaDB and MySQL through PyMySQL.

How they differ from the other two, and what the ledger does about it:

- No RETURNING that both have: what must be known is read in the same transaction, under the row's lock.
- Assignments of an UPDATE take effect one after the other, and a later one sees what an earlier one has written:
  they are put in an order in which that makes no difference (`in_order`).
- No partial index: the migrations make a plain one, or a generated column that is NULL where the index has no row.
- REPEATABLE READ locks gaps, on which writers deadlock: writers use READ COMMITTED, readers the other for its snapshot.
  Deadlocks remain possible; the server undoes one of the two whole, which then runs once more (`Trouble.UNDONE`).
- No DDL in a transaction: each step of a migration can be run again (`adapters/migrations/steps.py`).
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from sqlalchemy import (
    ColumnClause,
    ColumnElement,
    Connection,
    Engine,
    Executable,
    Insert,
    Table,
    Update,
    case,
    create_engine,
    event,
    func,
    update,
)
from sqlalchemy import insert as plain_insert
from sqlalchemy import text as sql
from sqlalchemy.dialects.mysql import insert
from sqlalchemy.engine import URL
from sqlalchemy.exc import DisconnectionError, IntegrityError
from sqlalchemy.sql import visitors

from regrow.adapters.sql.kinds import kind
from regrow.adapters.sql.kinds.kind import Changes, Kind, Trouble
from regrow.adapters.sql.kinds.postgresql import readable
from regrow.adapters.sql.tables import Instant
from regrow.errors import LedgerError

if TYPE_CHECKING:
    from regrow.adapters.sql.direct import Direct

#: The first versions that skip locked rows and have a collation that takes no two texts for the same.
#: Sources: https://mariadb.com/kb/en/select/#skip-locked,
#: https://dev.mysql.com/doc/relnotes/mysql/8.0/en/news-8-0-17.html (utf8mb4_0900_bin).
OLDEST = {"MariaDB": (10, 6), "MySQL": (8, 0, 17)}

#: Errors by number. Sources: https://mariadb.com/kb/en/mariadb-error-codes/,
#: https://dev.mysql.com/doc/mysql-errors/8.0/en/server-error-reference.html
DUPLICATE_KEY = 1062
TROUBLES = {
    1146: Trouble.NOT_MIGRATED,  # no such table
    1054: Trouble.NOT_MIGRATED,  # unknown column
    1213: Trouble.UNDONE,  # deadlock
    1020: Trouble.UNDONE,  # record has changed since last read
    1040: Trouble.AWAY,  # too many connections
    1053: Trouble.AWAY,  # server shutdown in progress
    2002: Trouble.AWAY,  # cannot connect (socket)
    2003: Trouble.AWAY,  # cannot connect
}

#: Packet bigger than max_allowed_packet; server has gone away; lost connection.
TOO_LARGE_OR_GONE = (1153, 2006, 2013)
TOO_LARGE = "it is larger than the server's max_allowed_packet"

#: Values that do not fit are errors, whatever the server is set to; quotes mean what SQLAlchemy means by them.
SQL_MODE = "STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"


class _Inherited:
    """Lets go of the parent's connections after a fork.

    PyMySQL gives up a silent server by closing its end without a word. While a child holds the same end, the server
    hears of no end, and keeps the row locks of a transaction that nobody will finish: every writer then waits in vain.
    """

    def __init__(self) -> None:
        self._connections: WeakSet[Any] = WeakSet()
        os.register_at_fork(after_in_child=self._let_go)

    def add(self, connection: Any) -> None:
        """Look after a connection."""
        self._connections.add(connection)

    def _let_go(self) -> None:
        for connection in list(self._connections):
            socket = connection._sock  # noqa: SLF001  # PyMySQL has no other way to it
            # Not by the driver's own `close`: a thread of the parent may have been reading, and its lock is never free.
            if socket is not None and (number := socket.detach()) >= 0:
                os.close(number)
        self._connections.clear()


class MySql(Kind):
    """MariaDB, and MySQL."""

    # -- connections ------------------------------------------------------------------------------------------------

    def checked(self, url: URL) -> URL:
        """See `Kind`."""
        driver = url.drivername.partition("+")[2]
        if driver not in ("", "pymysql"):
            raise ValueError(f"the driver of a ledger on MariaDB or MySQL is pymysql, not {driver}")
        if not importlib.util.find_spec("pymysql"):
            raise ValueError("a ledger on MariaDB or MySQL needs PyMySQL: pip install 'regrow[mysql]'")
        if not url.database:
            raise ValueError("it names no database")
        return url.set(drivername="mysql+pymysql")  # one name for both: the server says which it is

    def open(self, url: URL, patience_seconds: float | None) -> Engine:
        """See `Kind`."""
        options = {
            "connect_timeout": max(1, int(kind.BUSY_SECONDS)),
            # A server that has gone silent must not hold a user's task for ever.
            "read_timeout": patience_seconds,
            "write_timeout": patience_seconds,
        }
        # What the address itself says wins, but for what the ledger's text depends on.
        options = {name: value for name, value in options.items() if name not in url.query}
        engine = create_engine(url, connect_args={**options, "charset": "utf8mb4", "sql_mode": SQL_MODE})

        def prepare(connection: Any, _record: object) -> None:
            _refuse_old(engine, url)
            _prepare(connection)

        event.listen(engine, "connect", prepare)
        event.listen(engine, "begin", _begin)
        event.listen(engine, "checkout", _refuse_closed)
        event.listen(engine, "before_execute", self._before_execute, retval=True)
        return engine

    # -- transactions -----------------------------------------------------------------------------------------------

    def reader(self, connection: Connection, *, single: bool) -> Connection:
        """See `Kind`. A single statement sees one ledger in any case."""
        return connection.execution_options(regrow_snapshot=not single)

    def capturing(self, raw: Any, *, durable: bool) -> AbstractContextManager[object]:
        """See `Kind`. A transaction begins by itself."""
        return nullcontext()

    def run(self, raw: Any, text: str, rows: Sequence[Any]) -> list[Any]:
        """See `Kind`."""
        cursor = raw.cursor()
        try:
            if len(rows) == 1:
                cursor.execute(text, rows[0])
            else:
                cursor.executemany(text, rows)  # an INSERT goes as one statement of many rows
        except Exception as error:
            # The server ends the connection over a statement that is too large, and often nobody hears why.
            if _number(error) in TOO_LARGE_OR_GONE:
                size = max(len(cursor.mogrify(text, row).encode(errors="replace")) for row in rows)
                if size >= raw.regrow_limit:
                    error.add_note(f"{TOO_LARGE}: {size} of {raw.regrow_limit} bytes")
            raise
        return [cursor]

    # -- statements -------------------------------------------------------------------------------------------------

    def statement(self, statement: Executable) -> Executable:
        """See `Kind`."""
        return in_order(statement) if isinstance(statement, Update) else statement

    def _before_execute(
        self, _connection: Connection, statement: Any, many: Any, parameters: Any, _options: object
    ) -> Any:
        return self.statement(statement), many, parameters

    def adding(self, table: Table, key: Sequence[str], *, only: ColumnElement[bool] | None = None) -> Insert:
        """See `Kind`. Not INSERT IGNORE, which also cuts and bends what does not fit."""
        name = key[0]
        return insert(table).on_duplicate_key_update({name: table.c[name]})

    def putting(
        self,
        table: Table,
        key: Sequence[str],
        changes: Changes,
        *,
        only: ColumnElement[bool] | None = None,
        where: ColumnElement[bool] | None = None,
    ) -> Insert:
        """See `Kind`."""
        statement = insert(table)
        values = dict(changes(statement.inserted))
        if where is not None:
            values = {name: case((where, value), else_=table.c[name]) for name, value in values.items()}
        return statement.on_duplicate_key_update(list(values.items()))

    def insert_new(
        self, ledger: Direct, table: Table, key: str, rows: Sequence[Mapping[str, object]]
    ) -> list[int | None]:
        """See `Kind`. An upsert would not say which rows were there, so each row is tried alone."""
        ids: list[int | None] = []
        for row in rows:
            try:
                (cursor,) = ledger.cursors(_plain(table), [row])
                ids.append(cursor.lastrowid)
            except Exception as error:
                if _number(error) != DUPLICATE_KEY:
                    raise
                ids.append(None)
        return ids

    def insert_one(
        self, connection: Connection, table: Table, key: str, row: Mapping[str, object], only: ColumnElement[bool]
    ) -> bool:
        """See `Kind`."""
        try:
            connection.execute(plain_insert(table).values(**row))
        except IntegrityError as error:
            if _number(error.orig) != DUPLICATE_KEY:
                raise
            return False  # the statement is undone, the transaction goes on
        return True

    def seconds(self, begin: Any, end: Any) -> Any:
        """See `Kind`."""
        return func.timestampdiff(sql("MICROSECOND"), begin, end) / 1e6

    def now(self) -> Any:
        """See `Kind`."""
        return func.utc_timestamp(6, type_=Instant)

    # -- one at a time ----------------------------------------------------------------------------------------------

    @contextmanager
    def upgrading(self, connection: Connection) -> Iterator[None]:
        """See `Kind`. DDL ends transactions, so the lock is the connection's; its name counts in the whole server."""
        name = {"name": connection.execute(sql("SELECT CONCAT('regrow.', MD5(DATABASE()))")).scalar_one()}
        wait = {"seconds": kind.BUSY_SECONDS}
        if connection.execute(sql("SELECT GET_LOCK(:name, :seconds)"), name | wait).scalar_one() != 1:
            raise LedgerError("another upgrade of this ledger is under way")
        try:
            yield
        finally:
            if not connection.invalidated:
                connection.execute(sql("SELECT RELEASE_LOCK(:name)"), name)

    def lock_journal(self, connection: Connection) -> None:
        """See `Kind`. LOCK TABLES would end the transaction; this row is there in every ledger."""
        connection.execute(sql("SELECT version_num FROM regrow_alembic_version FOR UPDATE"))

    # -- errors -----------------------------------------------------------------------------------------------------

    def trouble(self, error: BaseException) -> Trouble:
        """See `Kind`."""
        if _too_large(error):
            return Trouble.UNKEEPABLE
        return TROUBLES.get(_number(error)) or super().trouble(error)

    def text(self, error: BaseException, url: URL) -> str:
        """See `Kind`."""
        said = str(error.args[1]) if _number(error) and error.args[1:] else super().text(error, url)
        return _too_large(error) or " ".join(said.split())


_INHERITED = _Inherited()


@cache
def _plain(table: Table) -> Insert:
    """One statement as long as the process lives: see `Direct.run`."""
    return plain_insert(table).inline()


def in_order(statement: Update) -> Update:
    """The same UPDATE, with each assignment before those that change a column it reads.

    The standard computes all values from the row as it was; MariaDB and MySQL go from left to right.
    Source: https://dev.mysql.com/doc/refman/8.0/en/update.html, "Single-table UPDATE assignments".

    Raises:
        ValueError: Two assignments read what the other one changes, so that no order is right.
    """
    assigned: Any = statement._values or {}  # noqa: SLF001  # there is no other way to read them
    values: dict[str, Any] = {one if isinstance(one, str) else one.name: value for one, value in assigned.items()}
    waiting = {name: _read(value) & values.keys() - {name} for name, value in values.items()}
    if not any(waiting.values()):
        return statement
    order: list[str] = []
    while waiting:
        # Whoever is read by nobody that is still to come.
        free = [name for name in waiting if not any(name in reads for one, reads in waiting.items() if one != name)]
        if not free:
            raise ValueError(f"assignments to {', '.join(waiting)} need each other's old values: {statement}")
        order += free
        for name in free:
            del waiting[name]
    made = update(statement.table)
    if statement.whereclause is not None:
        made = made.where(statement.whereclause)
    return made.ordered_values(*((name, values[name]) for name in order))


def _read(value: Any) -> set[str]:
    """The names of the columns that a value is computed from."""
    return {one.name for one in visitors.iterate(value) if isinstance(one, ColumnClause)}


def _number(error: BaseException | None) -> int:
    """The server's number of an error; 0 if it is none of the driver's."""
    number = error.args[0] if error is not None and error.args else 0
    return number if isinstance(number, int) else 0


def _too_large(error: BaseException) -> str:
    """The note of a statement that was too large; empty if it was not."""
    return next((one for one in getattr(error, "__notes__", ()) if one.startswith(TOO_LARGE)), "")


def _refuse_old(engine: Engine, url: URL) -> None:
    name = "MariaDB" if engine.dialect.is_mariadb else "MySQL"  # type: ignore[attr-defined]  # the dialect's own
    version, needed = engine.dialect.server_version_info or (), OLDEST[name]
    if version < needed:
        have, want = (".".join(map(str, one)) for one in (version, needed))
        raise LedgerError(f"the ledger at {url.set(query={})} is on {name} {have}; it needs {name} {want} or newer")


def _prepare(connection: Any) -> None:
    _INHERITED.add(connection)
    seconds = max(1, int(kind.BUSY_SECONDS))
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        cursor.execute("SELECT @@max_allowed_packet")
        connection.regrow_limit = cursor.fetchone()[0]
        cursor.execute(f"SET SESSION innodb_lock_wait_timeout={seconds}, lock_wait_timeout={seconds}")


def _begin(connection: Connection) -> None:
    if connection.get_execution_options().get("regrow_snapshot"):
        # For the next transaction alone.
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")


def _refuse_closed(connection: Any, _record: object, _proxy: object) -> None:
    """Let the pool open a new connection for one that the server has closed, as it does with those long at rest."""
    try:
        # PyMySQL has no other way to its socket. What can be read is an end, or belongs to TLS: then a ping tells.
        if not connection.open or readable(connection._sock.fileno()):  # noqa: SLF001
            connection.ping(reconnect=False)
    except Exception as error:
        raise DisconnectionError("the server has closed this connection") from error
