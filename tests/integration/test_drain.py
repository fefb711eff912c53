"""`regrow drain` with real workers: every task that the ledger holds for Celery ends, and nothing runs twice."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import chain, chord

from regrow.adapters.spool import Spool
from regrow.model import Begun, Reason, State
from regrow.ports import Store
from regrow.testing import a_failure
from regrow.wiring import clock, open_store
from tests.celery_worker import QUICK, Process, Site, new_key, site, until

#: A retry is due in an hour: what a test sees done before was done by `drain`.
#: Whoever dies with messages in his hands keeps them for twice the time of a channel.
FAR = {"network_retry_seconds": 3600.0, "lease_seconds": 3.0, "channel_timeout_seconds": 1.0}

#: The mode stands in a file here, as it must where it is to be followed.
SETTINGS = {name: value for name, value in QUICK.items() if name != "mode"} | FAR


def mode(made: Site, name: str) -> None:
    """Set the mode, as an administrator does."""
    (made.folder / "regrow.toml").write_text(f'mode = "{name}"\n')


def observe(made: Site) -> None:
    """Switch to observe mode, and wait until both children of the worker have followed: each looks when a task fails."""
    mode(made, "observe")

    def followed() -> bool:
        made.error(made.sig("broken", new_key()).delay())
        return made.processes[0].text().count("settings changed") >= 2

    until(followed, "observe mode in the worker")


@pytest.fixture(params=["files", "redis"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """A project in recover mode, with nothing running."""
    with site(tmp_path, request.param, regrow=SETTINGS) as one:
        mode(one, "recover")
        yield one


def drain(made: Site, *options: str, **environment: str) -> Process:
    """Start `regrow drain`."""
    return made.start(
        "-m", "regrow", "-A", "tests.integration.proj_app", "drain", *options, name="drain", **environment
    )


def drained(made: Site, *options: str) -> dict[str, Any]:
    """What `regrow drain --json` says once it is done."""
    process = drain(made, "--json", *options)
    assert process.wait() == 0, process.text() + made.logs()
    answer: dict[str, Any] = json.loads(process.text().partition("{")[1] + process.text().partition("{")[2])
    assert (answer["drained"], answer["tasks"], answer["left"]) == (True, 0, [])
    balance = made.balance()
    assert balance.balanced
    assert balance.parked == 0
    assert not any(count for state, count in balance.by_state.items() if state.live)
    return answer


def park(made: Site, state: State, *signatures: Any) -> list[Any]:
    """Send tasks and wait until the ledger holds them."""
    sent = [one.apply_async() for one in signatures]
    for one in sent:
        until(lambda one=one: made.ledger_state(one.id) is state, f"{one.id} {state}: {made.record(one.id)}")
    return sent


def store_of(made: Site) -> Store:
    """Its ledger to write to."""
    return open_store(made.settings)


def hold(made: Site) -> None:
    """Have the ledger hold for a person what it has scheduled."""
    store, later = store_of(made), clock() + timedelta(hours=2)
    due = store.claim(later, limit=9, lease=timedelta(seconds=9), states=[State.SCHEDULED])
    store.hold(due[0].token, [one.failure for one in due], [], reason=Reason.FELL_SILENT, now=clock())


def test_every_held_task_ends(made: Site) -> None:
    """Scheduled, held, in a chain or a chord: all get one last run or are ended, and every waiter hears of it."""
    made.worker()
    good, bad, cut, first, last, member, body = (new_key() for _ in range(7))
    (held,) = park(made, State.SCHEDULED, made.sig("flaky", cut, 99))
    hold(made)
    heals, fails = park(made, State.SCHEDULED, made.sig("flaky", good, 1, "value"), made.sig("flaky", bad, 99))
    begun = chain(made.sig("flaky", first, 99), made.sig("after", last)).apply_async()
    opened = chord([made.sig("flaky", member, 99), made.sig("plus", 1, 1)])(made.sig("after", body))
    healed_member, good_body = new_key(), new_key()
    healing = chord([made.sig("flaky", healed_member, 1, 5), made.sig("plus", 1, 1)])(made.sig("after", good_body))
    for key in (first, member, healed_member):
        until(lambda key=key: made.runs(key) == 1 and made.balance().by_state[State.SCHEDULED] >= 5, "parked members")
    observe(made)
    answer = drained(made)
    assert heals.get(timeout=60, interval=0.05) == "value"
    assert healing.get(timeout=60, interval=0.05) == [5, 2]
    assert [type(made.error(one)).__name__ for one in (fails, held, begun.parent)] == ["ConnectionRefusedError"] * 3
    assert type(made.error(opened)).__name__ == "ChordError"
    assert [made.runs(key) for key in (good, bad, cut, first, last, member, body)] == [2, 2, 1, 2, 0, 2, 0]
    assert (answer["recovered"], answer["failed"]) == (2, 4)
    story = made.record(held.id)
    assert story is not None
    assert (story.state, [note.detail for note in story.notes][1:]) == (State.DISMISSED, ["drain"])
    ended = made.record(fails.id)
    assert ended is not None
    assert (ended.state, ended.reason, ended.notes[0].by != "") == (State.EXHAUSTED, Reason.OBSERVING, True)
    # Once more: nothing to do.
    assert drained(made)["failed"] == 0


def test_two_at_once_and_one_killed(made: Site) -> None:
    """One `drain` is killed in the middle; two others at once finish, and each task had one last run."""
    made.worker()
    keys = [new_key() for _ in range(20)]
    sent = park(made, State.SCHEDULED, *(made.sig("flaky", key, 1) for key in keys))
    slow = new_key()
    (hanging,) = park(made, State.SCHEDULED, made.sig("slow", slow, 1, 2))
    observe(made)
    first = drain(made)
    until(lambda: any(made.runs(key) > 1 for key in keys), "the first last run")
    first.kill()
    pair = [drain(made) for _ in range(2)]
    assert [one.wait() for one in pair] == [0, 0], made.logs()
    assert all("Nothing is left: Regrow can be removed" in one.text() for one in pair)
    assert {made.runs(key) for key in (*keys, slow)} == {2}
    assert {made.state(one.id) for one in (*sent, hanging)} == {"SUCCESS"}


def test_fail(made: Site) -> None:
    """With --fail nothing runs any more: all that waits is ended as failed."""
    made.worker()
    key = new_key()
    (sent,) = park(made, State.SCHEDULED, made.sig("flaky", key, 1))
    observe(made)
    answer = drained(made, "--fail")
    assert (answer["recovered"], answer["failed"]) == (0, 1)
    assert type(made.error(sent)).__name__ == "ConnectionRefusedError"
    assert made.runs(key) == 1


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Site]:
    """The same on the filesystem broker alone, for what does not depend on a broker."""
    with site(tmp_path, regrow=SETTINGS) as one:
        mode(one, "recover")
        yield one


def test_refused_in_recover_mode(local: Site) -> None:
    """In recover mode new tasks would be parked meanwhile: it says what to do, and changes nothing."""
    local.worker()
    (sent,) = park(local, State.SCHEDULED, local.sig("flaky", new_key(), 1))
    process = drain(local)
    assert process.wait() == 2
    assert "FAILURE_MODE=observe" in process.text()
    assert "Traceback" not in process.text()
    record = local.record(sent.id)
    assert record is not None
    assert (record.state, record.notes) == (State.SCHEDULED, ())


def test_without_a_worker_it_says_what_is_left(local: Site) -> None:
    """The time is over: exit code 1, and why each task is left; with a worker again it goes on and ends."""
    worker = local.worker()
    key = new_key()
    (sent,) = park(local, State.SCHEDULED, local.sig("flaky", key, 1))
    worker.kill_tree()
    mode(local, "observe")
    process = drain(local, "--json", "--timeout", "4")
    assert process.wait() == 1, process.text()
    (left,) = json.loads(process.text())["left"]
    assert (left["task_id"], left["why"], left["queue"]) == (sent.id, "no_worker", local.name)
    people = drain(local, "--timeout", "0")
    assert people.wait() == 1
    assert f"consumes the queue {local.name}?" in people.text()
    assert sent.id in people.text()
    local.worker()
    drained(local)
    assert sent.get(timeout=60, interval=0.05) is None
    assert local.runs(key) == 2


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it(local: Site, number: int, code: int) -> None:
    """It ends in order, says what is left, and the next one goes on."""
    worker = local.worker()
    park(local, State.SCHEDULED, local.sig("flaky", new_key(), 1))
    worker.kill_tree()
    mode(local, "observe")
    process = drain(local)
    until(lambda: process.said("tasks left: 1 (1 sent)"), "the progress")
    process.popen.send_signal(number)
    assert process.wait() == code
    assert "Stopped: tasks left: 1 (1 sent)" in process.text()
    assert "Traceback" not in process.text()
    assert not [one for one in local.ledger.members() if one.pid == process.pid]


def test_spool_and_orphans(local: Site) -> None:
    """What waits on the disk and what died with its worker is taken in; an orphan ends, for somebody waits for it."""
    mode(local, "observe")
    local.worker()
    spool = Spool(local.folder / "spool", limit_bytes=1_000_000)
    spool.put(a_failure(task_id="spooled", parkable=False, ended=True))
    store = store_of(local)
    call = a_failure(task_id=new_key(), task_name="tests.flaky", causes=(), envelope=None, failed_at=clock())
    store.begin(call, "a boot that is gone")
    until(lambda: store.orphans(clock(), limit=9), "the orphan")
    assert isinstance(store.begun(call.task_id), Begun)
    until(lambda: drained(local) and local.record(call.task_id), "the orphan in the ledger")
    assert local.ledger_state("spooled") is State.HELD
    record = local.record(call.task_id)
    assert record is not None
    assert (record.state, record.parked, local.state(call.task_id)) == (State.HANDED_OVER, False, "FAILURE")
    assert not spool.waiting()
