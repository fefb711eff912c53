"""Measure what Regrow costs, each figure against a baseline that runs in the same rounds; see README.md.

Two shared cores are noisy: only medians over shuffled rounds are printed, with their spread.
"""

import json
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import inprocess, measure, places, prefork
from benchmarks.sides import Side

RESULTS = Path(__file__).parent / "results" / "latest.json"
BIN = Path(sys.executable).parent


def main():
    """Measure, print, and write the results."""
    with places.folder() as folder, places.postgresql() as database, places.redis(folder) as redis:
        alone = sides_of(folder / "alone", database)
        calls = inprocess.run(alone, folder)
        show("Calls through Celery's tracer in one process, microseconds per call", alone, calls)
        results = [help_ratio(), *in_process_results(calls, database)]
        if redis is not None:
            working = sides_of(folder / "workers", database)
            turns = prefork.run(working, folder, redis)
            show(f"Workers with {prefork.CHILDREN} children, microseconds of wall time per task", working, turns)
            results += worker_results(turns, calls)
    print()
    for one in results:
        low, high = one["spread"]
        print(f"{one['name']:<44}{one['ratio']:>10.3f}  [{low:.3f} - {high:.3f}]  {one['rounds']} rounds")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    print(f"written to {RESULTS}")


def sides_of(folder, database):
    """What is compared; the ledgers are made ready."""
    from regrow import wiring

    folder.mkdir()
    made = [Side("plain"), Side("sentry", "sentry")]
    for mode in ("observe", "recover"):
        made.append(Side(f"sqlite-{mode}", "regrow", mode, f"sqlite:///{folder}/{mode}.db", str(folder)))
        if database:
            ledger = schema(database, f"{folder.name}_{mode}")
            made.append(Side(f"postgresql-{mode}", "regrow", mode, ledger, str(folder)))
    for side in made:
        if side.kind == "regrow":
            wiring.upgrade(wiring.load_settings(database_url=side.ledger))
    return made


def schema(database, name):
    """The URL of a new schema in a PostgreSQL database."""
    from sqlalchemy import create_engine, text

    with create_engine(database).begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {name}"))
    return f"{database}?options=-csearch_path%3D{name}"


def help_ratio():
    """The start of our command against the start of Celery's."""
    took = measure.rounds({name: command(name, "--help") for name in ("celery", "regrow")})
    return measure.entry("cli_help_vs_celery_help", measure.ratio(took["regrow"], took["celery"]))


def command(*words):
    """A function that runs a command, which must succeed, and returns how long it took."""

    def seconds():
        begin = time.perf_counter()
        subprocess.run([BIN / words[0], *words[1:]], check=True, capture_output=True)
        return time.perf_counter() - begin

    return seconds


def in_process_results(calls, database):
    """The figures that calls in one process give."""
    plain = {task: calls["plain", task] for task in ("success", "refused", "healable")}
    sentry = measure.extra(calls["sentry", "refused"], plain["refused"])
    ours = measure.extra(calls["sqlite-recover", "refused"], plain["refused"])
    yield measure.entry(
        "failing_task_observe_vs_plain_sqlite", measure.ratio(calls["sqlite-observe", "healable"], plain["healable"])
    )
    yield measure.entry(
        "failing_task_park_vs_plain_sqlite", measure.ratio(calls["sqlite-recover", "healable"], plain["healable"])
    )
    for kind in ("sqlite", "postgresql") if database else ("sqlite",):
        # The common failure; the same in observe mode, which tells nobody; and one that is parked, which costs a sync.
        for name, side, task in (
            (f"capture_{kind}", f"{kind}-recover", "refused"),
            (f"capture_{kind}_observe", f"{kind}-observe", "refused"),
            (f"capture_{kind}_parked", f"{kind}-recover", "healable"),
        ):
            yield measure.entry(name, measure.extra(calls[side, task], plain[task]))
    yield measure.entry("capture_vs_sentry_in_process", measure.ratio(ours, sentry))
    yield measure.entry("success_task_in_process", measure.ratio(calls["sqlite-recover", "success"], plain["success"]))


def worker_results(turns, calls):
    """The figures that real workers give."""
    plain = turns["plain", "refused"]
    ours = measure.extra(turns["sqlite-recover", "refused"], plain)
    sentry = measure.extra(turns["sentry", "refused"], plain)
    # Not the median of ratios: in a noisy round either difference may be near zero.
    middle = statistics.median(ours) / statistics.median(sentry)
    yield measure.entry("capture_vs_sentry", measure.ratio(ours, sentry), middle)
    # What a call takes longer in one process, of the time that a child has for each task: steadier than the direct way.
    added = measure.extra(calls["sqlite-recover", "success"], calls["plain", "success"])
    share = [1 + one / (prefork.CHILDREN * all_of_it) for one, all_of_it in zip(added, turns["plain", "success"])]
    yield measure.entry("success_task_share", share)
    yield measure.entry("success_task", measure.ratio(turns["sqlite-recover", "success"], turns["plain", "success"]))


def show(title, sides, results):
    """Print a table: medians, and the median of what each side adds to the plain one."""
    print(f"\n{title} (median of {measure.ROUNDS} rounds; in brackets what it adds to `plain`)")
    print(f"{'':<22}{'succeeds':>20}{'fails, not retried':>24}{'fails, healable':>24}")
    for side in sides:
        cells = []
        for task in ("success", "refused", "healable"):
            values = results[side.name, task]
            added = statistics.median(measure.extra(values, results["plain", task]))
            cells.append(f"{statistics.median(values):,.0f}" + (f" ({added:+,.0f})" if side.kind != "plain" else ""))
        print(f"{side.name:<22}{cells[0]:>20}{cells[1]:>24}{cells[2]:>24}")


if __name__ == "__main__":
    main()
