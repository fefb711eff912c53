"""`make demo` and `make up`: what is said is true, and still true afterwards; what is broken is called broken."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.demo.checks import CHECKS
from app.demo.texts import texts

ROOT = Path(__file__).resolve().parents[2]

#: Put on the path of every process of the demo: nothing that recovers is ever settled.
NEVER_SETTLE = """
from regrow.adapters.sql.store import SqlStore
SqlStore.recovered = lambda self, failure, *, now: True
"""

needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the settings that the project's root has."""
    shutil.copy(ROOT / "regrow.toml", tmp_path)
    return tmp_path


def environment(**more: str) -> dict[str, str]:
    ours = ("FAILURE_", "APP_", "COURIER_", "CELERY_", "DEMO_", "REGROW_APP", "COLUMNS", "PYTHONPATH", "LANG", "LC_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return {**kept, "LANG": "C.UTF-8", "PYTHONPATH": path, "PYTHONUTF8": "1", **more}


def demo(folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    return run(folder, sys.executable, "-m", "app.demo", **more)


def run(folder: Path, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, env=environment(**more), capture_output=True, encoding="utf-8", timeout=180, check=False
    )


@contextmanager
def running(folder: Path, *command: str, until: str) -> Iterator[subprocess.Popen[str]]:
    """A process that has printed some words; it is killed if the test leaves it running."""
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    with process:
        try:
            assert process.stdout is not None
            assert any(until in line for line in process.stdout), process.stderr.read()
            yield process
        finally:
            process.kill()


def left_behind(folder: Path) -> list[str]:
    """What still runs in the demo's folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink() == folder:
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


def printed_commands(output: str) -> list[str]:
    return re.findall(r"^  (.+)$", output.partition("Look further:")[2], flags=re.MULTILINE)


def test_everything_holds_and_status_tells_the_same_afterwards(folder):
    """The demo ends with 0, leaves no process, and the commands that it prints work as printed and agree with it."""
    for file in ("var/app/regrow.db", "logs/admin_alerts.log"):
        (folder / file).parent.mkdir(parents=True)
        (folder / file).write_text("of an earlier run\n")
    done = demo(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "FAILED" not in done.stdout
    for text, _ in CHECKS:
        assert re.search(f"^ok +{re.escape(text)}$", done.stdout, flags=re.MULTILINE), done.stdout
    assert left_behind(folder) == []

    commands = printed_commands(done.stdout)
    assert commands[0].endswith("regrow status")
    script = "\n".join(f"{line} --json" if line.endswith(" status") else f"{line} >&2" for line in commands)
    told = run(folder, "sh", "-ec", script, PYTHONPATH=os.environ.get("PYTHONPATH", ""))
    assert told.returncode == 0, told.stderr
    ledger = json.loads(told.stdout)["ledger"]
    equation = re.search(r"captured \d+ = .*", done.stdout)
    assert equation is not None
    counts = {name: int(count) for name, count in re.findall(r"(\w+) (\d+)", equation[0])}
    assert {**counts, "balanced": True} == ledger
    assert all(counts[name] for name in ("recovered", "handed_over", "exhausted", "held"))

    # What was there before is kept.
    assert (folder / "var" / "app.before" / "regrow.db").read_text() == "of an earlier run\n"
    assert (folder / "logs" / "admin_alerts.log").read_text().startswith("of an earlier run\n")


def test_a_retry_that_is_never_settled_makes_it_fail(tmp_path):
    """A ledger that forgets every success is found out, and the check that found it is named."""
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "sitecustomize.py").write_text(NEVER_SETTLE)
    path = os.pathsep.join((environment()["PYTHONPATH"], str(tmp_path / "broken")))
    done = demo(tmp_path, PYTHONPATH=path, DEMO_LIMIT_SECONDS="25")
    assert done.returncode == 1, done.stdout + done.stderr
    for check in ("every task has come to an end in time", "every task has ended as it should", "nothing is left"):
        assert re.search(f"^FAILED  {check}", done.stdout, flags=re.MULTILINE), done.stdout
    assert left_behind(tmp_path) == []


@needs_proc
def test_only_one_runs_at_a_time_and_ctrl_c_leaves_no_process_behind(folder):
    """A second demo is refused and harms nothing; the first one, interrupted in the middle, stops its worker first."""
    with running(folder, "-m", "app.demo", until="worker is ready") as first:
        second = demo(folder)
        assert second.returncode == 1
        assert "something runs in var/app already" in second.stdout
        assert (folder / "var" / "app" / "regrow.db").exists()
        first.send_signal(signal.SIGINT)
        output, errors = first.communicate(timeout=60)
        assert first.returncode == 130, output + errors
    assert "Traceback" not in errors
    assert left_behind(folder) == []


@needs_proc
def test_up_keeps_a_worker_and_beat_until_ctrl_c(folder):
    """Tasks run, their failures are told, beat is alive; a demo is refused meanwhile, and Ctrl-C ends all in order."""
    celery = (sys.executable, "-m", "celery", "-A", "app.tasks.celery_app")
    with running(folder, "-m", "app.up", until="regrow failures") as up:
        code = (
            "from app.tasks.business import tracking_update as task;"
            "print(task.apply_async(['SF10000001']).get(timeout=60))"
        )
        sent = run(folder, sys.executable, "-c", code)
        assert sent.stdout == "运输中\n", sent.stderr
        assert (folder / "var" / "app" / "beat" / "beat.pid").read_text().isdecimal()
        assert "demo@localhost" in run(folder, *celery, "inspect", "active").stdout
        assert demo(folder).returncode == 1
        up.send_signal(signal.SIGINT)
        output, errors = up.communicate(timeout=60)
        assert up.returncode == 0, output + errors
    assert "Stopped." in output
    assert left_behind(folder) == []


@needs_proc
def test_a_worker_of_somebody_else_is_not_robbed(folder):
    """A worker that was started by hand on the same data makes the demo refuse to begin, and names the worker."""
    from tests.app.place import place

    with place(folder, APP_VAR=str(folder / "var" / "app")) as here:
        here.worker()
        done = demo(folder)
        assert done.returncode == 1
        assert re.search(r"var/app is in use; stop this first: \w+@test", done.stdout), done.stdout + done.stderr
    assert not (folder / "var" / "app.before").exists()


def test_every_text_has_a_translation():
    """Whatever the demo and `make up` say in words of their own is Chinese for who reads Chinese."""
    said = {text for text, _ in CHECKS}
    for file in (*(ROOT / "app" / "demo").glob("*.py"), ROOT / "app" / "up.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in ("say", "_step", "_alarm"):
                said |= {one.value for one in node.args if isinstance(one, ast.Constant)}
    chinese = texts("zh")
    assert sorted(text for text in said if chinese(text) == text) == []
