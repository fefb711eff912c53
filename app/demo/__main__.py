"""`make demo`: failed tasks recover before your eyes. Ends by itself; exit code 0 only if all that it says is true.

A ledger, a courier's HTTP service with a bad day, a Celery worker and a dispatcher are started in `var/demo`; tasks are
sent, fail, and are retried or handed over by Regrow. In the end what the ledger says is compared with what the courier,
Celery and the waiting calls say.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping
from io import TextIOWrapper
from pathlib import Path
from threading import Thread
from time import monotonic, sleep
from typing import TYPE_CHECKING, NoReturn

from app.courier import Courier
from app.demo import plot, stage
from app.demo.checks import CHECKS, Evidence
from app.demo.plot import Scene
from app.demo.show import Show
from app.demo.stage import Company, StageError
from app.demo.texts import texts
from app.demo.watch import Watch
from regrow import wiring
from regrow.errors import RegrowError
from regrow.ports import Ledger

if TYPE_CHECKING:
    from celery.result import AsyncResult

#: The demo gives up after this time; DEMO_LIMIT_SECONDS changes it.
LIMIT_SECONDS = 42.0
_LOOK_SECONDS = 0.2
_INTERRUPTED = 130
_PIPE_CLOSED = 141


class Demo:
    """One performance.

    Args:
        show: Prints.
        limit: When to give up, in seconds since the demo began.
    """

    def __init__(self, show: Show, limit: float) -> None:
        self.show = show
        self.limit = limit
        self.results: dict[Scene, AsyncResult] = {}
        self.answers: dict[Scene, object] = {}

    def play(self, courier: Courier, company: Company) -> bool:
        """Send the tasks and watch them to their end; return whether they came to it in time."""
        say, show = self.show.say, self.show
        company.start()
        if not self._until(_worker_is_ready, company):
            return False
        text = "the worker is ready; sending {n} tasks, and waiting with .get() for one task, a chain and a chord"
        show.step(say(text).format(n=len(plot.SCENES)))
        self.results = plot.send()
        for scene in plot.ANSWERS:
            Thread(target=self._wait_for, args=(scene,), daemon=True).start()
        ledger = wiring.open_ledger(wiring.load_settings())
        watch = Watch(ledger, {result.id: scene for scene, result in self.results.items()})
        told: set[Scene] = set()

        def over() -> bool:
            done = self._over(ledger)
            for news in watch.news():
                show.happened(news)
            for scene, answer in list(self.answers.items()):
                if scene not in told:
                    told.add(scene)
                    show.returned(scene, answer)
            return done

        return self._until(over, company)

    def _until(self, condition: Callable[[], bool], company: Company) -> bool:
        """Wait for something; return whether it came in time."""
        while not condition():
            company.check()
            if self.show.seconds() > self.limit:
                self.show.step(self.show.say("not over after {n} s").format(n=f"{self.limit:g}"))
                return False
            sleep(_LOOK_SECONDS)
        return True

    def _wait_for(self, scene: Scene) -> None:
        try:
            self.answers[scene] = self.results[scene].get(timeout=self.limit - self.show.seconds(), interval=0.1)
        except Exception as error:  # noqa: BLE001  # whatever it raises is the answer, and a check judges it
            self.answers[scene] = error

    def _over(self, ledger: Ledger) -> bool:
        balance = ledger.balance(wiring.clock())
        live = sum(count for state, count in balance.by_state.items() if state.live)
        waiting = live + balance.parked + balance.undelivered + len(plot.ANSWERS) - len(self.answers)
        return waiting == 0 and all(result.ready() for result in self.results.values())

    def evidence(self, courier: Courier, reader: Mapping[str, str], *, over: bool) -> Evidence:
        """What all witnesses say now that nothing moves any more."""
        from app.tasks.celery_app import celery_app

        ledger = wiring.open_ledger(wiring.load_settings())
        found = {scene: ledger.find(result.id) for scene, result in self.results.items()}
        try:
            status = stage.run("status", "--json", environment=reader)
        except StageError as error:
            status = str(error)
        names = ("admin_alerts.log", "user_notifications.log")
        return Evidence(
            courier=courier,
            results={scene: celery_app.AsyncResult(result.id) for scene, result in self.results.items()},
            answers=dict(self.answers),
            records={scene: record for scene, record in found.items() if record is not None},
            balance=ledger.balance(wiring.clock()),
            logs={name: _lines(stage.LOGS / name) for name in names},
            status=status,
            over=over,
        )


def perform(show: Show, limit: float) -> int:
    """Play, stop everything, print what came of it; return the exit code."""
    say = show.say
    prefix = _reader_settings()
    reader = {**os.environ, **prefix}
    show.title(say("Regrow demo: {n} tasks ask a courier's HTTP service that has a bad day").format(n=len(plot.SCENES)))
    text = say("starting a ledger, a courier, a Celery worker and a dispatcher in {folder}")
    show.step(text.format(folder=stage.FOLDER))
    lock = stage.take_folder(fresh=True)
    demo = Demo(show, limit)
    courier = Courier(plot.PARCELS, plot.TROUBLES, key=plot.COURIER_KEY, pickup_opens=plot.PICKUP_OPENS_SECONDS)
    with lock, courier, Company(lock) as company:
        os.environ.update(stage.settings(courier, wiring.load_settings().language, plot.SHOP_KEY))
        stage.run("db", "upgrade")
        over = demo.play(courier, company)
        show.step(say("stopping worker and dispatcher"))
    evidence = demo.evidence(courier, reader, over=over)
    return _report(show, evidence, prefix)


def _report(show: Show, seen: Evidence, prefix: Mapping[str, str]) -> int:
    show.summary(seen.records, {scene: result.state for scene, result in seen.results.items()})
    show.ledger(seen.balance, stage.LEDGER)
    failed = 0
    for text, check in CHECKS:
        problems = list(check(seen))
        failed += bool(problems)
        show.check(text, problems)
    show.commands(_commands(prefix, seen))
    facts = {"n": len(CHECKS), "failed": failed, "seconds": f"{show.seconds():.0f}", "folder": stage.LOGS}
    good = "All {n} checks hold. {seconds} s."
    bad = "{failed} of {n} checks FAILED. {seconds} s. Logs: {folder}"
    show.end(show.say(bad if failed else good).format(**facts), good=not failed)
    return 1 if failed else 0


def _commands(prefix: Mapping[str, str], seen: Evidence) -> list[str]:
    """Commands that show more, as they can be pasted where the demo was started."""
    program = Path(sys.executable).with_name("regrow")
    here = Path.cwd()
    name = str(program.relative_to(here) if program.is_relative_to(here) else program)
    one = seen.records.get(plot.LOST)
    return [
        *([f"export {' '.join(f'{key}={value}' for key, value in prefix.items())}"] if prefix else []),
        f"{name} status",
        f"{name} failures",
        *([f"{name} show {one.id}", f"{name} explain {one.id}"] if one else []),
        f"cat {stage.LOGS}/admin_alerts.log {stage.LOGS}/user_notifications.log",
    ]


def _reader_settings() -> dict[str, str]:
    """What must stand before `regrow status` so that it sees the demo's ledger; empty if it does by itself."""
    settings = wiring.load_settings()
    needed = {}
    if settings.database_url != stage.LEDGER:
        needed["FAILURE_DATABASE_URL"] = stage.LEDGER
    if settings.mode != "recover":
        needed["FAILURE_MODE"] = "recover"
    return needed


def _worker_is_ready() -> bool:
    from app.tasks.celery_app import celery_app

    return bool(celery_app.control.ping(timeout=0.5, limit=1))


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def main() -> int:
    """Run the demo; return the exit code."""
    begin = monotonic()
    # SIGINT too: a shell that starts us in the background has it ignored, and Python then leaves it so.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    if isinstance(sys.stdout, TextIOWrapper):  # a terminal that cannot show a character gets its number
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        language = wiring.load_settings().language
        show = Show(texts(language), wiring.words(language), lambda: monotonic() - begin)
    except RegrowError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    try:
        return perform(show, float(os.environ.get("DEMO_LIMIT_SECONDS") or LIMIT_SECONDS))
    except BrokenPipeError:  # nobody reads any longer, as in `make demo | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _PIPE_CLOSED
    except KeyboardInterrupt:
        show.end(show.say("interrupted"), good=False)
        return _INTERRUPTED
    except (StageError, RegrowError, OSError) as error:
        show.end(f"{show.say('FAILED')}: {error}", good=False)
        return 1


if __name__ == "__main__":
    sys.exit(main())
