"""What the dispatcher publishes in one go is what Celery would publish, field by field; and what a broker refuses."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery, Task, signals
from celery.app.task import Context
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kombu import Exchange, Queue

from regrow.adapters.celery import envelope
from regrow.adapters.celery.letters import Letters
from regrow.adapters.celery.publishing import Publisher
from regrow.model import Due, Header, State
from tests.services import require

REDIS = "redis://127.0.0.1:6379/11"
RABBITMQ = "amqp://guest:guest@127.0.0.1:5672//"
PREFIX = f"pub-{uuid4().hex[:8]}"
ROUTES = {"pub.routed": {"queue": f"{PREFIX}-topic", "routing_key": "a.routed", "priority": 7}}
MAIN, TOPIC, NOWHERE = f"{PREFIX}-main", f"{PREFIX}-topic", f"{PREFIX}-nowhere"


class Own(Task):
    """Has a way to be sent of its own."""

    abstract = True

    def apply_async(self, *args: Any, **options: Any) -> Any:
        """Mark what it sends."""
        headers = {**(options.pop("headers", None) or {}), "tenant": "t1"}
        return super().apply_async(*args, headers=headers, **options)


@pytest.fixture(scope="module", params=["redis", "rabbitmq"])
def app(request: pytest.FixtureRequest) -> Iterator[Celery]:
    """An application on a real broker."""
    if request.param == "redis":
        require("127.0.0.1", 6379, "Redis")
    else:
        require("127.0.0.1", 5672, "RabbitMQ")
    made = Celery("pub", broker=REDIS if request.param == "redis" else RABBITMQ, set_as_current=False)
    made.conf.task_default_queue = MAIN
    made.conf.task_queues = [
        Queue(MAIN, Exchange(MAIN), routing_key=MAIN, max_priority=10),
        Queue(TOPIC, Exchange(TOPIC, type="topic"), routing_key="a.#"),
    ]
    made.conf.task_routes = ROUTES
    made.conf.task_create_missing_queues = True

    @made.task(shared=False, name="pub.plain")
    def plain(*_args: Any, **_kwargs: Any) -> None:
        """Do nothing."""

    @made.task(shared=False, name="pub.preset", time_limit=300, soft_time_limit=200, ignore_result=True, expires=60)
    def preset(*_args: Any, **_kwargs: Any) -> None:
        """Do nothing."""

    @made.task(shared=False, name="pub.routed")
    def routed(*_args: Any, **_kwargs: Any) -> None:
        """Do nothing."""

    @made.task(shared=False, name="pub.strict")
    def strict(_a: int, *, _b: int = 0) -> None:
        """Do nothing."""

    @made.task(shared=False, name="pub.own", base=Own)
    def own(*_args: Any, **_kwargs: Any) -> None:
        """Do nothing."""

    made.finalize()
    with made.connection_for_write() as connection:
        for queue in made.conf.task_queues:
            queue(connection.default_channel).declare()
    yield made
    with made.connection_for_write() as connection:
        for queue in made.conf.task_queues:
            queue(connection.default_channel).delete()
    made.close()


@pytest.fixture(autouse=True)
def nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests leave receivers behind (Sentry's, tracing's), with which all of it would go through Celery itself."""
    for signal in (signals.before_task_publish, signals.after_task_publish, signals.task_sent):
        monkeypatch.setattr(signal, "receivers", [])


def due_of(text: str | None, number: int = 1, *, parked: bool = True) -> Due:
    """A failure that waits to be sent."""
    task_id = f"{PREFIX}-{number}"
    return Due(
        number, task_id, "pub", "x", State.SCHEDULED, 1, "t" * 32, parked, False, 0, 0, False, text, "{}", False
    )  # fmt: skip


def kept(app: Celery, name: str, args: Any = (), kwargs: Any = None, **request: Any) -> str:
    """A call as it is kept when its task fails."""
    task = app.tasks[name] if name in app.tasks else app.tasks["pub.plain"]
    about = {"id": f"{PREFIX}-1", "args": list(args), "kwargs": kwargs or {}, "headers": {}, **request}
    about.setdefault("delivery_info", {"exchange": "", "routing_key": MAIN, "priority": None, "redelivered": False})
    text = envelope.keep(task, Context(about), limit=1_000_000)
    assert text is not None
    return text if name in app.tasks else text.replace('"pub.plain"', json.dumps(name))


