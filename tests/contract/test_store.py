"""The ledger keeps the contract of `ports.Store`, on each kind of database."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from regrow.adapters.sql import SqlStore
from regrow.ports import Store
from regrow.testing import STORE_CHECKS, exercise_store


def test_exercise_store(sqlite_store: SqlStore) -> None:
    """The suite for plug-in authors runs every check, on a ledger of its own each, and reports what fails."""
    with pytest.raises(AssertionError):
        exercise_store(lambda: sqlite_store)  # the second check finds the rows of the first


@pytest.mark.parametrize("check", STORE_CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_contract(check: Callable[[Store], None], store: SqlStore) -> None:
    """Every check of the contract passes."""
    check(store)
