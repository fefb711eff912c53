"""Prometheus, Elasticsearch and Elastic APM: what really arrives there (G27)."""

from __future__ import annotations

import gzip
import json
import multiprocessing
import os
import re
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import elastic_transport
import elasticsearch
import pytest
from elasticapm.transport.exceptions import TransportException
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from regrow.adapters.channels.callback import Callback
from regrow.errors import DeliveryError, SettingsError
from regrow.model import Audience
from regrow.testing import a_message

ROOT = Path(__file__).parents[2]
OURS = ("PROMETHEUS_", "ELASTICSEARCH_", "ELASTIC_APM_")
EVENT = {
    "event": "failure",
    "failure_id": 7,
    "task_id": "task-1",
    "task_name": "app.tasks.business.tracking_update",
    "task_type": "tracking_update",
    "category": "recoverable_network",
    "confidence": 0.95,
    "attempt": 2,
    "retry_delay": 60.0,
    "error_message": "连接超时",
    "failed_at": "2023-12-01T14:00:00+08:00",
}


@pytest.fixture
def monitoring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module, with a home of its own, nothing configured and no client made."""
    for name in [name for name in os.environ if name.startswith(OURS)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("APP_VAR", str(tmp_path / "var"))
    monkeypatch.setenv("FAILURE_DATABASE_URL", f"sqlite:///{tmp_path / 'regrow.db'}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    import app.monitoring

    app.monitoring._forget()
    yield app.monitoring
    app.monitoring._forget()


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port at which nobody listens, and which nobody else takes meanwhile."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


# -- what is configured ------------------------------------------------------------------------------------------------


def test_what_is_not_configured_is_skipped(monitoring: ModuleType) -> None:
    """Without settings there is no sink, and the guide's lines do nothing."""
    assert monitoring.sinks() == {}
    monitoring.send_to_monitoring_system(EVENT)
    monitoring.failure_counter.inc(labels={"category": EVENT["category"]})
    monitoring.elasticsearch_client.index(index="failure-events", body=EVENT)
    monitoring.apm_client.capture_message("Task Failure", extra=EVENT)


