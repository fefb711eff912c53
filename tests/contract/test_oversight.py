"""Scans, orders, reports and alerts over a real ledger."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from threading import Barrier
from time import monotonic, sleep
from typing import Any

import pytest
from sqlalchemy import text

from regrow import report
from regrow.adapters.celery.loop import Pulse
from regrow.adapters.channels.ledger import InLedger
from regrow.adapters.sql import Database, SqlLedger, SqlStore
from regrow.capture import Redaction
from regrow.model import (
    BUSINESS,
    DATA,
    NETWORK,
    UNKNOWN,
    Action,
    Audience,
    Cause,
    Deed,
    Failure,
    Header,
    Lease,
    Reason,
    Record,
    Refusal,
    State,
)
from regrow.oversight import Oversight
from regrow.testing import GUIDE, START, FrozenClock, RecordingChannel, RecordingDispatcher, a_failure, by_type


class Bench:
    """An oversight over a ledger of its own."""

    def __init__(self, database: Database) -> None:
        self.clock = FrozenClock()
        self.log, self.user, self.sink = RecordingChannel(), RecordingChannel(), RecordingChannel()
        self.dispatcher = RecordingDispatcher()
        self.written: list[tuple[str, Mapping[str, Any], datetime]] = []
        store = SqlStore(database)
        self.it = Oversight(
            store=store,
            ledger=SqlLedger(database),
            classify=by_type,
            policies=GUIDE,
            dispatcher=self.dispatcher,
            channels={
                Audience.ADMINISTRATOR: {"admin_log": self.log, "alerts": InLedger(store.count_alert, self.clock)},
                Audience.USER: {"user_log": self.user, "inbox": InLedger(store.put_notice, self.clock)},
                Audience.MACHINE: {"events": self.sink},
            },
            words=str,
            clock=self.clock,
            luck=lambda: 0.0,
            write_report=lambda kind, made, at: self.written.append((kind, made, at)),
        )

    def change(self, **changes: Any) -> Oversight:
        """Go on with other parts."""
        self.it = replace(self.it, **changes)
        return self.it

    def act(self, seconds: float = 0) -> None:
        """Let time pass, then do what is due."""
        self.clock.advance(seconds)
        self.it.act()

    def found(self, which: str) -> Record:
        """What the ledger says of a task."""
        record = self.it.ledger.find(which)
        assert record is not None
        return record

    def run_again(self, task_id: str, *, succeed: bool) -> None:
        """A worker runs the retry that was sent last."""
        due = next(one for one in reversed(self.dispatcher.sent) if one.task_id == task_id)
        assert self.it.start(Header(due.failure, due.attempts + 1, due.token), retries=0, idempotent=False)
        if succeed:
            self.it.recovered(due.failure)
        else:
            self.it.handle([a_failure(task_id=task_id, token=due.token, attempt=due.attempts + 1)])


@pytest.fixture
def bench(database: Database) -> Bench:
    """An empty ledger, willing channels."""
    return Bench(database)


class Table:
    """An application's own records (`ports.Source`)."""

    def __init__(self, *failures: Failure, barrier: Barrier | None = None) -> None:
        self.failures = failures
        self.asked: list[datetime] = []
        self.barrier = barrier

    def failed(self, since: datetime) -> tuple[Failure, ...]:
        """All of them."""
        self.asked.append(since)
        if self.barrier is not None:
            self.barrier.wait(10)
        return self.failures


def scanned(task_id: str, **changes: Any) -> Failure:
    """A failure that a scan found."""
    return a_failure(task_id=task_id, scanned=True, parkable=False, **changes)


# -- scans ------------------------------------------------------------------------------------------------------------


