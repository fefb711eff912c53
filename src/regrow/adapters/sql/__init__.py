"""The ledger: SQLAlchemy Core over SQLite and PostgreSQL."""

from regrow.adapters.sql.engine import Database
from regrow.adapters.sql.reads import SqlLedger
from regrow.adapters.sql.store import SqlStore

__all__ = ["Database", "SqlLedger", "SqlStore"]
