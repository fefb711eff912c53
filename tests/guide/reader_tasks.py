"""Tasks that a reader of the guide adds to the application; a test's worker loads them with `-I reader_tasks`.

Copied into the project's root, beside `reader_blocks.json`: the blocks that the guide prints for such a file.
"""

import json
import time
from datetime import datetime
from enum import Enum
from pathlib import Path

from app.tasks.celery_app import celery_app
from app.tasks.failure_tasks import FailureAnalyzer

ROOT = Path(__file__).parent
BLOCKS = json.loads((ROOT / "reader_blocks.json").read_text())


@celery_app.task
def stumble(key: str, text: str, user_id: str = "") -> str:
    """Fails with a text until somebody mends it."""
    if not (ROOT / f"mended-{key}").exists():
        raise Exception(text)
    return key


@celery_app.task
def linger(key: str) -> str:
    """Fails once; its retry runs until somebody mends it."""
    if not (ROOT / f"failed-{key}").exists():
        (ROOT / f"failed-{key}").touch()
        raise Exception("connection timeout")
    (ROOT / f"lingers-{key}").touch()
    while not (ROOT / f"mended-{key}").exists():
        time.sleep(0.05)
    return key


@celery_app.task
def special_task(key: str) -> str:
    """Of the type for which the guide has a strategy of its own."""
    return stumble(key, "connection timeout")


def get_task_context() -> dict[str, str]:
    """What the guide's task knows about itself."""
    return {"order": "A-1"}


def fail(kind: str) -> None:
    """What goes wrong in the guide's task."""
    raise {"network": ConnectionRefusedError(111, "Connection refused"), "data": ValueError("校验失败：单号为空")}[kind]


def make(name: str, logic: str) -> None:
    """The guide's own task, under a name of its own, with logic where the guide has left room for it."""
    text = BLOCKS["task"].replace("def my_task(", f"def {name}(").replace("pass\n", f"{logic}\n")
    exec(text, {**globals(), "__name__": __name__, "json": json, "datetime": datetime})


make("my_task", "pass")
make("my_network_task", "fail('network')")
make("my_data_task", "fail('data')")

# What the guide prints for FailureAnalyzer, run where `self` is one.
exec(BLOCKS["category"], {**globals(), "Enum": Enum, "self": FailureAnalyzer()})
