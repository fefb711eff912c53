"""Reports, insights, alarms and targets: the guide's numbers give the guide's words, and nothing said is untrue."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow import report
from regrow.adapters.words import load_words
from regrow.model import (
    BUSINESS,
    CATEGORIES,
    CONFIG,
    DATA,
    NETWORK,
    SYSTEM,
    UNKNOWN,
    Action,
    AttemptRecord,
    Breakdown,
    Figures,
    Reason,
    Record,
    State,
)
from regrow.testing import START

CHINESE = load_words("zh")
BEIJING = timezone(timedelta(hours=8))
NOW = datetime(2023, 12, 1, 14, 0, 0, 123456, tzinfo=BEIJING)
RETRYABLE = [key for key, category in CATEGORIES.items() if category.retry]


def an_attempt(action: str = Action.RETRY, reason: str = Reason.CAN_HEAL, **changes: Any) -> AttemptRecord:
    """A failed run; a retry of it was due after 30 seconds."""
    failed_at = changes.pop("failed_at", NOW)
    retry_at = failed_at + timedelta(seconds=30) if action == Action.RETRY else None
    plain = AttemptRecord(
        number=1,
        failed_at=failed_at,
        exception_type="ConnectionError",
        message="it failed",
        traceback="",
        worker="w",
        category=NETWORK.key,
        confidence=0.9,
        rule="a-rule",
        verdict="{}",
        action=action,
        reason=reason,
        retry_at=retry_at,
    )
    return replace(plain, **changes)


def a_record(last: AttemptRecord, state: State, *earlier: AttemptRecord, **changes: Any) -> Record:
    """A failed task whose last failed run is `last`."""
    plain = Record(
        id=1,
        task_id="abc",
        task_name="shop.tasks.tracking_update",
        state=state,
        category=last.category,
        reason=last.reason,
        fingerprint="1:f",
        attempts=last.number,
        parked=False,
        due_at=None,
        queue="celery",
        user_id="",
        first_failed_at=last.failed_at,
        last_failed_at=last.failed_at,
        ended_at=None,
        message="",
        history=(*earlier, last),
    )
    return replace(plain, **changes)


def processed(*records: Record, **changes: Any) -> dict[str, Any]:
    """The report on these, in English, with reasons as their keys."""
    arguments: dict[str, Any] = {
        "ids": {},
        "errors": [],
        "settings": {},
        "now": NOW,
        "retry_text": lambda seconds: f"again in {seconds}",
        "explain": str,
        "_": str,
    }
    return report.processing(records, **{**arguments, **changes})


def result(record: Record, **changes: Any) -> dict[str, Any]:
    """The one result of a report on one failure."""
    (only,) = processed(record, **changes)["results"]
    return dict(only)


# -- processing -------------------------------------------------------------------------------------------------------


def test_the_guides_processing_report() -> None:
    """Keys, order and words are those that the guide prints; what is ours stands beside them (G11, G14)."""
    made = processed(
        a_record(an_attempt(), State.SCHEDULED),
        ids={"abc": 123},
        settings={"recovery_enabled": True},
        retry_text=lambda seconds: f"任务将在{seconds}秒后重试",
        _=CHINESE,
    )
    assert made == {
        "success": True,
        "message": "失败任务处理完成",
        "total_processed": 1,
        "stats": {"scanned": 1, "analyzed": 1, "recovered": 1, "notified": 0, "errors": []},
        "results": [
            {
                "task_id": 123,
                "category": "recoverable_network",
                "action_taken": "auto_recovery",
                "success": True,
                "message": "任务将在30秒后重试",
                "retry_delay": 30,
                "retry_at": "2023-12-01T14:00:30",
                "task_type": "tracking_update",
                "celery_task_id": "abc",
            }
        ],
        "processed_at": "2023-12-01T14:00:00",
        "settings": {"recovery_enabled": True},
    }
    assert list(made)[:6] == ["success", "message", "total_processed", "stats", "results", "processed_at"]
    assert json.loads(json.dumps(made)) == made


def test_nothing_to_report() -> None:
    """No failure makes a whole report too."""
    made = processed()
    assert made["results"] == []
    assert made["stats"] == {"scanned": 0, "analyzed": 0, "recovered": 0, "notified": 0, "errors": []}


ADMIN, USER, NOBODY = "administrator", "user", ""
DEEDS = [
    # action, reason, told, category, state -> action_taken, success, priority, message
    ("retry", "can_heal", NOBODY, NETWORK, State.SCHEDULED, "auto_recovery", True, None, "again in 30"),
    ("hand_over", "not_healable", ADMIN, DATA, State.HANDED_OVER, "notify_admin", True, "high", "The administrator"),
    ("hand_over", "unknown_cause", ADMIN, UNKNOWN, State.HANDED_OVER, "notify_admin", True, "high", "unknown_cause"),
    ("hand_over", "not_healable", ADMIN, BUSINESS, State.HANDED_OVER, "notify_admin", True, "high", "The admin"),
    ("hand_over", "not_healable", USER, BUSINESS, State.HANDED_OVER, "notify_user", True, None, "The user was told"),
    ("hand_over", "retries_off", ADMIN, NETWORK, State.HANDED_OVER, "notify_admin", True, "high", "retries_off"),
    ("hold", "work_may_be_done", ADMIN, NETWORK, State.HELD, "held", True, "high", "work_may_be_done The admin"),
    ("give_up", "retries_used_up", ADMIN, NETWORK, State.EXHAUSTED, "exhausted", True, "high", "retries_used_up The"),
    # Nobody is told on purpose: the task expects this error; observe mode only looks on.
    ("hand_over", "expected", NOBODY, DATA, State.HANDED_OVER, "none", True, None, "expected"),
    ("hold", "observing", NOBODY, NETWORK, State.HELD, "none", False, None, "observing"),
    # Messages are switched off: whoever would have to act does not know of it.
    ("hand_over", "not_healable", NOBODY, CONFIG, State.HANDED_OVER, "none", False, "high", "Nobody was told"),
    ("hold", "wait_too_long", NOBODY, NETWORK, State.HELD, "held", False, "high", "Nobody was told"),
    ("give_up", "would_expire", NOBODY, NETWORK, State.EXHAUSTED, "exhausted", False, "high", "Nobody was told"),
]


@pytest.mark.parametrize(("action", "reason", "told", "category", "state", "taken", "success", "high", "says"), DEEDS)
def test_deeds(action, reason, told, category, state, taken, success, high, says) -> None:
    """Each decision has the guide's name, says who was told, and is marked if the administrator must act (G5, G11)."""
    last = an_attempt(action, reason, told=told, category=category.key)
    found = result(a_record(last, state))
    assert found["action_taken"] == taken
    assert found["success"] is success
    assert found.get("priority") == high
    assert says in found["message"]
    assert ("retry_delay" in found) == ("retry_at" in found) == (taken == "auto_recovery")
    assert found["category"] == category.key


