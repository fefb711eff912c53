"""Tasks that end outside their own code."""

from __future__ import annotations

import os
import time

from celery import Task
from celery.exceptions import Ignore, Reject

from tests.integration.proj_site import mark, task


def _kill_here() -> None:
    os.kill(os.getpid(), 9)


@task()
def ends_exit(key: str) -> None:
    """End the process without a word."""
    mark(key)
    os._exit(3)


@task()
def ends_sysexit(key: str) -> None:
    """Ask Python to exit."""
    mark(key)
    raise SystemExit(3)


@task()
def ends_interrupt(key: str) -> None:
    """Behave as Ctrl-C does."""
    mark(key)
    raise KeyboardInterrupt


@task()
def ends_kill(key: str, deaths: int = 99) -> int:
    """Be killed on the first runs, as by the kernel for want of memory."""
    run = mark(key)
    if run <= deaths:
        _kill_here()
    return run


@task(regrow={"idempotent": True})
def ends_kill_idempotent(key: str, deaths: int = 99) -> int:
    """The same; may run again."""
    run = mark(key)
    if run <= deaths:
        _kill_here()
    return run


@task(acks_late=True)
def ends_kill_late(key: str) -> None:
    """The same, acknowledged late: Celery acknowledges it when the child is lost."""
    mark(key)
    _kill_here()


@task(acks_late=True, reject_on_worker_lost=True)
def ends_kill_requeued(key: str, deaths: int = 99) -> int:
    """The same; Celery delivers it again at once, for ever."""
    run = mark(key)
    if run <= deaths:
        _kill_here()
    return run


@task(acks_late=True, reject_on_worker_lost=True, retry_on_worker_lost=True, max_retries=1, default_retry_delay=0)
def ends_kill_retried(key: str) -> None:
    """The same; Celery itself retries it once."""
    mark(key)
    _kill_here()


@task(time_limit=1)
def ends_hard(key: str, overruns: int = 99) -> int:
    """Run into the hard time limit on the first runs."""
    run = mark(key)
    if run <= overruns:
        time.sleep(4)
    return run


@task(time_limit=1, regrow={"idempotent": True})
def ends_hard_idempotent(key: str, overruns: int = 99) -> int:
    """The same; may run again."""
    run = mark(key)
    if run <= overruns:
        time.sleep(30)
    return run


@task()
def ends_reject(key: str) -> None:
    """Reject the message for good."""
    mark(key)
    raise Reject("not for me", requeue=False)


@task()
def ends_ignore(key: str) -> None:
    """Say nothing of the end."""
    mark(key)
    raise Ignore


@task(bind=True, max_retries=0)
def exhausts(self: Task, key: str) -> None:
    """Ask for one native retry too many, without a cause."""
    mark(key)
    raise self.retry(countdown=0)


@task(acks_late=True)
def lingers(key: str, seconds: float) -> int:
    """Work for a while; what is delivered again meanwhile shows in the marks."""
    run = mark(key)
    time.sleep(seconds)
    mark(f"{key}-done")
    return run


@task()
def works(key: str, seconds: float) -> int:
    """Work for a while."""
    run = mark(key)
    time.sleep(seconds)
    mark(f"{key}-done")
    return run


@task(regrow={"track": False})
def works_untracked(key: str, seconds: float) -> None:
    """The same, unknown to the start ledger."""
    mark(key)
    time.sleep(seconds)


@task(regrow={"idempotent": True})
def works_idempotent(key: str, seconds: float) -> int:
    """The same; may run again."""
    run = mark(key)
    time.sleep(seconds if run == 1 else 0)
    mark(f"{key}-done")
    return run