def test_a_scan_takes_in_what_no_door_saw(bench: Bench) -> None:
    """Once: a second scan finds nothing new, and what a door saw is left alone."""
    bench.it.handle([a_failure(task_id="seen")])
    table = Table(scanned("seen"), scanned("lost"), scanned("bad", causes=a_failure(DATA).causes))
    bench.change(sources=[table])
    result = bench.it.scan()
    assert (result.found, result.taken, result.busy, result.errors) == (3, 2, False, ())
    assert table.asked == [START - timedelta(hours=24)]
    assert bench.found("lost").state is State.SCHEDULED
    assert not bench.found("lost").parked
    assert bench.found("bad").state is State.HANDED_OVER
    assert bench.found("seen").attempts == 1
    assert bench.it.scan().taken == 0
    bench.act(30)
    assert [due.task_id for due in bench.dispatcher.sent] == ["seen", "lost"]
    assert bench.it.scan().taken == 0


def test_what_a_scan_finds_is_redacted(bench: Bench) -> None:
    """An application's own table may hold secrets; the ledger does not take them over."""
    causes = (Cause("ConnectionError", "cannot reach postgresql://u:geheim@h, pin=4711"),)
    bench.change(sources=[Table(scanned("t", causes=causes))], redact=Redaction(keys=("pin",)))
    assert bench.it.scan().taken == 1
    assert bench.found("t").message == "ConnectionError: cannot reach postgresql://u:***@h, pin=***"


def test_a_scanned_row_never_counts_as_another_run(bench: Bench) -> None:
    """Whatever has become of the task since: the row in the application's table is the failure that is known."""
    bench.it.handle([a_failure(DATA, task_id="told")])
    (again,) = bench.it.handle([scanned("told")])
    assert again.duplicate
    assert bench.found("told").attempts == 1


def test_scans_at_once_handle_each_failure_once(bench: Bench) -> None:
    """One of them works, the others say that it does; and a door that captures meanwhile is no matter."""
    barrier = Barrier(2)
    table = Table(*[scanned(f"t{number}") for number in range(20)], barrier=barrier)
    bench.change(sources=[table])
    with ThreadPoolExecutor(3) as threads:
        first = threads.submit(bench.it.scan)
        while not table.asked:
            pass
        assert bench.it.scan().busy
        door = threads.submit(lambda: [bench.it.handle([a_failure(task_id=f"t{n}")])[0].duplicate for n in range(10)])
        barrier.wait(10)
        result, duplicates = first.result(), door.result()
    assert result.taken + duplicates.count(False) == 20
    assert bench.it.ledger.balance(START).captured == 20
    assert {bench.found(f"t{n}").attempts for n in range(20)} == {1}
    assert not bench.change(sources=[]).scan().busy


def test_a_source_that_breaks_is_reported(bench: Bench) -> None:
    """The others are scanned all the same."""

    class Broken:
        def failed(self, since: datetime) -> list[Failure]:
            raise ConnectionError("no table")

    result = bench.change(sources=[Broken(), Table(scanned("a"))]).scan()
    assert result.taken == 1
    assert result.errors == ("Broken: ConnectionError: no table",)


def test_one_bad_row_does_not_stop_the_others(bench: Bench) -> None:
    """Of its source, nor of other sources; and it is said."""
    bad = scanned("bad", failed_at=START.replace(tzinfo=None))
    result = bench.change(sources=[Table(scanned("a"), bad, scanned("b")), Table(scanned("c"))]).scan()
    assert result.taken == 3
    (error,) = result.errors
    assert error.startswith("Table: task bad: ")


# -- a person's orders ------------------------------------------------------------------------------------------------


def test_a_waiting_retry_is_sent_now(bench: Bench) -> None:
    """Without waiting for its time (G10)."""
    bench.it.handle([a_failure(task_id="a")])
    answer = bench.it.again("a", by="ann")
    assert (answer.success, answer.refusal, answer.retries, answer.limit) == (True, None, 0, 5)
    bench.act()
    assert [due.task_id for due in bench.dispatcher.sent] == ["a"]
    note = bench.found("a").notes[0]
    assert (note.deed, note.by) == (Deed.RETRIED, "ann")


@pytest.mark.parametrize("category", [DATA, BUSINESS, UNKNOWN])
def test_every_category_can_be_retried_by_hand(bench: Bench, category: Any) -> None:
    """And when it has recovered, that is that."""
    bench.it.handle([a_failure(category, task_id="a")])
    assert bench.it.again("a").success
    bench.act()
    assert bench.it.again("a").refusal is Refusal.RUNNING
    bench.run_again("a", succeed=True)
    assert bench.found("a").state is State.RECOVERED
    assert bench.it.again("a").refusal is Refusal.RECOVERED


