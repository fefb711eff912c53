"""The Celery application: what beat sends, who takes it, where it is logged, and what its settings do."""

from __future__ import annotations

import shelve
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.app.place import APP, Place, place
from tests.celery_worker import Process, until

BEAT = ("-m", "celery", "-A", APP, "beat")

ENTRIES = """
import json
from app.tasks.celery_app import celery_app
print(json.dumps({name: {**entry, "schedule": repr(entry["schedule"])}
                  for name, entry in celery_app.conf.beat_schedule.items()}))
"""

TASKS = "app.tasks.failure_tasks"
SCAN = "scan-and-process-failed-tasks"


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Place]:
    """The application, not running."""
    with place(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def working(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The application with one worker, started as the guide starts it: no log level, no queues."""
    with place(tmp_path_factory.mktemp("working")) as made:
        made.worker()
        yield made


@pytest.fixture
def nothing_due() -> None:
    """The half hour, at which beat sends something by itself, does not strike during the test."""
    left = 1800 - time.time() % 1800
    if left < 60:
        time.sleep(left + 1)


def beat(here: Place, *arguments: str) -> Process:
    """Start beat and wait until it has sent what is due."""
    process = here.start(*BEAT, "-l", "DEBUG", *arguments)
    until(lambda: process.said("Waking up") or process.popen.poll() is not None, "beat's first rest")
    assert process.popen.poll() is None, process.text()
    return process


def messages(here: Place) -> list[dict[str, Any]]:
    """What beat has sent and nobody has taken."""
    return here.messages("recovery") + here.messages("monitoring")


def move_back(here: Place, minutes: int) -> None:
    """Let beat believe that it has last sent everything so long ago."""
    with shelve.open(str(here.var / "beat" / "schedule"), writeback=True) as schedule:
        for entry in schedule["entries"].values():
            entry.last_run_at -= timedelta(minutes=minutes)


# -- what beat sends --------------------------------------------------------------------------------------------------


def test_entries(here: Place) -> None:
    """Beat sends the guide's two entries as the guide prints them, and the health check."""
    every = "(m/h/dM/MY/d)>"
    assert here.ask(ENTRIES) == {
        SCAN: {
            "task": "app.tasks.failure_tasks.scan_and_process_failed_tasks",
            "schedule": f"<crontab: */30 * * * * {every}",
            "options": {"queue": "recovery", "expires": 1800},
        },
        "analyze-failure-patterns": {
            "task": "app.tasks.failure_tasks.analyze_failure_patterns",
            "schedule": f"<crontab: 0 */6 * * * {every}",
            "options": {"queue": "monitoring", "expires": 21600},
        },
        "check-failure-recovery-health": {
            "task": "app.tasks.failure_tasks.check_failure_recovery_health",
            "schedule": f"<crontab: */30 * * * * {every}",
            "options": {"queue": "monitoring", "expires": 1800},
        },
    }


@pytest.mark.parametrize(
    ("minutes", "schedule"),
    [
        (1, "<crontab: */1 * * * * (m/h/dM/MY/d)>"),
        (15, "<crontab: */15 * * * * (m/h/dM/MY/d)>"),
        (60, "<crontab: */60 * * * * (m/h/dM/MY/d)>"),
        (45, "datetime.timedelta(seconds=2700)"),
        (90, "datetime.timedelta(seconds=5400)"),
        (1440, "datetime.timedelta(days=1)"),
    ],
)
def test_scan_interval(here: Place, minutes: int, schedule: str) -> None:
    """An interval that a crontab cannot say is counted from the last scan."""
    scan = here.ask(ENTRIES, FAILURE_SCAN_INTERVAL_MINUTES=str(minutes))[SCAN]
    assert (scan["schedule"], scan["options"]["expires"]) == (schedule, 60 * minutes)


def test_a_wrong_setting_is_named(here: Place) -> None:
    """The import ends with one message that says which setting is wrong and where it can be set."""
    done = here.run(*BEAT, FAILURE_SCAN_INTERVAL_MINUTES="0")
    assert done.returncode != 0
    assert "FAILURE_SCAN_INTERVAL_MINUTES='0'" in done.stderr


def test_every_entry_has_a_task_and_a_description(here: Place) -> None:
    """What beat sends exists, in a queue that workers take from; a person can read what it is for."""
    code = """
import json
from app import beat
from app.tasks.celery_app import celery_app
celery_app.loader.import_default_modules()
entries = celery_app.conf.beat_schedule
print(json.dumps([
    [entry["task"] for entry in entries.values() if entry["task"] not in celery_app.tasks],
    [entry["options"]["queue"] for entry in entries.values()
     if entry["options"]["queue"] not in celery_app.amqp.queues],
    beat.DESCRIPTIONS.keys() == entries.keys() and all({"zh", "en"} == one.keys() for one in beat.DESCRIPTIONS.values()),
]))
"""
    assert here.ask(code) == [[], [], True]


@pytest.mark.usefixtures("nothing_due")
def test_real_beat_sends_all(here: Place) -> None:
    """Beat starts, and sends each entry that is due to its queue; a message that nobody takes runs out of time."""
    assert beat(here).terminate() == 0
    assert not messages(here)
    move_back(here, 7 * 60)
    beat(here)
    assert [one["headers"]["task"] for one in here.messages("recovery")] == [f"{TASKS}.scan_and_process_failed_tasks"]
    assert {one["headers"]["task"] for one in here.messages("monitoring")} == {
        f"{TASKS}.analyze_failure_patterns",
        f"{TASKS}.check_failure_recovery_health",
    }
    assert len(messages(here)) == 3
    assert all(one["headers"]["expires"] for one in messages(here))
    assert f"Sending due task {SCAN} ({TASKS}.scan_and_process_failed_tasks)" in here.log()


@pytest.mark.usefixtures("nothing_due")
def test_beat_remembers_what_it_sent_when_it_is_killed(here: Place) -> None:
    """A beat that is killed right after it has sent something does not send it again."""
    beat(here).terminate()
    move_back(here, 7 * 60)
    beat(here).kill()
    assert len(messages(here)) == 3
    beat(here)
    assert len(messages(here)) == 3


def test_beat_stopped_while_it_starts(here: Place) -> None:
    """SIGTERM at any moment of the start ends beat, as if in order, and hinders no later one."""
    file = here.var / "beat" / "beat.pid"
    process = here.start(*BEAT)
    until(lambda: file.exists() and file.read_text(), "the pid file")
    assert process.terminate() == 0, process.text()
    assert file.read_text() == ""
    beat(here)


def test_beat_follows_the_setting(here: Place) -> None:
    """A new interval in .env counts while beat runs; a wrong one is reported, and the old one goes on."""
    settings = here.folder / ".env"
    settings.write_text("FAILURE_SCAN_INTERVAL_MINUTES=1440\n")
    beat(here).terminate()
    move_back(here, 50)
    beat(here, "--max-interval", "1")
    assert not here.messages("recovery")
    settings.write_text("FAILURE_SCAN_INTERVAL_MINUTES=soon\n")
    until(
        lambda: "beat goes on with the schedule that it has: FAILURE_SCAN_INTERVAL_MINUTES='soon'" in here.log(), "it"
    )
    assert not here.messages("recovery")
    settings.write_text("FAILURE_SCAN_INTERVAL_MINUTES=45\n")
    until(lambda: here.messages("recovery"), "a scan")


def test_a_second_beat_ends(here: Place) -> None:
    """Two would send everything twice: the second says who runs and ends, and leaves the first one's data alone."""
    first = beat(here)
    before = {file.name: file.stat().st_ino for file in (here.var / "beat").iterdir()}
    done = here.run(*BEAT)
    assert done.returncode == 1
    assert f"another beat is running (process {first.pid})" in done.stderr
    assert {file.name: file.stat().st_ino for file in (here.var / "beat").iterdir()} == before
    assert here.ask("from app import beat; print(beat.running())") == first.pid


# -- workers ----------------------------------------------------------------------------------------------------------


def test_inspect_active(working: Place) -> None:
    """The guide's `celery -A app.tasks.celery_app inspect active` is answered."""
    done = working.run("-m", "celery", "-A", APP, "inspect", "active")
    assert done.returncode == 0, done.stderr
    assert "1 node online" in done.stdout


def test_a_worker_takes_from_all_queues(working: Place) -> None:
    """No -Q is needed: each queue's message is taken, once, and by that queue alone."""
    code = """
import json
from app.tasks.celery_app import celery_app
queues = ("celery", "recovery", "monitoring")
sent = [celery_app.send_task("celery.backend_cleanup", queue=queue) for queue in queues]
print(json.dumps([one.get(timeout=60) for one in sent]))
"""
    assert working.ask(code) == [None, None, None]
    ran = [line for line in working.log().splitlines() if "celery.backend_cleanup" in line and "succeeded" in line]
    assert len(ran) == 3
    assert not [one for queue in ("celery", "recovery", "monitoring") for one in working.messages(queue)]


def test_a_worker_for_one_queue(here: Place) -> None:
    """`-Q recovery` takes the scan and leaves the rest to others."""
    code = """
from app.tasks.celery_app import celery_app
celery_app.send_task("celery.backend_cleanup", queue="monitoring")
celery_app.send_task("celery.backend_cleanup", queue="recovery").get(timeout=60)
print("null")
"""
    here.worker("-Q", "recovery")
    here.ask(code)
    assert len(here.messages("monitoring")) == 1


def test_a_fresh_machine_needs_no_other_command(working: Place) -> None:
    """The worker has set the ledger up: Regrow is active in it."""
    assert (working.var / "regrow.db").exists()
    assert "NOT active" not in working.log() + working.processes[0].text()
    until(lambda: "regrow dispatcher" in working.log(), "a dispatcher beside the worker")


# -- logs/celery.log --------------------------------------------------------------------------------------------------


def test_the_log_shows_the_maintenance_tasks(working: Place) -> None:
    """`grep failure_tasks logs/celery.log` shows a scan that ran, though the console shows warnings only."""
    code = """
import json
from app.tasks.failure_tasks import scan_and_process_failed_tasks
print(json.dumps(scan_and_process_failed_tasks.apply_async(queue="recovery").get(timeout=60)["success"]))
"""
    assert working.ask(code) is True
    name = "app.tasks.failure_tasks.scan_and_process_failed_tasks"
    lines = [line for line in working.log().splitlines() if name in line]
    assert [sum(word in line for line in lines) for word in ("received", "succeeded")] == [1, 1]
    assert name not in working.processes[0].text()


def test_the_log_may_be_moved_away(working: Place) -> None:
    """Log rotation, or a person who removes the folder: the next line is in a new file."""
    working.logs.rename(working.folder / "old-logs")
    code = "from app.tasks.celery_app import celery_app as app; app.send_task('celery.backend_cleanup').get(timeout=60)"
    working.ask(f"{code}; print('null')")
    until(lambda: "celery.backend_cleanup" in working.log(), "a new log")


@pytest.mark.parametrize(
    ("language", "words"), [("zh", "程序照常运行，日志只显示在控制台"), ("en", "logging to the console alone")]
)
def test_a_log_that_cannot_be_written(here: Place, language: str, words: str) -> None:
    """The worker says so, once, and starts."""
    here.logs.write_text("a file where the folder should be")
    worker = here.worker("-l", "INFO", FAILURE_LANGUAGE=language)
    assert worker.text().count(words) == 1
    assert worker.said(str(here.logs / "celery.log"))
    assert worker.said(" ready.")


# -- settings ---------------------------------------------------------------------------------------------------------


def test_env_file(here: Place) -> None:
    """`.env` holds the application's own variables too; the environment wins; Regrow's are left to Regrow."""
    (here.folder / ".env").write_text("COURIER_URL=http://file\nSHOP_URL=http://file\nFAILURE_LANGUAGE=en\n")
    code = """
import json, os
from app.tasks.celery_app import settings
print(json.dumps([os.environ["COURIER_URL"], os.environ["SHOP_URL"], os.environ.get("FAILURE_LANGUAGE"),
                  settings.language]))
"""
    assert here.ask(code, SHOP_URL="http://environment") == ["http://file", "http://environment", None, "en"]


def test_an_unreadable_env_file_is_named(here: Place) -> None:
    """A .env that is no text ends the start with one clear message."""
    (here.folder / ".env").write_bytes(b"\xff\xfe")
    done = here.run("-c", "import app.home")
    assert "SettingsError: .env cannot be read" in done.stderr


def test_where_data_lie(here: Place) -> None:
    """All data lie in APP_VAR, by default var/app; the ledger too, unless it is named."""
    code = """
import json
from app.tasks.celery_app import VAR, settings
print(json.dumps([str(VAR), settings.database_url, settings.language, settings.mode]))
"""
    default = here.folder / "var" / "app"
    assert here.ask(code) == [str(here.var), f"sqlite:///{here.var / 'regrow.db'}", "zh", "recover"]
    assert here.ask(code, APP_VAR="") == [str(default), "sqlite:///var/app/regrow.db", "zh", "recover"]
    assert here.ask(code, FAILURE_DATABASE_URL="sqlite:///other.db")[1] == "sqlite:///other.db"
    (here.folder / ".env").write_text("FAILURE_DATABASE_URL=sqlite:///third.db\n")
    assert here.ask(code)[1] == "sqlite:///third.db"


def test_the_example_is_true(here: Place) -> None:
    """.env.example sets what the guide sets, to what holds anyway; every setting of Regrow's in it exists."""
    from dotenv import dotenv_values

    from regrow.config import Settings
    from tests.celery_worker import ROOT

    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    (here.folder / ".env").write_text(text.replace("\n#", "\n"), encoding="utf-8")
    named = {
        name.removeprefix("FAILURE_").lower()
        for name in dotenv_values(here.folder / ".env")
        if name.startswith("FAILURE_")
    }
    assert named <= Settings.model_fields.keys()
    set_there = {name: value for name, value in dotenv_values(ROOT / ".env.example").items() if value is not None}
    assert set_there == {
        "FAILURE_RECOVERY_ENABLED": "true",
        "FAILURE_SCAN_INTERVAL_MINUTES": "30",
        "FAILURE_MAX_RECOVERY_ATTEMPTS": "3",
        "FAILURE_NOTIFICATION_ENABLED": "true",
    }