def test_a_users_failure_stays_the_users_while_messages_are_off() -> None:
    """That nobody was told does not make it the administrator's, unless nobody knows the user."""
    last = an_attempt("hand_over", "not_healable", category=BUSINESS.key)
    assert "priority" not in result(a_record(last, State.HANDED_OVER, user_id="42"))
    assert result(a_record(last, State.HANDED_OVER))["priority"] == "high"


LATER = [
    # state, reason now -> message, priority
    (State.RECOVERED, "can_heal", "has succeeded", None),
    (State.DISPATCHED, "can_heal", "A retry was sent", None),
    (State.DISMISSED, "dismissed", "dismissed", None),
    (State.HELD, "fell_silent", "fell_silent", "high"),
    (State.EXHAUSTED, "fell_silent", "fell_silent", "high"),
    (State.HANDED_OVER, "already_failed", "already_failed", "high"),
]


@pytest.mark.parametrize(("state", "reason", "says", "high"), LATER)
def test_what_has_happened_since(state, reason, says, high) -> None:
    """The message says where the failure stands now; the deed stays what it was."""
    found = result(a_record(an_attempt(), state, reason=reason))
    assert found["action_taken"] == "auto_recovery"
    assert found["success"] is True
    assert says in found["message"]
    assert "again in" not in found["message"]
    assert found["retry_delay"] == 30
    assert found.get("priority") == high


