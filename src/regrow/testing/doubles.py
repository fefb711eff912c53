"""A clock that stands still, builders, and doubles of the ports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from regrow.decide import Policies, RetryPolicy
from regrow.errors import DeliveryError, DispatchError
from regrow.model import (
    CATEGORIES,
    NETWORK,
    SYSTEM,
    TEMPORARY,
    UNKNOWN,
    Audience,
    Category,
    Cause,
    Due,
    Ending,
    Failure,
    Message,
    Verdict,
)
from regrow.pipeline import Regrow
from regrow.ports import Store

#: The instant at which a FrozenClock starts.
START = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)

#: The guide's schedules (G2, G3, G4).
GUIDE = Policies({NETWORK.key: RetryPolicy(30, 5), SYSTEM.key: RetryPolicy(300, 3), TEMPORARY.key: RetryPolicy(180, 3)})

_numbers = count(1)


class FrozenClock:
    """Tells one instant until it is moved (`ports.Clock`).

    Args:
        now: The instant, aware.
    """

    def __init__(self, now: datetime = START) -> None:
        self.now = now

    def __call__(self) -> datetime:
        """The instant."""
        return self.now

    def advance(self, seconds: float) -> datetime:
        """Go on by `seconds`, or back if they are negative; return the instant now."""
        self.now += timedelta(seconds=seconds)
        return self.now


# -- builders ---------------------------------------------------------------------------------------------------------


def a_failure(category: Category = NETWORK, **changes: Any) -> Failure:
    """A failed run that can be retried and parked, of a task of its own unless `task_id` is given.

    Args:
        category: What `by_type` will say about it.
        changes: Any field of `Failure`.
    """
    plain = Failure(
        task_id=f"task-{next(_numbers)}",
        task_name="shop.tasks.pay",
        failed_at=START,
        causes=(Cause(category.key, "it failed"),),
        traceback="Traceback (most recent call last): ...",
        fingerprint="1:abc",
        envelope='{"task": "shop.tasks.pay"}',
        error='{"exc_type": "Exception", "exc_message": ["it failed"], "exc_module": "builtins"}',
        parkable=True,
    )
    return replace(plain, **changes)


def a_verdict(category: Category = NETWORK, **changes: Any) -> Verdict:
    """A verdict for a category; `changes` is any field of `Verdict`."""
    layer = "none" if category is UNKNOWN else "class"
    return replace(Verdict(category, 0.9, "a-rule", layer, "it failed", "Exception: it failed"), **changes)


def by_type(causes: Sequence[Cause]) -> Verdict:
    """A classifier that finds the category's key in the exception's type (`ports.Classifier`)."""
    return a_verdict(CATEGORIES.get(causes[0].type, UNKNOWN), retry_after_seconds=causes[0].retry_after_seconds)


def a_message(key: str, **changes: Any) -> Message:
    """A message to the administrator; `changes` is any field of `Message`."""
    plain = Message(key, Audience.ADMINISTRATOR, NETWORK.key, "high", "A title", "A body", "task-0", "shop.tasks.pay")
    return replace(plain, **changes)


def a_regrow(store: Store, **changes: Any) -> Regrow:
    """The pipeline over a store, with doubles for everything else; `changes` is any field of `Regrow`."""
    parts: dict[str, Any] = {
        "classify": by_type,
        "policies": GUIDE,
        "dispatcher": RecordingDispatcher(),
        "channels": {
            Audience.ADMINISTRATOR: {"log": RecordingChannel()},
            Audience.USER: {"log": RecordingChannel()},
        },
        "words": str,
        "clock": FrozenClock(),
        "luck": lambda: 0.0,
    }
    return Regrow(store=store, **{**parts, **changes})


# -- doubles ----------------------------------------------------------------------------------------------------------


@dataclass
class RecordingDispatcher:
    """Keeps what it was given to send (`ports.Dispatcher`).

    Args:
        refuse: Gives the error with which to refuse a task, or None to take it.
        done: Ids of tasks of which the result backend says that they have succeeded.
        endings_of: What the result backend says of other tasks, by id.
    """

    refuse: Callable[[Due], DispatchError | None] = lambda _due: None
    done: set[str] = field(default_factory=set)
    endings_of: dict[str, Ending] = field(default_factory=dict)
    sent: list[Due] = field(default_factory=list)
    ordered: list[Due] = field(default_factory=list)
    ended: list[Due] = field(default_factory=list)
    tried: int = 0

    def retry(self, batch: Sequence[Due]) -> dict[int, DispatchError]:
        """Keep tasks that were to be sent again."""
        return self._take(batch, self.sent)

    def close(self, batch: Sequence[Due]) -> dict[int, DispatchError]:
        """Keep orders to fail."""
        return self._take(batch, self.ordered)

    def end(self, due: Due) -> None:
        """Keep a task that was to be marked failed."""
        for error in self._take([due], self.ended).values():
            raise error

    def endings(self, task_ids: Sequence[str]) -> dict[str, Ending]:
        """What the test said."""
        said = self.endings_of | dict.fromkeys(self.done, Ending.SUCCEEDED)
        return {one: said[one] for one in task_ids if one in said}

    def _take(self, batch: Sequence[Due], kept: list[Due]) -> dict[int, DispatchError]:
        refused: dict[int, DispatchError] = {}
        for due in batch:
            self.tried += 1
            error = self.refuse(due)
            if error is None:
                kept.append(due)
            else:
                refused[due.failure] = error
        return refused


@dataclass
class RecordingChannel:
    """Keeps the messages it was given (`ports.Channel`).

    Args:
        refuse: Gives the error with which to refuse a message, or None to take it.
    """

    refuse: Callable[[Message], DeliveryError | None] = lambda _message: None
    messages: list[Message] = field(default_factory=list)
    tried: int = 0

    def send(self, message: Message) -> None:
        """Keep a message."""
        self.tried += 1
        error = self.refuse(message)
        if error is not None:
            raise error
        self.messages.append(message)
