"""`regrow drain` on a real ledger with a broker in memory; with real workers: tests/integration/test_drain.py."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from rich.cells import cell_len

from regrow import wiring
from regrow.cli.drain import counts, left_text, reason
from regrow.model import Hindrance, Left, Leftover, State
from regrow.testing import START, a_failure
from tests.contract.test_cli_ledger import Answer, on_terminal

APPLICATION = """
import celery, regrow
app = celery.Celery("proj", broker="memory://")

def broken(message):
    raise OSError("the mail server is away")

regrow.install(app, database_url="sqlite:///{folder}/regrow.db", channels={channels})
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an application, and an empty ledger."""
    monkeypatch.chdir(tmp_path)
    for name in ("REGROW_APP", "FAILURE_LANGUAGE", "FAILURE_MODE", "FAILURE_DATABASE_URL", "COLUMNS", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "empty_proj.py").write_text(APPLICATION.format(folder=tmp_path, channels="{}"))
    (tmp_path / "loud_proj.py").write_text(APPLICATION.format(folder=tmp_path, channels='{"mail": broken}'))
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("empty_proj", "loud_proj"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    wiring.upgrade(wiring.load_settings(database_url=f"sqlite:///{tmp_path}/regrow.db"))
    return tmp_path


def test_an_empty_ledger(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """There is nothing to do, for people and for programs."""
    answer = Answer(capsys, "-A", "empty_proj", "drain")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.splitlines()[-1] == "Nothing is left: Regrow can be removed (recovered 0, failed 0)."
    told = Answer(capsys, "-A", "empty_proj", "drain", "--json")
    assert (told.code, told.json["drained"], told.json["left"]) == (0, True, [])


@pytest.mark.parametrize(
    ("language", "mend"), [("en", "first set FAILURE_MODE=observe"), ("zh", "FAILURE_MODE=observe")]
)
def test_recover_mode(
    language: str, mend: str, project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused in one line that says what to do."""
    monkeypatch.setenv("FAILURE_MODE", "recover")
    monkeypatch.setenv("FAILURE_LANGUAGE", language)
    answer = Answer(capsys, "-A", "empty_proj", "drain")
    assert (answer.code, answer.out) == (2, "")
    assert mend in answer.err
    assert answer.err.count("\n") == 1


def test_a_ledger_that_is_not_there(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is not set up is no empty ledger."""
    (project / "regrow.db").unlink()
    answer = Answer(capsys, "-A", "empty_proj", "drain")
    assert answer.code == 1
    assert "regrow db upgrade" in answer.err


def test_messages_that_nobody_takes(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What people were to be told in recover mode is delivered, or it is said why not; without messages nobody waits."""
    app = wiring.load_app("loud_proj")
    wiring.connect(app, wiring.load_settings(app, mode="recover")).handle([a_failure(final="rejected", envelope=None)])
    answer = Answer(capsys, "-A", "loud_proj", "drain", "--timeout", "0")
    assert answer.code == 1
    assert "messages left: 1" in answer.out
    assert "not delivered: " in answer.out
    assert "the mail server is away" in answer.out
    assert (project / "logs" / "admin_alerts.log").exists()
    monkeypatch.setenv("FAILURE_NOTIFICATION_ENABLED", "false")
    assert Answer(capsys, "-A", "loud_proj", "drain", "--timeout", "0").code == 0


@pytest.mark.parametrize("language", ["en", "zh"])
def test_on_a_terminal(language: str, project: Path) -> None:
    """The progress is one line that gives way to what has come of it."""
    sent = on_terminal(60, "-A", "empty_proj", "drain", FAILURE_LANGUAGE=language, PYTHONPATH=f"{_path()}:{project}")
    shown = [re.sub(r"\x1b\[[0-9;]*[mK]", "", line) for line in sent.split("\r")]
    assert len(shown) >= 3
    assert max(cell_len(line) for line in "".join(shown[-1:]).split("\n")) <= 60


def _path() -> str:
    from tests.contract.test_cli_ledger import SOURCES

    return str(SOURCES)


def test_texts() -> None:
    """One line says all that is left; every reason has its words."""
    left = Left(tasks=3, sent=2, messages=1, copies=4, recovered=5, failed=6, spooled=True)
    text = left_text(left, str)
    assert text.startswith("tasks left: 3 (2 sent); messages left: 1; ")
    assert text.endswith(counts(left, str))
    assert not left.nothing
    assert Left(recovered=5, failed=6).nothing
    one = Leftover(1, "a", "t", State.HELD, True, "", False, False, START)
    assert len({reason(hindrance, one, str) for hindrance in Hindrance}) == len(Hindrance)
    assert reason(Hindrance.NO_WORKER, one, str).endswith("the queue ??")
