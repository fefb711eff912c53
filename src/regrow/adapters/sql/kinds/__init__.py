"""What each kind of database does in its own way: SQLite, PostgreSQL, and MariaDB with MySQL.

All that depends on the database stands here; the rest of the ledger asks its `Kind`.
"""

from __future__ import annotations

from sqlalchemy.engine import URL

from regrow.adapters.sql.kinds.kind import Kind, Trouble
from regrow.adapters.sql.kinds.mysql import MySql
from regrow.adapters.sql.kinds.postgresql import PostgreSql
from regrow.adapters.sql.kinds.sqlite import Sqlite

_MYSQL = MySql()

#: By SQLAlchemy's name for it.
_KINDS: dict[str, Kind] = {"sqlite": Sqlite(), "postgresql": PostgreSql(), "mysql": _MYSQL, "mariadb": _MYSQL}


def kind_of(url: URL) -> Kind:
    """The kind of database that an address names.

    Raises:
        ValueError: It is none of ours.
    """
    name = url.get_backend_name()
    if name not in _KINDS:
        raise ValueError(f"{name} is not supported, only SQLite, PostgreSQL, MariaDB and MySQL")
    return _KINDS[name]


__all__ = ["Kind", "Trouble", "kind_of"]
