"""A ledger that is stopped, frozen or full while tasks fail: they end as they would have, and the facts come later, once."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import make_url

from regrow.adapters.spool import Spool
from regrow.model import State
from tests.celery_worker import QUICK, Site, mariadb_database, new_key, postgres_database, site, until
from tests.fault_proxy import FaultProxy

SETTINGS = {**QUICK, "max_recovery_attempts": 3}

#: How many of each kind fail in each phase.
LOAD = 12

Sent = dict[str, tuple[str, Any]]


def load(made: Site) -> Sent:
    """Tasks that fail: for good, as a network does, and by being killed."""
    sent: Sent = {}
    for _ in range(LOAD):
        for name, args in (("broken", ()), ("flaky", (1, "healed"))):
            key = new_key()
            sent[key] = (name, made.sig(name, key, *args).delay())
    for _ in range(2):
        key = new_key()
        sent[key] = ("ends_kill_idempotent", made.sig("ends_kill_idempotent", key, 1).delay())
    return sent


def ended(made: Site, sent: Sent) -> None:
    """Each task has ended, or waits for its retry: no worker hangs and none was lost."""
    for name, result in sent.values():
        states = ("FAILURE",) if name == "broken" else ("FAILURE", "RETRY", "SUCCESS")
        until(lambda one=result, good=states: one.state in good, f"the end of a {name} task\n{made.logs()}")


def rerun_by_celery(made: Site, key: str, name: str, result: Any) -> bool:
    """True if Celery itself gave a killed child's task to another: no failure was told to anybody, and none is lost.

    It does so if the child died before the parent had read that it had taken the task, as on a busy machine.
    Source: celery.concurrency.asynpool, `AsynPool.on_job_process_down`, which puts back what was not accepted.
    """
    return (
        name.startswith("ends_kill")
        and made.state(result.id) == "SUCCESS"
        and made.runs(key) == 2
        and not any(f"Task tests.{name}[{result.id}] parked" in one.text() for one in made.processes)
    )


def assert_all_came_in_once(made: Site, sent: Sent) -> None:
    """The ledger has every failure, each once; what could heal has healed; no fact is left on the disk."""
    told = {key: one for key, one in sent.items() if not rerun_by_celery(made, key, *one)}
    for name, result in told.values():
        made.settled(result.id, State.HANDED_OVER if name == "broken" else State.RECOVERED)
    for key, (name, result) in told.items():
        record = made.record(result.id)
        assert record is not None
        assert (name, record.attempts, len(record.history)) == (name, 1, 1)
        assert made.runs(key) == (1 if name == "broken" else 2)
        assert made.state(result.id) == ("FAILURE" if name == "broken" else "SUCCESS")
    balance = made.balance()
    assert balance.balanced
    assert (balance.captured, balance.parked) == (len(told), 0)
    assert Spool(made.folder / "spool", limit_bytes=1).size() == 0


@pytest.fixture(scope="module", params=["postgresql", "mariadb"])
def away(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Site, FaultProxy, Sent]]:
    """A worker on Redis and a dispatcher, their ledger on a server behind a proxy."""
    database, port = {"postgresql": (postgres_database, 5432), "mariadb": (mariadb_database, 3306)}[request.param]
    with database() as address:
        url = make_url(address)
        proxy = FaultProxy(port)
        settings = {**SETTINGS, "database_url": url.set(port=proxy.port).render_as_string()}
        try:
            with site(tmp_path_factory.mktemp("away"), "redis", regrow=settings) as made:
                made.worker(children=4)
                made.dispatcher_process()
                yield made, proxy, {}
        finally:
            proxy.close()


@pytest.mark.parametrize("fault", ["stop", "freeze"])
def test_a_server_goes_away_under_load(away: tuple[Site, FaultProxy, Sent], fault: str) -> None:
    """Tasks fail before, while and after the database is stopped, or takes bytes and answers nothing."""
    made, proxy, sent = away
    sent |= load(made)
    getattr(proxy, fault)()
    while_away = load(made)
    sent |= while_away
    ended(made, while_away)
    assert Spool(made.folder / "spool", limit_bytes=1).waiting()
    proxy.heal()
    sent |= load(made)
    ended(made, sent)
    assert_all_came_in_once(made, sent)
    assert made.processes[0].popen.poll() is None


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of eight megabytes."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small tmpfs cannot be mounted: that takes root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(path: Path) -> None:
    """Write until there is no room."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT)
    with pytest.raises(OSError, match="No space left"):  # noqa: PT012  # which write is the last one nobody knows
        while True:
            os.write(file, b"x" * 4096)
    os.close(file)


@pytest.mark.parametrize("spool_too", [False, True], ids=["ledger", "ledger-and-spool"])
def test_the_disk_is_full(tmp_path: Path, small_disk: Path, *, spool_too: bool) -> None:
    """The ledger's disk is full, and the spool's with it: facts wait on the other disk, or in memory, till there is room."""
    home = tmp_path / "home"
    home.mkdir()
    settings = {**SETTINGS, "database_url": f"sqlite:///{small_disk}/ledger.db"}
    if spool_too:
        settings["spool_dir"] = str(small_disk / "spool")
    with site(home, regrow=settings) as made:
        made.worker(children=2)
        made.dispatcher_process()
        filler = small_disk / "filler"
        fill(filler)
        sent: Sent = {}
        for name, args in [("broken", ()), ("flaky", (1, "healed"))] * 8:
            key = new_key()
            sent[key] = (name, made.sig(name, key, *args).delay())
        for name, result in sent.values():
            until(lambda one=result: one.state == "FAILURE", f"the end of a {name} task\n{made.logs()}")
        said = "wait in memory" if spool_too else "could not record a failure"
        until(lambda: made.processes[0].said(said), "the reason")
        assert {state for state, count in made.balance().by_state.items() if count} == set()
        filler.unlink()
        assert_all_came_in_once(made, sent)
        assert Counter(name for name, _ in sent.values()) == {"broken": 8, "flaky": 8}
