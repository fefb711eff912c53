"""What `regrow doctor` concludes: each fault is named where it is, with its mend, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from rich.cells import cell_len

from regrow import report
from regrow.adapters.words import load_words
from regrow.cli.doctor import show
from regrow.cli.screen import Screen
from regrow.model import (
    DISPATCHER,
    WORKER,
    Alert,
    AppFacts,
    Balance,
    BrokerFacts,
    Finding,
    FolderFacts,
    LedgerFacts,
    Level,
    Member,
    QueueFacts,
    ResultsFacts,
    Scheduled,
    SetUp,
    SpoolFacts,
    State,
    Switches,
    Symptom,
    TaskFacts,
    WorkersFacts,
)
from regrow.testing import START

ENGLISH, CHINESE = load_words("en"), load_words("zh")
NOW = START


def ago(seconds: float) -> Any:
    """An instant before now; negative: after it."""
    return NOW - timedelta(seconds=seconds)


def a_member(kind: str = WORKER, name: str = "celery@a", **changes: Any) -> Member:
    """A process that has given a sign of life ten seconds ago."""
    member = Member("b" + name, kind, name, 7, ago(1000), ago(10), ("celery", "recovery"))
    return replace(member, **changes)


BALANCE = Balance(5, dict.fromkeys(State, 0) | {State.RECOVERED: 5}, 0, 0, 0)
QUEUES = (QueueFacts("celery", "celery"), QueueFacts("recovery", "rec"))
HEALTHY = SetUp(
    now=NOW,
    host="a",
    app=AppFacts("shop", tasks=(TaskFacts("shop.pay", 180.0),), beat={"scan": "recovery"}, queues=QUEUES),
    ledger=LedgerFacts(
        "sqlite:////l.db",
        revision="0003",
        needed="0003",
        balance=BALANCE,
        members=(a_member(), a_member(DISPATCHER, "a")),
    ),
    broker=BrokerFacts("redis://h/0", driver="redis", visibility_seconds=3600.0),
    results=ResultsFacts("redis://h/1"),
    spool=SpoolFacts("/spool"),
    workers=WorkersFacts({"celery@a": QUEUES}),
    folders=(FolderFacts("FAILURE_LOGS_DIR", "/logs"),),
)


def found(setup: SetUp = HEALTHY, words: Any = ENGLISH, **switches: Any) -> list[Finding]:
    """The findings."""
    return report.diagnose(setup, replace(Switches(), **switches), words)


def bad(setup: SetUp = HEALTHY, **switches: Any) -> dict[str, tuple[Level, str, str]]:
    """What is not fine: name -> level, text, mend."""
    return {
        str(one.name): (one.level, one.text, one.mend)
        for one in found(setup, **switches)
        if one.level is not Level.FINE
    }


def change(part: str, **changes: Any) -> SetUp:
    """The healthy set-up with other facts in one part."""
    return replace(HEALTHY, **{part: replace(getattr(HEALTHY, part), **changes)})


def members(*those: Member) -> SetUp:
    """The healthy set-up with these members."""
    return change("ledger", members=those)


def test_healthy() -> None:
    """Nothing is wrong with a set-up with which nothing is wrong, and each part is said to be fine."""
    assert bad() == {}
    assert {one.name for one in found()} == {
        Symptom.BROKER, Symptom.RESULTS, Symptom.LEDGER, Symptom.DISPATCHER, Symptom.WORKERS, Symptom.QUEUES,
        Symptom.FOLDERS,
    }  # fmt: skip


P, W = Level.PROBLEM, Level.WARNING
ALERT = Alert(12, "1:abc", "c", "high", "Data fault", "", 3, NOW, NOW)
SLOW = TaskFacts("shop.slow", limit_seconds=4000.0, late=True)
LAZY = TaskFacts("shop.lazy", 7200.0, True)
LONELY = WorkersFacts({"celery@a": QUEUES[:1]})

CASES: list[tuple[Symptom, Level, SetUp, dict[str, Any], str, str]] = [
    # name, level, facts, settings, part of the text, part of the mend
    (Symptom.NOT_INSTALLED, P, change("app", installed=False), {}, "shop", "regrow.install(app)"),
    (Symptom.TASKS_NOT_LOADED, P, change("app", error="No module named 'x'"), {}, "named 'x'", "-A shop report"),
    (Symptom.OBSERVING, W, HEALTHY, {"mode": "observe"}, "observe", "FAILURE_MODE=recover"),
    (Symptom.OBSERVING, W, change("app", given=frozenset({"mode"})), {"mode": "observe"}, "",
     "regrow.install(app, mode='recover')"),
    (Symptom.RETRIES_OFF, W, HEALTHY, {"recovery_enabled": False}, "ENABLED is false", "FAILURE_RECOVERY_ENABLED=true"),
    (Symptom.RETRIES_OFF, W, HEALTHY, {"max_recovery_attempts": 0}, "is 0", "FAILURE_MAX_RECOVERY_ATTEMPTS=3"),
    (Symptom.RETRIES_OFF, W, change("app", given=frozenset({"max_recovery_attempts"})), {"max_recovery_attempts": 0},
     "", "regrow.install(app, max_recovery_attempts=3)"),
    (Symptom.MESSAGES_OFF, W, HEALTHY, {"notification_enabled": False}, "told", "FAILURE_NOTIFICATION_ENABLED=true"),

    (Symptom.LEDGER_UNREACHABLE, P, change("ledger", error="refused", balance=None), {}, "l.db cannot be reached: ref",
     "FAILURE_DATABASE_URL"),
    (Symptom.LEDGER_NOT_SET_UP, P, change("ledger", revision=None, balance=None), {}, "no ledger",
     "regrow -A shop db upgrade"),
    (Symptom.LEDGER_OUTDATED, P, change("ledger", revision="0002", balance=None), {}, "0002",
     "stop workers and dispatchers, then: regrow -A shop db upgrade"),
    (Symptom.LEDGER_TOO_NEW, P, change("ledger", revision="0004", balance=None), {}, "0004", "pip install --upgrade"),
    (Symptom.LEDGER_UNBALANCED, P, change("ledger", balance=replace(BALANCE, captured=6)), {}, "6 failures", "status"),
    (Symptom.OVERDUE_WORK, P, change("ledger", balance=replace(BALANCE, overdue=4, overdue_since=ago(600))), {},
     "at: 4, the oldest for 10 min", "dispatcher's log"),
    (Symptom.UNDELIVERED_MESSAGES, W, change("ledger", refused=("k: no route.", "l: x")), {}, "2; the first one: k: no",
     "regrow -A shop status"),
    (Symptom.OPEN_ALERTS, W, change("ledger", alerts=(ALERT,)), {}, "1; the newest one: Data fault", "alerts close 12"),

    (Symptom.NO_DISPATCHER, P, members(a_member()), {}, "No dispatcher is alive: ", "regrow -A shop run"),
    (Symptom.NO_DISPATCHER, P, members(a_member(), a_member(DISPATCHER, "a", seen_at=ago(600))), {}, "10 min ago",
     "regrow -A shop run"),
    (Symptom.NO_DISPATCHER, P, replace(members(a_member()), ledger=replace(
        HEALTHY.ledger, members=(a_member(),), balance=replace(BALANCE, parked=1))), {"mode": "observe"}, "", "run"),
    (Symptom.CLOCK_SKEW, P, members(a_member(skew_seconds=120.0, seen_at=ago(-110)), a_member(DISPATCHER)), {},
     "worker celery@a is 2 min ahead", "timedatectl"),
    (Symptom.CLOCK_SKEW, W, members(a_member(), a_member(DISPATCHER, "d", skew_seconds=-6.0)), {},
     "dispatcher d is 6 s behind", "timedatectl"),
    (Symptom.CLOCK_SKEW, P, members(a_member(seen_at=ago(-90)), a_member(DISPATCHER)), {}, "is 90 s ahead", "timedatectl"),
    (Symptom.CLOCK_SKEW, W, change("ledger", skew_seconds=8.0), {}, "this machine is 8 s ahead", "timedatectl"),

    (Symptom.BROKER_UNREACHABLE, P, replace(change("broker", error="refused"), workers=None), {}, "refused", "broker_url"),
    (Symptom.BROKER_LOSES_MESSAGES, P, change("broker", loses_messages=True), {}, "celery/kombu#1551", "redis://"),
    (Symptom.NO_REDELIVERY, W, change("broker", redelivers=False), {}, "is gone", "FAILURE_TRACK_STARTS=true"),
    (Symptom.ETA_ABOVE_VISIBILITY, P, change("workers", scheduled=Scheduled("shop.later", 7300.0)), {},
     "shop.later for another 2 h", '{"visibility_timeout": 10800}'),
    (Symptom.RETRY_DELAY_ABOVE_VISIBILITY, P, change("app", tasks=(LAZY,)), {}, "shop.lazy (2 h)", "10800"),
    (Symptom.RETRY_DELAY_ABOVE_VISIBILITY, W, change("broker", visibility_seconds=60.0), {}, "waits 3 min", "3600"),
    (Symptom.TIME_LIMIT_ABOVE_VISIBILITY, P, change("app", tasks=(SLOW,)), {}, "shop.slow (66 min)", "7200"),

    (Symptom.NO_WORKER, P, replace(change("ledger", members=(a_member(DISPATCHER),)), workers=WorkersFacts()), {},
     "No worker of this", "celery -A shop worker -Q celery,recovery"),
    (Symptom.NO_WORKER, P, replace(change("ledger", members=(a_member(DISPATCHER),)), workers=WorkersFacts(
        {"celery@foreign": (QueueFacts("theirs"),)})), {}, "No worker of this", "worker -Q celery,recovery"),
    (Symptom.WORKERS_SILENT, W, replace(HEALTHY, workers=WorkersFacts()), {}, "celery@a", "-P solo"),
    (Symptom.WORKERS_SILENT, W, replace(HEALTHY, workers=WorkersFacts(error="no fanout")), {}, "no fanout",
     "celery -A shop inspect ping"),
    (Symptom.WORKER_WITHOUT_REGROW, P, members(a_member(DISPATCHER)), {}, "celery@a", "regrow is NOT active"),
    (Symptom.PARKED_QUEUE_UNCONSUMED, P, change("ledger", waiting={"slow": 3}), {}, "tasks wait to run again: 3", "celery -A shop worker -Q slow"),
    (Symptom.BEAT_QUEUE_UNCONSUMED, P, replace(HEALTHY, workers=LONELY), {}, "queue recovery, to which beat sends: scan",
     "celery -A shop worker -Q recovery"),
    (Symptom.DEFAULT_QUEUE_UNCONSUMED, W, replace(HEALTHY, workers=WorkersFacts({"celery@a": QUEUES[1:]})), {},
     "default queue celery", "celery -A shop worker -Q celery"),

    (Symptom.RESULTS_DISABLED, W, change("results", place="", disabled=True), {}, ".get()", "result_backend"),
    (Symptom.RESULTS_UNREACHABLE, P, change("results", error="refused"), {}, "redis://h/1 cannot be reached: refused",
     "result_backend"),
    (Symptom.RESULTS_WITHOUT_CHORDS, W, change("results", place="rpc://", chords=False), {}, "rpc://", "result_backend"),

    (Symptom.FOLDER_NOT_WRITABLE, P, replace(HEALTHY, folders=(FolderFacts("FAILURE_LOGS_DIR", "/l", "denied"),)), {},
     "/l (FAILURE_LOGS_DIR) cannot be written to: denied", "FAILURE_LOGS_DIR"),
    (Symptom.SPOOL_WAITING, W, change("spool", waiting_bytes=1500, oldest_at=ago(600)), {}, "1.5 kB, the oldest file for 10 min", "regrow -A shop run"),
    (Symptom.SPOOL_DAMAGED, W, change("spool", damaged_bytes=70), {}, "70 B", "/spool/*.damaged"),
    (Symptom.SPOOL_NEARLY_FULL, P, change("spool", damaged_bytes=81), {"spool_limit_bytes": 100}, "81 B of 100 B",
     "FAILURE_SPOOL_LIMIT_BYTES=200"),
    (Symptom.SPOOL_ELSEWHERE, W, members(a_member(), a_member(DISPATCHER, "far", spooled_bytes=2000)), {},
     "far (2 kB)", "doctor"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "level", "setup", "switches", "text", "mend"), CASES, ids=lambda one: str(one)[:40])
def test_each_fault_is_named(
    name: Symptom, level: Level, setup: SetUp, switches: dict[str, Any], text: str, mend: str
) -> None:
    """Each fault is named with its value and its mend, and causes no other complaint but those that follow from it."""
    told = bad(setup, **switches)
    assert name in told, told
    assert told[name][0] is level
    assert text in told[name][1]
    assert mend in told[name][2]
    follow = {
        Symptom.SPOOL_NEARLY_FULL: {"spool_damaged"},
    }.get(name, set()) | ({"observing"} if switches.get("mode") == "observe" else set())
    assert set(told) - {str(name)} <= follow


@pytest.mark.parametrize("words", [ENGLISH, CHINESE], ids=["en", "zh"])
def test_every_sentence_is_whole(words: Any) -> None:
    """Each finding is one line that ends as a sentence does, and what is not fine has a mend on one line."""
    for _name, _level, setup, switches, _text, _mend in CASES:
        for one in found(setup, words, **switches):
            assert "\n" not in one.text + one.mend
            assert "{" not in one.text
            assert one.text.endswith(("。", ".")), one.text
            assert bool(one.mend) == (one.level is not Level.FINE)
            assert not one.mend.endswith("。")


def test_every_name_is_tested() -> None:
    """No finding is without a case above."""
    tested = {name for name, *_ in CASES} | {one.name for one in found()}
    tested |= {one.name for one in found(change("broker", redelivers=False), track_starts=True)}
    assert tested == set(Symptom)


def test_the_worst_comes_first() -> None:
    """Problems, then warnings, then what is fine."""
    levels = [one.level for one in found(change("ledger", waiting={"slow": 1}), notification_enabled=False)]
    assert levels == sorted(levels, key=list(Level).index)
    assert levels[0] is Level.PROBLEM


QUIET: list[tuple[str, SetUp, dict[str, Any]]] = [
    ("an observer needs no dispatcher", members(a_member()), {"mode": "observe"}),
    ("a slow clock is no death", members(a_member(), a_member(DISPATCHER, seen_at=ago(64), skew_seconds=-4.9)), {}),
    ("our own clock may be wrong", replace(members(a_member(DISPATCHER, seen_at=ago(62)), a_member()), ledger=replace(
        HEALTHY.ledger, members=(a_member(DISPATCHER, seen_at=ago(62)), a_member()), skew_seconds=4.0)), {}),
    ("what is due just now is not late", change("ledger", balance=replace(BALANCE, overdue=1, overdue_since=ago(50))), {}),
    ("a dead member's clock counts no more", members(
        a_member(), a_member(DISPATCHER), a_member(WORKER, "old", seen_at=ago(4000), skew_seconds=100.0)), {}),
    ("begun tasks are noted", change("broker", redelivers=False), {"track_starts": True}),
    ("another application's worker", replace(HEALTHY, workers=WorkersFacts(
        {"celery@a": QUEUES, "celery@foreign": (QueueFacts("theirs", "theirs"),)})), {}),
    ("no limit, no finding", change("app", tasks=(TaskFacts("t", late=True),)), {}),
    ("acknowledged early", change("app", tasks=(TaskFacts("t", limit_seconds=9000.0),)), {}),
    ("no visibility time-out", replace(change("broker", visibility_seconds=None), workers=WorkersFacts(
        {"celery@a": QUEUES}, Scheduled("t", 90_000.0))), {}),
    ("a routing key is no queue's name", change("ledger", waiting={"rec": 2}), {}),
    ("nobody can say who consumes", replace(HEALTHY, workers=None), {}),
    ("this machine's spool is known", members(a_member(), a_member(DISPATCHER, "a", spooled_bytes=9)), {}),
]  # fmt: skip


@pytest.mark.parametrize(("setup", "switches"), [case[1:] for case in QUIET], ids=[case[0] for case in QUIET])
def test_no_false_alarm(setup: SetUp, switches: dict[str, Any]) -> None:
    """What looks like a fault and is none causes no complaint."""
    assert set(bad(setup, **switches)) <= {"observing"}


def test_queues_from_signs_of_life() -> None:
    """The queues of a worker that does not answer are those that its sign of life names."""
    told = bad(replace(change("ledger", waiting={"rec": 1, "slow": 2}), workers=WorkersFacts()))
    assert set(told) == {"workers_silent", "parked_queue_unconsumed"}
    assert "slow" in told["parked_queue_unconsumed"][1]


@pytest.mark.parametrize(
    ("kind", "bound", "key", "taken"),
    [
        ("direct", "orders", "orders", True),
        ("direct", "order.#", "order.new", False),
        ("topic", "order.#", "order.new.big", True),
        ("topic", "order.#", "order", True),
        ("topic", "order.*", "order.new", True),
        ("topic", "order.*", "order.new.big", False),
        ("topic", "*.new", "order.new", True),
        ("topic", "#.new", "a.b.new", True),
        ("fanout", "", "whatever", True),
    ],
)
def test_routing_keys(kind: str, bound: str, key: str, taken: bool) -> None:
    """A queue takes what its binding says, as AMQP does."""
    assert QueueFacts("q", bound, kind).takes(key) is taken
    assert QueueFacts("q", bound, kind).takes("q") is True


def test_many_names_are_cut() -> None:
    """Three names are spelled out, the rest is counted."""
    tasks = tuple(replace(LAZY, name=f"t{n}") for n in range(9))
    assert (
        "t0 (2 h), t1 (2 h), t2 (2 h) and 6 more" in bad(change("app", tasks=tasks))["retry_delay_above_visibility"][1]
    )


def test_callable_types() -> None:
    """The pure function takes facts and gives findings, in any language."""
    diagnose: Callable[..., list[Finding]] = report.diagnose
    assert [one.name for one in diagnose(HEALTHY, Switches(), CHINESE)] == [one.name for one in found()]


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("width", [80, 120])
def test_on_a_terminal(
    width: int, language: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Findings fit the terminal; name, text and mend stand under one another, and the end counts them."""
    monkeypatch.setenv("COLUMNS", str(width))
    screen = Screen(load_words(language), NOW)
    findings = found(change("ledger", waiting={"[red]slow\x1b[31m": 3}), load_words(language), mode="observe")
    show(findings, screen)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(cell_len, lines)) <= width
    text = "\n".join(lines)
    assert "parked_queue_unconsumed" in text
    assert "[red]slow\\x1b[31m" in text
    assert {"en": "Mend: FAILURE_MODE=recover", "zh": "处理：FAILURE_MODE=recover"}[language] in text
    assert lines[-1] == {"en": "  Problems: 1, warnings: 1", "zh": "  问题 1 个，警告 1 个"}[language]
