"""RabbitMQ through py-amqp, kombu, pika and Celery: the shared server, and ports where something else listens."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import amqp
import kombu
from celery import Celery
from kombu import Exchange, Queue
from kombu.serialization import dumps, loads

from regrow.model import CONFIG, DATA, NETWORK, TEMPORARY
from tests.celery_worker import new_key
from tests.provoked import servers
from tests.provoked.servers import closed_port, serve
from tests.provoked.table import Case, Field, check
from tests.services import require, require_library

broker = Field("broker")


def _there() -> None:
    require("127.0.0.1", 5672, "RabbitMQ")


@contextmanager
def _kombu(**parts: Any) -> Iterator[Any]:
    """A channel."""
    usual = {"hostname": "127.0.0.1", "port": 5672, "userid": "guest", "password": "guest", "connect_timeout": 10}
    usual["transport_options"] = {"max_retries": 1, "interval_start": 0, "interval_step": 0}
    with kombu.Connection(transport="pyamqp", **{**usual, **parts}) as connection:
        yield connection.default_channel


@contextmanager
def _amqp(**parts: Any) -> Iterator[Any]:
    host, port = parts.pop("hostname", "127.0.0.1"), parts.pop("port", 5672)
    usual = {"userid": "guest", "password": "guest", "connect_timeout": 10, "read_timeout": 10}
    connection = amqp.Connection(f"{host}:{port}", **{**usual, **parts})
    try:
        connection.connect()
        yield connection.channel()
    finally:
        with contextlib.suppress(Exception):
            connection.close()


class _PikaChannel:
    """pika's channel with the three methods that the cases use, named as py-amqp has them."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel

    def queue_declare(self, queue: str, **options: Any) -> None:
        self.channel.queue_declare(queue, **options)

    def queue_delete(self, queue: str) -> None:
        self.channel.queue_delete(queue)

    def exchange_declare(self, exchange: str, type: str) -> None:
        self.channel.exchange_declare(exchange, type)

    def basic_get(self, queue: str) -> None:
        self.channel.basic_get(queue)

    def queue_bind(self, queue: str, exchange: str) -> None:
        self.channel.queue_bind(queue, exchange)


@contextmanager
def _pika(**parts: Any) -> Iterator[_PikaChannel]:
    pika = require_library("pika")
    credentials = pika.PlainCredentials(parts.get("userid", "guest"), parts.get("password", "guest"))
    parameters = pika.ConnectionParameters(
        parts.get("hostname", "127.0.0.1"),
        parts.get("port", 5672),
        parts.get("virtual_host", "/"),
        credentials,
        socket_timeout=5,
        stack_timeout=parts.get("connect_timeout", 10),
        blocked_connection_timeout=10,
    )
    connection = pika.BlockingConnection(parameters)
    try:
        yield _PikaChannel(connection.channel())
    finally:
        with contextlib.suppress(Exception):
            connection.close()


CLIENTS: dict[str, Callable[..., Any]] = {"kombu": _kombu, "amqp": _amqp, "pika": _pika}


def _connect(client: Callable[..., Any], **parts: Any) -> None:
    if "port" not in parts and "hostname" not in parts:
        _there()
    with client(**parts):
        pass


def _act(client: Callable[..., Any], act: Callable[[Any], object]) -> None:
    _there()
    with client() as channel:
        act(channel)


def _other_arguments(channel: Any) -> None:
    name = f"regrow-provoked-{new_key()}"
    channel.queue_declare(name, exclusive=True, durable=False)
    channel.queue_declare(name, exclusive=True, durable=False, arguments={"x-max-length": 5})


def _exclusive(client: Callable[..., Any]) -> None:
    _there()
    name = f"regrow-provoked-{new_key()}"
    with client() as one, client() as two:
        one.queue_declare(name, exclusive=True)
        two.queue_declare(name, passive=True)


def _hang_up(client: Callable[..., Any]) -> None:
    with serve(servers.hang_up) as port:
        _connect(client, port=port)


