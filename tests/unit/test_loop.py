"""The dispatcher's loop ends when it is told to, at whatever moment that is."""

from __future__ import annotations

import subprocess
import sys

#: Rests so short that a signal nearly always meets the loop on its way into or out of one.
PROGRAM = """
import os, random, signal, time
from datetime import UTC, datetime
from types import SimpleNamespace
from regrow.adapters.celery.loop import run
from regrow.model import Lease, Tick

class Idle:
    lease = Lease()
    store = SimpleNamespace(beat=lambda member: 0.0, gone=lambda boot: None)

    def clock(self):
        return datetime.now(UTC)

    def act(self):
        return Tick()

    def watch(self):
        return True

for number in range(300):
    signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0005, 0.003))
    assert run(Idle, tick_seconds=1e-6) == 0
print("stopped", number + 1)
"""


def test_a_signal_at_any_moment_stops_it() -> None:
    """300 loops are told to stop at random moments; none of them hangs."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120)
    assert done.stdout == "stopped 300\n", done.stderr
