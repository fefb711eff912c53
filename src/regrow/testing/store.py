"""The contract of `ports.Store`, as checks that a store of any kind passes."""
# a contract suite asserts

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from regrow.decide import RetryPolicy, decide
from regrow.model import (
    CATEGORIES,
    NETWORK,
    SYSTEM,
    WORKER,
    Cause,
    Due,
    Handled,
    Header,
    History,
    Member,
    Reason,
    State,
    TaskOptions,
)
from regrow.pipeline import DUE_STATES
from regrow.ports import Store
from regrow.testing.doubles import GUIDE, START, a_failure, a_message, a_regrow, a_verdict
from regrow.testing.lessons import (
    check_a_label_confirms_its_failure,
    check_lessons_are_kept_in_order,
    check_strange_lessons_are_kept,
)

LEASE = timedelta(seconds=60)


def exercise_store(make_store: Callable[[], Store]) -> None:
    """Run every check of the contract.

    Args:
        make_store: Gives a store over an empty ledger each time it is called.

    Raises:
        AssertionError: The store breaks the contract.
    """
    for check in STORE_CHECKS:
        check(make_store())


def parked_task(store: Store, **changes: Any) -> Handled:
    """Record the first failure of a task: parked, scheduled, due 30 s after START."""
    return a_regrow(store).handle([a_failure(**changes)])[0]


def claim(store: Store, seconds: float = 30, limit: int = 100) -> list[Due]:
    """Claim what is due `seconds` after START."""
    return store.claim(START + timedelta(seconds=seconds), limit=limit, lease=LEASE, states=DUE_STATES)


def start(store: Store, due: Due, *, retries: int = 0, idempotent: bool = False, seconds: float = 90) -> bool:
    """Ask whether a worker may run what was claimed."""
    header = Header(due.failure, due.attempts + 1, due.token)
    until = START + timedelta(seconds=seconds)
    return store.start(header, retries=retries, idempotent=idempotent, due_at=until)


def check_first_failure_is_kept_whole(store: Store) -> None:
    """What was recorded comes back when it is due: the exact call, the error, where it stands."""
    envelope, error = '{"args": ["\\u0000", "é", "钱"]}', '{"exc_type": "E"}'
    one = parked_task(store, task_id="a", envelope=envelope, error=error)
    assert store.history("a") == History(one.id, State.SCHEDULED, attempts=1, parked=True)
    assert store.history("b") == History()
    assert claim(store, 29) == []
    (due,) = claim(store, 30)
    assert (due.failure, due.task_id, due.task_name, due.category) == (one.id, "a", "shop.tasks.pay", NETWORK.key)
    assert (due.state, due.attempts, due.parked, due.started) == (State.SCHEDULED, 1, True, False)
    assert (due.envelope, due.error, due.closing) == (envelope, error, False)


def check_large_calls_are_kept_exactly(store: Store) -> None:
    """A call is kept to the character, whatever its size and its characters."""
    calls = ["x" * 4096, "x" * 4097, "钱" * 50_000, '{"a":"\\ud800\\u0000 \U0001f4a3"}' * 500, "\ud800 raw", "\0"]
    for number, call in enumerate(calls):
        parked_task(store, task_id=f"call-{number}", envelope=call)
    assert [due.envelope for due in sorted(claim(store), key=lambda due: due.task_id)] == calls


def check_strange_text_is_kept(store: Store) -> None:
    """NUL, lone surrogates and overlong text in any field cost neither the record nor the rest of the batch."""
    strange = "a\0b\ud800c\U0001f4a3 " + "long" * 200
    fields = ("task_id", "task_name", "traceback", "fingerprint", "worker", "queue", "user_id", "error")
    odd = [replace(a_failure(), **{name: strange}) for name in fields]  # type: ignore[arg-type]
    odd.append(a_failure(causes=(Cause(strange, strange),)))
    odd.append(replace(odd[0], task_id="b" * 254 + "\0"))
    handled = a_regrow(store).handle([*odd, *odd])
    assert [one.duplicate for one in handled] == [False] * len(odd) + [True] * len(odd)
    assert len({one.id for one in handled} - {None}) == len(odd)
    assert store.history(strange).failure == handled[0].id
    (due, *_) = claim(store)
    store.hold(due.token, [due.failure], [a_message(strange, body=strange, task_id=due.task_id)],
               reason=Reason.FELL_SILENT, now=START)  # fmt: skip
    messages = store.claim_messages(START + timedelta(days=1), limit=100, lease=LEASE)
    assert any(one.message.title == "A title" for one in messages)
    store.undelivered(messages[0].token, {messages[0].id: strange}, due_at=None)