def test_the_limit_counts_unless_forced(bench: Bench) -> None:
    """`force` ignores the count and nothing else."""
    bench.it.handle([a_failure(task_id="a", options=a_failure().options)])
    for delay in (30, 60, 120, 240, 480):
        bench.act(delay)
        bench.run_again("a", succeed=False)
    assert bench.found("a").state is State.EXHAUSTED
    assert bench.it.again("a").refusal is Refusal.ENDING
    bench.it.closed(bench.found("a").id)
    answer = bench.it.again("a")
    assert (answer.refusal, answer.retries, answer.limit) == (Refusal.LIMIT_REACHED, 5, 5)
    assert bench.it.again("a", force=True).success
    bench.act()
    assert bench.it.again("a", force=True).refusal is Refusal.RUNNING
    bench.run_again("a", succeed=True)
    assert bench.found("a").retries == 6


def test_what_cannot_be_retried_says_why(bench: Bench) -> None:
    """An unknown failure; one whose call was not kept, even with force."""
    assert bench.it.again("nobody").refusal is Refusal.UNKNOWN
    bench.it.handle([a_failure(task_id="a", envelope=None)])
    assert bench.it.again("a", force=True).refusal is Refusal.CALL_NOT_KEPT


def test_an_order_counts_while_retries_are_switched_off(bench: Bench) -> None:
    """The switch stops what is automatic; what a person orders is sent, and only that."""
    bench.it.handle([a_failure(task_id="a"), a_failure(task_id="b")])
    bench.change(policies=replace(GUIDE, enabled=False))
    bench.act(30)
    assert bench.dispatcher.sent == []
    assert bench.it.again("a").success
    bench.act()
    assert [due.task_id for due in bench.dispatcher.sent] == ["a"]


# -- plug-ins ---------------------------------------------------------------------------------------------------------


def test_a_custom_strategy_comes_first(bench: Bench) -> None:
    """Its delay and its limit stand in for the schedule (G26)."""
    asked: list[tuple[str, str, str]] = []

    def strategy(task: Failure, category: str, analysis: Mapping[str, Any]) -> dict[str, Any] | None:
        asked.append((task.task_type, category, analysis["category"]))
        return {"delay": 7, "strategy": "mine", "max_attempts": 1} if task.task_id == "special" else None

    bench.change(strategy=strategy)
    special, plain = bench.it.handle([a_failure(task_id="special"), a_failure(task_id="plain")])
    assert asked == [("pay", NETWORK.key, NETWORK.key)] * 2
    assert (special.decision.delay_seconds, plain.decision.delay_seconds) == (7, 30)
    bench.act(7)
    bench.run_again("special", succeed=False)
    assert bench.found("special").state is State.EXHAUSTED


@pytest.mark.parametrize(
    "answer",
    [
        5,
        {},
        {"delay": -1, "strategy": "s", "max_attempts": 1},
        {"delay": float("nan"), "strategy": "s", "max_attempts": 1},
        {"delay": "5", "strategy": "s", "max_attempts": 1},
        {"delay": 5, "strategy": "", "max_attempts": 1},
        {"delay": 5, "strategy": "s", "max_attempts": True},
        {"delay": 5, "strategy": "s", "max_attempts": 10**9},
        ZeroDivisionError("oops"),
    ],
    ids=repr,
)
def test_a_wrong_strategy_is_reported_and_left_out(bench: Bench, answer: Any) -> None:
    """The built-in schedule is used, and the report says what was wrong."""

    def strategy(*_: object) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    bench.change(strategy=strategy)
    (handled,) = bench.it.handle([a_failure(task_id="a")])
    assert handled.decision.delay_seconds == 30
    assert "custom recovery strategy" in handled.trouble
    assert any("custom recovery strategy" in one for one in bench.it.report()["stats"]["errors"])


