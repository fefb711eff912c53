"""The history of a failure, as a person reads it in `recovery_notes` (G22)."""

from __future__ import annotations

import json
from datetime import UTC, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow import notify
from regrow.adapters.words import load_words
from regrow.model import Action, AttemptRecord, Deed, Note, Reason, Record, State
from regrow.testing import START

ATTEMPTS = "All connection attempts failed"
REFUSED = "ConnectionRefusedError: [Errno 111] Connection refused"

SHANGHAI = ZoneInfo("Asia/Shanghai")
LANGUAGES = {language: load_words(language) for language in ("en", "zh")}

#: 23:58 in Shanghai, so that stories cross midnight there.
EVENING = START.replace(hour=15, minute=58)


def at(seconds: float):
    """So long after the first failed run."""
    return EVENING + timedelta(seconds=seconds)


def a_run(number: int, seconds: float, *, retry_in: float | None = None, **changes: Any) -> AttemptRecord:
    """A run that failed because a connection was refused, by default one that is retried."""
    fields: dict[str, Any] = {
        "exception_type": "httpx.ConnectError",
        "message": "All connection attempts failed",
        "traceback": "",
        "worker": "w1",
        "category": "recoverable_network",
        "confidence": 0.9,
        "rule": "errno.network",
        "verdict": json.dumps({"root_cause": "builtins.ConnectionRefusedError: [Errno 111]\nConnection refused"}),
        "action": Action.RETRY if retry_in is not None else Action.HAND_OVER,
        "reason": Reason.CAN_HEAL if retry_in is not None else Reason.NOT_HEALABLE,
        "retry_at": None if retry_in is None else at(seconds + retry_in),
        "decided_at": at(seconds),
    }
    return AttemptRecord(number=number, failed_at=at(seconds), **{**fields, **changes})


def a_record(state: State, *history: AttemptRecord, **changes: Any) -> Record:
    """A failure with its history."""
    last = history[-1] if history else None
    fields: dict[str, Any] = {
        "task_id": "t-1",
        "task_name": "shop.tasks.pay",
        "category": last.category if last else "recoverable_network",
        "reason": last.reason if last else Reason.CAN_HEAL,
        "fingerprint": "1:abc",
        "attempts": len(history) or 1,
        "parked": False,
        "due_at": None,
        "queue": "",
        "user_id": "",
        "first_failed_at": EVENING,
        "last_failed_at": last.failed_at if last else EVENING,
        "ended_at": None,
        "message": "httpx.ConnectError: All connection attempts failed",
        "history": history,
    }
    return Record(id=1, state=state, **{**fields, **changes})


def told(record: Record, language: str = "en") -> list[str]:
    """The story, line by line."""
    return notify.story(record, LANGUAGES[language], zone=SHANGHAI).splitlines()


GIVEN_UP = a_run(2, 31, action=Action.GIVE_UP, reason=Reason.RETRIES_USED_UP, told="administrator")


def test_a_story_from_the_first_failure_to_the_end() -> None:
    """Runs, orders and the recovery stand in the order of time, with the date once a day."""
    record = a_record(
        State.RECOVERED,
        a_run(1, 0, retry_in=30),
        GIVEN_UP,
        notes=(
            Note(at(500), Deed.CONFIRMED, "alice", "recoverable_network"),
            Note(at(600), Deed.RETRIED, "alice"),
            Note(at(605), Deed.RECOVERED),
        ),
    )
    assert told(record, "zh") == [
        "2026-01-01（UTC+08:00）",
        f"23:58:00 第 1 次运行失败：网络问题（{REFUSED}）。30秒后重试（23:58:30）。",
        f"23:58:31 第 2 次运行失败：网络问题（{REFUSED}）。全部重试均已失败，次数已用完。已放弃。已通知管理员。",
        "2026-01-02（UTC+08:00）",
        "00:06:20 人工确认类别：网络问题（操作人：alice）。",
        "00:08:00 人工安排重试（操作人：alice）。",
        "00:08:05 第 3 次运行成功。",
        "当前状态：经 2 次重试后恢复正常。",
    ]
    assert told(record) == [
        "2026-01-01 (UTC+08:00)",
        f"23:58:00 Run 1 failed: network trouble ({REFUSED}). Retry in 30 s, at 23:58:30.",
        f"23:58:31 Run 2 failed: network trouble ({REFUSED}). Every retry failed; no more are left. It was given up. The administrator was told.",
        "2026-01-02 (UTC+08:00)",
        "00:06:20 Its category was confirmed by alice: network trouble.",
        "00:08:00 A retry was ordered by alice.",
        "00:08:05 Run 3 succeeded.",
        "Now: recovered after 2 retries.",
    ]


@pytest.mark.parametrize(
    ("run", "end"),
    [
        (a_run(1, 0, retry_in=0), "Retry at once."),
        (a_run(1, 0, retry_in=240), "Retry in 4 min, at 2026-01-02 00:02:00."),
        # A scan found it an hour later: the wait counts from the decision.
        (a_run(1, 0, retry_in=3630, decided_at=at(3600)), "Retry in 30 s, at 2026-01-02 00:58:30."),
        (a_run(1, 0, retry_in=30, decided_at=None), "Retry in 30 s, at 23:58:30."),
        (a_run(1, 0, told="user"), "Trying again would fail in the same way. The user was told."),
        (a_run(1, 0), "Trying again would fail in the same way."),
        (
            a_run(1, 0, action=Action.HOLD, reason=Reason.WORK_MAY_BE_DONE, told="administrator"),
            "a person must say whether it may run again. It was held. The administrator was told.",
        ),
        (a_run(1, 0, action="later_action", reason="later_reason"), "later_reason"),
    ],
)
def test_what_was_decided(run: AttemptRecord, end: str) -> None:
    """A failed run's line ends with what was done about it, and when."""
    assert told(a_record(State.NEW, run))[1].endswith(end)


