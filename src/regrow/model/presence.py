"""Who is at work: processes that give signs of life, and tasks that they have begun."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from regrow.model.failure import Failure

#: Kinds of processes (`Member.kind`).
WORKER = "worker"
DISPATCHER = "dispatcher"


@dataclass(frozen=True, slots=True)
class Member:
    """A process of ours that gives signs of life.

    Args:
        boot: Names this one start of it; its forked children share it.
        kind: WORKER or DISPATCHER.
        name: A worker's node name, e.g. `celery@host`; a dispatcher's host name.
        pid: Its process id.
        started_at: When it started, by its own clock.
        seen_at: Its last sign of life, by its own clock.
        queues: The queues that a worker consumes.
        skew_seconds: By how much its clock is ahead of the database's.
        spooled_bytes: Size of the spool on its disk.
    """

    boot: str
    kind: str
    name: str
    pid: int
    started_at: datetime
    seen_at: datetime
    queues: tuple[str, ...] = ()
    skew_seconds: float = 0.0
    spooled_bytes: int = 0

    def silent_for(self, now: datetime) -> timedelta:
        """How long it has given no sign of life; the error of its clock is taken out."""
        return now - self.seen_at + timedelta(seconds=self.skew_seconds)


@dataclass(frozen=True, slots=True)
class Begun:
    """A task that a worker has begun and not ended, as the start ledger knows it.

    Args:
        call: The facts of the run so far, with its call; `causes` is empty. None if only rescues were counted.
        task_id: Celery's id of the task.
        boot: The start of the worker that runs it; '' if nobody noted who that is.
        worker: Name of that worker, '' if it has said good-bye or was never seen.
        seen_at: Its last sign of life.
    """

    call: Failure | None
    task_id: str
    boot: str
    worker: str = ""
    seen_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Spooled:
    """What waits on a machine's disk for the ledger.

    Args:
        waiting: How many bytes wait.
        damaged: How many bytes were put aside, because nobody can read them.
        oldest: When the file that has rested longest was last written to, in seconds since 1970; None if none waits.
    """

    waiting: int
    damaged: int
    oldest: float | None = None