def test_a_plan_does_not_override_caution(bench: Bench) -> None:
    """What may have done its work is held, whatever the strategy says."""
    bench.change(strategy=lambda *_: {"delay": 1, "strategy": "s", "max_attempts": 5})
    (handled,) = bench.it.handle([a_failure(task_id="a", work_done=True)])
    assert handled.decision.reason is Reason.WORK_MAY_BE_DONE
    (told,) = bench.it.handle([a_failure(DATA, task_id="b")])
    assert told.decision.action is Action.RETRY, "the owner's own strategy may retry what we would not"


def test_user_of_finds_the_user(bench: Bench) -> None:
    """Its user is told; when it breaks, the administrator is."""
    bench.change(user_of=lambda failure: 7 if failure.task_id == "a" else 1 / 0)
    bench.it.handle([a_failure(BUSINESS, task_id="a"), a_failure(BUSINESS, task_id="b")])
    bench.act()
    assert [(one.task_id, one.user_id) for one in bench.user.messages] == [("a", "7")]
    assert [one.task_id for one in bench.log.messages] == ["b"]


# -- telling ----------------------------------------------------------------------------------------------------------


def test_every_channel_gets_a_message_of_its_own(bench: Bench) -> None:
    """One that refuses is tried again alone; the others are not told twice."""
    bench.it.handle([a_failure(BUSINESS, task_id="a", user_id="7")])
    bench.user.refuse = lambda _: OSError("full")  # type: ignore[assignment,return-value]
    bench.act()
    assert [one.title for one in bench.it.ledger.inbox("7")] != []
    assert bench.it.ledger.undelivered(limit=9) == ["a:1:hand_over:user@user_log: OSError: full"]
    bench.user.refuse = lambda _: None
    bench.act(10)
    assert len(bench.user.messages) == 1
    assert len(bench.it.ledger.inbox("7")) == 1
    (notice,) = bench.it.ledger.inbox("7", unread=True)
    assert bench.it.store.read_notice(notice.id, now=bench.clock())
    assert not bench.it.store.read_notice(notice.id, now=bench.clock())
    assert bench.it.ledger.inbox("7", unread=True) == []
    assert bench.it.ledger.inbox("8") == []


def test_a_second_silence_is_told_again(bench: Bench) -> None:
    """A person had it run again, and its worker died again: that is news."""
    bench.it.handle([a_failure(task_id="a")])
    for number in (1, 2):
        bench.act(30)
        due = bench.dispatcher.sent[-1]
        assert bench.it.start(Header(due.failure, 2, due.token), retries=0, idempotent=False)
        bench.act(61)
        assert bench.found("a").state is State.HELD
        bench.act(1)
        assert len(bench.log.messages) == number
        assert bench.it.again("a").success


def test_a_row_that_cannot_be_read_stops_nobody(bench: Bench, database: Database) -> None:
    """It is said, and never tried again; a field of a newer version does not matter."""
    bench.it.handle([a_failure(DATA, task_id="a"), a_failure(DATA, task_id="b"), a_failure(DATA, task_id="c")])
    with database.write() as connection:
        connection.execute(
            text("UPDATE regrow_outbox SET message='not json' WHERE regrow_outbox.key LIKE 'a:1:hand_over%'")
        )
        newer = """replace(message, '"audience"', '"new": 1, "audience"')"""
        connection.execute(text(f"UPDATE regrow_outbox SET message = {newer} WHERE regrow_outbox.key LIKE 'b:%'"))
    bench.act()
    assert sorted(one.task_id for one in bench.log.messages) == ["b", "c"]
    assert all("cannot be read" in one for one in bench.it.ledger.undelivered(limit=9))


def test_a_message_of_the_first_version_goes_to_the_log(bench: Bench, database: Database) -> None:
    """It was written when an audience had one channel, and names none."""
    bench.it.handle([a_failure(DATA, task_id="a")])
    with database.write() as connection:
        change = """UPDATE regrow_outbox SET message = replace(message, '"channel": "admin_log"', '"channel": ""')"""
        connection.execute(text(change))
    bench.act()
    assert [one.task_id for one in bench.log.messages] == ["a"]