def test_a_person_had_it_retried() -> None:
    """A failure that was handed over and then ordered by a person says so."""
    handed_over = an_attempt("hand_over", "not_healable", told=ADMIN)
    found = result(a_record(handed_over, State.SCHEDULED, reason="by_hand", manual=True))
    assert (found["action_taken"], found["message"]) == ("notify_admin", "by_hand")
    assert "priority" not in found
    found = result(a_record(replace(handed_over, told=NOBODY), State.RECOVERED))
    assert (found["action_taken"], found["success"]) == ("none", True)


def test_the_last_run_counts() -> None:
    """A task that failed twice is one result: what its last failed run led to."""
    first, second = an_attempt(), an_attempt("give_up", "retries_used_up", number=2, told=ADMIN, category=SYSTEM.key)
    made = processed(a_record(second, State.EXHAUSTED, first))
    assert made["total_processed"] == 1
    assert made["results"][0]["action_taken"] == "exhausted"
    assert made["results"][0]["category"] == "recoverable_system"
    assert (made["stats"]["recovered"], made["stats"]["notified"]) == (0, 1)


@pytest.mark.parametrize(
    ("seconds", "shown"), [(30, 30), (30.012, 30), (0.2, 0.2), (0.25, 0.2), (3, 3), (33.7, 34), (-1, 0), (1200, 1200)]
)
def test_delays(seconds: float, shown: float) -> None:
    """A whole delay is a whole number, without the moment that the decision took."""
    last = replace(an_attempt(), retry_at=NOW + timedelta(seconds=seconds))
    found = result(a_record(last, State.SCHEDULED))
    assert found["retry_delay"] == shown
    assert isinstance(found["retry_delay"], int) == isinstance(shown, int)
    assert found["message"] == f"again in {shown}"


def test_the_delay_counts_from_the_decision() -> None:
    """A scan may find what failed an hour ago: its retry is still due 30 seconds after the decision (G9)."""
    long_ago = an_attempt(failed_at=NOW - timedelta(hours=1), decided_at=NOW, retry_at=NOW + timedelta(seconds=30))
    assert result(a_record(long_ago, State.SCHEDULED))["retry_delay"] == 30


def test_times_are_the_readers() -> None:
    """Every time stands in the zone of the report's moment, without an offset."""
    made = processed(a_record(an_attempt(failed_at=START), State.SCHEDULED), now=START.astimezone(BEIJING))
    assert made["processed_at"] == "2026-01-01T20:00:00"
    assert made["results"][0]["retry_at"] == "2026-01-01T20:00:30"


def test_errors() -> None:
    """What was given comes first; a plug-in's trouble is said once, with its task or with how many had it."""
    one = a_record(an_attempt(trouble="strategy: {no} number"), State.SCHEDULED)
    again = a_record(an_attempt(trouble="hook: slow"), State.SCHEDULED, an_attempt(trouble="hook: slow"), task_id="d")
    other = a_record(an_attempt(trouble="hook: slow"), State.SCHEDULED, task_id="e")
    made = processed(one, again, other, errors=["mail: refused"])
    assert made["stats"]["errors"] == ["mail: refused", "strategy: {no} number (task abc)", "hook: slow (2 tasks)"]


def test_what_another_version_wrote() -> None:
    """A decision that this version does not know is reported as it stands."""
    found = result(a_record(an_attempt("bury", "too_deep"), State.EXHAUSTED))
    assert found["action_taken"] == "bury"
    assert "too_deep" in found["message"]


@st.composite
def records(draw: st.DrawFn) -> list[Record]:
    """Any failures in any state."""
    last = st.builds(
        an_attempt,
        st.sampled_from(Action),
        st.sampled_from(Reason),
        told=st.sampled_from([ADMIN, USER, NOBODY]),
        category=st.sampled_from([*CATEGORIES, "custom_error"]),
        trouble=st.sampled_from(["", "{broken}"]),
    )
    found = st.builds(a_record, last, st.sampled_from(State), user_id=st.sampled_from(["", "42"]))
    return draw(st.lists(found, max_size=20))


