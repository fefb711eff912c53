"""Counts the tasks that a process runs, and writes the count to the ledger once a minute (G18)."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from datetime import datetime
from threading import Lock, Thread
from time import sleep

from regrow.ports import Clock

log = logging.getLogger("regrow")

FLUSH_SECONDS = 60.0


class Meter:
    """Counts in memory; a thread of each process writes (`Store.counted`).

    Args:
        write: Writes a count: the minute, runs, failed runs.
        clock: Tells the time.
    """

    def __init__(self, write: Callable[[datetime, int, int], None], clock: Clock) -> None:
        self._write = write
        self._clock = clock
        self._reset()

    def _reset(self) -> None:
        self._lock = Lock()
        self._runs = self._failed = 0
        self._pid = os.getpid()
        self._thread: Thread | None = None

    def count(self, *, failed: bool) -> None:
        """A task has run."""
        if self._pid != os.getpid():  # a forked child counts for itself
            self._reset()
        with self._lock:
            self._runs += 1
            self._failed += failed
            if self._thread is None:
                self._thread = Thread(target=self._flush_for_ever, name="regrow-meter", daemon=True)
                self._thread.start()

    def flush(self) -> None:
        """Write what was counted; what the ledger does not take is written with the next minute."""
        if self._pid != os.getpid():
            return
        with self._lock:
            runs, failed, self._runs, self._failed = self._runs, self._failed, 0, 0
        if not runs:
            return
        try:
            self._write(self._clock().replace(second=0, microsecond=0), runs, failed)
        except Exception as error:  # a count must harm nobody
            log.warning("regrow cannot write how many tasks ran: %s", error)
            with self._lock:
                self._runs, self._failed = self._runs + runs, self._failed + failed

    def _flush_for_ever(self) -> None:
        while True:
            sleep(FLUSH_SECONDS)
            self.flush()
