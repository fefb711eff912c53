"""When and how often the guide retries (G2, G3, G4, G14, G26): the printed numbers, by a clock that stands still."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from regrow import config, wiring
from regrow.adapters.sql import SqlStore
from regrow.capture import causes_from_text
from regrow.model import Action, Audience, Category, Failure, Handled, Header, Reason
from regrow.pipeline import Regrow
from regrow.testing import FrozenClock, RecordingDispatcher, a_failure, a_regrow
from tests.celery_worker import ROOT
from tests.guide.printed import chapter, text_of

NETWORK, SYSTEM, TEMPORARY = "connection timeout", "memory error", "database connection failed"

#: The guide's first word for each schedule -> an error of its table.
ERRORS = {"网络": NETWORK, "系统": SYSTEM, "临时": TEMPORARY}

UNITS = {"秒": 1, "分钟": 60}


def printed_schedule(kind: str) -> tuple[list[int], int]:
    """The waits, in seconds, and the largest number of retries that the guide prints for a kind of errors."""
    (line,) = re.findall(rf"^{kind}错误恢复：(.*)$", chapter("2. 自动恢复策略"), flags=re.MULTILINE)
    waits = [int(number) * UNITS[unit] for number, unit in re.findall(r"第\d次(?:重试)? (\d+)(秒|分钟)后", line)]
    (limit,) = re.findall(r"最大重试 (\d+)次", line)
    return waits, int(limit)


@pytest.fixture
def guide(sqlite_store: SqlStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Regrow]:
    """Gives the real pipeline with the settings of a project's root: the guide's `.env`, and the application's file."""
    (tmp_path / "regrow.toml").write_text((ROOT / "regrow.toml").read_text())
    monkeypatch.chdir(tmp_path)
    classify = wiring.load_classifier()
    clock = FrozenClock()

    def give(printed: str = text_of("配置选项/环境变量"), **parts: Any) -> Regrow:
        (tmp_path / ".env").write_text(printed)
        policies = config.load().policies()
        parts = {"clock": clock, "classify": classify, "policies": policies, **parts}
        return a_regrow(sqlite_store, **parts)

    return give


def fail(regrow: Regrow, failure: Failure) -> Handled:
    """A run of a task fails now."""
    (handled,) = regrow.handle([replace(failure, failed_at=regrow.clock())])
    return handled


def history(regrow: Regrow, text: str | Iterator[str], **facts: Any) -> list[tuple[float, Handled]]:
    """Let every run of a task fail until nothing more is done about it.

    Returns:
        For each retry the seconds that it waited, and the decision about its failure.
    """
    clock, dispatcher = regrow.clock, regrow.dispatcher
    assert isinstance(clock, FrozenClock)
    assert isinstance(dispatcher, RecordingDispatcher)
    texts = iter(lambda: text, None) if isinstance(text, str) else text
    failure = a_failure(causes=causes_from_text("", next(texts), ""), **facts)
    handled = fail(regrow, failure)
    found = []
    while handled.decision.action is Action.RETRY:
        failed_at = clock.now
        assert handled.decision.due_at is not None
        clock.now = handled.decision.due_at - timedelta(milliseconds=1)
        regrow.act()
        assert not dispatcher.sent  # not a moment earlier
        clock.now = handled.decision.due_at
        regrow.act()
        (due,) = dispatcher.sent
        dispatcher.sent.clear()
        header = Header(due.failure, due.attempts + 1, due.token)
        assert regrow.start(header, retries=0, idempotent=False)
        waited = (clock.now - failed_at).total_seconds()
        causes = causes_from_text("", next(texts), "")
        handled = fail(regrow, replace(failure, attempt=header.attempt, token=header.token, causes=causes))
        found.append((waited, handled))
    return found


# -- as printed -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ERRORS, ids=["network", "system", "temporary"])
def test_the_printed_schedule(guide: Callable[..., Regrow], kind: str) -> None:
    """Each wait as printed, then doubled; after the last retry it is given up."""
    waits, limit = printed_schedule(kind)
    full = waits + [waits[-1] * 2 ** (more + 1) for more in range(limit - len(waits))]
    found = history(guide(), ERRORS[kind])
    assert [waited for waited, _handled in found] == full
    assert len(full) == limit
    last = found[-1][1]
    assert (last.decision.action, last.decision.reason) == (Action.GIVE_UP, Reason.RETRIES_USED_UP)
    assert last.told == "administrator"


