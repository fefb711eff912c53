"""Decisions follow the guide's schedules, and the cautious rule comes first."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow import config, decide
from regrow.model import (
    BUSINESS,
    CONFIG,
    DATA,
    DISPATCHER,
    NETWORK,
    SYSTEM,
    TEMPORARY,
    UNKNOWN,
    WORKER,
    Action,
    Audience,
    Category,
    Decision,
    Due,
    Failure,
    Hindrance,
    History,
    Leftover,
    Member,
    Reason,
    State,
    TaskOptions,
    Verdict,
)
from regrow.testing import GUIDE, START, a_failure, a_verdict


def decided(
    failure: Failure | None = None,
    verdict: Verdict | None = None,
    attempt: int = 1,
    policies: decide.Policies = GUIDE,
    luck: float = 0.0,
    history: History = History(),
) -> Decision:
    """The decision about a failure, a network failure if nothing else is said."""
    return decide.decide(
        failure or a_failure(), verdict or a_verdict(), history, attempt, now=START, policies=policies, luck=luck
    )


def a_due(**changes: object) -> Due:
    """An attempt that fell silent."""
    plain = Due(
        failure=1, task_id="a", task_name="t", category=NETWORK.key, state=State.DISPATCHED, attempts=1, token="x",
        parked=True, started=True, rescues=0, deaths=1, idempotent=False, envelope="{}", error="{}", closing=False,
    )  # fmt: skip
    return replace(plain, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("category", "waits"),
    [(NETWORK, [30, 60, 120, 240, 480]), (SYSTEM, [300, 600, 1200]), (TEMPORARY, [180, 360, 720])],
)
def test_guide_schedules(category: Category, waits: list[int]) -> None:
    """Waits double as the guide says, and after the last one the task is given up (G2, G3, G4)."""
    for policies in (GUIDE, config.load(mode="recover", max_recovery_attempts=3).policies()):
        for attempt, wait in enumerate(waits, start=1):
            found = decided(verdict=a_verdict(category), attempt=attempt, policies=policies)
            due_at = START + timedelta(seconds=wait)
            assert found == Decision(Action.RETRY, Reason.CAN_HEAL, due_at, float(wait), park=True)
        last = decided(verdict=a_verdict(category), attempt=len(waits) + 1, policies=policies)
        assert (last.action, last.reason) == (Action.GIVE_UP, Reason.RETRIES_USED_UP)


@pytest.mark.parametrize(("base", "limits"), [(0, (0, 0, 0)), (1, (3, 1, 1)), (3, (5, 3, 3))])
def test_limits_follow_the_setting(base: int, limits: tuple[int, int, int]) -> None:
    """FAILURE_MAX_RECOVERY_ATTEMPTS is the base, network has two more, and 0 means none at all (G14)."""
    policies = config.load(max_recovery_attempts=base, mode="recover").policies()
    for category, limit in zip((NETWORK, SYSTEM, TEMPORARY), limits, strict=True):
        reasons = [decided(verdict=a_verdict(category), attempt=n, policies=policies).reason for n in range(1, 8)]
        beyond = Reason.RETRIES_USED_UP if base else Reason.RETRIES_OFF
        assert reasons == [Reason.CAN_HEAL] * limit + [beyond] * (7 - limit)


@pytest.mark.parametrize(
    ("asked", "wait"), [(0, 30), (29, 30), (31, 31), (86_400, 86_400), (-5, 30), (float("nan"), 30)]
)
def test_retry_after_is_the_lower_bound(asked: float, wait: float) -> None:
    """The other side's wish lengthens a wait and never shortens it; nonsense counts as no wish."""
    found = decided(verdict=a_verdict(retry_after_seconds=asked))
    assert (found.reason, found.delay_seconds) == (Reason.CAN_HEAL, wait)


@pytest.mark.parametrize("asked", [86_401, 1e300, float("inf")])
def test_a_wish_for_more_than_a_day_is_held(asked: float) -> None:
    """A person decides about a wait beyond a day, and no number is too large to be understood."""
    found = decided(verdict=a_verdict(retry_after_seconds=asked))
    assert (found.action, found.reason, found.park) == (Action.HOLD, Reason.WAIT_TOO_LONG, True)


def test_any_attempt_number_can_be_decided() -> None:
    """A task whose id is used again for years never overflows its schedule."""
    policies = replace(GUIDE, by_category={NETWORK.key: decide.RetryPolicy(30, 10**6)})
    for attempt in (13, 60, 2000, 10**5):
        assert decided(attempt=attempt, policies=policies).reason is Reason.WAIT_TOO_LONG


IDEMPOTENT = TaskOptions(idempotent=True)


