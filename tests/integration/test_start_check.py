"""Each sending runs once: stale, second, redelivered and damaged copies of a retry do not run, and kill no worker."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from regrow import wiring
from regrow.adapters.sql import Database, SqlStore
from regrow.model import Due, State
from tests.celery_worker import QUICK, Site, new_key, site, until


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A worker without a dispatcher: what is parked stays parked until a test claims it."""
    with site(tmp_path_factory.mktemp("quiet")) as made:
        made.worker()
        yield made


def park(made: Site, task: str = "flaky") -> tuple[str, str]:
    """A parked task: its key and id."""
    key = new_key()
    result = made.sig(task, key, 1).delay()
    until(
        lambda: made.ledger_state(result.id) is State.SCHEDULED and made.state(result.id) == "RETRY", "the parked task"
    )
    return key, result.id


def claim(made: Site, task_id: str) -> Due:
    """Take a parked task into a dispatcher's hands."""
    store = SqlStore(Database(made.settings.database_url))
    later = wiring.clock() + timedelta(seconds=60)
    due = store.claim(later, limit=100, lease=timedelta(minutes=10), states=[State.SCHEDULED])
    return next(one for one in due if one.task_id == task_id)


def header(due: Due, **changes: object) -> dict[str, Any]:
    """The header of a claimed task's message."""
    return {"failure": due.failure, "attempt": due.attempts + 1, "token": due.token, **changes}


def send(made: Site, task_id: str, key: str, ours: object, task: str = "flaky") -> None:
    """Publish a copy of a task with this `regrow` header."""
    made.sig(task, key, 1, **({"value": "late"} if task == "flaky" else {})).apply_async(
        task_id=task_id, headers={"regrow": ours}
    )


def flush(made: Site) -> None:
    """Wait until the worker has taken everything that was sent before: the folder is read in order, by two children."""
    for _ in range(4):
        made.sig("plus", 1, 1).delay().get(timeout=60, interval=0.05)


def test_stale_copies_do_not_run(quiet: Site) -> None:
    """A copy with an old token, an old attempt number, or none of the ledger's rows does not run."""
    key, task_id = park(quiet)
    due = claim(quiet, task_id)
    for wrong in (
        header(due, token="0" * 32),
        header(due, attempt=1),
        header(due, attempt=7),
        header(due, failure=due.failure + 1_000_000),
        header(due, close=True, error='{"exc_type": "ValueError", "exc_message": ["no"], "exc_module": "builtins"}'),
    ):
        send(quiet, task_id, key, wrong)
    flush(quiet)
    assert quiet.runs(key) == 1
    assert quiet.state(task_id) == "RETRY"
    send(quiet, task_id, key, header(due))
    quiet.settled(task_id, State.RECOVERED)
    assert quiet.runs(key) == 2


def test_one_token_runs_once(quiet: Site) -> None:
    """Five copies of one sending: one runs."""
    key, task_id = park(quiet)
    due = claim(quiet, task_id)
    for _ in range(5):
        send(quiet, task_id, key, header(due))
    quiet.settled(task_id, State.RECOVERED)
    flush(quiet)
    assert quiet.runs(key) == 2
    assert quiet.state(task_id) == "SUCCESS"
    assert quiet.ledger_state(task_id) is State.RECOVERED


def test_parked_attempt_again(quiet: Site) -> None:
    """A copy of a sending that failed, after the failure was recorded, does not run again."""
    key = new_key()
    result = quiet.sig("flaky", key, 2).delay()
    until(lambda: quiet.ledger_state(result.id) is State.SCHEDULED, "the parked task")
    due = claim(quiet, result.id)
    quiet.sig("flaky", key, 2).apply_async(task_id=result.id, headers={"regrow": header(due)})
    until(lambda: quiet.ledger_state(result.id) is State.SCHEDULED, "the second failure")
    quiet.sig("flaky", key, 2).apply_async(task_id=result.id, headers={"regrow": header(due)})
    flush(quiet)
    assert quiet.runs(key) == 2


def redeliver(made: Site, task_id: str, signature: Any) -> None:
    """Publish a message as a broker redelivers it: the same, and marked as such."""
    aside = f"{made.name}-aside"
    signature.apply_async(task_id=task_id, queue=aside)
    with made.app.connection_for_write() as connection:
        channel = connection.default_channel
        payload = channel._get(aside)
        payload["properties"]["delivery_info"] |= {"redelivered": True, "exchange": "", "routing_key": made.name}
        channel._put(made.name, payload)


def test_redelivered_copy_of_a_parked_task(quiet: Site) -> None:
    """A redelivered copy of the first message of a parked task is dropped; the parked task then recovers."""
    key, task_id = park(quiet)
    redeliver(quiet, task_id, quiet.sig("flaky", key, 1))
    flush(quiet)
    assert quiet.runs(key) == 1
    due = claim(quiet, task_id)
    redeliver(quiet, task_id, quiet.sig("flaky", key, 1))
    send(quiet, task_id, key, header(due))
    quiet.settled(task_id, State.RECOVERED)
    redeliver(quiet, task_id, quiet.sig("flaky", key, 1))
    flush(quiet)
    assert quiet.runs(key) == 2


def test_redelivered_task_that_never_failed(quiet: Site) -> None:
    """A redelivered task that the ledger does not know runs, as it does without us; and is parked if it fails."""
    key, task_id = new_key(), new_key()
    redeliver(quiet, task_id, quiet.sig("flaky", key, 1))
    until(lambda: quiet.ledger_state(task_id) is State.SCHEDULED, "the parked task")
    assert quiet.runs(key) == 1