@pytest.mark.parametrize(
    ("verdict", "error"),
    [
        ("{}", "(ConnectError: All connection attempts failed)"),
        ("[]", "(ConnectError: All connection attempts failed)"),
        ("no json", "(ConnectError: All connection attempts failed)"),
        ('{"root_cause": "MemoryError"}', "(MemoryError)"),
        ('{"root_cause": "not a class: it broke"}', "(not a class: it broke)"),
    ],
)
def test_the_error(verdict: str, error: str) -> None:
    """The root cause is shown where the verdict can be read, else the exception itself."""
    assert f"network trouble {error}. Retry" in told(a_record(State.NEW, a_run(1, 0, retry_in=30, verdict=verdict)))[1]


@pytest.mark.parametrize(
    ("state", "changes", "now"),
    [
        (State.NEW, {}, "recorded, nothing decided yet."),
        (State.SCHEDULED, {"due_at": at(30)}, "waits for its retry at 23:58:30."),
        (State.SCHEDULED, {"due_at": at(130)}, "waits for its retry at 2026-01-02 00:00:10."),
        (State.SCHEDULED, {}, "waits for its retry."),
        (State.HELD, {}, "waits for a person to say whether it may run again."),
        (State.HANDED_OVER, {}, "needs a person; it is not retried by itself."),
        (State.HANDED_OVER, {"reason": Reason.EXPECTED}, "it failed as the task declares; nothing is done about it."),
        (State.DISPATCHED, {}, "a retry is on its way or running."),
        (State.RECOVERED, {}, "recovered after 1 retry."),
        (State.EXHAUSTED, {}, "given up."),
        (State.EXHAUSTED, {"attempts": 6}, "given up after 5 retries."),
        (State.DISMISSED, {}, "dismissed; nothing more is done about it."),
    ],
)
def test_where_it_stands(state: State, changes: dict[str, Any], now: str) -> None:
    """The last line says where it stands, in every state."""
    assert told(a_record(state, a_run(1, 0, retry_in=30), **changes))[-1] == f"Now: {now}"


def test_a_user_was_told() -> None:
    """What an end user must mend is not called the administrator's."""
    last = told(a_record(State.HANDED_OVER, a_run(1, 0, told="user")))[-1]
    assert last == "Now: the user was told; it is not retried by itself."


@pytest.mark.parametrize(
    ("note", "line"),
    [
        (Note(at(60), Deed.RETRIED), "A retry was ordered by hand."),
        (Note(at(60), Deed.DISMISSED), "It was dismissed by hand."),
        (Note(at(60), Deed.DISMISSED, "bob\n{who}"), "It was dismissed by bob {who}."),
        (Note(at(60), Deed.CONFIRMED, "", "unrecoverable_data"), "Its category was confirmed: bad data."),
        (Note(at(60), Deed.RECOVERED), "Run 2 succeeded."),
        (Note(at(60), Deed.STOPPED, "", Reason.FELL_SILENT), notify.explain(Reason.FELL_SILENT, str)),
        (Note(at(60), Deed.STOPPED), "It was stopped."),
    ],
)
def test_deeds(note: Note, line: str) -> None:
    """Whatever happened beside the failed runs has its line."""
    assert told(a_record(State.HELD, a_run(1, 0, retry_in=30), notes=(note,)))[2] == f"23:59:00 {line}"


def test_a_recovery_is_counted_from_the_runs_before_it() -> None:
    """Who runs a task again after it has recovered makes it fail anew: each success keeps its own number."""
    runs = (a_run(1, 0, retry_in=30), a_run(3, 60, retry_in=30))
    lines = told(a_record(State.RECOVERED, *runs, notes=(Note(at(31), Deed.RECOVERED), Note(at(91), Deed.RECOVERED))))
    assert [line.split()[2] for line in lines if line.endswith("succeeded.")] == ["2", "4"]


def test_without_history() -> None:
    """A record from a list has no history: the story is short, and true."""
    record = a_record(State.SCHEDULED, attempts=3, last_failed_at=at(180), due_at=at(300))
    assert told(record) == [
        "2026-01-01 (UTC+08:00)",
        "23:58:00 Run 1 failed.",
        "2026-01-02 (UTC+08:00)",
        f"00:01:00 Run 3 failed: network trouble (ConnectError: {ATTEMPTS}). {notify.explain(Reason.CAN_HEAL, str)}",
        "Now: waits for its retry at 00:03:00.",
    ]
    assert len(told(a_record(State.NEW, message=""))) == 3


@given(
    text=st.text(),
    state=st.sampled_from(State),
    deed=st.sampled_from(Deed),
    language=st.sampled_from(list(LANGUAGES)),
    history=st.booleans(),
)
def test_others_text_stays_in_its_line(text: str, state: State, deed: Deed, language: str, history: bool) -> None:
    """Whatever an error, a name or a verdict holds, each event keeps to one line that a terminal shows as it is."""
    run = a_run(1, 0, exception_type=text, message=text, category=text, verdict=text)
    record = a_record(
        state, *([run] if history else []), message=text, category=text, notes=(Note(at(1), deed, text, text),)
    )
    story = notify.story(record, LANGUAGES[language], zone=UTC)
    assert len(story.split("\n")) == 4
    assert all(line.isprintable() for line in story.split("\n"))


def test_the_machines_time_zone() -> None:
    """Without a zone, times are those of the machine."""
    local = EVENING.astimezone()
    assert notify.story(a_record(State.NEW, a_run(1, 0)), str).startswith(f"{local:%Y-%m-%d} (UTC{local:%z}"[:18])
