"""The straight line over a real ledger, with a broker and channels that do as they are told."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from regrow.adapters.sql import SqlStore
from regrow.errors import DeliveryError, DispatchError
from regrow.model import (
    BUSINESS,
    DATA,
    NETWORK,
    Audience,
    Due,
    Ending,
    Handled,
    Header,
    Message,
    Reason,
    State,
    TaskOptions,
    Tick,
)
from regrow.pipeline import BATCH, Regrow
from regrow.testing import GUIDE, START, FrozenClock, RecordingChannel, RecordingDispatcher, a_failure, a_regrow

IDEMPOTENT = TaskOptions(idempotent=True)


@dataclass
class Bench:
    """The pipeline and its doubles at hand."""

    store: SqlStore
    clock: FrozenClock = field(default_factory=FrozenClock)
    dispatcher: RecordingDispatcher = field(default_factory=RecordingDispatcher)
    admin: RecordingChannel = field(default_factory=RecordingChannel)
    user: RecordingChannel = field(default_factory=RecordingChannel)
    down: bool = False

    def __post_init__(self) -> None:
        self.regrow = self.again()

    def again(self, **changes: object) -> Regrow:
        """A pipeline over the same ledger, set up otherwise."""
        channels = {Audience.ADMINISTRATOR: {"log": self.admin}, Audience.USER: {"log": self.user}}
        self.regrow = a_regrow(
            self.store, clock=self.clock, dispatcher=self.dispatcher, **{"channels": channels, **changes}
        )
        return self.regrow

    def after(self, seconds: float) -> Tick:
        """What the dispatcher does some time later."""
        self.clock.advance(seconds)
        return self.regrow.act()

    def begin(self, due: Due, *, idempotent: bool = False) -> bool:
        """A worker takes what was sent."""
        return self.regrow.start(Header(due.failure, due.attempts + 1, due.token), retries=0, idempotent=idempotent)

    def state(self, due: Due | Handled) -> State:
        """Where a task stands."""
        return self.store.history(due.task_id if isinstance(due, Due) else due.failure.task_id).state

    def fail_again(self, due: Due, **changes: object) -> Handled:
        """The retry fails as the first run did."""
        failure = a_failure(task_id=due.task_id, attempt=due.attempts + 1, token=due.token)
        return self.regrow.handle([replace(failure, **changes)])[0]  # type: ignore[arg-type]


@pytest.fixture
def bench(sqlite_store: SqlStore) -> Bench:
    """An empty ledger, a willing broker, willing channels."""
    return Bench(sqlite_store)


def refuse(*, permanent: bool = False) -> object:
    """A broker that takes nothing."""
    return lambda _due: DispatchError("connection refused", permanent=permanent)


def test_a_retry_is_sent_when_due_and_recovers(bench: Bench) -> None:
    """Parked, due after 30 s, sent once, begun once, recovered; then nothing is left to do."""
    (handled,) = bench.regrow.handle([a_failure(task_id="a")])
    assert handled.decision.park
    assert bench.after(29) == Tick()
    assert bench.after(1) == Tick(sent=1)
    (due,) = bench.dispatcher.sent
    assert (due.task_id, due.attempts, due.failure) == ("a", 1, handled.id)
    assert bench.begin(due)
    assert not bench.begin(due)
    assert bench.regrow.recovered(due.failure)
    assert bench.after(10_000) == Tick()
    assert bench.admin.messages == bench.user.messages == []


def test_the_guides_five_retries_then_the_administrator(bench: Bench) -> None:
    """A network failure is tried 5 times, 30 s to 8 min apart; then the task is closed and the administrator told."""
    bench.regrow.handle([a_failure(task_id="a")])
    for wait in (30, 60, 120, 240, 480):
        assert bench.after(wait - 1).sent == 0
        assert bench.after(1).sent == 1
        due = bench.dispatcher.sent[-1]
        assert bench.begin(due)
        bench.fail_again(due)
    assert bench.state(due) is State.EXHAUSTED
    bench.regrow.closed(due.failure)
    assert bench.after(10_000) == Tick(delivered=1)
    assert "Every retry failed" in bench.admin.messages[0].body


def test_a_broker_that_refuses_costs_a_wait(bench: Bench) -> None:
    """What the broker did not take is postponed and sent later, and nothing is counted as a retry."""
    bench.regrow.handle([a_failure(task_id="a")])
    bench.dispatcher.refuse = refuse()  # type: ignore[assignment]
    assert bench.after(30) == Tick(failed=1)
    assert bench.store.history("a").state is State.SCHEDULED
    bench.dispatcher.refuse = lambda _due: None
    assert bench.after(9) == Tick()
    assert bench.after(1) == Tick(sent=1)
    assert bench.dispatcher.sent[0].attempts == 1


def test_a_refusal_between_successes_does_not_stop_the_rest(bench: Bench) -> None:
    """What was taken is on its way, and the others wait."""
    bench.regrow.handle([a_failure(task_id=f"{n:02}") for n in range(12)])
    bench.dispatcher.refuse = lambda due: DispatchError("no") if int(due.task_id) % 3 else None
    assert bench.after(30) == Tick(sent=4, failed=8)


def test_a_call_that_cannot_be_sent_is_held(bench: Bench) -> None:
    """A permanent refusal holds this one, tells the administrator once, and leaves the others alone."""
    bench.regrow.handle([a_failure(task_id="bad"), *[a_failure() for _ in range(5)]])
    bench.dispatcher.refuse = lambda due: DispatchError("TypeError", permanent=True) if due.task_id == "bad" else None
    assert bench.after(30) == Tick(sent=5, failed=1, delivered=1)
    history = bench.store.history("bad")
    assert (history.state, history.parked) == (State.HELD, True)
    assert "cannot be sent again" in bench.admin.messages[0].body
    assert bench.after(20).failed == 0


def test_an_unbegun_attempt_is_sent_again(bench: Bench) -> None:
    """Silence before the start costs nothing: a new token, older copies are stale, and the waits double."""
    bench.regrow.handle([a_failure()])
    assert bench.after(30).sent == 1
    for wait in (60, 120, 240):
        assert bench.after(wait - 1) == Tick()
        assert bench.after(1) == Tick(sent=1, rescued=1)
    *old, new = bench.dispatcher.sent
    assert len({due.token for due in bench.dispatcher.sent}) == 4
    assert not any(bench.begin(due) for due in old)
    assert bench.begin(new)
    assert bench.admin.messages == []


def test_a_begun_attempt_that_falls_silent_is_held(bench: Bench) -> None:
    """Its work may be done, so a person decides; a late success still counts."""
    bench.regrow.handle([a_failure()])
    bench.after(30)
    (due,) = bench.dispatcher.sent
    assert bench.begin(due)
    assert bench.after(60) == Tick(rescued=1, delivered=1)
    assert (bench.state(due), len(bench.dispatcher.sent)) == (State.HELD, 1)
    assert bench.admin.messages[0].priority == "high"
    assert bench.regrow.recovered(due.failure)
    assert bench.state(due) is State.RECOVERED


def test_signs_of_life_keep_a_long_run_alone(bench: Bench) -> None:
    """A run that says it is alive is left alone, and so is one that waits for a native retry."""
    bench.regrow.handle([a_failure()])
    bench.after(30)
    (due,) = bench.dispatcher.sent
    assert bench.begin(due)
    header = Header(due.failure, 2, due.token)
    for _ in range(5):
        assert bench.after(59) == Tick()
        bench.regrow.renew([header])
    bench.regrow.renew([header], wait=timedelta(seconds=600))
    assert bench.after(659) == Tick()
    assert bench.after(1).rescued == 1


def test_a_dead_idempotent_attempt_runs_again_three_times_at_most(bench: Bench) -> None:
    """Three rescues are enough; one more death is poison: given up, told once, closed by order, and by `end` if no worker takes the order."""
    bench.regrow.handle([a_failure(options=IDEMPOTENT)])
    bench.after(30)
    for deaths in (1, 2, 3):
        due = bench.dispatcher.sent[-1]
        assert bench.begin(due, idempotent=True)
        assert bench.after(60) == Tick(sent=1, rescued=1)
        assert bench.dispatcher.sent[-1].deaths == deaths
    due = bench.dispatcher.sent[-1]
    assert bench.begin(due, idempotent=True)
    assert bench.after(60) == Tick(rescued=1, delivered=1)
    assert bench.state(due) is State.EXHAUSTED
    assert bench.after(0) == Tick(closed=1)
    (order,) = bench.dispatcher.ordered
    assert bench.after(59) == Tick()
    assert bench.after(1) == Tick(closed=1)
    assert [one.failure for one in bench.dispatcher.ended] == [order.failure]
    history = bench.store.history(due.task_id)
    assert (history.state, history.parked) == (State.EXHAUSTED, False)
    assert bench.after(10_000) == Tick()
    assert len(bench.admin.messages) == 1


@pytest.mark.parametrize("permanent", [True, False])
def test_an_order_that_cannot_be_sent(bench: Bench, *, permanent: bool) -> None:
    """A task that is over stays over: refused for ever, it is ended from here at once; refused for now, later."""
    bench.regrow.handle([a_failure(task_id="a")])
    bench.after(30)
    (due,) = bench.dispatcher.sent
    assert bench.begin(due)
    bench.fail_again(due, causes=a_failure(DATA).causes)
    bench.dispatcher.close = (  # type: ignore[method-assign]
        lambda batch: bench.dispatcher._take([replace(due, closing=True) for due in batch], bench.dispatcher.ordered)
    )
    bench.dispatcher.refuse = lambda due: DispatchError("no", permanent=permanent) if due.closing else None
    assert bench.after(60).closed == int(permanent)
    history = bench.store.history("a")
    assert (history.state, history.parked) == (State.HANDED_OVER, not permanent)
    assert len(bench.dispatcher.ended) == int(permanent)
    bench.dispatcher.refuse = lambda _due: None
    assert bench.after(10).closed == int(not permanent)
    assert len(bench.admin.messages) == 1


def test_the_result_backend_knows_better(bench: Bench) -> None:
    """A silent attempt that has succeeded is recovered, and nobody is told."""
    bench.regrow.handle([a_failure(task_id="a")])
    bench.after(30)
    assert bench.begin(bench.dispatcher.sent[0])
    bench.dispatcher.done.add("a")
    assert bench.after(60) == Tick(rescued=1)
    assert bench.store.history("a").state is State.RECOVERED
    assert bench.after(10_000) == Tick()


def test_a_channel_that_refuses_is_tried_with_growing_waits(bench: Bench) -> None:
    """10 s, 20 s, 40 s ... at most an hour; then delivered once and never again."""
    bench.admin.refuse = lambda _message: DeliveryError("mailbox full")
    bench.regrow.handle([a_failure(DATA)])
    assert bench.after(0) == Tick(failed=1)
    for wait in (10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600):
        assert bench.after(wait - 1) == Tick()
        assert bench.after(1) == Tick(failed=1)
    bench.admin.refuse = lambda _message: None
    assert bench.after(3600) == Tick(delivered=1)
    assert bench.after(100_000) == Tick()
    assert len(bench.admin.messages) == 1


def test_a_permanent_refusal_is_not_tried_again(bench: Bench) -> None:
    """A channel that says never is not asked again about this message."""
    bench.admin.refuse = lambda _message: DeliveryError("no such address", permanent=True)
    bench.regrow.handle([a_failure(DATA)])
    assert bench.after(0) == Tick(failed=1)
    assert bench.after(100_000) == Tick()


def test_a_channel_that_breaks_harms_nothing_else(bench: Bench) -> None:
    """An exception of a user's channel is a refusal; other messages and retries go on (G16)."""

    def broken(_message: Message) -> DeliveryError | None:
        raise RuntimeError("bug in the channel")

    bench.admin.refuse = broken
    bench.regrow.handle([a_failure(DATA), a_failure(BUSINESS, user_id="42"), a_failure()])
    assert bench.after(30) == Tick(sent=1, delivered=1, failed=1)
    assert bench.user.messages[0].user_id == "42"
    bench.admin.refuse = lambda _message: None
    assert bench.after(10) == Tick(delivered=1)