def check_long_task_ids_stay_apart(store: Store) -> None:
    """An id of 255 characters is kept exactly; longer ones with the same beginning are not taken for one another."""
    ids = ["i" * 255, "i" * 300 + "a", "i" * 300 + "b"]
    handled = a_regrow(store).handle([a_failure(task_id=one) for one in ids])
    assert [one.duplicate for one in handled] == [False] * 3
    assert [store.history(one).failure for one in ids] == [one.id for one in handled]
    assert "i" * 255 in [due.task_id for due in claim(store)]


def check_duplicates_are_recorded_once(store: Store) -> None:
    """A second copy of a recorded run changes nothing; a second copy in one batch neither."""
    regrow = a_regrow(store)
    first, second = regrow.handle([a_failure(task_id="a"), a_failure(task_id="a")])
    assert (first.duplicate, second.duplicate, second.id) == (False, True, first.id)
    again = regrow.handle([a_failure(task_id="a")])[0]
    assert (again.duplicate, again.id, again.messages) == (True, first.id, ())
    (due,) = claim(store)
    assert start(store, due)
    failed = a_failure(task_id="a", attempt=2, token=due.token)
    both = regrow.handle([failed, failed])
    assert [one.duplicate for one in both] == [False, True]
    assert store.history("a").attempts == failed.attempt


def check_claim_gives_each_to_one(store: Store) -> None:
    """What is claimed is nobody else's until the lease ends; then the old token is worth nothing."""
    tasks = {parked_task(store).id for _ in range(5)}
    first, second = claim(store, limit=3), claim(store, limit=10)
    assert (len(first), len(second)) == (3, 2)
    assert not {due.failure for due in first} & {due.failure for due in second}
    assert claim(store, 89) == []
    again = claim(store, 90, limit=10)
    assert {due.failure for due in again} == tasks
    assert {due.state for due in again} == {State.DISPATCHED}
    assert not any(start(store, due) for due in first)
    assert all(start(store, due) for due in again)


def check_stale_tokens_settle_nothing(store: Store) -> None:
    """Whoever lost his claim can neither send, give back, hold nor give up."""
    one = parked_task(store, task_id="a")
    (old,) = claim(store, 30)
    (new,) = claim(store, 90)
    before, ids, later = store.history("a"), [old.failure], START + timedelta(days=9)
    store.sent(old.token, ids, due_at=later)
    store.postpone(old.token, ids, due_at=later)
    message = a_message("k", task_id="a")
    store.hold(old.token, ids, [message], reason=Reason.FELL_SILENT, now=START)
    store.exhausted(old.token, ids, [message], reason=Reason.FELL_SILENT, now=START)
    store.renew([Header(old.failure, 2, old.token)], due_at=later)
    assert store.history("a") == before == History(one.id, State.DISPATCHED, 1, parked=True, token=new.token)
    assert store.claim_messages(later, limit=9, lease=LEASE) == []
    assert [due.failure for due in claim(store, 150)] == ids


def check_start_is_granted_once(store: Store) -> None:
    """One sending runs once, and once more for each native retry; an idempotent task also when it is redelivered."""
    parked_task(store)
    (due,) = claim(store)
    assert [start(store, due, retries=n) for n in (1, 1, 2, 2, 1, 0)] == [True, False, True, False, False, False]
    assert start(store, due, retries=2, idempotent=True)
    assert not store.start(Header(due.failure, 3, due.token), retries=3, idempotent=True, due_at=START)
    assert not store.start(Header(due.failure, 2, "stale"), retries=3, idempotent=True, due_at=START)


