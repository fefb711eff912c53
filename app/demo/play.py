"""What is done, in which order: a bad day, a worker's death, a scan, a person's order, the reports."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from threading import Thread
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from app.courier import Courier
from app.demo import hands, plot, stage
from app.demo.hands import Hands
from app.demo.plot import Scene
from app.demo.show import Show
from app.demo.stage import Company
from app.demo.watch import Watch
from regrow import wiring

if TYPE_CHECKING:
    from celery.result import AsyncResult

_LOOK_SECONDS = 0.2

#: The worker's hands must be full, and stay so, before it is killed: a message that is just on its way from the broker
#: to the worker would be lost with it, and files know no redelivery.
_STILL_SECONDS = 0.4

#: Where the application's own tasks are (G7, G8, G10).
_TASKS = "app.tasks.failure_tasks"


class TooLate(Exception):
    """Something has not come in time."""


class Play:
    """One performance.

    Args:
        show: Prints.
        courier: The service that the tasks ask.
        company: The processes.
        limit: When to give up, in seconds since the demo began.

    Attributes:
        results: Celery's result of each task.
        answers: What the waiting calls returned, or the exception that they raised.
        held: What the killed worker had in its hands; None if it was not killed.
        died: How the killed worker ended, as a process's exit code.
        reports: What scans, analysis and manual recovery returned, by the task's name.
        browser: True if there is a browser to take pictures with.
        over: True if everything came to its end in time.
    """

    def __init__(self, show: Show, courier: Courier, company: Company, limit: float) -> None:
        self._show = show
        self._courier = courier
        self._company = company
        self._limit = limit
        self.results: dict[Scene, AsyncResult] = {}
        self.answers: dict[Scene, object] = {}
        self.held: Hands | None = None
        self.died = 0
        self.reports: dict[str, list[Any]] = {}
        self.browser = _browser_is_here()
        self.over = False
        self._told: set[Scene] = set()
        self._scenes: dict[str, Scene] = {}

    def run(self) -> None:
        """Play it all, as far as time allows."""
        try:
            self._start_worker()
            # The worker has set it up.
            self._ledger = wiring.open_ledger(wiring.load_settings())
            self._watch = Watch(self._ledger, self._scenes)
            self._bad_day()
            self._kill()
            self._scan()
            self._by_hand()
            self._settle(plot.SCENES)
            self._look_back()
            self.over = True
        except TooLate:
            self._step("not over after {n} s", n=f"{self._limit:g}")

    # -- the acts ---------------------------------------------------------------------------------------------------

    def _start_worker(self) -> None:
        self._company.start_worker()
        self._until(_worker_is_ready)

    def _bad_day(self) -> None:
        """Tasks of all kinds; one folder is shut until somebody opens it."""
        stage.shut_receipts()
        self._step("the worker is ready; sending {n} tasks, and waiting with .get() for a task, a chain and a chord",
                   n=len(plot.BAD_DAY))  # fmt: skip
        self._take(plot.send_bad_day())
        self._until(lambda: self._known(plot.SYSTEM_FAILURES))
        stage.open_receipts()
        self._step("an administrator makes {folder} writable again", folder=stage.RECEIPTS)
        self._settle(plot.BAD_DAY)

    def _kill(self) -> None:
        """Kill the worker while it runs two tasks, and has taken some of those behind them."""
        sent = plot.send_before_the_kill()
        self._step("sending {n} more tasks: the first two will not get an answer", n=len(sent))
        self._take(sent)
        ids = [result.id for scene, result in sent.items() if scene is not plot.CUT_TAIL]
        self._until(_Still(lambda: self._hands_are_full(ids), _STILL_SECONDS), every=0.02)
        self.died = self._company.kill_worker()
        self.held = held = hands.look(ids)
        self._alarm(
            "kill -9: the worker has died with {running} tasks running and {taken} more in its hands; {queued} wait in "
            "the broker",
            running=len(held.running), taken=len(held.taken), queued=len(held.queued),
        )  # fmt: skip
        self._start_worker()
        self._step("a new worker of the same name is ready; it goes on with what waits in the broker")

    def _scan(self) -> None:
        """Two scans at once, and what another program has written down is found too."""
        self._take({plot.FOREIGN: plot.write_foreign_row()})
        self._step("another program notes a failed task in the table; scan_and_process_failed_tasks is sent twice")
        before = len(self._watch.records)
        self._call("scan_and_process_failed_tasks", queue="recovery", times=2)
        self._until(lambda: True)
        found = len(self._watch.records) - before
        self._step("the scans have taken in {n} failures that no worker could report", n=found)

    def _by_hand(self) -> None:
        """What a customer could not have is there again, and a person has the order run once more."""
        self._courier.shop.stock[plot.RARE] = 5
        number = _row_id(self.results[plot.SOLD_OUT].id)
        self._step("the sold-out goods are back in stock; sending manual_recovery_task(task_id={n})", n=number)
        self._call("manual_recovery_task", task_id=number)

    def _look_back(self) -> None:
        """The reports on all of it."""
        self._step("all has come to rest; sending scan_and_process_failed_tasks and analyze_failure_patterns")
        self._call("scan_and_process_failed_tasks", queue="recovery")
        self._call("analyze_failure_patterns", queue="monitoring")

    # -- waiting ----------------------------------------------------------------------------------------------------

    def _until(self, condition: Callable[[], bool], *, every: float = _LOOK_SECONDS) -> None:
        """Wait for something, and tell meanwhile what happens.

        Raises:
            TooLate: It has not come in time.
        """
        while True:
            done = condition()
            self._tell()
            if done:
                return
            self._company.check()
            if self._show.seconds() > self._limit:
                raise TooLate
            sleep(every)

    def _tell(self) -> None:
        if not self._scenes:
            return
        for news in self._watch.news():
            self._show.happened(news)
        for scene, answer in list(self.answers.items()):
            if scene not in self._told:
                self._told.add(scene)
                self._show.returned(scene, answer)

    def _settle(self, scenes: Collection[Scene]) -> None:
        """Wait until these tasks are at their end, everybody is told, and the table of tasks says so too."""
        self._until(lambda: self._is_settled(scenes))

    def _is_settled(self, scenes: Collection[Scene]) -> bool:
        # What is held for a person has no end in Celery.
        ended = all(self.results[scene].ready() for scene in scenes if scene is not plot.CUT_PAYMENT)
        if not ended or any(scene in plot.ANSWERS and scene not in self.answers for scene in scenes):
            return False
        in_ledger = {line.task_id: line for line in self._ledger.failures(limit=1000)}
        records = [in_ledger[one.id] for scene, one in self.results.items() if scene in scenes and one.id in in_ledger]
        if plot.CUT_PAYMENT in scenes and self.results[plot.CUT_PAYMENT].id not in in_ledger:
            return False
        at_rest = not any(record.state.live or record.parked for record in records)
        return at_rest and not self._ledger.balance(wiring.clock()).undelivered and _shown(records)

    def _known(self, scenes: Iterable[Scene]) -> bool:
        return all(scene in self._watch.records for scene in scenes)

    def _hands_are_full(self, ids: Collection[str]) -> Hands | None:
        """What the worker has, if it is worth a kill."""
        running = {self.results[scene].id for scene in (plot.CUT_HEAD, plot.CUT_PAYMENT)}
        asked = all(self._courier.visits(scene.path) for scene in (plot.CUT_HEAD, plot.CUT_PAYMENT))
        now = hands.look(ids)
        ready = asked and now.running == running and now.taken and now.queued and not now.between
        # A message that is being delivered would be delivered again, and stand in the log twice.
        return now if ready and not self._ledger.balance(wiring.clock()).undelivered else None

    # -- doing ------------------------------------------------------------------------------------------------------

    def _take(self, results: dict[Scene, AsyncResult]) -> None:
        self.results |= results
        self._scenes |= {result.id: scene for scene, result in results.items()}
        for scene in plot.ANSWERS.keys() & results.keys():
            Thread(target=self._wait_for, args=(scene,), daemon=True).start()

    def _wait_for(self, scene: Scene) -> None:
        try:
            self.answers[scene] = self.results[scene].get(timeout=self._limit - self._show.seconds(), interval=0.1)
        except Exception as error:  # noqa: BLE001  # whatever it raises is the answer, and a check judges it
            self.answers[scene] = error

    def _call(self, name: str, *, queue: str | None = None, times: int = 1, **arguments: object) -> None:
        """Send one of the application's own tasks, and wait for what it returns."""
        from app.tasks.celery_app import celery_app

        sent = [celery_app.send_task(f"{_TASKS}.{name}", kwargs=arguments, queue=queue) for _ in range(times)]
        self._until(lambda: all(one.ready() for one in sent))
        self.reports.setdefault(name, []).extend(one.result for one in sent)

    def _step(self, text: str, **facts: object) -> None:
        self._show.step(self._show.say(text).format(**facts))

    def _alarm(self, text: str, **facts: object) -> None:
        self._show.alarm(self._show.say(text).format(**facts))

    def lost(self) -> Iterator[Scene]:
        """What the killed worker had taken and not begun."""
        taken = self.held.taken if self.held else ()
        return (self._scenes[one] for one in taken)


