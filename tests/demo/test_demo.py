"""`make demo`: it says what is true, `regrow status` says the same afterwards, and what is broken is called broken."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

#: Put on the path of every process of the demo: nothing that recovers is ever settled.
NEVER_SETTLE = """
from regrow.adapters.sql.store import SqlStore
SqlStore.recovered = lambda self, failure, *, now: True
"""


def environment(**more: str) -> dict[str, str]:
    ours = ("FAILURE_", "APP_", "COURIER_", "CELERY_", "DEMO_", "REGROW_APP", "COLUMNS", "PYTHONPATH")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", **more}


def demo(folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "app.demo"]
    return subprocess.run(
        command, cwd=folder, env=environment(**more), capture_output=True, encoding="utf-8", timeout=100, check=False
    )


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


def test_everything_holds_and_status_tells_the_same_afterwards(tmp_path):
    """The demo ends with 0, leaves no process, and the commands that it prints work and agree with it."""
    done = demo(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "FAILED" not in done.stdout
    assert left_behind(tmp_path) == []

    commands = printed_commands(done.stdout)
    script = "\n".join(f"{line} --json" if line.endswith(" status") else f"{line} >&2" for line in commands)
    told = subprocess.run(
        ["sh", "-ec", script], cwd=tmp_path, env=environment(), capture_output=True, encoding="utf-8", check=False
    )
    assert told.returncode == 0, told.stderr
    ledger = json.loads(told.stdout)["ledger"]
    equation = re.search(r"captured \d+ = .*", done.stdout)
    assert equation is not None
    counts = {name: int(count) for name, count in re.findall(r"(\w+) (\d+)", equation[0])}
    assert {**counts, "balanced": True} == ledger
    assert counts["recovered"] > 0
    assert counts["handed_over"] > 0
    assert counts["exhausted"] > 0


def test_a_retry_that_is_never_settled_makes_it_fail(tmp_path):
    """A ledger that forgets every success is found out, and the check that found it is named."""
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "sitecustomize.py").write_text(NEVER_SETTLE)
    path = os.pathsep.join((str(ROOT), str(tmp_path / "broken")))
    done = demo(tmp_path, PYTHONPATH=path, DEMO_LIMIT_SECONDS="30")
    assert done.returncode == 1, done.stdout + done.stderr
    for check in ("every task has come to an end in time", "every task has ended as it should", "nothing is left"):
        assert re.search(f"^FAILED  {check}", done.stdout, flags=re.MULTILINE), done.stdout
    assert left_behind(tmp_path) == []


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_ctrl_c_leaves_no_process_behind(tmp_path):
    """Interrupted in the middle, the demo stops its worker and its dispatcher first."""
    command = [sys.executable, "-m", "app.demo"]
    running = subprocess.Popen(
        command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"
    )
    with running:
        assert running.stdout is not None
        for line in running.stdout:
            if "worker is ready" in line:
                break
        running.send_signal(signal.SIGINT)
        output, errors = running.communicate(timeout=60)
    assert running.returncode == 130, output + errors
    assert "Traceback" not in errors
    assert left_behind(tmp_path) == []
