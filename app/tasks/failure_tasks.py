"""The guide's tasks and names: a thin facade over Regrow."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import partial
from traceback import format_exception
from typing import Any, ClassVar

from celery.utils.log import get_task_logger
from sqlalchemy import func, select

from app.categories import PATTERNS, FailureCategory, custom_patterns
from app.channels import BusinessFailureHandler, send_custom_notification
from app.db import Session
from app.models import FAILED, RETRYING, SUCCEEDED, Task
from app.monitoring import send_to_monitoring_system
from app.strategy import custom_recovery_strategy
from app.tasks.celery_app import celery_app, mirror
from regrow import capture, notify, wiring
from regrow.errors import RegrowError, SettingsError
from regrow.model import Cause, Failure
from regrow.oversight import Oversight

__all__ = [
    "ALERT_THRESHOLDS",
    "BusinessFailureHandler",
    "FailureAnalyzer",
    "FailureCategory",
    "analyze_failure_patterns",
    "check_failure_recovery_health",
    "custom_patterns",
    "custom_recovery_strategy",
    "manual_recovery_task",
    "scan_and_process_failed_tasks",
    "send_custom_notification",
    "send_to_monitoring_system",
]

log = get_task_logger(__name__)

# Longest name of what an alert is about, in characters; the ledger holds no more.
_ABOUT_LIMIT = 128

_settings = wiring.load_settings()
_words = wiring.words(_settings.language)


class _Thresholds(MutableMapping[str, float]):
    """The thresholds in force, by the guide's names; what is written here is stronger than environment and files.

    It holds for this process and for the dispatcher that it starts afterwards; FAILURE_ALERT_* hold for all.
    """

    _FIELDS: ClassVar[dict[str, str]] = {
        "failure_rate_threshold": "alert_failure_rate_percent",
        "recovery_failure_threshold": "alert_recovery_failures",
        "notification_delay_threshold": "alert_notification_minutes",
        "unknown_error_threshold": "alert_unknown_errors",
    }

    def __getitem__(self, name: str) -> float:
        value: float = getattr(wiring.load_settings(celery_app), self._FIELDS[name])
        return value

    def __setitem__(self, name: str, value: float) -> None:
        field = self._FIELDS[name]
        wiring.load_settings(celery_app, **{field: value})  # refuses what is no such threshold
        celery_app.regrow.settings[field] = value

    def __delitem__(self, name: str) -> None:
        """Back to what environment and files say."""
        celery_app.regrow.settings.pop(self._FIELDS[name], None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._FIELDS)

    def __len__(self) -> int:
        return len(self._FIELDS)

    def __repr__(self) -> str:
        return repr(dict(self))


#: From when on the administrator is alerted (G18).
ALERT_THRESHOLDS = _Thresholds()


def _number(name: str, default: float, highest: float) -> float:
    """A setting of the health check, from the environment."""
    text = os.environ.get(name, "").strip()
    with suppress(ValueError):
        value = float(text or default)
        if 0 <= value <= highest:
            return value
    raise SettingsError(
        f"{name}={text!r}: it must be a number between 0 and {highest:g} (set it in the environment or .env)"
    )


#: The health check's limits (G24), and the time it looks at.
HEALTH_RECOVERY_RATE = _number("HEALTH_RECOVERY_RATE", 0.8, 1)
HEALTH_RECENT_FAILURES = _number("HEALTH_RECENT_FAILURES", 50, 1e9)
HEALTH_WINDOW = timedelta(hours=1)


def _pipeline() -> Oversight:
    return celery_app.regrow.pipeline()  # type: ignore[no-any-return]


def _say(chinese: str, english: str) -> str:
    return chinese if _settings.language == "zh" else english


# -- scan and analysis -------------------------------------------------------------------------------------------------


@celery_app.task(regrow=False)
def scan_and_process_failed_tasks() -> dict[str, Any]:
    """Take in the failures of the last 24 hours that no door saw, and report what was handled since the last report."""
    pipeline = _pipeline()
    found = pipeline.scan()
    try:
        return pipeline.report(errors=found.errors)
    except RegrowError as error:
        return {"success": False, "message": str(error)}


@celery_app.task(regrow=False)
def analyze_failure_patterns() -> dict[str, Any]:
    """Report the pattern of the last 7 days' failures."""
    try:
        return _pipeline().analyze()
    except RegrowError as error:
        return {"success": False, "message": str(error)}


# -- a person's order --------------------------------------------------------------------------------------------------


@celery_app.task(regrow=False)
def manual_recovery_task(task_id: int, force_retry: bool = False) -> dict[str, Any]:  # noqa: FBT001, FBT002  # the guide's
    """Retry a failed task now.

    Args:
        task_id: `Task.id`.
        force_retry: Even if as many retries as the settings allow were made.
    """
    if isinstance(task_id, bool) or not isinstance(task_id, int):
        text = _say(
            f"task_id 应为任务编号（整数），而不是 {task_id!r}", f"task_id must be a task's number, not {task_id!r}"
        )
        return _refused(task_id, text)
    row = _task(task_id)
    if row is None:
        return _refused(task_id, _say(f"任务 {task_id} 不存在", f"there is no task {task_id}"))
    pipeline = _pipeline()
    failure = pipeline.history(row.celery_task_id).failure
    if row.status == SUCCEEDED or (failure is None and row.status != FAILED):
        text = _say(f"任务没有失败，当前状态为 {row.status}", f"the task has not failed: it is {row.status}")
        return _refused(task_id, text)
    if failure is None:
        since = row.failed_at or row.created_at
        pipeline.handle([one for one in mirror.failed(since) if one.task_id == row.celery_task_id])
        failure = pipeline.history(row.celery_task_id).failure
    if failure is None:  # the mirror passes over what a person has revoked
        return _refused(task_id, _say("任务已被撤销，不再重试", "the task was revoked, so it is not retried"))
    # By the ledger's own id: a task's id may be a number too, and then that of another failure.
    answer = pipeline.again(str(failure), force=force_retry is True, by="manual_recovery_task")
    if not answer.success:
        return _refused(task_id, notify.refusal(answer, _words))
    return {
        "success": True,
        "task_id": task_id,
        "celery_task_id": row.celery_task_id,
        "message": notify.retry_text(0, _words),
        "recovery_attempts": answer.retries,
    }