def _silent(client: Callable[..., Any]) -> None:
    with serve(servers.silent) as port:
        _connect(client, port=port, connect_timeout=1)


for _name, _client in CLIENTS.items():
    broker.add(f"wrong-password/{_name}", CONFIG, lambda c=_client: _connect(c, password="wrong"))
    broker.add(f"unknown-user/{_name}", CONFIG, lambda c=_client: _connect(c, userid="nobody"))
    broker.add(f"missing-virtual-host/{_name}", CONFIG, lambda c=_client: _connect(c, virtual_host="gone"))
    broker.add(f"refused/{_name}", TEMPORARY, lambda c=_client: _connect(c, port=closed_port()))
    broker.add(f"dns/{_name}", TEMPORARY, lambda c=_client: _connect(c, hostname="regrow.invalid"))
    broker.add(f"closed-at-once/{_name}", TEMPORARY, lambda c=_client: _hang_up(c))
    broker.add(f"connect-timeout/{_name}", TEMPORARY, lambda c=_client: _silent(c))
    broker.add(
        f"missing-queue/{_name}", CONFIG, lambda c=_client: _act(c, lambda ch: ch.queue_declare("gone", passive=True))
    )
    broker.add(f"missing-queue-at-get/{_name}", CONFIG, lambda c=_client: _act(c, lambda ch: ch.basic_get("gone")))
    broker.add(
        f"missing-exchange/{_name}",
        CONFIG,
        lambda c=_client: _act(c, lambda ch: (ch.queue_declare("", exclusive=True), ch.queue_bind("", "gone"))),
    )
    broker.add(f"other-arguments/{_name}", CONFIG, lambda c=_client: _act(c, _other_arguments))
    broker.add(f"reserved-name/{_name}", CONFIG, lambda c=_client: _act(c, lambda ch: ch.queue_declare("amq.mine")))
    broker.add(
        f"unknown-exchange-type/{_name}",
        CONFIG,
        lambda c=_client: _act(c, lambda ch: ch.exchange_declare("regrow-provoked-odd", "no-such-type")),
    )
    broker.add(f"queue-of-another-connection/{_name}", (CONFIG, TEMPORARY), lambda c=_client: _exclusive(c))


@broker.case("unroutable/pika", CONFIG)
def _unroutable() -> None:
    _there()
    with _pika() as channel:
        channel.channel.confirm_delivery()
        channel.channel.basic_publish("", "regrow-provoked-gone", b"x", mandatory=True)


