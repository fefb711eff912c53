"""The ledger is emptied: every task that it holds for Celery ends, in whatever way the rest of the world behaves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from regrow.adapters.sql import Database
from regrow.errors import DispatchError, LedgerError, StillParking
from regrow.model import DATA, DRAIN, Deed, Failure, Hindrance, Left, State
from regrow.oversight import Emptying, Oversight, empty
from regrow.testing import GUIDE, a_failure
from tests.contract.test_oversight import Bench, Mirror

OBSERVING = replace(GUIDE, acting=False)


@dataclass
class Pile:
    """Facts that wait (`ports.Backlog`)."""

    failures: list[Failure] = field(default_factory=list)
    away: bool = False

    def waiting(self) -> bool:
        """True if there are some."""
        return bool(self.failures)

    def replay(self, take: Callable[[Sequence[Failure]], object]) -> int:
        """Hand them in."""
        if self.away:
            raise LedgerError("away")
        take(self.failures)
        self.failures = []
        return 1


@pytest.fixture
def bench(database: Database) -> Bench:
    """An empty ledger, willing channels."""
    return Bench(database)


class Emptied:
    """A ledger is emptied while something happens after each round.

    Args:
        bench: The ledger.
        rounds: After so many rounds somebody says stop.
        meanwhile: What happens between two rounds.
    """

    def __init__(
        self,
        bench: Bench,
        *,
        rounds: int = 20,
        meanwhile: Callable[[], object] = lambda: None,
        pile: Pile | None = None,
        **wish: object,
    ) -> None:
        self.bench, self.told = bench, []
        self.rested = 0

        def rest(_seconds: float) -> bool:
            bench.clock.advance(1)
            meanwhile()
            self.rested += 1
            return self.rested >= rounds

        self.since, self.left = empty(
            lambda: bench.it,
            Emptying(**{"by": "ann", **wish}),  # type: ignore[arg-type]
            pile or Pile(),
            beat=Oversight.find_orphans,
            tell=self.told.append,
            rest=rest,
        )


def run_sent(bench: Bench, *, succeed: bool) -> None:
    """Workers run what was sent, and Celery stores how it ends; orders to fail are followed."""
    for due in bench.dispatcher.sent:
        if bench.found(due.task_id).state is State.DISPATCHED:
            bench.run_again(due.task_id, succeed=succeed)
            bench.it.closed(due.failure)
    for due in bench.dispatcher.ordered:
        bench.it.closed(due.failure)


def test_refused_in_recover_mode(bench: Bench) -> None:
    """Before anything is changed, and also if the mode is changed in the middle."""
    bench.it.handle([a_failure(task_id="a")])
    with pytest.raises(StillParking):
        Emptied(bench)
    assert bench.found("a").notes == ()
    bench.change(policies=OBSERVING)
    with pytest.raises(StillParking):
        Emptied(bench, meanwhile=lambda: bench.change(policies=GUIDE))
    assert bench.found("a").state is State.DISPATCHED


@pytest.mark.parametrize("succeed", [True, False])
def test_scheduled_tasks_run_once_more(succeed: bool, bench: Bench) -> None:
    """At once, and then they have ended; a broker that refuses for a while costs nothing."""
    bench.it.handle([a_failure(task_id="a"), a_failure(task_id="b")])
    bench.change(policies=replace(OBSERVING, enabled=False))
    bench.dispatcher.refuse = lambda _due: DispatchError("away") if bench.dispatcher.tried < 3 else None
    done = Emptied(bench, meanwhile=lambda: run_sent(bench, succeed=succeed))
    assert done.left.nothing
    assert (done.left.recovered, done.left.failed) == ((2, 0) if succeed else (0, 2))
    assert done.told[0] == Left(tasks=2)
    assert done.told[-1] == done.left
    for task in ("a", "b"):
        record = bench.found(task)
        # Retries are switched off: a failed last run is the end.
        ended = State.RECOVERED if succeed else State.HANDED_OVER
        assert (record.state, record.parked, record.retries) == (ended, False, 1)
        first = record.notes[0]
        assert (first.deed, first.by, first.detail) == (Deed.RETRIED, "ann", DRAIN)


def test_a_worker_that_still_parks_cannot_keep_a_task(bench: Bench) -> None:
    """What is parked again after its last run is ended; it does not go round for ever."""
    bench.it.handle([a_failure(task_id="a")])
    bench.change(policies=OBSERVING)

    def parks() -> None:
        observing = bench.it
        bench.change(policies=GUIDE)
        run_sent(bench, succeed=False)
        bench.change(policies=observing.policies)

    done = Emptied(bench, meanwhile=parks)
    assert (done.left.nothing, done.left.failed) == (True, 1)
    assert (bench.found("a").state, bench.found("a").attempts) == (State.DISMISSED, 2)


def test_what_stays_is_explained(bench: Bench) -> None:
    """The time is over, or somebody says stop: what is left is listed with the reason."""
    bench.it.handle([a_failure(task_id="a", queue="orders")])
    bench.change(policies=OBSERVING)
    for done in (Emptied(bench, rounds=2), Emptied(bench, timeout_seconds=0)):
        assert not done.left.nothing
        ((one, why),) = bench.it.leftovers(done.since, limit=9)
        assert (one.task_id, one.queue, why) == ("a", "orders", Hindrance.NO_WORKER)


def test_held_and_failed_at_once(bench: Bench) -> None:
    """With `fail` nothing is sent but orders to fail; what nobody waits for stays as it is."""
    bench.it.handle([a_failure(task_id="a"), a_failure(task_id="b", work_done=True)])
    bench.change(policies=OBSERVING)
    bench.it.handle([a_failure(task_id="seen"), a_failure(DATA, task_id="told")])
    done = Emptied(bench, fail=True, meanwhile=lambda: run_sent(bench, succeed=True))
    assert (done.left.nothing, done.left.recovered, done.left.failed) == (True, 0, 2)
    assert bench.dispatcher.sent == []
    assert [bench.found(task).state for task in ("a", "b", "seen", "told")] == [
        State.DISMISSED, State.DISMISSED, State.HELD, State.HANDED_OVER,
    ]  # fmt: skip


def test_messages_and_copies_are_waited_for(bench: Bench) -> None:
    """People are told what they were to be told, no new messages are written, and the application's record follows."""
    mirror = Mirror()
    mirror.broken = True
    bench.change(projection=mirror)
    bench.it.handle([a_failure(DATA, task_id="a")])
    bench.change(policies=OBSERVING, telling=False)

    def mend() -> None:
        mirror.broken = False
        bench.clock.advance(10)

    done = Emptied(bench, meanwhile=mend)
    assert done.left.nothing
    assert (done.told[0].messages, done.told[0].copies) == (0, 1)
    assert [message.task_id for message in bench.log.messages] == ["a"]
    assert mirror.seen == [("a", State.HANDED_OVER, 1)]


