"""What `install` takes, and settings that change while a process runs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

import regrow
from regrow import wiring
from regrow.errors import SettingsError
from regrow.model import Audience
from regrow.oversight import Oversight


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Celery:
    """An application in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("FAILURE_")]:
        monkeypatch.delenv(name)
    return Celery("shop", broker="memory://", set_as_current=False)


def _write(text: str) -> None:
    file = Path(".env")
    before = file.stat().st_mtime_ns if file.exists() else 0
    file.write_text(text)
    now = max(before + 10**6, time.time_ns())  # a second write in the same instant is a change too
    os.utime(file, ns=(now, now))


def _settled(pipeline: Callable[[], Oversight]) -> Oversight:
    """The pipeline when the change of a file has rested for long enough."""
    pipeline()
    time.sleep(wiring.SETTLED_SECONDS * 1.1)
    return pipeline()


def test_switches_are_honoured_at_once(app: Celery) -> None:
    """A changed .env changes what the running process does; its connections stay (G14)."""
    _write("FAILURE_MODE=recover\n")
    pipeline = regrow.install(app).pipeline
    first = pipeline()
    assert pipeline() is first
    assert (first.policies.enabled, first.telling, first.policies.base_limit) == (True, True, 3)
    _write(
        "FAILURE_MODE=recover\nFAILURE_RECOVERY_ENABLED=false\nFAILURE_NOTIFICATION_ENABLED=false\n"
        "FAILURE_MAX_RECOVERY_ATTEMPTS=1\nFAILURE_ALERT_UNKNOWN_ERRORS=3\n"
    )
    assert pipeline() is first, "it may be half written"
    second = _settled(pipeline)
    assert (second.policies.enabled, second.telling, second.policies.base_limit) == (False, False, 1)
    assert second.in_force["recovery_enabled"] is False
    assert second.thresholds.unknown_errors == 3
    assert second.store is first.store


def test_a_wrong_change_is_said_and_left_out(app: Celery, caplog: pytest.LogCaptureFixture) -> None:
    """The process goes on with what it has; a worker does not die of a typing error."""
    _write("FAILURE_MODE=recover\n")
    pipeline = regrow.install(app).pipeline
    first = pipeline()
    _write("FAILURE_MODE=recovr\n")
    assert _settled(pipeline) is first
    assert "FAILURE_MODE='recovr'" in caplog.text
    caplog.clear()
    assert pipeline() is first
    assert caplog.text == "", "once is enough"
    _write("FAILURE_MODE=observe\n")
    assert _settled(pipeline).policies.acting is False


def test_an_old_change_counts_at_the_first_look(app: Celery) -> None:
    """A process that had nothing to do since then must not decide by what was."""
    _write("FAILURE_MODE=recover\n")
    pipeline = regrow.install(app).pipeline
    pipeline()
    _write("FAILURE_MODE=recover\nFAILURE_RECOVERY_ENABLED=false\n")
    time.sleep(wiring.SETTLED_SECONDS * 1.1)
    assert pipeline().policies.enabled is False


def test_a_file_that_is_gone_changes_nothing(app: Celery, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody switches Regrow off by removing a file, and an editor may do so for a moment."""
    _write("FAILURE_MODE=recover\n")
    pipeline = regrow.install(app).pipeline
    first = pipeline()
    Path(".env").unlink()
    assert _settled(pipeline) is first
    assert ".env is gone" in caplog.text
    _write("FAILURE_MODE=recover\nFAILURE_RECOVERY_ENABLED=false\n")
    assert _settled(pipeline).policies.enabled is False


def test_a_task_that_goes_elsewhere_changes_nothing(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files and ledger stay those of the folder in which the process was started."""
    _write("FAILURE_MODE=recover\n")
    home = Path.cwd()
    pipeline = regrow.install(app).pipeline
    wiring.upgrade(wiring.load_settings())
    first = pipeline()
    elsewhere = home / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert _settled(pipeline) is first
    assert first.store.history("a").attempts == 0
    (home / ".env").write_text("FAILURE_MODE=recover\nFAILURE_MAX_RECOVERY_ATTEMPTS=1\n")
    assert _settled(pipeline).policies.base_limit == 1


def test_a_threshold_alone_is_followed(app: Celery) -> None:
    """Though it is no switch."""
    _write("FAILURE_MODE=recover\n")
    pipeline = regrow.install(app).pipeline
    pipeline()
    _write("FAILURE_MODE=recover\nFAILURE_ALERT_UNKNOWN_ERRORS=3\nFAILURE_SCAN_HOURS=5\n")
    second = _settled(pipeline)
    assert (second.thresholds.unknown_errors, second.scan_hours) == (3, 5)


def test_channels_and_sinks(app: Celery) -> None:
    """Own ones stand beside Regrow's."""
    installed = regrow.install(app, channels={"mail": print}, sinks={"elk": print})
    channels = installed.pipeline().channels
    assert list(channels[Audience.ADMINISTRATOR]) == ["admin_log", "alerts", "mail"]
    assert list(channels[Audience.USER]) == ["user_log", "inbox", "mail"]
    assert list(channels[Audience.MACHINE]) == ["elk"]


async def _asynchronous(_: object) -> None:
    """Would never be awaited."""


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"channels": {"inbox": print}}, "'inbox' is taken"),
        ({"channels": {"mail": "not a function"}}, "mail"),
        ({"channels": {"mail": _asynchronous}}, "mail"),
        ({"sinks": {"elk": 5}}, "elk"),
        ({"strategy": "x"}, "strategy='x' is not callable"),
        ({"user_of": 5}, "user_of=5 is not callable"),
        ({"chanels": {}}, "no such setting: chanels"),
    ],
    ids=str,
)
def test_what_cannot_work_is_refused_at_start(app: Celery, given: dict[str, Any], says: str) -> None:
    """With the name of what is wrong."""
    with pytest.raises(SettingsError, match=says):
        regrow.install(app, **given)
    assert not hasattr(app, "regrow")


@pytest.mark.parametrize("make", [wiring.bare_app, lambda: Celery("plain", set_as_current=False)])
def test_a_pipeline_without_install(app: Celery, make: Callable[[], Celery]) -> None:
    """The command line works without an application."""
    assert wiring.connect(make(), wiring.load_settings()).sources == ()
    assert app.main == "shop"
