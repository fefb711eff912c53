"""What a worker has in its hands at a moment, by the table of tasks and the broker's folder."""

from __future__ import annotations

import json
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass

from app.demo import stage


@dataclass(frozen=True, slots=True)
class Hands:
    """Where tasks are, by task id.

    Args:
        running: The worker runs them.
        taken: The worker has taken them from the broker, and not begun them.
        queued: They wait in the broker.
        between: Nobody can say.
    """

    running: frozenset[str]
    taken: frozenset[str]
    queued: frozenset[str]
    between: frozenset[str]


def look(ids: Collection[str]) -> Hands:
    """Where these tasks are now; one that is over is nowhere."""
    from sqlalchemy import select

    from app.db import Session
    from app.models import PENDING, RUNNING, Task

    asked = select(Task.celery_task_id, Task.status, Task.worker).where(Task.celery_task_id.in_(ids))
    with Session() as session:
        rows = session.execute(asked).all()
    pending = {task: worker for task, status, worker in rows if status == PENDING}
    untaken = {task for task, worker in pending.items() if worker is None}
    # After the table, not before: what was in nobody's hands then and is in the broker now has not moved.
    queued = untaken & _in_broker()
    return Hands(
        frozenset(task for task, status, _ in rows if status == RUNNING),
        frozenset(pending.keys() - untaken),
        frozenset(queued),
        frozenset(untaken - queued),
    )


def _in_broker() -> set[str]:
    found = set()
    for file in (stage.FOLDER / "broker").glob("*.msg"):
        with suppress(FileNotFoundError):  # a worker has just taken it
            found.add(json.loads(file.read_text(encoding="utf-8"))["headers"].get("id", ""))
    return found
