"""Any order of failures, retries, crashes, deaths and clock jumps keeps the ledger true.

The model around Regrow: a queue of copies that may be late, doubled or lost; workers that succeed, fail, die or hang;
several dispatchers that may be killed at any point; and Celery's view of each task (waits, or has ended).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from regrow.adapters.sql import Database, SqlLedger, SqlStore
from regrow.errors import DispatchError
from regrow.model import DATA, NETWORK, SYSTEM, UNKNOWN, Due, Ending, Header, Record, State, TaskOptions
from regrow.pipeline import DUE_STATES
from regrow.ports import Store
from regrow.testing import GUIDE, FrozenClock, RecordingDispatcher, a_failure, a_regrow
from tests.conftest import empty_mariadb

CATEGORY = st.sampled_from([NETWORK, SYSTEM, NETWORK, DATA, NETWORK, UNKNOWN])
RARELY = st.sampled_from([False, False, False, True])


class Crash(BaseException):
    """kill -9."""


@dataclass(eq=False)
class Task:
    """A task as its owner and Celery see it."""

    id: str
    options: TaskOptions
    waits: bool = False  # Celery waits for its end: parked, neither SUCCESS nor FAILURE
    done: bool = False  # the result backend says SUCCESS


@dataclass(eq=False)
class Copy:
    """A message in the broker, or a run of it."""

    task: Task
    header: Header
    retries: int = 0


@dataclass
class Broker(RecordingDispatcher):
    """A broker that can be down, and whose client can be killed before or after a message is out."""

    tasks: dict[str, Task] = field(default_factory=dict)
    queue: list[Copy] = field(default_factory=list)
    crash_in: int = -1
    lie: bool = False

    def retry(self, batch: Sequence[Due]) -> dict[int, DispatchError]:
        """Publish copies."""
        return self._publish(batch, close=False)

    def close(self, batch: Sequence[Due]) -> dict[int, DispatchError]:
        """Publish orders to fail."""
        return self._publish(batch, close=True)

    def end(self, due: Due) -> None:
        """Mark the task failed."""
        self._step()
        super().end(due)
        self.tasks[due.task_id].waits = False
        self._step()

    def endings(self, task_ids: Sequence[str]) -> dict[str, Ending]:
        """Ask the result backend."""
        self._step()
        return {one: Ending.SUCCEEDED for one in task_ids if self.tasks[one].done}

    def _publish(self, batch: Sequence[Due], *, close: bool) -> dict[int, DispatchError]:
        refused: dict[int, DispatchError] = {}
        for due in batch:
            self._step()
            if self.lie:
                refused[due.failure] = DispatchError("the connection broke after the message was out")
            else:
                refused |= self._take([due], self.sent)
            if self.lie or due.failure not in refused:
                header = Header(due.failure, due.attempts + 1, due.token, close=close)
                self.queue.append(Copy(self.tasks[due.task_id], header))
            self._step()
        return refused

    def _step(self) -> None:
        if self.crash_in == 0:
            raise Crash
        self.crash_in -= 1


class FragileStore:
    """A store whose user can be killed before or after any of its transactions."""

    def __init__(self, store: Store, broker: Broker) -> None:
        self._store, self._broker = store, broker

    def __getattr__(self, name: str) -> object:
        method = getattr(self._store, name)

        def fragile(*args: object, **kwargs: object) -> object:
            self._broker._step()
            result = method(*args, **kwargs)
            self._broker._step()
            return result

        return fragile


class LedgerMachine(RuleBasedStateMachine):
    """The world around one ledger."""

    new_url: Callable[[], str]
    tasks = Bundle("tasks")

    @initialize()
    def begin(self) -> None:
        """An empty ledger."""
        self.database = Database(type(self).new_url())
        self.store, self.ledger = SqlStore(self.database), SqlLedger(self.database)
        self.clock, self.broker = FrozenClock(), Broker()
        self.numbers = count(1)
        self.starts: set[tuple[int, int, int]] = set()
        self.running: list[Copy] = []
        self.recovered: dict[str, int] = {}
        self.leases: dict[int, datetime] = {}
        self.emptying_since = self.clock()
        self.regrow = a_regrow(self.store, clock=self.clock, dispatcher=self.broker)
        self.fragile = a_regrow(
            FragileStore(self.store, self.broker),
            clock=self.clock,
            dispatcher=self.broker,  # type: ignore[arg-type]
        )

    # -- runs fail --------------------------------------------------------------------------------------------------

    @rule(target=tasks, category=CATEGORY, idempotent=RARELY, unparked=RARELY, work_done=RARELY)
    def first_failure(self, category: object, idempotent: bool, unparked: bool, work_done: bool) -> Task:
        """A task fails for the first time."""
        task = Task(f"task-{next(self.numbers)}", TaskOptions(idempotent=idempotent, park=not unparked))
        self.broker.tasks[task.id] = task
        self._fail(task, category, None, work_done=work_done and not idempotent)
        return task

    @rule(task=tasks, category=CATEGORY)
    def foreign_run_fails(self, task: Task, category: object) -> None:
        """A second copy of the first message, or somebody's own re-run, fails."""
        if self.ledger.find(task.id).state is State.RECOVERED:  # type: ignore[union-attr]
            self.recovered.pop(task.id, None)
            task.done = False
        self._fail(task, category, None)

    def _fail(
        self, task: Task, category: object, header: Header | None, *, work_done: bool = False, dies: bool = False
    ) -> None:
        """What the door does with an exception, and what Celery makes of it."""
        failure = a_failure(
            category,  # type: ignore[arg-type]
            task_id=task.id,
            attempt=header.attempt if header else 1,
            token=header.token if header else None,
            options=task.options,
            parkable=not work_done,
            work_done=work_done,
            failed_at=self.clock(),
        )
        (handled,) = self.regrow.handle([failure])
        record = self.ledger.find(task.id)
        assert record is not None
        assert [run.number for run in record.history] == list(range(1, record.attempts + 1))
        history = handled.history
        if handled.duplicate:
            held = history.parked and (history.state.live or history.state is State.HELD)
            if history.state is State.RECOVERED or held:
                return
        elif handled.decision.park:
            task.waits = True
            return
        if dies:  # before Celery has stored the failure
            return
        task.waits = False
        if (header is not None or history.parked) and handled.id is not None:
            self.regrow.closed(handled.id)

    # -- workers ----------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.broker.queue)
    @rule(
        data=st.data(),
        end=st.sampled_from(
            ["success", "failure", "failure and death", "death", "death after work", "hang", "native retry"]
        ),
        keep=st.booleans(),
        category=CATEGORY,
    )
    def deliver(self, data: st.DataObject, end: str, keep: bool, category: object) -> None:
        """A worker gets a copy, in any order; the broker may deliver it a second time later."""
        index = data.draw(st.integers(0, len(self.broker.queue) - 1))
        copy = self.broker.queue[index] if keep else self.broker.queue.pop(index)
        self._deliver(copy, end, category)

    def _deliver(self, copy: Copy, end: str, category: object = NETWORK) -> None:
        header = copy.header
        idempotent = copy.task.options.idempotent
        if not self.regrow.start(header, retries=copy.retries, idempotent=idempotent):
            return
        if header.close:
            if end in ("success", "failure", "hang"):
                copy.task.waits = False
                self.regrow.closed(header.failure)
            return
        run = (header.failure, header.attempt, copy.retries)
        assert idempotent or run not in self.starts, "the work of one attempt ran twice"
        self.starts.add(run)
        self._end(copy, end, category)

    def _end(self, copy: Copy, end: str, category: object) -> None:
        if end in ("success", "death after work"):
            copy.task.done = True
            copy.task.waits = False
        if end == "success":
            self.regrow.recovered(copy.header.failure)
        elif end in ("failure", "failure and death"):
            self._fail(copy.task, category, copy.header, dies=end == "failure and death")
        elif end == "hang":
            self.running.append(copy)
        elif end == "native retry":
            self.regrow.renew([copy.header], wait=timedelta(seconds=300))
            self.broker.queue.append(Copy(copy.task, copy.header, copy.retries + 1))

    @precondition(lambda self: self.running)
    @rule(data=st.data(), end=st.sampled_from(["success", "failure", "death after work"]), category=CATEGORY)
    def hanging_run_ends(self, data: st.DataObject, end: str, category: object) -> None:
        """A run that was silent for long ends after all."""
        copy = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        if not copy.task.done:
            self._end(copy, end, category)

    @precondition(lambda self: self.running)
    @rule()
    def signs_of_life(self) -> None:
        """Hanging runs renew their leases."""
        self.regrow.renew([copy.header for copy in self.running])

    @precondition(lambda self: self.broker.queue)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        """The broker loses a copy."""
        self.broker.queue.pop(data.draw(st.integers(0, len(self.broker.queue) - 1)))

    # -- dispatchers, clocks, switches ------------------------------------------------------------------------------

    def _wait(self) -> None:
        """Go on to the instant at which something is due next."""
        due = [one.due_at for one in self._all() if one.due_at is not None]
        self.clock.now = max(self.clock.now, min(due, default=self.clock.now))

    @rule(fate=st.sampled_from(["well", "well", "refused", "lied to"]))
    def tick(self, fate: str) -> None:
        """A dispatcher does what is due; the broker may refuse it, or take a message and seem to refuse it."""
        self._wait()
        self.broker.refuse = lambda _due: DispatchError("down") if fate == "refused" else None
        self.broker.lie = fate == "lied to"
        self.regrow.act()
        self.broker.refuse, self.broker.lie = (lambda _due: None), False

    @rule(steps=st.integers(0, 8))
    def crash(self, steps: int) -> None:
        """A dispatcher is killed at any point of `act`."""
        self._wait()
        self.broker.crash_in = steps
        try:
            self.fragile.act()
        except Crash:
            pass
        finally:
            self.broker.crash_in = -1

    @rule()
    def two_claims(self) -> None:
        """Two dispatchers claim at once, and both die: nothing is in both hands."""
        self._wait()
        hands = [
            {
                due.failure
                for due in self.store.claim(self.clock(), limit=3, lease=timedelta(seconds=60), states=DUE_STATES)
            }
            for _ in range(2)
        ]
        assert not hands[0] & hands[1]

    @rule(seconds=st.sampled_from([1, 29, 30, 31, 60, 61, 600, 3600, 86_400, -1, -45, -3600]))
    def time_passes(self, seconds: int) -> None:
        """The clock goes on, or is set back."""
        self.clock.advance(seconds)

    @rule(begin=st.booleans(), scheduled=RARELY, limit=st.sampled_from([1, 100]), steps=st.sampled_from([-1, -1, 0, 1]))
    def empty_the_ledger(self, begin: bool, scheduled: bool, limit: int, steps: int) -> None:
        """A person begins to empty the ledger, or goes on with it; whoever does it may be killed at any point."""
        if begin:
            self.emptying_since = self.clock()
            self.switch(observe=True, disabled=False)
        self.broker.crash_in = steps
        try:
            self._empty(self.fragile.store, scheduled=scheduled, limit=limit)
        except Crash:
            pass
        finally:
            self.broker.crash_in = -1

    def _empty(self, store: Store, *, scheduled: bool = False, limit: int = 100) -> None:
        since, now = self.emptying_since, self.clock()
        store.end_waiting(since, scheduled=scheduled, now=now, by="ann", limit=limit)
        store.order_last_runs(since, now=now, by="ann", limit=limit)

    @rule(observe=RARELY, disabled=RARELY)
    def switch(self, *, observe: bool, disabled: bool) -> None:
        """The administrator changes the mode."""
        acting, enabled = not observe, not disabled
        policies = replace(GUIDE, acting=acting, enabled=enabled)
        self.regrow = replace(self.regrow, policies=policies)
        self.fragile = replace(self.fragile, policies=policies)

    # -- what is always true ----------------------------------------------------------------------------------------

    def _all(self) -> list[Record]:
        return self.ledger.failures(limit=10_000)

    @invariant()
    def the_equation_holds(self) -> None:
        """Nothing is lost and nothing is counted twice."""
        balance = self.ledger.balance(self.clock())
        assert balance.balanced
        assert balance.captured == len(self.broker.tasks)

    @invariant()
    def recovered_stays_recovered(self) -> None:
        """Only a new failure from outside takes a task out of `recovered`."""
        found = {one.task_id: one.attempts for one in self._all() if one.state is State.RECOVERED}
        assert self.recovered.items() <= found.items()
        self.recovered = found

    @invariant()
    def parked_tasks_are_going_somewhere(self) -> None:
        """What Celery waits for is live, held, or due to be closed; and all that is live is due."""
        for one in self._all():
            if one.parked:
                assert one.state.live or one.state is State.HELD or one.due_at is not None, one
            if one.state.live:
                assert one.due_at is not None, one
            task = self.broker.tasks[one.task_id]
            assert one.parked or not task.waits, f"Celery waits for {one}, and the ledger does not know"

    # -- the end ----------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        """With a working broker and workers, all that is parked and not held ends; if the ledger is emptied, all ends."""
        if not hasattr(self, "database"):
            return
        self.switch(observe=False, disabled=False)
        for _ in range(60):
            self._go_on("success")
        for one in self._all():
            assert not one.state.live, one
            assert not one.parked or one.state is State.HELD, one
            assert not self.broker.tasks[one.task_id].waits or one.state is State.HELD, one
        self.switch(observe=True, disabled=True)
        self.emptying_since = self.clock()
        for _ in range(3):
            self._empty(self.store)
            self._go_on("failure")
        assert not [one for one in self._all() if one.parked or one.state.live]
        assert not [task.id for task in self.broker.tasks.values() if task.waits]
        assert not self.ledger.left(self.emptying_since, audiences=()).tasks
        self.the_equation_holds()
        self.database.close()

    def _go_on(self, end: str) -> None:
        """Much time passes; dispatcher and workers do what is due."""
        self.clock.advance(4000)
        while self.regrow.act().more:
            pass
        queue, self.broker.queue[:] = list(self.broker.queue), []
        for copy in queue:
            self._deliver(copy, end)


