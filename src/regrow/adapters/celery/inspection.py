"""What Celery says about a set-up: application, broker, workers, result backend. Sends no task and stores nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from celery import Celery
from celery.app.backends import by_url
from celery.backends.base import DisabledBackend, KeyValueStoreBackend
from celery.backends.database import DatabaseBackend
from celery.backends.rpc import RPCBackend
from kombu.connection import Connection
from kombu.entity import Queue
from kombu.transport import filesystem
from kombu.utils.url import maybe_sanitize_url
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

from regrow.model import AppFacts, BrokerFacts, QueueFacts, ResultsFacts, Scheduled, TaskFacts, WorkersFacts
from regrow.ports import Clock

Answer = TypeVar("Answer")

#: How long a server may take to accept a connection.
CONNECT_SECONDS = 4.0

#: How long the workers' answers are waited for.
ANSWER_SECONDS = 2.0

#: Kinds of brokers (kombu's `driver_type`) that hold a message only while nobody has taken it: what a worker held that
#: was killed is gone. Source: their transports in kombu 5.7, whose `_get` removes the message.
FORGETFUL = frozenset({"filesystem", "memory", "sql", "consul", "etcd", "mongodb", "pyro", "zookeeper"})

#: Kinds that deliver again what was not acknowledged for so many seconds, if the options do not say how many.
#: Source: `visibility_timeout` and `default_visibility_timeout` of these transports in kombu 5.7.
VISIBILITY_SECONDS = {"redis": 3600.0, "sqs": 1800.0, "pgmq": 1800.0}

#: A visibility time-out under which nothing is ever delivered again.
NEVER_SECONDS = 10**9


# -- the application --------------------------------------------------------------------------------------------------


def app_facts(app: Celery, name: str) -> AppFacts:
    """What the application says of itself; loads its tasks."""
    installed = getattr(app, "regrow", None)
    errors: list[str] = []

    def tried(ask: Callable[[], Answer], otherwise: Answer) -> Answer:
        # What an application does when it is loaded is its own.
        try:
            return ask()
        except Exception as problem:
            errors.append(_said(problem))
            return otherwise

    tried(app.loader.import_default_modules, None)
    return AppFacts(
        name=name,
        installed=installed is not None,
        given=frozenset(installed.settings) if installed is not None else frozenset(),
        tasks=tried(lambda: _tasks(app), ()),
        beat=tried(lambda: _beat(app), {}),
        default_queue=str(app.conf.task_default_queue),
        queues=tried(lambda: tuple(_queue(one.as_dict(recurse=True)) for one in app.amqp.queues.values()), ()),
        error=errors[0] if errors else "",
    )


def _tasks(app: Celery) -> tuple[TaskFacts, ...]:
    return tuple(_task(app, task) for name, task in sorted(app.tasks.items()) if not name.startswith("celery."))


def _beat(app: Celery) -> dict[str, str]:
    # An entry is what the application has written, or a ScheduleEntry, which has the same names.
    entries = dict(app.conf.beat_schedule or {}).items()
    return {name: _goes_to(app, one if isinstance(one, Mapping) else vars(one)) for name, one in entries}


def _task(app: Celery, task: Any) -> TaskFacts:
    wait, said = float(task.default_retry_delay or 0), task.default_retry_delay != app.Task.default_retry_delay
    retries, backoff = task.max_retries, getattr(task, "retry_backoff", False)
    if getattr(task, "autoretry_for", ()):
        said = True
        if backoff:  # as celery.app.autoretry reads it
            longest = float(getattr(task, "retry_backoff_max", 600))
            wait = (
                min(longest, max(1.0, float(backoff)) * 2 ** min(retries or 0, 32)) if retries is not None else longest
            )
    limit = task.time_limit or app.conf.task_time_limit
    return TaskFacts(
        name=str(task.name),
        retry_seconds=0.0 if retries == 0 else wait,
        retry_said=said,
        limit_seconds=float(limit) if limit else None,
        late=bool(task.acks_late),
    )


def _goes_to(app: Celery, entry: Mapping[str, Any]) -> str:
    """The queue to which beat sends an entry's task: as the entry says, else the task, else the router."""
    name = str(entry["task"])
    task = app.tasks.get(name)
    options = dict(task._get_exec_options()) if task is not None else {}  # noqa: SLF001
    options |= entry.get("options") or {}
    args, kwargs = entry.get("args") or (), entry.get("kwargs") or {}
    route = app.amqp.router.route(options, name, args, kwargs, task)
    queue = route.get("queue")
    return str(queue.name if isinstance(queue, Queue) else queue or route.get("routing_key") or "")


def _queue(described: Mapping[str, Any]) -> QueueFacts:
    exchange = described.get("exchange") or {}
    return QueueFacts(
        name=str(described["name"]),
        key=str(described.get("routing_key") or ""),
        kind=str(exchange.get("type") or "direct"),
    )


