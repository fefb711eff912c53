"""The guide's own recovery strategy (G26): tasks of type `special_task` wait a minute longer before each retry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from regrow.model import Failure

#: The wait before the first retry, in seconds; the second waits twice as long, the third three times.
SPECIAL_STEP_SECONDS = 60


def custom_recovery_strategy(
    task: Any,
    category: str,  # noqa: ARG001  # the guide's signature
    analysis: Mapping[str, Any],  # noqa: ARG001
) -> dict[str, Any] | None:
    """How a failed task is retried, or None for the built-in schedule.

    Args:
        task: What failed: a `regrow.Failure` or a `Task` row.
        category: Key of the failure's category.
        analysis: The verdict as a dict.
    """
    if task.task_type == "special_task":
        # 特殊任务使用特殊恢复策略
        return {
            "delay": calculate_special_delay(task),
            "strategy": "custom_progressive_retry",
            "max_attempts": 5,
        }
    return None


def calculate_special_delay(task: Any) -> int:
    """Seconds until the next retry: 60 after the first failed run, 120 after the second, and so on."""
    # A failure knows its run, a row only the retries so far.
    runs: int = task.attempt if isinstance(task, Failure) else task.recovery_attempts + 1
    return SPECIAL_STEP_SECONDS * runs
