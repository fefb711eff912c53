"""What an examination of a set-up looks at: all facts in one frozen value, and the settings they are compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from regrow.model.figures import Alert
from regrow.model.presence import Member
from regrow.model.record import Balance


@dataclass(frozen=True, slots=True)
class Switches:
    """The settings that findings depend on; see `Settings`."""

    mode: str = "recover"
    recovery_enabled: bool = True
    notification_enabled: bool = True
    max_recovery_attempts: int = 3
    lease_seconds: float = 60
    track_starts: bool = False
    spool_limit_bytes: int = 200_000_000


@dataclass(frozen=True, slots=True)
class LedgerFacts:
    """What the ledger says of itself.

    Args:
        place: Its address, without password.
        error: Why it could not be read, '' if it could.
        revision: The revision of its tables, None if there are none or it could not be read.
        needed: The revision that this version of Regrow needs.
        balance: The ledger equation; None, like all that follows, if the tables could not be read.
        members: Who has given a sign of life and not said good-bye.
        waiting: How many failures wait to run again, by the routing key of their queue.
        refused: Why messages could not be delivered, one line for each.
        alerts: The open alerts.
        skew_seconds: By how much this machine's clock is ahead of the database's.
        read_at: When it was read, by this machine's clock; None if it could not be.
    """

    place: str
    error: str = ""
    revision: str | None = None
    needed: str = ""
    balance: Balance | None = None
    members: tuple[Member, ...] = ()
    waiting: Mapping[str, int] = field(default_factory=dict)
    refused: tuple[str, ...] = ()
    alerts: tuple[Alert, ...] = ()
    skew_seconds: float = 0.0
    read_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class BrokerFacts:
    """What is known of the message broker.

    Args:
        place: Its address, without password.
        error: Why it could not be reached, '' if it could.
        driver: kombu's name of the kind of broker, e.g. `redis`.
        redelivers: False if what a killed worker held is gone.
        loses_messages: True for a transport that is known to lose messages while all is well.
        visibility_seconds: After so long it delivers what was not acknowledged once more; None: it does not.
    """

    place: str
    error: str = ""
    driver: str = ""
    redelivers: bool = True
    loses_messages: bool = False
    visibility_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class QueueFacts:
    """A queue, and the routing keys that lead to it.

    Args:
        name: Its name.
        key: The key that it is bound with.
        kind: The kind of its exchange.
    """

    name: str
    key: str = ""
    kind: str = "direct"

    def takes(self, key: str) -> bool:
        """True if a message with this routing key, or for a queue of this name, gets into it."""
        if key in (self.name, self.key):
            return True
        if self.kind == "topic":
            return _fits(self.key.split("."), key.split("."))
        return self.kind in ("fanout", "headers")


def _fits(pattern: Sequence[str], words: Sequence[str]) -> bool:
    """True if the words of a routing key fit a topic: `*` is one word, `#` any number of them."""
    if not pattern:
        return not words
    if pattern[0] == "#":
        return any(_fits(pattern[1:], words[n:]) for n in range(len(words) + 1))
    return bool(words) and pattern[0] in ("*", words[0]) and _fits(pattern[1:], words[1:])


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A task that a worker holds until its time.

    Args:
        task: Its name.
        seconds: How long it will wait from now on.
    """

    task: str
    seconds: float


@dataclass(frozen=True, slots=True)
class WorkersFacts:
    """What the workers say when Celery asks them.

    Args:
        queues: The queues that each one consumes, by its name.
        scheduled: The task with the latest time that any of them holds.
        error: Why they could not be asked, '' if they could.
    """

    queues: Mapping[str, tuple[QueueFacts, ...]] = field(default_factory=dict)
    scheduled: Scheduled | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """What a task of the application says of itself.

    Args:
        name: Its name.
        retry_seconds: The longest wait before a retry of its own.
        retry_said: True if the task says so itself; else it is what Celery takes for tasks that do not.
        limit_seconds: Its hard time limit, None if it has none.
        late: True if its message is acknowledged when it has ended.
    """

    name: str
    retry_seconds: float = 0.0
    retry_said: bool = False
    limit_seconds: float | None = None
    late: bool = False


@dataclass(frozen=True, slots=True)
class AppFacts:
    """What the application says of itself.

    Args:
        name: How the command line names it, for `-A`.
        installed: True if Regrow is installed in it.
        given: The settings that it gives to `install`, which are stronger than the environment.
        error: Why its tasks could not be loaded, '' if they could.
        tasks: Its tasks, without Celery's own.
        beat: The queue of each entry of its beat schedule, by the entry's name.
        default_queue: The queue of tasks that name none.
        queues: Its queues.
    """

    name: str
    installed: bool = True
    given: frozenset[str] = frozenset()
    error: str = ""
    tasks: tuple[TaskFacts, ...] = ()
    beat: Mapping[str, str] = field(default_factory=dict)
    default_queue: str = "celery"
    queues: tuple[QueueFacts, ...] = ()


@dataclass(frozen=True, slots=True)
class ResultsFacts:
    """What is known of the result backend.

    Args:
        place: Its address, without password.
        error: Why it could not be reached, '' if it could.
        disabled: True if there is none.
        chords: False if it can do no chords.
    """

    place: str = ""
    error: str = ""
    disabled: bool = False
    chords: bool = True


@dataclass(frozen=True, slots=True)
class FolderFacts:
    """A folder that Regrow writes to.

    Args:
        setting: The setting that names it.
        path: Where it is.
        error: Why it cannot be written to, '' if it can.
    """

    setting: str
    path: str
    error: str = ""


@dataclass(frozen=True, slots=True)
class SpoolFacts:
    """What waits on this machine's disk.

    Args:
        path: Where.
        waiting_bytes: How much waits for the ledger.
        damaged_bytes: How much of it was put aside, because it cannot be read.
        oldest_at: Since when something waits; None if nothing does.
    """

    path: str
    waiting_bytes: int = 0
    damaged_bytes: int = 0
    oldest_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class SetUp:
    """Everything that an examination looks at.

    Args:
        now: When the ledger was read, by this machine's clock: signs of life grow old while others are asked.
        host: This machine's name.
        workers: None if they were not asked, because the broker is down.
    """

    now: datetime
    host: str
    app: AppFacts
    ledger: LedgerFacts
    broker: BrokerFacts
    results: ResultsFacts
    spool: SpoolFacts
    workers: WorkersFacts | None = None
    folders: tuple[FolderFacts, ...] = ()