# -- broker and workers -----------------------------------------------------------------------------------------------


def broker_facts(app: Celery) -> BrokerFacts:
    """What kind of broker it is, without asking it.

    Raises:
        Exception: Its address cannot be used, or a package for it is missing.
    """
    with app.connection_for_read() as connection:
        transport = connection.get_transport_cls()
        driver = str(transport.driver_type).lower()
        visibility = VISIBILITY_SECONDS.get(driver)
        if visibility is not None:
            visibility = float(connection.transport_options.get("visibility_timeout") or visibility)
        return BrokerFacts(
            place=_place(connection),
            driver=driver,
            redelivers=driver not in FORGETFUL,
            loses_messages=transport is filesystem.Transport,
            visibility_seconds=visibility,
        )


def _driver(app: Celery) -> str:
    with app.connection_for_read() as connection:
        return str(connection.get_transport_cls().driver_type).lower()


def _place(connection: Connection) -> str:
    """Its address without password; kombu writes a mask also where there is none."""
    address = str(connection.as_uri())
    return address if connection.userid or connection.password else address.replace("//:**@", "//", 1)


def _connected(app: Celery) -> Connection:
    # Any client of Redis delivers again what it finds too old, and this one changes nothing.
    options = {"visibility_timeout": NEVER_SECONDS} if _driver(app) == "redis" else {}
    connection: Connection = app.connection_for_read(connect_timeout=CONNECT_SECONDS, transport_options=options)
    # Celery's own way tries again and again.
    connection.ensure_connection(max_retries=1, interval_start=0.1, timeout=CONNECT_SECONDS)
    return connection


def reach_broker(app: Celery) -> None:
    """Connect to the broker.

    Raises:
        Exception: It cannot be reached.
    """
    with _connected(app) as connection:
        connection.default_channel  # noqa: B018  # virtual transports reach for their server here


def workers_facts(app: Celery, clock: Clock) -> WorkersFacts:
    """Ask all workers at once; one that is alive answers, unless it has one process, which is at work.

    Raises:
        Exception: The broker cannot carry questions.
    """
    with _connected(app) as connection:
        control = app.control
        queues = control.inspect(timeout=ANSWER_SECONDS, connection=connection).active_queues() or {}
        waiting: dict[str, Any] = {}
        if queues:  # those who are there need not be waited for
            ask = control.inspect(timeout=ANSWER_SECONDS, connection=connection, limit=len(queues))
            waiting = ask.scheduled() or {}
    named = {str(name): tuple(map(_queue, taken)) for name, taken in queues.items() if isinstance(taken, list)}
    now = clock()
    held = [one for held in waiting.values() if isinstance(held, list) for one in held if one.get("eta")]
    scheduled = [Scheduled(str(one["request"]["name"]), (_instant(one["eta"]) - now).total_seconds()) for one in held]
    return WorkersFacts(named, max(scheduled, key=lambda one: one.seconds, default=None))


def _instant(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


# -- results ----------------------------------------------------------------------------------------------------------


def results_facts(app: Celery) -> ResultsFacts:
    """What kind of result backend there is, without asking it.

    Raises:
        Exception: Its address cannot be used, or a package for it is missing.
    """
    kind, url = _backend(app)
    if issubclass(kind, DisabledBackend):
        return ResultsFacts(disabled=True)
    if issubclass(kind, RPCBackend):
        return ResultsFacts("rpc://", chords=False)
    return ResultsFacts(str(maybe_sanitize_url(url)))


def reach_results(app: Celery) -> None:
    """Read a result that does not exist.

    Raises:
        Exception: The backend cannot be reached.
    """
    kind, url = _backend(app)
    if issubclass(kind, (DisabledBackend, RPCBackend)):
        return  # nobody is to be asked, or the broker, which is asked elsewhere
    if issubclass(kind, DatabaseBackend):
        _reach_database(url)
        return
    backend, nobody = app.backend, f"regrow-doctor-{uuid4()}"
    if isinstance(backend, KeyValueStoreBackend):
        backend.get(backend.get_key_for_task(nobody))
    else:
        backend.get_task_meta(nobody, cache=False)


def _backend(app: Celery) -> tuple[type[Any], str]:
    """The backend's class and address, as Celery finds them. One on a database makes its tables when it is made."""
    kind, url = by_url(app.backend_cls or app.conf.result_backend, app.loader)
    return kind, str(url or app.conf.result_backend or "")


def _reach_database(address: str) -> None:
    """SQLite would make a file that is not there."""
    url = make_url(address)
    if url.get_backend_name() == "sqlite":
        file = Path(url.database or "")
        if not url.database or url.database.startswith(("file:", ":")):
            return
        if not file.exists():
            if not os.access(file.absolute().parent, os.W_OK | os.X_OK):
                raise OSError(f"the folder {file.absolute().parent} is not there or not writable")
            return
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))


def _said(error: BaseException) -> str:
    """An exception on one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
