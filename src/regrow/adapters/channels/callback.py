"""A user's own function as a channel or a sink (G16, G27)."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable, Mapping
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Any

from regrow.capture.clean import read, text_of
from regrow.errors import DeliveryError, SettingsError
from regrow.model import Audience, Message, type_of

#: Longest text kept of what the function raised, in characters.
_TEXT_LIMIT = 500


class Callback:
    """Calls a function with each message, in a thread of its own, because nobody knows what it does.

    A call that is given up for its time may still end well: the message is then delivered twice, never lost.

    Args:
        name: The channel's name, for the texts of errors.
        function: Takes the notification, or for monitoring systems the event, as a dict of its own; it refuses by
            raising, for ever if what it raises has `permanent = True`.
        timeout_seconds: How long it may take.

    Raises:
        SettingsError: The function cannot be called, or calling it would only make a coroutine or a generator.
    """

    def __init__(self, name: str, function: Callable[[Mapping[str, Any]], object], timeout_seconds: float) -> None:
        _check(name, function)
        self._name = name
        self._function = function
        self._timeout = timeout_seconds
        # Locked while a call runs. By process: a fork copies a locked lock, but not the thread that will unlock it.
        self._slots: dict[int, Lock] = {}

    def send(self, message: Message) -> None:
        """Call the function and wait for it.

        Raises:
            DeliveryError: It raised, did not return in time, or still has not returned from an earlier call.
        """
        notification = _plain(message)
        slot = self._slots.setdefault(os.getpid(), Lock())
        if not slot.acquire(blocking=False):
            raise DeliveryError(f"channel {self._name!r} is busy: an earlier call has not returned yet")
        answer: SimpleQueue[DeliveryError | None] = SimpleQueue()
        call = Thread(target=self._call, args=(notification, answer, slot), name=f"regrow-{self._name}", daemon=True)
        try:
            call.start()
        except RuntimeError as error:  # no threads left, or Python is ending
            slot.release()
            raise DeliveryError(f"channel {self._name!r} cannot be called: {error}") from error
        try:
            refusal = answer.get(timeout=self._timeout)
        except Empty:
            raise DeliveryError(f"channel {self._name!r} did not return within {self._timeout:g} s") from None
        if refusal is not None:
            raise refusal

    def _call(self, notification: dict[str, Any], answer: SimpleQueue[DeliveryError | None], slot: Lock) -> None:
        refusal = None
        try:
            _refuse_awaitable(self._function(notification))
        except BaseException as error:  # SystemExit, too, ends only this call
            # Its text is made here: a `__str__` that hangs must not hang the dispatcher.
            text = text_of(error, _TEXT_LIMIT)
            why = f"{type(error).__name__}: {text}" if text else type(error).__name__
            refusal = DeliveryError(f"channel {self._name!r}: {why}", permanent=read(error, "permanent") is True)
        finally:
            slot.release()  # first, so that the channel is free when `send` returns
        answer.put(refusal)


def _plain(message: Message) -> dict[str, Any]:
    """What the function is given: nobody else has it, so it may do with it what it likes."""
    if message.audience is Audience.MACHINE:
        event: dict[str, Any] = json.loads(message.body)
        return event
    return {
        "key": message.key,
        "audience": str(message.audience),
        "category": message.category,
        "priority": message.priority,
        "title": message.title,
        "body": message.body,
        "task_id": message.task_id,
        "task_name": message.task_name,
        "task_type": type_of(message.task_name),
        "user_id": message.user_id,
    }


def _check(name: str, function: object) -> None:
    if not callable(function):
        raise SettingsError(
            f"channel {name!r}: {type(function).__name__} cannot be called; give a function that takes a dict"
        )
    for kind in (inspect.iscoroutinefunction, inspect.isasyncgenfunction, inspect.isgeneratorfunction):
        if kind(function) or kind(type(function).__call__):
            raise SettingsError(
                f"channel {name!r}: calling an `async` function or a generator only makes an object and does nothing; "
                "give a plain function, for example one that calls asyncio.run(...)"
            )


def _refuse_awaitable(result: object) -> None:
    """A lambda may hide an `async` function: what it returns was never run."""
    if inspect.isawaitable(result):
        if inspect.iscoroutine(result):
            result.close()
        raise TypeError("it returned an awaitable, so nothing was done; give a plain function")