def test_a_slow_channel_never_sends_twice(bench: Bench) -> None:
    """A second dispatcher takes over what the first could not deliver within its claim, and only that."""

    def slow(_message: Message) -> DeliveryError | None:
        if bench.clock.advance(7) > START + bench.regrow.lease.claim and not second:
            second.append(bench.regrow.act())
        return None

    second: list[Tick] = []
    bench.admin.refuse = slow
    bench.regrow.handle([a_failure(DATA) for _ in range(20)])
    for _ in range(20):
        bench.regrow.act()
        bench.clock.advance(61)
    keys = [message.key for message in bench.admin.messages]
    assert len(keys) == len(set(keys)) == 20


def test_a_crash_between_deliveries_repeats_one_at_most(bench: Bench) -> None:
    """What was delivered before the dispatcher died is not delivered again."""

    class Crash(BaseException):
        pass

    def crash(_message: Message) -> DeliveryError | None:
        if len(bench.admin.messages) == 3:
            raise Crash
        return None

    bench.admin.refuse = crash
    bench.regrow.handle([a_failure(DATA) for _ in range(5)])
    with pytest.raises(Crash):
        bench.after(0)
    bench.admin.refuse = lambda _message: None
    assert bench.after(60).delivered == 2
    assert len({message.key for message in bench.admin.messages}) == len(bench.admin.messages) == 5


