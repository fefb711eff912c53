"""kill -9 of a scan and of a spool's replay at every step: whoever comes after takes in the rest, and nothing twice."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from regrow import oversight
from regrow.adapters import spool as spools
from regrow.adapters.spool import Spool
from regrow.model import DATA
from regrow.testing import a_failure
from tests.celery_worker import QUICK, Site, postgres_database, site

#: Three transactions of a scan, or of a replay.
COUNT = 2 * max(oversight.SCAN_BATCH, spools.BATCH) + 7

AROUND = [
    f"{when}:{step}:{number}" for step in ("handle", "write") for when in ("before", "after") for number in (1, 3)
]
REPLAYS = [*AROUND, "before:rename:1", "after:rename:1", "before:unlink:1", "after:unlink:1"]
SCANS = [*AROUND, "before:give_lease:1"]


@pytest.fixture(params=["sqlite", "postgres"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """A site with nothing running; its ledger on SQLite or on PostgreSQL."""
    if request.param == "sqlite":
        with site(tmp_path, regrow=QUICK) as one:
            yield one
    else:
        with postgres_database() as address, site(tmp_path, regrow={**QUICK, "database_url": address}) as one:
            yield one


def die(made: Site, what: str, step: str) -> None:
    """Run it until it kills itself."""
    process = made.start("-m", "tests.integration.deadly", what, name=what, REGROW_TEST_KILL=step)
    assert process.wait() == -signal.SIGKILL, process.text()


def run(made: Site, what: str) -> None:
    """Run it to its end."""
    process = made.start("-m", "tests.integration.deadly", what, name=what, REGROW_TEST_KILL="")
    assert process.wait() == 0, process.text()


def assert_each_once(made: Site, ids: list[str]) -> None:
    """Each failure has one record with one run, and one message in the outbox; the ledger adds up."""
    records = [record for page in pages(made) for record in page]
    assert Counter(record.task_id for record in records) == Counter(ids)
    assert {record.attempts for record in records} == {1}
    balance = made.balance()
    assert balance.balanced
    assert (balance.captured, balance.undelivered) == (len(ids), 2 * len(ids))  # the log file and the alert


def pages(made: Site) -> Iterator[list]:
    before = None
    while page := made.ledger.failures(before=before, limit=100):
        yield page
        before = page[-1].id


@pytest.mark.parametrize("step", REPLAYS)
def test_a_replay_is_killed(made: Site, step: str) -> None:
    """What it had handed in is known, what it had not is handed in by the next one, also from a file it had taken away."""
    spool = Spool(made.folder / "spool", limit_bytes=10**8)
    ids = [f"task-{number}" for number in range(COUNT)]
    for one in ids:
        spool.put(a_failure(DATA, task_id=one, parkable=False, ended=True))
    die(made, "replay", step)
    spool.put(a_failure(DATA, task_id="later", parkable=False, ended=True))
    run(made, "replay")
    assert_each_once(made, [*ids, "later"])
    assert spool.size() == 0
    run(made, "replay")
    assert_each_once(made, [*ids, "later"])


@pytest.mark.parametrize("step", SCANS)
def test_a_scan_is_killed(made: Site, step: str) -> None:
    """Its lease runs out, and the next scan takes in what is left."""
    ids = [f"task-{number}" for number in range(COUNT)]
    (made.folder / "failed").write_text("\n".join(ids))
    die(made, "scan", step)
    with made._database.write() as connection:  # ten minutes later
        connection.exec_driver_sql("DELETE FROM regrow_lease")
    run(made, "scan")
    assert_each_once(made, ids)
    run(made, "scan")
    assert_each_once(made, ids)
