"""What every part of the ledger that writes has in common."""

from __future__ import annotations

from typing import Any

from sqlalchemy.dialects import postgresql, sqlite

from regrow.adapters.sql.engine import Database


class Part:
    """A part of the ledger.

    Args:
        database: Where it lies.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def _insert(self) -> Any:
        """`insert` of the database's own dialect, which can settle conflicts."""
        return (sqlite if self._database.sqlite else postgresql).insert