def _task(task_id: int) -> Task | None:
    if not 0 < task_id < 2**63:  # no database holds it
        return None
    with Session() as session:
        return session.get(Task, task_id)


def _refused(task_id: object, message: str) -> dict[str, Any]:
    return {"success": False, "task_id": task_id, "message": message}


# -- why a task failed -------------------------------------------------------------------------------------------------


class FailureAnalyzer:
    """Says why a task failed.

    Attributes:
        error_patterns: Your own patterns by category, of the whole process. What is added holds for the next verdict.
    """

    def __init__(self) -> None:
        self.error_patterns: dict[Any, list[str]] = PATTERNS

    def analyze_failure(self, failed_task: object) -> tuple[FailureCategory, dict[str, Any]]:
        """The category and the analysis of a failed task.

        Args:
            failed_task: A row of `Task`, a dict (`error_message`, `error_type`, `traceback`), an exception, or a text.

        Raises:
            TypeError: It is none of these.
        """
        causes, traceback = _facts(failed_task)
        verdict = _pipeline().classify(causes)
        key = verdict.category.key
        if key not in FailureCategory.members:  # from a pattern under a key of your own
            FailureCategory.add(key.upper(), key, audience=verdict.category.audience)
        analysis = {
            **asdict(verdict),
            "category": key,
            "advice": notify.advice(verdict, _words),
            "fingerprint": capture.fingerprint(causes, traceback),
        }
        return FailureCategory(key), analysis


def _facts(failed: object) -> tuple[tuple[Cause, ...], str]:
    """What is known of a failure: its causes, and its traceback as text."""
    if isinstance(failed, Failure):
        return failed.causes, failed.traceback
    if isinstance(failed, BaseException):
        return capture.causes_from_exception(failed), "".join(format_exception(failed))
    if isinstance(failed, str):
        return capture.causes_from_text("", failed, ""), ""
    if not isinstance(failed, Mapping) and not hasattr(failed, "error_message"):
        raise TypeError(
            "analyze_failure takes a Task row, a dict with error_message, an exception or a text, not "
            f"{type(failed).__name__}"
        )
    read = failed.get if isinstance(failed, Mapping) else partial(getattr, failed)
    kind, message, traceback = (str(read(name, None) or "") for name in ("error_type", "error_message", "traceback"))
    return capture.causes_from_text(kind, message, traceback), traceback


# -- health ------------------------------------------------------------------------------------------------------------


@celery_app.task(regrow=False)
def check_failure_recovery_health() -> dict[str, Any]:
    """Alert the administrator if recovery is poor or failures are many; the alert closes when that is over (G24)."""
    recent_failures = count_recent_failures()
    recovery_rate = calculate_recovery_rate()
    if recovery_rate < HEALTH_RECOVERY_RATE:
        send_alert(
            _say(f"自动恢复成功率过低: {recovery_rate:.2%}", f"Too few failures recover: {recovery_rate:.2%}"),
            about="health-recovery-rate",
        )
    else:
        _over("health-recovery-rate")
    if recent_failures > HEALTH_RECENT_FAILURES:
        send_alert(
            _say(f"最近失败任务过多: {recent_failures}", f"Too many recent failures: {recent_failures}"),
            about="health-recent-failures",
        )
    else:
        _over("health-recent-failures")
    return {"recent_failures": recent_failures, "recovery_rate": recovery_rate}


def count_recent_failures() -> int:
    """Tasks that failed within the last hour, by their rows."""
    since = datetime.now(UTC) - HEALTH_WINDOW
    with Session() as session:
        asked = select(func.count()).where(Task.status.in_((FAILED, RETRYING)), Task.failed_at >= since)
        return session.scalar(asked) or 0


def calculate_recovery_rate() -> float:
    """The share of the last hour's recoveries that came to a good end, between 0 and 1; 1 if there was none."""
    now = datetime.now(UTC)
    figures = _pipeline().ledger.figures(now - HEALTH_WINDOW, now)
    ended = figures.recovered + figures.exhausted
    return figures.recovered / ended if ended else 1.0


def send_alert(text: str, *, about: str = "") -> bool:
    """Alert the administrator, unless an alert about the same is open.

    Args:
        text: What is wrong, in a sentence.
        about: What the alert is about; without it, the text.

    Returns:
        True if an alert was opened; False too if messages are switched off: then it stands in the log alone.
    """
    pipeline = _pipeline()
    log.warning("%s", text)
    return pipeline.telling and pipeline.alert((about or text)[:_ABOUT_LIMIT], text)


def _over(about: str) -> None:
    _pipeline().over(about)
