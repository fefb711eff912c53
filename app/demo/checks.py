"""Is it true? Compares the ledger with witnesses that know nothing of it: the courier, Celery, the waiting calls."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
from celery import states

from app.demo import plot
from app.demo.evidence import Evidence
from app.demo.plot import Scene
from regrow.model import CATEGORIES, State

#: What Celery and the table of tasks say of a task by its state in the ledger, which does not know one that never
#: failed. The one that is held for a person has no end in Celery.
_SAY = {
    None: (states.SUCCESS, "succeeded"),
    State.RECOVERED: (states.SUCCESS, "succeeded"),
    State.HANDED_OVER: (states.FAILURE, "failed"),
    State.EXHAUSTED: (states.FAILURE, "failed"),
    State.HELD: (states.PENDING, "failed"),
}

#: Where the two departments read.
_DEPARTMENTS = {plot.SOLD_OUT: "customer_service.log", plot.UNPAID: "finance.log"}

Problems = Iterator[str]


# -- the tasks ---------------------------------------------------------------------------------------------------------


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


def _booked_once(scene: Scene, field: str) -> Callable[[Evidence], Problems]:
    def check(seen: Evidence) -> Problems:
        yield from _returned(scene)(seen)
        booked = [visit.body.get(field) for visit in seen.courier.visits(scene.path)]
        if booked != [plot.ANSWERS[scene]] or seen.courier.made(scene.path) != 1:
            yield f"the service has {booked} instead of {[plot.ANSWERS[scene]]}"

    return check


def _categories(seen: Evidence) -> Problems:
    for scene, record in seen.records.items():
        category, _ = seen.fate(scene)
        for run in record.history:
            if category is None or run.category != category.key:
                yield f"{scene.path}: {run.category} instead of {category} ({run.exception_type}: {run.message})"
    missing = CATEGORIES.keys() - {record.category for record in seen.records.values()}
    if missing:
        yield f"no failure is {', '.join(sorted(missing))}"


def _endings(seen: Evidence) -> Problems:
    for scene in plot.SCENES:
        record = seen.records.get(scene)
        state, (_, wanted) = record.state if record else None, seen.fate(scene)
        if state is not wanted:
            yield f"{scene.path}: {state} instead of {wanted}"


def _same_everywhere(seen: Evidence) -> Problems:
    for scene, result in seen.results.items():
        record, row = seen.records.get(scene), seen.rows.get(scene)
        celery, status = _SAY.get(record.state if record else None, ("an end", "an end"))
        ledger = record.state if record else "nothing"
        if result.state != celery:
            yield f"{scene.path}: Celery says {result.state}, the ledger {ledger}"
        retries = record.retries if record else 0
        if row is None or (row.status, row.recovery_attempts) != (status, retries):
            yield f"{scene.path}: the table says {row}, the ledger {ledger} after {retries} retries"
        elif record is not None and not row.recovery_notes:
            yield f"{scene.path}: no recovery_notes"


def _requests(seen: Evidence) -> Problems:
    for scene in plot.SCENES:
        came, wanted = len(seen.courier.visits(scene.path)), seen.requests(scene)
        if scene in plot.PHOTOS and not seen.browser:
            wanted = 0
        if came != wanted:
            yield f"{scene.path}: {came} requests, {wanted} runs that got through by the ledger"


def _asked_to_wait(seen: Evidence) -> Problems:
    for scene in plot.SCENES:
        if scene.trouble is None or not scene.trouble.retry_after:
            continue
        times = [visit.at for visit in seen.courier.visits(scene.path)]
        gaps = [later - sooner for sooner, later in pairwise(times)]
        if not gaps or min(gaps) < scene.trouble.retry_after:
            yield f"{scene.path}: asked again after {gaps} seconds instead of {scene.trouble.retry_after}"


def _own_error(seen: Evidence) -> Problems:
    spent = seen.results.get(plot.SPENT)
    error = spent.result if spent else None
    if not isinstance(error, httpx.HTTPError) or "503" not in str(error):
        yield f"it ended with {error!r}"
    for scene, result in seen.results.items():
        fired, wanted = seen.courier.made(f"/complaints/{result.id}"), int(scene is plot.SPENT)
        if fired != wanted:
            yield f"{scene.path}: its errback has fired {fired} times instead of {wanted}"


def _files(seen: Evidence) -> Problems:
    for task, head in (("receipt_generation", b"%PDF-"), ("screenshot_capture", b"\x89PNG")):
        for scene, result in seen.results.items():
            if scene.task == task and result.state == states.SUCCESS:
                file = Path(str(result.result))
                if not file.is_file() or not file.read_bytes().startswith(head):
                    yield f"{scene.path}: {file} is no {head!r}"


# -- the worker that died ----------------------------------------------------------------------------------------------


def _killed(seen: Evidence) -> Problems:
    running = {seen.results[scene].id for scene in (plot.CUT_HEAD, plot.CUT_PAYMENT) if scene in seen.results}
    if seen.died != -9 or seen.held is None or seen.held.running != running:  # noqa: PLR2004  # by SIGKILL
        yield f"it ended with {seen.died}, and ran {seen.held.running if seen.held else 'nothing'}"
    elif not (seen.held.taken and seen.held.queued) or seen.held.between:
        yield f"it had {seen.held}"


def _taken_in_once(seen: Evidence) -> Problems:
    """Each of them was taken in with its one loss; what was not lost has run without a failure."""
    for scene in (plot.CUT_HEAD, plot.CUT_PAYMENT, plot.FOREIGN, *seen.lost):
        record = seen.records.get(scene)
        if record is None or record.attempts != 1:
            yield f"{scene.path}: {record.attempts if record else 'no'} runs in the ledger instead of 1"
    for scene in plot.QUEUED:
        if scene not in seen.lost and scene in seen.records:
            yield f"{scene.path}: in the ledger, though it was in the broker"


def _nothing_twice(seen: Evidence) -> Problems:
    for scene in plot.SCENES:
        if scene.task in plot.ONCE:
            _, state = seen.fate(scene)
            wanted = int(state in (None, State.RECOVERED) or scene is plot.CUT_PAYMENT)
            if seen.courier.made(scene.path) != wanted:
                yield f"{scene.path}: done {seen.courier.made(scene.path)} times instead of {wanted}"


def _held(seen: Evidence) -> Problems:
    record, requests = seen.records.get(plot.CUT_PAYMENT), len(seen.courier.visits(plot.CUT_PAYMENT.path))
    if record is None or record.state is not State.HELD or requests != 1:
        yield f"it is {record.state if record else 'unknown'} after {requests} requests"


def _by_hand(seen: Evidence) -> Problems:
    answers = seen.returned.get("manual_recovery_task", ())
    if not answers or not all(isinstance(one, dict) and one.get("success") is True for one in answers):
        yield f"it returned {answers}"


# -- who was told ------------------------------------------------------------------------------------------------------


def _told(seen: Evidence) -> Problems:
    for scene, result in seen.results.items():
        for name in ("admin_alerts.log", "user_notifications.log"):
            count = sum(f'task_id="{result.id}"' in line for line in seen.logs[name])
            wanted = int(name == plot.told(scene, *seen.fate(scene)))
            if count != wanted:
                yield f"{scene.path}: {count} lines in {name} instead of {wanted}"
    for user, notices in seen.inboxes.items():
        wanted = sum(one.user == user and plot.told(one, *seen.fate(one)).startswith("user") for one in plot.SCENES)
        if len(notices) != wanted:
            yield f"{user} finds {len(notices)} messages instead of {wanted}"
    if not seen.alerts:
        yield "no system alert is open"


def _departments(seen: Evidence) -> Problems:
    for scene, result in seen.results.items():
        for name in _DEPARTMENTS.values():
            count, wanted = sum(result.id in line for line in seen.logs[name]), int(_DEPARTMENTS.get(scene) == name)
            if count != wanted:
                yield f"{scene.path}: {count} lines in {name} instead of {wanted}"


def _reported(seen: Evidence) -> Problems:
    reported = {result["celery_task_id"]: result["category"] for one in seen.processing for result in one["results"]}
    for scene, record in seen.records.items():
        if reported.get(record.task_id) != record.category:
            yield f"{scene.path}: {reported.get(record.task_id, 'in no report')} instead of {record.category}"
    for one in seen.processing:
        if one["success"] is not True or one["total_processed"] != len(one["results"]) or one["stats"]["errors"]:
            yield f"the report of {one['processed_at']}: {one['stats']}"
    # Of two scans at once the second may find nothing to do but wait for the first, and say so.
    returned = seen.returned.get("scan_and_process_failed_tasks", ())
    good = sum(isinstance(one, dict) and one["success"] for one in returned)
    if good < 2 or len(seen.processing) != good:  # noqa: PLR2004  # one after the kill, one in the end
        yield f"{len(seen.processing)} reports; the scans returned {returned}"


def _analysed(seen: Evidence) -> Problems:
    wanted = Counter(record.category for record in seen.records.values())
    types = Counter(record.task_type for record in seen.records.values())
    if len(seen.analyses) != 1:
        yield f"{len(seen.analyses)} reports"
    for one in seen.analyses:
        if (one["total_failures"], one["category_distribution"]) != (wanted.total(), wanted) or not one["insights"]:
            yield f"{one['category_distribution']} instead of {dict(wanted)}"
        if one["task_type_failures"] != types:
            yield f"{one['task_type_failures']} instead of {dict(types)}"


# -- the ledger --------------------------------------------------------------------------------------------------------


def _nothing_left(seen: Evidence) -> Problems:
    left = {state.value: seen.balance.by_state[state] for state in State if state.live}
    left |= {"parked": seen.balance.parked, "overdue": seen.balance.overdue, "undelivered": seen.balance.undelivered}
    for name, count in left.items():
        if count:
            yield f"{name}: {count}"


def _balanced(seen: Evidence) -> Problems:
    if not seen.balance.balanced:
        yield f"captured {seen.balance.captured}, but all states together {sum(seen.balance.by_state.values())}"


def _captured(seen: Evidence) -> Problems:
    """By the service's own count, by what the dead worker had, and by what needs no service to fail."""
    must = {scene for scene in plot.SCENES if seen.fate(scene)[0] is not None}
    by_service = {scene for scene in plot.SCENES if scene.path in seen.courier.failed()}
    if set(seen.records) != must or not by_service <= must or seen.balance.captured != len(must):
        wrong = {scene.path for scene in must ^ set(seen.records) | by_service - must}
        yield f"captured {seen.balance.captured} instead of {len(must)}: {sorted(wrong)}"


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
    ("the chain has returned the right value, its tail ran once", _booked_once(plot.TAIL, "text")),
    ("the chord has returned the right value, its body ran once", _booked_once(plot.BODY, "cents")),
    ("every failure has the right category, and each category has failures", _categories),
    ("every task has ended as it should", _endings),
    ("Celery and the table of tasks say of every task what the ledger says", _same_everywhere),
    ("the services have seen one request for each run in the ledger", _requests),
    ("the courier's Retry-After was respected, by its own clock", _asked_to_wait),
    ("the task whose retries were used up ended with its own exception and one errback", _own_error),
    ("the receipts are PDF files, the screenshots PNG files", _files),
    ("the worker died of SIGKILL with tasks running, taken and queued", _killed),
    ("the chain that was cut off has returned the right value, its tail ran once", _booked_once(plot.CUT_TAIL, "text")),
    ("two scans at once have taken in what was lost, each once, and nothing else", _taken_in_once),
    ("the payment that was cut off was made once, and is held for a person", _held),
    ("no order, payment, notice or invoice was made twice, by the services' books", _nothing_twice),
    ("manual_recovery_task has recovered the order", _by_hand),
    ("one message for each task that needs a person, in the right log and inbox", _told),
    ("customer service knows of the order failure, finance of the payment failure", _departments),
    ("the processing reports tell of every failure", _reported),
    ("the analysis report counts what the ledger counts", _analysed),
    ("nothing is left waiting, running, parked or untold", _nothing_left),
    ("the ledger equation holds", _balanced),
    ("the ledger has captured exactly the tasks that failed or were lost", _captured),
    ("`regrow status --json` says the same", _same_status),
)  # fmt: skip