def test_a_ledger_that_goes_away(bench: Bench) -> None:
    """It may go away in the middle; one that never was there is said to be away."""
    bench.change(policies=OBSERVING)
    pile = Pile([a_failure(task_id="a", parkable=False, ended=True)], away=True)
    with pytest.raises(LedgerError):
        Emptied(bench, pile=pile)

    def away() -> None:
        pile.away = not pile.away

    bench.change(policies=GUIDE).handle([a_failure(task_id="b")])
    bench.change(policies=OBSERVING)
    pile.away = False
    done = Emptied(bench, rounds=3, pile=pile, meanwhile=lambda: (pile.failures.append(a_failure()), away()))
    assert not done.left.nothing
    assert done.left.tasks == 1
    assert bench.found("a").state is State.HELD


def test_orphans_are_ended(bench: Bench) -> None:
    """What had begun with a worker that is gone is ended by order, for somebody may wait for it."""
    bench.change(policies=OBSERVING)
    call = a_failure(task_id="a", causes=(), failed_at=bench.clock() - timedelta(hours=1))
    bench.it.store.begin(call, "gone")
    done = Emptied(bench, meanwhile=lambda: run_sent(bench, succeed=True))
    assert done.left.nothing
    record = bench.found("a")
    assert (record.state, record.parked) == (State.HANDED_OVER, False)
    assert [due.task_id for due in bench.dispatcher.ordered] == ["a"]
