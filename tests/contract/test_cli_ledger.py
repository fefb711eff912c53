"""The command line on a real ledger."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import sqlite3
import struct
import subprocess
import sys
import termios
from collections.abc import Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from rich.cells import cell_len

from regrow import wiring
from regrow.adapters.spool import Spool
from regrow.capture import causes_from_text
from regrow.cli.app import run
from regrow.model import DISPATCHER, WORKER, Failure, Member, Record, State
from regrow.testing import a_failure

SOURCES = Path(__file__).parents[2] / "src"

FAILED = (
    ("shop.orders.process", "ConnectionError", "[Errno 111] Connection refused"),
    ("shop.imports.read", "json.decoder.JSONDecodeError", "Expecting value: line 1 column 1 (char 0)"),
    ("[red]x\x1b[31m\u202e", "ValueError", "bad \x1b]0;title\x07 \x9b31m [bold]text[/bold]"),
    ("订单.处理订单", "shop.CourierError", "不支持的快递公司：" + "顺丰同城（上海市浦东新区），" * 12),
    ("shop." + "a_rather_long_name_" * 6, "Exception", ""),
)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger with a few failures of every kind."""
    file = tmp_path_factory.mktemp("filled") / "regrow.db"
    settings = wiring.load_settings(database_url=f"sqlite:///{file}", mode="recover", language="en")
    wiring.upgrade(settings)
    regrow = wiring.connect(Celery("shop", broker="memory://"), settings)
    now = wiring.clock().replace(year=2025, month=12, day=31, hour=20, minute=0, second=7)
    regrow.handle(
        [
            Failure(
                task_id=f"task-{number}",
                task_name=name,
                failed_at=now + timedelta(minutes=number),
                causes=causes_from_text(kind, text, ""),
                traceback=f'Traceback (most recent call last):\n\tFile "a.py", line 1\n{kind}: {text}\n',
                fingerprint="1:abc",
                worker="celery@one",
                queue="orders",
                envelope="{}",
                parkable=True,
            )
            for number, (name, kind, text) in enumerate(FAILED)
        ]
    )
    return file


