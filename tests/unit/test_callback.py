"""A user's own function as a channel: whatever it does, only its own messages wait for it."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from threading import Event
from typing import Any

import pytest

from regrow.adapters.channels.callback import Callback
from regrow.errors import DeliveryError, SettingsError
from regrow.model import Audience
from regrow.testing import a_message

#: Longer than any call that returns, on however busy a machine.
LONG = 60.0
#: For calls that never return in time.
SHORT = 0.05


def threads(name: str) -> int:
    """How many threads a channel has."""
    return sum(one.name == f"regrow-{name}" for one in threading.enumerate())


@pytest.fixture
def gate() -> Iterator[Event]:
    """Opened at the latest at the end, so that no thread outlives its test."""
    event = Event()
    yield event
    event.set()


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that comes soon."""
    for _ in range(1000):
        if condition():
            return
        Event().wait(0.01)
    raise AssertionError("it did not come")


# -- what the function gets --------------------------------------------------------------------------------------------


def test_people_messages_come_as_the_notification() -> None:
    """A message to a person comes with all that the guide's channels need, as plain values."""
    got: list[dict[str, Any]] = []
    Callback("mail", got.append, LONG).send(a_message("k", audience=Audience.USER, user_id="42"))
    assert got == [
        {
            "key": "k",
            "audience": "user",
            "category": "recoverable_network",
            "priority": "high",
            "title": "A title",
            "body": "A body",
            "task_id": "task-0",
            "task_name": "shop.tasks.pay",
            "task_type": "pay",
            "user_id": "42",
        }
    ]
    assert {type(value) for value in got[0].values()} == {str}


def test_events_come_as_the_event_itself() -> None:
    """A message for machines is JSON, and the function gets what it says."""
    event = {"event": "failure", "attempt": 2, "confidence": 0.9, "error_message": "断开连接"}
    got: list[Any] = []
    Callback("apm", got.append, LONG).send(a_message("k", audience=Audience.MACHINE, body=json.dumps(event)))
    assert got == [event]


def test_each_call_has_a_dict_of_its_own() -> None:
    """A function that changes what it got harms neither the next call nor the message."""
    got: list[dict[str, Any]] = []

    def spoil(notification: dict[str, Any]) -> None:
        got.append(dict(notification))
        notification.clear()

    message = a_message("k")
    channel = Callback("x", spoil, LONG)
    channel.send(message)
    channel.send(message)
    assert got[0] == got[1]
    assert got[0]["title"] == "A title"


def test_the_result_does_not_matter() -> None:
    """Whatever the function returns, also False, it has taken the message by returning."""
    for result in (None, False, object(), [1]):
        Callback("x", lambda _, result=result: result, LONG).send(a_message("k"))


def test_methods_classes_and_partials_are_functions() -> None:
    """Anything that can be called can be a channel."""

    class Mailer:
        sent: list[str] = []

        def __call__(self, notification: dict[str, Any]) -> None:
            self.sent.append(notification["key"])

        def method(self, notification: dict[str, Any], mark: str = "") -> None:
            self.sent.append(notification["key"] + mark)

    mailer = Mailer()
    for function in (mailer, mailer.method, partial(mailer.method, mark="!"), dict):
        Callback("x", function, LONG).send(a_message("k"))
    assert Mailer.sent == ["k", "k", "k!"]


# -- what it may not be ------------------------------------------------------------------------------------------------


async def coroutine(notification: Any) -> None:
    """Would do nothing when called."""


async def async_generator(notification: Any) -> Any:
    """Would do nothing when called."""
    yield notification


def generator(notification: Any) -> Any:
    """Would do nothing when called."""
    yield notification


class AsyncCall:
    """Would do nothing when called."""

    async def __call__(self, notification: Any) -> None: ...


@pytest.mark.parametrize(
    "function", [coroutine, partial(coroutine), AsyncCall(), AsyncCall().__call__, async_generator, generator]
)
def test_functions_that_do_nothing_when_called_are_refused(function: Any) -> None:
    """An `async` function is refused where the channel is made, with a way out."""
    with pytest.raises(SettingsError, match=r"channel 'mail': .*asyncio\.run"):
        Callback("mail", function, LONG)
    Callback("mail", lambda notification: asyncio.run(coroutine(notification)), LONG).send(a_message("k"))


@pytest.mark.parametrize("function", ["send_email", None, 1, {}])
def test_what_cannot_be_called_is_refused(function: Any) -> None:
    """What is no function is refused where the channel is made, by what it is."""
    with pytest.raises(SettingsError, match=f"channel 'mail': {type(function).__name__} cannot be called"):
        Callback("mail", function, LONG)


def test_a_hidden_coroutine_is_not_a_delivery() -> None:
    """A lambda that only makes a coroutine has sent nothing, and the administrator hears so."""
    with pytest.raises(DeliveryError, match="awaitable"):
        Callback("mail", lambda notification: coroutine(notification), LONG).send(a_message("k"))


# -- raising -----------------------------------------------------------------------------------------------------------


def raising(error: BaseException) -> Callable[[Any], None]:
    """A function that raises."""

    def function(_: Any) -> None:
        raise error

    return function


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no such user"),
        TimeoutError("no answer"),
        SystemExit(3),
        KeyboardInterrupt("^C"),
        GeneratorExit("x"),
        BaseExceptionGroup("two", [KeyboardInterrupt(), ValueError()]),
        DeliveryError("from inside"),
    ],
)
def test_whatever_it_raises_is_a_delivery_error(error: BaseException) -> None:
    """Any error, also one that would end a program, only says that the message was not taken; the next one may be."""
    refuse = [True]

    def function(_: Any) -> None:
        if refuse:
            refuse.clear()
            raise error

    channel = Callback("mail", function, LONG)
    with pytest.raises(DeliveryError) as caught:
        channel.send(a_message("k"))
    assert str(caught.value) == f"channel 'mail': {type(error).__name__}: {error}"
    assert not caught.value.permanent
    channel.send(a_message("k"))


