"""The guide's facade: categories, analyzer, manual recovery, health."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.app.place import Place, place

HEAD = """
import json
from datetime import UTC, datetime, timedelta
from regrow import wiring
from app.tasks.celery_app import celery_app, settings
wiring.upgrade(settings)
from app.tasks.failure_tasks import *
from app.tasks import failure_tasks
from app.db import db
from app.models import Task
def failed(type="tracking_update", error="ConnectionError", text="Connection refused", **more):
    row = Task(**{"task_type": type, "params": {"args": ["SF0000000001"], "kwargs": {}}, "status": "failed",
               "error_type": error, "error_message": text, "failed_at": datetime.now(UTC), **more})
    db.add(row); db.commit()
    return row.id
said = {}
"""


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Place]:
    """The application, not running."""
    with place(tmp_path) as made:
        yield made


def play(here: Place, code: str, **environment: str) -> Any:
    """What `code` puts into `said`."""
    done = here.run("-c", f"{HEAD}\n{code}\nprint(json.dumps(said, ensure_ascii=False))", **environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_categories(here: Place) -> None:
    """They are text, they are members, and more can be added."""
    said = play(
        here,
        """
import pickle
one = FailureCategory.RECOVERABLE_NETWORK
mine = FailureCategory.add("MINE", "mine", audience="time")
said |= {"text": one == "recoverable_network", "is": isinstance(one, FailureCategory), "shown": f"{one}",
         "same": FailureCategory("recoverable_network") is one, "pickled": pickle.loads(pickle.dumps(one)) is one,
         "all": len(FailureCategory), "mine": FailureCategory.MINE is mine, "value": mine.value, "json": mine}
for wrong in (lambda: FailureCategory("nothing"), lambda: FailureCategory.add("MINE", "mine")):
    try:
        wrong()
    except ValueError as error:
        said.setdefault("errors", []).append(str(error)[:30])
""",
    )
    assert said.pop("errors") == ["no failure category 'nothing';", "there is a failure category MI"]
    assert said.pop("all") == 10
    assert (said.pop("shown"), said.pop("value"), said.pop("json")) == ("recoverable_network", "mine", "mine")
    assert all(said.values()), said


def test_the_analyzer_takes_what_the_guide_gives(here: Place) -> None:
    """A row, a dict, an exception, a text; anything else is refused."""
    said = play(
        here,
        """
analyzer = FailureAnalyzer()
row = db.query(Task).filter(Task.id == failed()).first()
for name, one in {"row": row, "dict": {"error_message": "Connection refused"}, "text": "Connection refused",
                  "exception": ConnectionRefusedError("no"), "empty": {}}.items():
    category, analysis = analyzer.analyze_failure(one)
    said[name] = [category, isinstance(category, FailureCategory), analysis["category"], bool(analysis["advice"])]
    json.dumps(analysis)
try:
    analyzer.analyze_failure(5)
except TypeError as error:
    said["wrong"] = str(error)
""",
    )
    assert said.pop("wrong").endswith("not int")
    assert said.pop("empty") == ["unknown", True, "unknown", True]
    assert said == dict.fromkeys(("row", "dict", "text", "exception"), ["recoverable_network", True] * 2)


def test_refusals(here: Place) -> None:
    """Each says why, and changes nothing (G10)."""
    said = play(
        here,
        """
ask = manual_recovery_task.run
for name, one in {"unknown": 999, "text": "7", "bool": True, "none": None, "huge": 2**70}.items():
    said[name] = ask(one)
said["running"] = ask(failed(status="running"))
said["succeeded"] = ask(failed(status="succeeded"))
said["lost call"] = ask(failed(params=None))
said["no such type"] = ask(failed(type="nothing"))
said["revoked"] = ask(failed(error="celery.exceptions.TaskRevokedError", text="revoked"))
late = failed(text="[DATA] Validation failed: x")
celery_app.regrow.pipeline().scan()
db.get(Task, late).status = "succeeded"
db.commit()
said["late success"] = ask(late, force_retry=True)
""",
    )
    assert {name: answer["success"] for name, answer in said.items()} == dict.fromkeys(said, False)
    assert said["unknown"]["message"] == "任务 999 不存在"
    assert said["text"]["message"] == "task_id 应为任务编号（整数），而不是 '7'"
    assert "撤销" in said["revoked"]["message"]
    assert "当前状态为 succeeded" in said["late success"]["message"]
    assert "当前状态为 running" in said["running"]["message"]
    assert all(answer["message"] for answer in said.values())


def test_a_failed_row_is_scanned_in_and_sent(here: Place) -> None:
    """What no door saw enters the ledger by the order; a waiting retry is due now; once it runs it is refused."""
    said = play(
        here,
        """