def test_slow_channels_do_not_hold_up_retries(bench: Bench) -> None:
    """After two seconds the rest of the messages is given back, and comes next; none comes twice."""

    def slow(_: object) -> None:
        bench.clock.advance(1)

    bench.log.refuse = slow  # type: ignore[assignment]
    bench.it.handle([a_failure(DATA, task_id=f"t{number}") for number in range(5)])
    assert bench.it.act().more
    assert len(bench.log.messages) == 2
    while bench.it.act().more:
        pass
    assert sorted(one.task_id for one in bench.log.messages) == [f"t{number}" for number in range(5)]


def test_events_reach_sinks_while_messages_are_off(bench: Bench) -> None:
    """FAILURE_NOTIFICATION_ENABLED is about people."""
    bench.change(telling=False)
    bench.it.handle([a_failure(DATA, task_id="a")])
    bench.act()
    assert bench.log.messages == []
    assert [one.task_id for one in bench.sink.messages] == ["a"]


def test_alerts_stay_open_until_the_cause_is_gone(bench: Bench) -> None:
    """Failures of one shape count to one alert; when none of them needs a person any longer it closes itself."""
    bench.it.handle([a_failure(DATA, task_id="a"), a_failure(DATA, task_id="b")])
    bench.act()
    (alert,) = bench.it.ledger.alerts()
    assert (alert.count, alert.priority, alert.category) == (2, "high", DATA.key)
    bench.clock.advance(60)
    bench.it.watch()
    assert len(bench.it.ledger.alerts()) == 1
    bench.it.store.dismiss(bench.found("a").id, now=bench.clock())
    bench.it.again("b")
    bench.act()
    bench.run_again("b", succeed=True)
    bench.clock.advance(60)
    bench.it.watch()
    assert bench.it.ledger.alerts() == []
    (closed,) = bench.it.ledger.alerts(closed=True)
    assert closed.closed_by == ""


def test_an_administrator_closes_an_alert(bench: Bench) -> None:
    """The next failure of that shape opens a new one."""
    bench.it.handle([a_failure(DATA, task_id="a")])
    bench.act()
    (alert,) = bench.it.ledger.alerts()
    assert bench.it.store.close_alert(alert.id, now=bench.clock(), by="ann")
    assert not bench.it.store.close_alert(alert.id, now=bench.clock(), by="bob")
    assert bench.it.ledger.alerts(closed=True)[0].closed_by == "ann"
    bench.it.handle([a_failure(DATA, task_id="b")])
    bench.act()
    assert bench.it.ledger.alerts()[0].count == 1


def test_a_threshold_alerts_once_and_says_when_it_is_over(bench: Bench) -> None:
    """However many dispatchers look, and however often (G18)."""
    bench.it.handle([a_failure(UNKNOWN, task_id=f"t{number}") for number in range(11)])
    for _ in range(3):
        assert bench.it.watch()
        assert not bench.it.watch(), "once a minute is enough, whoever looks"
        bench.act(60)
    about = [one for one in bench.log.messages if one.group == "unknown_error_threshold"]
    assert [one.priority for one in about] == ["high"]
    assert "unknown_error_threshold" in [one.group for one in bench.it.ledger.alerts()]
    bench.clock.advance(3600)
    bench.it.watch()
    bench.act()
    about = [one for one in bench.log.messages if one.group == "unknown_error_threshold"]
    assert [one.priority for one in about] == ["high", "normal"]
    assert "unknown_error_threshold" not in [one.group for one in bench.it.ledger.alerts()]


def test_the_failure_rate_needs_the_runs(bench: Bench) -> None:
    """Processes count; counts of one minute add up."""
    for runs, failed in ((30, 5), (20, 6)):
        bench.it.store.counted("host", START, runs=runs, failed=failed)
    figures = bench.it.ledger.figures(START - timedelta(hours=1), START)
    assert (figures.runs, figures.failed_runs) == (50, 11)
    bench.it.watch()
    assert [one.group for one in bench.it.ledger.alerts()] == ["failure_rate_threshold"]


