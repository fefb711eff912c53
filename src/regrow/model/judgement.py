"""Why it failed, what to do about it, and who is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from regrow.model.category import Audience, Category
from regrow.model.failure import Failure
from regrow.model.state import State


@dataclass(frozen=True, slots=True)
class Evidence:
    """One fact that speaks for a category.

    Args:
        category: Key of the category.
        layer: Which kind of fact: `structured`, `code`, `class`, `pattern` or `none`.
        rule: Id of the rule, unique in the rulebook.
        matched: The text or code that matched.
        cause: Which exception of the chain it was found in; 0 is the outermost.
        confidence: Precision of the rule, between 0 and 1.
    """

    category: str
    layer: str
    rule: str
    matched: str
    cause: int = 0
    confidence: float = 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why a task failed.

    Args:
        category: The kind of failure.
        confidence: Precision of the winning rule, between 0 and 1; 0 for `unknown`.
        rule: Id of the winning rule, `none` for `unknown`.
        layer: The kind of fact that won.
        matched: The text or code that the rule matched.
        root_cause: The innermost exception that a fact was found in, as `type: message`.
        retry_after_seconds: How long the other side asked us to wait, if it said so.
        conflict: True if facts of equal rank disagreed; the label that does not retry has won.
        caution: Why this must never be retried without a person, e.g. `work may be done already`; '' if nothing
            speaks against it.
        runners_up: The other facts, best first.
    """

    category: Category
    confidence: float
    rule: str
    layer: str
    matched: str
    root_cause: str
    retry_after_seconds: float | None = None
    conflict: bool = False
    caution: str = ""
    runners_up: tuple[Evidence, ...] = ()


class Action(StrEnum):
    """What is to be done about a failure."""

    RETRY = "retry"
    HOLD = "hold"
    HAND_OVER = "hand_over"
    GIVE_UP = "give_up"

    @property
    def state(self) -> State:
        """The state in which a failure waits after this decision."""
        return {
            Action.RETRY: State.SCHEDULED,
            Action.HOLD: State.HELD,
            Action.HAND_OVER: State.HANDED_OVER,
            Action.GIVE_UP: State.EXHAUSTED,
        }[self]


class Reason(StrEnum):
    """Why a decision was taken; `notify.explain` puts it into a sentence for people."""

    CAN_HEAL = "can_heal"  # time may heal it, and retries are left
    NOT_HEALABLE = "not_healable"  # time cannot heal it
    UNKNOWN_CAUSE = "unknown_cause"  # nothing in the failure says why
    EXPECTED = "expected"  # the task declares this exception in `throws`
    OWNER_SAID_NO = "owner_said_no"  # the task is declared `regrow={'retry': False}`
    CALL_NOT_KEPT = "call_not_kept"  # the call cannot be sent again exactly as it was
    WORK_MAY_BE_DONE = "work_may_be_done"  # it may have done its work before it failed
    CAUSE_UNSURE = "cause_unsure"  # only its wording suggests that time may heal it
    WAIT_TOO_LONG = "wait_too_long"  # the other side asks for a longer wait than we take on alone
    WOULD_EXPIRE = "would_expire"  # the task's own expiry comes before the next retry
    RETRIES_USED_UP = "retries_used_up"  # every retry failed
    RETRIES_OFF = "retries_off"  # the settings allow no automatic retry
    OBSERVING = "observing"  # observe mode: it would have been retried
    CANNOT_BE_SENT = "cannot_be_sent"  # the stored call is refused when it is sent again
    ALREADY_FAILED = "already_failed"  # Celery marked it failed while the ledger held it
    REVOKED = "revoked"  # a person revoked the task
    DISMISSED = "dismissed"  # a person said: leave it
    BY_HAND = "by_hand"  # a person wants it retried
    FELL_SILENT = "fell_silent"  # a retry started and was never heard of again
    POISON = "poison"  # it was begun again and again, and its worker died each time
    REJECTED = "rejected"  # the task itself rejected its message
    NOT_RUN = "not_run"  # no worker could run it: nobody knows the task, or nobody can read its message
    EXPIRED = "expired"  # it expired before a worker took it


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do about a failure.

    Args:
        action: The deed.
        reason: Why.
        due_at: When the dispatcher must look at it next: to retry it, or to see whether Celery has ended a task that
            was parked; in observe mode, when it would have been retried.
        delay_seconds: The wait before the retry.
        park: True if Celery must not mark the task FAILED, because the ledger now holds it.
    """

    action: Action
    reason: Reason
    due_at: datetime | None = None
    delay_seconds: float | None = None
    park: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What a user's own recovery strategy wants (G26), instead of the category's schedule.

    Args:
        delay_seconds: The wait before the next retry.
        strategy: Its name, for people.
        max_attempts: How many retries at most.
    """

    delay_seconds: float
    strategy: str
    max_attempts: int


@dataclass(frozen=True, slots=True)
class History:
    """What the ledger already knows about a task when one of its runs fails.

    Args:
        failure: Id of the failure in the ledger, None if this is the task's first failure.
        state: Where it stands.
        attempts: How many failed runs are recorded.
        parked: True if the ledger holds the task, so that Celery has not marked it FAILED.
        token: Token of the attempt that is on its way, if any.
        since: When the task's first run failed.
        last_failed_at: When its last recorded run failed.
        deaths: How often its worker died in the last hours that count (`decide.DEATH_WINDOW`).
        deaths_since: When the first of those was.
        seen: True if this very run is recorded already, by its `Failure.key`.
    """

    failure: int | None = None
    state: State = State.NEW
    attempts: int = 0
    parked: bool = False
    token: str | None = None
    since: datetime | None = field(default=None, compare=False)
    last_failed_at: datetime | None = field(default=None, compare=False)
    deaths: int = field(default=0, compare=False)
    deaths_since: datetime | None = field(default=None, compare=False)
    seen: bool = False


@dataclass(frozen=True, slots=True)
class Message:
    """What somebody is told.

    Args:
        key: The same words to the same person are sent once for one key.
        audience: Who is told.
        category: Key of the failure's category.
        priority: `high` or `normal`.
        title: One line.
        body: The whole text; an end user's never holds an exception text, a host or a path.
        task_id: Celery's id of the task.
        task_name: Celery's name of the task.
        user_id: The end user, '' where unknown.
        group: What it is about: the failure's fingerprint, or the name of a threshold. One alert is open for a group.
        channel: Name of the channel that it goes by; '' until it is routed.
    """

    key: str
    audience: Audience
    category: str
    priority: str
    title: str
    body: str
    task_id: str
    task_name: str
    user_id: str = ""
    group: str = ""
    channel: str = ""


@dataclass(frozen=True, slots=True)
class Handled:
    """A failure with all that was decided about it: what one line of the pipeline produced.

    Args:
        failure: What happened.
        verdict: Why.
        decision: What to do.
        messages: Who is told.
        history: What the ledger knew before.
        attempt: Number under which this run is recorded.
        duplicate: True if this run was recorded before, so nothing was written.
        id: Id of the failure in the ledger, once written.
        trouble: What went wrong in a plug-in while this was decided, '' if nothing did.
        decided_at: When it was decided; None where nobody asks.
    """

    failure: Failure
    verdict: Verdict
    decision: Decision
    messages: tuple[Message, ...]
    history: History
    attempt: int
    duplicate: bool = False
    id: int | None = None
    trouble: str = ""
    decided_at: datetime | None = None

    @property
    def told(self) -> str:
        """Who is told: `administrator`, `user`, or '' for nobody."""
        people = [message.audience for message in self.messages if message.audience is not Audience.MACHINE]
        return str(people[0]) if people else ""
