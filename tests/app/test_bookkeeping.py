"""Rows in the table of tasks follow real tasks in real workers."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from celery import chain, chord

from app import db
from app.models import Task
from regrow import capture, wiring
from tests.app.rows_site import NAME, Site, row, rows, settled, site
from tests.celery_worker import ROOT, until

PATIENCE = 60


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site with a worker."""
    with site(tmp_path_factory.mktemp("rows")) as made:
        made.worker()
        yield made


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Site]:
    """A site whose workers the test starts, and kills."""
    with site(tmp_path) as made:
        yield made


# -- one task ---------------------------------------------------------------------------------------------------------


def test_a_sent_task_has_a_row(alone: Site) -> None:
    """Before any worker exists its row says what was asked for, by whom and when."""
    before = datetime.now(UTC)
    result = alone.task("add").delay(1, y=2, user_id=7)
    found = row(result.id)
    assert (found.task_type, found.status, found.user_id, found.worker) == ("add", "pending", "7", None)
    assert found.params == {"args": [1], "kwargs": {"y": 2, "user_id": 7}}
    assert found.created_at.utcoffset() == timedelta(0)
    assert before - timedelta(seconds=1) <= found.created_at <= datetime.now(UTC)
    assert (found.recovery_attempts, found.recovery_notes, found.failed_at) == (0, "", None)


def test_the_user_in_the_header_wins(alone: Site) -> None:
    """The header names the user for every task, so it is stronger than an argument of that name."""
    assert row(alone.task("add").delay(1, 2, 7).id).user_id == "7", "by position"
    result = alone.task("add").apply_async((1, 2), {"user_id": 7}, headers={"user_id": "boss"})
    assert row(result.id).user_id == "boss"


def test_arguments_that_are_no_json(alone: Site) -> None:
    """A row is kept all the same, without what cannot be written down."""
    alone.app.conf.accept_content = ["json", "pickle"]
    result = alone.task("add").apply_async((object(), 2), serializer="pickle")
    found = row(result.id)
    assert (found.params, found.call) == (None, None)


def test_arguments_that_only_celery_writes_as_json(alone: Site) -> None:
    """An instant comes back as an instant when the call is read."""
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    result = alone.task("total").delay([moment])
    found = row(result.id)
    assert found.params is not None
    assert json.loads(json.dumps(found.params)) == found.params


@pytest.mark.parametrize("name", ["rows.leave_alone", "app.tasks.failure_tasks.nothing", "celery.backend_cleanup"])
def test_tasks_without_rows(alone: Site, name: str) -> None:
    """The application's own upkeep, and what its owner declares so, get none."""
    alone.app.tasks[name].delay()
    alone.app.send_task(name)
    assert rows() == 0


def test_a_task_of_another_application(alone: Site) -> None:
    """A name that we do not know is no task of ours."""
    alone.app.send_task("somebody.elses")
    assert rows() == 0


def test_sent_by_name(alone: Site) -> None:
    """`celery call` sends by name alone."""
    assert row(alone.app.send_task("rows.add", (1, 2)).id).task_type == "add"


def test_a_message_sent_again_makes_no_second_row(alone: Site) -> None:
    """Neither one that Regrow sends again, nor a native retry, nor one that a person sends under the same id."""
    first = alone.task("add").delay(1, 2)
    header = {"regrow": {"failure": 1, "attempt": 2, "token": "t"}}
    alone.task("add").apply_async((1, 2), task_id=first.id, headers=header)
    alone.task("add").apply_async((1, 2), task_id=first.id, retries=1)
    assert rows() == 1
    alone.task("add").apply_async((1, 2), headers=header)
    assert rows() == 1


def test_a_success(shop: Site) -> None:
    """It runs, and its row says where it ran and that it succeeded."""
    result = shop.task("wait").delay("success")
    shop.marked("success")
    running = row(result.id)
    assert (running.status, running.worker) == ("running", NAME)
    shop.go("success")
    found = settled(result.id, "succeeded")
    assert (found.error_type, found.failed_at) == (None, None)


def test_a_failure(shop: Site) -> None:
    """Its row says why and when."""
    found = settled(shop.task("fail").delay("no route").id, "failed")
    assert (found.error_type, found.error_message) == ("ConnectionRefusedError", "[Errno 111] no route")
    assert found.failed_at is not None
    assert found.created_at <= found.failed_at <= datetime.now(UTC)
    assert found.worker == NAME


