"""Troubleshooting (G5, G6, G22): messages that do not come, and tasks that were retried too often."""

from __future__ import annotations

import re
from datetime import datetime

from app.courier import Trouble
from regrow.model import State
from tests.celery_worker import until
from tests.guide.machine import Machine
from tests.guide.printed import commands, runs


@runs("故障排除/3. 通知不发送")
def test_somebody_looks_why_no_message_comes(running: Machine, printed: str) -> None:
    """The printed lines show what is wrong and mend a missing folder; the message that waited comes by itself."""
    listing, rights, folder, admin, user = commands(printed)
    logs = running.root / "logs"
    business = running.send("order_processing", "A-2", kwargs={"user_id": "user-before"})
    before = running.send("stumble", "never", "malformed json")
    running.line("admin_alerts", before)
    running.line("user_notifications", business)
    # Rights do not stop root: a folder that stands in the way does.
    (logs / "admin_alerts.log").rename(logs / "admin_alerts.log.1")
    (logs / "admin_alerts.log").mkdir()
    task_id = running.send("stumble", "never", "malformed json")
    until(lambda: any("admin_alerts.log" in one for one in running.ledger.undelivered(limit=100)), "a refusal")
    assert re.search(r"^d.*admin_alerts\.log$", running.bash(listing).stdout, re.MULTILINE)
    (logs / "admin_alerts.log").rmdir()
    logs.chmod(0o700)
    running.bash(rights)
    assert logs.stat().st_mode & 0o777 == 0o755
    running.bash(folder)
    assert logs.is_dir()
    running.line("admin_alerts", task_id)
    later: list[str] = []
    running.watch(
        admin,
        "later 0815",
        meanwhile=lambda: later.append(running.send("stumble", "never", "validation failed: later 0815")),
    )
    running.watch(
        user,
        '"user-0815"',
        meanwhile=lambda: later.append(running.send("order_processing", "A-2", headers={"user_id": "user-0815"})),
    )


def test_a_missing_folder_comes_back_by_itself(running: Machine) -> None:
    """`mkdir -p logs` is not even needed."""
    logs = running.root / "logs"
    logs.rename(running.root / "logs-of-yesterday")
    task_id = running.send("stumble", "never", "malformed json")
    running.line("admin_alerts", task_id)


@runs("故障排除/4. 恢复次数过多")
def test_somebody_reads_what_happened_to_a_task(running: Machine, printed: str) -> None:
    """The printed lines tell how often it was retried, and its story from the first failure to the end."""
    number = running.parcel()
    running.troubles[f"/track/{number}"] = Trouble(times=2, hang_up=True)
    with running.settled(network_retry_seconds=1):
        celery_id = running.send("tracking_update", number)
        record = running.record(celery_id, State.RECOVERED)
    row = running.projected(celery_id, "succeeded")
    assert (row["task_type"], row["params"]) == ("tracking_update", f'{{"args": ["{number}"], "kwargs": {{}}}}')
    columns, said = running.typed(
        "from app.db import db\nfrom app.models import Task\n"
        f"{printed}\n"
        "answer = [task.id, task.celery_task_id, task.task_type, task.status, task.error_message, "
        "task.created_at.isoformat(), task.failed_at.isoformat()]",
        task_id=row["id"],
    )
    assert columns[:4] == [row["id"], celery_id, "tracking_update", "succeeded"]
    assert columns[4] == record.history[-1].message
    assert datetime.fromisoformat(columns[5]) <= datetime.fromisoformat(columns[6]) == record.history[-1].failed_at
    count, _, notes = said.partition("\n")
    assert count == "恢复次数: 2"
    assert notes.startswith("恢复记录: ")
    story = notes.removeprefix("恢复记录: ").splitlines()
    # A day, two failed runs each with its wait, a success, and where it stands.
    assert len(story) == 5
    times = [re.match(r"\d\d:\d\d:\d\d ", line) for line in story[1:4]]
    assert all(times)
    for line, wait in zip(story[1:3], (1, 2), strict=True):
        assert "网络" in line
        assert f"{wait}秒后重试" in line
    assert not re.search("[A-Za-z]{20}|can_heal|recoverable_", notes.replace("RemoteProtocolError", ""))


def test_a_parked_task_shows_that_it_waits(running: Machine) -> None:
    """`retrying` until the next run; the columns follow each transition."""
    number = running.parcel()
    running.troubles[f"/track/{number}"] = Trouble(times=1, hang_up=True)
    celery_id = running.send("tracking_update", number)
    row = running.projected(celery_id, "retrying")
    assert row["recovery_attempts"] == 0
    assert "30秒后重试" in row["recovery_notes"]
    running.bash(f"regrow -A app.tasks.celery_app retry {celery_id}")
    row = running.projected(celery_id, "succeeded")
    assert row["recovery_attempts"] == 1