def check_settling_does_not_undo_a_start(store: Store) -> None:
    """A worker may begin, and announce a long wait, before the dispatcher settles what it sent."""
    parked_task(store)
    (due,) = claim(store)
    assert start(store, due, seconds=1000)
    store.sent(due.token, [due.failure], due_at=START + timedelta(seconds=90))
    store.postpone(due.token, [due.failure], due_at=START + timedelta(seconds=90))
    assert store.history(due.task_id).state is State.DISPATCHED
    assert claim(store, 999) == []
    assert claim(store, 1000)[0].started


def check_a_start_is_never_forgotten(store: Store) -> None:
    """That an attempt began is known to every later claim, though the dispatcher before died with its own."""
    parked_task(store)
    (due,) = claim(store)
    store.sent(due.token, [due.failure], due_at=START + timedelta(seconds=90))
    assert start(store, due)
    found = [claim(store, seconds)[0] for seconds in (90, 150, 210)]
    assert [(one.started, one.deaths) for one in found] == [(True, 1)] * 3
    store.sent(found[-1].token, [due.failure], due_at=START + timedelta(seconds=300))
    assert [(one.started, one.deaths, one.rescues) for one in claim(store, 300)] == [(False, 1, 1)]


def check_silence_is_counted(store: Store) -> None:
    """How often an attempt was sent in vain, and how often it died, grows with each claim that finds it silent."""
    parked_task(store)
    seen = []
    for seconds in (30, 90, 150):
        (due,) = claim(store, seconds)
        store.sent(due.token, [due.failure], due_at=START + timedelta(seconds=seconds + 60))
        seen.append((due.rescues, due.deaths))
    assert start(store, due, seconds=210)
    seen.extend((due.rescues, due.deaths) for due in claim(store, 210))
    assert seen == [(0, 0), (1, 0), (2, 0), (0, 1)]


def check_recovered_once(store: Store) -> None:
    """The first success counts; then nothing is due, and late failures of other copies change nothing."""
    one = parked_task(store, task_id="a")
    (due,) = claim(store)
    assert one.id is not None
    assert store.recovered(one.id, now=START)
    assert not store.recovered(one.id, now=START)
    assert store.history("a") == History(one.id, State.RECOVERED, attempts=1)
    assert not start(store, due)
    assert a_regrow(store).handle([a_failure(task_id="a", attempt=2, token=due.token)])[0].duplicate
    assert claim(store, 10_000) == []


def check_given_up_tasks_are_closed(store: Store) -> None:
    """What Celery waits for is due at once for its end; the order runs once; then nobody waits."""
    parked_task(store, task_id="a")
    (due,) = claim(store)
    now = START + timedelta(seconds=40)
    message = a_message("k", task_id="a")
    store.exhausted(due.token, [due.failure], [message, message], reason=Reason.FELL_SILENT, now=now)
    assert [one.message.key for one in store.claim_messages(now, limit=9, lease=LEASE)] == ["k"]
    (ended,) = claim(store, 40)
    assert (ended.state, ended.closing, ended.parked) == (State.EXHAUSTED, False, True)
    store.sent(ended.token, [ended.failure], due_at=START + timedelta(seconds=100))
    assert claim(store, 99) == []
    order = Header(ended.failure, 2, ended.token, close=True)
    until = START + timedelta(seconds=200)
    assert store.start(order, retries=0, idempotent=False, due_at=until)
    assert not store.start(order, retries=0, idempotent=False, due_at=until)
    assert claim(store, 199) == []
    assert claim(store, 200)[0].closing
    store.closed([ended.failure], now=now)
    assert store.history("a") == History(ended.failure, State.EXHAUSTED, 1, parked=False)
    assert claim(store, 10_000) == []


def check_held_tasks_wait(store: Store) -> None:
    """What a person must decide is never due, and still parked."""
    parked_task(store, task_id="a")
    (due,) = claim(store)
    store.hold(due.token, [due.failure], [a_message("k", task_id="a")], reason=Reason.FELL_SILENT, now=START)
    assert store.history("a") == History(due.failure, State.HELD, 1, parked=True)
    assert claim(store, 10_000) == []
    assert not start(store, due)


