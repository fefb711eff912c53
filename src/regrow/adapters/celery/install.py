"""Puts Regrow into a worker: the door before its tasks and, if asked for, a dispatcher beside it.

Nothing happens when the application is imported. A worker that starts sends `worker_init`, when all tasks are known and
nothing has been forked; each pool child sends `worker_process_init`, for tasks that came late.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from time import monotonic, sleep
from typing import Any
from uuid import uuid4

from billiard import Process
from celery import Celery, signals
from celery.app.trace import build_tracer

from regrow.adapters.celery.caretaker import Caretaker
from regrow.adapters.celery.door import Door, ShutDoor
from regrow.adapters.celery.meter import Meter
from regrow.adapters.celery.parent import Parent
from regrow.model import WORKER, Member
from regrow.oversight import Oversight
from regrow.ports import Clock

log = logging.getLogger("regrow")

#: Rest before a dispatcher that died is started again.
RESTART_SECONDS = 5.0


#: How long a worker that stops waits for its caretaker: what is in the spool waits for the next one.
STOP_SECONDS = 5.0


class Sign:
    """Describes a worker, for its signs of life.

    Args:
        app: The application.
        worker: Celery's worker.
        clock: Tells the time.
    """

    def __init__(self, app: Celery, worker: Any, clock: Clock) -> None:
        self.boot = uuid4().hex
        self._app = app
        self._name = str(getattr(worker, "hostname", "") or socket.gethostname())
        self._clock = clock
        self._started_at = clock()

    def __call__(self, skew: float, spooled: int) -> Member:
        """The worker as it is now."""
        queues = tuple(sorted(map(str, self._app.amqp.queues.consume_from)))
        return Member(
            self.boot, WORKER, self._name, os.getpid(), self._started_at, self._clock(), queues, skew, spooled
        )


@dataclass
class Doors:
    """All that stands in one worker.

    Args:
        door: Before its tasks.
        parent: Behind its pool; None in a worker in which Regrow is not active.
        caretaker: Does what the main process must not wait for.
    """

    door: Door
    parent: Parent | None = None
    caretaker: Caretaker | None = None


@dataclass
class Installation:
    """Regrow in one Celery application, as `app.regrow`.

    Args:
        app: The application.
        settings: What was given to `install`, stronger than the environment.
        plugins: What else was given to `install`; `wiring` knows what it is.
        pipeline: Gives the pipeline of this process, with the settings as they are now.
        open_doors: Reads the settings and connects; called when a worker starts, with what describes it.
        run_dispatcher: Runs a dispatcher until told to stop, given a function that says whether to go on.
        dispatcher: True if each worker starts a dispatcher of its own.
    """

    app: Celery
    settings: Mapping[str, Any]
    plugins: Any
    pipeline: Callable[[], Oversight]
    open_doors: Callable[[Sign], Doors]
    run_dispatcher: Callable[[Callable[[], bool]], int]
    dispatcher: bool = False
    doors: Doors | None = None
    meter: Meter | None = None
    _keeper: Process | None = None

    def connect(self) -> None:
        """Listen to the signals of this application's workers."""
        signals.worker_init.connect(self._worker_init, weak=False, dispatch_uid=f"regrow-init-{id(self.app)}")
        signals.worker_process_init.connect(self._hang, weak=False, dispatch_uid=f"regrow-child-{id(self.app)}")
        signals.celeryd_after_setup.connect(
            self._worker_set_up, weak=False, dispatch_uid=f"regrow-set-up-{id(self.app)}"
        )
        signals.worker_ready.connect(self._worker_ready, weak=False, dispatch_uid=f"regrow-ready-{id(self.app)}")
        signals.worker_shutdown.connect(self._worker_shutdown, weak=False, dispatch_uid=f"regrow-down-{id(self.app)}")
        signals.worker_process_shutdown.connect(
            self._child_shutdown, weak=False, dispatch_uid=f"regrow-child-down-{id(self.app)}"
        )
        signals.task_success.connect(self._task_success, weak=False, dispatch_uid=f"regrow-kept-{id(self.app)}")
        signals.task_postrun.connect(self._task_postrun, weak=False, dispatch_uid=f"regrow-end-{id(self.app)}")

    def _worker_init(self, sender: Any = None, **_: Any) -> None:
        if sender is not None and sender.app is not self.app:
            return
        try:
            self.doors = self.open_doors(Sign(self.app, sender, self.pipeline().clock))
            self.meter = Meter(self._counted, self.pipeline().clock)
        except Exception as error:
            # The user's worker must start all the same: its tasks end as they would without Regrow.
            log.critical("regrow is NOT active in this worker: %s", error)
            self.doors = Doors(ShutDoor())
        if self.doors.parent is not None:
            self.doors.parent.net.spread()
        self._hang()

    def _hang(self, **_: Any) -> None:
        if self.doors is None:
            return
        for task in self.doors.door.hang(self.app):
            if "__trace__" in vars(task):  # it has a tracer, made before the door was hung
                task.__trace__ = build_tracer(task.name, task, self.app.loader, app=self.app)
        if self.doors.parent is not None:
            self.doors.parent.hang(self.app)

    def _task_success(self, sender: Any = None, **_: Any) -> None:
        if self.doors is not None and sender is not None:
            self.doors.door.stored(sender.request)

    def _task_postrun(self, task: Any = None, state: Any = None, retval: Any = None, **_: Any) -> None:
        if self.doors is None or task is None or task.request.called_directly or task.request.is_eager:
            return
        failed = self.doors.door.ended(task, task.request, str(state), retval)
        if self.meter is not None and not self.doors.door.leaves_alone(task):
            self.meter.count(failed=failed)

    def _child_shutdown(self, **_: Any) -> None:
        if self.doors is not None and self.doors.caretaker is not None:
            self.doors.caretaker.stop(STOP_SECONDS)
        if self.meter is not None:
            self.meter.flush()

    def _counted(self, minute: datetime, runs: int, failed: int) -> None:
        self.pipeline().store.counted(socket.gethostname(), minute, runs=runs, failed=failed)

    # -- a dispatcher beside the worker -----------------------------------------------------------------------------

    def _worker_set_up(self, instance: Any = None, **_: Any) -> None:
        if instance is not None and instance.app is self.app:
            self._hang()  # before the consumer makes its strategies, which hold the tasks' requests
            self._start_keeper()

    def _worker_ready(self, sender: Any = None, **_: Any) -> None:
        self._hang()
        self._start_keeper()  # a worker that was not started from the command line is never set up
        if self.doors is not None and self.doors.parent is not None and self.doors.caretaker is not None:
            self.doors.parent.net.hook(sender)
            self.doors.caretaker.start()  # not earlier: the pool is forked by now

    def _start_keeper(self) -> None:
        """Fork the process that keeps a dispatcher running.

        Before the worker has threads and connections: what a child inherits of those is broken in it, SQLite's first
        of all. For the same reason the keeper starts a dispatcher that has died anew, and not the worker.
        """
        if (
            not self.dispatcher
            or self._keeper is not None
            or self.doors is None
            or isinstance(self.doors.door, ShutDoor)
        ):
            return
        self._keeper = Process(target=self._keep_running, name="regrow-keeper", args=(os.getpid(),))
        self._keeper.start()
        atexit.register(self._stop_keeper)  # Python waits for its children, and this one waits for a word

    def _keep_running(self, worker: int) -> None:
        told: list[int] = []
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _: told.append(number))
        while not told and os.getppid() == worker:
            child = Process(target=self._dispatch, name="regrow-dispatcher", args=(os.getpid(),))
            child.start()
            while child.is_alive() and not told and os.getppid() == worker:
                child.join(0.5)
            if child.is_alive():
                child.terminate()
                child.join(10)
                return
            if child.exitcode == 0:  # it was told to stop, as when a terminal's Ctrl-C reaches the whole group
                log.info("regrow: the dispatcher beside this worker was told to stop")
                return
            log.error("regrow: the dispatcher ended with code %s; starting it again", child.exitcode)
            until = monotonic() + RESTART_SECONDS
            while monotonic() < until and not told and os.getppid() == worker:
                sleep(0.2)

    def _dispatch(self, keeper: int) -> None:
        sys.exit(self.run_dispatcher(lambda: os.getppid() == keeper))

    def _stop_keeper(self) -> None:
        keeper, self._keeper = self._keeper, None
        if keeper is not None and keeper._parent_pid == os.getpid() and keeper.is_alive():  # noqa: SLF001
            keeper.terminate()
            keeper.join(15)

    def _worker_shutdown(self, **_: Any) -> None:
        self._child_shutdown()
        self._stop_keeper()