@given(failures=records(), chinese=st.booleans())
def test_the_stats_add_up(failures: list[Record], chinese: bool) -> None:
    """Whatever happened: one result for each failure, in order, and each number is the sum of what it counts."""
    made = processed(*failures, _=CHINESE if chinese else str)
    taken = Counter(one["action_taken"] for one in made["results"])
    stats = made["stats"]
    assert made["total_processed"] == stats["scanned"] == stats["analyzed"] == sum(taken.values()) == len(failures)
    assert stats["recovered"] == taken["auto_recovery"]
    assert stats["notified"] == sum(record.history[-1].told != "" for record in failures)
    assert taken["notify_admin"] + taken["notify_user"] <= stats["notified"]
    assert set(taken) <= {"auto_recovery", "notify_admin", "notify_user", "held", "exhausted", "none"}
    assert all(one["message"] for one in made["results"])
    assert [one["category"] for one in made["results"]] == [record.category for record in failures]


# -- analysis ---------------------------------------------------------------------------------------------------------

GUIDE_CATEGORIES = {
    "recoverable_network": 20,
    "recoverable_temporary": 12,
    "unrecoverable_data": 8,
    "unrecoverable_config": 3,
    "unrecoverable_business": 2,
}
GUIDE_TASKS = {"tracking_update": 25, "receipt_generation": 15, "screenshot_capture": 5}


def analysed(
    categories: dict[str, int], tasks: dict[str, int] | None = None, *, previous: int = 0, days: int = 7, _: Any = str
) -> dict[str, Any]:
    """The analysis of these failures; by default no task type stands out."""
    spread = {f"shop.tasks.t{n}": 1 for n in range(sum(categories.values()))}
    found = Breakdown(START - timedelta(days=days), START, categories, spread if tasks is None else tasks, previous)
    return report.analysis(found, days=days, retryable=RETRYABLE, _=_)


@pytest.mark.parametrize("turn", [list, lambda items: list(reversed(items))])
def test_the_guides_analysis_report(turn: Any) -> None:
    """The guide's numbers give the guide's report to the letter, in whatever order they come (G12)."""
    categories = dict(turn(list(GUIDE_CATEGORIES.items())))
    tasks = {f"app.tasks.business.{name}": count for name, count in turn(list(GUIDE_TASKS.items()))}
    made = analysed(categories, tasks, _=CHINESE)
    guide = {
        "success": True,
        "analysis_period": "7天",
        "total_failures": 45,
        "category_distribution": GUIDE_CATEGORIES,
        "task_type_failures": GUIDE_TASKS,
        "insights": [
            "主要失败原因是recoverable_network，占比44.4%",
            "有71.1%的失败是可自动恢复的",
            "建议检查网络连接稳定性和API服务可用性",
        ],
    }
    assert json.dumps(made, ensure_ascii=False) == json.dumps(guide, ensure_ascii=False)


def test_the_same_in_english() -> None:
    """English says the same."""
    made = analysed(GUIDE_CATEGORIES, GUIDE_TASKS)
    assert made["analysis_period"] == "7 days"
    assert made["insights"] == [
        "The main cause is recoverable_network, 44.4% of the failures",
        "71.1% of the failures can be recovered automatically",
        "Check the stability of the network and the availability of the APIs",
    ]


def test_task_types_are_summed() -> None:
    """Tasks of one type in two modules are one type."""
    made = analysed({"unknown": 5}, {"a.pay": 2, "b.ship": 1, "c.pay": 2})
    assert made["task_type_failures"] == {"pay": 4, "ship": 1}


