"""Calls through Celery's own tracer, without a broker: the least noise, and the cost of a call and nothing else.

Each side is a process (`python -m benchmarks.inprocess`) that runs so many calls of a task whenever it is told to.
"""

import json
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from uuid import uuid4

from benchmarks import measure, tasks

#: Calls in one sample: some hundred milliseconds, so that one interrupted call does not show.
CALLS = {"success": 4000, "refused": 300, "healable": 300}


class Tracer:
    """A process that waits for orders."""

    def __init__(self, side, folder):
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.inprocess"],
            env=side.environment() | {"PYTHONPATH": sys.path[0] or "."},
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.recorded = 0

    def microseconds(self, task):
        """Run a sample; return the time of one call."""
        self._process.stdin.write(f"{task} {CALLS[task]}\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        self.recorded = answer["recorded"]
        return answer["seconds"] / CALLS[task] * 1e6

    def close(self):
        """End the process."""
        self._process.stdin.close()
        self._process.wait(30)


@contextmanager
def tracers(sides, folder):
    """A process for each side."""
    with ExitStack() as stack:
        made = {side.name: Tracer(side, folder) for side in sides}
        for tracer in made.values():
            stack.callback(tracer.close)
        yield made


def run(sides, folder):
    """Microseconds per call by (side, task), for each round."""
    with tracers(sides, folder) as made:
        subjects = {
            (name, task): lambda tracer=tracer, task=task: tracer.microseconds(task)
            for name, tracer in made.items()
            for task in tasks.NAMES
        }
        for warm in subjects.values():
            warm()
        results = measure.rounds(subjects)
        expected = (CALLS["refused"] + CALLS["healable"]) * (measure.ROUNDS + 1)
        for side in sides:
            if side.kind != "plain":
                tracer = made[side.name]
                tracer.microseconds("success")
                if tracer.recorded != expected:
                    raise SystemExit(f"{side.name} took {tracer.recorded} of {expected} failures")
    return results


def serve():
    """Obey the orders on standard input."""
    from benchmarks.sides import app, recorded, side

    trace = start(app)
    for line in sys.stdin:
        name, number = line.split()
        seconds = call(trace[name], name, side.name, int(number))
        print(json.dumps({"seconds": seconds, "recorded": recorded(side)}), flush=True)


def start(app):
    """Do what a worker does when it starts; return Celery's tracer of each task."""
    import celery.app.trace
    from celery import signals

    signals.worker_init.send(sender=None)
    celery.app.trace.setup_worker_optimizations(app, "bench@localhost")
    # Not imported by name: Sentry puts its own in the place.
    return {
        task: celery.app.trace.build_tracer(f"bench.{task}", app.tasks[f"bench.{task}"], app=app)
        for task in tasks.NAMES
    }


def call(trace, task, queue, number):
    """Run so many calls of a task through a tracer; return the seconds they took."""
    requests = []
    for _ in range(number):
        one = str(uuid4())
        requests.append(
            {
                "id": one,
                "task": f"bench.{task}",
                "root_id": one,
                "args": [4711, 12.5],
                "kwargs": {},
                "retries": 0,
                "hostname": "bench@localhost",
                "delivery_info": {"exchange": "", "routing_key": queue, "priority": 0, "redelivered": False},
            }
        )
    begin = time.perf_counter()
    for request in requests:
        trace(request["id"], [4711, 12.5], {}, request)
    return time.perf_counter() - begin


if __name__ == "__main__":
    serve()
