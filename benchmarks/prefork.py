"""The same tasks in real workers: prefork, two children, Redis as broker and result backend.

Every side's worker runs all the time and is idle but for its turn. A turn's messages are made before the clock starts,
and given to the worker in one move; the clock stops when Celery has stored the last task's end.
"""

import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from urllib.parse import urlsplit

from benchmarks import measure, sides, tasks

#: Tasks in one turn: some hundred milliseconds of work for each child.
TASKS = {"success": 1200, "refused": 300, "healable": 300}
CHILDREN = 2
BROKER, BACKEND = 0, 1  # numbers of Redis databases


class Worker:
    """A side's worker.

    Args:
        side: The side, with broker and backend.
        folder: Where it runs.
        redis: A function that gives a client for a Redis database by its number.
    """

    def __init__(self, side, folder, redis):
        self._side = side
        self._broker, self._results = redis(BROKER), redis(BACKEND)
        self._sender = sides.make(replace(side, kind="plain"))
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "celery", "-A", "benchmarks.sides", "worker", "-c", str(CHILDREN)),
                *("-Q", side.name, "-n", f"{side.name}@bench", "-l", "CRITICAL"),
                *("--without-gossip", "--without-mingle", "--without-heartbeat"),
            ],
            env=side.environment() | {"PYTHONPATH": sys.path[0] or "."},
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def microseconds(self, task):
        """Let the worker run a turn's tasks; return the time per task."""
        number = TASKS[task]
        waiting = f"waiting-{self._side.name}"
        call = self._sender.tasks[f"bench.{task}"]
        for _ in range(number):
            call.apply_async((4711, 12.5), queue=waiting)
        self._results.flushdb()
        begin = time.perf_counter()
        self._broker.rename(waiting, self._side.name)
        while self._results.dbsize() < number:
            time.sleep(0.001)
            if time.perf_counter() - begin > 120:
                raise SystemExit(f"{self._side.name}: {self._results.dbsize()} of {number} {task} ended in 120 s")
        return (time.perf_counter() - begin) / number * 1e6

    def close(self):
        """End the worker."""
        self._process.terminate()
        self._process.wait(30)
        self._sender.close()


@contextmanager
def workers(given, folder, url):
    """A worker for each side."""
    import redis

    parts = urlsplit(url)

    def client(number):
        return redis.Redis(host=parts.hostname, port=parts.port, db=number)

    with ExitStack() as stack:
        made = {}
        for side in given:
            side = replace(side, broker=f"{url}/{BROKER}", backend=f"{url}/{BACKEND}")
            made[side.name] = Worker(side, folder, client)
            stack.callback(made[side.name].close)
        yield made


def run(given, folder, url):
    """Microseconds of wall time per task by (side, task), for each round."""
    with workers(given, folder, url) as made:
        subjects = {
            (name, task): lambda worker=worker, task=task: worker.microseconds(task)
            for name, worker in made.items()
            for task in tasks.NAMES
        }
        for warm in subjects.values():
            warm()
        return measure.rounds(subjects)
