"""Looks into the ledger again and again, and tells what is new."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from app.demo.plot import Scene
from regrow.model import AttemptRecord, Record, State
from regrow.ports import Ledger

_ENDS = (State.RECOVERED, State.EXHAUSTED)


@dataclass(frozen=True, slots=True)
class News:
    """Something that has happened to a task.

    Args:
        scene: The task.
        record: How the ledger describes it now.
        run: The run that has failed; None if the news is that the task has ended.
    """

    scene: Scene
    record: Record
    run: AttemptRecord | None


class Watch:
    """Remembers what was told already.

    Args:
        ledger: The ledger to read from.
        scenes: The tasks to look for, by task id; more may come.

    Attributes:
        records: How the ledger describes each task that it knows, without its history, as of the last look.
    """

    def __init__(self, ledger: Ledger, scenes: Mapping[str, Scene]) -> None:
        self._ledger = ledger
        self._scenes = scenes
        self._seen: dict[str, tuple[int, State]] = {}
        self.records: dict[Scene, Record] = {}

    def news(self) -> Iterator[News]:
        """What has happened since the last call, oldest task first."""
        for line in reversed(self._ledger.failures(limit=1000)):
            scene = self._scenes.get(line.task_id)
            if scene is None:
                continue
            self.records[scene] = line
            runs, state = self._seen.get(line.task_id, (0, State.NEW))
            if (runs, state) == (line.attempts, line.state):
                continue
            record = self._ledger.find(line.task_id) or line
            self._seen[line.task_id] = (record.attempts, record.state)
            for run in record.history[runs:]:
                yield News(scene, record, run)
            if record.state in _ENDS and record.state is not state:
                yield News(scene, record, None)
