"""Every Protocol: what the pipeline needs from the world, and what a plug-in may supply.

An implementation passes when `regrow.testing.exercise_*` passes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from regrow.errors import DispatchError
from regrow.model import (
    Alert,
    Audience,
    Balance,
    Begun,
    Breakdown,
    Category,
    Cause,
    Due,
    DueMessage,
    Ending,
    Failure,
    Figures,
    Group,
    Handled,
    Header,
    History,
    Left,
    Leftover,
    Lesson,
    Member,
    Message,
    Notice,
    Reason,
    Record,
    Sample,
    Spooled,
    State,
    Verdict,
)


class Clock(Protocol):
    """Tells the time."""

    def __call__(self) -> datetime:
        """The current instant, aware, in UTC."""


class Words(Protocol):
    """A language: takes an English text, gives it in that language (gettext)."""

    def __call__(self, text: str, /) -> str:
        """`text` in the language, or as it is where no translation exists."""


class Matcher(Protocol):
    """Looks for many patterns in one text at once, in time linear in the text."""

    def hits(self, text: str) -> list[tuple[int, int]]:
        """The patterns that occur in `text`, in their order, each once, with a mark of the engine's own."""

    def matched(self, hit: tuple[int, int], text: str) -> str:
        """What one of the `hits` in `text` is."""


class Classifier(Protocol):
    """Says why a task failed."""

    def __call__(self, causes: Sequence[Cause], *, brief: bool = False) -> Verdict:
        """The verdict over an exception chain, outermost first; `brief` leaves out the runners-up."""


class Teaching(Protocol):
    """What operators have taught this process: their words for groups of failures, their rules and categories."""

    @property
    def categories(self) -> Mapping[str, Category]:
        """Every category that is known here, by its key."""

    def refresh(self, read: Callable[[int], Sequence[Lesson]]) -> None:
        """Look for new lessons with `read` (`Store.lessons`), if it is time for that; never raises."""

    def judge(self, failure: Failure, verdict: Verdict) -> Verdict:
        """The verdict over a failure, after what operators say of its group."""


class LedgerTransaction(Protocol):
    """One transaction on the ledger: all of it is kept, or nothing."""

    def histories(self, failures: Sequence[Failure]) -> list[History]:
        """What the ledger knows of each failure's task, in the same order; the rows are locked until the end."""

    def write(self, handled: Sequence[Handled]) -> list[Handled]:
        """Keep failures, attempts, decisions and messages; return them with their ids.

        One that another process recorded meanwhile comes back with `duplicate=True`, and nothing of it was written.
        """


