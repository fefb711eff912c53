"""The scheduled tasks (G7, G8, G19, G20): a real beat sends them, a real worker runs them, and the commands tell."""

from __future__ import annotations

import json
import re
import shelve
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from celery.schedules import crontab

from app.courier import Trouble
from tests.celery_worker import until
from tests.guide.machine import Machine, machine
from tests.guide.printed import commands, runs

MANAGER = "python celery_beat_manager.py"

ENTRIES = """
from app import beat
from app.tasks.celery_app import celery_app
answer = {
    name: [entry["task"], repr(entry["schedule"]), entry["options"]["queue"], beat.DESCRIPTIONS[name]["zh"]]
    for name, entry in celery_app.conf.beat_schedule.items()
}
"""


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine whose beat has sent everything, after a rest of seven hours; no worker has taken it yet."""
    with machine(tmp_path_factory.mktemp("beat"), COURIER_TIMEOUT_SECONDS=60) as made:
        until(lambda: has_rested(made), "a schedule")
        made.bash(f"{MANAGER} start")
        until(lambda: len(messages(made, "monitoring")) >= 2 and messages(made, "recovery"), "beat to send everything")
        yield made


def has_rested(made: Machine) -> bool:
    """Start beat, stop it, and let it believe that this was seven hours ago; False if it was stopped too early."""
    made.bash(f"{MANAGER} start")
    made.bash(f"{MANAGER} stop")
    with shelve.open(str(made.root / "var/app/beat/schedule"), writeback=True) as schedule:
        for entry in schedule.get("entries", {}).values():
            entry.last_run_at -= timedelta(hours=7)
        return "entries" in schedule


@pytest.fixture(scope="module")
def at_work(sent: Machine) -> Machine:
    """The same with a worker that takes what was sent."""
    sent.worker()
    return sent


def messages(here: Machine, queue: str) -> list[str]:
    """The tasks whose messages lie in a queue."""
    files = (here.root / "var/app/broker").glob(f"*.{queue}.msg")
    return [json.loads(file.read_text())["headers"]["task"] for file in files]


def check(here: Machine, printed: str) -> None:
    """A printed entry is in force: task, schedule, queue and description; and its message lies in that queue."""
    ((name, entry),) = eval("{" + printed + "}", {"crontab": crontab}).items()
    task, queue = entry["task"], entry["options"]["queue"]
    assert here.python(ENTRIES)[name] == [task, repr(entry["schedule"]), queue, entry["description"]]
    assert task in messages(here, queue)
    for other in {"celery", "recovery", "monitoring"} - {queue}:
        assert task not in messages(here, other)


@runs("定时任务配置/失败任务扫描 (每30分钟)")
def test_the_scan(sent: Machine, printed: str) -> None:
    """Every half hour, to its queue."""
    check(sent, printed)


@runs("定时任务配置/失败模式分析 (每6小时)")
def test_the_analysis(sent: Machine, printed: str) -> None:
    """Every six hours, to its queue."""
    check(sent, printed)


def test_a_worker_runs_what_beat_sends(at_work: Machine) -> None:
    """Both reports are written, and nobody has started anything by hand."""
    for kind in ("failure_processing", "failure_analysis"):
        file, *_ = until(lambda kind=kind: at_work.reports(kind), f"a report {kind}")
        assert re.fullmatch(rf"{kind}_\d{{8}}_\d{{6}}\.json", file.name)
        assert json.loads(file.read_text(encoding="utf-8"))["success"] is True
    tasks = ("scan_and_process_failed_tasks", "analyze_failure_patterns", "check_failure_recovery_health")
    for task in tasks:
        line = rf"Task app\.tasks\.failure_tasks\.{task}\[.*\] succeeded"
        until(lambda line=line: re.search(line, at_work.log()), task)
    assert not messages(at_work, "recovery") + messages(at_work, "monitoring")


@runs("故障排除/1. 自动恢复不工作")
def test_somebody_looks_why_nothing_recovers(at_work: Machine, printed: str) -> None:
    """Each printed line answers its question: does beat run, what do workers do, what do the tasks log."""
    status, active, log = commands(printed)
    shown = at_work.bash(status).stdout
    assert shown.startswith("beat 正在运行")
    for name, (task, _schedule, queue, description) in at_work.python(ENTRIES).items():
        assert f"{name}\n    {description}\n    {task}，队列 {queue}，" in shown
    assert "尚未发送" not in shown
    assert "guide@test" in shown

    number = at_work.parcel()
    at_work.troubles[f"/track/{number}"] = Trouble(silent=True)
    task_id = at_work.send("tracking_update", number)
    until(lambda: at_work.courier.visits(f"/track/{number}"), "the task to run")
    shown = at_work.bash(active).stdout
    assert "guide@test: OK" in shown
    assert task_id in shown
    assert "app.tasks.business.tracking_update" in shown
    assert "1 node online" in shown

    scan = "from app.tasks.failure_tasks import scan_and_process_failed_tasks as scan; answer = scan.delay().id"
    ids: list[Any] = []
    shown = at_work.watch(log, "succeeded in", meanwhile=lambda: ids.append(at_work.python(scan)))
    assert all("failure_tasks" in line for line in shown.splitlines() if line.startswith("["))


def test_the_manager(at_work: Machine) -> None:
    """Stop, status, start, restart: the exit code says what holds."""
    codes = [
        at_work.bash(f"{MANAGER} {action}", check=False).returncode
        for action in ("stop", "status", "start", "restart", "status")
    ]
    assert codes == [0, 3, 0, 0, 0]
