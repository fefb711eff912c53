"""What every part of the ledger that writes has in common."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from regrow.adapters.sql.engine import Database
from regrow.errors import Deadlock

_Class = TypeVar("_Class", bound=type)


class Part:
    """A part of the ledger.

    Args:
        database: Where it lies.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kind = database.kind


def once_more(store: _Class) -> _Class:
    """Let every method of a store that is one transaction run again when the database has undone it for another."""
    for name in dir(store):
        method = getattr(store, name)
        if not name.startswith("_") and callable(method) and name != "transaction":
            setattr(store, name, _again(method))
    return store


def _again(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return method(*args, **kwargs)
        except Deadlock:
            return method(*args, **kwargs)

    return call
