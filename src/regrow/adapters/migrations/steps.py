"""Steps and types of the migrations, for every kind of database. What a released migration uses here never changes.

SQLite and PostgreSQL undo a migration that fails as a whole. MariaDB and MySQL keep each step for good, so there a step
that finds its work done does nothing: an upgrade that was cut off is run again, and goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

from regrow.errors import LedgerError

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
INSTANT = sa.DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mysql")
TEXT = sa.Text().with_variant(mysql.LONGTEXT(), "mysql")
BYTES = sa.LargeBinary().with_variant(mysql.LONGBLOB(), "mysql")
NUMBER = sa.Float().with_variant(mysql.DOUBLE(asdecimal=False), "mysql")
EMPTY = sa.text("''")


def on(kind: str) -> bool:
    """True if this is SQLAlchemy's name for the ledger's database."""
    return op.get_bind().dialect.name == kind


def empty_text() -> sa.TextClause:
    """The default of a TEXT; MySQL takes an expression alone, SQLite a constant alone."""
    return sa.text("('')") if on("mysql") else EMPTY


def create_table(name: str, *parts: sa.schema.SchemaItem, autoincrement: bool = False) -> None:
    """Create a table; `autoincrement`: no id is ever used again."""
    options: dict[str, Any] = {"sqlite_autoincrement": True} if autoincrement else {}
    if on("mysql"):
        wanted = {part.name for part in parts if isinstance(part, sa.Column)}
        if found := _columns(name):
            if wanted <= found:
                return
            raise LedgerError(f"there is a table {name} already that is none of Regrow's: rename it, and upgrade again")
        # The one that takes no two texts for the same, not even those that differ in spaces at the end.
        exact = "utf8mb4_nopad_bin" if op.get_bind().dialect.is_mariadb else "utf8mb4_0900_bin"  # type: ignore[attr-defined]
        options = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": exact}
    op.create_table(name, *parts, **options)


def add_column(table: str, column: sa.Column[Any]) -> None:
    """Add a column."""
    if not on("mysql") or column.name not in _columns(table):
        op.add_column(table, column)


def create_index(
    name: str,
    table: str,
    columns: Sequence[str],
    *,
    unique: bool = False,
    where: str = "",
    on_mysql: Sequence[str] = (),
) -> None:
    """Create an index.

    Args:
        name: Its name.
        table: Its table.
        columns: Its columns.
        unique: No two rows are the same in them.
        where: It has only rows of which this is true, where the database knows such indexes.
        on_mysql: Its columns on MySQL, which does not, if they are others.
    """
    if on("mysql"):
        if name not in {one["name"] for one in sa.inspect(op.get_bind()).get_indexes(table)}:
            op.create_index(name, table, list(on_mysql or columns), unique=unique)
        return
    only: dict[str, Any] = {"sqlite_where": sa.text(where), "postgresql_where": sa.text(where)} if where else {}
    op.create_index(name, table, list(columns), unique=unique, **only)


def _columns(table: str) -> set[str]:
    """The names of a table's columns; none if there is no such table."""
    inspector = sa.inspect(op.get_bind())
    return {one["name"] for one in inspector.get_columns(table)} if inspector.has_table(table) else set()
