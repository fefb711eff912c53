"""Failure + Verdict + History -> Decision. Pure: time and luck come in as values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from regrow.model import (
    TEMPORARY,
    Action,
    Category,
    Decision,
    Due,
    Ending,
    Failure,
    Hindrance,
    History,
    Leftover,
    Member,
    Plan,
    Reason,
    Record,
    Refusal,
    State,
    Verdict,
)
from regrow.model.presence import WORKER

#: A longer wait than this is a person's business, whatever Retry-After says.
LONGEST_WAIT = timedelta(hours=24)

#: A task whose worker dies is begun again this often in this time at most; then it is poison and is given up.
#: Source: the limits of Sidekiq's poison pill (issue 4633).
DEATH_LIMIT = 3
DEATH_WINDOW = timedelta(hours=72)

#: More retries than this are no plan but an accident.
MOST_ATTEMPTS = 50

#: An attempt that waits in a queue is sent again at least this often.
LONGEST_LEASE = timedelta(hours=1)

#: Longest task id that can be sent again as it is. Source: AMQP 0-9-1 carries it as a short string (`correlation_id`).
TASK_ID_LIMIT = 255

#: A parked task that is over must be ended by Celery within this time, or the dispatcher orders it.
CLOSE_WAIT = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When and how often a category is retried.

    Args:
        first_seconds: Delay before the first retry; each further one is twice as long.
        limit: How many retries at most.
        delays_seconds: The delay before each retry instead, the last one for all that follow.
    """

    first_seconds: float
    limit: int
    delays_seconds: tuple[float, ...] = ()

    def delay_seconds(self, retry: int) -> float:
        """Delay before retry number `retry` (the first is 1)."""
        if self.delays_seconds:
            return self.delays_seconds[min(retry, len(self.delays_seconds)) - 1]
        return float(self.first_seconds * 2.0 ** min(retry - 1, 500))


@dataclass(frozen=True, slots=True)
class Policies:
    """All that a decision depends on beside the failure itself.

    Args:
        by_category: Policy of each category that time can heal, by key.
        acting: False in observe mode: everything is decided, nothing is done.
        enabled: False if the administrator switched automatic retries off (FAILURE_RECOVERY_ENABLED).
        jitter: Largest share of the delay that luck may add, between 0 and 1.
        base_limit: How often a failure whose category has no schedule may be retried; 0: no automatic retry at all.
    """

    by_category: Mapping[str, RetryPolicy]
    acting: bool = True
    enabled: bool = True
    jitter: float = 0.0
    base_limit: int = 3

    def of(self, category: Category) -> RetryPolicy:
        """The policy of a category; one of a user's own that has no schedule waits as temporary failures do."""
        usual = self.by_category.get(category.key) or self.by_category[TEMPORARY.key]
        if not category.delays_seconds and category.max_attempts is None:
            return usual
        limit = usual.limit if category.max_attempts is None else category.max_attempts
        return replace(usual, limit=limit, delays_seconds=category.delays_seconds)


def number(failure: Failure, history: History) -> tuple[int, bool]:
    """Under which attempt number a failed run is recorded, and whether it was recorded before."""
    if history.failure is None:
        return failure.attempt, False
    # Its facts came in twice; or a ledger that went silent has kept what we took for lost.
    if history.seen or (failure.key and failure.failed_at == history.last_failed_at):
        return history.attempts, True
    if failure.scanned:  # a door was quicker, or another scan
        return history.attempts, True
    if failure.token is not None:
        superseded = failure.attempt <= history.attempts or history.state is State.RECOVERED
        return failure.attempt, superseded
    # A message of somebody else's: while the ledger holds the task it can only be a second copy of what is recorded;
    # after the task has ended, somebody ran it again.
    held = history.state.live or (history.parked and history.state is State.HELD)
    return (history.attempts, True) if held else (history.attempts + 1, False)


