"""Who is told what (G5, G6): two log files, open alerts, inboxes, and what stands in the report."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from app.courier import Trouble
from regrow import wiring
from regrow.model import Alert, Record, State
from tests.celery_worker import until
from tests.guide.machine import Machine
from tests.guide.printed import chapter, commands, runs

#: What an end user must never read: exceptions, hosts, paths, words of the machine.
NOT_FOR_USERS = re.compile(
    r"Traceback|Error|Exception|https?:|127\.0\.0\.1|/track|/reservations|app\.|\.py|Refused|422|404"
)


def fields(line: str) -> dict[str, str]:
    """The parts of a log line."""
    return {name: json.loads(value) for name, value in re.findall(r'(\w+)=("(?:[^"\\]|\\.)*")', line)}


def alert(running: Machine, record: Record) -> Alert:
    """The open alert about a failure, as soon as it is there."""
    return until(
        lambda: next((one for one in running.ledger.alerts() if one.group == record.fingerprint), None), "an alert"
    )


def result(running: Machine, task_id: str) -> dict[str, Any]:
    """What the report says about a failure; a scan writes it."""
    scan = "from app.tasks.failure_tasks import scan_and_process_failed_tasks as scan; answer = scan.delay().id"
    assert running.result(running.python(scan))["success"]
    for file in running.reports("failure_processing"):
        for one in json.loads(file.read_text(encoding="utf-8"))["results"]:
            if one["celery_task_id"] == task_id:
                return dict(one)
    raise AssertionError(f"{task_id} is in no report")


# -- administrators (G5) ----------------------------------------------------------------------------------------------


@runs("使用方法/4. 监控告警日志")
def test_somebody_watches_the_logs(running: Machine, printed: str) -> None:
    """Each printed line, comment and all, shows a message as it comes."""
    admin, user = commands(printed)
    for name in ("admin_alerts", "user_notifications"):
        until(lambda name=name: (running.root / "logs" / f"{name}.log").exists() or tell(running), name)
    ids: list[str] = []
    shown = running.watch(
        admin, "malformed json 4711", meanwhile=lambda: ids.append(running.send("stumble", "w", "malformed json 4711"))
    )
    assert ids[0] in shown
    shown = running.watch(
        user,
        'user="user-4711"',
        meanwhile=lambda: ids.append(running.send("order_processing", "A-2", headers={"user_id": "user-4711"})),
    )
    assert ids[1] in shown


def tell(running: Machine) -> bool:
    """Let both files come into being: `tail` wants one that is there."""
    running.send("stumble", "first", "malformed json")
    running.send("order_processing", "A-2", headers={"user_id": "first"})
    return until(lambda: "first" in running.log("user_notifications"), "a first message")


@pytest.mark.parametrize(
    ("kind", "number", "trouble"),
    [
        ("data", "SF1", None),
        ("config", "", Trouble(status=401, error="API key invalid")),
    ],
    ids=["data", "config"],
)
def test_faults_of_data_and_set_up(running: Machine, kind: str, number: str, trouble: Trouble | None) -> None:
    """A line in the log, an open alert, high priority everywhere: log line, ledger, report."""
    assert "管理员通知（数据/配置错误）：记录到 `logs/admin_alerts.log`" in chapter("3. 通知机制")
    number = number or running.parcel()
    if trouble:
        running.troubles[f"/track/{number}"] = trouble
    task_id = running.send("tracking_update", number)
    record = running.record(task_id, State.HANDED_OVER)
    assert record.category == f"unrecoverable_{kind}"
    line = fields(running.line("admin_alerts", task_id))
    assert line["priority"] == "high"
    assert line["category"] == record.category
    assert line["task"] == "app.tasks.business.tracking_update"
    assert record.message.partition(": ")[2][:30] in line["body"]
    found = alert(running, record)
    assert (found.priority, found.category, found.closed_at) == ("high", record.category, None)
    told = result(running, task_id)
    assert (told["action_taken"], told["success"], told["priority"]) == ("notify_admin", True, "high")
    assert task_id not in running.log("user_notifications")


def test_what_else_is_told_to_the_administrator(running: Machine) -> None:
    """Causes that nobody knows, and retries that are used up."""
    with running.settled(network_retry_seconds=0.05, max_recovery_attempts=1):
        unknown = running.send("stumble", "never", "something happened")
        used_up = running.send("stumble", "never", "connection refused")
        running.record(used_up, State.EXHAUSTED)
    assert fields(running.line("admin_alerts", unknown))["category"] == "unknown"
    line = fields(running.line("admin_alerts", used_up))
    assert (line["category"], line["priority"]) == ("recoverable_network", "high")
    assert "3" in line["title"]
    assert result(running, used_up)["action_taken"] == "exhausted"
    assert alert(running, running.record(unknown)).priority == "high"


def test_an_alert_stays_open_until_somebody_closes_it_or_its_cause_is_gone(running: Machine) -> None:
    """One alert for one shape of failure; `regrow alerts` shows it."""
    ids = [running.send("stumble", key, "validation failed: colour") for key in ("alert-1", "alert-2")]
    records = [running.record(one, State.HANDED_OVER) for one in ids]
    found = until(lambda: (one := alert(running, records[0])).count == 2 and one, "both to be counted")
    assert f"{found.title}" in running.bash("regrow -A app.tasks.celery_app alerts").stdout.replace("\n", "")
    settle = """
