"""A thread of a worker's process: signs of life, and what must not be waited for.

The main loop of a worker takes messages from the broker and hears of children that died. It must never wait for the
ledger, so it leaves facts in the spool, on this machine's disk, and a moment later this thread hands them in. What the
disk does not take waits in memory; in a pool's child the thread starts only then.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from functools import partial
from queue import Empty, Full, Queue
from threading import Event, Thread
from time import monotonic

from regrow.adapters.spool import Spool
from regrow.capture.clean import display
from regrow.errors import LedgerError, SpoolError
from regrow.model import Failure, Member
from regrow.oversight import Oversight

log = logging.getLogger("regrow")

#: How often it looks whether there is something in the spool; what it is told is done at once.
LOOK_SECONDS = 1.0

#: Rest after the ledger could not be reached.
REST_SECONDS = 5.0

#: Things told and not yet done that are kept in memory; with more the ledger has been away for long.
LIMIT = 10_000

Deed = Callable[[Oversight], object]


def _wake(_regrow: Oversight) -> None:
    """Nothing to do but to look into the spool."""


def _lost(failure: Failure) -> None:
    what = display(failure.causes[0])
    log.critical("regrow has lost the facts of task %s[%s]: %s", failure.task_name, failure.task_id, what)


class Caretaker:
    """Does in the background what a worker's process has to tell the ledger.

    Args:
        live: Gives the pipeline, with the settings as they are now.
        spool: Where facts wait while the ledger is away.
        sign: Describes the worker, for its sign of life, given its clock's skew and the size of the spool.
    """

    def __init__(self, live: Callable[[], Oversight], spool: Spool, sign: Callable[[float, int], Member]) -> None:
        self._live = live
        self._spool = spool
        self._sign = sign
        self._main = os.getpid()
        self._skew = 0.0
        self._beat_at = 0.0
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._told: Queue[Deed] = Queue(LIMIT)
        self._in_hand: Deed | None = None
        self._stopping = Event()
        self._thread: Thread | None = None

    def _here(self) -> None:
        if self._pid != os.getpid():  # a fork inherits neither the thread nor what it was told
            self._reset()

    def start(self) -> None:
        """Begin."""
        self._here()
        if self._thread is None:
            self._thread = Thread(target=self._run, name="regrow-caretaker", daemon=True)
            self._thread.start()

    def stop(self, patience_seconds: float) -> None:
        """Do what is left, as far as that is quick; the main process says good-bye to the ledger."""
        self._here()
        if self._thread is not None:
            self._stopping.set()
            self.tell(_wake)
            self._thread.join(patience_seconds)
            self._save()
        if self._pid == self._main:
            try:
                self._live().store.gone(self._sign(0, 0).boot)
            except Exception as error:  # then its silence tells
                log.warning("regrow cannot say that this worker stops: %s", error)

    def keep(self, failure: Failure, or_else: Failure | None = None) -> bool:
        """Have the ledger take a failure later; never waits for it, and never raises.

        Args:
            failure: What happened.
            or_else: What is to be recorded instead, if the facts must wait in memory.

        Returns:
            True if the facts are on the disk until then.
        """
        self._here()
        try:
            self._spool.put(failure)
        except SpoolError as problem:
            log.error("regrow: %s; the facts of task %s wait in memory", problem, failure.task_id)
            self._remember(or_else or failure)
            return False
        if self._pid == self._main:  # a child's main process finds them by itself
            self.tell(_wake)
        return True

    def _remember(self, failure: Failure) -> None:
        def take_in(regrow: Oversight) -> None:
            regrow.handle([failure])

        take_in.failure = failure  # type: ignore[attr-defined]
        try:
            self.later(take_in)
        except Full:
            _lost(failure)

    def later(self, deed: Deed) -> None:
        """Have something done soon, in whatever process this is.

        Raises:
            queue.Full: Too much waits in memory: the ledger has been away for long.
        """
        self.tell(deed)
        try:
            self.start()
        except RuntimeError as problem:  # no more threads, or the interpreter is going down
            log.error("regrow: what waits in memory waits on: %s", problem)

    def tell(self, deed: Deed) -> None:
        """Have something done soon; never waits.

        Raises:
            queue.Full: Too much waits in memory: the ledger has been away for long.
        """
        self._here()
        try:
            self._told.put_nowait(deed)
        except Full:
            if deed is not _wake:
                raise

    def _save(self) -> None:
        """What is still in memory goes to the disk if that has room now, or into the log."""
        left = [self._in_hand] if self._in_hand is not None else []
        while True:
            try:
                left.append(self._told.get_nowait())
            except Empty:
                break
        for failure in (getattr(deed, "failure", None) for deed in left):
            if failure is not None:
                try:
                    self._spool.put(failure)
                except SpoolError:
                    _lost(failure)

    def _run(self) -> None:
        while True:
            stopping = self._stopping.is_set()
            try:
                self._work()
                self._do_told(self._live(), wait_seconds=0 if stopping else LOOK_SECONDS)
            except Exception as error:
                log.error("regrow: %s", error, exc_info=not isinstance(error, LedgerError))
                self._stopping.wait(REST_SECONDS)
            if stopping:
                return

    def _work(self) -> None:
        if self._pid != self._main:
            return
        regrow = self._live()
        self.beat(regrow)
        if self._spool.waiting():
            taken = self._spool.replay(partial(self._take, regrow))
            if taken:
                log.info("regrow: the ledger has taken %d failures from the spool", taken)

    def beat(self, regrow: Oversight) -> None:
        """Give a sign of life if it is time for one."""
        if monotonic() >= self._beat_at:
            self._skew = regrow.store.beat(self._sign(self._skew, self._spool.size()))
            regrow.listen()  # this process decides about killed children, and must not wait for the ledger then
            self._beat_at = monotonic() + regrow.lease.run.total_seconds() / 3

    def _take(self, regrow: Oversight, failures: Sequence[Failure]) -> None:
        regrow.handle(failures)
        self.beat(regrow)  # a long replay is no death

    def _do_told(self, regrow: Oversight, *, wait_seconds: float) -> None:
        """Do what was told; wait a little for something if nothing was. What fails stays in hand."""
        while True:
            if self._in_hand is None:
                try:
                    self._in_hand = self._told.get(timeout=wait_seconds)
                except Empty:
                    return
            try:
                self._in_hand(regrow)
            except Exception as error:
                if isinstance(error, LedgerError) and not error.permanent:
                    raise
                # It would fail for ever, and everything behind it would wait.
                log.exception("regrow could not do what it was told")
            self._in_hand = None
            wait_seconds = 0
