"""Reports, figures and thresholds (G11, G12, G17, G18): the guide's own examples come true, number by number."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from regrow.report import THRESHOLDS
from tests.guide.machine import Machine, machine
from tests.guide.printed import chapter, commands, runs

#: A pipeline of the real application whose clock is moved by hand.
PIPELINE = """
import itertools
from dataclasses import replace
from datetime import datetime, timedelta
from app.tasks.celery_app import celery_app
from regrow.capture import causes_from_text
from regrow.model import Failure
from regrow.testing import FrozenClock

celery_app.loader.import_default_modules()
clock = FrozenClock(datetime(2023, 12, 1, 14).astimezone())
regrow = replace(celery_app.regrow.pipeline(), clock=clock)
numbers = itertools.count(1)

def failure(text, kind="tracking_update", **facts):
    return Failure(**{
        "task_id": f"task-{next(numbers)}", "task_name": f"app.tasks.business.{kind}", "failed_at": clock(),
        "causes": causes_from_text("", text, ""), "fingerprint": f"v1:{text}", "envelope": "{}", **facts,
    })
"""

DECEMBER = (
    PIPELINE
    + """
from app.db import Session
from app.models import Task

NETWORK, TEMPORARY, DATA = "connection timeout", "rate limit exceeded", "malformed json"
CONFIG, BUSINESS = "api key invalid", "courier not supported"

# The week before: reported, as each day.
clock.advance(-24 * 3600)
texts = [NETWORK] * 15 + [TEMPORARY] * 9 + [DATA] * 3 + [CONFIG] * 2 + [BUSINESS]
kinds = ["tracking_update"] * 15 + ["receipt_generation"] * 10 + ["screenshot_capture"] * 5
regrow.handle([failure(text, kind) for text, kind in zip(texts, kinds)])
regrow.report()
clock.advance(24 * 3600)

# This day: rows of failed tasks that no door saw, among them one that is too old.
texts = [NETWORK] * 5 + [TEMPORARY] * 3 + [DATA] * 3 + [CONFIG] + [BUSINESS]
kinds = ["tracking_update"] * 8 + ["receipt_generation"] * 5
with Session.begin() as session:
    for number, (text, kind, hours) in enumerate(
        [(NETWORK, kinds[0], 25), *((text, kind, 1) for text, kind in zip(texts, kinds))], start=122
    ):
        session.add(Task(
            id=number, celery_task_id=f"row-{number}", task_type=kind, params={"args": ["SF1"]}, status="failed",
            error_message=text, failed_at=clock() - timedelta(hours=hours), user_id="42" if text == BUSINESS else None,
        ))
scan = regrow.scan()
# Two that their tasks declare as expected: nobody's business, but handled.
regrow.handle([failure(DATA, expected=True), failure(DATA, expected=True)])

made = [regrow.report(), regrow.analyze(), regrow.report()]
answer = {"scan": [scan.found, scan.taken], "made": made}
"""
)


@pytest.fixture(scope="module")
def december(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Machine, dict[str, Any]]]:
    """A machine on the first of December 2023 at two, when the reports that the guide shows were written."""
    with machine(tmp_path_factory.mktemp("december")) as made:
        made.upgrade()
        yield made, made.python(DECEMBER)


def read(folder: Machine, name: str) -> Any:
    """A report, by the name of its file."""
    kind = re.sub(r"_\d{8}_.*", "", name)
    return json.loads((folder.root / "reports" / kind / name).read_text(encoding="utf-8"))


# -- as printed -------------------------------------------------------------------------------------------------------


@runs("使用方法/3. 查看处理报告")
def test_the_files_are_where_the_guide_looks(december: tuple[Machine, dict[str, Any]], printed: str) -> None:
    """Each printed line shows what it says, down to the name of the file."""
    here, answer = december
    processing, shown, analysis, pattern = (here.bash(line).stdout for line in commands(printed))
    names = processing.split()
    assert names == [
        "failure_processing_20231130_140000.json",
        "failure_processing_20231201_140000.json",
        "failure_processing_20231201_140000_2.json",
    ]
    assert analysis.split() == ["failure_analysis_20231201_140000.json"]
    assert json.loads(shown) == answer["made"][0]
    assert json.loads(pattern) == answer["made"][1]
    assert "任务将在30秒后重试" in shown  # a person reads it, so nothing is escaped


@runs("处理报告格式/失败任务处理报告")
def test_the_processing_report(december: tuple[Machine, dict[str, Any]], printed: str) -> None:
    """The printed example, number by number; the results that it leaves out are there too."""
    here, answer = december
    expected = json.loads(printed)
    made = read(here, "failure_processing_20231201_140000.json")
    results, (example,) = made["results"], expected.pop("results")
    assert {name: made[name] for name in expected} == expected
    assert {name: results[0][name] for name in example} == example
    assert len(results) == expected["total_processed"]
    assert all(example.keys() - {"retry_delay"} <= result.keys() for result in results)
    actions = Counter(result["action_taken"] for result in results)
    assert actions == {"auto_recovery": 8, "notify_admin": 4, "notify_user": 1, "none": 2}
    assert all(("retry_delay" in result) == (result["action_taken"] == "auto_recovery") for result in results)
    assert {result.get("priority") for result in results if result["action_taken"] == "notify_admin"} == {"high"}
    assert [result["task_id"] for result in results[:13]] == list(range(123, 136))
    assert answer["scan"] == [13, 13]  # the last 24 hours
    assert made["settings"] == {
        "mode": "recover",
        "recovery_enabled": True,
        "max_recovery_attempts": 3,
        "notification_enabled": True,
        "scan_interval_minutes": 30,
    }


@runs("处理报告格式/失败模式分析报告")
def test_the_analysis_report(december: tuple[Machine, dict[str, Any]], printed: str) -> None:
    """The printed example, word for word, in the printed order."""
    made = read(december[0], "failure_analysis_20231201_140000.json")
    assert made == json.loads(printed)
    assert [list(part.items()) for part in made.values() if isinstance(part, dict)] == [
        list(part.items()) for part in json.loads(printed).values() if isinstance(part, dict)
    ]


def test_each_failure_is_reported_once(december: tuple[Machine, dict[str, Any]]) -> None:
    """A second report in the same second has a file of its own, and nothing to tell twice."""
    here, answer = december
    second = read(here, "failure_processing_20231201_140000_2.json")
    assert second == answer["made"][2]
    assert (second["total_processed"], second["results"]) == (0, [])


# -- thresholds (G18) -------------------------------------------------------------------------------------------------

#: What a dispatcher does each minute, and the alerts that then stand open.
LOOK = """
def look():
    regrow.act()
    clock.advance(60)
    assert regrow.watch()
    regrow.act()
    return {one.group: one.title for one in regrow.ledger.alerts() if one.group.endswith("_threshold")}
