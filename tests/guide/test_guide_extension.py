"""A reader's own channel, strategy and monitoring (G16, G26, G27): the printed functions in the running application."""

from __future__ import annotations

import gzip
import json
import re
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from regrow.model import State
from tests.celery_worker import until
from tests.guide.machine import Machine, machine
from tests.guide.printed import runs, text_of

CHANNEL = "配置选项/自定义通知渠道"
STRATEGY = "扩展开发/2. 自定义恢复策略"
MONITORING = "扩展开发/3. 集成外部监控系统"

#: What the reader has beside the printed function: services that keep what they get, and can be out of order.
SERVICES = """
import json, time
from pathlib import Path

def keep(name, notification):
    with Path(f"sent-{name}.jsonl").open("a") as file:
        file.write(json.dumps(notification, ensure_ascii=False) + "\\n")

def send_email(notification):
    if "mail server" in notification["body"] and Path("mail-is-down").exists():
        raise ConnectionRefusedError(111, "mail server refuses")
    keep("email", notification)

def send_sms(notification):
    while "sms gateway" in notification["body"] and Path("sms-hangs").exists():
        time.sleep(0.05)
    keep("sms", notification)

def send_dingtalk(notification):
    keep("dingtalk", notification)
"""

#: The reader's own module, given to `celery -A`: the printed channel, then the application.
SHOP = """
from app.channels import notification_senders
from services import send_dingtalk, send_email, send_sms

{printed}
notification_senders.append(send_custom_notification)

from app.tasks.celery_app import celery_app
"""

#: The reader's strategy, where the application has its own.
OWN_STRATEGY = """
import json
from pathlib import Path

def calculate_special_delay(task):
    return json.loads(Path("special-delay.json").read_text())

{printed}
"""


class Collector:
    """Elasticsearch and the APM server on loopback, as far as events need them."""

    def __init__(self) -> None:
        self.documents: dict[str, list[Any]] = {}
        self.reported: list[Any] = []

    def __call__(self, request: Request) -> Response:
        """Answer a request, and keep what it brings."""
        if request.path.startswith("/intake/"):
            lines = gzip.decompress(request.data).decode().splitlines()
            self.reported += [one["error"] for one in map(json.loads, lines) if "error" in one]
            return Response(status=202)
        index = request.path.split("/")[1]
        self.documents.setdefault(index, []).append(json.loads(request.data))
        answer = {"_index": index, "_id": "1", "_version": 1, "result": "created"}
        return Response(
            json.dumps(answer), 201, {"X-Elastic-Product": "Elasticsearch"},
            content_type=request.accept_mimetypes.best,
        )  # fmt: skip


@pytest.fixture(scope="module")
def collector() -> Iterator[tuple[str, Collector]]:
    """The monitoring systems, and where they are."""
    kept = Collector()
    with HTTPServer() as server:
        server.expect_request(re.compile("/.*")).respond_with_handler(kept)
        yield server.url_for("").rstrip("/"), kept


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory, collector: tuple[str, Collector]) -> Iterator[Machine]:
    """A machine on which a reader has put the printed functions into the application, with a worker."""
    url, _kept = collector
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    systems = {"PROMETHEUS_PORT": port, "ELASTICSEARCH_URL": url, "ELASTIC_APM_SERVER_URL": url}
    folder = tmp_path_factory.mktemp("own")
    with machine(folder, tick_seconds=0.2, channel_timeout_seconds=1, **systems) as made:
        (folder / "services.py").write_text(SERVICES)
        (folder / "shop.py").write_text(SHOP.format(printed=text_of(CHANNEL)))
        (folder / "app" / "strategy.py").write_text(OWN_STRATEGY.format(printed=text_of(STRATEGY)))
        made.worker("shop")
        yield made


def sent(own: Machine, service: str, task_id: str) -> list[Any]:
    """What a service was given about a task."""
    file = own.root / f"sent-{service}.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return [one for one in map(json.loads, lines) if one["task_id"] == task_id]


# -- a channel (G16) --------------------------------------------------------------------------------------------------


@runs(CHANNEL)
def test_a_channel(own: Machine, printed: str) -> None:
    """Every message to people reaches the printed function's three services, beside the channels that are there."""
    assert "def send_custom_notification(notification):" in printed
    fault = own.send("stumble", "never", "malformed json")
    business = own.send("order_processing", "A-2", headers={"user_id": "user-own"})
    own.line("admin_alerts", fault)
    own.line("user_notifications", business)
    for service in ("email", "sms", "dingtalk"):
        for task_id, audience in ((fault, "administrator"), (business, "user")):
            (told,) = until(lambda one=(service, task_id): sent(own, *one), f"{service} about {audience}")
            assert (told["audience"], told["task_id"]) == (audience, task_id)
            assert {"category", "priority", "title", "body", "task_name", "task_type", "user_id"} <= told.keys()
            assert told["title"] in own.log("admin_alerts" if audience == "administrator" else "user_notifications")


