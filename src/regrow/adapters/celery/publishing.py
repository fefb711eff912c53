"""Publishes kept calls: to Redis in pipelines, to RabbitMQ with one wait for all answers, elsewhere one by one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar
from uuid import uuid4

from celery import Celery
from celery._state import _set_task_join_will_block, task_join_will_block
from celery.canvas import Signature
from celery.exceptions import CeleryError
from kombu.connection import Connection
from kombu.exceptions import OperationalError

from regrow.adapters.celery import envelope
from regrow.adapters.celery.letters import Letter, Letters, Road
from regrow.capture.clean import text_of
from regrow.errors import DispatchError
from regrow.model import Due, Header

#: After this many refusals in a row the rest of the batch is not tried: each try may cost a time-out.
BROKER_IS_DOWN = 3

#: A broker that has us wait for so long counts as gone.
SILENCE_SECONDS = 10.0

_encode = json.JSONEncoder().encode

Refusals = dict[int, DispatchError]


class Publisher:
    """Publishes through a connection of its own, opened when it is needed, and anew in each process.

    Args:
        app: The Celery application whose broker is used.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._letters = Letters(app)
        self._line: _Line | None = None
        self._pid = 0

    def publish(self, calls: Sequence[tuple[Due, Header]]) -> Refusals:
        """Publish these calls under their own task ids; return why some were not taken, by failure."""
        refused: Refusals = {}
        letters: list[Letter] = []
        others: list[tuple[int, Signature, Header]] = []
        kind = self._kind if calls else None
        able = kind is not None and self._letters.able()
        for due, header in calls:
            try:
                call, expires = envelope.unpack(due)
                header = replace(header, expires=expires)  # noqa: PLW2901
                letter = self._letters.letter(due, call, header) if able else None
                if letter is not None:
                    letters.append(letter)
                else:
                    others.append((due.failure, Signature.from_dict(call, app=self._app), header))
            except DispatchError as error:
                refused[due.failure] = error
            except Exception as error:  # a call that no longer fits the task
                refused[due.failure] = DispatchError(f"{type(error).__name__}: {error}", permanent=True)
        if kind is not None:
            refused |= self._in_one_go(kind, letters)
        return refused | self._one_by_one(others)

    def close(self) -> None:
        """Close the connection; the next use opens a new one."""
        line, self._line = self._line, None
        if line is not None and self._pid == os.getpid():
            line.close()

    # -- in one go --------------------------------------------------------------------------------------------------

    def _in_one_go(self, kind: type[_Line], letters: Sequence[Letter]) -> Refusals:
        left = list(letters)
        # A connection that has been at rest may be dead without anybody's having noticed: tried once more, anew. What
        # got through the first time comes twice then, and the start check drops the second copy.
        tries = 1 if self._line is None else 2
        why = DispatchError("")
        while left and tries:
            tries -= 1
            try:
                return self._opened(kind).send(left)
            except Exception as error:  # each transport raises what its driver raises
                why = DispatchError(f"the broker did not take it: {text_of(error, 500)}")
                sent = self._line.taken if self._line is not None else set()
                self.close()
                left = [one for one in left if one.failure not in sent]
        return {one.failure: why for one in left}

    def _opened(self, kind: type[_Line]) -> _Line:
        if self._pid != os.getpid():  # never a connection of the process that forked us
            self._line, self._pid = None, os.getpid()
        if self._line is None:
            self._line = kind(self._app.connection_for_write(heartbeat=0))
        return self._line

    @cached_property
    def _kind(self) -> type[_Line] | None:
        """Who can publish to this broker in one go; None: nobody."""
        transport = self._app.connection_for_write().transport
        name = f"{type(transport).__module__}.{type(transport).__name__}"
        return {"kombu.transport.redis.Transport": _Redis, "kombu.transport.pyamqp.Transport": _Amqp}.get(name)

    # -- through Celery ---------------------------------------------------------------------------------------------

    def _one_by_one(self, calls: Sequence[tuple[int, Signature, Header]]) -> Refusals:
        refused: Refusals = {}
        refusals = 0
        why = DispatchError("")
        for failure, signature, header in calls:
            if refusals >= BROKER_IS_DOWN:
                refused[failure] = why
                continue
            try:
                options = signature.options
                more: dict[str, Any] = {"headers": envelope.stamped(options.get("headers"), header)}
                if options.get("exchange") and not options.get("queue"):
                    more["declare"] = [*self._letters.bound_to(options["exchange"])] or None
                with _nobody_waits():
                    signature.apply_async(**more)
                refusals = 0
            except (OperationalError, OSError, CeleryError) as error:
                why = refused[failure] = DispatchError(f"the broker did not take it: {error}")
                refusals += 1
            except Exception as error:  # a call that no longer fits the task, or a user's publish hook
                refused[failure] = DispatchError(f"{type(error).__name__}: {error}", permanent=True)
        return refused