"""

#: What comes just up to a threshold, and what then passes it. Five recoveries that fail in a row are the alarm itself.
PASSED = {
    "failure_rate_threshold": (
        'regrow.store.counted("host", clock().replace(second=0), runs=1000, failed=200)',
        'regrow.store.counted("host", clock().replace(second=0), runs=1000, failed=201)',
    ),
    "recovery_failure_threshold": (
        'regrow.handle([failure("connection timeout", attempt=6) for _ in range(4)])',
        'regrow.handle([failure("connection timeout", attempt=6)])',
    ),
    "notification_delay_threshold": (
        'regrow.handle([failure("malformed json")]); clock.advance(10 * 60 - 1)',
        'regrow.handle([failure("malformed json")]); clock.advance(10 * 60 + 1)',
    ),
    "unknown_error_threshold": (
        'regrow.handle([failure("something happened") for _ in range(10)])',
        'regrow.handle([failure("something happened")])',
    ),
}


@runs("监控指标/告警阈值")
def test_thresholds(quiet: Machine, printed: str) -> None:
    """The printed numbers are in force; each alert comes beyond its number, once, and says when it is over."""
    space: dict[str, Any] = {}
    exec(printed, space)
    limits = space["ALERT_THRESHOLDS"]
    quiet.python(PIPELINE + LOOK)
    force = quiet.python("from dataclasses import asdict; answer = asdict(regrow.thresholds)")
    assert limits == {
        "failure_rate_threshold": force["failure_rate_percent"],
        "recovery_failure_threshold": force["recovery_failures"],
        "notification_delay_threshold": force["notification_minutes"],
        "unknown_error_threshold": force["unknown_errors"],
    }
    assert set(limits) == set(THRESHOLDS) == set(PASSED)
    raised: dict[str, str] = {}
    for name, (up_to, beyond) in PASSED.items():
        assert quiet.python(f"{up_to}; answer = look()") == raised
        alerts = quiet.python(f"{beyond}; answer = look()")
        assert alerts.keys() - raised.keys() == {name}
        assert f"{limits[name]:g}" in alerts[name]
        raised = alerts
    assert quiet.python("answer = look()") == raised
    for title in raised.values():
        assert quiet.log("admin_alerts").count(f'title="{title}"') == 1
    told = quiet.log("admin_alerts")
    assert quiet.python("clock.advance(3600); answer = look()") == {}
    over = quiet.log("admin_alerts").removeprefix(told).splitlines()
    assert len(over) == len(limits)
    assert all('priority="normal"' in line for line in over)


# -- figures (G17) ----------------------------------------------------------------------------------------------------


def test_figures_beside_their_targets(quiet: Machine) -> None:
    """`regrow status` shows each of the guide's four figures with the printed target."""
    wanted = dict(re.findall(r"^- \*\*(.+?)\*\*: (.+)$", chapter("关键指标"), flags=re.MULTILINE))
    assert len(wanted) == 4
    quiet.python(
        PIPELINE
        + """
clock.now = datetime.now().astimezone()
regrow.handle([failure("malformed json"), failure("connection timeout", attempt=6)])
regrow.act()
"""
    )
    shown = quiet.bash("regrow -A app.tasks.celery_app status").stdout
    for name, target in wanted.items():
        assert re.search(rf"{name}.*{re.escape(target)}", shown), f"{name} {target} in\n{shown}"
    targets = json.loads(quiet.bash("regrow -A app.tasks.celery_app status --json").stdout)["targets"]
    assert [one["target"] for one in targets.values()] == list(wanted.values())
    assert targets["auto_recovery_rate"]["value"] == 0
    assert not targets["auto_recovery_rate"]["met"]
    assert targets["handling_latency"]["met"]
    assert targets["notification_delay"]["met"]
    assert targets["classification_accuracy"]["value"] > 0