@broker.case("full-queue/pika", TEMPORARY)
def _full_queue() -> None:
    _there()
    with _pika() as channel:
        name = f"regrow-provoked-{new_key()}"
        channel.queue_declare(name, exclusive=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
        channel.channel.confirm_delivery()
        for _ in range(5):
            channel.channel.basic_publish("", name, b"x")


@broker.case("channel-that-is-closed/pika", TEMPORARY, DATA)
def _closed_channel() -> None:
    _there()
    with _pika() as channel:
        channel.channel.close()
        channel.basic_get("x")


@broker.case("stopped-in-a-session/kombu", TEMPORARY)
def _cut() -> None:
    _there()
    connections: list[socket.socket] = []

    def forward(connection: socket.socket) -> None:
        """Both ways between client and server, until the test cuts it."""
        import threading

        connections.append(connection)
        with socket.create_connection(("127.0.0.1", 5672), timeout=30) as server:

            def back() -> None:
                with contextlib.suppress(OSError):
                    while data := server.recv(65536):
                        connection.sendall(data)

            thread = threading.Thread(target=back, daemon=True)
            thread.start()
            while data := connection.recv(65536):
                server.sendall(data)
            server.shutdown(socket.SHUT_RDWR)
            thread.join(servers.PATIENCE_SECONDS)

    with serve(forward) as port, _kombu(port=port) as channel:
        connections[0].shutdown(socket.SHUT_RDWR)
        channel.queue_declare("", exclusive=True)


# -- Celery ------------------------------------------------------------------------------------------------------------


@contextmanager
def _celery(url: str, **conf: Any) -> Iterator[Celery]:
    app = Celery("provoked", broker=url, set_as_current=False)
    # No pool: kombu keeps one for each address, and a failed send would leave it closed or waiting for the next.
    app.conf.update(broker_pool_limit=None, broker_connection_timeout=2, **conf)
    app.conf.broker_transport_options = {"max_retries": 0}
    try:
        yield app
    finally:
        app.close()


@broker.case("send-to-a-refused-broker/celery", TEMPORARY)
def _send_refused() -> None:
    with _celery(f"amqp://guest:guest@127.0.0.1:{closed_port()}//") as app:
        app.send_task("orders.ship", retry=False)


@broker.case("send-to-a-refused-redis/celery", TEMPORARY)
def _send_refused_redis() -> None:
    with _celery(f"redis://127.0.0.1:{closed_port()}/0") as app:
        app.send_task("orders.ship", retry=False)


@broker.case("send-with-wrong-password/celery", CONFIG)
def _send_password() -> None:
    _there()
    with _celery("amqp://guest:wrong@127.0.0.1:5672//") as app:
        app.send_task("orders.ship", retry=False)


@broker.case("no-such-transport/celery", CONFIG)
def _transport() -> None:
    with _celery("rabbit://guest@127.0.0.1//") as app:
        app.send_task("orders.ship", retry=False)


@broker.case("queue-not-declared/celery", CONFIG)
def _queue_not_found() -> None:
    with _celery("memory://", task_create_missing_queues=False, task_queues=[Queue("known", Exchange("known"))]) as app:
        app.send_task("orders.ship", queue="gone", retry=False)


@broker.case("unregistered-task/celery", CONFIG)
def _unregistered() -> None:
    with _celery("memory://") as app:
        app.tasks["orders.ship"]


@broker.case("argument-without-json/celery", DATA)
def _encode() -> None:
    with _celery("memory://") as app:
        app.send_task("orders.ship", args=[object()], retry=False)


@broker.case("no-such-serializer/celery", CONFIG)
def _serializer() -> None:
    with _celery("memory://") as app:
        app.send_task("orders.ship", serializer="no-such", retry=False)


@broker.case("no-such-result-backend/celery", CONFIG)
def _backend() -> None:
    with _celery("memory://", result_backend="no-such://") as app:
        app.backend.get("x")


@broker.case("no-result-backend/celery", CONFIG)
def _no_backend() -> None:
    with _celery("memory://") as app:
        app.AsyncResult("x").get(timeout=1)


@broker.case("result-of-a-refused-redis/celery", TEMPORARY)
def _backend_refused() -> None:
    options = {"redis_backend_health_check_interval": 0, "result_backend_max_retries": 0}
    with _celery("memory://", result_backend=f"redis://127.0.0.1:{closed_port()}/0", **options) as app:
        app.backend.client.get("x")


@broker.case("result-in-time/celery", TEMPORARY, NETWORK)
def _result_timeout() -> None:
    with _celery("memory://", result_backend="cache+memory://") as app:
        app.AsyncResult("x").get(timeout=0.05, interval=0.01)


@broker.case("no-json/kombu", DATA)
def _decode() -> None:
    loads(b"{oops", "application/json", "utf-8")


@broker.case("forbidden-pickle/kombu", CONFIG)
def _pickle() -> None:
    kind, coding, body = dumps({"a": 1}, serializer="pickle")
    loads(body, kind, coding, accept={"application/json"})


@broker.case("unknown-content-type/kombu", CONFIG, DATA)
def _content_type() -> None:
    loads(b"x", "application/x-odd", "utf-8", accept={"application/json"})


@broker.each()
def test_broker(case: Case) -> None:
    """A broker that is away is an outage; what it lacks is set-up."""
    check(case)
