"""Where Regrow may not or cannot act, every task ends exactly as without Regrow, and the worker's log says why."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from celery import chain, chord

from regrow import wiring
from regrow.model import State
from tests.celery_worker import QUICK, Site, new_key, site, until

#: How each project differs, and what its worker's log says.
CASES: dict[str, tuple[dict[str, Any] | None, str]] = {
    "bare": (None, ""),
    "observe": ({**QUICK, "mode": "observe"}, "observing"),
    "unmigrated": (QUICK, "run: regrow db upgrade"),
    "no_folder": (
        {**QUICK, "database_url": "sqlite:////no/such/folder/ledger.db"},
        "is the folder /no/such/folder there",
    ),
    "unreachable": ({**QUICK, "database_url": "postgresql://root@127.0.0.1:1/none"}, "ledger at postgresql"),
    "read_only": ({**QUICK, "database_url": "sqlite:///file:{folder}/ledger.db?mode=ro&uri=true"}, "readonly database"),
    "wrong_settings": ({**QUICK, "mode": "recvoer"}, "regrow is NOT active in this worker"),
}


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Site]]:
    """One project for each case, their workers started together."""
    with ExitStack() as stack:
        made = {}
        for name, (settings, _) in CASES.items():
            folder = tmp_path_factory.mktemp(name)
            if settings is not None:
                settings = {
                    key: str(value).format(folder=folder) if key == "database_url" else value
                    for key, value in settings.items()
                }
            one = made[name] = stack.enter_context(site(folder, regrow=settings, migrate=name == "observe"))
            if name == "read_only":
                wiring.upgrade(wiring.load_settings(None, database_url=f"sqlite:///{folder}/ledger.db"))
        for one in made.values():
            one.worker(children=1)
        for name in ("observe", "unmigrated"):
            made[name].dispatcher_process()
        yield made


def send(made: Site) -> dict[str, Any]:
    """One task of each kind."""
    keys = {
        name: f"{name}-{new_key()}"
        for name in ("plain", "broken", "park", "expected", "chain", "chord", "auto", "fine")
    }
    back = [made.sig("errback"), made.sig("old_errback")]
    return {
        "plain": (keys["plain"], made.sig("flaky", keys["plain"], 1).apply_async(link_error=back)),
        "fine": (
            keys["fine"],
            made.sig("flaky", keys["fine"], 0, 3).apply_async(link=made.sig("linked", keys["fine"])),
        ),
        "broken": (keys["broken"], made.sig("broken", keys["broken"]).apply_async(link_error=back)),
        "park": (keys["park"], made.sig("no_park", keys["park"], 1).apply_async(link_error=back)),
        "expected": (keys["expected"], made.sig("expected", keys["expected"]).apply_async(link_error=back)),
        "auto": (keys["auto"], made.sig("auto", keys["auto"], 99).apply_async(link_error=back)),
        "chain": (keys["chain"], chain(made.sig("flaky", keys["chain"], 1), made.sig("plus", 1)).apply_async().parent),
        "chord": (
            keys["chord"],
            chord([made.sig("flaky", keys["chord"], 1), made.sig("plus", 1, 1)], made.sig("plus", 1))(),
        ),
    }


def collect(made: Site, sent: dict[str, Any]) -> dict[str, Any]:
    """How each ended: state, result, runs, errbacks."""
    found = {}
    for name, (key, result) in sent.items():
        until(lambda one=result: one.state in ("SUCCESS", "FAILURE"), f"the end of {name}\n{made.logs()}")
        text = repr(result.result).replace(key, "KEY").replace(result.id, "ID")
        if name == "chord":
            text = type(result.result).__name__
        elif name not in ("fine", "chain"):
            until(lambda one=result: made.runs(f"old-errback-{one.id}"), "the old errback")
        marks = [
            made.runs(f"{kind}-{result.id}") for kind in ("errback", "old-errback", "signal-failure", "signal-retry")
        ]
        found[name] = (result.state, text, made.runs(key), marks)
    return found


@pytest.fixture(scope="module")
def ends(projects: dict[str, Site]) -> dict[str, dict[str, Any]]:
    """How every task ended in every project."""
    sent = {name: send(made) for name, made in projects.items()}
    return {name: collect(made, sent[name]) for name, made in projects.items()}


@pytest.mark.parametrize("case", [name for name in CASES if name != "bare"])
def test_everything_ends_as_without_regrow(
    projects: dict[str, Site], ends: dict[str, dict[str, Any]], case: str
) -> None:
    """State, result, number of runs, errbacks and signals are those of a worker without Regrow; the log says why."""
    assert ends[case] == ends["bare"]
    log = projects[case].processes[0]
    assert log.said(CASES[case][1]), log.text()[-3000:]
    assert log.popen.poll() is None


def test_wrong_settings_are_one_line(projects: dict[str, Site]) -> None:
    """A worker with wrong settings says once that Regrow is not active, and which setting it is."""
    lines = [line for line in projects["wrong_settings"].processes[0].text().splitlines() if "NOT active" in line]
    assert len(lines) == 1
    assert "FAILURE_MODE='recvoer'" in lines[0]


def test_a_worker_without_regrow_runs_no_retry(projects: dict[str, Site], ends: dict[str, dict[str, Any]]) -> None:
    """A worker in which Regrow is not active drops a retry: it cannot ask whether it may run."""
    made = projects["wrong_settings"]
    key = new_key()
    ours = {"failure": 1, "attempt": 2, "token": "x"}
    retry = made.sig("flaky", key, 0).apply_async(headers={"regrow": ours})
    until(lambda: made.processes[0].said(f"drops a retry of task tests.flaky[{retry.id}]"), "the refusal")
    assert (made.runs(key), made.state(retry.id)) == (0, "PENDING")


def test_observe_mode_records_what_it_would_do(projects: dict[str, Site], ends: dict[str, dict[str, Any]]) -> None:
    """In observe mode the ledger says what would have been done and when; nobody is told and nothing is sent."""
    made = projects["observe"]
    by_task = {}
    for record in made.ledger.failures(limit=100):
        assert not record.parked
        by_task.setdefault(record.task_name, made.record(record.task_id))
    plain = by_task["tests.flaky"]
    assert (plain.state, plain.reason, plain.due_at) == (State.HELD, "observing", None)
    assert plain.history[0].action == "hold"
    assert by_task["tests.broken"].state is State.HANDED_OVER
    assert "tests.expected" not in by_task
    assert made.balance().undelivered == 0
    assert not list((made.folder / "logs").iterdir())


def test_dispatcher_waits_for_a_ledger(projects: dict[str, Site]) -> None:
    """A dispatcher whose ledger is not set up says so, lives on, and ends on SIGTERM with 0."""
    dispatcher = next(one for one in projects["unmigrated"].processes if "dispatcher" in one.log.name)
    until(lambda: dispatcher.said("run: regrow db upgrade; next try in"), "the reason")
    assert dispatcher.terminate() == 0


def test_ledger_that_comes_back(projects: dict[str, Site], ends: dict[str, dict[str, Any]]) -> None:
    """A worker that started without a ledger parks as soon as the ledger is set up, without a restart."""
    made = projects["unmigrated"]
    made.migrate()
    dispatcher = made.dispatcher_process()
    result = made.sig("flaky", new_key(), 1, "healed").delay()
    assert result.get(timeout=60, interval=0.05) == "healed"
    made.settled(result.id, State.RECOVERED)
    assert dispatcher.terminate() == 0