def check_messages_go_out_once(store: Store) -> None:
    """A message is claimed by one, again when it was refused and its time has come, and never once it is delivered."""
    regrow = a_regrow(store)
    regrow.handle([a_failure(CATEGORIES["unrecoverable_data"]), a_failure(CATEGORIES["unrecoverable_config"])])
    first, second = store.claim_messages(START, limit=9, lease=LEASE)
    assert store.claim_messages(START, limit=9, lease=LEASE) == []
    later = START + timedelta(seconds=10)
    store.delivered("stale", [first.id], now=START)
    store.undelivered("stale", {second.id: "no"}, due_at=START)
    assert store.claim_messages(START, limit=9, lease=LEASE) == []
    store.delivered(first.token, [first.id], now=START)
    store.undelivered(second.token, {second.id: "no"}, due_at=later)
    assert store.claim_messages(START, limit=9, lease=LEASE) == []
    (again,) = store.claim_messages(later, limit=9, lease=LEASE)
    assert (again.id, again.tries, again.message) == (second.id, 1, second.message)
    store.undelivered(again.token, {again.id: "never"}, due_at=None)
    assert store.claim_messages(START + timedelta(days=99), limit=9, lease=LEASE) == []


def check_a_transaction_is_all_or_nothing(store: Store) -> None:
    """An error inside a transaction leaves no trace of it."""
    try:
        with store.transaction(durable=True) as ledger:
            failures = [a_failure(task_id="a")]
            decision = decide(failures[0], a_verdict(), History(), 1, now=START, policies=GUIDE)
            line = Handled(failures[0], a_verdict(), decision, (), History(), 1)
            assert ledger.histories(failures) == [History()]
            assert ledger.write([line])[0].id is not None
            raise LookupError  # noqa: TRY301  # the block under test
    except LookupError:
        pass
    assert store.history("a") == History()


def check_a_run_whose_facts_come_in_twice_is_recorded_once(store: Store) -> None:
    """A key names a run: the same facts again change nothing, whatever has become of the task meanwhile."""
    regrow = a_regrow(store)
    first = a_failure(CATEGORIES["unrecoverable_data"], task_id="a", key="k1", ended=True)
    second = replace(first, key="k2", failed_at=START + timedelta(seconds=5))
    assert [regrow.handle([one])[0].duplicate for one in (first, first, second, first, second)] == [
        False,
        True,
        False,
        True,
        True,
    ]
    assert store.history("a").attempts == len(("k1", "k2"))
    one = a_failure(task_id="b", key="k3")
    assert not regrow.handle([one])[0].duplicate
    (due,) = claim(store)
    assert store.recovered(due.failure, now=START)
    assert regrow.handle([one])[0].duplicate
    assert store.history("b").state is State.RECOVERED


def check_what_was_taken_for_lost(store: Store) -> None:
    """A commit whose answer never came was kept: the same facts of a task that Celery has ended are no news then."""
    regrow = a_regrow(store)
    held, told = a_failure(task_id="a"), a_failure(CATEGORIES["unrecoverable_data"], task_id="b")
    regrow.handle([held, told])
    again = regrow.handle([replace(one, key=one.task_id, parkable=False, ended=True) for one in (held, told)])
    assert [one.duplicate for one in again] == [True, True]
    assert store.history("a") == History(again[0].id, State.SCHEDULED, attempts=1, parked=False)
    assert store.history("b") == History(again[1].id, State.HANDED_OVER, attempts=1, parked=False)
    (due,) = claim(store)
    assert (due.task_id, due.parked) == ("a", False)


def check_deaths_are_counted_within_their_hours(store: Store) -> None:
    """A task that dies again and again is given up after three rescues; deaths of long ago count no more."""
    idempotent = TaskOptions(idempotent=True)
    policies = replace(GUIDE, by_category={**GUIDE.by_category, SYSTEM.key: RetryPolicy(300, 50)})
    decisions = []
    for name, days in (("a", 0), ("b", 4)):
        regrow = a_regrow(store, policies=policies)
        for run in range(1, 6):
            at = START + timedelta(days=days * run, seconds=run)
            died = a_failure(
                SYSTEM, task_id=name, attempt=run, token=f"t{run}", options=idempotent, died=True, failed_at=at
            )
            decisions.append(regrow.handle([died])[0].decision.reason)
    assert decisions == [*[Reason.CAN_HEAL] * 3, *[Reason.POISON] * 2, *[Reason.CAN_HEAL] * 5]


