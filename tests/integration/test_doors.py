"""Every way in which a task can fail comes in by some door, in every pool; docs/doors.md says what became of each."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import chain, chord

from regrow import wiring
from regrow.adapters.sql import SqlStore
from regrow.model import State
from tests.celery_worker import QUICK, Site, new_key, site, until
from tests.integration import doors
from tests.integration.test_start_check import redeliver

SETTINGS = {**QUICK, "max_recovery_attempts": 3, "lease_seconds": 2}


def documented(pool: str) -> dict[str, str]:
    """The page's column of a pool: what happens -> what became of it."""
    _, _, rest = doors.PAGE.read_text().partition(doors.BEGIN)
    head, _, *lines = rest.partition(doors.END)[0].splitlines()
    column = [cell.strip() for cell in head.strip("|").split("|")].index(pool)
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return {row[0]: row[column] for row in rows}


@pytest.mark.parametrize("pool", doors.POOLS)
def test_every_way_to_fail(pool: str) -> None:
    """What the page says of each way to fail is what happens; `python -m tests.integration.doors` writes it anew."""
    seen = doors.observe(pool)
    words = {row.name: row.words for row in doors.ROWS} | doors.LAST
    assert {words[name]: text for name, text in seen.items()} == documented(pool)


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A prefork worker on Redis, where the main process sees a killed child at once, and a dispatcher."""
    with site(tmp_path_factory.mktemp("busy"), "redis", regrow=SETTINGS) as made:
        made.worker(children=4)
        made.dispatcher_process()
        yield made


@pytest.mark.parametrize("name", ["ends_kill_idempotent", "ends_hard_idempotent"])
def test_chords_and_chains_outlive_a_killed_member(busy: Site, name: str) -> None:
    """A member that is killed, or cut off by the hard limit, is retried; the chord's body and the chain's tail run once."""
    key, other = new_key(), new_key()
    body = chord([busy.sig(name, key, 1), busy.sig("plus", 1, 2)], busy.sig("after", f"{key}-body"))()
    tail = chain(busy.sig(name, other, 1), busy.sig("plus", 40)).apply_async()
    assert body.get(timeout=60, interval=0.05) == [2, 3]
    assert tail.get(timeout=60, interval=0.05) == 42
    assert (busy.runs(key), busy.runs(other), busy.runs(f"{key}-body")) == (2, 2, 1)
    until(lambda: busy.balance().parked == 0, "the ledger")


def test_a_held_death_is_answered(busy: Site) -> None:
    """A killed task that is held goes on under its own id when a person says so, with its chain."""
    key = new_key()
    tail = chain(busy.sig("ends_kill", key, 1), busy.sig("plus", 40)).apply_async()
    record = busy.settled(tail.parent.id, State.HELD)
    assert (record.reason, record.parked, busy.runs(key)) == ("work_may_be_done", True, 1)
    store = SqlStore(busy._database)
    assert store.again(record.id, now=wiring.clock(), by="test")
    assert tail.get(timeout=60, interval=0.05) == 42
    assert busy.runs(key) == 2


def test_an_unknown_task_runs_once_a_worker_knows_it(busy: Site) -> None:
    """The call of a task that no worker knew is kept: a person sends it again when one does."""
    key = new_key()
    sent = busy.app.send_task("tests.someday", (key, 0), {"value": 7}, headers={"x-tenant": "a"})
    record = busy.settled(sent.id, State.HANDED_OVER)
    assert (record.reason, record.kept, record.category) == ("not_run", True, "unrecoverable_config")
    other = busy.worker("-n", f"{new_key()}@%h", REGROW_TEST_SOMEDAY="1")
    busy.processes[0].terminate()
    assert SqlStore(busy._database).again(record.id, now=wiring.clock(), by="test")
    assert busy.settled(sent.id, State.RECOVERED)
    assert busy.runs(key) == 1
    assert other.popen.poll() is None


@pytest.fixture
def tracked(tmp_path: Path) -> Iterator[Site]:
    """A site with the start ledger on, and a dispatcher."""
    with site(tmp_path, regrow={**SETTINGS, "track_starts": True}) as made:
        made.dispatcher_process()
        yield made


def test_a_worker_that_dies_whole(tracked: Site) -> None:
    """What it had begun: rescued if idempotent, held if not, each once; what it had ended is no orphan."""
    worker = tracked.worker(children=2)
    done = tracked.sig("works", new_key(), 0).delay()
    assert done.get(timeout=60, interval=0.05) == 1
    keys = {name: new_key() for name in ("works", "works_idempotent")}
    sent = {name: tracked.sig(name, key, 60).delay() for name, key in keys.items()}
    until(lambda: all(tracked.runs(key) for key in keys.values()), "both to begin")
    worker.kill_tree()
    held = tracked.settled(sent["works"].id, State.HELD)
    assert held.reason == "work_may_be_done"
    assert "began this task and never ended it" in held.message
    tracked.worker(children=2)
    assert sent["works_idempotent"].get(timeout=60, interval=0.05) == 2
    tracked.settled(sent["works_idempotent"].id, State.RECOVERED)
    assert [tracked.runs(key) for key in keys.values()] == [1, 2]
    assert tracked.record(done.id) is None
    assert SqlStore(tracked._database).begun(sent["works"].id) is None
    assert tracked.balance().balanced


def test_a_worker_that_was_only_slow(tracked: Site) -> None:
    """A worker that is frozen for longer than the lease is taken for dead; when it ends its task, it is believed."""
    worker = tracked.worker(children=1)
    key = new_key()
    result = tracked.sig("works", key, 1).delay()
    until(lambda: tracked.runs(key), "the beginning")
    os.killpg(worker.pid, signal.SIGSTOP)
    tracked.settled(result.id, State.HELD)
    os.killpg(worker.pid, signal.SIGCONT)
    assert result.get(timeout=60, interval=0.05) == 1
    tracked.settled(result.id, State.RECOVERED)
    assert tracked.runs(key) == 1


def test_copies_of_a_running_task(tracked: Site) -> None:
    """A broker that loses patience delivers a task again while it runs: that copy is dropped, whatever the task is worth."""
    tracked.worker(children=2)
    key, task_id = new_key(), new_key()
    result = tracked.sig("lingers", key, 2).apply_async(task_id=task_id)
    until(lambda: tracked.runs(key), "the beginning")
    redeliver(tracked, task_id, tracked.sig("lingers", key, 2))
    until(lambda: tracked.processes[1].said("regrow dropped a redelivered copy"), "the copy")
    assert result.get(timeout=60, interval=0.05) == 1
    assert tracked.runs(key) == 1
    assert tracked.record(task_id) is None


def test_redelivery_after_a_killed_worker(tmp_path: Path) -> None:
    """RabbitMQ delivers what a dead worker had begun; with the start ledger it is held and does not run again by itself."""
    with site(tmp_path, "rabbit", regrow={**SETTINGS, "track_starts": True}) as made:
        made.dispatcher_process()
        first = made.worker(children=1)
        key = new_key()
        result = made.sig("lingers", key, 60).delay()
        until(lambda: made.runs(key), "the beginning")
        first.kill_tree()
        second = made.worker(children=1)
        until(lambda: second.said("regrow dropped a redelivered copy"), "the copy that the broker delivers again")
        record = made.settled(result.id, State.HELD)
        assert (record.reason, made.runs(key)) == ("work_may_be_done", 1)


@pytest.mark.parametrize("kind", ["files", "redis", "rabbit"])
def test_poison_comes_to_an_end_on_every_broker(tmp_path: Path, kind: str) -> None:
    """A task that kills its worker each time, and that Celery delivers again at once, is begun four times and given up."""
    with site(tmp_path, kind, regrow=SETTINGS) as made:
        made.worker(children=1)
        made.dispatcher_process()
        key = new_key()
        result = made.sig("ends_kill_requeued", key).apply_async(link_error=made.sig("errback"))
        record = made.settled(result.id, State.EXHAUSTED)
        assert (record.reason, made.state(result.id), made.runs(key)) == ("poison", "FAILURE", 4)
        assert made.runs(f"errback-{result.id}") == 1
        # A healthy one beside it is left alone.
        other = new_key()
        assert made.sig("ends_kill_requeued", other, 2).delay().get(timeout=60, interval=0.05) == 3


def test_native_retries_of_a_lost_worker(busy: Site) -> None:
    """Celery's own retry goes first; when it is used up the death is held, though the message might have gone back."""
    key = new_key()
    result = busy.sig("ends_kill_retried", key).delay()
    record = busy.settled(result.id, State.HELD)
    assert (record.reason, record.attempts, busy.runs(key)) == ("work_may_be_done", 1, 2)


def test_observe_mode_changes_nothing(tmp_path: Path) -> None:
    """In observe mode deaths are recorded, and end as they do without Regrow."""
    with site(tmp_path, "redis", regrow={**SETTINGS, "mode": "observe", "track_starts": True}) as made:
        made.worker(children=2)
        made.dispatcher_process()
        ids: dict[str, Any] = {name: made.sig(name, new_key()).delay().id for name in ("ends_kill", "ends_hard")}
        for task_id in ids.values():
            until(lambda one=task_id: made.state(one) == "FAILURE", "the end")
            record = until(lambda one=task_id: made.record(one), "the record")
            assert (record.state, record.parked, record.attempts) == (State.HELD, False, 1)
