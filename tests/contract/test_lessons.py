"""What operators teach on a real ledger: relabelled groups, rules that are tried, added and disabled, proposals."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any

import pytest
from celery import Celery
from sqlalchemy import insert, text

from regrow import wiring
from regrow.adapters.sql import Database, SqlLedger, SqlStore
from regrow.adapters.sql.tables import lesson
from regrow.capture import causes_from_text, fingerprint
from regrow.config import Settings
from regrow.errors import RuleError
from regrow.model import Failure, Handled, OwnRule, Record, RuleState, State
from regrow.oversight import Oversight
from regrow.school import PAGE, School
from regrow.teach import Trial
from regrow.testing import START, a_lesson

COURIER = ("courier SF quota used up 1", "Courier YTO quota is used up", "the courier has no quota")


@pytest.fixture
def settings(store_url: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings that nothing of this machine has a say in."""
    monkeypatch.chdir(tmp_path)
    for name in ("FAILURE_LANGUAGE", "FAILURE_MODE", "FAILURE_RULES_FILE", "FAILURE_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    return wiring.load_settings(database_url=store_url, mode="recover")


@pytest.fixture
def worker(settings: Settings, store: SqlStore) -> Any:
    """The pipeline as a worker has it, asking for news at every failure."""
    regrow = wiring.connect(Celery("shop", broker="memory://"), settings)
    yield regrow
    regrow.store._database.close()  # type: ignore[attr-defined]


@pytest.fixture
def school(settings: Settings, store: SqlStore, ledger: SqlLedger) -> School:
    """What takes in what an operator teaches."""
    return wiring.open_school(settings, store, ledger)


def fail(worker: Oversight, *messages: str, kind: str = "shop.CourierError", **known: Any) -> list[Handled]:
    """Failures with these messages, seen by a worker that asks for news."""
    now = wiring.clock()
    worker.teaching._next = 0.0  # type: ignore[union-attr]
    causes = [causes_from_text(kind, message, "") for message in messages]
    start = len(worker.ledger.failures(limit=1000))
    return worker.handle(
        [
            Failure(
                **{
                    "task_id": f"task-{start + number}",
                    "task_name": "shop.ship",
                    "failed_at": now,
                    "causes": one,
                    "fingerprint": fingerprint(one, ""),
                    "envelope": "{}",
                    "parkable": True,
                    **known,
                }
            )
            for number, one in enumerate(causes)
        ]
    )


def relabel(school: School, failures: Sequence[Handled], category: str) -> Any:
    """Say of each failure's group what it is; return what came of the last one."""
    for one in failures:
        answer = school.relabel(record(school, one), category, by="ann", because="so it is")
    return answer


def record(school: School, one: Handled) -> Record:
    """A failure as the ledger has it."""
    found = school.ledger.find(str(one.id))
    assert found is not None
    return found


def tried(school: School, pattern: str, category: str, **options: Any) -> Trial:
    """A trial of a rule."""
    rule = OwnRule("tried", category, (pattern,))
    return school.trial([rule], days=7, seen=lambda _number: None, **options)


def test_a_relabelled_group(worker: Oversight, school: School) -> None:
    """The failure shows the correction and keeps its history; the next one of its group follows; undo undoes both."""
    (first,) = fail(worker, "odd error 1")
    assert first.decision.action.state is State.HANDED_OVER
    answer = relabel(school, [first], "recoverable_temporary")
    assert (answer.before, answer.label.by, answer.proposal) == (None, "ann", None)
    assert (dict(answer.group.by_state), answer.group.resting) == ({"handed_over": 1}, (first.id,))
    after = record(school, first)
    assert (after.confirmed, after.category, after.state) == ("recoverable_temporary", "unknown", State.HANDED_OVER)
    second, other = fail(worker, "odd error 2", "another error")
    assert (second.verdict.layer, second.decision.action.state, second.decision.park) == (
        "operator",
        State.SCHEDULED,
        True,
    )
    assert second.verdict.matched.startswith("ann, 20")
    assert other.verdict.layer == "none"
    undone = school.unlabel(after.fingerprint, by="bob", failure=after.id)
    assert (undone.label, undone.before.by) == (None, "ann")
    assert record(school, first).confirmed == ""
    assert fail(worker, "odd error 3")[0].verdict.layer == "none"
    with pytest.raises(RuleError, match="nothing was said of the group"):
        school.unlabel(after.fingerprint, by="bob")


def test_an_unknown_category_is_refused(worker: Oversight, school: School) -> None:
    """With those that there are."""
    with pytest.raises(RuleError, match="no such category: moon; known are: recoverable_network"):
        relabel(school, fail(worker, "odd"), "moon")
    assert school.lessons().labels == {}


def test_an_old_ledger(worker: Oversight, database: Database, caplog: pytest.LogCaptureFixture) -> None:
    """A worker of this version goes on with a ledger in which migration 0004 has not been applied."""
    with database.write() as connection:
        connection.execute(text("ALTER TABLE regrow_lesson RENAME TO regrow_lesson_away"))
    try:
        (one,) = fail(worker, "[Errno 111] Connection refused", kind="ConnectionError")
        assert (one.decision.action.state, one.id is not None) == (State.SCHEDULED, True)
        assert caplog.text == ""
    finally:
        with database.write() as connection:
            connection.execute(text("ALTER TABLE regrow_lesson_away RENAME TO regrow_lesson"))


def test_a_rule_is_tried_added_and_disabled(worker: Oversight, school: School) -> None:
    """A trial writes nothing; an added rule decides in the worker; a disabled one does no longer."""
    fail(worker, "Order 7 not found", kind="shop.Error")
    trial = tried(school, r"order \d+ not found", "recoverable_temporary")
    assert (trial.seen, trial.hits, trial.starts.count, trial.risky) == (1, 1, 1, 1)
    assert {pair: one.count for pair, one in trial.changes.items()} == {
        ("unrecoverable_business", "recoverable_temporary"): 1
    }
    assert school.lessons().rules == {}
    rule = OwnRule("order.late", "recoverable_temporary", (r"order \d+ not found",), ("Order 5 not found",))
    added = school.add(rule, by="ann", because="it comes late")
    assert (added.state, added.changed_by) == (RuleState.LIVE, "ann")
    (one,) = fail(worker, "Order 8 not found", kind="shop.Error")
    assert (one.verdict.rule, one.decision.action.state) == ("order.late", State.SCHEDULED)
    assert school.ledger.decided(["order.late", "none"], wiring.clock() - timedelta(days=1)) == {"order.late": 1}
    assert tried(school, r"order \d+ not found", "recoverable_network").changed == 0, "the careful one of two wins"
    for on, state in ((False, RuleState.DISABLED), (True, RuleState.LIVE), (False, RuleState.DISABLED)):
        assert school.switch("order.late", on=on, by="bob").state is state
        with pytest.raises(RuleError, match=f"is {state} already"):
            school.switch("order.late", on=on, by="bob")
    assert fail(worker, "Order 9 not found", kind="shop.Error")[0].verdict.category.key == "unrecoverable_business"


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        (OwnRule("a", "moon", ("a",)), "no such category: moon"),
        (OwnRule("a", "unknown", ("(bad",)), "rule 'a': the pattern '\\(bad'"),
        (OwnRule("a", "unknown", ("good",), ("no such",)), "must_match 'no such' is matched by none"),
        (OwnRule("a", "unknown", ("good",), (), ("good",)), "must_not_match 'good' matches"),
        (OwnRule("there", "unknown", ("good",)), "there is a rule 'there' already"),
    ],
)
def test_a_wrong_rule_is_not_added(rule: OwnRule, says: str, school: School) -> None:
    """It is refused with its fault, and nothing is written."""
    school.add(OwnRule("there", "unknown", ("zzz",)), by="ann")
    with pytest.raises(RuleError, match=says):
        school.add(rule, by="ann")
    assert set(school.lessons().rules) == {"there"}


