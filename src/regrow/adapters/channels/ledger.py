"""Messages that are kept in the ledger itself: open alerts for administrators, inboxes for end users (G5, G6)."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from regrow.errors import DeliveryError, LedgerError
from regrow.model import Message
from regrow.ports import Clock


class Put(Protocol):
    """A place in the ledger: `Store.count_alert` or `Store.put_notice`."""

    def __call__(self, message: Message, /, *, now: datetime) -> None:
        """Put a message there."""


class InLedger:
    """Puts each message into its place in the ledger (`ports.Channel`).

    Args:
        put: The place.
        clock: Tells the time.
    """

    def __init__(self, put: Put, clock: Clock) -> None:
        self._put = put
        self._clock = clock

    def send(self, message: Message) -> None:
        """Put it there.

        Raises:
            DeliveryError: The ledger did not take it.
        """
        try:
            self._put(message, now=self._clock())
        except LedgerError as error:
            raise DeliveryError(str(error)) from error
