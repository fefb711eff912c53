"""The command line as far as it needs no ledger."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from regrow.cli import jsonl
from regrow.cli.app import run
from regrow.cli.screen import Screen, state_meaning
from regrow.cli.text import one_line, plain, to_json
from regrow.model import NETWORK, UNKNOWN, Cause, State, Verdict
from regrow.wiring import clock, words

SOURCES = Path(__file__).parents[2] / "src"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings of this machine or this folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("REGROW_APP", "FAILURE_DATABASE_URL", "FAILURE_LANGUAGE", "FAILURE_MODE", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)


def ended(*arguments: str) -> int | str | None:
    """The exit code of a command line."""
    with pytest.raises(SystemExit) as caught:
        run(arguments)
    return caught.value.code


# -- starting --------------------------------------------------------------------------------------------------------


def test_help_loads_nothing_heavy() -> None:
    """A person who asks for help waits for typer alone."""
    script = (
        "import atexit, sys; atexit.register(lambda: print(*sorted(sys.modules), sep='\\n'));"
        "sys.argv = ['regrow', '--help']; from regrow.cli import main; main()"
    )
    environment = {"PYTHONPATH": str(SOURCES)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert "Failed Celery tasks" in done.stdout
    loaded = set(done.stdout.split("\n"))
    assert "regrow.cli.app" in loaded
    assert not loaded & {
        "rich",
        "sqlalchemy",
        "pydantic",
        "celery",
        "kombu",
        "click",
        "regrow.model",
        "regrow.wiring",
    }


def test_every_command_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    """Each command has a help text."""
    for command in ("run", "doctor", "drain", "status", "failures", "show", "explain", "classify", "db upgrade"):
        assert ended(*command.split(), "--help") == 0
        assert f"Usage: regrow {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("run",), "name your Celery application"),
        (("doctor",), "name your Celery application"),
        (("drain",), "name your Celery application"),
        (("-A", "no_such_module", "run"), "no Celery application at 'no_such_module'"),
        (("failures", "--state", "lost"), "no such state: lost; known are: new, scheduled"),
        (("explain",), "give either the ID of a failure, or texts"),
        (("explain", "1", "--message", "no"), "give either the ID of a failure, or texts"),
        (("classify",), "give either an error message, or --jsonl FILE"),
        (("classify", "text", "--jsonl", "-"), "give either an error message, or --jsonl FILE"),
        (("--database-url", "oracle://x", "status"), "oracle is not supported"),
        (("show",), "Missing argument"),
        (("nonsense",), "No such command"),
    ],
)
def test_wrong_usage(arguments: Sequence[str], problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What the caller got wrong is said in one line, with exit code 2 and no traceback."""
    assert ended(*arguments) == 2
    captured = capsys.readouterr()
    assert problem in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""


