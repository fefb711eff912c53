"""The four switches of the guide's `.env` (G14): edited while a worker runs, honoured at once, and said in the report."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.courier import Trouble
from regrow.model import Reason, State
from tests.celery_worker import until
from tests.guide.machine import Machine
from tests.guide.printed import runs


def report(running: Machine) -> Any:
    """The report that a worker writes now."""
    scan = "from app.tasks.failure_tasks import scan_and_process_failed_tasks as scan; answer = scan.delay().id"
    made = running.result(running.python(scan))
    assert json.loads(running.reports("failure_processing")[-1].read_text(encoding="utf-8")) == made
    return made


def result(made: Any, task_id: str) -> Any:
    """What a report says about a task."""
    (found,) = [one for one in made["results"] if one["celery_task_id"] == task_id]
    return found


def refused(running: Machine) -> str:
    """A task whose connection is always cut."""
    number = running.parcel()
    running.troubles[f"/track/{number}"] = Trouble(hang_up=True)
    return running.send("tracking_update", number)


@runs("配置选项/环境变量")
def test_as_printed(running: Machine, printed: str) -> None:
    """What the guide prints is what holds anyway, and is said in the report with those words."""
    lines = [line.partition("=") for line in printed.splitlines() if not line.startswith("#")]
    names = {name.removeprefix("FAILURE_").lower(): json.loads(value) for name, _, value in lines}
    assert names == {
        "recovery_enabled": True,
        "scan_interval_minutes": 30,
        "max_recovery_attempts": 3,
        "notification_enabled": True,
    }
    assert printed.partition("\n")[2] in (running.root / ".env").read_text()
    made = report(running)
    assert {name: made["settings"][name] for name in names} == names
    (running.root / ".env").write_text("\n".join(f"{one}={two}" for one, two in running.own_settings.items()))
    try:
        assert report(running)["settings"] == made["settings"]
    finally:
        running.settle()


def test_recovery_is_switched_off_and_on(running: Machine) -> None:
    """Off: nothing is retried, not even what waits; the administrator gets what fails. On: what waits goes on."""
    with running.settled(network_retry_seconds=3):
        waiting = refused(running)
        record = running.record(waiting, State.SCHEDULED)
        with running.settled(recovery_enabled="false", network_retry_seconds=0.2):
            failed = refused(running)
            assert running.record(failed, State.HANDED_OVER).reason == Reason.RETRIES_OFF
            running.line("admin_alerts", failed)
            made = report(running)
            assert made["settings"]["recovery_enabled"] is False
            assert result(made, failed)["action_taken"] == "notify_admin"
            until(lambda: record.due_at < running.now(), "the retry to be overdue")
            later = running.send("stumble", "never", "malformed json")
            running.line("admin_alerts", later)  # so the dispatcher has looked at what is due
            assert running.record(waiting, State.SCHEDULED).attempts == 1
        running.record(waiting, State.SCHEDULED, attempts=2)
    assert running.record(failed).attempts == 1


@pytest.mark.parametrize(("base", "retries"), [(1, 3), (0, 0)])
def test_the_limit(running: Machine, base: int, retries: int) -> None:
    """A new limit counts from the next failure on; 0 is no automatic retry at all."""
    with running.settled(max_recovery_attempts=base, network_retry_seconds=0.05):
        task_id = refused(running)
        record = running.record(task_id, State.EXHAUSTED if retries else State.HANDED_OVER)
        made = report(running)
    assert record.retries == retries
    assert made["settings"]["max_recovery_attempts"] == base
    assert result(made, task_id)["action_taken"] == ("exhausted" if retries else "notify_admin")


def test_messages_are_switched_off(running: Machine) -> None:
    """Nobody is told, and the report says so; what was not told then is not told later."""
    report(running)  # what came before is another matter
    with running.settled(notification_enabled="false"):
        task_id = running.send("stumble", "never", "malformed json")
        running.record(task_id, State.HANDED_OVER)
        made = report(running)
        assert made["settings"]["notification_enabled"] is False
        told = result(made, task_id)
        assert (told["action_taken"], told["success"], told["priority"]) == ("none", False, "high")
        assert made["stats"]["notified"] == 0
    later = running.send("stumble", "never", "malformed json")
    running.line("admin_alerts", later)
    assert task_id not in running.log("admin_alerts")


def test_the_interval(running: Machine) -> None:
    """It is said in the report and by the manager of beat, which follows it (tests/app/test_celery_app.py)."""
    with running.settled(scan_interval_minutes=45):
        assert report(running)["settings"]["scan_interval_minutes"] == 45
        assert "每 45 分钟" in running.bash("python celery_beat_manager.py status", check=False).stdout


def test_a_wrong_switch(running: Machine) -> None:
    """A worker that runs goes on with what it had, and says what is wrong; what starts refuses to."""
    with running.settled(max_recovery_attempts="many"):
        made = report(running)
        assert made["settings"]["max_recovery_attempts"] == 3
        assert "regrow goes on with the settings that it has: FAILURE_MAX_RECOVERY_ATTEMPTS='many'" in running.log()
        done = running.bash("python celery_beat_manager.py status", check=False)
        assert done.returncode == 1
        assert "FAILURE_MAX_RECOVERY_ATTEMPTS='many'" in done.stderr
