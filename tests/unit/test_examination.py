"""The parts of an examination that need no server: questions with an end, and what the disk says."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from threading import Event

import pytest
from celery import Celery
from kombu import Exchange, Queue

from regrow.adapters.bounded import Question
from regrow.adapters.celery import inspection
from regrow.adapters.machine import folder_facts, spool_facts
from regrow.adapters.spool import Spool
from regrow.model import BrokerFacts, ResultsFacts

#: Celery still heeds the attribute, and so do we.
pytestmark = pytest.mark.filterwarnings("ignore::celery.exceptions.CDeprecationWarning")


def test_question() -> None:
    """An answer is given, an error is raised, and what hangs is left alone."""
    assert Question(lambda: 7).answer(5) == 7
    with pytest.raises(ZeroDivisionError):
        Question(lambda: 1 // 0).answer(5)
    never = Event()
    with pytest.raises(TimeoutError, match=r"no answer within 0\.05 s"):
        Question(never.wait).answer(0.05)
    never.set()


def test_folders(tmp_path: Path) -> None:
    """A folder that is there, or can be made, is fine, and nothing is left in it; one under a file is not."""
    (tmp_path / "file").write_text("")
    assert folder_facts("FAILURE_LOGS_DIR", tmp_path).error == ""
    assert folder_facts("FAILURE_LOGS_DIR", tmp_path / "a" / "b").error == ""
    assert folder_facts("FAILURE_LOGS_DIR", tmp_path / "file" / "b").error == "Not a directory"
    assert os.listdir(tmp_path) == ["file"]


def test_spool(tmp_path: Path) -> None:
    """What waits is told from what was put aside; a spool that was never needed is empty."""
    spool = Spool(tmp_path / "spool", limit_bytes=100)
    assert (spool_facts(spool).waiting_bytes, spool_facts(spool).oldest_at) == (0, None)
    spool.folder.mkdir()
    for name, text, at in (("1.spool", "abc", 50), ("2.taken", "de", 40), ("3.damaged", "f", 30), ("other", "x", 1)):
        (spool.folder / name).write_text(text)
        os.utime(spool.folder / name, (at, at))
    found = spool_facts(spool)
    assert (found.waiting_bytes, found.damaged_bytes) == (5, 1)
    assert found.oldest_at == datetime.fromtimestamp(40, UTC)


def an_app(**conf: object) -> Celery:
    """An application with tasks and queues."""
    app = Celery("shop", set_as_current=False, broker="memory://", fixups=[])
    app.conf.update(**conf)

    @app.task(name="shop.plain", shared=False)
    def plain() -> None: ...

    @app.task(name="shop.backs_off", shared=False, autoretry_for=(OSError,), retry_backoff=10, max_retries=3)
    def backs_off() -> None: ...

    @app.task(name="shop.own_queue", shared=False, queue="own", max_retries=0, time_limit=9, acks_late=True)
    def own_queue() -> None: ...

    return app


def test_tasks() -> None:
    """What a task says of itself is read as Celery reads it."""
    facts = inspection.app_facts(an_app(), "shop")
    assert facts.error == ""
    plain, backs_off, own = (
        next(task for task in facts.tasks if task.name == f"shop.{name}")
        for name in ("plain", "backs_off", "own_queue")
    )
    assert (plain.retry_seconds, plain.retry_said, plain.limit_seconds, plain.late) == (180, False, None, False)
    assert (backs_off.retry_seconds, backs_off.retry_said) == (80, True)
    assert (own.retry_seconds, own.limit_seconds, own.late) == (0, 9, True)
    assert not facts.installed
    assert not any(task.name.startswith("celery.") for task in facts.tasks)


def test_where_beat_sends() -> None:
    """An entry's own queue goes first, then its task's, then the router's, then the default."""
    beat = {
        "own": {"task": "shop.own_queue", "schedule": 1},
        "said": {"task": "shop.own_queue", "schedule": 1, "options": {"queue": "said", "expires": 9}},
        "routed": {"task": "shop.elsewhere", "schedule": 1, "args": (1,)},
        "default": {"task": "shop.plain", "schedule": 1},
        "named": {"task": "shop.plain", "schedule": 1, "options": {"queue": Queue("object")}},
    }
    app = an_app(beat_schedule=beat, task_routes={"shop.else*": {"queue": "routed"}}, task_default_queue="main")
    facts = inspection.app_facts(app, "shop")
    assert facts.error == ""
    assert facts.beat == {"own": "own", "said": "said", "routed": "routed", "default": "main", "named": "object"}
    assert facts.default_queue == "main"


def test_queues() -> None:
    """A queue is known with the key that leads to it."""
    queues = [Queue("all", Exchange("x", type="topic"), routing_key="order.#")]
    (facts,) = [one for one in inspection.app_facts(an_app(task_queues=queues), "shop").queues if one.name == "all"]
    assert (facts.key, facts.kind) == ("order.#", "topic")


def test_tasks_that_cannot_be_loaded() -> None:
    """A module that cannot be imported is named, and the rest is read all the same."""
    app = an_app(include=["no.such.module"])
    facts = inspection.app_facts(app, "shop")
    assert facts.error == "ModuleNotFoundError: No module named 'no'"
    assert facts.tasks


def test_beat_that_cannot_be_read() -> None:
    """An entry that names no task is an error of the application."""
    app = an_app()
    app.conf.beat_schedule = {"nothing": {"schedule": 1}}
    assert inspection.app_facts(app, "shop").error.startswith("KeyError: 'task'")


@pytest.mark.parametrize(
    ("url", "facts"),
    [
        ("memory://", BrokerFacts("memory://localhost//", driver="memory", redelivers=False)),
        (
            "redis://:geheim@h:1/2",
            BrokerFacts("redis://:**@h:1/2", driver="redis", visibility_seconds=77.0),
        ),
        ("amqp://u:geheim@h//", BrokerFacts("amqp://u:**@h:5672//", driver="amqp")),
        (
            "filesystem://localhost",
            BrokerFacts("filesystem://localhost//", driver="filesystem", redelivers=False, loses_messages=True),
        ),
    ],
)
def test_kinds_of_brokers(url: str, facts: BrokerFacts) -> None:
    """What is known of a broker without asking it; its password is no part of that."""
    app = Celery("shop", set_as_current=False, broker=url)
    app.conf.broker_transport_options = {"visibility_timeout": 77}
    assert inspection.broker_facts(app) == facts


@pytest.mark.parametrize(
    ("url", "facts"),
    [
        (None, ResultsFacts(disabled=True)),
        ("rpc://", ResultsFacts("rpc://", chords=False)),
        ("db+postgresql://u:geheim@127.0.0.1:1/d", ResultsFacts("postgresql://u:**@127.0.0.1:1/d")),
        ("redis://:geheim@127.0.0.1:1/2", ResultsFacts("redis://:**@127.0.0.1:1/2")),
    ],
)
def test_kinds_of_results(url: str | None, facts: ResultsFacts) -> None:
    """What is known of a result backend without asking it: making one on a database would make its tables."""
    assert inspection.results_facts(Celery("shop", set_as_current=False, backend=url)) == facts