@pytest.mark.parametrize(
    ("failure", "verdict", "action", "reason"),
    [
        (a_failure(), a_verdict(), Action.RETRY, Reason.CAN_HEAL),
        (a_failure(), a_verdict(DATA), Action.HAND_OVER, Reason.NOT_HEALABLE),
        (a_failure(), a_verdict(CONFIG), Action.HAND_OVER, Reason.NOT_HEALABLE),
        (a_failure(), a_verdict(BUSINESS), Action.HAND_OVER, Reason.NOT_HEALABLE),
        (a_failure(), a_verdict(UNKNOWN), Action.HAND_OVER, Reason.UNKNOWN_CAUSE),
        (a_failure(expected=True), a_verdict(), Action.HAND_OVER, Reason.EXPECTED),
        (a_failure(options=TaskOptions(retry=False)), a_verdict(), Action.HAND_OVER, Reason.OWNER_SAID_NO),
        (a_failure(envelope=None), a_verdict(), Action.HAND_OVER, Reason.CALL_NOT_KEPT),
        (a_failure(task_id="i" * 256), a_verdict(), Action.HAND_OVER, Reason.CALL_NOT_KEPT),
        (a_failure(task_id="i" * 255), a_verdict(), Action.RETRY, Reason.CAN_HEAL),
        (a_failure(task_id="a\0"), a_verdict(), Action.HAND_OVER, Reason.CALL_NOT_KEPT),
        (a_failure(task_id="a\ud800"), a_verdict(), Action.HAND_OVER, Reason.CALL_NOT_KEPT),
        (a_failure(work_done=True), a_verdict(), Action.HOLD, Reason.WORK_MAY_BE_DONE),
        (a_failure(), a_verdict(caution="maybe"), Action.HOLD, Reason.WORK_MAY_BE_DONE),
        (a_failure(), a_verdict(caution="maybe", layer="statistics"), Action.HOLD, Reason.CAUSE_UNSURE),
        (
            a_failure(work_done=True),
            a_verdict(caution="maybe", layer="statistics"),
            Action.HOLD,
            Reason.WORK_MAY_BE_DONE,
        ),
        (a_failure(options=IDEMPOTENT, work_done=True), a_verdict(caution="maybe"), Action.RETRY, Reason.CAN_HEAL),
    ],
)
def test_reasons(failure: Failure, verdict: Verdict, action: Action, reason: Reason) -> None:
    """Each fact that speaks against a retry gives its own reason."""
    found = decided(failure, verdict)
    assert (found.action, found.reason) == (action, reason)
    assert found.park == (action in (Action.RETRY, Action.HOLD))
    assert found.due_at is None or found.action is Action.RETRY


@pytest.mark.parametrize(("left", "reason"), [(30, Reason.WOULD_EXPIRE), (30.001, Reason.CAN_HEAL)])
def test_expiry(left: float, reason: Reason) -> None:
    """A task that expires before its retry, or just then, is given up."""
    assert decided(a_failure(expires_at=START + timedelta(seconds=left))).reason is reason


def test_switches() -> None:
    """Switched off nothing is retried; in observe mode nothing is parked, and it says what it would have done."""
    off = decided(policies=replace(GUIDE, enabled=False))
    assert (off.action, off.reason) == (Action.HAND_OVER, Reason.RETRIES_OFF)
    seen = decided(policies=replace(GUIDE, acting=False))
    assert seen == Decision(Action.HOLD, Reason.OBSERVING, START + timedelta(seconds=30), 30.0, park=False)


def test_every_end_of_a_parked_task_is_looked_at() -> None:
    """When a parked task is over, the dispatcher looks a minute later whether Celery has ended it."""
    parked = History(1, State.DISPATCHED, attempts=1, parked=True, token="x")
    for failure, verdict in ((a_failure(), a_verdict(DATA)), (a_failure(expected=True), a_verdict())):
        assert decided(failure, verdict, attempt=2, history=parked).due_at == START + decide.CLOSE_WAIT
    assert decided(attempt=9, history=parked).due_at == START + decide.CLOSE_WAIT
    # In observe mode a failed retry of what was parked before is its end.
    seen = [
        decided(failure, history=parked, attempt=2, policies=replace(GUIDE, acting=False))
        for failure in (a_failure(), a_failure(work_done=True))
    ]
    assert seen == [Decision(Action.GIVE_UP, Reason.OBSERVING, START + decide.CLOSE_WAIT)] * 2
    gone = decided(a_failure(ended=True), history=parked, attempt=2, policies=replace(GUIDE, acting=False))
    assert (gone.action, gone.reason) == (Action.HOLD, Reason.OBSERVING)