ask = manual_recovery_task.run
one = failed(text="[DATA] Validation failed: x")
said["first"] = ask(one)
said["again"] = ask(one, force_retry=True)
pipeline = celery_app.regrow.pipeline()
celery_id = db.get(Task, one).celery_task_id
pipeline.act()
said["sent"] = [one.state for one in pipeline.ledger.failures()]
said["running"] = ask(one, force_retry=True)
row = db.get(Task, one)
said["row"] = [row.status, row.recovery_attempts, row.recovery_notes]
""",
    )
    assert said["first"]["success"]
    assert said["first"]["message"] == "任务将立即重试"
    assert said["again"]["success"]
    assert said["sent"] == ["dispatched"]
    assert not said["running"]["success"]
    status, attempts, notes = said["row"]
    assert (status, attempts) == ("retrying", 1)
    assert "manual_recovery_task" in notes
    assert len(here.messages("celery")) == 1


def test_a_task_whose_id_is_a_number(here: Place) -> None:
    """The failure of this task is retried, not the one that has this number in the ledger; and only `True` is force."""
    said = play(
        here,
        """
pipeline = celery_app.regrow.pipeline()
for number in range(3):
    failed(text="[DATA] Validation failed: x")
pipeline.scan()
one = failed(text="[DATA] Validation failed: x", celery_task_id="2")
said["answer"] = manual_recovery_task.run(one, force_retry="false")
said["states"] = {record.task_id: record.state for record in pipeline.ledger.failures()}
said["forced"] = pipeline.ledger.find("4").notes[0].by
""",
    )
    assert said["answer"]["success"], said
    assert said["states"].pop("2") == "scheduled"
    assert set(said["states"].values()) == {"handed_over"}
    assert said["forced"] == "manual_recovery_task"


def test_thresholds(here: Place) -> None:
    """They are the guide's, follow the settings, and what is written into them holds for this process (G18)."""
    said = play(
        here,
        """
guide = {"failure_rate_threshold": 20, "recovery_failure_threshold": 5, "notification_delay_threshold": 10,
         "unknown_error_threshold": 10}
said["guide"] = ALERT_THRESHOLDS == guide and f"{ALERT_THRESHOLDS}" == f"{dict(ALERT_THRESHOLDS)}"
ALERT_THRESHOLDS.update(unknown_error_threshold=0)
said["written"] = ALERT_THRESHOLDS["unknown_error_threshold"]
said["used"] = wiring.load_settings(celery_app).thresholds().unknown_errors
try:
    ALERT_THRESHOLDS["failure_rate_threshold"] = 200
except wiring.SettingsError as error:
    said["error"] = str(error)
try:
    ALERT_THRESHOLDS["failure_rate"] = 20
except KeyError as error:
    said["unknown"] = str(error)
del ALERT_THRESHOLDS["unknown_error_threshold"]
said["back"] = ALERT_THRESHOLDS["unknown_error_threshold"]
""",
    )
    assert (said["guide"], said["written"], said["used"], said["back"]) == (True, 0, 0, 10)
    assert "FAILURE_ALERT_FAILURE_RATE_PERCENT=200" in said["error"]
    assert said["unknown"] == "'failure_rate'"
    from_environment = play(
        here, "said['rate'] = ALERT_THRESHOLDS['failure_rate_threshold']", FAILURE_ALERT_FAILURE_RATE_PERCENT="7"
    )
    assert from_environment == {"rate": 7}


