"""What readers of the ledger see."""

from __future__ import annotations

from datetime import timedelta

import pytest

from regrow.adapters.sql import SqlLedger, SqlStore
from regrow.model import BUSINESS, DATA, NETWORK, SYSTEM, Cause, Header, State
from regrow.testing import LEASE, START, a_failure, a_regrow, claim


def test_balance(store: SqlStore, ledger: SqlLedger) -> None:
    """Every failure is counted in one state; due, parked and undelivered ones are counted beside it."""
    assert ledger.balance(START).captured == 0
    regrow = a_regrow(store)
    handled = regrow.handle([a_failure() for _ in range(6)] + [a_failure(DATA), a_failure(BUSINESS, user_id="42")])
    assert handled[0].id is not None
    store.recovered(handled[0].id, now=START)
    claim(store, limit=2)
    (first, _) = store.claim_messages(START, limit=9, lease=LEASE)
    store.delivered(first.token, [first.id], now=START)
    found = ledger.balance(START + timedelta(seconds=31))
    assert found.balanced
    assert found.captured == 8
    assert {state: count for state, count in found.by_state.items() if count} == {
        State.SCHEDULED: 3, State.DISPATCHED: 2, State.RECOVERED: 1, State.HANDED_OVER: 2,
    }  # fmt: skip
    assert set(found.by_state) == set(State)
    assert (found.overdue, found.parked, found.undelivered) == (3, 5, 1)


@pytest.mark.parametrize("limit", [1, 7, 100])
def test_keyset_pages(limit: int, store: SqlStore, ledger: SqlLedger) -> None:
    """Pages follow one another without gap or repeat, newest first, though new failures come in between."""
    regrow = a_regrow(store)
    handled = regrow.handle([a_failure(NETWORK if n % 2 else DATA) for n in range(30)])
    expected = sorted((one.id or 0 for one in handled), reverse=True)
    seen: list[int] = []
    before: int | None = None
    while page := ledger.failures(before=before, limit=limit):
        assert len(page) <= limit
        seen.extend(one.id for one in page)
        before = page[-1].id
        regrow.handle([a_failure()])
    assert seen == expected


def test_filters(store: SqlStore, ledger: SqlLedger) -> None:
    """By state, category and task, alone and together."""
    regrow = a_regrow(store)
    ids = [
        one.failure.task_id
        for one in regrow.handle(
            [a_failure(), a_failure(DATA), a_failure(SYSTEM, task_name="b"), a_failure(DATA, task_name="b")]
        )
    ]

    def found(**which: object) -> list[str]:
        return [one.task_id for one in reversed(ledger.failures(**which))]  # type: ignore[arg-type]

    assert found() == ids
    assert found(states=[State.SCHEDULED]) == [ids[0], ids[2]]
    assert found(states=[State.SCHEDULED, State.HANDED_OVER]) == ids
    assert found(category=DATA.key) == [ids[1], ids[3]]
    assert found(task_name="b") == [ids[2], ids[3]]
    assert found(task_name="b", states=[State.HANDED_OVER], category=DATA.key) == [ids[3]]
    assert found(category="none") == []


def test_find(store: SqlStore, ledger: SqlLedger) -> None:
    """One failure with all its runs, by either id; the ledger's own id goes first where both fit."""
    regrow = a_regrow(store)
    (one,) = regrow.handle([a_failure(task_id="a", causes=(Cause("", "only words"),), traceback="钱\n")])
    assert one.id is not None
    (two,) = regrow.handle([a_failure(task_id=str(one.id))])
    record = ledger.find("a")
    assert record is not None
    assert record == ledger.find(str(one.id))
    assert record.message == "only words"
    assert (record.history[0].traceback, record.history[0].exception_type) == ("钱\n", "")
    assert (record.first_failed_at, record.queue, record.user_id) == (START, "", "")
    assert ledger.find(str(two.id)) is not None
    (other,) = regrow.handle([a_failure(task_id="987654")])
    digits = ledger.find("987654")
    assert digits is not None
    assert digits.id == other.id


def test_a_history_tells_each_run(store: SqlStore, ledger: SqlLedger) -> None:
    """Runs stand in order with what was decided about each."""
    regrow = a_regrow(store)
    regrow.handle([a_failure(task_id="a")])
    (due,) = claim(store)
    assert store.start(Header(due.failure, 2, due.token), retries=0, idempotent=False, due_at=START)
    regrow.handle([a_failure(DATA, task_id="a", attempt=2, token=due.token, failed_at=START + timedelta(seconds=31))])
    record = ledger.find("a")
    assert record is not None
    assert [(run.number, run.category, run.action, run.reason) for run in record.history] == [
        (1, NETWORK.key, "retry", "can_heal"),
        (2, DATA.key, "hand_over", "not_healable"),
    ]
    assert record.history[0].retry_at == START + timedelta(seconds=30)
    assert record.history[1].retry_at is None
    assert (record.state, record.attempts, record.last_failed_at) == (
        State.HANDED_OVER, 2, START + timedelta(seconds=31),
    )  # fmt: skip


@pytest.mark.parametrize("which", ["", "a\0", "\ud800", "9" * 18, "9" * 30, "x" * 5000, "-1", "٣", "1.0", "' OR 1=1"])
def test_what_is_not_there_is_not_found(which: str, store: SqlStore, ledger: SqlLedger) -> None:
    """Any text may be looked for."""
    a_regrow(store).handle([a_failure()])
    assert ledger.find(which) is None
    assert ledger.failures(task_name=which or "-") == []


def test_waiting_by_queue(store: SqlStore, ledger: SqlLedger) -> None:
    """What may run again is counted by its queue: live failures, and held ones that Celery waits for."""
    assert ledger.waiting() == {}
    assert ledger.balance(START).overdue_since is None
    regrow = a_regrow(store)
    handled = regrow.handle(
        [
            a_failure(queue="slow"),
            a_failure(queue="slow"),
            a_failure(queue="fast"),
            a_failure(DATA, queue="fast"),
            a_failure(queue=""),
        ]
    )
    claim(store, limit=1)
    assert ledger.waiting() == {"slow": 2, "fast": 1}
    assert handled[0].id is not None
    store.recovered(handled[0].id, now=START)
    assert ledger.waiting() == {"slow": 1, "fast": 1}
    due = ledger.balance(START + timedelta(hours=1)).overdue_since
    assert due is not None
    assert START < due < START + timedelta(hours=1)
