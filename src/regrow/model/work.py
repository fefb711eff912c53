"""What the dispatcher holds in its hands."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from regrow.model.judgement import Message
from regrow.model.state import State


class Ending(StrEnum):
    """How Celery says that a task has ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Due:
    """A failure that the dispatcher has claimed because something must be done about it now.

    Args:
        failure: Id in the ledger.
        task_id: Celery's id of the task.
        task_name: Celery's name of the task.
        category: Key of the last failure's category.
        state: Where it stood when it was claimed.
        attempts: How many failed runs are recorded; the next run is this + 1.
        token: Names this claim; goes into the message.
        parked: True if Celery still waits for the task's end.
        started: True if the attempt on its way was seen to start.
        rescues: How often in a row the attempt was sent and no worker began it.
        deaths: How often a worker began an attempt and fell silent.
        idempotent: The task's owner said that running twice does no harm.
        envelope: The exact call as JSON text, None if it was not kept.
        error: The last error in Celery's JSON result form.
        closing: True if an order to fail was already sent for it.
        fingerprint: Same for failures of the same shape.
    """

    failure: int
    task_id: str
    task_name: str
    category: str
    state: State
    attempts: int
    token: str
    parked: bool
    started: bool
    rescues: int
    deaths: int
    idempotent: bool
    envelope: str | None
    error: str
    closing: bool
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class DueMessage:
    """A message that the dispatcher has claimed for delivery.

    Args:
        id: Id in the outbox.
        token: Names this claim.
        tries: How often delivery was tried before.
        message: What is to be delivered.
    """

    id: int
    token: str
    tries: int
    message: Message


@dataclass(frozen=True, slots=True)
class Tick:
    """What one round of the dispatcher did.

    Args:
        sent: Retries handed to the broker.
        rescued: Attempts that fell silent and were sent again, held or given up.
        closed: Tasks ended by order.
        delivered: Messages delivered.
        failed: Sends and deliveries that did not work and will be tried again.
        more: True if work was left because the batch was full.
    """

    sent: int = 0
    rescued: int = 0
    closed: int = 0
    delivered: int = 0
    failed: int = 0
    more: bool = False


@dataclass(frozen=True, slots=True)
class Lease:
    """How long the dispatcher waits before it takes silence for death.

    Args:
        run: For an attempt: from sending to start, and between two signs of life while it runs.
        claim: For a batch in the dispatcher's own hands.
        messages: For messages in its hands: longer than a batch of them, and the last one's channel, can take.
    """

    run: timedelta = timedelta(seconds=60)
    claim: timedelta = timedelta(seconds=60)
    messages: timedelta = timedelta(seconds=60)


class Refusal(StrEnum):
    """Why a person's order to retry a failure is not followed."""

    UNKNOWN = "unknown"  # there is no such failure
    RECOVERED = "recovered"  # a retry has succeeded
    RUNNING = "running"  # a retry is on its way or running
    ENDING = "ending"  # its retries are used up, and Celery is about to end it
    LIMIT_REACHED = "limit_reached"  # as many retries as the settings allow were made
    CALL_NOT_KEPT = "call_not_kept"  # it cannot be sent again exactly as it was
    CHANGED = "changed"  # somebody else was quicker


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a person's order to retry a failure.

    Args:
        success: True if it will be sent.
        refusal: Why not; None if it will be.
        retries: How many retries were made before.
        limit: How many the settings allow.
    """

    success: bool
    refusal: Refusal | None = None
    retries: int = 0
    limit: int = 0


@dataclass(frozen=True, slots=True)
class ScanResult:
    """What a scan found.

    Args:
        found: Failed tasks in the sources.
        taken: Those that the ledger did not know and has taken in.
        busy: True if another scan was running, so this one did nothing.
        errors: Sources that could not be read, and why.
    """

    found: int = 0
    taken: int = 0
    busy: bool = False
    errors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Left:
    """What the ledger still holds while it is emptied, and what has become of the rest.

    Args:
        tasks: Failures that are live or that Celery waits for.
        sent: How many of these have a retry on its way or running.
        messages: Messages that wait for delivery.
        copies: Failures that the application's own record does not show as they are.
        recovered: What has recovered since the emptying began.
        failed: What has ended as failed since then.
        spooled: True if something waits in the spool on this machine.
        more: True if the dispatcher has more to do at once.
    """

    tasks: int = 0
    sent: int = 0
    messages: int = 0
    copies: int = 0
    recovered: int = 0
    failed: int = 0
    spooled: bool = False
    more: bool = False

    @property
    def nothing(self) -> bool:
        """True if all is done."""
        return not (self.tasks or self.messages or self.copies or self.spooled or self.more)


@dataclass(frozen=True, slots=True)
class Leftover:
    """A failure that is live or that Celery waits for.

    Args:
        id: Its id in the ledger.
        task_id: Celery's id of the task.
        task_name: Celery's name of the task.
        state: Where it stands.
        parked: True if Celery waits for its end.
        queue: Where its message came from.
        started: True if a worker has begun what was sent last.
        ordered: True if an order to fail was sent.
        first_failed_at: When its first run failed.
    """

    id: int
    task_id: str
    task_name: str
    state: State
    parked: bool
    queue: str
    started: bool
    ordered: bool
    first_failed_at: datetime


class Hindrance(StrEnum):
    """Why something is left after the ledger was to be emptied."""

    RUNNING = "running"  # a worker runs it
    QUEUED = "queued"  # it waits in a queue whose workers are busy
    NO_WORKER = "no_worker"  # no worker of its queue gives signs of life
    NOT_SENT = "not_sent"  # the broker has not taken it yet
    ENDING = "ending"  # no worker has taken the order to fail yet
    PARKED_MEANWHILE = "parked_meanwhile"  # a worker has parked it since: it is in recover mode