def test_observe_mode_only_watches(bench: Bench) -> None:
    """It records and says what it would have done, and never parks, sends or tells."""
    bench.again(policies=replace(GUIDE, acting=False), telling=False)
    handled = bench.regrow.handle([a_failure(category) for category in (NETWORK, DATA, BUSINESS)])
    assert [one.decision.reason for one in handled] == [Reason.OBSERVING, Reason.NOT_HEALABLE, Reason.NOT_HEALABLE]
    assert not any(one.decision.park or one.messages for one in handled)
    assert bench.after(100_000) == Tick()
    assert bench.dispatcher.tried == bench.admin.tried == bench.user.tried == 0


def test_observe_mode_ends_what_was_parked_before(bench: Bench) -> None:
    """A task that Celery waits for is still sent after a switch to observe mode: nothing else would ever end it."""
    bench.regrow.handle([a_failure()])
    bench.again(policies=replace(GUIDE, acting=False))
    assert bench.after(30) == Tick(sent=1)


def test_observe_mode_orders_the_end_of_a_failed_retry(bench: Bench) -> None:
    """A retry fails in observe mode, and its worker dies before Celery has stored that: the dispatcher sees to the end."""
    bench.regrow.handle([a_failure()])
    bench.after(30)
    (due,) = bench.dispatcher.sent
    bench.again(policies=replace(GUIDE, acting=False), telling=False)
    assert bench.begin(due)
    handled = bench.fail_again(due)
    assert (handled.decision.park, handled.decision.reason) == (False, Reason.OBSERVING)
    history = bench.store.history(due.task_id)
    assert (history.state, history.parked) == (State.EXHAUSTED, True)
    assert bench.after(59) == Tick()
    assert bench.after(1) == Tick(closed=1)
    assert [one.task_id for one in bench.dispatcher.ordered] == [due.task_id]