INSIGHTS: list[tuple[dict[str, int], dict[str, int] | None, int, list[str]]] = [
    ({}, None, 0, ["最近7天没有任务失败"]),
    ({}, None, 3, ["最近7天没有任务失败", "上一周期有3个任务失败"]),
    ({"unknown": 0}, {"a.pay": 0}, 0, ["最近7天没有任务失败"]),
    (
        {"recoverable_network": 1},
        {"a.pay": 1},
        0,
        [
            "只有1个任务失败：pay，原因是recoverable_network",
            "该失败可自动恢复",
            "建议检查网络连接稳定性和API服务可用性",
        ],
    ),
    (
        {"unrecoverable_config": 1},
        {"a.pay": 1},
        0,
        [
            "只有1个任务失败：pay，原因是unrecoverable_config",
            "该失败需要人工处理",
            "建议检查API密钥、登录凭据和配置项",
        ],
    ),
    (
        {"unrecoverable_data": 2, "recoverable_system": 2},
        None,
        0,
        [
            "最常见的失败原因是recoverable_system、unrecoverable_data，各占50%",
            "有50%的失败是可自动恢复的",
            "建议检查工作节点的内存、磁盘空间、打开文件数和文件权限",
            "建议在提交任务前校验输入数据，并检查读取数据的代码",
        ],
    ),
    (
        {"unrecoverable_data": 1, "unrecoverable_business": 1, "unknown": 1},
        None,
        0,
        [
            "最常见的失败原因是unknown、unrecoverable_business、unrecoverable_data，各占33.3%",
            "没有可自动恢复的失败，需要人工处理",
        ],
    ),
    (
        {"recoverable_temporary": 9},
        {"a.pay": 6, "a.ship": 3},
        0,
        [
            "主要失败原因是recoverable_temporary，占比100%",
            "有66.7%的失败来自任务类型pay",
            "有100%的失败是可自动恢复的",
            "建议检查任务所依赖的数据库和服务的负载与限流情况",
        ],
    ),
    (
        {"custom_error": 12},
        None,
        40,
        [
            "主要失败原因是custom_error，占比100%",
            "没有可自动恢复的失败，需要人工处理",
            "失败数比上一周期减少70%（40 → 12）",
            "建议查看这类失败：regrow failures --category custom_error",
        ],
    ),
]


@pytest.mark.parametrize(("categories", "tasks", "previous", "insights"), INSIGHTS)
def test_insights(categories, tasks, previous, insights) -> None:
    """Each situation is told as it is: nothing, one failure, ties, a dominating task type, a trend, a plug-in's own."""
    assert analysed(categories, tasks, previous=previous, _=CHINESE)["insights"] == insights


@pytest.mark.parametrize(
    ("previous", "total", "trend"),
    [
        (0, 45, None),  # nothing to compare with
        (8, 12, None),  # chance
        (45, 45, None),
        (1, 4, None),
        (20, 45, "125% more failures than in the period before (20 → 45)"),
        (45, 20, "56% fewer failures than in the period before (45 → 20)"),
        (1000, 1100, "10% more failures than in the period before (1000 → 1100)"),
        (1000, 1050, None),
    ],
)
def test_trend(previous: int, total: int, trend: str | None) -> None:
    """A change is told if it is more than chance."""
    lines = [line for line in analysed({"unknown": total}, previous=previous)["insights"] if "period before" in line]
    assert lines == ([trend] if trend else [])


@pytest.mark.parametrize("category", CATEGORIES)
def test_every_category_has_its_advice(category: str) -> None:
    """Each of our categories has advice of its own, in both languages."""
    english, chinese = (analysed({category: 7}, _=words)["insights"][-1] for words in (str, CHINESE))
    others = {analysed({one: 7})["insights"][-1] for one in CATEGORIES if one != category}
    assert english not in others
    assert "--category" not in english
    assert chinese.startswith("建议")


@pytest.mark.parametrize(
    ("days", "english", "chinese"), [(1, "1 day", "1天"), (7, "7 days", "7天"), (30, "30 days", "30天")]
)
def test_periods(days: int, english: str, chinese: str) -> None:
    """The period is named in the reader's language."""
    assert analysed({}, days=days)["analysis_period"] == english
    assert analysed({}, days=days, _=CHINESE)["analysis_period"] == chinese


COUNTS = st.integers(0, 100_000)


@given(st.dictionaries(st.sampled_from([*CATEGORIES, "custom_error"]), COUNTS), COUNTS)
def test_percentages_are_sane(categories: dict[str, int], previous: int) -> None:
    """No share is above 100 %, none is 0 %, and 100 % is said of all only."""
    made = analysed(categories, {"a.pay": sum(categories.values())}, previous=previous)
    total = made["total_failures"]
    assert total == sum(made["category_distribution"].values()) == sum(made["task_type_failures"].values())
    counts = list(made["category_distribution"].values())
    assert counts == sorted(counts, reverse=True)
    healing = sum(count for category, count in categories.items() if category in RETRYABLE)
    for line in made["insights"]:
        for share in re.findall(r"([\d.]+)% of the failures", line):
            assert 0 < float(share) <= 100
        if "recovered automatically" in line and "%" in line:
            assert line.startswith("100%") == (healing == total)
        if line.startswith("The main cause"):
            assert line.endswith(" 100% of the failures") == (len(counts) == 1)


