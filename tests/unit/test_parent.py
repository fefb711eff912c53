"""Whose business a death is: Celery's own redelivery and retries go first, in this version of Celery and in the one before."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from billiard.exceptions import Terminated, TimeLimitExceeded, WorkerLostError
from celery import Celery
from celery.app.task import Context
from celery.exceptions import Ignore, Reject, Retry

from regrow.adapters.celery.parent import _goes_on, _is_over, delivers_again_on_timeout

LOST, LIMIT = WorkerLostError("signal 9"), TimeLimitExceeded(1)


def a_request(retries: int = 0, header: object = None, **options: Any) -> Any:
    """What the main process holds of a task that has died."""
    app = Celery("parent", set_as_current=False)

    @app.task(name="t", shared=False, **options)
    def task() -> None:
        """Nothing."""

    context = Context(id="a", retries=retries, headers={"regrow": header} if header else None)
    return SimpleNamespace(task=task, _context=context, _already_cancelled=False, _already_revoked=False)


REQUEUED = {"acks_late": True, "reject_on_worker_lost": True}
OURS = {"failure": 1, "attempt": 2, "token": "x"}


@pytest.mark.parametrize(
    ("options", "error", "goes_on"),
    [
        ({}, LOST, False),
        ({}, LIMIT, False),
        ({"acks_late": True}, LOST, False),
        ({"acks_late": True}, LIMIT, False),
        (REQUEUED, LOST, True),
        (REQUEUED, LIMIT, False),
        ({"acks_late": True, "acks_on_timeout": False}, LIMIT, True),
        ({"acks_late": True, "acks_on_timeout": False}, LOST, False),
        ({"retry_on_worker_lost": True, "max_retries": 1}, LOST, True),
        ({**REQUEUED, "retry_on_worker_lost": True, "max_retries": 0}, LOST, False),  # Celery gives neither back
        ({}, Retry("again"), True),
        ({}, Ignore(), True),
        ({}, Reject("no", requeue=True), True),
    ],
)
def test_what_celery_keeps_going(options: dict[str, Any], error: BaseException, *, goes_on: bool) -> None:
    """A message that is delivered again, or a native retry, is no end."""
    assert _goes_on(a_request(**options), error) is goes_on


def test_a_retry_of_ours_is_not_the_brokers() -> None:
    """What Regrow has sent, Regrow sends again: the broker's redelivery would be a stale copy."""
    assert not _goes_on(a_request(header=OURS, **REQUEUED), LOST)


def test_native_retries_that_are_used_up() -> None:
    """As many as the task allows, and no more."""
    options = {"retry_on_worker_lost": True, "max_retries": 2}
    assert [_goes_on(a_request(retries, **options), LOST) for retries in (0, 1, 2)] == [True, True, False]


def test_what_is_over_by_order() -> None:
    """A task that a person has terminated, or Celery itself has cancelled, has not failed."""
    request = a_request()
    assert _is_over(request, Terminated(15))
    assert not _is_over(request, SystemExit(3))
    request._already_revoked = True
    assert _is_over(request, SystemExit(3))


def test_the_settings_of_celery_5_6() -> None:
    """Before 5.7 one setting said whether a message is acknowledged after a failure or a time-out."""
    for old, again in ((True, False), (False, True)):
        task: Any = SimpleNamespace(acks_late=True, acks_on_failure_or_timeout=old, reject_on_worker_lost=None)
        assert delivers_again_on_timeout(task) is again
        request = SimpleNamespace(task=task, _context=Context(id="a"))
        assert _goes_on(request, LIMIT) is again