def test_a_refusing_broker_gets_a_rest(bench: Bench) -> None:
    """A full batch that the broker refused is not followed at once by the next one."""
    bench.regrow.handle([a_failure() for _ in range(BATCH + 1)])
    bench.dispatcher.refuse = lambda _due: DispatchError("down")
    tick = bench.after(30)
    assert (tick.failed, tick.more) == (BATCH, False)


def test_the_switch_is_honoured_at_once(bench: Bench) -> None:
    """Switched off, waiting retries and unbegun ones wait; switched on again, they go."""
    bench.regrow.handle([a_failure(task_id="sent")])
    bench.after(30)
    bench.regrow.handle([a_failure(task_id="waits")])
    bench.again(policies=replace(GUIDE, enabled=False))
    assert bench.after(100).sent == bench.after(100).sent == 0
    assert len(bench.dispatcher.sent) == 1
    bench.again()
    assert bench.after(100) == Tick(sent=2)


def test_messages_wait_while_they_are_switched_off(bench: Bench) -> None:
    """FAILURE_NOTIFICATION_ENABLED=false stops every message, those in the outbox too (G14)."""
    bench.regrow.handle([a_failure(DATA)])
    bench.again(telling=False)
    assert bench.after(100) == Tick()
    bench.again()
    assert bench.after(0) == Tick(delivered=1)