from app.tasks.celery_app import celery_app
pipeline = celery_app.regrow.pipeline()
pipeline.store.settle_alerts(now=pipeline.clock())
"""
    for key, one in zip(("alert-1", "alert-2"), ids, strict=True):
        running.python(settle)
        assert found.id in {one.id for one in running.ledger.alerts()}
        running.mend(key)
        told = fields(running.line("admin_alerts", one))["body"]
        (command,) = re.findall(r"regrow retry .+", told)
        running.bash(command)  # what the message itself advises
        running.record(one, State.RECOVERED)
    running.python(settle)
    assert found.id in {one.id for one in running.ledger.alerts(closed=True)}

    other = running.record(running.send("stumble", "never", "validation failed: size"), State.HANDED_OVER)
    found = alert(running, other)
    running.bash(f"regrow -A app.tasks.celery_app alerts close {found.id}")
    assert found.id in {one.id for one in running.ledger.alerts(closed=True)}


# -- end users (G6) ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["header", "argument", "row"])
def test_business_failures(running: Machine, way: str) -> None:
    """The user gets a line in the log, a message in the inbox, and advice; nothing that only the machine understands."""
    user = f"user-{way}"
    if way == "header":
        task_id = running.send("order_processing", "A-2", headers={"user_id": user})
    elif way == "argument":
        task_id = running.send("order_processing", "A-2", kwargs={"user_id": user})
    else:
        task_id = "row-of-a-user"
        code = """
from datetime import UTC, datetime
from app.db import Session
from app.models import Task
with Session.begin() as session:
    session.add(Task(
        celery_task_id=task_id, task_type="order_processing", params={"args": ["A-2"]}, status="failed",
        error_message="OutOfStock: out of stock: 限量键盘", failed_at=datetime.now(UTC), user_id=user,
    ))
"""
        running.python(code, task_id=task_id, user=user)
        assert result(running, task_id)["action_taken"] == "notify_user"
    record = running.record(task_id, State.HANDED_OVER)
    assert (record.category, record.user_id) == ("unrecoverable_business", user)
    line = fields(running.line("user_notifications", task_id))
    assert (line["user"], line["category"]) == (user, "unrecoverable_business")
    (notice,) = until(lambda: running.ledger.inbox(user, unread=True), "a message in the inbox")
    assert (notice.title, notice.body) == (line["title"], line["body"])
    assert len(notice.body) > 10
    assert notice.body != notice.title
    for text in (notice.title, notice.body):
        assert re.search("[\u4e00-\u9fff]", text)
        assert not NOT_FOR_USERS.search(text), text
        assert record.message.partition(": ")[2] not in text
    assert notice.title in running.bash(f"regrow -A app.tasks.celery_app inbox {user}").stdout
    assert task_id not in running.log("admin_alerts")
    if way != "row":
        told = result(running, task_id)
        assert (told["action_taken"], told["success"]) == ("notify_user", True)


def test_a_business_failure_of_nobody(running: Machine) -> None:
    """Without a user it goes to the administrator, and says so."""
    task_id = running.send("order_processing", "A-2")
    record = running.record(task_id, State.HANDED_OVER)
    assert (record.category, record.user_id) == ("unrecoverable_business", "")
    line = fields(running.line("admin_alerts", task_id))
    sentence = "The end user must change the request, but nobody knows who that is, so this comes to you."
    assert wiring.words("zh")(sentence) in line["body"].splitlines()
    assert task_id not in running.log("user_notifications")
    assert result(running, task_id)["action_taken"] == "notify_admin"
