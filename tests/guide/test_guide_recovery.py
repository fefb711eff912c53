"""What happens by itself and by hand (G2, G3, G4, G9, G10), with a real worker that runs every retry."""

from __future__ import annotations

import ast
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest

from app.courier import Trouble
from regrow.model import AttemptRecord, State
from tests.celery_worker import until
from tests.guide.machine import Console, Machine
from tests.guide.printed import runs

#: The guide's schedules, a hundred and more times as quick.
QUICK = {"network_retry_seconds": 0.2, "system_retry_seconds": 0.2, "temporary_retry_seconds": 0.2}

#: One failure of each category: key -> what the task says.
SAID = {
    "recoverable_network": "connection timeout",
    "recoverable_system": "memory error",
    "recoverable_temporary": "rate limit exceeded",
    "unrecoverable_data": "malformed json",
    "unrecoverable_config": "api key invalid",
    "unrecoverable_business": "courier not supported",
    "unknown": "something happened",
}


STATE = "from app.tasks.celery_app import celery_app; answer = celery_app.AsyncResult(one).state"


def waits(history: tuple[AttemptRecord, ...]) -> list[float]:
    """The wait before each retry, in seconds, as it was decided."""
    return [
        (run.retry_at - run.decided_at).total_seconds()
        for run in history
        if run.retry_at is not None and run.decided_at is not None
    ]


# -- by itself --------------------------------------------------------------------------------------------------------


def test_the_real_run(running: Machine) -> None:
    """All three schedules in a real worker: each wait doubles, and after the last retry the task has failed."""
    parcels = {kind: running.parcel() for kind in ("network", "temporary", "heals")}
    running.troubles |= {
        f"/track/{parcels['network']}": Trouble(hang_up=True),
        f"/track/{parcels['temporary']}": Trouble(status=503),
        f"/track/{parcels['heals']}": Trouble(times=3, hang_up=True),
    }
    with running.settled(**QUICK):
        ids = {kind: running.send("tracking_update", number) for kind, number in parcels.items()}
        ids["system"] = running.send("stumble", "never", "no space left on device")
        healed = running.record(ids["heals"], State.RECOVERED)
        failed = {kind: running.record(ids[kind], State.EXHAUSTED) for kind in ("network", "system", "temporary")}
    expected = {"network": [0.2, 0.4, 0.8, 1.6, 3.2], "system": [0.2, 0.4, 0.8], "temporary": [0.2, 0.4, 0.8]}
    for kind, record in failed.items():
        assert waits(record.history) == pytest.approx(expected[kind])
        assert {run.category for run in record.history} == {f"recoverable_{kind}"}
        row = running.projected(ids[kind], "failed")
        assert row["recovery_attempts"] == len(expected[kind])
        until(lambda one=ids[kind]: running.python(STATE, one=one) == "FAILURE", "Celery to say so")
    for kind in ("network", "temporary"):
        visits = running.courier.visits(f"/track/{parcels[kind]}")
        assert len(visits) == 1 + len(expected[kind])
        gaps = [later.at - earlier.at for earlier, later in pairwise(visits)]
        assert all(gap >= wait for gap, wait in zip(gaps, expected[kind], strict=True))
    assert waits(healed.history) == pytest.approx([0.2, 0.4, 0.8])
    assert len(running.courier.visits(f"/track/{parcels['heals']}")) == 4
    assert running.result(ids["heals"]) == "运输中"
    assert running.projected(ids["heals"], "succeeded")["recovery_attempts"] == 3


#: Rows that other code wrote: number of the parcel, status, hours since the failure.
ROWS = """
from datetime import UTC, datetime, timedelta
from app.db import Session
from app.models import Task
with Session.begin() as session:
    for number, status, hours in rows:
        session.add(Task(
            celery_task_id=f"row-{number}", task_type="tracking_update", params={"args": [number], "kwargs": {}},
            status=status, error_type="httpx.ConnectTimeout", error_message="connection timeout",
            failed_at=datetime.now(UTC) - timedelta(hours=hours),
        ))
"""

SCANS = """
from app.tasks.celery_app import celery_app
pipeline = celery_app.regrow.pipeline()
answer = sum(pipeline.scan().taken for _ in range(15))
"""


def test_many_scans_at_once_while_tasks_fail(running: Machine) -> None:
    """Two scans at one time, a third by a worker, and tasks that fail meanwhile: each failure is handled once."""
    scan = "from app.tasks.failure_tasks import scan_and_process_failed_tasks as scan; answer = scan.delay().id"
    new, old = [running.parcel() for _ in range(10)], running.parcel()
    with running.prompt() as first, running.prompt() as second, ThreadPoolExecutor() as pool, running.settled(**QUICK):
        prompts: list[Console] = [first, second]
        for prompt in prompts:
            prompt.run("import app.tasks.celery_app")
        running.python(ROWS, rows=[*((number, "failed", 1) for number in new), (old, "failed", 25)])
        scans = [pool.submit(prompt.run, SCANS) for prompt in prompts]
        by_worker = [running.python(scan) for _ in range(2)]
        ids = [running.send("stumble", f"caught-{number}", "malformed json") for number in range(10)]
        taken = sum(one.result()[0] for one in scans)
        answers = [running.result(one) for one in by_worker]
        assert any(one["success"] for one in answers)  # the other may have found it at its report
        assert taken <= len(new)
        for number in new:
            record = running.record(f"row-{number}", State.RECOVERED)
            assert (record.attempts, len(record.history)) == (1, 1)
            assert len(running.courier.visits(f"/track/{number}")) == 1
            row = running.projected(f"row-{number}", "succeeded")
            assert row["recovery_attempts"] == 1
        for one in ids:
            record = running.record(one, State.HANDED_OVER)
            assert (record.attempts, len(record.history)) == (1, 1)
            running.line("admin_alerts", one)
    assert running.ledger.find(f"row-{old}") is None
    assert not running.courier.visits(f"/track/{old}")
    assert running.rows("celery_task_id = ?", f"row-{old}")[0]["status"] == "failed"


