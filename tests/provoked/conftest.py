"""Servers that a file's failures share end with the file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.provoked.table import close_shared


@pytest.fixture(autouse=True, scope="module")
def _shared_servers() -> Iterator[None]:
    yield
    close_shared()
