"""The guide's best practice (G23, G24, G25): messages with structure, tasks with details, health, departments."""

from __future__ import annotations

import ast
import json
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pytest

from regrow.model import State
from tests.celery_worker import until
from tests.guide.machine import Machine
from tests.guide.printed import runs

ANALYSE = """
from app.tasks.failure_tasks import FailureAnalyzer
answer = [FailureAnalyzer().analyze_failure(text) for text in texts]
"""


@runs("最佳实践/1. 错误消息规范化")
def test_structured_messages(running: Machine, printed: str) -> None:
    """The tag in front is a fact, in both languages, whatever the words behind it may suggest."""
    space = {"error_category": "CONFIG", "specific_error": "Connection timeout", "context_info": "网关没有密钥"}
    exec(printed, space)
    assert space["error_message"] == "[CONFIG] Connection timeout: 网关没有密钥"
    examples = [
        line.value.value
        for line in ast.parse(printed).body
        if isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant)
    ]
    assert len(examples) == 2
    texts = [*examples, space["error_message"], "【数据】 出错了", "[业务] 订单已关闭", "【网络】 出错了"]
    found = running.python(ANALYSE, texts=texts)
    assert [category for category, _analysis in found] == [
        *("recoverable_network", "unrecoverable_data"),
        *("unrecoverable_config", "unrecoverable_data", "unrecoverable_business", "recoverable_network"),
    ]
    assert {analysis["layer"] for _category, analysis in found} == {"structured"}


@runs("最佳实践/2. 任务重试设计")
def test_details_in_the_exception(running: Machine, printed: str) -> None:
    """The printed task runs; what it tells about its own failure is read as fact, not as a text that happens to match."""
    assert "        pass\n" in printed
    plain = running.send("my_task")
    running.result(plain)
    assert running.ledger.find(plain) is None

    record = running.record(running.send("my_network_task"), State.SCHEDULED)
    details = json.loads(record.history[0].message)
    assert details.keys() == {"error_type", "error_message", "context", "timestamp"}
    assert (details["error_type"], details["context"]) == ("ConnectionRefusedError", {"order": "A-1"})
    assert datetime.fromisoformat(details["timestamp"])
    assert record.category == "recoverable_network"
    assert "ConnectionRefusedError" in json.loads(record.history[0].verdict)["root_cause"]

    record = running.record(running.send("my_data_task"), State.HANDED_OVER)
    assert record.category == "unrecoverable_data"
    # The type decides where the text says nothing, the text where the type says nothing.
    details |= {"error_message": "x"}
    vague = details | {"error_type": "Exception", "error_message": "快递单号校验失败"}
    found = running.python(ANALYSE, texts=[json.dumps(one) for one in (details, vague)])
    assert [category for category, _analysis in found] == ["recoverable_network", "unrecoverable_data"]


@runs("最佳实践/3. 监控和告警")
@pytest.mark.parametrize(
    ("rate", "failures", "alerts"),
    [
        (0.8, 50, []),
        (0.7999, 50, ["自动恢复成功率过低: 79.99%"]),
        (0.5, 51, ["自动恢复成功率过低: 50.00%", "最近失败任务过多: 51"]),
    ],
)
def test_the_printed_health_check(
    running: Machine, printed: str, rate: float, failures: int, alerts: list[str]
) -> None:
    """The printed task alerts below 80 % and above 50."""
    code = """
from app.tasks.celery_app import celery_app
told = []
names = {
    "__name__": f"health_{failures}_{rate}", "celery_app": celery_app, "send_alert": told.append,
    "count_recent_failures": lambda: failures, "calculate_recovery_rate": lambda: rate,
}
exec(printed, names)
names["check_failure_recovery_health"].apply().get()
answer = told
"""
    assert running.python(code, printed=printed, rate=rate, failures=failures) == alerts


HEALTH = """
from datetime import UTC, datetime
from app.db import Session
from app.models import Task
from app.tasks.celery_app import celery_app
from app.tasks.failure_tasks import check_failure_recovery_health
from regrow.capture import causes_from_text
from regrow.model import Failure

pipeline = celery_app.regrow.pipeline()
numbers = iter(range(1000))

def fail(attempt):
    failure = Failure(
        f"task-{next(numbers)}", "app.tasks.business.tracking_update", datetime.now(UTC),
        causes_from_text("", "connection timeout", ""), envelope="{}", attempt=attempt,
    )
    (handled,) = pipeline.handle([failure])
    return handled.id

def rows(count):
    with Session.begin() as session:
        for _ in range(count):
            session.add(Task(
                celery_task_id=f"row-{next(numbers)}", task_type="tracking_update", status="failed",
                failed_at=datetime.now(UTC),
            ))

def check():
    check_failure_recovery_health.apply().get()
    return sorted(one.title for one in pipeline.ledger.alerts() if one.group.startswith("health-"))
"""


def test_the_health_check_of_the_application(quiet: Machine) -> None:
    """Below 80 % and above 50, each alert once and until it is over; beat sends it (see test_guide_beat)."""
    quiet.python(HEALTH)
    # 4 of 5 recovered, 50 failed: as it should be.
    healthy = "rows(50); healed = [pipeline.recovered(fail(1)) for _ in range(4)]; fail(6); answer = check()"
    assert quiet.python(healthy) == []
    assert quiet.python("fail(6); rows(1); answer = check()") == ["最近失败任务过多: 51", "自动恢复成功率过低: 66.67%"]
    assert len(quiet.python("answer = check()")) == 2
    over = """
for _ in range(4): pipeline.recovered(fail(1))
with Session.begin() as session:
    session.query(Task).filter(Task.status == "failed").update({"status": "succeeded"})
answer = check()
"""
    assert quiet.python(over) == []
    quiet.python("pipeline.act()")
    log = quiet.log("admin_alerts")
    assert log.count('title="自动恢复成功率过低: 66.67%"') == log.count('title="最近失败任务过多: 51"') == 1


@runs("最佳实践/4. 业务集成")
def test_departments(running: Machine, printed: str) -> None:
    """Orders go to customer service and payments to finance, in the printed class and in the running application."""
    told: list[tuple[Any, ...]] = []
    space: dict[str, Any] = {
        "notify_customer_service": lambda task, error: told.append(("service", task.task_type, error)),
        "notify_finance_team": lambda task, error: told.append(("finance", task.task_type, error)),
    }
    exec(printed, space)
    for kind in ("order_processing", "payment_processing", "tracking_update"):
        space["BusinessFailureHandler"]().handle_business_failure(SimpleNamespace(task_type=kind), "no")
    assert told == [("service", "order_processing", "no"), ("finance", "payment_processing", "no")]

    order = running.send("order_processing", "A-2", kwargs={"user_id": "user-8"})
    payment = running.send("payment_processing", "A-3", kwargs={"user_id": "user-9"})
    other = running.send("tracking_update", "XX0000000001", headers={"user_id": "user-10"})
    # What has gone wrong, in the words of the task, stands there too.
    assert "限量键盘" in running.line("customer_service", order).partition(" error=")[2]
    assert "8888" in running.line("finance", payment).partition(" error=")[2]
    running.line("user_notifications", other)
    assert payment not in running.log("customer_service")
    assert order not in running.log("finance")
    assert other not in running.log("customer_service") + running.log("finance")
    for user in ("user-8", "user-9", "user-10"):
        until(lambda user=user: running.ledger.inbox(user), "a message in the inbox")