def test_one_sink_for_each_system(monitoring: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each configured system is a sink of its own, made without a connection."""
    monkeypatch.setenv("PROMETHEUS_PORT", "9108")
    assert list(monitoring.sinks()) == ["prometheus"]
    monkeypatch.setenv("ELASTICSEARCH_URL", "http://127.0.0.1:9200")
    monkeypatch.setenv("ELASTIC_APM_SERVER_URL", "http://127.0.0.1:8200")
    assert list(monitoring.sinks()) == ["prometheus", "elasticsearch", "apm"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PROMETHEUS_PORT", "0"),
        ("PROMETHEUS_PORT", "65536"),
        ("PROMETHEUS_PORT", "-1"),
        ("PROMETHEUS_PORT", "http"),
        ("PROMETHEUS_PORT", "٣"),
        ("ELASTICSEARCH_URL", "me:s3cret@search.example:9200"),
        ("ELASTIC_APM_SERVER_URL", "http://"),
    ],
)
def test_a_wrong_setting_is_said_at_start(
    monitoring: ModuleType, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """A setting that is wrong is named, without the password that may stand in it."""
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=name) as caught:
        monitoring.sinks()
    assert "s3cret" not in str(caught.value)


# -- Elasticsearch -----------------------------------------------------------------------------------------------------


class Elastic:
    """The document API of Elasticsearch on loopback, as far as an index of events needs it."""

    def __init__(self) -> None:
        self.documents: dict[str, Any] = {}
        self.requests: list[Request] = []
        self.status = 0

    def __call__(self, request: Request) -> Response:
        self.requests.append(request)
        product = {"X-Elastic-Product": "Elasticsearch"}
        if self.status:
            return Response('{"error": {"type": "busy", "reason": "try later"}}', self.status, product)
        index, _, key = request.path.strip("/").partition("/_doc")
        key = key.strip("/") or f"auto-{len(self.documents)}"
        result = "updated" if key in self.documents else "created"
        self.documents[key] = json.loads(request.data)
        answer = {"_index": index, "_id": key, "_version": 1, "result": result}
        return Response(json.dumps(answer), 201, product, content_type=request.accept_mimetypes.best)


@pytest.fixture
def elastic(monitoring: ModuleType, monkeypatch: pytest.MonkeyPatch, httpserver: HTTPServer) -> Elastic:
    """An Elasticsearch that is configured."""
    server = Elastic()
    httpserver.expect_request(re.compile("/failure-events/_doc.*")).respond_with_handler(server)
    monkeypatch.setenv("ELASTICSEARCH_URL", f"http://me:s3cret@{httpserver.host}:{httpserver.port}")
    return server


def test_an_event_is_stored(monitoring: ModuleType, elastic: Elastic) -> None:
    """The whole event arrives at Elasticsearch as a document, with the password of the address."""
    monitoring.sinks()["elasticsearch"](EVENT)
    assert list(elastic.documents.values()) == [EVENT]
    sent = elastic.requests[0].authorization
    assert sent is not None
    assert (sent.username, sent.password) == ("me", "s3cret")


def test_the_guides_line(monitoring: ModuleType, elastic: Elastic) -> None:
    """`elasticsearch_client.index(index=..., body=...)` works as printed, also with an event of one's own."""
    monitoring.elasticsearch_client.index(index="failure-events", body={"category": "unknown"})
    assert list(elastic.documents.values()) == [{"category": "unknown"}]


def test_an_event_that_is_sent_twice_is_stored_once(monitoring: ModuleType, elastic: Elastic) -> None:
    """A failed run is one document, however often it is sent; the next run is another one."""
    sink = monitoring.sinks()["elasticsearch"]
    for event in (EVENT, EVENT, {**EVENT, "attempt": 3}):
        sink(event)
    assert [one["attempt"] for one in elastic.documents.values()] == [2, 3]


def test_a_long_task_id_is_no_trouble(monitoring: ModuleType, elastic: Elastic) -> None:
    """Elasticsearch takes ids of at most 512 bytes; a task's id may be anything."""
    monitoring.sinks()["elasticsearch"]({**EVENT, "task_id": "/?#" + "长" * 1000})
    assert all(len(key) < 512 for key in elastic.documents)


@pytest.mark.parametrize("status", [400, 401, 429, 503])
def test_a_refused_event_is_an_error(monitoring: ModuleType, elastic: Elastic, status: int) -> None:
    """An event that Elasticsearch refuses is asked once, and tried again later by the outbox."""
    elastic.status = status
    sink = monitoring.sinks()["elasticsearch"]
    with pytest.raises(elasticsearch.ApiError):
        sink(EVENT)
    assert len(elastic.requests) == 1
    elastic.status = 0
    sink(EVENT)
    assert len(elastic.documents) == 1


def test_something_else_is_not_elasticsearch(
    monitoring: ModuleType, monkeypatch: pytest.MonkeyPatch, httpserver: HTTPServer
) -> None:
    """A server that only says 200 has not stored anything."""
    httpserver.expect_request(re.compile(".*")).respond_with_json({})
    monkeypatch.setenv("ELASTICSEARCH_URL", httpserver.url_for("/"))
    with pytest.raises(elasticsearch.UnsupportedProductError):
        monitoring.sinks()["elasticsearch"](EVENT)


# -- Elastic APM -------------------------------------------------------------------------------------------------------


class Intake:
    """The intake API of an APM server on loopback."""

    def __init__(self) -> None:
        self.errors: list[dict[str, Any]] = []
        self.metadata: list[dict[str, Any]] = []
        self.requests: list[Request] = []
        self.status = 202

    def __call__(self, request: Request) -> Response:
        self.requests.append(request)
        if self.status == 202:
            assert request.headers["Content-Encoding"] == "gzip"
            assert request.headers["Content-Type"] == "application/x-ndjson"
            first, *rest = (json.loads(line) for line in gzip.decompress(request.data).splitlines())
            self.metadata.append(first["metadata"])
            self.errors.extend(one["error"] for one in rest)
        return Response("queue is full" if self.status != 202 else "", self.status)


@pytest.fixture
def intake(monitoring: ModuleType, monkeypatch: pytest.MonkeyPatch, httpserver: HTTPServer) -> Intake:
    """An APM server that is configured."""
    server = Intake()
    httpserver.expect_request("/intake/v2/events", method="POST").respond_with_handler(server)
    monkeypatch.setenv("ELASTIC_APM_SERVER_URL", httpserver.url_for("/").rstrip("/"))
    return server


def test_an_event_is_reported(monitoring: ModuleType, intake: Intake, httpserver: HTTPServer) -> None:
    """The message arrives with the whole event as its custom context, before the call returns, and nothing else does."""
    before = set(threading.enumerate())
    monitoring.apm_client.capture_message("Task Failure", extra=EVENT)
    (error,) = intake.errors
    assert error["log"]["message"] == "Task Failure"
    assert error["context"]["custom"] == EVENT
    assert error["timestamp"] > 0
    assert "stacktrace" not in error["log"]
    assert intake.metadata[0]["service"]["name"] == "regrow-app"
    assert len(httpserver.log) == 1
    assert not [one for one in threading.enumerate() if one not in before and "eapm" in one.name]


def test_the_agents_own_settings(monitoring: ModuleType, intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent's variables count: service and secret token reach the server."""
    monkeypatch.setenv("ELASTIC_APM_SERVICE_NAME", "shop")
    monkeypatch.setenv("ELASTIC_APM_SECRET_TOKEN", "t0ken")
    monitoring.sinks()["apm"](EVENT)
    assert intake.metadata[0]["service"]["name"] == "shop"
    assert intake.requests[0].headers["Authorization"] == "Bearer t0ken"


def test_wrong_settings_of_the_agent_are_an_error(
    monitoring: ModuleType, intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a setting that it does not understand the agent would send nothing and say nothing."""
    monkeypatch.setenv("ELASTIC_APM_SERVICE_NAME", "no/slash")
    with pytest.raises(SettingsError, match="SERVICE_NAME"):
        monitoring.sinks()["apm"](EVENT)


@pytest.mark.parametrize("status", [400, 401, 429, 503])
def test_a_refused_report_is_an_error(monitoring: ModuleType, intake: Intake, status: int) -> None:
    """An event that the APM server refuses is an error each time, without any rest, until it is taken."""
    intake.status = status
    sink = monitoring.sinks()["apm"]
    for _ in range(3):
        with pytest.raises(TransportException, match="queue is full"):
            sink(EVENT)
    intake.status = 202
    sink(EVENT)
    assert len(intake.errors) == 1


# -- one that is down --------------------------------------------------------------------------------------------------


def test_one_that_is_down_harms_no_other(
    monitoring: ModuleType, elastic: Elastic, intake: Intake, monkeypatch: pytest.MonkeyPatch, closed_port: int
) -> None:
    """While Elasticsearch is down its sink raises; the others get the event, once."""
    up = os.environ["ELASTICSEARCH_URL"]
    monkeypatch.setenv("ELASTICSEARCH_URL", f"http://127.0.0.1:{closed_port}")
    with pytest.raises(ExceptionGroup) as caught:
        monitoring.send_to_monitoring_system(EVENT)
    assert [type(error) for error in caught.value.exceptions] == [elastic_transport.ConnectionError]
    assert len(intake.errors) == 1
    channel = Callback("elasticsearch", monitoring.sinks()["elasticsearch"], 60)
    message = a_message("k", audience=Audience.MACHINE, body=json.dumps(EVENT))
    with pytest.raises(DeliveryError, match="channel 'elasticsearch': ConnectionError"):
        channel.send(message)
    monkeypatch.setenv("ELASTICSEARCH_URL", up)
    monitoring._forget()
    channel.send(message)
    assert list(elastic.documents.values()) == [EVENT]


def test_an_apm_server_that_is_down(monitoring: ModuleType, monkeypatch: pytest.MonkeyPatch, closed_port: int) -> None:
    """While the APM server is down its sink raises, though the agent itself would drop the event."""
    monkeypatch.setenv("ELASTIC_APM_SERVER_URL", f"http://127.0.0.1:{closed_port}")
    for _ in range(2):
        with pytest.raises(TransportException, match="APM Server"):
            monitoring.sinks()["apm"](EVENT)


def test_silent_servers_are_not_waited_for(monitoring: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that takes the connection and never answers is given up."""
    monkeypatch.setattr(monitoring, "ELASTICSEARCH_SECONDS", 0.2)
    monkeypatch.setattr(monitoring, "APM_SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("ELASTICSEARCH_URL", address)
        monkeypatch.setenv("ELASTIC_APM_SERVER_URL", address)
        with pytest.raises(elastic_transport.ConnectionTimeout):
            monitoring.sinks()["elasticsearch"](EVENT)
        with pytest.raises(TransportException):
            monitoring.sinks()["apm"](EVENT)


def report_from_a_child(monitoring: ModuleType) -> None:
    """What a forked child does."""
    monitoring.send_to_monitoring_system({**EVENT, "attempt": 9})


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_makes_its_own_clients(monitoring: ModuleType, elastic: Elastic, intake: Intake) -> None:
    """Parent and child report at will: neither uses the other's connections."""
    monitoring.send_to_monitoring_system(EVENT)
    child = multiprocessing.get_context("fork").Process(target=report_from_a_child, args=(monitoring,))
    child.start()
    child.join()
    assert child.exitcode == 0
    monitoring.send_to_monitoring_system({**EVENT, "attempt": 3})
    assert [one["attempt"] for one in elastic.documents.values()] == [2, 9, 3]
    assert [one["context"]["custom"]["attempt"] for one in intake.errors] == [2, 9, 3]
    assert len({one["process"]["pid"] for one in intake.metadata}) == 2


# -- Prometheus --------------------------------------------------------------------------------------------------------

#: A dispatcher that counts what it is told on stdin, a category on each line, and says what came of it.
DISPATCHER = """
import sys
from app import monitoring

for line in sys.stdin:
    try:
        monitoring.sinks()["prometheus"]({"category": line.strip()})
        print("ok", flush=True)
    except Exception as error:
        print(repr(error), flush=True)
"""


class Dispatcher:
    """A process that counts failures."""

    def __init__(self, env: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", DISPATCHER],
            cwd=env["APP_VAR"],
            env={**env, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def count(self, category: str) -> str:
        """Count one failure; return what the process said."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{category}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def kill(self) -> None:
        """End it as a power failure would."""
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture
def env(tmp_path: Path, free_port: int) -> dict[str, str]:
    """The environment of a dispatcher with a home of its own."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith((*OURS, "FAILURE_", "APP_"))}
    return {**clean, "APP_VAR": str(tmp_path), "PROMETHEUS_PORT": str(free_port)}


@pytest.fixture
def dispatchers(env: dict[str, str]) -> Iterator[tuple[Dispatcher, Dispatcher]]:
    """Two dispatchers with one port."""
    both = (Dispatcher(env), Dispatcher(env))
    yield both
    for one in both:
        one.kill()


def scrape(port: int) -> dict[str, float]:
    """The figures as Prometheus gets them, by category."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        text = answer.read().decode()
    assert "# TYPE task_failures_total counter" in text
    return {name: float(value) for name, value in re.findall(r'task_failures_total{category="(\w+)"} (\S+)', text)}


def test_failures_are_counted(dispatchers: tuple[Dispatcher, Dispatcher], free_port: int) -> None:
    """Failures of several dispatchers stand at one port, added up by category."""
    one, other = dispatchers
    for dispatcher, category in ((one, "network"), (one, "network"), (other, "network"), (other, "unknown")):
        assert dispatcher.count(category) == "ok"
    assert scrape(free_port) == {"network": 3, "unknown": 1}


def test_no_count_is_lost_when_a_dispatcher_dies(
    dispatchers: tuple[Dispatcher, Dispatcher], env: dict[str, str], free_port: int
) -> None:
    """When the dispatcher that has the port is killed, another one takes it over with all counts, a new one too."""
    one, other = dispatchers
    assert one.count("network") == "ok"
    assert other.count("network") == "ok"
    one.kill()
    assert other.count("network") == "ok"
    assert scrape(free_port) == {"network": 3}
    other.kill()
    new = Dispatcher(env)
    assert new.count("system") == "ok"
    figures = scrape(free_port)
    new.kill()
    assert figures == {"network": 3, "system": 1}


def test_a_folder_that_cannot_be_written_is_an_error(env: dict[str, str], tmp_path: Path) -> None:
    """Where no count can be kept the sink raises, and counts when it can."""
    (tmp_path / "metrics").touch()
    dispatcher = Dispatcher(env)
    assert "FileExistsError" in dispatcher.count("network")
    (tmp_path / "metrics").unlink()
    said = dispatcher.count("network")
    dispatcher.kill()
    assert said == "ok"
