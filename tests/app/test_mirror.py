"""The table of tasks and the ledger tell the same: what failed unseen goes in, what became of it comes back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from celery import chain

from app import db
from app.mirror import TaskMirror
from app.models import Task
from regrow import notify, wiring
from regrow.model import AttemptRecord, Failure, Record, State, TaskOptions
from tests.app.rows_site import NAME, Site, row, settled, site
from tests.celery_worker import until

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
ALWAYS = datetime(2000, 1, 1, tzinfo=UTC)
REFUSED = "[Errno 111] Connection refused"


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Site]:
    """A site without Regrow."""
    with site(tmp_path) as made:
        yield made


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Site]:
    """A site with Regrow; its dispatcher is the test."""
    with site(tmp_path, with_regrow=True) as made:
        wiring.upgrade(wiring.load_settings(made.app))
        yield made


def put(**columns: Any) -> Task:
    """A row that other code wrote."""
    with db.Session.begin() as session:
        made = Task(**columns)
        session.add(made)
    return made


def failed(**columns: Any) -> Task:
    """A row of a failed task that other code wrote."""
    given = {"task_type": "add", "params": {"args": [1], "kwargs": {"y": 2}}, "status": "failed", "failed_at": NOW}
    return put(**{**given, "error_message": f"ConnectionRefusedError: {REFUSED}", **columns})


def record(task_id: str, state: State = State.SCHEDULED, revision: int = 1, **changes: Any) -> Record:
    """The ledger's record of a task that has failed once."""
    attempt = AttemptRecord(
        number=1,
        failed_at=NOW,
        exception_type="ConnectionRefusedError",
        message=REFUSED,
        traceback="",
        worker=NAME,
        category="recoverable_network",
        confidence=0.95,
        rule="class.refused",
        verdict="{}",
        action="retry",
        reason="can_heal",
        retry_at=NOW + timedelta(seconds=30),
    )
    plain: dict[str, Any] = {
        "id": 1,
        "task_id": task_id,
        "task_name": "rows.add",
        "category": "recoverable_network",
        "reason": "can_heal",
        "fingerprint": "v1:0",
        "attempts": 1,
        "parked": False,
        "due_at": None,
        "queue": "celery",
        "user_id": "",
        "first_failed_at": NOW,
        "last_failed_at": NOW,
        "ended_at": None,
        "message": f"ConnectionRefusedError: {REFUSED}",
        "history": (attempt,),
    }
    return Record(**{**plain, "state": state, "revision": revision, **changes})


def only(failures: Iterator[Failure]) -> Failure:
    """The only one."""
    (one,) = failures
    return one


# -- source -----------------------------------------------------------------------------------------------------------


def test_a_row_that_other_code_wrote(shop: Site) -> None:
    """Type and parameters are enough to send it under its own id."""
    made = failed(user_id="ann", worker="w@host")
    one = only(TaskMirror(shop.app).failed(ALWAYS))
    assert (one.task_id, one.task_name, one.scanned, one.parkable) == (made.celery_task_id, "rows.add", True, False)
    assert (one.failed_at, one.user_id, one.worker) == (NOW, "ann", "w@host")
    assert (one.causes[0].type, one.causes[0].message) == ("ConnectionRefusedError", REFUSED)
    assert one.fingerprint.startswith("v1:")
    call = json.loads(str(one.envelope))
    assert (call["task"], call["args"], call["kwargs"]) == ("rows.add", [1], {"y": 2})
    assert call["options"] == {"task_id": made.celery_task_id, "headers": {"user_id": "ann"}}


def test_the_error_stands_for_itself(shop: Site) -> None:
    """A type in its own column, and the shape of the failure, as any door sees it."""
    failed(error_type="app.Odd", error_message="order 17")
    failed(error_type="app.Odd", error_message="order 18")
    failed(error_type=None, error_message=None)
    first, second, silent = TaskMirror(shop.app).failed(ALWAYS)
    assert (first.causes[0].type, first.causes[0].message) == ("app.Odd", "order 17")
    assert first.fingerprint == second.fingerprint != silent.fingerprint