def test_figures_say_what_happened(bench: Bench) -> None:
    """Recovered, used up, unknown, latencies, accuracy."""
    bench.it.handle([a_failure(task_id="a"), a_failure(task_id="b"), a_failure(UNKNOWN, task_id="c")])
    bench.act(30)
    bench.run_again("a", succeed=True)
    bench.run_again("b", succeed=False)
    bench.it.store.confirm(bench.found("a").id, NETWORK.key, now=bench.clock(), by="ann")
    bench.it.store.confirm(bench.found("c").id, DATA.key, now=bench.clock(), by="ann")
    late = scanned("late", failed_at=START, causes=a_failure(DATA).causes)
    bench.clock.advance(600)
    bench.it.handle([late])
    figures = bench.it.ledger.figures(START - timedelta(hours=1), bench.clock())
    assert (figures.failed, figures.recovered, figures.exhausted, figures.unknown) == (4, 1, 0, 1)
    assert (figures.confirmed, figures.confirmed_right) == (2, 1)
    assert figures.handling_seconds == pytest.approx(630, abs=0.01)
    assert figures.telling_seconds is not None
    assert report.targets(figures, str)[0].value == 100


# -- reports ----------------------------------------------------------------------------------------------------------


def test_a_report_covers_what_was_handled_since_the_last(bench: Bench) -> None:
    """Each failure once, and again only when it has failed again (G11)."""
    bench.it.handle([a_failure(task_id="a"), a_failure(DATA, task_id="b")])
    made = bench.it.report()
    assert {one["task_id"]: one["action_taken"] for one in made["results"]} == {
        "a": "auto_recovery",
        "b": "notify_admin",
    }
    assert made["stats"]["recovered"] == 1
    assert made["stats"]["notified"] == 1
    assert bench.it.report()["total_processed"] == 0
    bench.act(30)
    bench.run_again("a", succeed=False)
    assert [one["task_id"] for one in bench.it.report()["results"]] == ["a"]
    assert [kind for kind, _, _ in bench.written] == ["failure_processing"] * 3


def test_a_report_that_cannot_be_written_loses_nothing(bench: Bench) -> None:
    """The next one says it all."""

    def broken(*_: object) -> None:
        raise OSError("disk full")

    bench.it.handle([a_failure(task_id="a")])
    good = bench.it.write_report
    bench.change(write_report=broken)
    with pytest.raises(OSError, match="disk full"):
        bench.it.report()
    bench.change(write_report=good)
    assert bench.it.report()["total_processed"] == 1


def test_an_analysis_counts_the_last_days(bench: Bench) -> None:
    """By category and by type of task (G12)."""
    bench.it.handle([a_failure(task_id="a"), a_failure(task_id="b"), a_failure(DATA, task_id="c")])
    made = bench.it.analyze()
    assert made["total_failures"] == 3
    assert made["category_distribution"] == {NETWORK.key: 2, DATA.key: 1}
    assert made["task_type_failures"] == {"pay": 3}
    bench.clock.advance(8 * 86400)
    assert bench.it.analyze()["total_failures"] == 0


# -- the application's own record ---------------------------------------------------------------------------------------


