"""`regrow.install`, and the dispatcher that a worker keeps beside it."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest
from celery import Celery

import regrow
from regrow.errors import SettingsError
from regrow.model import State
from tests.celery_worker import Process, alive, new_key, site, until


def test_install_twice_is_refused() -> None:
    """One application takes Regrow once."""
    app = Celery("twice", set_as_current=False)
    regrow.install(app)
    with pytest.raises(SettingsError, match="already"):
        regrow.install(app)


def test_unknown_setting_is_refused() -> None:
    """A setting that does not exist is refused where it is written, and the known ones are named."""
    with pytest.raises(SettingsError, match=r"no such setting: retires; known are: .*lease_seconds"):
        regrow.install(Celery("wrong", set_as_current=False), retires=3)


def test_nothing_changes_outside_a_worker() -> None:
    """Direct calls, `.apply()` and eager sending raise the task's own error at once and touch no ledger."""
    app = Celery("eager", set_as_current=False)
    regrow.install(app, mode="recover", database_url="sqlite:////no/such/folder/ledger.db")

    @app.task(shared=False)
    def fails() -> None:
        raise ConnectionRefusedError(111, "Connection refused")

    with pytest.raises(ConnectionRefusedError):
        fails()
    assert isinstance(fails.apply().result, ConnectionRefusedError)
    app.conf.task_always_eager = True
    assert fails.delay().state == "FAILURE"


def started(worker: Process) -> list[int]:
    """The ids of the dispatchers that a worker has started, in order."""
    return [int(found) for found in re.findall(r"regrow dispatcher (\d+) started", worker.text())]


def test_dispatcher_beside_a_worker(tmp_path: Path) -> None:
    """`dispatcher=True`: it starts with the worker, starts again when it is killed, and stops with the worker."""
    with site(tmp_path, dispatcher=True) as made:
        worker = made.worker(children=1)
        until(lambda: started(worker), "the dispatcher")
        key = new_key()
        result = made.sig("flaky", key, 1, "value").delay()
        assert result.get(timeout=60, interval=0.05) == "value"
        os.kill(started(worker)[0], signal.SIGKILL)
        until(lambda: len(started(worker)) == 2, "the next dispatcher")
        assert worker.said("ended with code -9; starting it again")
        second = made.sig("flaky", new_key(), 1, "again").delay()
        assert second.get(timeout=60, interval=0.05) == "again"
        made.settled(second.id, State.RECOVERED)
        assert worker.terminate() == 0
        until(lambda: not any(alive(pid) for pid in started(worker)), "the dispatcher's end")
        assert worker.said(f"regrow dispatcher {started(worker)[1]} stopped")


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_dispatcher_ends_with_a_killed_worker(tmp_path: Path, pool: str) -> None:
    """A worker that is killed -9 leaves no dispatcher behind."""
    with site(tmp_path, dispatcher=True) as made:
        worker = made.worker(children=1, pool=pool)
        until(lambda: started(worker), "the dispatcher")
        worker.kill()
        until(lambda: not alive(started(worker)[0]), "the dispatcher's end")