def decide(
    failure: Failure,
    verdict: Verdict,
    history: History,
    attempt: int,
    *,
    now: datetime,
    policies: Policies,
    luck: float = 0.0,
    plan: Plan | None = None,
) -> Decision:
    """What to do about a failure. The first rule that applies decides; the cautious ones come first.

    Args:
        failure: What happened.
        verdict: Why.
        history: What the ledger knew before.
        attempt: Number of the run that failed; `attempt - 1` retries were made before it.
        now: The moment of the decision.
        policies: Schedules and switches.
        luck: A random number in [0, 1) for the jitter.
        plan: What the user's own strategy wants; it stands in for the category's schedule, and not for the caution.
    """
    # Celery ends by itself what it parked before; what was parked where it died must be ended by order.
    close_at = now if failure.parked else now + CLOSE_WAIT if history.parked and not failure.ended else None
    policy = policies.of(verdict.category)
    limit = policy.limit if plan is None else plan.max_attempts
    reason = _never(failure, verdict, planned=plan is not None)
    if reason is None and (policies.base_limit == 0 or limit == 0 or not policies.enabled):
        reason = Reason.RETRIES_OFF
    if reason is not None:
        return Decision(Action.GIVE_UP if reason is Reason.POISON else Action.HAND_OVER, reason, close_at)
    if failure.died and deaths(failure, history)[0] > DEATH_LIMIT:
        return Decision(Action.GIVE_UP, Reason.POISON, close_at)
    if attempt > limit:
        return Decision(Action.GIVE_UP, Reason.RETRIES_USED_UP, close_at)
    # A task whose message was parked keeps waiting in the ledger; in observe mode nothing is ever taken from Celery.
    park = failure.parked or (policies.acting and failure.parkable and failure.options.park)
    if close_at is not None and not park and not policies.acting:
        # Celery has waited for it and ends it now. It stays marked until that is done, or a death in between would
        # leave Celery waiting for ever.
        return Decision(Action.GIVE_UP, Reason.OBSERVING, close_at)
    if (verdict.caution or failure.work_done) and not failure.options.idempotent:
        unsure = verdict.layer == "statistics" and not (failure.work_done or failure.died)
        return Decision(Action.HOLD, Reason.CAUSE_UNSURE if unsure else Reason.WORK_MAY_BE_DONE, park=park)
    wait = policy.delay_seconds(attempt) if plan is None else plan.delay_seconds
    delay = _bounded(wait * (1 + policies.jitter * luck))
    if verdict.retry_after_seconds is not None:
        delay = max(delay, _bounded(verdict.retry_after_seconds))
    due_at = now + delay
    if failure.expires_at is not None and due_at >= failure.expires_at:
        return Decision(Action.GIVE_UP, Reason.WOULD_EXPIRE, close_at)
    if delay > LONGEST_WAIT:
        return Decision(Action.HOLD, Reason.WAIT_TOO_LONG, park=park)
    if not policies.acting and not failure.parked:
        return Decision(Action.HOLD, Reason.OBSERVING, due_at, delay.total_seconds())
    return Decision(Action.RETRY, Reason.CAN_HEAL, due_at, delay.total_seconds(), park)


def _never(failure: Failure, verdict: Verdict, *, planned: bool) -> Reason | None:
    """Why no time can heal it, or nobody may try; None if a retry may be worth it."""
    if failure.final:
        return Reason(failure.final)
    if failure.expected:
        return Reason.EXPECTED
    if not verdict.category.retry and not planned:
        return Reason.UNKNOWN_CAUSE if verdict.layer == "none" else Reason.NOT_HEALABLE
    if not failure.options.retry:
        return Reason.OWNER_SAID_NO
    if failure.envelope is None or not _exact(failure.task_id):
        return Reason.CALL_NOT_KEPT
    return None


def deaths(failure: Failure, history: History) -> tuple[int, datetime | None]:
    """How often a task's worker has died with it, this failure included, and since when those count."""
    since = history.deaths_since
    if since is not None and failure.failed_at - since > DEATH_WINDOW:
        since = None
    before = history.deaths if since is not None else 0
    if not failure.died:
        return before, since
    return before + 1, since or failure.failed_at


def plan_of(answer: object) -> Plan | None:
    """What a user's own strategy has answered (G26).

    Raises:
        ValueError: It is neither None nor a plan; the message says what is wrong.
    """
    if answer is None:
        return None
    if not isinstance(answer, Mapping):
        raise ValueError(f"it returned {type(answer).__name__}, not a dict or None")  # noqa: TRY004  # as the others
    delay, strategy, most = (answer.get(key) for key in ("delay", "strategy", "max_attempts"))
    if isinstance(delay, bool) or not isinstance(delay, int | float) or not 0 <= delay <= LONGEST_WAIT.total_seconds():
        raise ValueError(f"delay={delay!r} is no number of seconds between 0 and {LONGEST_WAIT.total_seconds():.0f}")
    if not isinstance(strategy, str) or not strategy:
        raise ValueError(f"strategy={strategy!r} is no name")
    if isinstance(most, bool) or not isinstance(most, int) or not 0 <= most <= MOST_ATTEMPTS:
        raise ValueError(f"max_attempts={most!r} is no whole number between 0 and {MOST_ATTEMPTS}")
    return Plan(float(delay), strategy, most)