class Mirror:
    """Keeps what it is given (`ports.Projection`)."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, State, int]] = []
        self.broken = False

    def project(self, record: Record) -> None:
        """Keep it."""
        if self.broken:
            raise ConnectionError("no table")
        self.seen.append((record.task_id, record.state, len(record.history)))

    def ids(self, task_ids: Any) -> dict[str, int]:
        """Numbers."""
        return dict.fromkeys(task_ids, 123)


def test_a_projection_follows_each_transition(bench: Bench) -> None:
    """And is called again after it has failed."""
    mirror = Mirror()
    bench.change(projection=mirror)
    bench.it.handle([a_failure(task_id="a")])
    bench.act()
    bench.act()
    mirror.broken = True
    bench.act(30)
    bench.run_again("a", succeed=True)
    mirror.broken = False
    bench.act(1)
    bench.act(10)
    assert mirror.seen == [("a", State.SCHEDULED, 1), ("a", State.RECOVERED, 1)]
    assert bench.it.report()["results"][0]["task_id"] == 123


def test_whoever_is_told_finds_the_projection_done(bench: Bench) -> None:
    """A channel of the application may look into its own record."""
    mirror, seen = Mirror(), []
    bench.change(projection=mirror)
    bench.log.refuse = lambda message: seen.append((message.task_id, [task for task, _, _ in mirror.seen]))  # type: ignore[assignment,func-returns-value]
    bench.it.handle([a_failure(DATA, task_id="a")])
    bench.act()
    assert seen == [("a", ["a"])]


def test_a_change_while_it_is_projected_is_not_lost(bench: Bench) -> None:
    """The revision says that there is something newer."""

    class Slow(Mirror):
        def project(self, record: Record) -> None:
            super().project(record)
            if len(self.seen) == 1:
                bench.it.store.dismiss(record.id, now=bench.clock())

    mirror = Slow()
    bench.change(projection=mirror)
    bench.it.handle([a_failure(DATA, task_id="a")])
    bench.act()
    bench.act()
    assert [state for _, state, _ in mirror.seen] == [State.HANDED_OVER, State.DISMISSED]


# -- a dispatcher dies ------------------------------------------------------------------------------------------------


class Death(BaseException):
    """Nothing catches it, as nothing catches SIGKILL."""


class Deadly:
    """The ledger, until death comes `before` or `after` a step."""

    def __init__(self, inner: Any, when: str, step: str) -> None:
        self._inner, self._when, self._step = inner, when, step

    def __getattr__(self, name: str) -> Any:
        """The method, armed if it is the chosen one."""
        method = getattr(self._inner, name)

        def armed(*args: Any, **kwargs: Any) -> Any:
            if self._when == "after":
                method(*args, **kwargs)
            raise Death

        return armed if name == self._step else method


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", ["claim_messages", "delivered", "changed", "projected"])
def test_death_in_the_middle_of_telling(bench: Bench, when: str, step: str) -> None:
    """The next dispatcher tells whoever was not told; the inbox, the alert and the projection stay right."""
    mirror = Mirror()
    bench.change(projection=mirror)
    bench.it.handle([a_failure(BUSINESS, task_id="a", user_id="7"), a_failure(DATA, task_id="b")])
    with pytest.raises(Death):
        replace(bench.it, store=Deadly(bench.it.store, when, step)).act()
    bench.act(61)
    assert len(bench.it.ledger.inbox("7")) == 1
    assert [one.count for one in bench.it.ledger.alerts()] == [1]
    assert {one.key for one in bench.user.messages} == {"a:1:hand_over:user@user_log"}
    assert {one.key for one in bench.log.messages} == {"b:1:hand_over:administrator@admin_log"}
    assert {task for task, _, _ in mirror.seen} == {"a", "b"}
    assert bench.it.ledger.balance(bench.clock()).undelivered == 0


@pytest.mark.parametrize(("when", "repeats"), [("before", True), ("after", False)])
def test_death_in_the_middle_of_a_report(bench: Bench, when: str, *, repeats: bool) -> None:
    """A report says a failure again rather than never."""
    bench.it.handle([a_failure(task_id="a")])
    with pytest.raises(Death):
        replace(bench.it, store=Deadly(bench.it.store, when, "reported")).report()
    bench.clock.advance(121)  # the lease of the dead one
    assert bench.it.report()["total_processed"] == repeats


def test_a_ledger_that_was_away_has_heard_nobody(bench: Bench) -> None:
    """A dispatcher judges the silence of others only when it has itself been heard for a lease without a gap."""
    regrow = bench.it
    regrow.store.begin(replace(a_failure(task_id="runs"), causes=(), failed_at=START), "a-worker")
    bench.clock.advance(3_600)
    regrow = replace(regrow, lease=Lease(run=timedelta(seconds=0.5)))
    pulse = Pulse(None)
    pulse.beat(regrow)  # the first one: whoever else was away with the ledger has not been heard either
    assert regrow.ledger.find("runs") is None
    until = monotonic() + 30
    while regrow.ledger.find("runs") is None and monotonic() < until:
        sleep(0.05)
        pulse.beat(regrow)
    found = regrow.ledger.find("runs")
    assert found is not None
    assert "never ended it" in found.message
