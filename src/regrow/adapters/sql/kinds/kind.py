"""What the ledger asks of a kind of database."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Connection, Engine, Executable, Insert, Table
from sqlalchemy.engine import URL

if TYPE_CHECKING:
    from regrow.adapters.sql.direct import Direct

#: How long a writer waits for another before it reports the ledger as locked. A worker's task waits with it.
BUSY_SECONDS = 5.0

#: Values by column, from the row that could not be inserted because its key was there.
Changes = Callable[[Any], Mapping[str, Any]]


class Trouble(Enum):
    """What an error of the database means to the ledger."""

    NOT_MIGRATED = "a table or a column is missing"
    UNKEEPABLE = "it refuses a value for ever"
    UNDONE = "it has undone the transaction, because another was in its way"
    AWAY = "it does not answer"
    OTHER = "it says something else"


class Kind(ABC):
    """A kind of database. Everything here that is not abstract is what most do."""

    # -- connections ------------------------------------------------------------------------------------------------

    def checked(self, url: URL) -> URL:
        """The address as it is used.

        Raises:
            ValueError: It cannot be used; says why.
        """
        return url

    @abstractmethod
    def open(self, url: URL, patience_seconds: float | None) -> Engine:
        """An engine whose connections are set up, and do not wait for ever for another's locks."""

    def alone(self) -> AbstractContextManager[object]:
        """Held while a connection is in use."""
        return nullcontext()

    def absent(self, url: URL) -> bool:
        """True if there is no database at all, so that a reader must not make one."""
        return False

    # -- transactions -----------------------------------------------------------------------------------------------

    def reader(self, connection: Connection, *, single: bool) -> Connection:
        """The connection for a transaction whose statements all see one and the same ledger."""
        return connection

    @abstractmethod
    def capturing(self, raw: Any, *, durable: bool) -> AbstractContextManager[object]:
        """A transaction on the driver's own connection; whoever asks for it commits inside."""

    def run(self, raw: Any, text: str, rows: Sequence[Any]) -> list[Any]:
        """Run a statement once with the values of each row on the driver's own connection; return the cursors."""
        return [raw.execute(text, row) for row in rows]

    # -- statements -------------------------------------------------------------------------------------------------

    def statement(self, statement: Executable) -> Executable:
        """A statement as this kind must be asked."""
        return statement

    @abstractmethod
    def adding(self, table: Table, key: Sequence[str], *, only: ColumnElement[bool] | None = None) -> Insert:
        """An INSERT that does nothing if there is a row with this key.

        Args:
            table: The table.
            key: The columns of a unique index.
            only: The index has only rows of which this is true.
        """

    @abstractmethod
    def putting(
        self,
        table: Table,
        key: Sequence[str],
        changes: Changes,
        *,
        only: ColumnElement[bool] | None = None,
        where: ColumnElement[bool] | None = None,
    ) -> Insert:
        """An INSERT that changes the row with this key if there is one.

        Args:
            table: The table.
            key: The columns of a unique index.
            changes: Takes the new row and gives what becomes of the old one. A column that others are computed from
                stands behind them, or MySQL computes them from its new value.
            only: The index has only rows of which this is true.
            where: A row that is there is changed only if this is true; written as in `changes`.
        """

    @abstractmethod
    def insert_new(
        self, ledger: Direct, table: Table, key: str, rows: Sequence[Mapping[str, object]]
    ) -> list[int | None]:
        """Insert rows whose key is not there; the id of each, None for one that is there.

        Args:
            ledger: A transaction on the driver's own connection.
            table: Its primary key is a number that is called `id`.
            key: The column of a unique index.
            rows: Values by column, the same columns in each.
        """

    @abstractmethod
    def insert_one(
        self, connection: Connection, table: Table, key: str, row: Mapping[str, object], only: ColumnElement[bool]
    ) -> bool:
        """Insert a row, unless there is one with this key among those of which `only` is true; True if it was."""

    @abstractmethod
    def seconds(self, begin: Any, end: Any) -> Any:
        """The seconds between two instants."""

    def now(self) -> Any:
        """What the database's own clock says; None if that is this machine's."""
        return None

    # -- one at a time ----------------------------------------------------------------------------------------------

    def upgrading(self, connection: Connection) -> AbstractContextManager[object]:
        """Held by whoever changes the tables: others wait."""
        return nullcontext()

    @abstractmethod
    def lock_journal(self, connection: Connection) -> None:
        """Be the only one who writes into the journal until the transaction ends."""

    # -- errors -----------------------------------------------------------------------------------------------------

    def trouble(self, error: BaseException) -> Trouble:
        """What an error of the driver means."""
        # By the names of PEP 249, which all drivers follow.
        if {"DataError", "IntegrityError"} & {kind.__name__ for kind in type(error).__mro__}:
            return Trouble.UNKEEPABLE
        return Trouble.OTHER

    def text(self, error: BaseException, url: URL) -> str:
        """What an error of the driver says, in one line."""
        lines = str(error).strip().splitlines()
        return lines[0] if lines else type(error).__name__

    def hint(self, error: BaseException, url: URL) -> str:
        """A whole sentence that is better than what the error says; empty if there is none."""
        return ""


class Conflicts(Kind):
    """A kind that settles conflicts with `ON CONFLICT` and says with `RETURNING` what it did: two of ours do."""

    #: SQLAlchemy's module for it.
    dialect: Any

    def adding(self, table: Table, key: Sequence[str], *, only: ColumnElement[bool] | None = None) -> Insert:
        """See `Kind`."""
        statement: Insert = self.dialect.insert(table).on_conflict_do_nothing(index_elements=key, index_where=only)
        return statement

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
        new = self.dialect.insert(table)
        statement: Insert = new.on_conflict_do_update(
            index_elements=key, index_where=only, set_=dict(changes(new.excluded)), where=where
        )
        return statement

    def insert_new(
        self, ledger: Direct, table: Table, key: str, rows: Sequence[Mapping[str, object]]
    ) -> list[int | None]:
        """See `Kind`."""
        found = ledger.each(_adding_with_id(self, table, key), rows)
        return [one[0].id if one else None for one in found]

    def insert_one(
        self, connection: Connection, table: Table, key: str, row: Mapping[str, object], only: ColumnElement[bool]
    ) -> bool:
        """See `Kind`."""
        statement = self.adding(table, [key], only=only).values(**row).returning(table.c.id)
        return connection.execute(statement).first() is not None


@cache
def _adding_with_id(kind: Conflicts, table: Table, key: str) -> Executable:
    """One statement as long as the process lives: see `Direct.run`."""
    return kind.adding(table, [key]).returning(table.c.id)