def _member(boot: str, seconds: float = 0, skew: float = 0) -> Member:
    at = START + timedelta(seconds=seconds)
    return Member(boot, WORKER, f"{boot}@host", 1, START, at, ("celery",), skew, 7)


def check_begun_tasks_are_found_when_their_worker_is_silent(store: Store) -> None:
    """A task is an orphan when its worker has been silent for long enough, or is gone; not before, and not twice."""
    store.beat(_member("w1"))
    store.beat(_member("w2"))
    begun = [replace(a_failure(task_id=name), causes=()) for name in ("a", "b", "c", "d")]
    for call, boot in zip(begun, ("w1", "w1", "w2", "nobody"), strict=True):
        store.begin(call, boot)
    assert store.orphans(START, limit=9) == []
    store.beat(_member("w2", seconds=100))
    found = {one.task_id: one for one in store.orphans(START + timedelta(seconds=1), limit=9)}
    assert sorted(found) == ["a", "b", "d"]
    assert found["a"].call == begun[0]
    assert (found["a"].worker, found["a"].seen_at, found["a"].boot) == ("w1@host", START, "w1")
    assert (found["d"].worker, found["d"].seen_at) == ("", None)
    assert store.finish("b", "w1")  # it was only slow
    assert not store.finish("b", "w1")
    store.forget([found["a"], found["d"]], now=START)
    assert store.orphans(START + timedelta(seconds=1), limit=9) == []
    assert not store.finish("a", "w1")
    store.gone("w2")
    assert [one.task_id for one in store.orphans(START + timedelta(seconds=1), limit=9)] == ["c"]
    seen = store.begun("c")
    assert seen is not None
    assert (seen.call, seen.boot, seen.worker) == (begun[2], "w2", "")
    assert store.begun("a") is None


def check_a_clock_that_is_wrong_kills_nobody(store: Store) -> None:
    """Signs of life count by the database's clock: one who is behind is not dead, one who is ahead is not immortal."""
    store.beat(_member("behind", seconds=-40, skew=-40))
    store.beat(_member("ahead", seconds=40, skew=40))
    for name in ("behind", "ahead"):
        store.begin(replace(a_failure(task_id=name), causes=()), name)
    assert store.orphans(START, limit=9) == []
    assert len(store.orphans(START + timedelta(seconds=1), limit=9)) == len(("behind", "ahead"))


def check_a_task_that_begins_elsewhere_is_no_orphan(store: Store) -> None:
    """A beginning replaces the one before it: only the last worker's silence counts."""
    call = replace(a_failure(task_id="a"), causes=())
    store.beat(_member("w1"))
    store.beat(_member("w2", seconds=100))
    store.begin(call, "w1")
    (orphan,) = store.orphans(START + timedelta(seconds=1), limit=9)
    store.begin(call, "w2")
    assert store.orphans(START + timedelta(seconds=1), limit=9) == []
    store.forget([orphan], now=START)
    assert store.finish("a", "w2")


def check_redeliveries_are_counted(store: Store) -> None:
    """Each copy that a broker delivers again counts, until the task ends; after its hours the count begins anew."""
    at = [START + timedelta(hours=hours) for hours in (0, 1, 2, 71, 72, 73)]
    assert [store.rescued("a", now=one) for one in at] == [1, 2, 3, 4, 1, 2]
    assert store.rescued("b", now=START) == 1
    store.begin(replace(a_failure(task_id="a"), causes=()), "w1")
    assert store.rescued("a", now=at[-1]) == len(("72 h", "73 h", "now"))
    assert store.finish("a", "w1")
    assert store.rescued("a", now=at[-1]) == 1
    # What was never begun by a worker that said so is no orphan, and is forgotten.
    assert store.orphans(START + timedelta(days=9), limit=9) == []
    store.forget([], now=START + timedelta(days=9))
    assert store.begun("b") is None