class _Still:
    """True when something has been the same for a while.

    Args:
        look: What it is now; None if it does not count.
        seconds: How long.
    """

    def __init__(self, look: Callable[[], object], seconds: float) -> None:
        self._look = look
        self._seconds = seconds
        self._seen: object = None
        self._since = monotonic()

    def __call__(self) -> bool:
        seen = self._look()
        if seen is None or seen != self._seen:
            self._seen, self._since = seen, monotonic()
        return seen is not None and monotonic() - self._since >= self._seconds


def _shown(records: Iterable[Any]) -> bool:
    """True if the table of tasks has followed the ledger."""
    from sqlalchemy import select

    from app.db import Session
    from app.models import Task

    wanted = {record.task_id: record.revision for record in records}
    asked = select(Task.celery_task_id, Task.recovery_revision).where(Task.celery_task_id.in_(wanted))
    with Session() as session:
        return wanted == {one: revision for one, revision in session.execute(asked)}  # noqa: C416


def _row_id(task_id: str) -> int:
    from app.db import db
    from app.models import Task

    found = db.query(Task).filter(Task.celery_task_id == task_id).one()
    return int(found.id)


def _browser_is_here() -> bool:
    from app.screenshots import BrowserMissing, browser

    try:
        browser()
    except BrowserMissing:
        return False
    return True


def _worker_is_ready() -> bool:
    from app.tasks.celery_app import celery_app

    return bool(celery_app.control.ping(timeout=0.5, limit=1))
