"""kill -9 at every step: nothing is lost, nothing runs twice, and the ledger equation holds.

Side effects are lines appended to files by the tasks themselves.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from regrow.model import State
from tests.celery_worker import QUICK, Site, gather, new_key, postgres_database, site, until

#: Leases short enough to wait for, long enough for a busy machine.
SETTINGS = {**QUICK, "lease_seconds": 2}

#: Every step of `Regrow.act` after which a dispatcher may die; `retry` is the publishing of a batch, `letter` of one.
STEPS = ["after:claim:1", "before:retry:1", "after:letter:1", "after:letter:4", "after:retry:1"]
STEPS += ["before:sent:1", "after:sent:1"]

#: Every step on the filesystem broker and SQLite; on the services those between the broker and the ledger.
KILLS = [("files", step) for step in STEPS]
KILLS += [(kind, step) for kind in ("redis", "postgres") for step in ("after:letter:4", "before:sent:1")]


@pytest.fixture(scope="module", params=["files", "redis", "postgres"])
def project(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A worker without a dispatcher; `postgres` is the filesystem broker with the ledger on PostgreSQL."""
    kind, settings = request.param, dict(SETTINGS)
    with ExitStack() as stack:
        if kind == "postgres":
            kind, settings["database_url"] = "files", stack.enter_context(postgres_database())
        made = stack.enter_context(site(tmp_path_factory.mktemp(request.param), kind, regrow=settings))
        made.worker()
        yield made


def park(made: Site, count: int, task: str = "flaky", *more: Any) -> dict[str, Any]:
    """Tasks that have failed once and wait in the ledger, by key."""
    sent = {key: made.sig(task, key, 1, *more).delay() for key in (new_key() for _ in range(count))}
    for result in sent.values():
        until(lambda one=result: made.ledger_state(one.id) is State.SCHEDULED, "the parked tasks")
    return sent


def assert_each_ran_once_more(made: Site, sent: dict[str, Any]) -> None:
    """Every parked task recovered with one more run, and the ledger adds up."""
    for result in sent.values():
        made.settled(result.id, State.RECOVERED)
    gather(list(sent.values()))
    assert {key: made.runs(key) for key in sent} == dict.fromkeys(sent, 2)
    assert made.balance().balanced
    assert made.balance().parked == 0


@pytest.mark.parametrize(("project", "step"), KILLS, indirect=["project"])
def test_dispatcher_killed(project: Site, step: str) -> None:
    """A dispatcher that is killed at any step loses nothing, and the one after it sends nothing that runs twice."""
    sent = park(project, 6)
    assert project.dispatcher_process(step, wait=False).wait() == -signal.SIGKILL
    second = project.dispatcher_process()
    assert_each_ran_once_more(project, sent)
    assert second.terminate() == 0


def test_two_dispatchers_share_the_work(project: Site) -> None:
    """Two dispatchers that start at once on many due tasks send each of them once."""
    sent = park(project, 30)
    pair = [project.dispatcher_process(wait=False) for _ in range(2)]
    assert_each_ran_once_more(project, sent)
    received = project.processes[0].text()
    for result in sent.values():
        assert received.count(f"[{result.id}] received") == 2
    assert [one.terminate() for one in pair] == [0, 0]


def test_sigterm_ends_regrow_run(project: Site) -> None:
    """SIGTERM ends `regrow run` with 0 after the batch in hand; what it left is sent by the next one."""
    sent = park(project, 40)
    first = project.start("-m", "regrow", "-A", "tests.integration.proj_app", "run", name="run")
    until(lambda: first.said("started") or first.popen.poll() is not None, "regrow run")
    assert first.terminate() == 0, first.text()
    states = {project.ledger_state(result.id) for result in sent.values()}
    assert states <= {State.SCHEDULED, State.DISPATCHED, State.RECOVERED}
    second = project.start("-m", "regrow", "-A", "tests.integration.proj_app", "run", name="run")
    assert_each_ran_once_more(project, sent)
    until(lambda: second.said("started"), "regrow run")
    second.popen.send_signal(signal.SIGINT)
    assert second.wait() == 0


@pytest.fixture(params=["files", "redis"])
def fresh(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """A project with nothing running yet."""
    with site(tmp_path, request.param, regrow=SETTINGS) as made:
        yield made


def test_worker_killed_in_the_middle(fresh: Site) -> None:
    """The whole worker dies among running retries: what had begun is held, or runs again if idempotent; the rest recovers."""
    first = fresh.worker()
    sent = park(fresh, 10, "slow", 0.3) | (twice := park(fresh, 4, "idempotent", 0.3))
    dispatcher = fresh.dispatcher_process()
    until(lambda: sum(fresh.runs(f"{key}-done") for key in sent) >= 3, "some of them to be done")
    first.kill_tree()
    fresh.worker()
    for result in sent.values():
        fresh.settled(result.id, State.RECOVERED, State.HELD)
    records = {key: fresh.record(result.id) for key, result in sent.items()}
    held = [key for key, record in records.items() if record.state is State.HELD]
    assert len(held) <= 2  # as many as the worker had children
    for key, record in records.items():
        if key in twice:
            assert record.state is State.RECOVERED
            assert 2 <= fresh.runs(key) <= 3
        elif key in held:
            assert record.reason == "fell_silent"
            # The kill may fall between the start that the ledger knows and the task's first line.
            assert fresh.runs(key) in (1, 2)
        else:
            assert (fresh.runs(key), fresh.runs(f"{key}-done")) == (2, 1)
            assert fresh.state(sent[key].id) == "SUCCESS"
    assert fresh.balance().balanced
    assert dispatcher.terminate() == 0


def test_child_killed(fresh: Site) -> None:
    """A child dies in the middle of a retry, or between its success and the ledger: it is never run again unasked."""
    settled_not = new_key()
    fresh.worker(REGROW_TEST_KILL_KEY=settled_not)
    dispatcher = fresh.dispatcher_process()
    dying = new_key()
    died = fresh.sig("dies", dying, 1).delay()
    done = fresh.sig("flaky", settled_not, 1, "value").delay()
    # Its main process tells at once; it was the only retry that these settings allow.
    given_up = fresh.settled(died.id, State.EXHAUSTED)
    assert given_up.reason == "retries_used_up"
    assert fresh.state(died.id) == "FAILURE"
    ended = fresh.settled(done.id, State.HELD, State.RECOVERED)
    # The parent reports the lost child over the stored success; the ledger agrees with what the result backend says then.
    assert fresh.state(done.id) == ("SUCCESS" if ended.state is State.RECOVERED else "FAILURE")
    assert [fresh.runs(dying), fresh.runs(settled_not)] == [2, 2]
    assert fresh.balance().balanced
    assert dispatcher.terminate() == 0


@pytest.mark.parametrize("fresh", ["files"], indirect=True)
def test_keepalive_outlasts_the_lease(fresh: Site) -> None:
    """A retry that runs twice as long as the lease is not taken for dead and does not run again."""
    fresh.worker()
    dispatcher = fresh.dispatcher_process()
    key = new_key()
    result = fresh.sig("slow", key, 1, 2 * SETTINGS["lease_seconds"]).delay()
    assert result.get(timeout=60, interval=0.05) == 2
    fresh.settled(result.id, State.RECOVERED)
    assert (fresh.runs(key), fresh.runs(f"{key}-done")) == (2, 1)
    assert dispatcher.terminate() == 0
