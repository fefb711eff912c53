"""Where a failure stands in the ledger."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """Where a failure stands. The ledger equation: the counts of all states add up to `captured`."""

    NEW = "new"  # recorded, nothing decided yet
    SCHEDULED = "scheduled"  # waits for its next retry
    HELD = "held"  # could be retried, but a person must say so
    HANDED_OVER = "handed_over"  # a person was told; time cannot heal it
    DISPATCHED = "dispatched"  # a retry is on its way or running
    RECOVERED = "recovered"  # a retry succeeded
    EXHAUSTED = "exhausted"  # all retries are used up; the administrator was told
    DISMISSED = "dismissed"  # a person said: leave it

    @property
    def live(self) -> bool:
        """True while Regrow itself will still do something about the failure."""
        return self in (State.NEW, State.SCHEDULED, State.DISPATCHED)
