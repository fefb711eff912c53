"""Signs of life: while retries run in this process, a thread renews their leases, so that silence means death."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from threading import Event, Lock, Thread

from regrow.model import Header

log = logging.getLogger("regrow")


class KeepAlive:
    """Renews the leases of the attempts that run in this process.

    Args:
        renew: Tells the ledger that these attempts are alive.
        interval_seconds: How often.
    """

    def __init__(self, renew: Callable[[Sequence[Header]], None], interval_seconds: float) -> None:
        self._renew = renew
        self._interval = interval_seconds
        self._running: dict[str, Header] = {}
        self._lock = Lock()
        self._thread: Thread | None = None
        self._pid = 0

    def add(self, header: Header) -> None:
        """An attempt has begun."""
        if self._pid != os.getpid():  # a forked child inherits neither its parent's thread nor its attempts
            self._running, self._lock, self._thread, self._pid = {}, Lock(), None, os.getpid()
        with self._lock:
            self._running[_key(header)] = header
            if self._thread is None or not self._thread.is_alive():
                self._thread = Thread(target=self._run, name="regrow-keepalive", daemon=True)
                self._thread.start()

    def remove(self, header: Header) -> None:
        """An attempt has ended."""
        with self._lock:
            self._running.pop(_key(header), None)

    def _run(self) -> None:
        while True:
            Event().wait(self._interval)
            with self._lock:
                headers = list(self._running.values())
                if not headers:
                    self._thread = None
                    return
            try:
                self._renew(headers)
            except Exception as error:
                log.warning("regrow could not renew the leases of %d running retries: %s", len(headers), error)


def _key(header: Header) -> str:
    return f"{header.failure}:{header.token}"
