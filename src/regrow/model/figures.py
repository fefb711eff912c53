"""What is counted, and what stands open: the figures behind reports, thresholds and targets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Figures:
    """What happened in a window of time.

    Args:
        since: Begin of the window.
        until: Its end.
        failed: Tasks that failed for the first time.
        runs: Runs of tasks that workers counted; 0 if no worker counts.
        failed_runs: Those of them that failed.
        recovered: Failures that a retry has healed.
        exhausted: Failures whose retries were used up.
        streak: Failures given up one after another, none healed in between, until now.
        unknown: Failures of unknown cause.
        handling_seconds: Longest time from a failed run to the decision about it; None if nothing failed.
        telling_seconds: Longest time from a decision to its message's delivery, waiting messages included; None if
            there was no message.
        confirmed: Failures of which a person said the right category.
        confirmed_right: Those of them that were classified so.
        confidence: Mean confidence of the verdicts, between 0 and 1; None if nothing failed.
    """

    since: datetime
    until: datetime
    failed: int = 0
    runs: int = 0
    failed_runs: int = 0
    recovered: int = 0
    exhausted: int = 0
    streak: int = 0
    unknown: int = 0
    handling_seconds: float | None = None
    telling_seconds: float | None = None
    confirmed: int = 0
    confirmed_right: int = 0
    confidence: float | None = None


@dataclass(frozen=True, slots=True)
class Breakdown:
    """Failures of a window by kind.

    Args:
        since: Begin of the window.
        until: Its end.
        by_category: How many, by category key; largest first.
        by_task: How many, by task name; largest first.
        previous: How many failed in the window of the same length before.
    """

    since: datetime
    until: datetime
    by_category: Mapping[str, int]
    by_task: Mapping[str, int]
    previous: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.by_category.values())


@dataclass(frozen=True, slots=True)
class Alert:
    """A system alert: open until an administrator closes it or its cause is gone.

    Args:
        id: Id in the ledger.
        group: What it is about: a failure's fingerprint, or the name of a threshold.
        category: Key of the failures' category, '' for a threshold.
        priority: `high` or `normal`.
        title: One line.
        body: The whole text of the last message.
        count: How many messages it stands for.
        opened_at: When the first one came.
        last_at: When the last one came.
        closed_at: When it was closed; None while it is open.
        closed_by: Who closed it; '' if its cause was gone.
    """

    id: int
    group: str
    category: str
    priority: str
    title: str
    body: str
    count: int
    opened_at: datetime
    last_at: datetime
    closed_at: datetime | None = None
    closed_by: str = ""


@dataclass(frozen=True, slots=True)
class Notice:
    """A message in an end user's inbox.

    Args:
        id: Id in the ledger.
        user_id: Whose it is.
        title: One line.
        body: The whole text.
        task_id: Celery's id of the task.
        created_at: When it came.
        read_at: When the user read it; None if not yet.
    """

    id: int
    user_id: str
    title: str
    body: str
    task_id: str
    created_at: datetime
    read_at: datetime | None = None
