"""`regrow run`: does what is due, again and again, until it is told to stop. Any number of them share the work."""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any
from uuid import uuid4

from regrow.adapters.spool import Spool
from regrow.errors import LedgerError
from regrow.model import DISPATCHER, Left, Member, Tick
from regrow.oversight import Emptying, Oversight, empty

log = logging.getLogger("regrow")

#: Rest after the ledger could not be reached, growing to the longest: a database that comes back must not be stormed.
FIRST_REST_SECONDS = 1.0
LONGEST_REST_SECONDS = 30.0

#: How often thresholds are looked at.
WATCH_SECONDS = 60.0


class Stop:
    """Set by a signal's handler, which runs in the thread that waits.

    Not an Event: its lock cannot be taken twice, so a signal that comes while `wait` holds it would hang us for ever.
    `SimpleQueue.put` may be called at any moment.
    """

    def __init__(self) -> None:
        self._told: SimpleQueue[None] = SimpleQueue()
        self.is_set = False

    def set(self) -> None:
        """Say it."""
        self.is_set = True
        self._told.put(None)

    def wait(self, seconds: float) -> None:
        """Rest, but no longer than until it is said."""
        with suppress(Empty):
            self._told.get(timeout=seconds)


def run(
    live: Callable[[], Oversight],
    *,
    tick_seconds: float,
    alive: Callable[[], bool] = lambda: True,
    spool: Spool | None = None,
) -> int:
    """Act until SIGTERM or SIGINT; the batch in hand is finished first.

    Args:
        live: Gives the pipeline, with the settings as they are now.
        tick_seconds: Rest between two looks when nothing more is due.
        alive: Asked once a tick; False ends the loop (a worker's child ends with its worker).
        spool: What waits on this machine's disk; it is handed to the ledger.

    Returns:
        The exit code, 0.
    """
    stop = Stop()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    log.info("regrow dispatcher %d started", os.getpid())
    rest, watch_at = FIRST_REST_SECONDS, 0.0
    pulse = Pulse(spool)
    while not stop.is_set and alive():
        try:
            regrow = live()
            pulse.beat(regrow)
            tick = regrow.act()
            if spool is not None and spool.waiting():
                spool.replay(regrow.handle)
            if monotonic() >= watch_at:
                regrow.watch()
                watch_at = monotonic() + WATCH_SECONDS
        except Exception as error:
            # The ledger is away, or a plug-in broke: whatever it is, tasks wait for this process.
            log.error(
                "regrow dispatcher: %s; next try in %.0f s", error, rest, exc_info=not isinstance(error, LedgerError)
            )
            stop.wait(rest)
            rest = min(rest * 2, LONGEST_REST_SECONDS)
            continue
        rest = FIRST_REST_SECONDS
        if tick != Tick(more=tick.more):
            log.info("regrow dispatcher: %s", tick)
        if not tick.more:
            stop.wait(tick_seconds)
    pulse.stop(live)
    log.info("regrow dispatcher %d stopped", os.getpid())
    return 0


def drain(
    live: Callable[[], Oversight], wish: Emptying, spool: Spool, tell: Callable[[Left], object]
) -> tuple[datetime, Left, int]:
    """Empty the ledger (`oversight.empty`) until SIGTERM or SIGINT; a second one does not wait for the round in hand.

    Returns:
        When it began, what is left, and the signal that has stopped it, 0 if none has.
    """
    stop = Stop()
    told: list[int] = []
    before: dict[int, Any] = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def on_signal(number: int, _frame: object) -> None:
        told.append(number)
        signal.signal(number, before[number])
        stop.set()

    def rest(seconds: float) -> bool:
        if not stop.is_set and seconds:
            stop.wait(seconds)
        return stop.is_set

    for number in before:
        signal.signal(number, on_signal)
    pulse = Pulse(spool)
    try:
        since, left = empty(live, wish, spool, beat=pulse.beat, tell=tell, rest=rest)
    finally:
        pulse.stop(live)
        for number, handler in before.items():
            signal.signal(number, handler)
    return since, left, told[0] if told else 0


class Pulse:
    """A dispatcher's sign of life; with it goes the look for workers that give none.

    Args:
        spool: What waits on this machine's disk.
    """

    def __init__(self, spool: Spool | None) -> None:
        self._spool = spool
        self._boot = uuid4().hex
        self._started_at: datetime | None = None
        self._skew = 0.0
        self._at = 0.0
        self._last = self._streak = float("-inf")

    def beat(self, regrow: Oversight) -> None:
        """Give a sign of life if it is time for one."""
        if monotonic() < self._at:
            return
        now, lease = regrow.clock(), regrow.lease.run.total_seconds()
        self._started_at = self._started_at or now
        size = self._spool.size() if self._spool is not None else 0
        one = Member(
            self._boot, DISPATCHER, socket.gethostname(), os.getpid(), self._started_at, now, (), self._skew, size
        )
        self._skew = regrow.store.beat(one)
        beat_at = monotonic()
        if beat_at - self._last > lease:
            self._streak = beat_at
        self._last, self._at = beat_at, beat_at + lease / 3
        # A ledger that was away has heard nobody: others need as long as we had to be heard again.
        if beat_at - self._streak >= lease:
            regrow.find_orphans(skew_seconds=self._skew)

    def stop(self, live: Callable[[], Oversight]) -> None:
        """Say good-bye."""
        try:
            live().store.gone(self._boot)
        except Exception as error:  # then its silence tells
            log.warning("regrow cannot say that this dispatcher stops: %s", error)