def run(new_url: Callable[[], str], examples: int, steps: int) -> None:
    """Let Hypothesis drive the machine over ledgers of one kind."""
    machine = type("Machine", (LedgerMachine,), {"new_url": staticmethod(new_url)})
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine, settings=settings(max_examples=examples, stateful_step_count=steps, deadline=None)
    )


def test_any_order_on_sqlite(migrated: Callable[[str], str]) -> None:
    """The ledger stays true on SQLite."""
    template = migrated("sqlite").removeprefix("sqlite:///")
    memory = Path("/dev/shm")  # a disk that need not be waited for
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        path = Path(folder) / "ledger.db"

        def new_url() -> str:
            for old in Path(folder).iterdir():
                old.unlink()
            shutil.copy(template, path)
            return f"sqlite:///{path}"

        run(new_url, examples=40, steps=30)


def test_any_order_on_postgresql(migrated: Callable[[str], str]) -> None:
    """The ledger stays true on PostgreSQL."""
    url = migrated("postgresql")
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:

        def new_url() -> str:
            connection.execute("TRUNCATE regrow_failure RESTART IDENTITY CASCADE")
            return url

        run(new_url, examples=15, steps=30)


def test_any_order_on_mariadb(migrated: Callable[[str], str]) -> None:
    """The ledger stays true on MariaDB."""
    url = migrated("mariadb")

    def new_url() -> str:
        empty_mariadb(url)
        return url

    run(new_url, examples=15, steps=30)
