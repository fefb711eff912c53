"""What is parked and what is left alone: owners' wishes, Celery's own control flow, every shape of task, odd ends."""

from __future__ import annotations

from typing import Any

import pytest
from celery import chain, chord

from regrow.model import State
from tests.celery_worker import Site, gather, new_key, site, until


def get(result: Any) -> Any:
    """The value of a result."""
    return result.get(timeout=60, interval=0.05)


@pytest.mark.parametrize("task", ["classy", "with_super", "without_super", "shared", "late", "latecomer", "idempotent"])
def test_every_shape_of_task_is_parked(local: Site, task: str) -> None:
    """Class-based, with a call of its own, shared, late acknowledged, registered late: parked once, then recovered."""
    key = new_key()
    result = local.app.send_task(f"tests.{task}", (key, 1))
    assert get(result) == ("Classy" if task == "classy" else 2)
    assert local.runs(key) == 2
    assert local.settled(result.id, State.RECOVERED).attempts == 1
    if task.endswith("super"):
        assert local.runs(f"call-{key}") == 2


def test_ignored_result_recovers(local: Site) -> None:
    """A task whose result nobody wants is retried too, and leaves no result."""
    key = new_key()
    result = local.sig("silent", key, 2).delay()
    local.settled(result.id, State.RECOVERED)
    assert local.runs(key) == 3
    assert local.state(result.id) == "PENDING"


def test_task_that_is_not_ours(local: Site) -> None:
    """`regrow=False`: the task fails natively and the ledger never hears of it."""
    key = new_key()
    result = local.sig("alone", key, 1).apply_async(link_error=local.sig("errback"))
    assert isinstance(local.error(result), ConnectionRefusedError)
    until(lambda: local.runs(f"errback-{result.id}"), "the errback")
    assert local.record(result.id) is None


@pytest.mark.parametrize("task", ["no_retry", "misspelt"])
def test_task_that_must_not_be_retried(local: Site, task: str) -> None:
    """`{'retry': False}`, or options that are wrong: recorded, failed natively, errback once, never run again."""
    key = new_key()
    result = local.sig(task, key, 1).apply_async(link_error=local.sig("errback"))
    assert isinstance(local.error(result), ConnectionRefusedError)
    assert local.settled(result.id, State.HANDED_OVER).reason == "owner_said_no"
    assert (local.runs(f"errback-{result.id}"), local.runs(key)) == (1, 1)


def test_wrong_options_are_reported(local: Site) -> None:
    """The worker says in its log which task has wrong options and which options there are."""
    lines = [line for line in local.processes[0].text().splitlines() if "tests.misspelt: regrow=" in line]
    assert len(lines) == 1
    assert "'retyr'" in lines[0]
    assert "'idempotent'" in lines[0]


def test_unparked_task_fails_first_and_succeeds_later(local: Site) -> None:
    """`{'park': False}`: FAILURE at once, errback once, later SUCCESS under the same id, and the chain goes on."""
    key, tail = new_key(), new_key()
    result = chain(local.sig("no_park", key, 2), local.sig("plus", 1), local.sig("after", tail)).apply_async(
        link_error=local.sig("errback")
    )
    first = result.parent.parent
    until(lambda: local.runs(f"signal-failure-{first.id}"), "the failure")
    local.settled(first.id, State.RECOVERED)
    until(lambda: local.runs(tail), "the chain's tail")
    assert local.state(first.id) == "SUCCESS"
    assert local.runs(f"errback-{first.id}") == 1
    assert (local.runs(key), local.runs(tail), local.runs(f"signal-failure-{first.id}")) == (3, 1, 2)


def test_unparked_task_exhausted(local: Site) -> None:
    """`{'park': False}` and retries used up: the errback has fired once, the ledger says exhausted."""
    key = new_key()
    result = local.sig("no_park", key, 99).apply_async(link_error=local.sig("errback"))
    local.settled(result.id, State.EXHAUSTED)
    assert (local.state(result.id), local.runs(key), local.runs(f"errback-{result.id}")) == ("FAILURE", 4, 1)


def test_expected_errors_are_left_alone(local: Site) -> None:
    """An exception declared in `throws` fails natively and is not recorded."""
    key = new_key()
    result = local.sig("expected", key).apply_async(link_error=local.sig("errback"))
    assert isinstance(local.error(result), ConnectionRefusedError)
    until(lambda: local.runs(f"errback-{result.id}"), "the errback")
    assert local.record(result.id) is None
    assert local.runs(key) == 1


def test_ignore_is_left_alone(local: Site) -> None:
    """`Ignore` ends a task as it does without us, and nothing is recorded. (`Reject`: test_doors.py.)"""
    key = new_key()
    result = local.sig("control", key, "ignore").delay()
    log = local.processes[0]
    until(
        lambda: any(
            result.id in line and "ignore" in line and "received" not in line for line in log.text().splitlines()
        ),
        "the end",
    )
    assert local.record(result.id) is None
    assert local.runs(key) == 1