class Odd(Exception):
    """An error whose every part is odd."""

    def __init__(self, permanent: Any) -> None:
        super().__init__("odd")
        self.permanent = permanent


class Hostile(BaseException):
    """An error that raises when it is looked at."""

    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __str__

    @property
    def permanent(self) -> bool:
        raise RuntimeError


@pytest.mark.parametrize(
    ("error", "permanent"),
    [
        (Odd(True), True),
        (Odd(1), False),
        (Odd("yes"), False),
        (Odd(None), False),
        (DeliveryError("address rejected", permanent=True), True),
        (Hostile(), False),
    ],
)
def test_permanent_is_passed_on(error: BaseException, permanent: bool) -> None:
    """Only an error whose `permanent` is True itself stops the tries."""
    with pytest.raises(DeliveryError) as caught:
        Callback("mail", raising(error), LONG).send(a_message("k"))
    assert caught.value.permanent is permanent
    assert type(error).__name__ in str(caught.value)


def test_long_and_dirty_texts_are_cut_and_cleaned() -> None:
    """An error's text can always be stored."""
    with pytest.raises(DeliveryError) as caught:
        Callback("mail", raising(ValueError("\0\ud800" + "x" * 100_000)), LONG).send(a_message("k"))
    text = str(caught.value)
    assert len(text) < 1000
    assert "\0" not in text
    text.encode()


# -- hanging -----------------------------------------------------------------------------------------------------------


def test_a_call_that_hangs_is_left_behind_once(gate: Event) -> None:
    """A call that does not return is a delivery error; until it does, later ones fail at once and start nothing."""
    calls: list[str] = []

    def hang(notification: dict[str, Any]) -> None:
        calls.append(notification["key"])
        gate.wait()

    channel = Callback("hang", hang, SHORT)
    with pytest.raises(DeliveryError, match=r"channel 'hang' did not return within 0\.05 s") as caught:
        channel.send(a_message("1"))
    assert not caught.value.permanent
    for _ in range(50):
        with pytest.raises(DeliveryError, match="channel 'hang' is busy"):
            channel.send(a_message("2"))
    until(lambda: calls == ["1"])
    assert threads("hang") == 1
    Callback("sms", lambda _: None, LONG).send(a_message("3"))  # another channel is not concerned


@pytest.mark.parametrize("ending", [None, ValueError("late"), SystemExit()])
def test_it_recovers_when_the_hang_ends(gate: Event, ending: BaseException | None) -> None:
    """However the hanging call ends at last, its late answer is nobody's, and the next message goes through."""
    calls: list[str] = []

    def hang(notification: dict[str, Any]) -> None:
        calls.append(notification["key"])
        if notification["key"] == "1":
            gate.wait()
            if ending:
                raise ending

    channel = Callback("late", hang, SHORT)
    with pytest.raises(DeliveryError, match="did not return"):
        channel.send(a_message("1"))
    gate.set()
    until(lambda: not threads("late"))
    channel._timeout = LONG
    channel.send(a_message("2"))
    assert calls == ["1", "2"]


def test_a_second_caller_does_not_wait(gate: Event) -> None:
    """Two threads that send at once never make two calls at once."""
    inside = Event()

    def slow(_: Any) -> None:
        inside.set()
        gate.wait()

    channel = Callback("mail", slow, LONG)
    first = threading.Thread(target=channel.send, args=(a_message("1"),))
    first.start()
    inside.wait()
    with pytest.raises(DeliveryError, match="busy"):
        channel.send(a_message("2"))
    gate.set()
    first.join()
    channel.send(a_message("3"))


def test_a_text_that_hangs_counts_as_a_hang(gate: Event) -> None:
    """Even the error's own text cannot stop the dispatcher."""

    class Slow(Exception):
        def __str__(self) -> str:
            gate.wait()
            return "at last"

    with pytest.raises(DeliveryError, match="did not return"):
        Callback("mail", raising(Slow()), SHORT).send(a_message("k"))


def test_no_thread_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the machine gives no thread, the message waits, and the channel is free again."""
    channel = Callback("mail", lambda _: None, LONG)

    def full(*_: object, **__: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        for name in ("_start_new_thread", "_start_joinable_thread"):  # the second is Python 3.13's
            patch.setattr(threading, name, full, raising=False)
        with pytest.raises(DeliveryError, match="can't start new thread"):
            channel.send(a_message("k"))
    channel.send(a_message("k"))


def test_a_forked_child_starts_free(gate: Event) -> None:
    """A child does not inherit the hang of its parent's channel, of which it has no thread."""
    child = [False]
    channel = Callback("mail", lambda _: child[0] or gate.wait(), SHORT)
    with pytest.raises(DeliveryError, match="did not return"):
        channel.send(a_message("1"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 warns of forks beside threads: just our subject
        pid = os.fork()
    if pid == 0:
        code = 1
        try:
            child[0], channel._timeout = True, LONG
            channel.send(a_message("2"))
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    with pytest.raises(DeliveryError, match="busy"):
        channel.send(a_message("3"))