def test_a_category_without_a_schedule_waits_as_temporary_ones_do() -> None:
    """A plug-in's category that time can heal is retried and does not break the pipeline (G14, G15)."""
    found = decided(verdict=a_verdict(Category("flaky_partner", Audience.TIME)))
    assert (found.action, found.delay_seconds) == (Action.RETRY, 180)


@given(luck=st.floats(0, 1, exclude_max=True), jitter=st.floats(0, 1), attempt=st.integers(1, 5))
def test_jitter_bounds(luck: float, jitter: float, attempt: int) -> None:
    """Luck lengthens a wait by its share at most, and never shortens it."""
    plain = 30.0 * 2 ** (attempt - 1)
    found = decided(attempt=attempt, policies=replace(GUIDE, jitter=jitter), luck=luck).delay_seconds
    assert found is not None
    assert plain <= found <= plain * (1 + jitter) + 1e-6  # a clock's own grain


@pytest.mark.parametrize(
    ("due", "action", "reason"),
    [
        (a_due(started=False, rescues=50, deaths=0), Action.RETRY, Reason.CAN_HEAL),
        (a_due(), Action.HOLD, Reason.FELL_SILENT),
        (a_due(idempotent=True, deaths=1), Action.RETRY, Reason.CAN_HEAL),
        (a_due(idempotent=True, deaths=2), Action.RETRY, Reason.CAN_HEAL),
        (a_due(idempotent=True, deaths=3), Action.RETRY, Reason.CAN_HEAL),
        (a_due(idempotent=True, deaths=4), Action.GIVE_UP, Reason.POISON),
    ],
)
def test_rescue(due: Due, action: Action, reason: Reason) -> None:
    """Unbegun: sent again for ever. Begun: held, or if it is idempotent begun again three times."""
    assert decide.rescue(due) == Decision(action, reason)


def test_lease_doubles_to_an_hour() -> None:
    """Copies in a full queue grow ever rarer, down to one an hour; a longer lease is never shortened."""
    run = timedelta(seconds=60)
    assert [decide.lease(run, n).total_seconds() for n in (0, 1, 2, 5, 6, 99)] == [60, 120, 240, 1920, 3600, 3600]
    assert decide.lease(timedelta(hours=2), 3) == timedelta(hours=2)


@pytest.mark.parametrize(
    ("token", "attempt", "history", "expected"),
    [
        (None, 1, History(), (1, False)),
        ("x", 3, History(), (3, False)),
        (None, 1, History(1, State.SCHEDULED, 1), (1, True)),
        (None, 1, History(1, State.DISPATCHED, 2), (2, True)),
        (None, 1, History(1, State.HELD, 1, parked=True), (1, True)),
        (None, 1, History(1, State.HELD, 1), (2, False)),
        (None, 1, History(1, State.RECOVERED, 2), (3, False)),
        (None, 1, History(1, State.EXHAUSTED, 2), (3, False)),
        ("x", 2, History(1, State.DISPATCHED, 1), (2, False)),
        ("x", 2, History(1, State.SCHEDULED, 2), (2, True)),
        ("x", 2, History(1, State.RECOVERED, 1), (2, True)),
        ("x", 2, History(1, State.HELD, 1, parked=True), (2, False)),
    ],
)
def test_number(token: str | None, attempt: int, history: History, expected: tuple[int, bool]) -> None:
    """A second copy is a duplicate; a run after the end is the next attempt."""
    assert decide.number(a_failure(token=token, attempt=attempt), history) == expected


def a_leftover(**changes: Any) -> Leftover:
    """A parked task whose retry was sent long ago; `changes` is any field of it."""
    plain = Leftover(
        id=1,
        task_id="a",
        task_name="shop.pay",
        state=State.DISPATCHED,
        parked=True,
        queue="orders",
        started=False,
        ordered=False,
        first_failed_at=START - timedelta(days=1),
    )
    return replace(plain, **changes)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, Hindrance.QUEUED),
        ({"queue": "mails"}, Hindrance.NO_WORKER),
        ({"queue": "silent"}, Hindrance.NO_WORKER),
        ({"queue": ""}, Hindrance.NO_WORKER),
        ({"started": True}, Hindrance.RUNNING),
        ({"state": State.SCHEDULED}, Hindrance.NOT_SENT),
        ({"state": State.SCHEDULED, "first_failed_at": START}, Hindrance.PARKED_MEANWHILE),
        ({"state": State.HELD, "first_failed_at": START}, Hindrance.PARKED_MEANWHILE),
        ({"state": State.DISMISSED}, Hindrance.NOT_SENT),
        ({"state": State.EXHAUSTED, "ordered": True}, Hindrance.ENDING),
        ({"state": State.EXHAUSTED, "ordered": True, "first_failed_at": START}, Hindrance.ENDING),
    ],
)
def test_why_something_is_left(changes: dict[str, Any], expected: Hindrance) -> None:
    """The ledger says as well as it can what an emptied ledger still waits for."""
    now = START + timedelta(minutes=10)
    members = [
        Member("1", WORKER, "a@host", 1, START, now - timedelta(seconds=60), ("orders",)),
        # Its clock is two minutes ahead: it has been silent for longer than it seems.
        Member("2", WORKER, "b@host", 2, START, now - timedelta(seconds=1), ("silent",), skew_seconds=120),
        Member("3", DISPATCHER, "host", 3, START, now, ("mails",)),
    ]
    found = decide.hindrance(a_leftover(**changes), members, since=START, now=now, silence=timedelta(seconds=60))
    assert found is expected