def test_a_full_batch_says_that_more_is_left(bench: Bench) -> None:
    """More than one batch is done without a rest between them."""
    bench.regrow.handle([a_failure() for _ in range(BATCH + 1)])
    assert bench.after(30) == Tick(sent=BATCH, more=True)
    assert bench.regrow.act() == Tick(sent=1)


def test_a_batch_with_a_strange_id_is_recorded(bench: Bench) -> None:
    """An id that cannot be carried is recorded and told, never parked, and never sent under another id."""
    (odd, plain) = bench.regrow.handle([a_failure(task_id="i" * 300), a_failure()])
    assert (odd.decision.reason, odd.decision.park) == (Reason.CALL_NOT_KEPT, False)
    assert plain.decision.park
    assert bench.after(30) == Tick(sent=1, delivered=1)


def test_a_task_that_celery_failed_meanwhile_is_not_sent(bench: Bench) -> None:
    """A commit whose answer was lost parks a task that Celery then fails: its retry must not follow the errbacks."""
    bench.regrow.handle([a_failure(task_id="lost")])
    bench.dispatcher.endings_of["lost"] = Ending.FAILED
    assert bench.after(30).sent == 0
    history = bench.regrow.history("lost")
    assert (history.state, history.parked) == (State.HANDED_OVER, False)
    bench.after(0)
    assert len(bench.admin.messages) == 1


def test_a_revoked_task_is_left_alone(bench: Bench) -> None:
    """A person who revokes a parked task is obeyed: it is dismissed, and nobody waits for it."""
    bench.regrow.handle([a_failure(task_id="gone")])
    bench.dispatcher.endings_of["gone"] = Ending.REVOKED
    assert bench.after(30).sent == 0
    history = bench.regrow.history("gone")
    assert (history.state, history.parked) == (State.DISMISSED, False)


def test_an_old_success_under_the_same_id_does_not_count(bench: Bench) -> None:
    """An id that is used again may carry an older success; a retry that no worker began is sent all the same."""
    bench.regrow.handle([a_failure(task_id="daily")])
    bench.dispatcher.done.add("daily")
    assert bench.after(30).sent == 1


def test_a_person_retries_and_dismisses(bench: Bench) -> None:
    """What was handed over runs again on a person's word; what is dismissed is ended for Celery by order."""
    (told, parked) = bench.regrow.handle([a_failure(DATA, task_id="a"), a_failure(task_id="b")])
    assert told.id is not None
    assert parked.id is not None
    store = bench.regrow.store
    assert store.again(told.id, now=bench.clock())
    assert store.again(told.id, now=bench.clock(), by="twice")  # it waits still
    assert bench.after(0).sent == 1
    assert not store.again(told.id, now=bench.clock())  # it is on its way
    assert not store.dismiss(told.id, now=bench.clock())  # it is on its way
    assert store.dismiss(parked.id, now=bench.clock())
    assert bench.after(0).closed == 1
    assert [due.task_id for due in bench.dispatcher.ordered] == ["b"]
    assert not store.dismiss(parked.id, now=bench.clock())
