"""Measure what Regrow costs, each figure as a ratio to a baseline that runs in the same rounds, interleaved.

Two shared cores are noisy: only medians over shuffled rounds are printed, with their spread.
"""

import json
import atexit
import os
import platform
import random
import statistics
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

ROUNDS = 7
RESULTS = Path(__file__).parent / "results" / "latest.json"
BIN = Path(sys.executable).parent


def seconds(action):
    """How long `action` takes."""
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def ratio(name, baseline, subject, rounds=ROUNDS):
    """Median of `subject` / `baseline` over shuffled rounds."""
    ratios = []
    for _ in range(rounds):
        pair = {"baseline": baseline, "subject": subject}
        names = random.sample(list(pair), 2)
        took = {which: seconds(pair[which]) for which in names}
        ratios.append(took["subject"] / took["baseline"])
    return {
        "name": name,
        "ratio": round(statistics.median(ratios), 3),
        "rounds": rounds,
        "spread": [round(min(ratios), 3), round(max(ratios), 3)],
        "date": date.today().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
    }


def command(*words):
    """A command that runs silently and must succeed."""
    return lambda: subprocess.run([BIN / words[0], *words[1:]], check=True, capture_output=True)


def failing_calls(door, count=300):
    """A function that runs `count` failing calls through Celery's own tracer, with or without the door."""
    from celery import Celery
    from celery.app.trace import build_tracer

    app = Celery(f"bench-{door}", broker="memory://", backend="cache+memory://", set_as_current=False)

    @app.task(name="bench.fail", shared=False)
    def fail():
        raise ConnectionError("[Errno 111] Connection refused")

    app.finalize()
    if door:
        from regrow import wiring
        from regrow.adapters.celery.door import Door

        folder = Path(tempfile.mkdtemp(prefix="regrow-bench-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        settings = wiring.load_settings(mode=door, database_url=f"sqlite:///{folder}/ledger.db", logs_dir=str(folder))
        wiring.upgrade(settings)
        made = wiring.connect(app, settings)
        Door(lambda: made, limit=settings.envelope_limit_bytes).hang(app)
    trace = build_tracer("bench.fail", app.tasks["bench.fail"], app=app)
    number = iter(range(10**9))

    def calls():
        for _ in range(count):
            one = f"{door}-{os.getpid()}-{next(number)}"
            request = {"id": one, "delivery_info": {"exchange": "", "routing_key": "celery"}, "retries": 0}
            trace(one, (), {}, request)

    return calls


def main():
    """Run everything and write the table."""
    import logging

    logging.disable(logging.CRITICAL)
    plain, observe, recover = failing_calls(""), failing_calls("observe"), failing_calls("recover")
    for warm in (plain, observe, recover):
        warm()
    results = [
        ratio("cli_help_vs_celery_help", command("celery", "--help"), command("regrow", "--help")),
        ratio("failing_task_observe_vs_plain_sqlite", plain, observe),
        ratio("failing_task_park_vs_plain_sqlite", plain, recover),
    ]
    for one in results:
        low, high = one["spread"]
        print(f"{one['name']:<44}{one['ratio']:>8.2f}  [{low:.2f} - {high:.2f}]  {one['rounds']} rounds")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    print(f"written to {RESULTS}")


if __name__ == "__main__":
    main()
