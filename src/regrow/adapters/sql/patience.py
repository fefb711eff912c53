"""An end to waiting for a PostgreSQL server that takes the connection's bytes and never answers.

libpq knows no time-out for that: a server that is frozen, with its host alive, acknowledges all that TCP asks.
Source: https://www.postgresql.org/docs/current/libpq-connect.html, `tcp_user_timeout`, which sees only lost packets.
"""

from __future__ import annotations

from collections.abc import Generator
from time import monotonic
from typing import Any

import psycopg
from sqlalchemy import Engine, event


def listen_patiently(engine: Engine, seconds: float) -> None:
    """Let every connection of the engine give up a statement that the server has not answered for so long."""

    class Patient(psycopg.Connection[Any]):
        """A connection that does not wait for ever."""

        def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
            """Wait for an answer."""
            try:
                return super().wait(_bounded(gen, seconds), *args, **kwargs)
            except TimeoutError:
                self.close()  # what it may still answer belongs to nobody
                raise psycopg.OperationalError(f"the server has not answered for {seconds:g} s") from None

    def connect(_dialect: object, _record: object, args: Any, parameters: Any) -> Any:
        return Patient.connect(*args, **parameters)

    event.listen(engine, "do_connect", connect)


def _bounded(gen: Generator[Any, Any, Any], seconds: float) -> Generator[Any, Any, Any]:
    """Pass on what `gen` waits for, and what it gets; psycopg says at least every tenth of a second that nothing came.

    Raises:
        TimeoutError: Nothing came for `seconds`.
    """
    until = monotonic() + seconds
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if ready:
                until = monotonic() + seconds
            elif monotonic() >= until:
                raise TimeoutError
            wanted = gen.send(ready)
    except StopIteration as end:
        return end.value