def check_a_last_run_is_ordered_once(store: Store) -> None:
    """Whoever empties the ledger has each scheduled task run once more, at once; who does so too changes nothing."""
    for task in ("a", "b", "c"):
        parked_task(store, task_id=task)

    def order(seconds: float = 1, limit: int = 2) -> int:
        return store.order_last_runs(START, now=START + timedelta(seconds=seconds), by="ann", limit=limit)

    def end() -> int:
        return store.end_waiting(START, scheduled=False, now=START + timedelta(seconds=5), by="ann", limit=9)

    assert [order(), order(), order()] == [2, 1, 0]
    sent = store.claim(START + timedelta(seconds=1), limit=9, lease=LEASE, states=())  # retries are switched off
    assert sorted(due.task_id for due in sent) == ["a", "b", "c"]
    # A broker that refuses costs no task its last run.
    token, ids = sent[0].token, {due.task_id: due.failure for due in sent}
    store.postpone(token, [ids["a"]], due_at=START + timedelta(seconds=2))
    assert (end(), order(3)) == (0, 0)
    assert all(start(store, due) for due in sent if due.task_id != "a")
    store.recovered(ids["b"], now=START)
    # A worker that still parks: the last run was the last one.
    a_regrow(store).handle([a_failure(task_id="c", attempt=2, token=token)])
    assert store.history("c").state is State.SCHEDULED
    assert (order(4), end(), end()) == (0, 1, 0)
    assert store.history("c").state is State.DISMISSED
    assert [due.task_id for due in claim(store, 5)] == ["a", "c"]


def check_waiting_tasks_are_ended(store: Store) -> None:
    """Whoever empties the ledger ends what is held while Celery waits for it, and if he wants all that is scheduled."""
    for task in ("held", "scheduled"):
        parked_task(store, task_id=task)
    open_held = a_regrow(store).handle([a_failure(task_id="nobody waits", work_done=True, parkable=False)])[0]
    assert (open_held.decision.action.state, open_held.decision.park) == (State.HELD, False)
    due = next(one for one in claim(store, 30) if one.task_id == "held")
    store.hold(due.token, [due.failure], [], reason=Reason.FELL_SILENT, now=START)
    other = store.history("scheduled").failure
    assert other is not None
    store.postpone(due.token, [other], due_at=START + timedelta(days=1))
    now = START + timedelta(seconds=40)
    seen = [store.end_waiting(START, scheduled=all_, now=now, by="ann", limit=9) for all_ in (False, False, True)]
    assert seen == [1, 0, 1]
    ended = claim(store, 40)
    assert {(one.task_id, one.state, one.closing) for one in ended} == {
        ("held", State.DISMISSED, False),
        ("scheduled", State.DISMISSED, False),
    }
    assert store.history("nobody waits").state is State.HELD


#: Each takes a store over an empty, migrated ledger.
STORE_CHECKS: tuple[Callable[[Store], None], ...] = (
    check_first_failure_is_kept_whole,
    check_large_calls_are_kept_exactly,
    check_strange_text_is_kept,
    check_long_task_ids_stay_apart,
    check_duplicates_are_recorded_once,
    check_claim_gives_each_to_one,
    check_stale_tokens_settle_nothing,
    check_start_is_granted_once,
    check_settling_does_not_undo_a_start,
    check_a_start_is_never_forgotten,
    check_silence_is_counted,
    check_recovered_once,
    check_given_up_tasks_are_closed,
    check_held_tasks_wait,
    check_a_last_run_is_ordered_once,
    check_waiting_tasks_are_ended,
    check_messages_go_out_once,
    check_a_transaction_is_all_or_nothing,
    check_a_run_whose_facts_come_in_twice_is_recorded_once,
    check_what_was_taken_for_lost,
    check_deaths_are_counted_within_their_hours,
    check_begun_tasks_are_found_when_their_worker_is_silent,
    check_a_clock_that_is_wrong_kills_nobody,
    check_a_task_that_begins_elsewhere_is_no_orphan,
    check_redeliveries_are_counted,
    check_lessons_are_kept_in_order,
    check_strange_lessons_are_kept,
    check_a_label_confirms_its_failure,
)
