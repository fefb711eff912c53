"""Is it true? Compares the ledger with witnesses that know nothing of it: the courier, Celery, the waiting calls."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import requests
from celery import states

from app.courier import Courier
from app.demo import plot
from app.demo.plot import Scene
from regrow.model import Balance, Record, State

if TYPE_CHECKING:
    from celery.result import AsyncResult

#: Celery's state of a task by its state in the ledger; the ledger does not know a task that never failed.
_CELERY_STATES = {
    None: states.SUCCESS,
    State.RECOVERED: states.SUCCESS,
    State.HANDED_OVER: states.FAILURE,
    State.EXHAUSTED: states.FAILURE,
    State.DISMISSED: states.FAILURE,
}


@dataclass(frozen=True)
class Evidence:
    """What all witnesses say after the end.

    Args:
        courier: The service that the tasks asked.
        results: Celery's results.
        answers: What the waiting calls returned, or the exception that they raised.
        records: What the ledger says, by task; a task that it does not know is missing.
        balance: The ledger equation.
        logs: The lines of each log file for people, by file name.
        status: What `regrow status --json` prints.
        over: True if everything came to an end in time.
    """

    courier: Courier
    results: Mapping[Scene, AsyncResult]
    answers: Mapping[Scene, object]
    records: Mapping[Scene, Record]
    balance: Balance
    logs: Mapping[str, list[str]]
    status: str
    over: bool

    def runs(self, scene: Scene) -> int:
        """How often a task ran, by the ledger: its failures, and the run that ended them."""
        record = self.records.get(scene)
        if record is None:
            return 1
        return record.attempts + (record.state is State.RECOVERED)

    def refused(self, scene: Scene) -> int:
        """How many of those runs met a closed port, by the ledger: they never reached the courier."""
        record = self.records.get(scene)
        return sum("refused" in run.message for run in record.history) if record else 0


Problems = Iterator[str]


def _in_time(seen: Evidence) -> Problems:
    if not seen.over:
        waiting = [scene.path for scene, result in seen.results.items() if not result.ready()]
        live = [scene.path for scene, record in seen.records.items() if record.state.live or record.parked]
        yield f"Celery still waits for {waiting}, the ledger for {live}"


def _returned(scene: Scene) -> Callable[[Evidence], Problems]:
    def check(seen: Evidence) -> Problems:
        got, wanted = seen.answers.get(scene, "nothing yet"), plot.ANSWERS[scene]
        if got != wanted:
            yield f"{got!r} instead of {wanted!r}"

    return check


def _once(scene: Scene, field: str) -> Callable[[Evidence], Problems]:
    def check(seen: Evidence) -> Problems:
        booked = [visit.body.get(field) for visit in seen.courier.visits(scene.path)]
        if booked != [plot.ANSWERS[scene]] or seen.courier.made(scene.path) != 1:
            yield f"the courier has {booked} instead of {[plot.ANSWERS[scene]]}"

    return check


def _categories(seen: Evidence) -> Problems:
    for scene, record in seen.records.items():
        for run in record.history:
            if scene.category is None or run.category != scene.category.key:
                yield f"{scene.path}: {run.category} instead of {scene.category} ({run.exception_type})"


def _endings(seen: Evidence) -> Problems:
    for scene in plot.SCENES:
        record = seen.records.get(scene)
        state = record.state if record else None
        if state is not scene.ends:
            yield f"{scene.path}: {state} instead of {scene.ends}"


def _same_as_celery(seen: Evidence) -> Problems:
    for scene, result in seen.results.items():
        record = seen.records.get(scene)
        wanted = _CELERY_STATES.get(record.state if record else None, "an end")
        if result.state != wanted:
            yield f"{scene.path}: Celery says {result.state}, the ledger {record.state if record else 'nothing'}"


def _same_as_courier(seen: Evidence) -> Problems:
    for scene in plot.SCENES:
        requests_seen, wanted = len(seen.courier.visits(scene.path)), seen.runs(scene) - seen.refused(scene)
        if requests_seen != wanted:
            yield f"{scene.path}: {requests_seen} requests, {wanted} runs that got through by the ledger"


def _asked_to_wait(seen: Evidence) -> Problems:
    for scene in plot.SCENES:
        if scene.trouble is None or not scene.trouble.retry_after:
            continue
        times = [visit.at for visit in seen.courier.visits(scene.path)]
        gaps = [later - sooner for sooner, later in pairwise(times)]
        if not gaps or min(gaps) < scene.trouble.retry_after:
            yield f"{scene.path}: asked again after {gaps} seconds instead of {scene.trouble.retry_after}"


def _one_label(seen: Evidence) -> Problems:
    path = plot.LABEL.path
    if len(seen.courier.visits(path)) < 2 or seen.courier.made(path) != 1:  # noqa: PLR2004  # the first answer is lost
        yield f"{seen.courier.made(path)} labels for {len(seen.courier.visits(path))} requests"


def _own_error(seen: Evidence) -> Problems:
    error = seen.results[plot.LOST].result
    if not isinstance(error, requests.HTTPError) or "503" not in str(error):
        yield f"it ended with {error!r}"


def _errback(seen: Evidence) -> Problems:
    for scene, result in seen.results.items():
        fired, wanted = seen.courier.made(f"/complaints/{result.id}"), int(scene is plot.LOST)
        if fired != wanted:
            yield f"{scene.path}: {fired} times instead of {wanted}"


def _nothing_left(seen: Evidence) -> Problems:
    left = {state.value: seen.balance.by_state[state] for state in State if state.live or state is State.HELD}
    left |= {"parked": seen.balance.parked, "overdue": seen.balance.overdue, "undelivered": seen.balance.undelivered}
    for name, count in left.items():
        if count:
            yield f"{name}: {count}"


def _balanced(seen: Evidence) -> Problems:
    if not seen.balance.balanced:
        yield f"captured {seen.balance.captured}, but all states together {sum(seen.balance.by_state.values())}"


def _captured(seen: Evidence) -> Problems:
    must = plot.must_fail(plot.SCENES, seen.courier.failed())
    if seen.balance.captured != len(must) or set(must) != set(seen.records):
        yield f"captured {seen.balance.captured} instead of {len(must)}"


def _told(seen: Evidence) -> Problems:
    for scene, result in seen.results.items():
        for name, lines in seen.logs.items():
            count, wanted = sum(result.id in line for line in lines), int(name == plot.told(scene))
            if count != wanted:
                yield f"{scene.path}: {count} lines in {name} instead of {wanted}"
    total, expected = sum(map(len, seen.logs.values())), sum(plot.told(scene) != "" for scene in plot.SCENES)
    if total != expected:
        yield f"{total} lines in all instead of {expected}"


def _same_status(seen: Evidence) -> Problems:
    try:
        said: dict[str, Any] = json.loads(seen.status)
    except ValueError:
        yield seen.status
        return
    counts = {state.value: count for state, count in seen.balance.by_state.items()}
    wanted = {"captured": seen.balance.captured, **counts, "balanced": seen.balance.balanced}
    if said.get("ledger") != wanted or said.get("parked") != seen.balance.parked:
        yield f"{said.get('ledger')} instead of {wanted}"


#: Every check with what it says, in English; `app.demo.texts` has the other languages.
CHECKS: tuple[tuple[str, Callable[[Evidence], Problems]], ...] = (
    ("every task has come to an end in time", _in_time),
    ("the waiting .get() has returned the right value", _returned(plot.PLAIN)),
    ("the chain has returned the right value", _returned(plot.TAIL)),
    ("the chain's tail has run once, with the right value", _once(plot.TAIL, "text")),
    ("the chord has returned the right value", _returned(plot.BODY)),
    ("the chord's body has run once, with the right value", _once(plot.BODY, "cents")),
    ("every failure has the right category", _categories),
    ("every task has ended as it should", _endings),
    ("Celery says of every task what the ledger says", _same_as_celery),
    ("the courier has seen one request for each run in the ledger", _same_as_courier),
    ("the courier's Retry-After was respected, by its own clock", _asked_to_wait),
    ("the label whose answer was lost was printed once, not twice", _one_label),
    ("the task whose retries were used up ended with its own exception", _own_error),
    ("its errback has fired exactly once, and no other", _errback),
    ("one message for each task that needs a person, and no other", _told),
    ("nothing is left waiting, running, parked or untold", _nothing_left),
    ("the ledger equation holds", _balanced),
    ("the ledger has captured exactly the tasks that failed by the courier's count", _captured),
    ("`regrow status --json` says the same", _same_status),
)
