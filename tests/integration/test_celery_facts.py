"""What Celery itself tells of tasks that die, without Regrow: a release that changes one of these must turn a test red."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.celery_worker import Site, new_key, site, until
from tests.integration import doors

#: One telling: signal, in the main process?, exception, is the whole request there?, type of the traceback.
Told = tuple[str, bool, str, bool, str]

FAILED = "task_failure"


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A prefork worker without Regrow that writes down what it is told."""
    conf = {"accept_content": ["json"], "result_accept_content": ["json"]}
    with site(tmp_path_factory.mktemp("bare"), "redis", regrow=None, conf=conf) as made:
        made.worker(children=4, REGROW_TEST_EAVESDROP="1")
        yield made


def told(made: Site, task_id: str) -> list[Told]:
    """What was told of a task, in order, but for the end of each run."""
    heard: list[dict[str, Any]] = [json.loads(line) for line in made.marks("told")]
    mine = [one for one in heard if task_id in (one["task_id"], one["request"]) and one["signal"] != "task_postrun"]
    return [(one["signal"], one["main"], one["exception"], one["request"] == task_id, one["traceback"]) for one in mine]


def ends(made: Site, task_id: str, state: str, number: int) -> list[Told]:
    """What was told of it, once it has ended and so much was told."""
    until(lambda: made.state(task_id) == state, f"{state}\n{made.logs()}")
    until(lambda: len(told(made, task_id)) >= number, f"{number} signals, not {told(made, task_id)}")
    return told(made, task_id)


@pytest.mark.parametrize("name", ["ends_exit", "ends_kill", "ends_sysexit", "ends_interrupt", "ends_kill_late"])
def test_a_lost_child(bare: Site, name: str) -> None:
    """Told once, in the main process alone, with the whole request; the message is not delivered again."""
    key = new_key()
    task_id = bare.sig(name, key).delay().id
    assert ends(bare, task_id, "FAILURE", 1) == [(FAILED, True, "WorkerLostError", True, "str")]
    assert bare.runs(key) == 1


def test_the_hard_limit(bare: Site) -> None:
    """Told twice in the main process: with the whole request, then with an empty one."""
    task_id = bare.sig("ends_hard", new_key()).delay().id
    first, second = ends(bare, task_id, "FAILURE", 2)
    assert first == (FAILED, True, "TimeLimitExceeded", True, "str")
    assert second == (FAILED, True, "TimeLimitExceeded", False, "traceback")


def test_an_exception_is_told_in_the_child(bare: Site) -> None:
    """An ordinary failure is told while its task is the current one, so that the net can tell it from a death."""
    task_id = bare.sig("broken", new_key()).delay().id
    assert ends(bare, task_id, "FAILURE", 1) == [(FAILED, False, "ZeroDivisionError", True, "traceback")]
    heard = [json.loads(line) for line in bare.marks("told")]
    assert all(one["running"] is (not one["main"]) for one in heard if one["signal"] == FAILED)


def test_what_is_rejected(bare: Site) -> None:
    """Told in the main process, with an empty request; ends as FAILURE."""
    task_id = bare.sig("ends_reject", new_key()).delay().id
    assert ends(bare, task_id, "FAILURE", 1) == [(FAILED, True, "Reject", False, "str")]


def test_what_is_ignored(bare: Site) -> None:
    """Nothing is told of it."""
    key = new_key()
    task_id = bare.sig("ends_ignore", key).delay().id
    until(lambda: bare.runs(key), "the run")
    bare.sig("plus", 1, 1).delay().get(timeout=60, interval=0.05)
    assert (told(bare, task_id), bare.state(task_id)) == ([], "PENDING")


def test_redelivery_of_a_lost_child(bare: Site) -> None:
    """`reject_on_worker_lost`: no signal at all, begun again at once; there is no counter."""
    key = new_key()
    result = bare.sig("ends_kill_requeued", key, 5).delay()
    assert result.get(timeout=60, interval=0.05) == 6
    assert told(bare, result.id) == []


def test_messages_that_nobody_can_run(bare: Site) -> None:
    """Each in its own way, in the main process; of a body that cannot be decoded no signal tells."""
    key = new_key()
    doors.unknown(bare, key)
    assert ends(bare, key, "FAILURE", 1) == [("task_unknown", True, "KeyError", False, "NoneType")]
    before = len(bare.marks("told"))
    doors.refused(bare, new_key())
    doors.no_task(bare, new_key())
    until(lambda: len(bare.marks("told")) >= before + 2, "both rejections")
    heard = [json.loads(line) for line in bare.marks("told")[before:]]
    assert [(one["signal"], one["main"], one["exception"]) for one in heard] == [
        ("task_rejected", True, "ContentDisallowed"),
        ("task_rejected", True, "NoneType"),
    ]
    bad = new_key()
    doors.undecodable(bare, bad)
    bare.sig("plus", 1, 1).delay().get(timeout=60, interval=0.05)
    assert (told(bare, bad), bare.state(bad)) == ([], "PENDING")
    assert bare.processes[0].said("Can't decode message body")


def test_what_has_expired(bare: Site) -> None:
    """Told with the whole request and `expired`; the same signal without it for what a person has revoked."""
    task_id = bare.sig("flaky", new_key(), 0).apply_async(expires=-1).id
    assert ends(bare, task_id, "REVOKED", 1) == [("task_revoked", True, "NoneType", True, "NoneType")]
    heard = [json.loads(line) for line in bare.marks("told")]
    assert [one["expired"] for one in heard if one["task_id"] == task_id] == [True]
    other = new_key()
    doors.revoked(bare, other)
    assert ends(bare, other, "REVOKED", 1)
    heard = [json.loads(line) for line in bare.marks("told")]
    assert [one["expired"] for one in heard if one["task_id"] == other] == [False]


def test_a_worker_that_is_killed(bare: Site) -> None:
    """No signal, and the state stays as it was."""
    key = new_key()
    result = bare.sig("works", key, 60).delay()
    until(lambda: bare.runs(key), "the beginning")
    bare.processes[0].kill_tree()
    assert (told(bare, result.id), bare.state(result.id)) == ([], "PENDING")