# -- what dies outside the task's own code ------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", [Reason.REJECTED, Reason.NOT_RUN, Reason.EXPIRED, Reason.POISON])
def test_a_final_failure_is_never_retried(reason: Reason) -> None:
    """Whatever the verdict, the options and a plan say."""
    failure = a_failure(final=reason, options=TaskOptions(idempotent=True), died=True)
    plan = decide.Plan(1, "at once", 9)
    found = decide.decide(failure, a_verdict(), History(), 1, now=START, policies=GUIDE, plan=plan)
    action = Action.GIVE_UP if reason is Reason.POISON else Action.HAND_OVER
    assert found == Decision(action, reason)


@pytest.mark.parametrize(
    ("known", "closes"),
    [
        ({"parked": True}, 0),  # parked where it died: nobody but the dispatcher can end it
        ({"ended": True}, None),  # Celery has ended it
        ({}, decide.CLOSE_WAIT.total_seconds()),  # Celery is about to end it, if nothing goes wrong
    ],
)
def test_when_a_task_that_is_over_must_be_ended(known: dict[str, bool], closes: float | None) -> None:
    """What Celery still waits for is due for its end, at once or as soon as Celery has had its time."""
    failure = a_failure(DATA, **known)
    parked_before = History(failure=1, state=State.DISPATCHED, attempts=1, parked=True)
    found = decided(failure, a_verdict(DATA), history=parked_before, attempt=2)
    assert found.due_at == (None if closes is None else START + timedelta(seconds=closes))


def test_what_was_parked_stays_parked() -> None:
    """A task that is parked already is held or retried, also in observe mode and where parking is off."""
    observing = replace(GUIDE, acting=False)
    for options in (TaskOptions(idempotent=True), TaskOptions(idempotent=True, park=False)):
        failure = a_failure(SYSTEM, died=True, parked=True, parkable=True, options=options)
        found = decided(failure, a_verdict(SYSTEM, caution="cut off"), policies=observing)
        assert (found.action, found.park) == (Action.RETRY, True)
    asked = decided(a_failure(SYSTEM, died=True, parked=True), a_verdict(SYSTEM, caution="cut off"), policies=observing)
    assert (asked.action, asked.reason, asked.park) == (Action.HOLD, Reason.WORK_MAY_BE_DONE, True)


@pytest.mark.parametrize(
    ("deaths", "hours", "counted"), [(0, None, 1), (2, 1, 3), (3, 71.9, 4), (3, 72.1, 1), (9, 500, 1)]
)
def test_deaths_count_for_three_days(deaths: int, hours: float | None, counted: int) -> None:
    """Deaths of more than 72 hours ago are forgotten, and the count begins anew."""
    since = None if hours is None else START - timedelta(hours=hours)
    history = History(failure=1, attempts=deaths, deaths=deaths, deaths_since=since)
    failure = a_failure(SYSTEM, died=True, failed_at=START, options=TaskOptions(idempotent=True))
    assert decide.deaths(failure, history)[0] == counted
    found = decided(failure, a_verdict(SYSTEM), history=history, policies=replace(GUIDE, base_limit=50))
    assert (found.reason is Reason.POISON) is (counted > decide.DEATH_LIMIT)
    assert decide.deaths(replace(failure, died=False), history)[0] == counted - 1


def test_the_same_run_twice() -> None:
    """A key that the ledger knows, or facts of the very moment of the last run, are no news; a later run is."""
    history = History(failure=1, state=State.HANDED_OVER, attempts=2, last_failed_at=START)
    spooled = a_failure(DATA, key="k", failed_at=START)
    assert decide.number(spooled, history) == (2, True)
    assert decide.number(spooled, replace(history, seen=True)) == (2, True)
    assert decide.number(replace(spooled, failed_at=START + timedelta(seconds=1)), history) == (3, False)
    # Without a key nothing comes twice: two runs may well fail in one instant of a coarse clock.
    assert decide.number(replace(spooled, key=""), history) == (3, False)