def retries_allowed(category: Category, policies: Policies) -> int:
    """How many retries a person may order without `force`: what the settings allow, and at least one (G10)."""
    known = policies.by_category.get(category.key)
    limit = policies.base_limit if known is None else known.limit
    return max(limit if category.max_attempts is None else category.max_attempts, 1)


def refusal(record: Record, category: Category, policies: Policies, *, force: bool) -> Refusal | None:
    """Why a person's order to retry a failure is not followed; None if it is (G10).

    Args:
        record: The failure.
        category: Its category.
        policies: What the settings allow.
        force: Ignore the count, and nothing else.
    """
    if record.state is State.SCHEDULED:
        return None
    if record.state is State.RECOVERED:
        return Refusal.RECOVERED
    if record.state in (State.DISPATCHED, State.NEW):
        return Refusal.RUNNING
    if record.parked and record.state is not State.HELD:
        return Refusal.ENDING
    if not record.kept:
        return Refusal.CALL_NOT_KEPT
    if not force and record.retries >= retries_allowed(category, policies):
        return Refusal.LIMIT_REACHED
    return None


def _bounded(seconds: float) -> timedelta:
    """A wait that every clock can add; beyond the bound a person decides anyway. What is no number counts as none."""
    return timedelta(seconds=min(seconds, 10 * LONGEST_WAIT.total_seconds()) if seconds > 0 else 0)


def _exact(task_id: str) -> bool:
    """True if brokers and the ledger carry the id as it is, so that the task can be sent again under it."""
    surrogate = any("\ud800" <= char <= "\udfff" for char in task_id)
    return len(task_id) <= TASK_ID_LIMIT and "\0" not in task_id and not surrogate


def rescue(due: Due) -> Decision:
    """What to do about an attempt that fell silent: it was claimed in state `dispatched` after its lease had ended.

    An attempt that no worker began is sent again without harm, as often as it takes: its older copies are stale. One
    that began may have done its work: it runs again only if the task's owner declared that harmless, and not for ever.
    """
    if not due.started:
        return Decision(Action.RETRY, Reason.CAN_HEAL)
    if not due.idempotent:
        return Decision(Action.HOLD, Reason.FELL_SILENT)
    if due.deaths > DEATH_LIMIT:
        return Decision(Action.GIVE_UP, Reason.POISON)
    return Decision(Action.RETRY, Reason.CAN_HEAL)


def ended(due: Due, ending: Ending | None) -> tuple[State, Reason] | None:
    """Where a failure goes whose task Celery has ended without us; None if it has not.

    A success counts only for an attempt that began: an id that is used again may carry an older success.
    Without parking FAILURE is what Celery says of a task that waits for its retry.
    """
    if ending is Ending.SUCCEEDED and due.started:
        return State.RECOVERED, Reason.CAN_HEAL
    if ending is Ending.REVOKED:
        return State.DISMISSED, Reason.REVOKED
    if ending is Ending.FAILED and due.parked:
        # What had begun may have done its work; what had not was failed by a commit that we took for lost, or a person.
        begun = State.HELD, Reason.FELL_SILENT
        return begun if due.started else (State.HANDED_OVER, Reason.ALREADY_FAILED)
    return None


def hindrance(
    one: Leftover, members: Sequence[Member], *, since: datetime, now: datetime, silence: timedelta
) -> Hindrance:
    """Why something is still there after the ledger was to be emptied, as far as the ledger can tell.

    Args:
        one: What is left.
        members: Who has given signs of life.
        since: When the emptying began.
        now: The present.
        silence: Whoever has been silent for longer counts as dead.
    """
    if one.state in (State.SCHEDULED, State.HELD) and one.parked and one.first_failed_at >= since:
        return Hindrance.PARKED_MEANWHILE
    if one.state is State.DISPATCHED and one.started:
        return Hindrance.RUNNING
    if one.state is not State.DISPATCHED:
        return Hindrance.NOT_SENT if one.state.live or not one.ordered else Hindrance.ENDING
    served = any(
        member.kind == WORKER and one.queue in member.queues and member.silent_for(now) <= silence for member in members
    )
    return Hindrance.QUEUED if served else Hindrance.NO_WORKER


def lease(run: timedelta, rescues: int) -> timedelta:
    """How long to wait for an attempt that was sent again `rescues` times: each time twice as long, an hour at most.

    A full queue or a deployment must not fill the queue further with copies.
    """
    doubled: timedelta = run * 2 ** min(rescues, 10)
    return min(doubled, max(run, LONGEST_LEASE))
