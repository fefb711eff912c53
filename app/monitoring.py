"""Failures for Prometheus, Elasticsearch and Elastic APM (G27).

What is not configured in the environment is skipped:

- PROMETHEUS_PORT: the port at which the dispatcher serves /metrics; PROMETHEUS_HOST: its address, else 127.0.0.1.
  Each process counts into files of its own in PROMETHEUS_MULTIPROC_DIR (else APP_VAR/metrics), and whoever has the port
  serves the sum: so several dispatchers may share one port, and a restart loses no count.
- ELASTICSEARCH_URL: for example https://user:password@search.example:9200
- ELASTIC_APM_SERVER_URL: and whatever else `ELASTIC_APM_...` the agent knows, ELASTIC_APM_SECRET_TOKEN for example.

`sinks()` gives one function for each configured system. Each raises while its system is down, so that the outbox tries
that one again, and no other.
"""

from __future__ import annotations

import errno
import gzip
import logging
import os
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import NAMESPACE_OID, uuid5

from elasticapm import Client
from elasticapm.transport.http import Transport
from elasticapm.utils import json_encoder
from elasticapm.utils.threading import ThreadManager

from app.home import VAR
from app.sending import send_to_all
from regrow.errors import SettingsError

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch
    from prometheus_client import Counter

log = logging.getLogger(__name__)

#: How long a system may take to answer, in seconds. The APM agent tries a connection up to four times.
ELASTICSEARCH_SECONDS = 3
APM_SECONDS = 2

_LARGEST_PORT = 65_535


def send_to_monitoring_system(failure_event: Mapping[str, Any]) -> None:
    """Tell every configured system about a failure.

    Raises:
        ExceptionGroup: Some did not take it; the others have it.
    """
    send_to_all(sinks().values(), failure_event, "监控系统发送失败 / monitoring systems did not take the event")


def sinks() -> dict[str, Callable[[Mapping[str, Any]], None]]:
    """One function for each configured system, by name.

    Raises:
        SettingsError: A variable is wrong.
    """
    chosen: dict[str, Callable[[Mapping[str, Any]], None]] = {}
    if _port():
        chosen["prometheus"] = _to_prometheus
    if _url("ELASTICSEARCH_URL"):
        chosen["elasticsearch"] = _to_elasticsearch
    if _url("ELASTIC_APM_SERVER_URL"):
        chosen["apm"] = _to_apm
    return chosen


def _to_prometheus(failure_event: Mapping[str, Any]) -> None:
    failure_counter.inc(labels={"category": failure_event["category"]})


def _to_elasticsearch(failure_event: Mapping[str, Any]) -> None:
    elasticsearch_client.index(index="failure-events", body=failure_event)


def _to_apm(failure_event: Mapping[str, Any]) -> None:
    apm_client.capture_message("Task Failure", extra=failure_event)


# -- the three names of the guide -------------------------------------------------------------------------------------


class FailureCounter:
    """A Prometheus counter, called as the guide calls it: prometheus_client's own `inc` knows no labels."""

    def inc(self, labels: Mapping[str, str]) -> None:
        """Count one failure.

        Raises:
            OSError: The port cannot be opened, or the files cannot be written.
        """
        if _port():
            self.serve()  # first: what is tried again because of the port must not be counted twice
            _metrics().labels(**labels).inc()

    def serve(self) -> None:
        """Open the port in this process, unless it is open."""
        try:
            _server()
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            _say_taken(_port())


class ElasticsearchClient:
    """Elasticsearch's client, made when it is first used in a process."""

    def index(self, index: str, body: Mapping[str, Any]) -> None:
        """Store one event.

        Raises:
            elasticsearch.ApiError: It was refused.
            elasticsearch.TransportError: The server cannot be reached.
        """
        if _url("ELASTICSEARCH_URL"):
            _elasticsearch().index(index=index, document=body, id=_id(body))


class ApmClient:
    """The APM agent's client, called as the guide calls it: its own `capture_message` drops `extra` without a word."""

    def capture_message(self, message: str, extra: Mapping[str, Any]) -> None:
        """Report one event; `extra` becomes its custom context.

        Raises:
            elasticapm.transport.exceptions.TransportException: The server did not take it.
            SettingsError: One of the agent's own variables is wrong.
        """
        if _url("ELASTIC_APM_SERVER_URL"):
            client = _apm()
            if client.config.errors:  # the agent would go on, and send nothing
                raise SettingsError("; ".join(client.config.errors.values()))
            client.capture_message(message, custom=dict(extra))


