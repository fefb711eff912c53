"""What a person decides on the command line: `regrow retry` and `regrow dismiss` on a real ledger."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from regrow.adapters.sql import SqlLedger, SqlStore
from regrow.model import CATEGORIES, NETWORK, Header, Record, State
from regrow.pipeline import DUE_STATES
from regrow.testing.doubles import RecordingDispatcher, a_failure, a_regrow
from regrow.wiring import clock
from tests.command_line import Answer

DATA = CATEGORIES["unrecoverable_data"]
LEASE = timedelta(seconds=60)

#: A failure's story, where it stands after it, why it is not run again ('' if it is), whether it may be left.
STORIES = (
    ("held", State.HELD, "", True),
    ("handed_over", State.HANDED_OVER, "", True),
    ("call_not_kept", State.HANDED_OVER, "call was not kept", True),
    ("exhausted", State.EXHAUSTED, "5 are allowed", True),
    ("scheduled", State.SCHEDULED, "", True),
    ("dispatched", State.DISPATCHED, "on its way", False),
    ("being_closed", State.HANDED_OVER, "about to end it", True),
    ("recovered", State.RECOVERED, "has succeeded", False),
    ("dismissed", State.DISMISSED, "", False),
    ("dismissed_and_parked", State.DISMISSED, "about to end it", False),
)


@pytest.fixture(autouse=True)
def elsewhere(store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings of this machine or this folder, save which ledger it is."""
    monkeypatch.chdir(tmp_path)
    for name in ("REGROW_APP", "FAILURE_LANGUAGE", "FAILURE_MODE", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FAILURE_DATABASE_URL", store_url)


def tell(store: SqlStore, story: str) -> int:
    """Put a failure with that story into the ledger, between two others that nobody speaks of; return its id."""
    regrow = a_regrow(store, clock=clock)
    failure = {
        "held": a_failure(work_done=True),
        "handed_over": a_failure(DATA),
        "call_not_kept": a_failure(DATA, envelope=None),
        "exhausted": a_failure(attempt=6),
        "dismissed": a_failure(DATA),
        "dismissed_and_parked": a_failure(work_done=True),
    }.get(story, a_failure(NETWORK))
    handled = regrow.handle([a_failure(work_done=True), failure, a_failure(DATA)])[1]
    assert handled.id is not None
    if story.startswith("dismissed"):
        assert store.dismiss(handled.id, now=clock())
    if story in ("dispatched", "being_closed", "recovered"):
        (due,) = store.claim(clock() + timedelta(seconds=30), limit=9, lease=LEASE, states=DUE_STATES)
        if story == "recovered":
            assert store.recovered(due.failure, now=clock())
        if story == "being_closed":  # the retry has failed beyond repair, and Celery still waits for the task's end
            header = Header(due.failure, 2, due.token)
            assert store.start(header, retries=0, idempotent=False, due_at=clock() + LEASE)
            regrow.handle([replace(a_failure(DATA, attempt=2, token=due.token), task_id=due.task_id)])
    return handled.id


def found(ledger: SqlLedger, failure: int) -> Record:
    """All that the ledger says of a failure."""
    record = ledger.find(str(failure))
    assert record is not None
    return record


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("command", ["retry", "dismiss"])
@pytest.mark.parametrize(("story", "state", "no_retry", "may_dismiss"), STORIES, ids=[one[0] for one in STORIES])
def test_answer(
    story: str,
    state: State,
    no_retry: str,
    may_dismiss: bool,
    command: str,
    form: str,
    store: SqlStore,
    ledger: SqlLedger,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What is allowed is done and ends with 0; what is refused says where the failure stands, and changes nothing."""
    failure = tell(store, story)
    everything, before = ledger.failures(), found(ledger, failure)
    assert before.state is state
    allowed = not no_retry if command == "retry" else may_dismiss
    answer = Answer(capsys, command, str(failure), *(["--json"] if form == "json" else []))
    after = found(ledger, failure)

    assert answer.code == (0 if allowed else 1)
    said = (answer.out or answer.err).strip()
    if form == "json":
        assert answer.err == ""
        assert set(answer.json) == {"id", "task_id", "success", "message"}
        assert (answer.json["id"], answer.json["task_id"]) == (failure, before.task_id)
        assert answer.json["success"] is allowed
        said = answer.json["message"]
    else:
        assert not (answer.err if allowed else answer.out)
    assert len(said.splitlines()) == 1
    assert f"{failure} " in said
    assert (("will be sent again" in said) if command == "retry" else (f"{failure} is dismissed" in said)) is allowed
    if not allowed:
        assert (no_retry if command == "retry" else state.value) in said
        assert after == before
        assert ledger.failures() == everything
        return
    assert after.state is (State.SCHEDULED if command == "retry" else State.DISMISSED)
    assert (after.ended_at is None) == (command == "retry")
    assert (after.parked, after.attempts, after.history) == (before.parked, before.attempts, before.history)
    others = [[one for one in page if one.id != failure] for page in (everything, ledger.failures())]
    assert others[0] == others[1], "nothing happens to any other failure"
    assert ledger.balance(clock()).balanced


@pytest.mark.parametrize("story", [one[0] for one in STORIES if not one[2] or one[0] == "exhausted"])
def test_retry_is_sent_once(story: str, store: SqlStore, ledger: SqlLedger, capsys: pytest.CaptureFixture[str]) -> None:
    """The dispatcher's next look sends the very call that failed, under its own id, and no later look again."""
    task_id = found(ledger, tell(store, story)).task_id
    force = ["--force"] if story == "exhausted" else []
    assert [Answer(capsys, "retry", *force, task_id).code for _ in range(2)] == [0, 0], "two persons, one retry"
    sender = RecordingDispatcher()
    regrow = a_regrow(store, clock=clock, dispatcher=sender)
    assert [regrow.act().sent for _ in range(3)] == [1, 0, 0]
    (due,) = sender.sent
    assert (due.task_id, due.envelope) == (task_id, a_failure().envelope)
    assert store.history(task_id).state is State.DISPATCHED
    assert [Answer(capsys, order, task_id).code for order in ("dismiss", "retry")] == [1, 1], "it is on its way"
    assert store.recovered(due.failure, now=clock())
    assert ledger.balance(clock()).by_state[State.RECOVERED] == 1


@pytest.mark.parametrize("story", [one[0] for one in STORIES if one[3]])
def test_dismissed_is_never_sent(
    story: str, store: SqlStore, ledger: SqlLedger, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is dismissed is not sent; Celery ends it if it still waits for it, and then a person may think again."""
    before = found(ledger, tell(store, story))
    assert Answer(capsys, "dismiss", before.task_id).code == 0
    assert found(ledger, before.id).reason == "dismissed"
    sender = RecordingDispatcher()
    regrow = a_regrow(store, clock=clock, dispatcher=sender)
    regrow.act()
    assert sender.sent == sender.ended == []
    assert [due.task_id for due in sender.ordered] == ([before.task_id] if before.parked else [])
    if before.parked:
        assert Answer(capsys, "retry", "--force", before.task_id).code == 1, "the order to end it is on its way"
        regrow.closed(before.id)
    kept = story != "call_not_kept"
    assert Answer(capsys, "retry", "--force", before.task_id).code == (0 if kept else 1)
    assert found(ledger, before.id).state is (State.SCHEDULED if kept else State.DISMISSED)


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("command", ["retry", "dismiss"])
@pytest.mark.parametrize("which", ["99", "no-such-task", "", "0", "-1", "1" * 40, "é", "held"])
def test_unknown(
    which: str, command: str, form: str, store: SqlStore, ledger: SqlLedger, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is not there is said to be not there, on stderr, and nothing happens to what is there."""
    tell(store, "held")
    before = ledger.failures()
    answer = Answer(capsys, command, *(["--json"] if form == "json" else []), "--", which)
    assert (answer.code, answer.out) == (1, "")
    assert answer.err == f"regrow: no failure with the id {which} in the ledger\n"
    assert ledger.failures() == before