# -- thresholds -------------------------------------------------------------------------------------------------------

WINDOW = Figures(START - timedelta(hours=1), START)
RATE, STREAK, DELAY, UNKNOWNS = report.THRESHOLDS


@pytest.mark.parametrize(
    ("figures", "names"),
    [
        ({}, []),
        ({"runs": 100, "failed_runs": 20}, []),
        ({"runs": 100, "failed_runs": 21}, [RATE]),
        ({"runs": 2, "failed_runs": 1}, []),  # at night
        ({"runs": 9, "failed_runs": 9}, []),
        ({"runs": 10, "failed_runs": 3}, [RATE]),
        ({"runs": 10, "failed_runs": 2}, []),
        ({"streak": 4}, []),
        ({"streak": 5}, [STREAK]),
        ({"telling_seconds": 600.0}, []),
        ({"telling_seconds": 600.5}, [DELAY]),
        ({"unknown": 10}, []),
        ({"unknown": 11}, [UNKNOWNS]),
        ({"runs": 10, "failed_runs": 10, "streak": 9, "telling_seconds": 9e5, "unknown": 99}, [*report.THRESHOLDS]),
    ],
)
def test_breaches(figures: dict[str, Any], names: list[str]) -> None:
    """The guide's thresholds: above 20 %, from 5 in a row, above 10 minutes, above 10 unknown (G18)."""
    assert [one.name for one in report.breaches(replace(WINDOW, **figures), report.Thresholds())] == names


def test_the_guides_thresholds() -> None:
    """The defaults are the guide's, and its names are used."""
    high = replace(WINDOW, runs=10, failed_runs=10, streak=9, telling_seconds=9e5, unknown=99)
    assert {one.name: one.limit for one in report.breaches(high, report.Thresholds())} == {
        "failure_rate_threshold": 20,
        "recovery_failure_threshold": 5,
        "notification_delay_threshold": 10,
        "unknown_error_threshold": 10,
    }


def test_thresholds_are_settings() -> None:
    """Other limits alert at other figures, and no limit divides by zero."""
    strict = report.Thresholds(
        failure_rate_percent=0, recovery_failures=0, notification_minutes=0, unknown_errors=0, minimum_runs=0
    )
    assert report.breaches(WINDOW, strict) == []
    slight = replace(WINDOW, runs=1000, failed_runs=1, streak=1, telling_seconds=0.1, unknown=1)
    assert [one.name for one in report.breaches(slight, strict)] == [*report.THRESHOLDS]


@pytest.mark.parametrize(
    ("breach", "english", "chinese"),
    [
        (
            report.Breach(RATE, 35.214, 20),
            "Failure rate 35.2%, more than the limit of 20%",
            "失败率35.2%，超过阈值20%",
        ),
        (
            report.Breach(RATE, 20.004, 20),
            "Failure rate 20.004%, more than the limit of 20%",
            "失败率20.004%，超过阈值20%",
        ),
        (
            report.Breach(STREAK, 5, 5),
            "5 recoveries failed one after another, the limit is 5",
            "连续5次恢复失败，阈值为5次",
        ),
        (
            report.Breach(DELAY, 12.5, 10),
            "Messages take up to 12.5 minutes, more than the limit of 10",
            "通知延迟最长12.5分钟，超过阈值10分钟",
        ),
        (
            report.Breach(UNKNOWNS, 14, 10),
            "14 failures of unknown cause, more than the limit of 10",
            "未知错误14个，超过阈值10个",
        ),
    ],
)
def test_breaches_in_words(breach: report.Breach, english: str, chinese: str) -> None:
    """An alert says the figure and its limit, and never that a number is more than itself."""
    assert report.breach_text(breach, str) == english
    assert report.breach_text(breach, CHINESE) == chinese


def test_the_end_of_an_alert_in_words() -> None:
    """Each threshold says when it is over, in both languages."""
    english = {report.over_text(name, str) for name in report.THRESHOLDS}
    chinese = {report.over_text(name, CHINESE) for name in report.THRESHOLDS}
    assert len(english) == len(chinese) == 4
    assert not english & chinese


