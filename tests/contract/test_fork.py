"""A process that has the ledger open forks: the child, and the parent, use it as if nothing had happened."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import os, sys, threading, time
from regrow.adapters.sql import Database, SqlStore
from regrow.testing import a_failure, a_regrow

url, busy = sys.argv[1], sys.argv[2] == "busy"
regrow = a_regrow(SqlStore(Database(url)))
regrow.handle([a_failure(task_id="first")])
stop = threading.Event()

def hammer():
    number = 0
    while not stop.is_set():
        regrow.handle([a_failure(task_id=f"thread-{number}")])
        number += 1

if busy:
    threading.Thread(target=hammer, daemon=True).start()
for number in range(10):
    child = os.fork()
    if not child:
        began = time.monotonic()
        for store in (regrow.store, SqlStore(Database(url))):  # the one that it knows, and one of its own
            assert store.history("first").attempts == 1
            mine = a_regrow(store)
            mine.handle([a_failure(task_id=f"child-{number}-{id(store)}")])
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, number
    regrow.handle([a_failure(task_id=f"parent-{number}")])
stop.set()
print("done")
"""


def test_quiet(store_url: str) -> None:
    """The parent's connection is at rest."""
    _run(store_url, "quiet")


def test_busy(store_url: str) -> None:
    """Another thread of the parent writes at the moment of the fork."""
    _run(store_url, "busy")


def _run(url: str, how: str) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, url, how], capture_output=True, text=True, timeout=120)
    assert done.stdout == "done\n", done.stderr