def test_a_channel_that_raises_or_hangs(own: Machine) -> None:
    """It is reported and tried again until it takes the message; nothing and nobody else notices."""

    def refusals() -> str:
        return "\n".join(own.ledger.undelivered(limit=100))

    (own.root / "mail-is-down").touch()
    (own.root / "sms-hangs").touch()
    raising = own.send("stumble", "never", "validation failed: mail server")
    until(lambda: "ConnectionRefusedError" in refusals(), "the channel to refuse")
    hanging = own.send("stumble", "never", "validation failed: sms gateway")
    until(lambda: "did not return within 1 s" in refusals(), "the channel to hang")
    assert "send_custom_notification" in refusals()
    for task_id in (raising, hanging):
        own.line("admin_alerts", task_id)
    number = own.parcel()
    assert own.result(own.send("tracking_update", number)) == "运输中"
    scan = "from app.tasks.failure_tasks import scan_and_process_failed_tasks as scan; answer = scan.delay().id"
    errors = "\n".join(own.result(own.python(scan))["stats"]["errors"])
    assert "send_custom_notification" in errors
    for name in ("mail-is-down", "sms-hangs"):
        (own.root / name).unlink()
    for task_id in (raising, hanging):
        for service in ("email", "sms", "dingtalk"):
            until(lambda one=(service, task_id): sent(own, *one), f"{service} at last")
    until(lambda: not own.ledger.balance(own.now()).undelivered, "nothing to be left")
    assert len(sent(own, "email", raising)) == 1
    own.line("admin_alerts", raising)  # that channel was not asked again


# -- a strategy (G26) -------------------------------------------------------------------------------------------------


def waits(own: Machine, task_id: str) -> list[float]:
    """The waits before a task's retries, in seconds."""
    return [
        (run.retry_at - run.decided_at).total_seconds()
        for run in own.record(task_id).history
        if run.retry_at is not None and run.decided_at is not None
    ]


@runs(STRATEGY)
def test_a_strategy(own: Machine, printed: str) -> None:
    """The printed function rules its task type: its delay, its limit; other types keep the built-in schedule."""
    assert printed in (own.root / "app/strategy.py").read_text(encoding="utf-8")
    delay = own.root / "special-delay.json"
    delay.write_text("0.3")
    task_id = own.send("special_task", "never")
    record = own.record(task_id, State.EXHAUSTED)
    assert record.retries == 5
    assert waits(own, task_id) == pytest.approx([0.3] * 5)
    other = own.send("stumble", "never", "connection timeout")
    own.record(other, State.SCHEDULED)
    assert waits(own, other) == [30]


@pytest.mark.parametrize("wrong", ['"soon"', "-1", "1e9", "null"])
def test_a_strategy_that_answers_nonsense(own: Machine, wrong: str) -> None:
    """It is refused and reported, and the built-in schedule is used."""
    (own.root / "special-delay.json").write_text(wrong)
    task_id = own.send("special_task", "never")
    record = own.record(task_id, State.SCHEDULED)
    assert waits(own, task_id) == [30]
    assert "delay=" in record.history[0].trouble
    scan = "from app.tasks.failure_tasks import scan_and_process_failed_tasks as scan; answer = scan.delay().id"
    errors = own.result(own.python(scan))["stats"]["errors"]
    assert any(task_id in one and record.history[0].trouble in one for one in errors)
    assert record.history[0].trouble in own.log()


# -- monitoring (G27) -------------------------------------------------------------------------------------------------


def counted(own: Machine) -> dict[str, float]:
    """What Prometheus reads: failed runs by category."""
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
        f"http://127.0.0.1:{own.own_settings['PROMETHEUS_PORT']}/metrics", timeout=10
    ) as answer:
        lines = re.findall(r'^task_failures_total\{category="(\w+)"\} (\S+)$', answer.read().decode(), re.MULTILINE)
    return {category: float(count) for category, count in lines}


def test_the_running_application_reports_every_failed_run(
    own: Machine, collector: tuple[str, Collector], tmp_path: Path
) -> None:
    """A failure of a task arrives in all three systems, with its category."""
    _url, kept = collector
    task_id = own.send("stumble", "never", "no module named vouchers")
    category = own.record(task_id).category

    def here(events: list[Any]) -> list[Any]:
        return [one for one in events if one["task_id"] == task_id]

    (event,) = until(lambda: here(kept.documents.get("failure-events", [])), "Elasticsearch")
    assert (event["event"], event["category"], event["error_message"]) == (
        *("failure", category),
        "no module named vouchers",
    )
    (reported,) = until(lambda: here([one["context"]["custom"] for one in kept.reported]), "the APM server")
    assert reported["category"] == category
    until(lambda: counted(own).get(category), "Prometheus")


@runs(MONITORING)
def test_the_printed_sink(own: Machine, collector: tuple[str, Collector], printed: str) -> None:
    """The printed lines, with the application's clients, do what they say in all three systems."""
    _url, kept = collector
    event = {"event": "failure", "task_id": "printed", "category": "printed_category", "attempt": 1}
    until(lambda: counted(own), "the port to be open")
    with own.prompt() as prompt:
        prompt.run(
            "from app.monitoring import apm_client, elasticsearch_client, failure_counter\n"
            f"{printed}\nsend_to_monitoring_system(event)",
            event=event,
        )
    assert event in kept.documents["failure-events"]
    (reported,) = [one for one in kept.reported if one["context"]["custom"]["task_id"] == "printed"]
    assert reported["log"]["message"] == "Task Failure"
    assert reported["context"]["custom"] == event
    assert counted(own)["printed_category"] == 1