def test_a_retry(shop: Site) -> None:
    """Between two runs a row is `retrying`, and says what went wrong; the next run goes on in the same row."""
    before = rows()
    result = shop.task("stumble").delay("retry")
    # The second run waits for us: what the first one has left is there, and it runs again.
    running = until(lambda: (one := row(result.id)).error_type and one.status == "running" and one, "the second run")
    assert (running.error_type, running.error_message) == ("TimeoutError", "read timed out")
    shop.go("retry")
    settled(result.id, "succeeded")
    assert rows() == before + 1


def test_a_task_that_dies(shop: Site) -> None:
    """Its worker process is gone, and the worker says so."""
    found = settled(shop.task("die").delay().id, "failed")
    assert found.error_type == "billiard.exceptions.WorkerLostError"
    assert "SIGKILL" in str(found.error_message)


def test_a_dropped_run_has_never_been(shop: Site) -> None:
    """A stale copy that is ignored leaves the row as it was, not `running` for ever."""
    result = shop.task("ignore").delay()
    worker = shop.workers[0]
    until(lambda: worker.said(f"{result.id}] ignored"), "the run to be ignored")
    found = settled(result.id, "pending")
    assert found.worker == NAME


def test_a_revoked_task(alone: Site) -> None:
    """It has failed, by a person's will."""
    result = alone.task("add").apply_async((1, 2), expires=datetime.now(UTC) - timedelta(seconds=1))
    alone.worker()
    found = settled(result.id, "failed")
    assert (found.error_type, found.error_message) == ("celery.exceptions.TaskRevokedError", "expired")


def test_a_success_is_not_taken_back(alone: Site) -> None:
    """A run that was taken for dead begins late, or fails late: the row has succeeded already."""
    late = [alone.task("add").delay(1, 2), alone.task("fail").delay("late")]
    with db.Session.begin() as session:
        session.query(Task).update({"status": "succeeded"})
    alone.worker(children=1)
    settled(alone.task("add").delay(3, 4).id, "succeeded")  # in the same child, so the others are over
    assert [alone.app.AsyncResult(one.id).state for one in late] == ["SUCCESS", "FAILURE"]
    assert [(row(one.id).status, row(one.id).worker) for one in late] == [("succeeded", None)] * 2


# -- workflows --------------------------------------------------------------------------------------------------------


def test_a_chain(shop: Site) -> None:
    """Each step has its row, with the arguments that it really got."""
    add = shop.task("add")
    last = chain(add.s(1, 2), add.s(10), add.s(100)).apply_async(headers={"user_id": "ann"})
    assert last.get(timeout=PATIENCE) == 113
    found = [settled(one.id, "succeeded") for one in (last.parent.parent, last.parent, last)]
    assert [one.params["args"] for one in found if one.params] == [[1, 2], [3, 10], [13, 100]]


def test_a_chord(shop: Site) -> None:
    """Each part and the body have their rows; Celery's own helpers have none."""
    before = rows()
    add = shop.task("add")
    result = chord([add.s(1, 2), add.s(3, 4)])(shop.task("total").s())
    assert result.get(timeout=PATIENCE) == 10
    assert settled(result.id, "succeeded").task_type == "total"
    assert [settled(one.id, "succeeded").task_type for one in result.parent.children] == ["add", "add"]
    assert rows() == before + 3


# -- workers that end -------------------------------------------------------------------------------------------------


def test_a_killed_worker(alone: Site) -> None:
    """The next worker of the same name finds what the killed one had begun, and what it had only taken."""
    worker = alone.worker(children=1)
    running = alone.task("wait").delay("killed")
    alone.marked("killed")
    taken = alone.task("add").delay(1, 2)
    until(lambda: row(taken.id).worker == NAME, "the worker to take the second task")
    worker.kill_tree()
    elsewhere = alone.task("add").delay(3, 4)
    assert (row(running.id).status, row(taken.id).status) == ("running", "pending")

    alone.worker(children=1)
    lost, unbegun = settled(running.id, "failed"), settled(taken.id, "failed")
    assert lost.error_type == "billiard.exceptions.WorkerLostError"
    assert unbegun.error_type == "app.bookkeeping.NeverBegunError"
    assert lost.failed_at is not None
    assert unbegun.failed_at is not None
    settled(elsewhere.id, "succeeded")


def test_what_a_killed_worker_leaves_is_understood() -> None:
    """Both can heal; only the one that had begun needs caution."""
    classify = wiring.load_classifier()
    lost, unbegun = (
        classify(capture.causes_from_text(kind, text, ""))
        for kind, text in (
            ("billiard.exceptions.WorkerLostError", f"Worker exited prematurely: {NAME} ended while it ran this task."),
            ("app.bookkeeping.NeverBegunError", f"Worker {NAME} was lost before it began this task."),
        )
    )
    assert (lost.category.key, unbegun.category.key) == ("recoverable_system", "recoverable_system")
    assert (bool(lost.caution), bool(unbegun.caution)) == (True, False)


