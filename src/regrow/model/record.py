"""What a reader of the ledger sees."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from regrow.model.failure import type_of
from regrow.model.state import State


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One failed run as the ledger keeps it.

    Args:
        number: 1 for the task's first run.
        failed_at: When it failed.
        exception_type: Full dotted class name.
        message: The exception's text.
        traceback: The formatted traceback.
        worker: Host name of the worker.
        category: Key of its category.
        confidence: Between 0 and 1.
        rule: Id of the rule that won.
        verdict: The whole verdict as JSON text.
        action: What was decided.
        reason: Why.
        retry_at: When the next retry was due, if one was decided.
        told: Who was told: `administrator`, `user`, or '' for nobody.
        trouble: What went wrong in a plug-in while it was decided, '' if nothing did.
        decided_at: When it was decided; None if an older version recorded it.
    """

    number: int
    failed_at: datetime
    exception_type: str
    message: str
    traceback: str
    worker: str
    category: str
    confidence: float
    rule: str
    verdict: str
    action: str
    reason: str
    retry_at: datetime | None
    told: str = ""
    trouble: str = ""
    decided_at: datetime | None = None


#: Detail of a note: it was done to empty the ledger.
DRAIN = "drain"


class Deed(StrEnum):
    """Something that happened to a failure beside its failed runs."""

    RETRIED = "retried"  # a person had it sent again
    DISMISSED = "dismissed"
    CONFIRMED = "confirmed"  # a person said what its category is
    RECOVERED = "recovered"
    STOPPED = "stopped"  # Regrow stopped without a failed run: the reason says why


@dataclass(frozen=True, slots=True)
class Note:
    """One deed in a failure's story.

    Args:
        at: When.
        deed: What.
        by: Who did it; '' for Regrow itself.
        detail: A `Reason` for STOPPED, a category for CONFIRMED, DRAIN for what was done to empty the ledger, else ''.
    """

    at: datetime
    deed: Deed
    by: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """One failed task as the ledger keeps it.

    Args:
        id: Id in the ledger.
        task_id: Celery's id of the task.
        task_name: Celery's name of the task.
        state: Where it stands.
        category: Key of the last failure's category.
        reason: Why the last decision was taken.
        fingerprint: Same for failures of the same shape.
        attempts: How many failed runs are recorded.
        parked: True while Celery waits for its end.
        due_at: When the dispatcher looks at it next.
        queue: Where its message came from.
        user_id: The end user, '' where unknown.
        first_failed_at: When its first run failed.
        last_failed_at: When its last run failed.
        ended_at: When it recovered, was handed over, given up or dismissed.
        message: The last exception as `type: text`.
        history: Its failed runs in order; filled only where one task is looked at.
        notes: What else happened to it, in order; filled as `history` is.
        revision: Grows with each change of the failure; a copy of it elsewhere is as new as its revision.
        kept: True if its call was kept, so that it can be sent again.
        manual: True if the retry that it waits for was ordered by a person.
        confirmed: The category that a person said is right, '' if nobody has.
    """

    id: int
    task_id: str
    task_name: str
    state: State
    category: str
    reason: str
    fingerprint: str
    attempts: int
    parked: bool
    due_at: datetime | None
    queue: str
    user_id: str
    first_failed_at: datetime
    last_failed_at: datetime
    ended_at: datetime | None
    message: str
    history: tuple[AttemptRecord, ...] = ()
    notes: tuple[Note, ...] = ()
    revision: int = 0
    kept: bool = True
    manual: bool = False
    confirmed: str = ""

    @property
    def retries(self) -> int:
        """How many retries were sent."""
        return self.attempts - 1 + (self.state in (State.DISPATCHED, State.RECOVERED))

    @property
    def task_type(self) -> str:
        """The last part of the task's name."""
        return type_of(self.task_name)


@dataclass(frozen=True, slots=True)
class Balance:
    """The ledger equation, read in one transaction.

    Args:
        captured: Failures ever recorded and not yet removed by retention.
        by_state: How many stand in each state; every state is present.
        overdue: How many are due and not yet looked at.
        parked: How many tasks Celery waits for.
        undelivered: Messages that wait for delivery.
        overdue_since: When the oldest of the overdue ones was due; None if there is none.
    """

    captured: int
    by_state: dict[State, int]
    overdue: int
    parked: int
    undelivered: int
    overdue_since: datetime | None = None

    @property
    def balanced(self) -> bool:
        """True if nothing is lost: captured is the sum of all states."""
        return self.captured == sum(self.by_state.values())