@pytest.fixture
def ledger(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a copy of that ledger, and the environment that leads to it."""
    monkeypatch.chdir(tmp_path)
    for name in ("REGROW_APP", "FAILURE_LANGUAGE", "COLUMNS", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FAILURE_DATABASE_URL", f"sqlite:///{tmp_path}/regrow.db")
    monkeypatch.setenv("FAILURE_MODE", "recover")
    monkeypatch.setenv("FAILURE_TIMEZONE", "Asia/Shanghai")
    with closing(sqlite3.connect(filled)) as source, closing(sqlite3.connect(tmp_path / "regrow.db")) as copy:
        source.backup(copy)
    return tmp_path


class Answer:
    """What a command line printed, and its exit code."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *arguments: str) -> None:
        with pytest.raises(SystemExit) as caught:
            run(arguments)
        self.code = caught.value.code
        self.out, self.err = capsys.readouterr()

    @property
    def json(self) -> Any:
        """The output, read as a program reads it."""
        return json.loads(self.out)


def on_terminal(width: int, *arguments: str, **environment: str) -> str:
    """What a terminal of that width is sent."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "regrow", *arguments],
        env={**os.environ, "PYTHONPATH": str(SOURCES), "TERM": "xterm-256color", **environment},
        stdin=slave,
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    sent = b""
    try:
        while some := os.read(master, 65536):
            sent += some
    except OSError:  # how Linux says that the other side of a terminal is gone
        pass
    os.close(master)
    assert process.wait() == 0
    return sent.decode().replace("\r\n", "\n")


# -- the ledger at a glance --------------------------------------------------------------------------------------------


def test_status_for_programs(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The contract of `status --json`: each state is counted, and the equation holds."""
    answer = Answer(capsys, "status", "--json")
    assert answer.code == 0
    counts = answer.json["ledger"]
    assert set(counts) == {*State, "captured", "balanced"}
    assert counts["captured"] == len(FAILED) == sum(counts[state] for state in State)
    assert counts["balanced"] is True
    assert counts["scheduled"] == 1
    assert answer.json["mode"] == "recover"
    assert answer.json["database"] == f"sqlite:///{ledger}/regrow.db"
    assert answer.json["parked"] == 1
    # One message for each failure but the one that is retried, to both of the administrator's channels.
    assert answer.json["undelivered"] == 2 * (len(FAILED) - 1)
    assert answer.json["overdue"] == 0


def test_status_for_people(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """People see the same."""
    answer = Answer(capsys, "status")
    assert answer.code == 0
    assert "captured 5 = recovered 0 + scheduled 1 + held 0 + dispatched 0 + handed_over 4" in answer.out
    assert "balanced: yes" in answer.out


def test_who_is_at_work(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Status names who is alive and who has fallen silent, and what waits on this machine's disk."""
    now = wiring.clock()
    store = wiring.open_store(wiring.load_settings())
    assert Answer(capsys, "status", "--json").json["members"] == []
    assert "no worker and no dispatcher has given a sign of life" in Answer(capsys, "status").out
    late = now - timedelta(hours=2)
    store.beat(Member("1", WORKER, "a@one", 11, late, now, ("orders", "mails"), spooled_bytes=7))
    store.beat(Member("2", DISPATCHER, "one", 12, late, late))
    spool = Spool(ledger / "spool", limit_bytes=10_000)
    spool.put(a_failure())
    (ledger / "spool" / "1-2.damaged").write_bytes(b"bad\n")
    answer = Answer(capsys, "status", "--json").json
    assert answer["spool"] == {"bytes": spool.size() - 4, "damaged_bytes": 4, "folder": str(ledger / "spool")}
    assert [(one["kind"], one["name"], one["alive"]) for one in answer["members"]] == [
        ("worker", "a@one", True),
        ("dispatcher", "one", False),
    ]
    keys = {"kind", "name", "pid", "alive", "seen_at", "queues", "skew_seconds", "spooled_bytes"}
    assert {frozenset(one) for one in answer["members"]} == {frozenset(keys)}
    assert (answer["members"][0]["queues"], answer["members"][0]["spooled_bytes"]) == (["orders", "mails"], 7)
    out = Answer(capsys, "status").out
    assert "a@one, 7 bytes in its spool" in out
    assert re.search(r"dispatcher +last seen ", out)
    assert "4 bytes more are damaged" in out
    for number in range(20):
        store.beat(Member(f"m{number}", WORKER, f"{number}@one", number, late, now))
    many = Answer(capsys, "status")
    assert many.out.count("@one") == 10
    assert "12 more" in many.err


def test_unbalanced_ledger(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A ledger that lost a failure says so and ends with 1."""
    with closing(sqlite3.connect(ledger / "regrow.db", isolation_level=None)) as connection:
        connection.execute("DELETE FROM regrow_failure WHERE id = 2")
    answer = Answer(capsys, "status", "--json")
    assert answer.code == 1
    assert answer.json["ledger"]["balanced"] is False
    assert "balanced: no" in Answer(capsys, "status").out


def test_password_is_hidden(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No form of output holds the ledger's password."""
    url = "postgresql://me:secret1@127.0.0.1:1/x"
    answer = Answer(capsys, "--database-url", url, "status")
    assert answer.code == 1
    assert answer.err.startswith("regrow: cannot")
    assert "secret1" not in answer.out + answer.err


def test_ledger_that_is_not_set_up(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A ledger without tables says what to do; doing it, even twice, makes it work."""
    url = f"sqlite:///{ledger}/new.db"
    answer = Answer(capsys, "--database-url", url, "status")
    assert answer.code == 1
    assert "regrow db upgrade" in answer.err
    assert "is set up" in Answer(capsys, "--database-url", url, "db", "upgrade").out
    assert "up to date" in Answer(capsys, "--database-url", url, "db", "upgrade").out
    assert Answer(capsys, "--database-url", url, "status", "--json").json["ledger"]["captured"] == 0


# -- failures ----------------------------------------------------------------------------------------------------------


def test_pages_hold_everything_once(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Page after page, newest first, each failure comes once."""
    seen: list[str] = []
    before: Sequence[str] = ()
    while True:
        page = Answer(capsys, "failures", "--json", "--limit", "2", *before).json
        seen += [one["task_id"] for one in page["failures"]]
        if page["next_before"] is None:
            break
        before = ("--before", str(page["next_before"]))
    assert seen == [f"task-{number}" for number in reversed(range(len(FAILED)))]


def test_filters(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """States, a category and a task's name narrow the list."""

    def found(*options: str) -> list[str]:
        return [one["task_id"] for one in Answer(capsys, "failures", "--json", *options).json["failures"]]

    assert found("--state", "scheduled") == ["task-0"]
    assert len(found("--state", "scheduled", "--state", "handed_over")) == len(FAILED)
    assert found("--category", "recoverable_network") == ["task-0"]
    assert found("--task", "订单.处理订单") == ["task-3"]
    assert found("--task", "no.such") == []


def test_one_line_each_in_a_pipe(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In a pipe each failure is one line of tab-separated fields; what is said beside them goes to stderr."""
    answer = Answer(capsys, "failures", "--limit", "3")
    rows = [line.split("\t") for line in answer.out.splitlines()]
    assert [row[5] for row in rows] == ["task-4", "task-3", "task-2"]
    assert {len(row) for row in rows} == {8}
    assert answer.err == f"Older ones: add --before {rows[-1][0]}\n"
    assert Answer(capsys, "failures", "--task", "no.such").out == ""


# -- one failure -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["1", "task-0"])
def test_show_for_programs(which: str, ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A failure is found by its id and by its task's id, with every run and its whole verdict."""
    record = Answer(capsys, "show", which, "--json").json
    assert record["task_id"] == "task-0"
    assert set(record) == set(Record.__dataclass_fields__)
    (attempt,) = record["history"]
    assert attempt["failed_at"] == "2025-12-31T20:00:07" + attempt["failed_at"][19:]
    assert attempt["failed_at"].endswith("+00:00")
    assert attempt["verdict"]["category"] == "recoverable_network"
    assert attempt["action"] == "retry"


def test_show_for_people(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """People see the story in their own time zone, down to the traceback."""
    out = Answer(capsys, "show", "task-0").out
    assert out.startswith("shop.orders.process\n")
    assert "2026-01-01 04:00:07" in out, "20:00 in UTC is next year in Shanghai"
    assert "network trouble (recoverable_network)" in out
    assert "Time may heal this" in out
    assert "yes, Celery waits for this task to end" in out
    assert 'Traceback (most recent call last):\n    File "a.py", line 1\n' in out


@pytest.mark.parametrize("command", ["show", "explain"])
@pytest.mark.parametrize("which", ["99", "no-such-task", "", "0", "-1", "1" * 40, "é"])
def test_unknown_failure(command: str, which: str, ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is not there is said to be not there."""
    answer = Answer(capsys, command, "--", which)
    assert answer.code in (1, 2)
    assert answer.out == ""
    assert "no failure with the id" in answer.err or "give either" in answer.err


def test_explain(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A failure of the ledger is explained as it was judged when it happened."""
    out = Answer(capsys, "explain", "task-1").out
    assert "bad data (unrecoverable_data)" in out
    assert "no, trying again cannot heal this" in out
    stored = Answer(capsys, "show", "task-1", "--json").json["history"][0]["verdict"]
    explained = Answer(capsys, "explain", "task-1", "--json").json
    assert explained.pop("retry") is False
    assert explained == stored


def test_verdict_of_another_version(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A verdict in a form that this version does not know still lets a failure be shown."""
    with closing(sqlite3.connect(ledger / "regrow.db", isolation_level=None)) as connection:
        connection.execute("UPDATE regrow_attempt SET verdict = '[]', action = 'wait', reason = 'moon', category = 'x'")
        connection.execute("UPDATE regrow_failure SET reason = 'moon', category = 'x'")
    assert "wait: moon" in Answer(capsys, "show", "1").out
    assert Answer(capsys, "explain", "1").code == 0
    with closing(sqlite3.connect(ledger / "regrow.db", isolation_level=None)) as connection:
        connection.execute("UPDATE regrow_attempt SET verdict = 'cut off {'")
    assert Answer(capsys, "show", "1", "--json").json["history"][0]["verdict"] == "cut off {"


# -- terminals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("width", [60, 100])
@pytest.mark.parametrize("command", ["status", "failures", "show 4", "show 3", "explain 4"])
def test_terminal(command: str, width: int, language: str, ledger: Path) -> None:
    """On a terminal nothing but colours steers it, and no line is cut by the terminal itself, save a traceback's."""
    sent = on_terminal(width, *command.split(), FAILURE_LANGUAGE=language)
    shown = re.sub(r"\x1b\[[0-9;]*m", "", sent)
    assert "\x1b[" in sent, "a terminal gets colours"
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", shown)
    own = shown.split("Traceback (most recent call last)")[0]
    assert max(cell_len(line) for line in own.split("\n")) <= width


def test_no_colour_where_none_is_wanted(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """NO_COLOR is obeyed on a terminal, and a pipe never gets colours."""
    assert not re.search(r"\x1b\[[0-9;]*3\d", on_terminal(80, "failures", NO_COLOR="1"))
    assert "\x1b" not in Answer(capsys, "show", "3").out


def test_terminal_without_the_characters(ledger: Path) -> None:
    """Where the terminal's encoding lacks a character its number is printed, and JSON stays JSON."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(SOURCES),
        "PYTHONIOENCODING": "ascii",
        "FAILURE_LANGUAGE": "zh",
    }
    for options in ((), ("--json",)):
        command = [sys.executable, "-m", "regrow", "show", "4", *options]
        done = subprocess.run(command, env=environment, capture_output=True, check=True)
        assert done.stdout.isascii()
        assert done.stderr == b""
    assert json.loads(done.stdout)["task_name"] == "订单.处理订单"


# -- inside Celery -----------------------------------------------------------------------------------------------------


def test_inside_celery(ledger: Path) -> None:
    """`celery -A proj regrow ...` is `regrow -A proj ...`: the application's settings count."""
    (ledger / "proj.py").write_text(
        "import celery, regrow\n"
        "app = celery.Celery('proj', broker='memory://')\n"
        f"regrow.install(app, database_url='sqlite:///{ledger}/regrow.db', mode='recover')\n"
    )
    installed = ledger / "site" / "regrow-0.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: regrow\nVersion: 0\n")
    (installed / "entry_points.txt").write_text("[celery.commands]\nregrow = regrow.cli:celery_command\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(SOURCES), str(ledger / "site")))}
    del environment["FAILURE_DATABASE_URL"]

    def said(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", *command], env=environment, cwd=ledger, capture_output=True, text=True
        )

    inside = said("celery", "-A", "proj", "regrow", "status", "--json")
    assert inside.returncode == 0
    outside = said("regrow", "-A", "proj", "status", "--json")
    assert json.loads(inside.stdout)["ledger"] == json.loads(outside.stdout)["ledger"]
    assert json.loads(inside.stdout)["ledger"]["captured"] == len(FAILED)
    assert "Usage: celery regrow failures" in said("celery", "-A", "proj", "regrow", "failures", "--help").stdout
    missing = said("celery", "-A", "proj", "regrow", "show", "99")
    assert missing.returncode == 1
    assert missing.stderr == "regrow: no failure with the id 99 in the ledger\n"