@contextmanager
def _nobody_waits() -> Iterator[None]:
    """Keep result backends from listening for the ends of what is sent: whoever waits for it listens elsewhere."""
    before = task_join_will_block()
    _set_task_join_will_block(True)
    try:
        yield
    finally:
        _set_task_join_will_block(before)


class _Line:
    """An open way to a broker.

    Args:
        connection: To the broker.

    Attributes:
        taken: Failures whose letters the broker has taken, of the last call of `send`.
    """

    #: Without a limit a server that has gone silent would hold the dispatcher for ever.
    limits: ClassVar[Mapping[str, float]]

    def __init__(self, connection: Connection) -> None:
        connection.transport_options = {**self.limits, **(connection.transport_options or {})}
        self._connection = connection
        self._declared: set[Road] = set()
        self.taken: set[int] = set()
        self._reopen()

    def close(self) -> None:
        """Close the connection."""
        with suppress(Exception):  # it may be what has failed
            self._connection.release()

    def send(self, letters: Sequence[Letter]) -> Refusals:
        """Hand letters to the broker; return why some were not taken, by failure.

        Raises:
            Exception: What the driver raises when the connection is lost; `taken` says what had been taken by then.
        """
        raise NotImplementedError

    def _reopen(self) -> None:
        self._declared.clear()
        self._channel: Any = self._connection.default_channel

    def _declare(self, road: Road) -> None:
        if road not in self._declared:
            for entity in road.declare:
                entity(self._channel).declare()
            self._declared.add(road)


class _Redis(_Line):
    """Redis: lists, filled in pipelines."""

    limits: ClassVar = {"socket_timeout": SILENCE_SECONDS}

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._queues: dict[Road, Sequence[str]] = {}

    def send(self, letters: Sequence[Letter]) -> Refusals:
        """Put letters on the lists that are their queues."""
        self.taken = set()
        for letter in letters:
            self._find_queues(letter.road)
        channel = self._channel
        owners: list[int] = []
        with channel.conn_or_acquire() as client, client.pipeline(transaction=False) as pipe:
            for letter in letters:
                message = self._message(letter)
                priority = channel._get_message_priority(message, reverse=False)  # noqa: SLF001
                text = _encode(message)
                for queue in self._queues[letter.road]:
                    pipe.lpush(channel._q_for_pri(queue, priority), text)  # noqa: SLF001
                    owners.append(letter.failure)
            answers = pipe.execute(raise_on_error=False)
        refused = {
            owner: DispatchError(f"Redis did not take it: {answer}")
            for owner, answer in zip(owners, answers, strict=True)
            if isinstance(answer, Exception)
        }
        self.taken = set(owners) - refused.keys()
        lost = DispatchError("no queue is bound to its exchange under its routing key", permanent=True)
        return refused | {one.failure: lost for one in letters if not self._queues[one.road]}

    def _find_queues(self, road: Road) -> None:
        if road not in self._queues:
            self._declare(road)
            channel = self._channel
            if road.exchange:
                table = channel.get_table(road.exchange)
                found = channel.typeof(road.exchange).lookup(table, road.exchange, road.routing_key, None)
                self._queues[road] = sorted(found or ())
            else:
                self._queues[road] = [road.routing_key]

    def _message(self, letter: Letter) -> dict[str, Any]:
        """As `kombu.transport.virtual.Channel` makes it (`prepare_message`, `_inplace_augment_message`)."""
        channel, road, properties = self._channel, letter.road, letter.properties
        body, encoding = channel.encode_body(letter.body, channel.body_encoding)
        priority = properties.get("priority")
        return {
            "body": body,
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": letter.headers,
            "properties": {
                **properties,
                "priority": channel.default_priority if priority is None else priority,
                "delivery_mode": road.delivery_mode,
                "delivery_info": {"exchange": road.exchange, "routing_key": road.routing_key},
                "body_encoding": encoding,
                "delivery_tag": str(uuid4()),
            },
        }