def test_the_window(shop: Site) -> None:
    """Since when a row failed; one that does not say so since it was made. What is under way or revoked is no failure."""
    failed(failed_at=NOW - timedelta(hours=25))
    failed(failed_at=None, created_at=NOW - timedelta(hours=25))
    recent = [failed(), failed(failed_at=None, created_at=NOW)]
    for status in ("pending", "running", "retrying", "succeeded"):
        failed(status=status)
    failed(error_type="celery.exceptions.TaskRevokedError", error_message="revoked")
    found = TaskMirror(shop.app).failed(NOW - timedelta(hours=24))
    assert [one.task_id for one in found] == [one.celery_task_id for one in recent]


@pytest.mark.parametrize(
    "columns", [{"task_type": "gone"}, {"params": None}, {"task_type": "twin"}], ids=["unknown", "no JSON", "ambiguous"]
)
def test_a_call_that_cannot_be_known(shop: Site, columns: dict[str, Any]) -> None:
    """It is told, and never sent: not even a task of the same type elsewhere may run in its place."""
    for name in ("here.twin", "there.twin"):
        shop.app.task(name=name, shared=False)(str)
    failed(**columns)
    one = only(TaskMirror(shop.app).failed(ALWAYS))
    assert one.envelope is None
    assert one.task_type == columns.get("task_type", "add")


@pytest.mark.parametrize(
    ("task_type", "wishes"),
    [("add", TaskOptions()), ("wait", TaskOptions(idempotent=True)), ("leave_alone", TaskOptions(retry=False))],
)
def test_the_owners_wishes(shop: Site, task_type: str, wishes: TaskOptions) -> None:
    """What a task declares holds for what the scan finds too."""
    failed(task_type=task_type)
    assert only(TaskMirror(shop.app).failed(ALWAYS)).options == wishes


def test_a_row_that_was_sent_keeps_its_place(shop: Site) -> None:
    """The call is the one that was sent: queue, headers, expiry and what follows it in its chain."""
    add = shop.task("add")
    expires = datetime(2100, 1, 1, tzinfo=UTC)
    first = chain(add.s(1, 2).set(queue="slow", expires=expires, headers={"user_id": "ann"}), add.s(10)).apply_async()
    with db.Session.begin() as session:
        session.query(Task).update({"status": "failed", "failed_at": NOW})
    one = only(TaskMirror(shop.app).failed(ALWAYS))
    options = json.loads(str(one.envelope))["options"]
    assert (options["task_id"], one.queue, one.expires_at) == (first.parent.id, "slow", expires)
    assert options["headers"] == {"user_id": "ann"}
    assert [step["task"] for step in options["chain"]] == ["rows.add"]


def test_user_of(shop: Site) -> None:
    """The end user stands in the row."""
    mirror = TaskMirror(shop.app)
    failed(user_id="ann")
    failed()
    ann, nobody = mirror.failed(ALWAYS)
    assert (mirror.user_of(ann), mirror.user_of(nobody)) == ("ann", "")
    assert mirror.user_of(Failure("no-such-row", "rows.add", NOW, ann.causes)) == ""


# -- projection -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "parked", "status"),
    [
        (State.SCHEDULED, True, "retrying"),
        (State.SCHEDULED, False, "retrying"),
        (State.DISPATCHED, True, "retrying"),
        (State.HELD, True, "retrying"),
        (State.HELD, False, "failed"),
        (State.HANDED_OVER, False, "failed"),
        (State.EXHAUSTED, True, "failed"),
        (State.DISMISSED, False, "failed"),
        (State.RECOVERED, False, "succeeded"),
    ],
)
def test_a_record_in_its_row(shop: Site, state: State, *, parked: bool, status: str) -> None:
    """The row shows where the ledger stands, how often it was tried again, and tells the story."""
    made = put(task_type="add", status="running")
    shown = record(made.celery_task_id, state, 4, parked=parked, attempts=2)
    TaskMirror(shop.app, "en").project(shown)
    found = row(made.celery_task_id)
    assert (found.status, found.recovery_attempts, found.recovery_revision) == (status, shown.retries, 4)
    assert (found.error_type, found.error_message, found.failed_at) == ("ConnectionRefusedError", REFUSED, NOW)
    assert found.recovery_notes == notify.story(shown, wiring.words("en"))


def test_the_story_for_its_readers(shop: Site) -> None:
    """The application speaks Chinese, and its clocks show its readers' time."""
    made = put(task_type="add", status="running")
    TaskMirror(shop.app, "zh", ZoneInfo("Asia/Shanghai")).project(record(made.celery_task_id))
    notes = row(made.celery_task_id).recovery_notes
    assert any("\u4e00" <= sign <= "\u9fff" for sign in notes)
    assert "20:00:00" in notes