class Store(Protocol):
    """The ledger. Every method is one transaction; times come from the caller's clock."""

    def transaction(self, *, durable: bool) -> AbstractContextManager[LedgerTransaction]:
        """Open a transaction; `durable` ones survive the loss of power once they are committed."""

    def claim(self, now: datetime, *, limit: int, lease: timedelta, states: Sequence[State]) -> list[Due]:
        """Take up to `limit` failures that are due into this dispatcher's hands, under a fresh token.

        A scheduled one becomes dispatched. Whoever dies with a claim loses it when the lease ends. What a person has
        ordered is taken whatever `states` says.
        """

    def sent(self, token: str, failures: Sequence[int], *, due_at: datetime) -> None:
        """The broker took these: look at them again at `due_at` if nothing was heard."""

    def postpone(self, token: str, failures: Sequence[int], *, due_at: datetime) -> None:
        """These could not be sent: give them back, due again at `due_at`."""

    def hold(
        self, token: str, failures: Sequence[int], messages: Sequence[Message], *, reason: Reason, now: datetime
    ) -> None:
        """These need a person's word."""

    def start(self, header: Header, *, retries: int, idempotent: bool, due_at: datetime) -> bool:
        """A worker is about to run the attempt `header`: may it?

        True exactly once for each sending and each native retry of it (`retries` counts those); an idempotent task may
        also run again when the broker redelivers it. False means: a stale or second copy, drop it.
        """

    def renew(self, headers: Sequence[Header], *, due_at: datetime) -> None:
        """These attempts are still running: look at them at `due_at`."""

    def recovered(self, failure: int, *, now: datetime) -> bool:
        """A retry succeeded. False if the failure had ended before."""

    def closed(self, failures: Sequence[int], *, now: datetime) -> None:
        """Celery has ended these tasks: nobody waits any longer."""

    def exhausted(
        self, token: str, failures: Sequence[int], messages: Sequence[Message], *, reason: Reason, now: datetime
    ) -> None:
        """Give these up; those that Celery still waits for are due at once for their order to fail."""

    def over(
        self,
        token: str,
        failures: Sequence[int],
        messages: Sequence[Message],
        *,
        state: State,
        reason: Reason,
        now: datetime,
    ) -> None:
        """Celery has ended these without us, so nobody waits for them: put them into `state`."""

    def again(self, failure: int, *, now: datetime, by: str = "") -> bool:
        """A person (`by`) wants this one retried: it is due at once, and is sent even while retries are switched off.

        False if it is running or has recovered, its end is on its way, or its call was not kept.
        """

    def dismiss(self, failure: int, *, now: datetime, by: str = "") -> bool:
        """A person says: leave it. What Celery still waits for is due at once for its order to fail.

        False if a retry is on its way, or it has recovered or was dismissed before.
        """

    def order_last_runs(self, since: datetime, *, now: datetime, by: str, limit: int) -> int:
        """A person (`by`) empties the ledger since then: order one last run of what is scheduled; return how many.

        It is due at once, and is sent even while retries are switched off. What was ordered before and has not run yet
        is left as it is.
        """

    def end_waiting(self, since: datetime, *, scheduled: bool, now: datetime, by: str, limit: int) -> int:
        """A person empties the ledger: end as failed what nobody will run again; return how many.

        That is what Celery waits for while it is held, what is scheduled again after its last run, and with `scheduled`
        all that is scheduled. What Celery waits for is due at once for its order to fail.
        """

    def confirm(self, failure: int, category: str, *, now: datetime, by: str = "") -> bool:
        """A person says which category is right, for the accuracy that `status` shows. False if there is no such."""

    def lessons(self, after: int) -> list[Lesson]:
        """What operators have taught since this line of the journal, in order."""

    def teach(self, lessons: Sequence[Lesson], *, last: int, failure: int | None = None) -> bool:
        """Write lessons into the journal, if its last line is still `last`; False, and nothing is written, if not.

        The failure that a label was given by keeps its category as confirmed; it loses that with the label.
        """

    def history(self, task_id: str) -> History:
        """What the ledger knows of a task."""

    def beat(self, one: Member) -> float:
        """A process is alive; return by how many seconds its clock is ahead of the database's."""

    def gone(self, boot: str) -> None:
        """A process has ended in order."""

    def begin(self, call: Failure, boot: str) -> None:
        """A worker begins a task: `call` holds all facts of the run but its end."""

    def finish(self, task_id: str, boot: str) -> bool:
        """A worker has ended a task, in whatever way. False if nobody knew that it had begun it."""

    def rescued(self, task_id: str, *, now: datetime) -> int:
        """A worker begins a task that the broker has delivered again; return how often, in the hours that count."""

    def begun(self, task_id: str) -> Begun | None:
        """What is known of a task that was begun and has not ended."""

    def orphans(self, silent_since: datetime, *, limit: int) -> list[Begun]:
        """Tasks whose worker began them and is gone, or has been silent since then (by the database's clock)."""

    def forget(self, found: Sequence[Begun], *, now: datetime) -> None:
        """These orphans are taken in; with them goes who has long been silent and left nothing behind."""

    def claim_messages(
        self, now: datetime, *, limit: int, lease: timedelta, audiences: Sequence[Audience] = tuple(Audience)
    ) -> list[DueMessage]:
        """Take up to `limit` messages to these audiences that are due for delivery."""

    def delivered(self, token: str, messages: Sequence[int], *, now: datetime) -> None:
        """The channel took these."""

    def undelivered(self, token: str, messages: Mapping[int, str], *, due_at: datetime | None) -> None:
        """The channel did not take these (id -> why): try again at `due_at`, or never if that is None."""

    def release(self, token: str, messages: Sequence[int], *, due_at: datetime) -> None:
        """These messages were not tried: give them back, due again at `due_at`."""

    def take_lease(self, name: str, *, now: datetime, until: datetime) -> str | None:
        """Be the only one who does `name` until then; return a token, None if somebody else has it."""

    def give_lease(self, name: str, token: str) -> None:
        """Give a lease back before its end."""

    def changed(self, now: datetime, *, limit: int) -> list[Record]:
        """Failures that have changed since they were last projected, with their history, oldest change first."""

    def projected(self, revisions: Mapping[int, int]) -> None:
        """These failures (id -> revision) are projected; one that has changed since stays changed."""

    def unprojected(self, failures: Sequence[int], *, due_at: datetime) -> None:
        """These could not be projected: try again then."""

    def reported(self, attempts: Mapping[int, int], *, now: datetime) -> None:
        """These failures are in a report up to this attempt (failure id -> number)."""

    def counted(self, process: str, minute: datetime, *, runs: int, failed: int) -> None:
        """A process ran so many tasks in this minute; counts of one minute add up."""

    def count_alert(self, message: Message, *, now: datetime) -> None:
        """Open an alert for the message's group, or count the message to the open one; it counts once."""

    def raise_alert(self, message: Message, told: Sequence[Message], *, now: datetime) -> bool:
        """Open an alert and tell people, unless one is open for its group. True if it was opened."""

    def clear_alert(self, group: str, told: Sequence[Message], *, now: datetime) -> bool:
        """Close the open alert of a group and tell people. False if there is none."""

    def close_alert(self, alert: int, *, now: datetime, by: str = "") -> bool:
        """An administrator closes an alert. False if there is none that is open."""

    def settle_alerts(self, *, now: datetime) -> int:
        """Close alerts about failures of which none needs a person any longer; return how many."""

    def put_notice(self, message: Message, *, now: datetime) -> None:
        """Put a message into its user's inbox; once for each key."""

    def read_notice(self, notice: int, *, now: datetime) -> bool:
        """The user has read it. False if there is none, or it was read before."""