def test_native_retry_without_cause_is_parked(local: Site) -> None:
    """`self.retry()` that is used up without a cause raises MaxRetriesExceededError, which says why it was retried."""
    key = new_key()
    result = local.sig("native", key, 99, keep_cause=False).delay()
    error = local.error(result)
    assert type(error).__name__ in ("MaxRetriesExceededError", "ConnectionRefusedError")
    assert local.record(result.id) is not None


@pytest.mark.parametrize("how", ["call", "apply", "apply_throw"])
def test_calls_inside_tasks_are_left_alone(local: Site, how: str) -> None:
    """A task called or applied inside another is not parked: its error reaches the outer task, which is."""
    key = new_key()
    result = local.sig("outer", key, how, 1).delay()
    value = get(result)
    if how == "apply":
        assert "ConnectionRefusedError" in value
        assert local.record(result.id) is None
        assert (local.runs(key), local.runs(f"{key}-inner")) == (1, 1)
    else:
        assert value == 5
        assert local.settled(result.id, State.RECOVERED).attempts == 1
        assert (local.runs(key), local.runs(f"{key}-inner")) == (2, 2)
    assert sum(one.task_name == "tests.flaky" for one in _ledger_of(local)) == 0


def _ledger_of(local: Site) -> list[Any]:
    from regrow import wiring

    return wiring.open_ledger(local.settings).failures(task_name="tests.flaky", limit=1000)


@pytest.mark.parametrize("kind", ["unpicklable", "hostile"])
def test_odd_exceptions_recover(local: Site, kind: str) -> None:
    """An exception that cannot be pickled or printed, or with megabytes of bad characters, is parked like any other."""
    key = new_key()
    result = local.sig("odd", key, 2, kind).delay()
    assert get(result) == 3
    local.settled(result.id, State.RECOVERED)


def test_odd_exceptions_end(local: Site) -> None:
    """An exception that cannot be pickled ends its task, once its retries are used up, with its class and text."""
    result = local.sig("odd", new_key(), 99, "unpicklable").apply_async(link_error=local.sig("errback"))
    assert "connection refused" in repr(local.error(result))
    local.settled(result.id, State.EXHAUSTED)
    assert local.runs(f"errback-{result.id}") == 1


def test_result_that_cannot_be_kept(local: Site) -> None:
    """EncodeError: the work is done, so the task fails natively, is recorded and held, and never runs again."""
    key, body = new_key(), new_key()
    result = local.sig("unserialisable", key).apply_async(link_error=local.sig("errback"))
    chorded = chord([local.sig("unserialisable", new_key()), local.sig("plus", 1, 1)], local.sig("after", body))()
    assert "EncodeError" in repr(local.error(result))
    assert type(local.error(chorded)).__name__ == "ChordError"
    record = local.settled(result.id, State.HELD, State.HANDED_OVER)
    assert not record.parked
    assert (local.runs(key), local.runs(body), local.runs(f"errback-{result.id}")) == (1, 0, 1)


def test_soft_time_limit(local: Site) -> None:
    """A task that meets its soft time limit is parked and retried."""
    keys = [new_key(), new_key()]
    results = [local.sig("soft", keys[0], 1).delay(), local.sig("soft_idempotent", keys[1], 1).delay()]
    assert gather(results) == ["in time", "in time"]
    for result in results:
        local.settled(result.id, State.RECOVERED)
    assert [local.runs(key) for key in keys] == [2, 2]


def test_expiry(local: Site) -> None:
    """A task that would expire before its retry is given up at once; a later expiry does not stop the retry."""
    keys = [new_key(), new_key()]
    tight = local.sig("flaky", keys[0], 1).apply_async(expires=0.15)
    wide = local.sig("flaky", keys[1], 2, "in time").apply_async(expires=300)
    assert get(wide) == "in time"
    state = until(lambda: local.state(tight.id) in ("FAILURE", "REVOKED") and local.state(tight.id), "the end")
    if state == "FAILURE":  # it ran before it expired
        assert local.settled(tight.id, State.EXHAUSTED).reason == "would_expire"
        assert local.runs(keys[0]) == 1


def test_expiry_is_remembered_by_the_second_retry(local: Site) -> None:
    """The message of a retry carries no expiry, and yet no retry is made after the task's own."""
    key = new_key()
    result = local.sig("flaky", key, 99).apply_async(expires=1.2)
    assert isinstance(local.error(result), ConnectionRefusedError)
    record = local.settled(result.id, State.EXHAUSTED)
    assert record.reason == "would_expire"
    assert record.attempts >= 2


def test_one_declared_class_hides_no_other_error(local: Site) -> None:
    """`throws` may be a class, as Celery takes it; another error is parked as ever."""
    key = new_key()
    result = local.sig("declares_one", key).delay()
    assert get(result) is None
    assert local.settled(result.id, State.RECOVERED).attempts == 1