def test_the_analyzer_knows_what_the_ledger_knows(here: Place) -> None:
    """The same fingerprint and verdict for an exception, for its failure and for its text with the traceback."""
    said = play(
        here,
        """
import traceback
from regrow import capture
from regrow.testing import a_failure
def my_code():
    raise ConnectionRefusedError(111, "Connection refused")
try:
    my_code()
except ConnectionRefusedError as error:
    text, causes = traceback.format_exc(), capture.causes_from_exception(error)
    failure = a_failure(causes=causes, traceback=text)
    found = [FailureAnalyzer().analyze_failure(one)[1] for one in (error, failure)]
    said["same"] = found[0] == found[1]
    said["shape"] = found[0]["fingerprint"] == capture.fingerprint(causes, text) != capture.fingerprint(causes, "")
""",
    )
    assert said == {"same": True, "shape": True}


def test_patterns_by_both_of_the_guides_names(here: Place) -> None:
    """`custom_patterns` and every analyzer's `error_patterns` are one: what is added to either counts for the next."""
    said = play(
        here,
        """
said["before"] = FailureAnalyzer().analyze_failure("zzz 7")[0]
custom_patterns[FailureCategory.CUSTOM_ERROR].append("zzz")
said["custom"] = FailureAnalyzer().analyze_failure("zzz 7")[0]
FailureAnalyzer().error_patterns[FailureCategory.RECOVERABLE_NETWORK].append("yyy")
said["network"] = FailureAnalyzer().analyze_failure("yyy 7")[0]
said["handled"] = celery_app.regrow.pipeline().classify(failure_tasks.capture.causes_from_text("", "yyy", "")).rule
""",
    )
    assert said == {
        "before": "unknown",
        "custom": "custom_error",
        "network": "recoverable_network",
        "handled": "own.recoverable_network",
    }


def test_a_scan_reports(here: Place) -> None:
    """The guide's schema, with the application's own ids; a second scan has nothing to say."""
    said = play(
        here,
        """
said["ids"] = [failed(), failed(text="[DATA] Validation failed: x")]
said["report"] = scan_and_process_failed_tasks.run()
said["second"] = scan_and_process_failed_tasks.run()
said["analysis"] = analyze_failure_patterns.run()
""",
    )
    report = said["report"]
    assert (report["success"], report["message"], report["total_processed"]) == (True, "失败任务处理完成", 2)
    assert sorted(one["task_id"] for one in report["results"]) == said["ids"]
    assert said["second"]["total_processed"] == 0
    assert said["analysis"]["total_failures"] == 2
    assert len(list((here.folder / "reports").glob("*/*.json"))) == 3


def test_health(here: Place) -> None:
    """Alerts once below 80 % and above the limit, and closes them when that is over (G24)."""
    said = play(
        here,
        """
ledger = celery_app.regrow.pipeline().ledger
said["quiet"] = check_failure_recovery_health.run()
for number in range(3):
    failed()
for _ in range(2):
    said["loud"] = check_failure_recovery_health.run()
said["open"] = [one.title for one in ledger.alerts()]
failure_tasks.HEALTH_RECENT_FAILURES = 50
check_failure_recovery_health.run()
said["over"] = len(ledger.alerts())
""",
        HEALTH_RECENT_FAILURES="2",
    )
    assert said["quiet"] == {"recent_failures": 0, "recovery_rate": 1.0}
    assert said["open"] == ["最近失败任务过多: 3"]
    assert said["over"] == 0


def test_alerts_are_messages_too(here: Place) -> None:
    """With messages switched off an alert stands in the log alone; however long its text, it can be stored."""
    said = play(
        here,
        """
said["sent"] = [send_alert("x" * 500), send_alert("x" * 500)]
said["open"] = len(celery_app.regrow.pipeline().ledger.alerts())
""".replace("send_alert", "failure_tasks.send_alert"),
    )
    assert said == {"sent": [True, False], "open": 1}
    off = play(here, "said['sent'] = failure_tasks.send_alert('y')", FAILURE_NOTIFICATION_ENABLED="false")
    assert off == {"sent": False}


@pytest.mark.parametrize(
    "wrong", ["HEALTH_RECOVERY_RATE=80", "HEALTH_RECENT_FAILURES=many", "HEALTH_RECOVERY_RATE=nan"]
)
def test_a_wrong_limit_of_the_health_check(here: Place, wrong: str) -> None:
    """Refused at start, by its name."""
    name, _, value = wrong.partition("=")
    done = here.run("-c", "import app.tasks.failure_tasks", **{name: value})
    assert done.returncode
    assert f"{name}='{value}': it must be a number between 0 and" in done.stderr