def test_three_that_agree_propose_a_rule(worker: Oversight, school: School) -> None:
    """The third word proposes it; it decides nothing until it is added; refused, it is not proposed again."""
    failures = fail(worker, *COURIER)
    assert relabel(school, failures[:2], "recoverable_temporary").proposal is None
    proposal = relabel(school, failures[2:], "recoverable_temporary").proposal
    assert proposal.patterns == (r"\bcourier\b.*\bquota\b",)
    assert set(proposal.must_match) == set(COURIER)
    assert school.lessons().rules[proposal.id].state is RuleState.PROPOSED
    (one,) = fail(worker, "no courier is left, quota 0")
    assert one.verdict.rule != proposal.id
    trial = school.trial([proposal], days=7, seen=lambda _number: None)
    assert (trial.seen, trial.hits, trial.changed) == (4, 4, 1), "the three are decided by words"
    school.switch(proposal.id, on=False, by="ann")
    assert relabel(school, failures[2:], "recoverable_temporary").proposal is None
    school.switch(proposal.id, on=True, by="ann")
    school.add(OwnRule("courier.quota", proposal.category, proposal.patterns), by="ann", proposal=proposal.id)
    assert set(school.lessons().rules) == {"courier.quota"}
    assert fail(worker, "no courier is left, quota -1")[0].verdict.rule == "courier.quota"
    assert relabel(school, failures[2:], "recoverable_temporary").proposal is None


