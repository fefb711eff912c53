"""Where the time of a capture goes: microseconds of each stage, in one process; `python -m benchmarks.profile`.

Each stage is a function of Regrow, wrapped in a clock. A stage's time is its own: what a stage inside it takes is
counted there. The clock itself costs about half a microsecond a call.
"""

import importlib
import json
import logging
import os
import statistics
import sys
import time
from collections import defaultdict
from contextlib import contextmanager
from functools import wraps

#: Failing calls in one round.
CALLS = 300
ROUNDS = 9

#: What a person calls a stage, and the functions that are it.
STAGES = {
    "settings: have the files changed": ("regrow.wiring:Live.__call__",),
    "causes, codes": ("regrow.capture:causes_from_exception",),
    "traceback text": ("regrow.adapters.celery.facts:_traceback",),
    "fingerprint": ("regrow.capture:fingerprint",),
    "envelope": ("regrow.adapters.celery.envelope:keep",),
    "error as Celery keeps it": ("regrow.adapters.celery.facts:_stored",),
    "classify": ("regrow.wiring:LazyClassifier.__call__",),
    "decide": ("regrow.decide:decide", "regrow.decide:number"),
    "messages": ("regrow.notify:compose", "regrow.pipeline:Regrow.routed"),
    "values to rows": (
        "regrow.adapters.sql.coding:failure_row",
        "regrow.adapters.sql.coding:attempt_row",
        "regrow.adapters.sql.coding:envelope_row",
        "regrow.adapters.sql.coding:message_row",
    ),
    "select: what is known": ("regrow.adapters.sql.transaction:SqlTransaction.histories",),
    "insert": ("regrow.adapters.sql.transaction:SqlTransaction.write",),
    "the door and the pipeline between them": (
        "regrow.adapters.celery.door:Door.call",
        "regrow.adapters.celery.door:Door.ended",
    ),
}
BEGIN, COMMIT, TASK = "begin", "commit", "the task itself"


class Clock:
    """Adds up each stage's own time."""

    def __init__(self):
        self.seconds = defaultdict(float)
        self._open = []

    def enter(self, stage):
        """A stage begins."""
        now = time.perf_counter()
        if self._open:
            self.seconds[self._open[-1]] += now - self._since
        self._open.append(stage)
        self._since = time.perf_counter()

    def leave(self):
        """The innermost stage ends."""
        now = time.perf_counter()
        self.seconds[self._open.pop()] += now - self._since
        self._since = time.perf_counter()

    def wrapped(self, stage, function):
        """The function, timed."""

        @wraps(function)
        def timed(*args, **kwargs):
            self.enter(stage)
            try:
                return function(*args, **kwargs)
            finally:
                self.leave()

        return timed

    def put(self):
        """Wrap every stage where it stands."""
        for stage, places in STAGES.items():
            for place in places:
                module, _, path = place.partition(":")
                *holders, name = path.split(".")
                holder = importlib.import_module(module)
                for one in holders:
                    holder = getattr(holder, one)
                setattr(holder, name, self.wrapped(stage, getattr(holder, name)))
        self._put_into_transactions()

    def _put_into_transactions(self):
        from regrow.adapters.sql import SqlStore

        opened = SqlStore.transaction

        @contextmanager
        def transaction(store, *, durable):
            manager = opened(store, durable=durable)
            self.enter(BEGIN)
            ledger = manager.__enter__()
            self.leave()
            yield ledger
            self.enter(COMMIT)
            manager.__exit__(None, None, None)
            self.leave()

        SqlStore.transaction = transaction


def child():
    """Run one side's calls under the clock; print microseconds per call of each stage, a line for each round."""
    logging.disable(logging.CRITICAL)
    from benchmarks import inprocess, tasks
    from benchmarks.sides import app, side

    clock = Clock()
    clock.put()
    for task in tasks.NAMES:
        app.tasks[f"bench.{task}"].run = clock.wrapped(TASK, app.tasks[f"bench.{task}"].run)
    tracers = inprocess.start(app)
    for task in ("refused", "healable"):
        trace = tracers[task]
        inprocess.call(trace, task, side.name, 100)
        for _ in range(ROUNDS):
            clock.seconds.clear()
            inprocess.call(trace, task, side.name, CALLS)
            print(json.dumps([task, {stage: one / CALLS * 1e6 for stage, one in clock.seconds.items()}]), flush=True)


def main():
    """Print the table."""
    import subprocess

    from benchmarks import places
    from benchmarks.__main__ import sides_of

    with places.folder() as folder, places.postgresql() as database:
        columns = {}
        for side in sides_of(folder / "profile", database):
            if not side.name.endswith("-recover"):
                continue
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.profile"],
                env=side.environment() | {"PYTHONPATH": os.getcwd()},
                cwd=folder,
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            )
            for line in done.stdout.splitlines():
                task, stages = json.loads(line)
                columns.setdefault((side.name.partition("-")[0], task), []).append(stages)
    titles = {"refused": "", "healable": ", parked"}
    heads = [f"{kind}{titles[task]}" for kind, task in columns]
    print("| stage, microseconds | " + " | ".join(heads) + " |\n|---|" + "---:|" * len(heads))
    rows = [*STAGES, BEGIN, COMMIT]
    middle = {
        (key, stage): statistics.median(one.get(stage, 0) for one in rounds)
        for key, rounds in columns.items()
        for stage in rows
    }
    for stage in rows:
        print(f"| {stage} | " + " | ".join(f"{middle[key, stage]:,.0f}" for key in columns) + " |")
    print("| **all** | " + " | ".join(f"**{sum(middle[key, s] for s in rows):,.0f}**" for key in columns) + " |")


if __name__ == "__main__":
    child() if "BENCH_SIDE" in os.environ else main()