class _Amqp(_Line):
    """RabbitMQ: every message is confirmed, but nobody waits for each one of them."""

    limits: ClassVar = {"read_timeout": SILENCE_SECONDS, "write_timeout": SILENCE_SECONDS}

    def __init__(self, connection: Connection) -> None:
        self._waiting: dict[int, Letter] = {}
        self._refused: Refusals = {}
        super().__init__(connection)

    def _reopen(self) -> None:
        super()._reopen()
        self._published = 0
        self._channel.confirm_select()
        self._channel.events["basic_ack"].add(self._acked)
        self._channel.events["basic_nack"].add(self._nacked)
        self._channel.events["basic_return"].add(self._returned)

    def send(self, letters: Sequence[Letter]) -> Refusals:
        """Publish letters and wait until the broker has said of each what became of it."""
        self.taken, self._refused, self._waiting = set(), {}, {}
        try:
            for letter in letters:
                self._declare(letter.road)
            for letter in letters:
                self._publish(letter)
            while self._waiting:
                self._connection.drain_events(timeout=SILENCE_SECONDS)
        except self._connection.channel_errors as error:
            return self._refused | self._apart(letters, error)
        return self._refused

    def _apart(self, letters: Sequence[Letter], error: Exception) -> Refusals:
        """The broker has closed the channel over one letter: find it, and send the others."""
        left = [one for one in letters if one.failure not in self.taken and one.failure not in self._refused]
        taken, refused = self.taken, self._refused
        self._reopen()
        if len(left) == 1:
            refused = refused | {left[0].failure: DispatchError(f"RabbitMQ did not take it: {error}", permanent=True)}
        else:
            for half in (left[: len(left) // 2], left[len(left) // 2 :]):
                refused = refused | self.send(half)
                taken = taken | self.taken
        self.taken = taken
        return refused

    def _publish(self, letter: Letter) -> None:
        channel, road, properties = self._channel, letter.road, dict(letter.properties)
        priority = properties.pop("priority", 0)
        message = channel.prepare_message(
            letter.body,
            priority=priority,
            content_type="application/json",
            content_encoding="utf-8",
            headers=letter.headers,
            properties={**properties, "delivery_mode": road.delivery_mode},
        )
        self._published += 1
        self._waiting[self._published] = letter
        # Mandatory: without a queue for it the broker would drop it, and confirm that.
        channel._basic_publish(  # noqa: SLF001
            message, exchange=road.exchange, routing_key=road.routing_key, mandatory=True, timeout=SILENCE_SECONDS
        )

    def _acked(self, tag: int, multiple: bool) -> None:  # noqa: FBT001  # py-amqp calls it so
        for letter in self._settled(tag, multiple):
            if letter.failure not in self._refused:
                self.taken.add(letter.failure)

    def _nacked(self, tag: int, multiple: bool) -> None:  # noqa: FBT001  # py-amqp calls it so
        for letter in self._settled(tag, multiple):
            self._refused[letter.failure] = DispatchError("RabbitMQ did not take it: basic.nack")

    def _settled(self, tag: int, multiple: bool) -> list[Letter]:  # noqa: FBT001
        tags = [one for one in self._waiting if one <= tag] if multiple else [tag]
        return [self._waiting.pop(one) for one in tags if one in self._waiting]

    def _returned(self, error: Exception, exchange: str, routing_key: str, message: Any) -> None:
        """It cannot be routed; the broker says so before it confirms it."""
        ours = message.properties.get("application_headers", {}).get(envelope.HEADER, {})
        why = f"RabbitMQ has no queue for it: exchange {exchange!r}, routing key {routing_key!r}: {error}"
        self._refused[ours.get("failure")] = DispatchError(why, permanent=True)
