"""Hostile exceptions, messages, names and arguments: all are recorded, none is lost, and no worker dies of Regrow."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from kombu import Producer

from regrow.adapters.spool import Spool
from regrow.model import State
from tests.celery_worker import QUICK, ROOT, Site, new_key, site, until
from tests.integration.proj_hostile import MAKERS


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A worker and a dispatcher, the start ledger on."""
    settings = {**QUICK, "track_starts": True, "max_recovery_attempts": 1}
    with site(tmp_path_factory.mktemp("hostile"), regrow=settings) as one:
        one.worker(children=2)
        one.dispatcher_process()
        yield one


@pytest.mark.parametrize("kind", [*MAKERS, "recursion"])
def test_hostile_exceptions(made: Site, kind: str) -> None:
    """However an exception behaves, its failure is recorded with its task, and what people read of it is plain text."""
    key = new_key()
    result = made.sig("hostile", key, kind).delay()
    record = made.settled(result.id, State.HANDED_OVER, State.EXHAUSTED)
    assert record.task_name == "tests.hostile"
    assert record.history[0].traceback
    assert len(record.message) < 10_000
    assert len(record.history[0].traceback) < 50_000
    assert_readable(made, str(record.id))


def assert_readable(made: Site, which: str) -> None:
    """The command line shows it without a control character that a terminal would obey, and as valid JSON."""
    assert_plain(regrow(made, "show", which))
    json.loads(regrow(made, "show", which, "--json"))


def assert_plain(shown: str) -> None:
    """No control character is in it that a terminal would obey."""
    assert not [one for one in shown if (ord(one) < 32 and one not in "\n\t") or one in "\x7f\u202e\u2028"]


def regrow(made: Site, *words: str) -> str:
    """What a command prints."""
    url = ["--database-url", made.settings.database_url]
    done = subprocess.run(
        [sys.executable, "-m", "regrow", *url, *words], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return done.stdout


def test_a_task_whose_name_is_markup(made: Site) -> None:
    """Names are shown as they are, escaped where a terminal would obey them."""
    name = next(one for one in made.app.tasks if "markup</b>" in one)
    result = made.app.tasks[name].delay(new_key())
    record = made.settled(result.id, State.HANDED_OVER)
    assert "[red]<b>markup</b>[/red]" in record.task_name
    assert "[red]<b>markup</b>[/red]" in regrow(made, "show", str(record.id))
    assert_readable(made, str(record.id))


ARGUMENTS: list[tuple[Any, Any]] = [
    (({1, 2},), {}),
    ((object(),), {}),
    ((b"\xff\x00",), {}),
    ((float("nan"), float("inf"), 10**400), {}),
    (("x" * 3_000_000,), {}),
    (("\0\ud800",), {"\x1b[31m": "钱", "task_id": 1, "request": 2}),
    ((({"a": [{"b": (1, (2, (3,)))}]},),), {}),
]


@pytest.mark.parametrize("number", range(len(ARGUMENTS)))
def test_hostile_arguments(made: Site, number: int) -> None:
    """Arguments that JSON cannot keep, or too large ones, cost the retry, and never the record."""
    args, kwargs = ARGUMENTS[number]
    result = made.app.send_task("tests.takes_anything", args, kwargs, serializer="pickle")
    record = made.settled(result.id, State.HANDED_OVER, State.EXHAUSTED)
    kept = record.state is State.EXHAUSTED
    assert record.reason == ("retries_used_up" if kept else "call_not_kept")
    assert_readable(made, str(record.id))


HEADERS: list[dict[str, Any]] = [
    {"id": 5, "task": "tests.nowhere"},
    {"id": None, "task": None},
    {"id": "x" * 3_000, "task": "t" * 3_000},
    {"id": "\0\x1b[31m", "task": "<script>[red]x[/red]\x1b[2J"},
    {"id": "a", "task": "tests.nowhere", "argsrepr": "\x1b[31m" * 1_000, "origin": ["x"]},
    {"id": "bad-eta", "task": "tests.plus", "eta": "not a time"},
    {"id": "bad-expires", "task": "tests.plus", "expires": {"no": "time"}},
    {"id": "bad-regrow", "task": "tests.nowhere", "regrow": {"failure": "x"}, "user_id": ["a", {"b": 1}]},
]
#: Not null, nor a number, nor plain bytes: of those Celery itself dies (`'args' not in message.payload`).
BODIES: list[Any] = [[], {}, "text", [[1], {}, "embed"], [[1], {}, {"chord": 7}], {"args": 1, "kwargs": 2}]


@pytest.mark.parametrize("regrow_too", [False, True], ids=["without", "with"])
def test_hostile_messages(tmp_path_factory: pytest.TempPathFactory, *, regrow_too: bool) -> None:
    """Messages that no client would send: a worker with Regrow stands where one without it stands, and has them recorded."""
    settings = {**QUICK, "track_starts": True} if regrow_too else None
    with site(tmp_path_factory.mktemp("messages"), regrow=settings) as one:
        worker = one.worker(children=1)
        if regrow_too:
            one.dispatcher_process()
        with one.app.connection_for_write() as connection:
            producer = Producer(connection)
            for headers in [{}, *HEADERS]:
                for body in BODIES:
                    producer.publish(body, exchange="", routing_key=one.name, headers=headers, serializer="json")
            for content, kind in [(b"\xff\xfe\0", "application/json"), (b"x" * 2_000_000, "text/odd")]:
                producer.publish(
                    content,
                    exchange="",
                    routing_key=one.name,
                    headers={"id": new_key(), "task": "tests.plus"},
                    content_type=kind,
                    content_encoding="binary",
                )
        key = new_key()
        result = one.sig("flaky", key, 0, "alive").delay()
        assert result.get(timeout=60, interval=0.05) == "alive", worker.text()[-3000:]
        assert worker.popen.poll() is None
        if regrow_too:
            spool = Spool(one.folder / "spool", limit_bytes=1)
            until(lambda: not spool.waiting(), "the replay")
            assert spool.size() == 0, list((one.folder / "spool").iterdir())
            records = one.ledger.failures(limit=1000)
            names = {record.task_name for record in records}
            assert {"(no task)", "tests.nowhere"} <= names
            assert {record.reason for record in records} <= {"not_run", "not_healable", "unknown_cause"}
            assert one.balance().balanced
            for record in records:
                assert_readable(one, str(record.id)) if record.id % 7 == 0 else None
            assert not [line for line in worker.text().splitlines() if "regrow could not" in line]


def test_nothing_of_it_has_hurt_the_ledger(made: Site) -> None:
    """After all this the ledger adds up, the spool is empty, and the worker is the one that was started first."""
    records = made.ledger.failures(limit=1000)
    assert_plain(regrow(made, "failures", "--limit", "1000"))
    assert_plain(regrow(made, "status"))
    assert len(json.loads(regrow(made, "failures", "--limit", "1000", "--json"))["failures"]) == len(records)
    for record in records[:3]:
        assert_plain(regrow(made, "explain", str(record.id)))
    assert made.balance().balanced
    assert Spool(made.folder / "spool", limit_bytes=1).size() == 0
    assert made.processes[0].popen.poll() is None