failure_counter = FailureCounter()
elasticsearch_client = ElasticsearchClient()
apm_client = ApmClient()


# -- the real clients, one of each in a process -----------------------------------------------------------------------


@cache
def _metrics() -> Counter:
    _metrics_folder()
    from prometheus_client import Counter

    return Counter("task_failures", "Failed runs of tasks.", ["category"], registry=None)


@cache
def _server() -> Any:
    folder = _metrics_folder()
    from prometheus_client import CollectorRegistry, start_http_server
    from prometheus_client.multiprocess import MultiProcessCollector

    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=folder)
    return start_http_server(_port(), addr=os.environ.get("PROMETHEUS_HOST") or "127.0.0.1", registry=registry)


def _metrics_folder() -> str:
    """Where the counts lie; prometheus_client reads the variable when it is first imported, and never again."""
    folder = os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", str(VAR / "metrics"))
    Path(folder).mkdir(parents=True, exist_ok=True)
    return folder


@cache
def _say_taken(port: int) -> None:
    log.warning("PROMETHEUS_PORT %d is taken: it is served by another dispatcher of this application, or wrong", port)


@cache
def _elasticsearch() -> Elasticsearch:
    from elasticsearch import Elasticsearch

    # The outbox tries again, and knows when.
    return Elasticsearch(_url("ELASTICSEARCH_URL"), request_timeout=ELASTICSEARCH_SECONDS, max_retries=0)


@cache
def _apm() -> Client:
    return Client(
        service_name="regrow-app",
        transport_class=f"{__name__}.{DirectTransport.__name__}",
        server_timeout=f"{APM_SECONDS}s",
        # It reports failures and nothing else: no threads, no metrics, no questions to a cloud, no hook into logging.
        central_config=False,
        metrics_interval="0s",
        breakdown_metrics=False,
        cloud_provider=False,
        disable_log_record_factory=True,
        auto_log_stacks=False,
    )


class DirectTransport(Transport):
    """Sends each event before `capture_message` returns: the agent's own thread drops what it cannot send.

    Source: https://www.elastic.co/docs/reference/apm/apm-server/ (intake v2: gzipped JSON lines, metadata first).
    """

    def start_thread(self, pid: int | None = None) -> None:
        """Start none."""
        ThreadManager.start_thread(self, pid=pid)

    def queue(self, event_type: str, data: Any, flush: bool = False) -> None:  # noqa: FBT001, FBT002  # the base's
        """Send one event.

        Raises:
            elasticapm.transport.exceptions.TransportException: The server did not take it.
        """
        lines = ({"metadata": self.client.build_metadata()}, {event_type: data})
        self.send(gzip.compress("".join(f"{json_encoder.dumps(line)}\n" for line in lines).encode()))


def _forget() -> None:
    """A forked child makes its own clients: connections and threads are its parent's."""
    for made in (_metrics, _server, _elasticsearch, _apm):
        made.cache_clear()


os.register_at_fork(after_in_child=_forget)


# -- settings and ids -------------------------------------------------------------------------------------------------


def _port() -> int:
    """PROMETHEUS_PORT, 0 if it is not set."""
    value = os.environ.get("PROMETHEUS_PORT", "").strip()
    if not value:
        return 0
    if not (value.isascii() and value.isdigit() and 0 < int(value) <= _LARGEST_PORT):
        raise SettingsError(f"PROMETHEUS_PORT={value!r}: not a port; give a number from 1 to {_LARGEST_PORT}")
    return int(value)


def _url(name: str) -> str:
    """An address from the environment, '' if it is not set."""
    value = os.environ.get(name, "").strip()
    if value and (urlsplit(value).scheme not in ("http", "https") or not urlsplit(value).hostname):
        raise SettingsError(f"{name}: not an address; give one such as http://127.0.0.1:9200")
    return value


def _id(event: Mapping[str, Any]) -> str | None:
    """The same for one failed run, so that an event that is sent twice is stored once; None if it names no run."""
    if event.get("task_id") and event.get("attempt"):
        return str(uuid5(NAMESPACE_OID, f"{event['task_id']}:{event['attempt']}"))
    return None
