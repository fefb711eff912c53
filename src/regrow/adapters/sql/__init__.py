"""The ledger: SQLAlchemy Core over SQLite, PostgreSQL, MariaDB and MySQL."""

from regrow.adapters.sql.engine import Database
from regrow.adapters.sql.reads import SqlLedger
from regrow.adapters.sql.store import SqlStore

__all__ = ["Database", "SqlLedger", "SqlStore"]
