"""`python celery_beat_manager.py start|stop|restart|status`: one beat in the background, and the truth about it."""

from __future__ import annotations

import os
import re
import shelve
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.app.place import Place, place
from tests.celery_worker import ROOT, alive, until

MANAGER = str(ROOT / "celery_beat_manager.py")

OK, FAILED, USAGE, NOT_RUNNING = 0, 1, 2, 3


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Place]:
    """The application with data of its own; nothing of it is on the PATH."""
    with place(tmp_path, FAILURE_LANGUAGE="en", PYTHONPATH="", PATH=os.defpath) as made:
        yield made


def manager(here: Place, *arguments: str, **environment: str) -> tuple[int, str]:
    """Exit code and output of a call, from a directory that is not the project's."""
    done = here.run(MANAGER, *arguments, **environment)
    return done.returncode, done.stdout + done.stderr


def pid_file(here: Place) -> Path:
    """Where beat notes its process id."""
    return here.var / "beat" / "beat.pid"


def started(here: Place) -> int:
    """The process id of a beat that the manager has started."""
    code, text = manager(here, "start")
    assert code == OK, text
    found = re.search(r"process (\d+)", text)
    assert found, text
    return int(found[1])


# -- one life ---------------------------------------------------------------------------------------------------------


def test_a_life(here: Place) -> None:
    """Start, start again, status, restart, stop, stop again: each does what it says, and says what it did."""
    code, text = manager(here, "status")
    assert code == NOT_RUNNING
    assert text.startswith("beat is not running\n")

    first = started(here)
    assert alive(first)
    assert os.getsid(first) == first  # no terminal takes it along
    code, text = manager(here, "start")
    assert (code, text) == (OK, f"beat is running already (process {first}); nothing to do\n")
    code, text = manager(here, "status")
    assert code == OK
    assert text.startswith(f"beat is running: process {first}, since {datetime.now().astimezone():%Y-%m-%d}")

    code, text = manager(here, "restart")
    assert code == OK
    assert f"beat has stopped (process {first})" in text
    second = int(pid_file(here).read_text())
    assert second != first
    assert not alive(first)
    assert alive(second)

    assert manager(here, "stop") == (OK, f"beat has stopped (process {second})\n")
    # It gives its lock back a moment before the process is gone.
    until(lambda: not alive(second), "the end of the process")
    assert manager(here, "stop") == (OK, "beat is not running\n")
    assert manager(here, "status")[0] == NOT_RUNNING


def test_beat_logs(here: Place) -> None:
    """Beat writes its own log and the one that all share."""
    started(here)
    until(lambda: "beat: Starting..." in here.log(), "celery.log")
    assert "beat: Starting..." in (here.logs / "celery_beat.log").read_text()


def test_entries_are_sent_and_status_tells_when(here: Place) -> None:
    """The beat that the manager starts really sends every entry; status says what each is for and when it was sent."""
    started(here)
    text = manager(here, "status")[1]
    assert text.count("last sent: not yet") == 3
    manager(here, "stop")
    with shelve.open(str(here.var / "beat" / "schedule"), writeback=True) as schedule:
        for entry in schedule["entries"].values():
            entry.last_run_at -= timedelta(hours=7)
    before = datetime.now(UTC).replace(microsecond=0)
    started(here)
    until(lambda: len(here.messages("recovery")) + len(here.messages("monitoring")) >= 3, "three messages")
    until(lambda: len(list((here.var / "beat").glob("*-*.sent"))) == 3, "three notes")
    tasks = {one["headers"]["task"] for queue in ("recovery", "monitoring") for one in here.messages(queue)}
    assert tasks >= {
        "app.tasks.failure_tasks.scan_and_process_failed_tasks",
        "app.tasks.failure_tasks.analyze_failure_patterns",
    }
    code, text = manager(here, "status")
    assert code == OK
    assert "scan-and-process-failed-tasks\n    Scan failed tasks" in text
    assert "app.tasks.failure_tasks.scan_and_process_failed_tasks, queue recovery, every 30 min, last sent: " in text
    assert "app.tasks.failure_tasks.analyze_failure_patterns, queue monitoring, every 6 h, last sent: " in text
    times = [datetime.fromisoformat(one) for one in re.findall(r"last sent: (\S+ \S+)", text)]
    assert len(times) == 3
    assert all(before <= one <= datetime.now(UTC) for one in times)


def test_status_counts_the_workers_that_answer(here: Place) -> None:
    """No worker means that nothing runs, so status says how to start one; else it names them."""
    assert "no worker answers" in manager(here, "status")[1]
    here.environment["PYTHONPATH"] = str(ROOT)
    here.worker()
    assert re.search(r"workers that answer: 1 \(\w+@test\)", manager(here, "status")[1])


def test_status_without_a_broker(here: Place) -> None:
    """A broker that is down is said, and the rest is told all the same."""
    code, text = manager(here, "status", CELERY_BROKER_URL="amqp://127.0.0.1:1")
    assert code == NOT_RUNNING
    assert "workers cannot be asked: " in text
    assert "scan-and-process-failed-tasks" in text


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"FAILURE_MODE": "observe"}, "FAILURE_MODE=observe only records"),
        ({"FAILURE_RECOVERY_ENABLED": "false"}, "FAILURE_RECOVERY_ENABLED has switched retries off"),
    ],
)
def test_status_says_why_nothing_is_retried(here: Place, setting: dict[str, str], words: str) -> None:
    """The guide asks for status when automatic recovery does not work: a switch may be the reason."""
    assert words in manager(here, "status", **setting)[1]


