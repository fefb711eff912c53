"""The test project: its folder, its application, and the marks by which side effects are counted.

Marks are lines appended to files, so that no ledger can hide a second run.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from celery import Celery
from kombu import Queue

from app import broker  # noqa: F401  # makes `files://` known

#: Environment variable: the file that says which broker, results, ledger and settings to use.
SITE = "REGROW_TEST_SITE"

PREFIX = "tests."

_TASKS: list[tuple[Callable[..., Any], dict[str, Any]]] = []


def folder() -> Path:
    """Where the project lives."""
    return Path(os.environ[SITE]).parent


def mark(key: str, text: str = "x") -> int:
    """Append a line to the file `key`; return how many it has."""
    path = folder() / "marks" / key
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, f"{text}\n".encode())
    finally:
        os.close(file)
    return path.read_text().count("\n")


def make(site: dict[str, Any]) -> Celery:
    """The application, without Regrow."""
    app = Celery("tests", set_as_current=True)
    conf = {
        "task_default_queue": site["queue"],
        "task_queues": [Queue(site["queue"], queue_arguments={"x-expires": 600_000, "x-max-priority": 9})],
        "accept_content": ["json", "pickle"],
        "result_expires": 600,
        "result_chord_retry_interval": 0.1,
        "worker_prefetch_multiplier": 4,
        "worker_hijack_root_logger": True,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": 3,
        "database_engine_options": {"connect_args": {"timeout": 30}}
        if "sqlite" in site["conf"]["result_backend"]
        else {},
    }
    app.conf.update({**conf, **site["conf"]})
    from tests.integration import proj_deaths, proj_odd, proj_tasks

    assert proj_odd, proj_deaths  # importing them has made their tasks
    for function, options in _TASKS:
        app.task(name=PREFIX + function.__name__, shared=False, **options)(function)
    app.register_task(proj_tasks.Classy())
    app.finalize()
    return app


def load() -> dict[str, Any]:
    """The site that this process belongs to."""
    site: dict[str, Any] = json.loads(Path(os.environ[SITE]).read_text())
    return site


def task(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A task of every application that `make` makes."""

    def keep(function: Callable[..., Any]) -> Callable[..., Any]:
        _TASKS.append((function, options))
        return function

    return keep


def stumble(key: str, fails: int) -> int:
    """Leave a mark; fail as a network does on the first `fails` runs; return the number of this run."""
    run = mark(key)
    if run <= fails:
        raise ConnectionRefusedError(111, f"Connection refused, run {run}")
    return run


def app_task(name: str) -> Any:
    """The task of this short name, inside a worker."""
    from celery import current_app

    return current_app.tasks[PREFIX + name]