def read(app: Celery) -> list[dict[str, Any]]:
    """Take all messages out of the queues."""
    found = []
    with app.connection_for_read() as connection:
        channel = connection.default_channel
        for queue in (MAIN, TOPIC, "celery"):
            if app.conf.broker_url == REDIS:
                for step in channel.priority_steps:
                    while (raw := channel.client.rpop(channel._q_for_pri(queue, step))) is not None:
                        message = json.loads(raw)
                        message["step"] = step
                        del message["properties"]["delivery_tag"]
                        found.append(message)
            else:
                Queue(queue, channel=channel, max_priority=10 if queue == MAIN else None)
                try:
                    while (got := channel.basic_get(queue, no_ack=True)) is not None:
                        info = {name: got.delivery_info[name] for name in ("exchange", "routing_key")}
                        found.append({"body": got.body, "info": info, **got.properties})
                except connection.channel_errors:
                    channel = connection.channel()
    return found


@contextmanager
def through_celery() -> Iterator[None]:
    """Somebody listens to what is published, so all of it goes through Celery itself."""

    def listen(**_said: object) -> None:
        """Do nothing."""

    signals.before_task_publish.connect(listen)
    try:
        yield
    finally:
        signals.before_task_publish.disconnect(listen)


def both(
    app: Celery, due: Due, header: Header, *, direct: bool = True
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What we publish, `direct`ly or through Celery, and what Celery does."""
    read(app)
    publisher = Publisher(app)
    assert Letters(app).able() or not direct
    assert publisher.publish([(due, header)]) == {}
    ours = read(app)
    with through_celery():
        assert publisher.publish([(due, header)]) == {}
    publisher.close()
    return ours, read(app)


HEADER = Header(7, 2, "t" * 32)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
STEP = {
    "task": "pub.plain",
    "args": [1],
    "kwargs": {},
    "options": {"queue": MAIN},
    "subtask_type": None,
    "immutable": False,
}
REQUESTS = st.fixed_dictionaries(
    {},
    optional={
        "group": st.just("g1"),
        "group_index": st.integers(0, 9),
        "chord": st.just({**STEP, "chord_size": 2}),
        "chain": st.just([STEP, STEP]),
        "callbacks": st.just([STEP]),
        "errbacks": st.just([STEP]),
        "timelimit": st.just([30, 20]) | st.just([None, None]),
        "root_id": st.just("r"),
        "parent_id": st.just("p"),
        "shadow": st.just("another name"),
        "retries": st.integers(0, 9),
        "reply_to": st.just("6c9a1b"),
        "origin": st.just("gen1@host"),
        "ignore_result": st.booleans(),
        "replaced_task_nesting": st.integers(0, 2),
        "expires": st.just("2030-01-01T00:00:00+00:00"),
        "argsrepr": st.just("(***)"),
        "headers": st.just({"traceparent": "00-ab-cd-01"}),
        "delivery_info": st.sampled_from(
            [
                {"exchange": "", "routing_key": MAIN, "priority": 6, "redelivered": False},
                {"exchange": MAIN, "routing_key": MAIN, "priority": 0, "redelivered": True},
                {"exchange": TOPIC, "routing_key": "a.b", "priority": None, "redelivered": False},
            ]
        ),
    },
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["pub.plain", "pub.preset", "pub.routed", "pub.unknown"]),
    args=st.lists(JSON, max_size=3),
    kwargs=st.dictionaries(st.text(max_size=4), JSON, max_size=2),
    request=REQUESTS,
    close=st.booleans(),
    parked=st.booleans(),
)
def test_the_same_message(
    app: Celery, name: str, args: Any, kwargs: Any, request: dict[str, Any], *, close: bool, parked: bool
) -> None:
    """Body, headers, properties, place: all that Celery would have sent, and nothing else."""
    due = due_of(kept(app, name, args, kwargs, **request), parked=parked)
    header = Header(7, 2, "t" * 32, close=close, error='{"exc_type": "E"}' if close else "")
    ours, theirs = both(app, due, header)
    assert len(ours) == 1
    assert ours == theirs


@pytest.mark.parametrize("change", ["route", "own", "objects", "receiver"])
def test_what_only_celery_can_do(app: Celery, change: str) -> None:
    """A router in code, a task's own `apply_async`, objects in the arguments, a receiver that changes headers."""
    name = "pub.own" if change == "own" else "pub.plain"
    args = [{"__type__": "date", "__value__": "2026-01-01"}] if change == "objects" else [1]
    text = kept(app, name).replace('"args": []', f'"args": {json.dumps(args)}')
    app.conf.task_routes = (lambda *_args, **_more: {"priority": 3},) if change == "route" else ROUTES
    app.amqp.__dict__.pop("router", None)

    def mark(headers: dict[str, Any], **_said: object) -> None:
        """Add a header, as tracing does."""
        headers["traced"] = "yes"

    try:
        if change == "receiver":
            signals.before_task_publish.connect(mark)
        ours, theirs = both(app, due_of(text), HEADER, direct=change not in ("route", "receiver"))
    finally:
        signals.before_task_publish.disconnect(mark)
        app.conf.task_routes = ROUTES
        app.amqp.__dict__.pop("router", None)
    assert ours == theirs
    assert len(ours) == 1
    said = json.dumps(ours, default=str)
    if change == "own":
        assert "tenant" in said
    if change == "receiver":
        assert "traced" in said


def test_bad_ones_do_not_stop_the_others(app: Celery) -> None:
    """A call that was not kept, one that no longer fits its task, one for an exchange that is gone: each by itself."""
    read(app)
    gone = {"exchange": NOWHERE, "routing_key": "x", "priority": None, "redelivered": False}
    texts = [
        kept(app, "pub.plain", [1]),
        None,
        kept(app, "pub.strict", [1, 2, 3]),
        kept(app, "pub.plain", [2], delivery_info=gone),
        kept(app, "pub.plain", [3]),
        '{"task": "pub.plain"}',
        kept(app, "pub.plain", [4], delivery_info={**gone, "exchange": TOPIC, "routing_key": "unbound"}),
        kept(app, "pub.plain", [5]),
    ]
    calls = [(due_of(text, number), Header(number, 2, "t" * 32)) for number, text in enumerate(texts)]
    publisher = Publisher(app)
    with warnings.catch_warnings():
        refused = publisher.publish(calls)
    publisher.close()
    assert {number: error.permanent for number, error in refused.items()} == dict.fromkeys([1, 2, 3, 5, 6], True)
    assert len({json.dumps(one, default=str) for one in read(app)}) == 3


def test_a_connection_that_died_at_rest(app: Celery) -> None:
    """The dispatcher does not notice: what it sends next goes over a new one."""
    read(app)
    publisher = Publisher(app)
    text = kept(app, "pub.plain", [1])
    assert publisher.publish([(due_of(text, 1), HEADER)]) == {}
    _cut(publisher)
    assert publisher.publish([(due_of(text, number), HEADER) for number in range(3)]) == {}
    publisher.close()
    assert len(read(app)) == 4


def _cut(publisher: Publisher) -> None:
    """Close the socket under it."""
    line: Any = publisher._line
    if hasattr(line._channel, "client"):
        for connection in line._channel.pool._available_connections:
            connection._sock.close()
    else:
        line._connection._connection.transport.sock.close()


@pytest.mark.parametrize("broker", ["redis", "amqp"])
def test_a_broker_that_is_down(broker: str) -> None:
    """All of the batch is refused for now, and none for ever."""
    app = Celery("down", broker=f"{broker}://127.0.0.1:1//", set_as_current=False)
    app.conf.broker_transport_options = {"socket_connect_timeout": 1, "max_retries": 0}
    text = '{"task": "t", "args": [], "kwargs": {}, "options": {"task_id": "x", "queue": "celery"}}'
    publisher = Publisher(app)
    refused = publisher.publish([(due_of(text, number), HEADER) for number in range(5)])
    assert {number: error.permanent for number, error in refused.items()} == dict.fromkeys(range(5), False)
    app.close()