class Ledger(Protocol):
    """The ledger for readers: CLI, reports, dashboard. Nothing here writes."""

    def balance(self, now: datetime) -> Balance:
        """The ledger equation."""

    def failures(
        self,
        *,
        states: Sequence[State] = (),
        category: str = "",
        task_name: str = "",
        before: int | None = None,
        limit: int = 50,
    ) -> list[Record]:
        """Failures, newest first; `before` is the last id of the page before (keyset paging)."""

    def find(self, which: str) -> Record | None:
        """One failure with its history, by its id in the ledger or by its task id."""

    def known(self, task_ids: Sequence[str]) -> set[str]:
        """Those of these task ids that the ledger knows."""

    def unreported(self, *, limit: int) -> list[Record]:
        """Failures with runs that are in no report yet, with their history, oldest first."""

    def undelivered(self, *, limit: int) -> list[str]:
        """Why messages could not be delivered so far, one line for each that waits or was refused."""

    def figures(self, since: datetime, now: datetime) -> Figures:
        """What happened since then."""

    def breakdown(self, since: datetime, now: datetime) -> Breakdown:
        """The failures since then by kind."""

    def alerts(self, *, closed: bool = False, limit: int = 100) -> list[Alert]:
        """The open alerts, or the closed ones; newest first."""

    def members(self) -> list[Member]:
        """Everybody who has given a sign of life and not said good-bye; the latest first."""

    def waiting(self) -> dict[str, int]:
        """How many failures wait to run again, held ones only if Celery waits too, by their queue's routing key."""

    def left(self, since: datetime, *, audiences: Sequence[Audience]) -> Left:
        """What is left while the ledger is emptied (messages to these audiences), and what has become of the rest."""

    def leftovers(self, *, limit: int) -> list[Leftover]:
        """The failures that are live or that Celery waits for, oldest first."""

    def group(self, fingerprint: str, *, limit: int) -> Group:
        """The failures of a fingerprint, with the ids of at most `limit` of each kind."""

    def samples(
        self, since: datetime, until: datetime, *, before: tuple[datetime, int] | None, limit: int
    ) -> list[Sample]:
        """The tasks that failed in this time, latest first; `before` is the last one of the page before."""

    def decided(self, rules: Sequence[str], since: datetime) -> dict[str, int]:
        """How many failed runs each of these rules has decided since then; those that decided none are left out."""

    def inbox(self, user_id: str, *, unread: bool = False, limit: int = 100) -> list[Notice]:
        """A user's messages, newest first; `unread`: only those not read."""


class Dispatcher(Protocol):
    """Puts tasks back on the road."""

    def retry(self, batch: Sequence[Due]) -> Mapping[int, DispatchError]:
        """Send these tasks again under their own ids; return why the broker did not take some of them, by failure."""

    def close(self, batch: Sequence[Due]) -> Mapping[int, DispatchError]:
        """Order workers to fail these tasks with their stored errors; return as `retry` does."""

    def end(self, due: Due) -> None:
        """Mark the task failed from here, because no worker took the order in time.

        Raises:
            DispatchError: The result backend did not take it.
        """

    def endings(self, task_ids: Sequence[str]) -> Mapping[str, Ending]:
        """How these tasks have ended, as the result backend says; what has not, or cannot be asked, is left out."""


class Channel(Protocol):
    """A way to reach people."""

    def send(self, message: Message) -> None:
        """Deliver one message.

        Raises:
            DeliveryError: It was not delivered.
        """


class Backlog(Protocol):
    """Facts of failures that wait outside of the ledger, on this machine's disk."""

    @property
    def folder(self) -> Path:
        """Where."""

    def size(self) -> int:
        """How many bytes there are, those that were put aside included."""

    def look(self) -> Spooled:
        """What is in it."""

    def waiting(self) -> bool:
        """True if there is something to replay."""

    def replay(self, take: Callable[[Sequence[Failure]], object]) -> int:
        """Hand all of it to `take`, which is given failures of different tasks; return how many.

        Raises:
            LedgerError: The ledger is away; what it has not taken waits on.
        """


class Source(Protocol):
    """Records of failed work that no door saw: an application's own table, a result backend (G9)."""

    def failed(self, since: datetime) -> Iterable[Failure]:
        """What has failed since then, with `scanned=True`; what the ledger knows already does no harm."""


class Projection(Protocol):
    """An application's own record of its tasks, kept in step with the ledger (G22)."""

    def project(self, record: Record) -> None:
        """Write what has become of a failure, with its history; an older revision must never overwrite a newer one.

        It may be called twice for one revision. What it raises is reported, and it is called again later.
        """

    def ids(self, task_ids: Sequence[str]) -> Mapping[str, Any]:
        """What the application calls these tasks (Celery's id -> its own), for reports; unknown ones are left out."""


class Strategy(Protocol):
    """A user's own recovery strategy (G26)."""

    def __call__(self, task: Failure, category: str, analysis: Mapping[str, Any], /) -> Mapping[str, Any] | None:
        """`delay` in seconds, `strategy` (its name) and `max_attempts`, or None for the built-in schedule."""