def test_what_does_not_propose(worker: Oversight, school: School) -> None:
    """Words that were taken back, words for one group, and a text that a person has put elsewhere."""
    failures = fail(worker, *COURIER, "the courier raised our quota")
    relabel(school, failures[:2], "recoverable_temporary")
    school.unlabel(record(school, failures[0]).fingerprint, by="ann")
    assert relabel(school, [failures[2], failures[2]], "recoverable_temporary").proposal is None
    relabel(school, failures[3:], "unrecoverable_business")
    assert relabel(school, failures[:1], "recoverable_temporary").proposal is None


def test_a_trial_reads_page_by_page(worker: Oversight, school: School) -> None:
    """More failures than a page holds, many of one instant: each is looked at once."""
    number = PAGE + 30
    fail(worker, *(f"odd error {one}" for one in range(number)))
    heard: list[int] = []
    rule = OwnRule("tried", "recoverable_temporary", ("odd error",))
    trial = school.trial([rule], days=1, seen=heard.append)
    assert (trial.seen, trial.starts.count, len(trial.starts.examples), heard) == (number, number, 5, [PAGE])
    assert school.trial([rule], days=0.0000001, seen=heard.append).seen == 0


def test_two_who_teach_at_once(school: School, settings: Settings) -> None:
    """Each word counts, and of two rules with one id the first."""
    barrier = Barrier(4)

    def add(number: int) -> str:
        database = Database(settings.database_url)
        mine = wiring.open_school(settings, SqlStore(database), SqlLedger(database))
        barrier.wait()
        try:
            return mine.add(OwnRule("same", "unknown", (f"pattern {number}",)), by=f"by{number}").changed_by
        except RuleError:
            return ""
        finally:
            database.close()

    with ThreadPoolExecutor(4) as threads:
        winners = [one for one in threads.map(add, range(4)) if one]
    assert winners == [school.lessons().rules["same"].changed_by]


def test_what_a_newer_version_has_written(school: School, store: SqlStore, database: Database) -> None:
    """A rule with a field that this version does not know is read all the same; what it does not understand is not."""
    store.teach([a_lesson()], last=0)
    with database.write() as connection:
        row = {"at": START, "by": "ann"}
        rule = '{"moon": 1, "rule": {"category": "unknown", "patterns": ["p"], "moon": [1]}}'
        connection.execute(insert(lesson).values(**row, kind="add", subject="r", category="unknown", body=rule))
        connection.execute(insert(lesson).values(**row, kind="moon", subject="x", category="", body="{}"))
    assert school.lessons().rules["r"].patterns == ("p",)
