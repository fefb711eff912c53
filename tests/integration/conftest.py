"""A project with a running worker and dispatcher, on each kind of broker; a test sends tasks under keys of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.celery_worker import Site, site


@pytest.fixture(scope="module", params=["files", "redis", "rabbit"])
def project(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A worker with two children and a dispatcher beside it."""
    with site(tmp_path_factory.mktemp(request.param), request.param) as made:
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