# -- targets ----------------------------------------------------------------------------------------------------------


def test_targets_in_the_guides_words() -> None:
    """The four figures stand beside the guide's targets (G17)."""
    figures = replace(
        WINDOW,
        recovered=11,
        exhausted=1,
        handling_seconds=12.3,
        telling_seconds=330.0,
        confirmed=25,
        confirmed_right=24,
        confidence=0.5,
    )
    found = [(one.text, one.shown, one.target, one.met) for one in report.targets(figures, CHINESE)]
    assert found == [
        ("自动恢复成功率", "91.7%", ">80%", True),
        ("失败任务处理时延（最长）", "12秒", "<30分钟", True),
        ("错误分类准确率", "96%", ">95%", True),
        ("通知及时性（最长延迟）", "5.5分钟", "<5分钟", False),
    ]
    values = [one.value for one in report.targets(figures, str)]
    assert values == pytest.approx([100 * 11 / 12, 12.3 / 60, 96, 5.5])
    assert [one.target for one in report.targets(figures, str)] == [">80%", "<30 minutes", ">95%", "<5 minutes"]


def test_targets_without_data() -> None:
    """No data is neither good nor bad."""
    for one in report.targets(WINDOW, str):
        assert (one.value, one.met, one.shown) == (None, None, "-")
    assert len({one.name for one in report.targets(WINDOW, str)}) == 4


@pytest.mark.parametrize(
    ("place", "figures", "shown", "met"),
    [
        (0, {"recovered": 4, "exhausted": 1}, "80%", False),
        (0, {"recovered": 8003, "exhausted": 2000}, "80.01%", True),
        (0, {"exhausted": 1}, "0%", False),
        (1, {"handling_seconds": 1800.0}, "30 minutes", False),
        (1, {"handling_seconds": 1799.9}, "29.998 minutes", True),
        (1, {"handling_seconds": 0.0}, "0 seconds", True),
        (2, {"confirmed": 20, "confirmed_right": 19}, "95%", False),
        (2, {"confirmed": 20, "confirmed_right": 20, "confidence": 0.1}, "100%", True),
        (3, {"telling_seconds": 299.0}, "4.98 minutes", True),
    ],
)
def test_targets_at_their_borders(place: int, figures: dict[str, Any], shown: str, met: bool) -> None:
    """A target is met beyond its number only, and what is shown never contradicts that."""
    found = report.targets(replace(WINDOW, **figures), str)[place]
    assert (found.shown, found.met) == (shown, met)


@pytest.mark.parametrize("confirmed", [0, 19])
def test_accuracy_is_an_estimate_until_enough_is_confirmed(confirmed: int) -> None:
    """Few confirmed answers say little: the mean confidence is shown, and marked (G17)."""
    figures = replace(WINDOW, confirmed=confirmed, confirmed_right=0, confidence=0.97)
    _, _, accuracy, _ = report.targets(figures, str)
    assert accuracy.value == pytest.approx(97)
    assert accuracy.met is True
    assert accuracy.shown == f"97% (an estimate: {confirmed} of 20 needed answers are confirmed)"


@given(
    st.builds(
        Figures,
        st.just(WINDOW.since),
        st.just(WINDOW.until),
        runs=COUNTS,
        failed_runs=COUNTS,
        recovered=COUNTS,
        exhausted=COUNTS,
        streak=COUNTS,
        unknown=COUNTS,
        handling_seconds=st.none() | st.floats(0, 1e7),
        telling_seconds=st.none() | st.floats(0, 1e7),
        confidence=st.none() | st.floats(0, 1),
    )
)
def test_any_figures_can_be_told(figures: Figures) -> None:
    """Whatever was counted: shares lie between 0 and 100, and every figure and alert has words."""
    for one in report.targets(figures, str):
        assert (one.value is None) == (one.met is None) == (one.shown == "-")
        if one.value is not None and one.target.endswith("%"):
            assert 0 <= one.value <= 100
    for breach in report.breaches(figures, report.Thresholds()):
        assert breach.value >= breach.limit
        assert report.breach_text(breach, CHINESE) != report.breach_text(breach, str)
        if breach.name == RATE:
            assert 20 < breach.value <= 100