def test_chinese(here: Place) -> None:
    """The application speaks Chinese unless it is told otherwise."""
    here.environment["FAILURE_LANGUAGE"] = "zh"
    assert manager(here, "start")[1].startswith("beat 已启动")
    text = manager(here, "status")[1]
    assert text.startswith("beat 正在运行：进程 ")
    assert "扫描失败任务，自动分析和恢复可恢复的任务" in text
    assert "每 6 小时，上次发送：尚未发送" in text
    assert manager(here, "stop")[1].startswith("beat 已停止")


# -- what goes wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [(), ("begin",), ("start", "stop"), ("stop", "--wait", "soon")])
def test_usage(here: Place, arguments: tuple[str, ...]) -> None:
    """What it does not understand changes nothing."""
    code, text = manager(here, *arguments)
    assert code == USAGE
    assert "Usage: celery_beat_manager.py" in text


def test_help(here: Place) -> None:
    """-h lists the four actions."""
    code, text = manager(here, "-h")
    assert code == OK
    assert "{start|stop|restart|status}" in text


def test_a_beat_that_was_killed(here: Place) -> None:
    """The pid file of a beat that was killed is seen to be stale, and hinders nobody."""
    pid = started(here)
    os.kill(pid, signal.SIGKILL)
    until(lambda: not alive(pid), "its end")
    code, text = manager(here, "status")
    assert code == NOT_RUNNING
    assert text.startswith(f"beat is not running: its pid file is stale, the last beat (process {pid})")
    code, text = manager(here, "start")
    assert code == OK
    assert "found a stale pid file" in text
    assert "beat has started" in text


def test_a_pid_that_is_somebody_elses(here: Place) -> None:
    """A pid that by now belongs to another program is not taken for beat, and that program is left alone."""
    other = here.start("-c", "import time; time.sleep(600)")
    pid_file(here).parent.mkdir(parents=True)
    pid_file(here).write_text(str(other.pid))
    assert manager(here, "status")[0] == NOT_RUNNING
    assert manager(here, "stop") == (OK, "beat is not running\n")
    assert manager(here, "start")[0] == OK
    assert int(pid_file(here).read_text()) != other.pid
    assert manager(here, "stop")[0] == OK
    assert other.popen.poll() is None


def test_a_pid_file_from_a_container(here: Place) -> None:
    """A lock may reach across containers, process ids do not: what is not beat here is not stopped."""
    code = f"""
import fcntl, os, time
file = open({str(pid_file(here))!r}, "w")
fcntl.flock(file, fcntl.LOCK_EX)
print(os.getpid(), file=file, end="", flush=True)
time.sleep(600)
"""
    pid_file(here).parent.mkdir(parents=True)
    other = here.start("-c", code)
    until(lambda: pid_file(here).exists() and pid_file(here).read_text(), "the pid file")
    code_, text = manager(here, "stop")
    assert code_ == FAILED
    assert f"process {other.pid} is not beat" in text
    assert other.popen.poll() is None


def test_starts_at_once(here: Place) -> None:
    """Several starts at one moment make one beat; each of them is well."""
    calls = [
        subprocess.Popen(
            [sys.executable, MANAGER, "start"],
            cwd=here.folder,
            env=here.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )
        for _ in range(3)
    ]
    texts = [call.communicate(timeout=120)[0] for call in calls]
    assert [call.returncode for call in calls] == [OK] * 3, texts
    pid = pid_file(here).read_text()
    assert sum("beat has started" in text for text in texts) == 1
    assert all(f"process {pid}" in text for text in texts)
    assert manager(here, "status")[0] == OK


def test_a_beat_that_does_not_stop(here: Place) -> None:
    """SIGTERM is answered by nothing: after the time that was given it is killed, and that is said."""
    pid = started(here)
    os.kill(pid, signal.SIGSTOP)
    code, text = manager(here, "stop", "--wait", "0.3")
    assert code == OK
    assert "beat did not stop within 0.3 s; killing it" in text
    assert f"beat has stopped (process {pid})" in text
    assert not alive(pid)


def test_a_wrong_setting(here: Place) -> None:
    """Start names it; stop does its work all the same."""
    wrong = {"FAILURE_SCAN_INTERVAL_MINUTES": "0"}
    code, text = manager(here, "start", **wrong)
    assert code == FAILED
    assert "FAILURE_SCAN_INTERVAL_MINUTES='0'" in text
    assert "Traceback" not in text
    pid = started(here)
    assert manager(here, "stop", **wrong)[0] == OK
    assert not alive(pid)


def test_a_beat_that_does_not_start(here: Place) -> None:
    """The end of its log is shown, and the exit code tells."""
    code, text = manager(here, "start", CELERY_BROKER_URL="nonsense://host")
    assert code == FAILED
    assert "beat did not start" in text
    assert "nonsense" in text


def test_logs_that_cannot_be_written(here: Place) -> None:
    """A background process without a log would be blind: it is not started."""
    here.logs.write_text("a file where the folder should be")
    code, text = manager(here, "start")
    assert code == FAILED
    assert str(here.logs) in text
    assert manager(here, "status")[0] == NOT_RUNNING


def test_the_wrong_interpreter(here: Place) -> None:
    """An interpreter without our packages gets told which one to take."""
    done = subprocess.run(
        [sys.executable, "-S", "-E", MANAGER, "status"],
        capture_output=True,
        encoding="utf-8",
        check=False,
        cwd=here.folder,
    )
    assert done.returncode == FAILED
    assert ".venv/bin/python" in done.stderr
    assert "Traceback" not in done.stderr
