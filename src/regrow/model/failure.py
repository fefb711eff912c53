"""What happened: the facts of one failed run."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Cause:
    """One exception of a chain, reduced to the facts that classification reads.

    Args:
        type: Full dotted class name, e.g. `requests.exceptions.ConnectionError`; '' where unknown.
        bases: Full dotted names of the whole MRO, own class first; empty when only text is known.
        message: The exception's own text, cut to a bound.
        codes: Machine-readable facts as (kind, value), e.g. ('sqlstate', '40P01'), ('errno', '111'), ('http', '429').
        retry_after_seconds: How long the other side asked us to wait, if it said so.
    """

    type: str
    message: str
    bases: tuple[str, ...] = ()
    codes: tuple[tuple[str, str], ...] = ()
    retry_after_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Header:
    """What Regrow writes into a message it re-sends (message header `regrow`).

    Args:
        failure: Id of the failure in the ledger.
        attempt: Number of the run that this message is for; the task's first run is 1.
        token: Names this one sending; a copy with another token is stale and must not run.
        close: True if the message is an order to fail with the stored error, not to run.
        error: That error in Celery's JSON result form; '' unless `close`.
        expires: The task's own expiry as ISO text, '' if it has none: the message itself no longer carries it.
    """

    failure: int
    attempt: int
    token: str
    close: bool = False
    error: str = ""
    expires: str = ""


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """What a task's owner said in `@app.task(regrow={...})`.

    Args:
        retry: False: never retry on Regrow's own account.
        idempotent: True: running twice does no harm, so an attempt whose end nobody saw may run again.
        park: False: let Celery mark the task FAILED at once (errbacks fire, chords fail); a retry still follows.
        track: True: the ledger notes each beginning of the task, so that a task whose whole worker dies is found;
            None: as the settings say.
    """

    retry: bool = True
    idempotent: bool = False
    park: bool = True
    track: bool | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed run of a task.

    Args:
        task_id: Celery's id of the task.
        task_name: Celery's name of the task, e.g. `app.tasks.orders.process_order`.
        failed_at: When the run failed.
        causes: The exception and its causes, outermost first; at least one.
        traceback: The formatted traceback, cut to a bound.
        attempt: Number of the run as its message said it, 1 for a message that Regrow did not send.
        token: Token of the message that ran, None for a message that Regrow did not send.
        fingerprint: Same for failures of the same shape; starts with the version of the method.
        worker: Host name of the worker, '' where unknown.
        queue: Queue or routing key that the message came by, '' where unknown.
        options: The task owner's wishes.
        envelope: The exact call, ready to be sent again (JSON text); None where it cannot be kept.
        error: The exception as Celery's JSON result form (`exc_type`, `exc_module`, `exc_message`), as JSON text.
        expected: True if the task declares this exception in `throws`: not a fault, so nobody is told.
        work_done: True if the task's own code had ended when it failed (its result could not be kept, say).
        parkable: True if the caller can still stop Celery from marking the task FAILED.
        expires_at: The task's own expiry: no retry is worth anything after it.
        user_id: The end user whom the task served, '' where unknown.
        scanned: True if no door saw it: a scan found it in the records of a `Source`.
        key: Names this one failed run, where the same facts may come in twice (from a spool, say); '' elsewhere.
        died: True if the process that ran it was lost with it, or killed: nobody knows how far it came.
        parked: True if Celery waits for the task's end already, although the ledger did not know it.
        ended: True if Celery has ended the task by itself, or is about to, whatever the ledger held before.
        final: The value of a `Reason` for which it is never retried whatever the verdict is, '' if there is none.
    """

    task_id: str
    task_name: str
    failed_at: datetime
    causes: tuple[Cause, ...]
    traceback: str = ""
    attempt: int = 1
    token: str | None = None
    fingerprint: str = ""
    worker: str = ""
    queue: str = ""
    options: TaskOptions = field(default_factory=TaskOptions)
    envelope: str | None = None
    error: str = "{}"
    expected: bool = False
    work_done: bool = False
    parkable: bool = False
    expires_at: datetime | None = None
    user_id: str = ""
    scanned: bool = False
    key: str = ""
    died: bool = False
    parked: bool = False
    ended: bool = False
    final: str = ""

    @property
    def task_type(self) -> str:
        """The last part of the task's name, e.g. `process_order`."""
        return type_of(self.task_name)


def type_of(task_name: str) -> str:
    """The type of a task: the last part of its name."""
    return task_name.rpartition(".")[2]