def test_a_task_that_changes_its_arguments(local: Site) -> None:
    """Each retry gets the arguments that were sent, whatever the runs before did to theirs."""
    result = local.sig("changes", new_key(), [1, 2, 3], {"amount": 10}).delay()
    assert get(result) == [[1, 2, 3], {"amount": 10}]


def test_headers_that_are_no_mapping(local: Site) -> None:
    """A message whose own headers are a list runs as it would without us."""
    key = new_key()
    result = local.sig("flaky", key, 0, "fine").apply_async(headers={"headers": ["odd"], "regrow_visit": "odd"})
    assert get(result) == "fine"


def test_a_revoked_retry_is_left_alone(local: Site) -> None:
    """A person revokes a parked task: it does not run again, and the ledger says so."""
    key = new_key()
    result = local.sig("flaky", key, 99).delay()
    until(lambda: local.ledger_state(result.id) is not None, "the ledger")
    result.revoke()
    record = local.settled(result.id, State.DISMISSED, State.EXHAUSTED)
    if record.state is State.DISMISSED:
        assert (record.reason, record.parked, local.state(result.id)) == ("revoked", False, "REVOKED")


def test_call_that_is_too_large_fails_natively(local: Site) -> None:
    """A call beyond the limit is not kept, so its task is not parked."""
    key = new_key()
    result = local.sig("flaky", key, 1, "x" * 1_100_000).delay()
    assert isinstance(local.error(result), ConnectionRefusedError)
    assert local.settled(result.id, State.HANDED_OVER).reason == "call_not_kept"


def test_large_call_survives(local: Site) -> None:
    """A call of half a megabyte and a chain of sixty steps come back as they were."""
    big = local.sig("flaky", new_key(), 1, "é" * 80_000).delay()
    long = chain(local.sig("flaky", new_key(), 1, 0), *(local.sig("plus", 1) for _ in range(60))).apply_async()
    assert get(big) == "é" * 80_000
    assert get(long) == 60


def test_before_start_that_fails(local: Site) -> None:
    """An error in the task's own `before_start` on a retry closes the task in the ledger too; nothing stays on its way."""
    key = new_key()
    result = local.sig("guarded", key).delay()
    assert isinstance(local.error(result), ZeroDivisionError)
    record = local.settled(result.id, State.HANDED_OVER)
    assert record.attempts == 2
    assert local.runs(key) == 1


@pytest.mark.parametrize("fails", [0, 1])
def test_result_backend_that_goes_away(local: Site, fails: int) -> None:
    """The work is done but its result is lost: Celery says FAILURE, so the ledger never says recovered, and nothing runs twice."""
    key = new_key()
    result = local.sig("loses_result", key, fails).delay()
    assert "went away" in repr(local.error(result))
    record = local.settled(result.id, State.HELD, State.HANDED_OVER)
    assert record.attempts == fails + 1
    assert local.runs(key) == fails + 1


def test_signature_is_unchanged(local: Site, tmp_path_factory: pytest.TempPathFactory) -> None:
    """`inspect.signature` of a task, and Celery's check of arguments at the sender, are the same behind the door.

    So is what a task sees of its request when it calls or applies itself.
    """
    with site(tmp_path_factory.mktemp("bare"), regrow=None) as bare:
        for one in (local, bare):
            one.worker(children=1)
        values = [one.sig("describe").delay().get(timeout=60, interval=0.05) for one in (local, bare)]
        for how in ("call", "apply"):
            inside = [get(one.sig("itself", how, 2).delay()) for one in (local, bare)]
            assert inside[0] == inside[1]
    assert values[0] == values[1]
    assert "TypeError" in values[0]["flaky"][1]


@pytest.mark.parametrize("pool", ["solo", "threads"])
def test_other_pools(tmp_path_factory: pytest.TempPathFactory, pool: str) -> None:
    """Plain, chain, chord, native retry and exhaustion work in the solo and threads pools as they do in prefork."""
    with site(tmp_path_factory.mktemp(pool), dispatcher=True) as made:
        made.worker(pool=pool, children=4)
        body = new_key()
        header = [made.sig("flaky", new_key(), 1, n) for n in range(4)]
        results = [
            made.sig("flaky", new_key(), 2, 1).delay(),
            chain(made.sig("flaky", new_key(), 1, 3), made.sig("plus", 4)).apply_async(),
            chord(header)(made.sig("after", body, 1)),
            made.sig("auto", new_key(), 3).delay(),
        ]
        end = made.sig("flaky", new_key(), 99).apply_async(link_error=made.sig("errback"))
        assert gather(results) == [1, 7, [0, 1, 2, 3], 4]
        assert isinstance(made.error(end), ConnectionRefusedError)
        made.settled(end.id, State.EXHAUSTED)
        assert (made.runs(body), made.runs(f"errback-{end.id}")) == (2, 1)