def test_an_older_record_is_left_out(shop: Site) -> None:
    """Two dispatchers may write in any order."""
    made, mirror = put(task_type="add", status="running"), TaskMirror(shop.app)
    mirror.project(record(made.celery_task_id, State.RECOVERED, 3, attempts=2))
    mirror.project(record(made.celery_task_id, State.SCHEDULED, 2))
    mirror.project(record(made.celery_task_id, State.SCHEDULED, 3))
    found = row(made.celery_task_id)
    assert (found.status, found.recovery_attempts, found.recovery_revision) == ("succeeded", 2, 3)


def test_a_success_is_known_before_the_ledger_says_so(shop: Site) -> None:
    """Celery's signal was quicker than the record of the retry's sending."""
    made = put(task_type="add", status="succeeded")
    TaskMirror(shop.app).project(record(made.celery_task_id, State.DISPATCHED, 2))
    found = row(made.celery_task_id)
    assert (found.status, found.recovery_attempts) == ("succeeded", 1)


def test_a_failure_without_a_row(shop: Site) -> None:
    """Tasks that have none do no harm."""
    TaskMirror(shop.app).project(record("no-such-row"))


def test_ids(shop: Site) -> None:
    """Reports name a task as people do; what has no row is left out."""
    first, second = failed(), failed()
    asked = [second.celery_task_id, "no-such-row", first.celery_task_id]
    assert TaskMirror(shop.app).ids(asked) == {first.celery_task_id: first.id, second.celery_task_id: second.id}
    assert TaskMirror(shop.app).ids([]) == {}


# -- the whole way ----------------------------------------------------------------------------------------------------


def healed(guarded: Site, task_id: str) -> Task:
    """Let the dispatcher act until the task has succeeded, and the ledger has said so."""
    regrow = guarded.app.regrow.pipeline()

    def look() -> Task | None:
        regrow.act()
        found = row(task_id)
        return found if found.status == "succeeded" and "recovered" in str(regrow.ledger.find(task_id)) else None

    return until(look, f"{task_id} to recover")


def test_a_scan_heals_what_other_code_wrote(guarded: Site) -> None:
    """It runs under its own id; its row tells so. A second scan finds nothing new."""
    made = failed(failed_at=datetime.now(UTC))
    regrow = guarded.app.regrow.pipeline()
    assert regrow.scan().taken == 1
    assert regrow.scan().taken == 0
    regrow.act()
    assert row(made.celery_task_id).status == "retrying"
    guarded.worker()
    found = healed(guarded, made.celery_task_id)
    assert guarded.app.AsyncResult(made.celery_task_id).result == 3
    assert found.recovery_attempts == 1
    assert found.recovery_notes


def test_a_chain_goes_on_after_its_worker_was_killed(guarded: Site) -> None:
    """The step that was running when its worker died runs again, and the steps after it follow."""
    worker = guarded.worker()
    last = chain(guarded.task("wait").s("first"), guarded.task("add").si(20, 22)).apply_async()
    guarded.marked("first")
    worker.kill_tree()
    guarded.go("first")
    guarded.worker()
    assert settled(last.parent.id, "failed").error_type == "billiard.exceptions.WorkerLostError"
    assert guarded.app.regrow.pipeline().scan().taken == 1
    healed(guarded, last.parent.id)
    assert last.get(timeout=60) == 42


def test_a_parked_task_is_retrying(guarded: Site) -> None:
    """A failure that time can heal ends in no failed row, but in one that waits; a scan leaves it alone."""
    guarded.worker()
    sent = guarded.task("fail").delay("refused")
    found = settled(sent.id, "retrying")
    assert (found.error_type, found.error_message) == ("ConnectionRefusedError", "[Errno 111] refused")
    assert guarded.app.regrow.pipeline().scan().found == 0


def test_a_stale_copy_leaves_its_row_alone(guarded: Site) -> None:
    """The door drops it: the row says again what it said before."""
    worker = guarded.worker()
    sent = guarded.task("fail").delay("refused")
    settled(sent.id, "retrying")
    header = {"regrow": {"failure": 1, "attempt": 2, "token": "stale"}}
    guarded.task("fail").apply_async(("refused",), task_id=sent.id, headers=header)
    until(lambda: worker.said(f"{sent.id}] ignored"), "the copy to be dropped")
    assert settled(sent.id, "retrying").worker == NAME
