"""The test project's application module, as `celery -A` and `regrow -A` load it."""

from __future__ import annotations

import os
import signal
from typing import Any

from celery import signals

from tests.integration import proj_site

site = proj_site.load()
app = proj_site.make(site)


def _kill_before_settle(task: Any = None, args: Any = (), state: str = "", **_: Any) -> None:
    """Kill this child after Celery stored SUCCESS of the task that REGROW_TEST_KILL_KEY names, once."""
    key = os.environ.get("REGROW_TEST_KILL_KEY")
    if key and args and args[0] == key and state == "SUCCESS" and proj_site.mark(f"killed-{key}") == 1:
        os.kill(os.getpid(), signal.SIGKILL)


def _kill_before_ack(request: Any = None, **_: Any) -> None:
    """Kill the whole worker after Celery stored RETRY and before the message is acknowledged, once."""
    key = os.environ.get("REGROW_TEST_KILL_RETRY")
    if key and request.args[0] == key and proj_site.mark(f"killed-{key}") == 1:
        os.killpg(os.getpgid(0), signal.SIGKILL)


def _register_late(**_: Any) -> None:
    app.task(name=proj_site.PREFIX + "latecomer")(proj_site.stumble)


if "REGROW_TEST_SOMEDAY" in os.environ:  # a deployment that brings a new task

    def _someday(key: str, fails: int, value: Any = None) -> int:
        return proj_site.stumble(key, fails)

    app.task(name=f"{proj_site.PREFIX}someday")(_someday)

if "REGROW_TEST_KILL_KEY" in os.environ:
    signals.task_postrun.connect(_kill_before_settle, weak=False)  # connected first, so it is called first

if "REGROW_TEST_KILL_RETRY" in os.environ:
    signals.task_retry.connect(_kill_before_ack, weak=False)

if site["regrow"] is not None:
    import regrow

    regrow.install(app, dispatcher=site["dispatcher"], **site["regrow"])

signals.celeryd_after_setup.connect(_register_late, weak=False)


def _reporting(**_: Any) -> None:
    """Leave a mark for each signal of Celery's that tells of an end."""

    def on(name: str) -> Any:
        def receive(sender: Any = None, task_id: str = "", request: Any = None, **_: Any) -> None:
            proj_site.mark(f"signal-{name}-{task_id or request.id}")

        return receive

    signals.task_failure.connect(on("failure"), weak=False)
    signals.task_retry.connect(on("retry"), weak=False)


_reporting()