def test_wrong_setting(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong setting is named, with exit code 2."""
    monkeypatch.setenv("FAILURE_MODE", "repair")
    assert ended("status") == 2
    assert "regrow: FAILURE_MODE='repair'" in capsys.readouterr().err


@pytest.mark.parametrize("debug", [False, True])
def test_unexpected_error(
    debug: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An application that breaks when it is loaded gives one line; with --debug it shows where."""
    (tmp_path / "breaks.py").write_text("raise RuntimeError('no \\x1b[31mluck')")
    monkeypatch.syspath_prepend(tmp_path)
    if debug:
        with pytest.raises(RuntimeError):
            run(("--debug", "-A", "breaks", "run"))
    else:
        assert ended("-A", "breaks", "run") == 1
        assert "unexpected RuntimeError: no \\x1b[31mluck" in capsys.readouterr().err


@pytest.mark.parametrize("command", [("--help",), ("classify", "--jsonl", "-")])
def test_reader_goes_away(command: Sequence[str]) -> None:
    """When nobody reads the output any longer, nothing is complained about."""
    process = subprocess.Popen(
        [sys.executable, "-m", "regrow", *command],
        env={"PYTHONPATH": str(SOURCES)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()
    lines = b'{"id": 1, "message": "Connection refused"}\n' * 2000
    process.stdout = None
    _, complaints = process.communicate(lines)
    assert complaints == b""
    assert process.returncode != 0


# -- many failures at once ---------------------------------------------------------------------------------------------


def refused(causes: Sequence[Cause]) -> Verdict:
    """A classifier that knows one thing."""
    if "refused" in causes[0].message:
        return Verdict(NETWORK, 0.9, "refused", "pattern", "refused", "")
    if "charged" in causes[0].message:
        return Verdict(NETWORK, 0.9, "charged", "pattern", "charged", "", caution="work may be done")
    return Verdict(UNKNOWN, 0, "none", "none", "", "")


def classified(*lines: bytes) -> tuple[bool, list[dict[str, object]], str]:
    """What `classify --jsonl` makes of lines: whether all was well, its answers, and its complaints."""
    out, complaints = io.StringIO(), io.StringIO()
    clean = jsonl.classify_lines(lines, refused, out, complaints)
    return clean, [json.loads(line) for line in out.getvalue().splitlines()], complaints.getvalue()


def test_one_answer_a_line_in_order() -> None:
    """Each line gets its answer, in the order of the lines, under the id it came with."""
    clean, answers, complaints = classified(
        b'{"id": "b", "message": "Connection refused"}\n',
        b'{"id": 1, "exception_type": null, "message": null, "traceback": null, "task_name": null}\n',
        b'{"id": {"a": 1}}\r\n',
        b'{"id": "c", "message": "maybe charged"}',
    )
    assert clean
    assert complaints == ""
    assert [answer["id"] for answer in answers] == ["b", 1, {"a": 1}, "c"]
    assert answers[0] == {
        "id": "b",
        "category": "recoverable_network",
        "confidence": 0.9,
        "retry": True,
        "rule": "refused",
        "evidence": "refused",
    }
    assert answers[1]["category"] == "unknown"
    assert answers[1]["rule"] == "none"
    assert answers[3]["retry"] is False, "what must not run again without a person is not retried"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"Connection refused", "not JSON"),
        (b'["Connection refused"]', "a JSON object is needed"),
        (b'{"id": 7', "not JSON"),
        (b'{"id": NaN}', "not JSON: NaN"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"id": ' + b"1" * 5000 + b"}", "limit"),
    ],
    ids=["text", "list", "cut", "nan", "deep", "digits"],
)
def test_bad_line_stops_nothing(line: bytes, problem: str) -> None:
    """A line that cannot be read is answered and reported with its number; the next one is classified."""
    clean, answers, complaints = classified(b"\n", line, b'{"id": 2, "message": "Connection refused"}')
    assert not clean
    assert [answer["category"] for answer in answers] == ["unknown", "recoverable_network"]
    assert answers[0] | {"evidence": ""} == {
        "id": None,
        "category": "unknown",
        "confidence": 0,
        "retry": False,
        "rule": "none",
        "evidence": "",
    }
    assert problem in str(answers[0]["evidence"])
    assert complaints.startswith("regrow: line 2: ")
    assert problem in complaints


def test_bytes_that_are_no_text() -> None:
    """Bytes that are not UTF-8 are replaced, a byte order mark is not part of the first line."""
    clean, answers, _ = classified(b'\xef\xbb\xbf{"id": "\xff", "message": "\xfe refused"}')
    assert clean
    assert answers[0]["id"] == "\ufffd"
    assert answers[0]["category"] == "recoverable_network"


def test_details_that_are_not_text() -> None:
    """A message that is JSON itself is read as such."""
    clean, answers, _ = classified(b'{"id": 1, "message": {"error_message": "Connection refused"}}')
    assert clean
    assert answers[0]["category"] == "recoverable_network"


def test_file_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    """A file that cannot be read is the caller's mistake."""
    assert ended("classify", "--jsonl", "missing.jsonl") == 2
    assert "cannot read missing.jsonl" in capsys.readouterr().err


def test_file_and_stdin_say_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lines come from a file or from stdin; a bad one makes the exit code 1."""
    lines = '{"id": 1, "message": "数据库连接失败"}\nnonsense\n'
    (tmp_path / "failures.jsonl").write_text(lines, encoding="utf-8")
    assert ended("classify", "--jsonl", "failures.jsonl") == 1
    from_file = capsys.readouterr()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))
    assert ended("classify", "--jsonl", "-") == 1
    assert capsys.readouterr() == from_file
    assert "regrow: line 2: not JSON" in from_file.err
    assert len(from_file.out.splitlines()) == 2


def test_one_message(capsys: pytest.CaptureFixture[str]) -> None:
    """A message on the command line gets its verdict on one line, or as JSON."""
    assert ended("classify", "Connection refused") == 0
    assert capsys.readouterr().out.startswith("recoverable_network  ")
    assert ended("classify", "Connection refused", "--json") == 0
    verdict = json.loads(capsys.readouterr().out)
    assert verdict["category"] == "recoverable_network"
    assert verdict["retry"] is True


def test_explain_a_text(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception that is in no ledger is explained too, in the reader's language."""
    assert ended("explain", "--type", "ValueError", "--message", "no such thing") == 0
    assert "bad data (unrecoverable_data)" in capsys.readouterr().out
    monkeypatch.setenv("FAILURE_LANGUAGE", "zh")
    monkeypatch.setattr(sys, "stdin", io.StringIO("Traceback (most recent call last):\nValueError: no\n"))
    assert ended("explain", "--traceback", "-") == 0
    assert "数据有误（unrecoverable_data）" in capsys.readouterr().out


# -- safe to print -----------------------------------------------------------------------------------------------------


def test_nothing_steers_the_terminal() -> None:
    """Escapes, control characters, marks of direction and half characters are written out."""
    assert plain("a\x1b[31mb\x07\x7f\x9b\u202e\ud800\r") == "a\\x1b[31mb\\x07\\x7f\\x9b\\u202e\\ud800\\x0d"
    assert plain("订单\tx\r\ny\n") == "订单\tx\ny\n"


def test_one_line() -> None:
    """A text on one line has no line breaks and an end."""
    assert one_line("a\n  b\tc") == "a b c"
    assert one_line("x" * 50, 10) == "x" * 9 + "…"


def test_json_is_safe_and_the_same() -> None:
    """JSON for programs holds the very text, and no byte that a terminal obeys."""
    value = {"名": "a\x1b\x9b\u202e\ud800\n"}
    text = to_json(value)
    assert plain(text) == text
    assert "名" in text
    assert json.loads(text) == value


def test_names_are_not_markup(capsys: pytest.CaptureFixture[str]) -> None:
    """A task may be called like a colour."""
    screen = Screen(words("en"), clock())
    screen.heading("[red]x[/red] :smile:")
    screen.facts([("Name", "[bold]y"), ("Nothing", "")])
    assert capsys.readouterr().out == "[red]x[/red] :smile:\n  Name  [bold]y\n"


def test_every_state_has_a_meaning() -> None:
    """Whatever state a failure is in, people are told what it means, each in other words."""
    assert len({state_meaning(state, words("zh")) for state in State}) == len(State)


def test_many_processes_give_the_same_answers(capfd: pytest.CaptureFixture[str]) -> None:
    """In the same order, with the same complaints."""
    lines = [
        b'{"id": %d, "message": "%s"}' % (number, b"refused" if number % 3 else b"odd") if number % 997 else b"[bad"
        for number in range(3 * jsonl.PART)
    ]
    one, many, wrong, wrongs = io.StringIO(), io.StringIO(), io.StringIO(), io.StringIO()
    assert jsonl.classify_lines(lines, refused, one, wrong) is False
    assert jsonl.classify_together(lines, refused, many, wrongs, 2) is False
    assert (many.getvalue(), wrongs.getvalue()) == (one.getvalue(), wrong.getvalue())
