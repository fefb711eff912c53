"""One machine on which the application runs, shared by all tests of the guide; each takes parcels and keys of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.guide.machine import Machine, machine


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Worker with dispatcher, and courier, with the guide's settings."""
    with machine(tmp_path_factory.mktemp("guide"), tick_seconds=0.2, COURIER_TIMEOUT_SECONDS=1) as made:
        made.worker()
        yield made


@pytest.fixture
def quiet(tmp_path: Path) -> Iterator[Machine]:
    """A machine where nothing runs but what a test starts; its ledger is empty."""
    with machine(tmp_path) as made:
        made.upgrade()
        yield made