def test_the_numbers_themselves(guide: Callable[..., Regrow]) -> None:
    """What the guide prints is read as a person reads it."""
    assert {kind: printed_schedule(kind) for kind in ERRORS} == {
        "网络": ([30, 60, 120, 240], 5),
        "系统": ([300, 600, 1200], 3),
        "临时": ([180, 360, 720], 3),
    }
    assert [waited for waited, _ in history(guide(), NETWORK)] == [30, 60, 120, 240, 480]


def test_a_server_says_how_long(guide: Callable[..., Regrow]) -> None:
    """Retry-After is the lower bound of the wait, and never the upper one."""
    regrow = guide()
    (cause,) = causes_from_text("", "429 rate limit exceeded", "")
    for told, waits in ((7, 180), (600, 600)):
        handled = fail(regrow, a_failure(causes=(replace(cause, retry_after_seconds=told),)))
        assert handled.decision.delay_seconds == waits


# -- FAILURE_MAX_RECOVERY_ATTEMPTS (G14) ------------------------------------------------------------------------------


@pytest.mark.parametrize(("base", "limits"), [(3, (5, 3, 3)), (1, (3, 1, 1)), (0, (0, 0, 0))])
def test_the_base_limit(guide: Callable[..., Regrow], base: int, limits: tuple[int, ...]) -> None:
    """System and temporary failures have it, network failures two more; 0 means no automatic retry at all."""
    printed = text_of("配置选项/环境变量")
    assert "FAILURE_MAX_RECOVERY_ATTEMPTS=3\n" in printed
    regrow = guide(printed.replace("_ATTEMPTS=3", f"_ATTEMPTS={base}"))
    assert tuple(len(history(regrow, text)) for text in (NETWORK, SYSTEM, TEMPORARY)) == limits


@pytest.mark.parametrize("base", [3, 2, 0])
def test_the_limit_of_an_own_category(guide: Callable[..., Regrow], base: int) -> None:
    """One that time can heal has the base limit, unless a strategy gives it its own."""
    printed = text_of("配置选项/环境变量").replace("_ATTEMPTS=3", f"_ATTEMPTS={base}")
    classify = wiring.load_classifier({Category("late_error", Audience.TIME): ["too late"]})
    assert len(history(guide(printed, classify=classify), "too late")) == base
    plan = {"delay": 1, "strategy": "late", "max_attempts": 4}
    strategy = {"late_error": plan}.get
    found = history(guide(printed, classify=classify, strategy=lambda _task, key, _analysis: strategy(key)), "too late")
    assert len(found) == (4 if base else 0)


def test_attempts_are_counted_per_task(guide: Callable[..., Regrow]) -> None:
    """A task that fails for another cause each time is no younger for it."""
    found = history(guide(), iter([NETWORK, NETWORK, TEMPORARY, SYSTEM]))
    assert [waited for waited, _handled in found] == [30, 60, 720]
    assert found[-1][1].decision.reason is Reason.RETRIES_USED_UP


def test_retries_switched_off(guide: Callable[..., Regrow]) -> None:
    """FAILURE_RECOVERY_ENABLED=false: the administrator gets it at once."""
    regrow = guide(text_of("配置选项/环境变量").replace("RECOVERY_ENABLED=true", "RECOVERY_ENABLED=false"))
    handled = fail(regrow, a_failure(causes=causes_from_text("", NETWORK, "")))
    assert (handled.decision.action, handled.decision.reason) == (Action.HAND_OVER, Reason.RETRIES_OFF)
    assert handled.told == "administrator"


# -- an own strategy (G26) --------------------------------------------------------------------------------------------


def test_an_own_strategy_has_its_own_schedule(guide: Callable[..., Regrow]) -> None:
    """Delay and limit as the strategy says for its task type; for others None, and the built-in schedule."""
    space: dict[str, Any] = {"calculate_special_delay": lambda task: 45 * task.attempt}
    exec(text_of("扩展开发/2. 自定义恢复策略"), space)
    regrow = guide(strategy=space["custom_recovery_strategy"])
    assert [waited for waited, _ in history(regrow, NETWORK, task_name="a.special_task")] == [45, 90, 135, 180, 225]
    assert [waited for waited, _ in history(regrow, SYSTEM, task_name="a.other_task")] == [300, 600, 1200]
