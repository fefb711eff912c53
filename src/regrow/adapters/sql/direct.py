"""SQLAlchemy's statements through the driver itself: compiled once, and run without SQLAlchemy's own execution.

A failing task waits for its record, and SQLAlchemy's execution takes most of the time of so small a statement
(benchmarks/README.md) for services that these few do not use.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Executable
from sqlalchemy.engine import Dialect
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.types import TypeEngine

from regrow.adapters.sql.kinds import Kind
from regrow.errors import Unkeepable

_Convert = Callable[[Any], Any] | None


class Prepared:
    """A statement as the driver takes it, with the conversions of its values and of what it returns.

    Args:
        statement: The statement.
        names: Names of the columns that an INSERT is given.
        dialect: The database's.
    """

    def __init__(self, statement: Any, names: Sequence[str], dialect: Dialect) -> None:
        keys = list(names) if statement.is_insert else None
        compiled: SQLCompiler = statement.compile(dialect=dialect, column_keys=keys)
        self.text = str(compiled)
        order = compiled.positiontup if compiled.positional else list(compiled.binds)
        self._binds: list[tuple[str, _Convert]] = [
            (name, _type(compiled.binds[name].type, dialect).bind_processor(dialect)) for name in order or ()
        ]
        self._constants = {
            name: bind.value for name, bind in compiled.binds.items() if name not in names and not bind.required
        }
        self._positional = compiled.positional
        columns = list(statement.exported_columns)
        self._row = _row_class([column.name for column in columns])
        self._results: list[_Convert] = [_type(one.type, dialect).result_processor(dialect, None) for one in columns]

    def values(self, row: Mapping[str, object]) -> Any:
        """A row's values as the driver takes them."""
        given = {**self._constants, **row} if self._constants else row
        if self._positional:
            return tuple([given[name] if into is None else into(given[name]) for name, into in self._binds])
        return {name: given[name] if into is None else into(given[name]) for name, into in self._binds}

    def rows(self, cursor: Any) -> list[Any]:
        """What the statement returned."""
        if not self._results:
            return []
        return [
            self._row(*(value if out is None else out(value) for value, out in zip(raw, self._results, strict=True)))
            for raw in cursor.fetchall()
        ]


class Direct:
    """A transaction that is open on the driver's own connection.

    Args:
        connection: The driver's connection.
        kind: The database's.
        dialect: SQLAlchemy's for it.
        prepared: The statements that this database has seen before; grows.
    """

    def __init__(self, connection: Any, kind: Kind, dialect: Dialect, prepared: dict[Any, Prepared]) -> None:
        self.kind = kind
        self._connection = connection
        self._dialect = dialect
        self._prepared = prepared

    def run(self, statement: Executable, rows: Sequence[Mapping[str, object]]) -> list[Any]:
        """Run a statement once with each row's values; return the rows that came back.

        Args:
            statement: One that lives as long as the process, or each use would be compiled anew.
            rows: Its values by name, the same names in each.

        Raises:
            Unkeepable: A value is none that its column can keep.
        """
        prepared, cursors = self._execute(statement, rows)
        return [row for cursor in cursors for row in prepared.rows(cursor)] if prepared is not None else []

    def each(self, statement: Executable, rows: Sequence[Mapping[str, object]]) -> list[list[Any]]:
        """The same for a statement that returns something; what came back for each row by itself."""
        prepared, cursors = self._execute(statement, rows)
        return [prepared.rows(cursor) for cursor in cursors] if prepared is not None else []

    def cursors(self, statement: Executable, rows: Sequence[Mapping[str, object]]) -> list[Any]:
        """The same; the driver's cursors."""
        return self._execute(statement, rows)[1]

    def _execute(
        self, statement: Executable, rows: Sequence[Mapping[str, object]]
    ) -> tuple[Prepared | None, list[Any]]:
        if not rows:
            return None, []
        key = (statement, *rows[0])
        prepared = self._prepared.get(key)
        if prepared is None:
            prepared = Prepared(self.kind.statement(statement), list(rows[0]), self._dialect)
            self._prepared[key] = prepared
        try:
            values = [prepared.values(row) for row in rows]
        except (TypeError, ValueError, OverflowError) as error:
            raise Unkeepable(f"the ledger cannot keep this: {error}") from error
        return prepared, self.kind.run(self._connection, prepared.text, values)


def _row_class(names: Sequence[str]) -> Callable[..., Any]:
    return namedtuple("Row", names)  # noqa: PYI024  # the names are known at run time only


def _type(kind: TypeEngine[Any], dialect: Dialect) -> TypeEngine[Any]:
    return kind.dialect_impl(dialect)
