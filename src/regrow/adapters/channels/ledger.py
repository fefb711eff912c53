"""Channels that keep messages in the ledger itself: open alerts for administrators, inboxes for end users (G5, G6)."""

from __future__ import annotations

from regrow.errors import DeliveryError, LedgerError
from regrow.model import Message
from regrow.ports import Clock, Store


class Alerts:
    """Opens a system alert, or counts the message to the open one (`ports.Channel`).

    Args:
        store: The ledger.
        clock: Tells the time.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def send(self, message: Message) -> None:
        """Open the alert or count to it.

        Raises:
            DeliveryError: The ledger did not take it.
        """
        try:
            self._store.count_alert(message, now=self._clock())
        except LedgerError as error:
            raise DeliveryError(str(error)) from error


class Inbox:
    """Puts a message into its user's inbox (`ports.Channel`).

    Args:
        store: The ledger.
        clock: Tells the time.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def send(self, message: Message) -> None:
        """Put it there.

        Raises:
            DeliveryError: The ledger did not take it.
        """
        try:
            self._store.put_notice(message, now=self._clock())
        except LedgerError as error:
            raise DeliveryError(str(error)) from error
