"""A project with a running worker and dispatcher, on each kind of broker; a test sends tasks under keys of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.celery_worker import QUICK, Site, mariadb_database, site


@pytest.fixture(scope="module", params=["files", "redis", "rabbit", "mariadb"])
def project(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A worker with two children and a dispatcher beside it; `mariadb`: Redis, and the ledger on MariaDB."""
    with ExitStack() as stack:
        kind, settings = request.param, dict(QUICK)
        if kind == "mariadb":
            kind, settings["database_url"] = "redis", stack.enter_context(mariadb_database())
        made = stack.enter_context(site(tmp_path_factory.mktemp(request.param), kind, regrow=settings))
        made.worker()
        made.dispatcher_process()
        yield made


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The same on the filesystem broker alone, for what does not depend on a broker."""
    with site(tmp_path_factory.mktemp("local")) as made:
        made.worker()
        made.dispatcher_process()
        yield made