def test_redelivered_retry(quiet: Site) -> None:
    """A retry that had begun and is redelivered does not run again, unless its task is declared idempotent."""
    for task, runs in (("flaky", 2), ("idempotent", 3)):
        key, task_id = park(quiet, task)
        due = claim(quiet, task_id)
        store = SqlStore(Database(quiet.settings.database_url))
        from regrow.model import Header

        begun = Header(due.failure, due.attempts + 1, due.token)
        assert store.start(begun, retries=0, idempotent=False, due_at=wiring.clock() + timedelta(minutes=5))
        with (quiet.folder / "marks" / key).open("a") as marks:
            marks.write("begun\n")
        signature = quiet.sig(task, key, 1)
        signature.options["headers"] = {"regrow": header(due)}
        redeliver(quiet, task_id, signature)
        flush(quiet)
        if runs == 3:
            quiet.settled(task_id, State.RECOVERED)
        assert quiet.runs(key) == runs


@pytest.mark.parametrize("project", ["files", "redis", "rabbit"], indirect=True)
def test_native_retries_of_a_retry(project: Site) -> None:
    """A retry of ours that asks for native retries is let in again under the same token, once for each."""
    key = new_key()
    result = project.sig("retries_later", key).delay()
    assert result.get(timeout=60, interval=0.05) == 4
    record = project.settled(result.id, State.RECOVERED)
    assert (record.attempts, project.runs(key)) == (1, 4)


def test_a_retry_that_replaces_itself(project: Site) -> None:
    """A retry of ours that ends in `self.replace` has not failed: the id goes on with the other task, and nothing is held."""
    key = new_key()
    result = project.sig("replaced_later", key).delay()
    assert result.get(timeout=60, interval=0.05) == 9
    record = project.settled(result.id, State.RECOVERED)
    assert (record.attempts, project.runs(key), project.runs(f"{key}-other")) == (1, 2, 1)


DAMAGED: list[Any] = [
    *(None, "text", 7, [], {}, [1, 2], True),
    {"failure": "1", "attempt": "2", "token": 3},
    {"failure": 1},
    {"failure": True, "attempt": True, "token": "x"},
    {"failure": 10**30, "attempt": 2, "token": "x"},
    {"failure": 1, "attempt": 10**30, "token": "x"},
    {"failure": -1, "attempt": -1, "token": ""},
    {"failure": 1.5, "attempt": 2, "token": "x"},
    {"failure": 1, "attempt": 2, "token": "x" * 300_000},
    {"failure": 1, "attempt": 2, "token": "\x00'; drop table regrow_failure; --"},
    {"failure": 1, "attempt": 2, "token": "x", "close": True, "error": "not json"},
    {"failure": 1, "attempt": 2, "token": "x", "close": "yes", "error": {"deep": [1] * 1000}},
]


def test_damaged_headers(quiet: Site) -> None:
    """A damaged `regrow` header makes an ordinary task or a dropped copy; the worker and the ledger live on."""
    sent = []
    for ours in DAMAGED:
        key = new_key()
        sent.append((key, quiet.sig("flaky", key, 0, "ran").apply_async(headers={"regrow": ours})))
    flush(quiet)
    flush(quiet)
    states = []
    for key, result in sent:
        states.append(result.state)
        assert quiet.runs(key) == (1 if result.state == "SUCCESS" else 0)
        assert result.state in ("SUCCESS", "PENDING"), result.result
    assert states[:9] == ["SUCCESS"] * 9
    assert quiet.balance().balanced
    assert quiet.processes[0].popen.poll() is None


def test_close_order_with_damaged_error(quiet: Site) -> None:
    """An order to fail whose stored error cannot be read still ends the task."""
    key = new_key()
    result = quiet.sig("broken_later", key).apply_async()
    until(lambda: quiet.ledger_state(result.id) is State.SCHEDULED, "the parked task")
    due = claim(quiet, result.id)
    store = SqlStore(Database(quiet.settings.database_url))
    from regrow.model import Reason

    store.exhausted(due.token, [due.failure], [], reason=Reason.RETRIES_USED_UP, now=wiring.clock())
    again = store.claim(wiring.clock(), limit=10, lease=timedelta(minutes=10), states=[State.EXHAUSTED])
    mine = next(one for one in again if one.task_id == result.id)
    ours = header(mine, close=True, error="{not json")
    quiet.sig("broken_later", key).apply_async(task_id=result.id, headers={"regrow": ours})
    until(lambda: quiet.state(result.id) == "FAILURE", "the end")
    assert quiet.runs(key) == 1
    quiet.settled(result.id, State.EXHAUSTED)


def test_parent_killed_between_park_and_ack(tmp_path_factory: pytest.TempPathFactory) -> None:
    """RabbitMQ redelivers a parked task whose worker was killed before the ack: that copy is dropped, the retry runs once."""
    with site(tmp_path_factory.mktemp("redelivery"), "rabbit", regrow={**QUICK, "network_retry_seconds": 5}) as made:
        key = new_key()
        doomed = made.worker(children=1, REGROW_TEST_KILL_RETRY=key)
        result = made.sig("late", key, 1).delay()
        assert doomed.wait() == -9
        assert made.ledger_state(result.id) is State.SCHEDULED
        second = made.worker(children=1)
        until(lambda: second.said("regrow dropped a redelivered copy"), "the redelivered copy")
        assert made.runs(key) == 1
        made.dispatcher_process()
        assert result.get(timeout=60, interval=0.05) == 2
        made.settled(result.id, State.RECOVERED)
        assert made.runs(key) == 2
