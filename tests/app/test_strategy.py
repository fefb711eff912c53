"""The guide's own recovery strategy."""

from __future__ import annotations

import pytest

from app.strategy import custom_recovery_strategy
from regrow.testing import a_failure


@pytest.mark.parametrize(("run", "seconds"), [(1, 60), (2, 120), (5, 300)])
def test_special_tasks_wait_longer_each_time(run: int, seconds: int) -> None:
    """A special task is retried up to five times, each time after a minute more (G26)."""
    failure = a_failure(task_name="shop.tasks.special_task", attempt=run)
    assert custom_recovery_strategy(failure, "recoverable_network", {}) == {
        "delay": seconds,
        "strategy": "custom_progressive_retry",
        "max_attempts": 5,
    }


def test_others_keep_the_built_in_schedule() -> None:
    """Any other task is left to the category's schedule."""
    assert custom_recovery_strategy(a_failure(), "recoverable_network", {}) is None


def test_a_row_of_the_task_table_will_do() -> None:
    """The guide's `task` may be a row, which knows its retries instead of its run."""
    from app.models import Task

    plan = custom_recovery_strategy(Task(task_type="special_task", recovery_attempts=2), "recoverable_system", {})
    assert plan is not None
    assert plan["delay"] == 180