def test_a_row_of_the_ledger_is_not_lost(alone: Site) -> None:
    """The ledger sees by itself that a retry has fallen silent."""
    result = alone.task("add").apply_async((1, 2), queue="nobody")
    with db.Session.begin() as session:
        session.query(Task).update({"status": "running", "worker": NAME, "recovery_revision": 3})
    alone.worker()
    assert row(result.id).status == "running"


def test_a_worker_that_stops_in_order_loses_nothing(alone: Site) -> None:
    """What it had taken and not begun goes back to the broker; the next worker takes it, and calls nothing lost."""
    worker = alone.worker()
    waiting = alone.task("add").apply_async((1, 2), countdown=3600)
    until(lambda: row(waiting.id).worker == NAME, "the worker to take it")
    worker.terminate()
    found = row(waiting.id)
    assert (found.status, found.worker) == ("pending", None)
    alone.worker()
    until(lambda: row(waiting.id).worker == NAME, "the next worker to take it")
    assert row(waiting.id).status == "pending"


# -- a database that is away ------------------------------------------------------------------------------------------


def test_no_database_no_harm(alone: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Tasks are sent and run as if there were no rows; the log says what is missing."""
    monkeypatch.setenv("APP_DATABASE_URL", f"sqlite:///{alone.folder}/no/such/folder/app.db")
    with caplog.at_level(logging.ERROR):
        result = alone.task("add").delay(1, 2)
    assert "bookkeeping: sent failed" in caplog.text
    worker = alone.worker()
    assert result.get(timeout=PATIENCE) == 3
    assert worker.said("bookkeeping: ")


# -- the database -----------------------------------------------------------------------------------------------------


def elsewhere(statement: str) -> None:
    """Change the database in another process."""
    script = "import os, sqlite3, sys; c = sqlite3.connect(os.environ['APP_VAR'] + '/app.db'); c.execute(sys.argv[1]); c.commit()"
    subprocess.run([sys.executable, "-c", script, statement], check=True)


def test_db_always_tells_what_is_committed(alone: Site) -> None:
    """The guide's lines, in one session that lasts: each query sees what another process has just written."""
    task_id = row(alone.task("add").delay(1, 2).id).id
    task = db.db.query(Task).filter(Task.id == task_id).first()
    assert task is not None
    assert task.recovery_attempts == 0
    for number in (1, 2):
        elsewhere(f"UPDATE task SET recovery_attempts = {number}")
        again = db.db.query(Task).filter(Task.id == task_id).first()
        assert again is task
        assert task.recovery_attempts == number
    elsewhere("UPDATE task SET recovery_attempts = 3")
    assert db.db.get(Task, task_id).recovery_attempts == 3


def test_db_writes(alone: Site) -> None:
    """Other code writes rows through it; a change that is not yet committed survives a query."""
    mine = Task(task_type="tracking_update", params={"args": [], "kwargs": {}})
    db.db.add(mine)
    db.db.commit()
    assert (mine.status, len(mine.celery_task_id)) == ("pending", 36)
    mine.status = "failed"
    assert db.db.query(Task).filter(Task.id == mine.id).one().status == "failed"
    db.db.commit()
    assert row(mine.celery_task_id).status == "failed"


FORKS = """
import os, sys
from app.db import db
from app.models import Task

db.add(Task(task_type="parent"))
db.commit()
row = db.query(Task).one()
connection = db.connection().connection.dbapi_connection
child = os.fork()
if not child:
    mine = db.connection().connection.dbapi_connection
    db.add(Task(task_type="child"))
    db.commit()
    os._exit(mine is connection)
_, status = os.waitpid(child, 0)
assert status == 0, status
assert db.connection().connection.dbapi_connection is connection
assert db.query(Task).count() == 2
db.remove()
"""


def test_a_forked_child_has_its_own_connection(tmp_path: Path) -> None:
    """And its parent goes on with the old one."""
    subprocess.run(
        [sys.executable, "-c", FORKS], check=True, env={**os.environ, "APP_VAR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    )


OPENS = "from app.db import db; from app.models import Task; db.add(Task(task_type='x')); db.commit(); db.remove()"


def test_many_make_the_tables_at_once(tmp_path: Path) -> None:
    """Whoever comes first makes them, and nobody is refused."""
    environment = {**os.environ, "APP_VAR": str(tmp_path / "new"), "PYTHONPATH": str(ROOT)}
    processes = [subprocess.Popen([sys.executable, "-c", OPENS], env=environment) for _ in range(6)]
    assert [one.wait(PATIENCE) for one in processes] == [0] * 6