# -- by hand ----------------------------------------------------------------------------------------------------------


def manual(running: Machine, task_id: int, **options: Any) -> dict[str, Any]:
    """What `manual_recovery_task` answers."""
    code = """
from app.tasks.failure_tasks import manual_recovery_task
answer = manual_recovery_task.delay(task_id=task_id, **options).get(timeout=60, interval=0.05)
"""
    answer: dict[str, Any] = running.python(code, task_id=task_id, options=options)
    return answer


def refused(running: Machine, task_id: int, celery_id: str = "", **options: Any) -> str:
    """Why an order by hand is refused; nothing has changed by it."""

    def look() -> list[Any]:
        return [running.rows("id = ?", task_id), running.ledger.find(celery_id)]

    before = look()
    answer = manual(running, task_id, **options)
    assert answer["success"] is False
    assert look() == before
    assert answer["message"]
    return str(answer["message"])


@runs("使用方法/2. 手动恢复特定任务")
def test_by_hand(running: Machine, printed: str) -> None:
    """A waiting retry is sent now; when no more are allowed only force sends one."""
    number = running.parcel()
    path = f"/track/{number}"
    running.troubles[path] = Trouble(hang_up=True)
    celery_id = running.send("tracking_update", number)
    running.record(celery_id, State.SCHEDULED)
    running.projected(celery_id, "retrying")
    # The guide's number.
    running.python(
        """
from app.db import Session
from app.models import Task
with Session.begin() as session:
    session.query(Task).filter(Task.celery_task_id == celery_id).update({"id": 123})
""",
        celery_id=celery_id,
    )
    first, plain, forced = (ast.get_source_segment(printed, line) for line in ast.parse(printed).body)
    assert "force_retry=True" in str(forced)

    # 恢复指定失败任务: not after 30 s, but now.
    answer = running.python(f"{first}\n{plain}\nanswer = result.get(timeout=60)")
    assert answer["success"] is True
    record = running.record(celery_id, State.SCHEDULED, attempts=2)
    assert waits(record.history) == [30, 60]
    for attempts in (3, 4, 5):
        assert manual(running, 123)["success"] is True
        running.record(celery_id, State.SCHEDULED, attempts=attempts)
    assert manual(running, 123)["success"] is True
    assert running.record(celery_id, State.EXHAUSTED).retries == 5
    running.projected(celery_id, "failed")
    assert len(running.courier.visits(path)) == 6
    assert "5" in refused(running, 123, celery_id)

    # 强制重试（忽略重试次数限制）
    del running.troubles[path]
    assert running.python(f"{forced}\nanswer = result.get(timeout=60)")["success"] is True
    running.record(celery_id, State.RECOVERED)
    row = running.projected(celery_id, "succeeded")
    assert (row["id"], row["recovery_attempts"]) == (123, 6)
    assert running.result(celery_id) == "运输中"
    refused(running, 123, celery_id)
    refused(running, 123, celery_id, force_retry=True)
    assert len(running.courier.visits(path)) == 7


def test_by_hand_in_every_category(running: Machine) -> None:
    """Whatever it failed of: a person knows better, and it runs again at once."""
    ids = {category: running.send("stumble", f"hand-{category}", text) for category, text in SAID.items()}
    for category, celery_id in ids.items():
        record = running.record(celery_id, State.SCHEDULED, State.HANDED_OVER)
        assert record.category == category
        status = "retrying" if record.state is State.SCHEDULED else "failed"
        row = running.projected(celery_id, status)
        running.mend(f"hand-{category}")
        assert manual(running, row["id"])["success"] is True
    for celery_id in ids.values():
        running.record(celery_id, State.RECOVERED)
        assert running.projected(celery_id, "succeeded")["recovery_attempts"] == 1


def test_force_ignores_the_count_and_nothing_else(running: Machine) -> None:
    """An order that makes no sense is refused with a reason of its own, forced or not, and changes nothing."""
    number = running.parcel()
    fine = running.send("tracking_update", number)
    running.result(fine)
    lingering = running.send("linger", "by-hand")
    running.record(lingering, State.SCHEDULED)
    running.python(ROWS, rows=[("pending", "pending", 0)])
    until(lambda: running.row(fine)["status"] == "succeeded", "a success")
    assert manual(running, running.row(lingering)["id"])["success"] is True
    until(lambda: (running.root / "lingers-by-hand").exists(), "the retry to run")
    running.projected(lingering, "running", "retrying")
    reasons = set()
    for force in ({}, {"force_retry": True}):
        reasons |= {
            refused(running, 987654, **force),
            refused(running, running.row(fine)["id"], fine, **force),
            refused(running, running.row("row-pending")["id"], "row-pending", **force),
            refused(running, running.row(lingering)["id"], lingering, **force),
        }
    assert len(reasons) >= 3
    running.mend("by-hand")
    running.record(lingering, State.RECOVERED)
    assert running.result(lingering) == "by-hand"
