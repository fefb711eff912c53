"""`make demo`: failed tasks recover before your eyes. Ends by itself; exit code 0 only if all that it says is true.

The services of a courier and a shop, which have a bad day, and a Celery worker with its dispatcher are started on a
fresh `var/app`. Tasks are sent, fail, and are retried or handed over by Regrow; the worker is killed, and what it had
is found again. In the end what the ledger says is compared with what the services, Celery and the waiting calls say.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from datetime import timedelta
from io import TextIOWrapper
from pathlib import Path
from time import monotonic
from typing import NoReturn

from app.demo import plot, stage
from app.demo.checks import CHECKS
from app.demo.evidence import Evidence, Files, gather
from app.demo.play import Play
from app.demo.show import Show
from app.demo.stage import Company, StageError
from app.demo.texts import reader_language, texts
from regrow import report, wiring
from regrow.errors import RegrowError

#: The demo gives up after this time; DEMO_LIMIT_SECONDS changes it.
LIMIT_SECONDS = 100.0
_INTERRUPTED = 130
_PIPE_CLOSED = 141

_DEPARTMENTS = {plot.SOLD_OUT: "customer service told", plot.UNPAID: "finance told"}


def perform(show: Show, limit: float) -> int:
    """Play, stop everything, print what came of it; return the exit code."""
    say = show.say
    # Before our own settings: a person who looks at the ledger afterwards has these.
    prefix, shell = _reader_settings(), dict(os.environ)
    settings = wiring.load_settings()
    files = Files(Path(settings.logs_dir), Path(settings.reports_dir))
    show.title(say("Regrow demo: {n} tasks, services with a bad day, and a worker that is killed").format(
        n=len(plot.SCENES)))  # fmt: skip
    lock = stage.take_folder()
    courier = plot.courier(troubles=True)
    with lock, courier, Company(lock) as company:
        os.environ.update(stage.addresses(courier) | stage.bad_day(courier))
        if stage.clear_folder():
            show.step(say("the former {folder} is now {former}").format(folder=stage.FOLDER, former=stage.FORMER))
        show.step(say("starting the services and a Celery worker with its dispatcher in {folder}").format(
            folder=stage.FOLDER))  # fmt: skip
        play = Play(show, courier, company, limit)
        play.run()
        show.step(say("stopping the worker"))
    return _tell(show, gather(play, courier, files, {**shell, **prefix}), prefix)


def _tell(show: Show, seen: Evidence, prefix: Mapping[str, str]) -> int:
    show.summary(seen.records, _DEPARTMENTS, sum(scene not in seen.records for scene in seen.results))
    show.ledger(seen.balance, stage.LEDGER)
    now = wiring.clock()
    figures = wiring.open_ledger(wiring.load_settings()).figures(now - timedelta(days=7), now)
    show.targets(report.targets(figures, show.words))
    show.gap()
    failed = 0
    for text, check in CHECKS:
        problems = list(check(seen))
        failed += bool(problems)
        show.check(text, problems)
    show.listing(show.say("Reports and logs"), [*map(str, seen.files.new_reports()), *_logs(seen)])
    show.listing(show.say("Look further"), _commands(prefix, seen))
    facts = {"n": len(CHECKS), "failed": failed, "seconds": f"{show.seconds():.0f}", "log": stage.log_of("worker")}
    good = "All {n} checks hold. {seconds} s."
    bad = "{failed} of {n} checks FAILED. {seconds} s. The worker's log: {log}"
    show.end(show.say(bad if failed else good).format(**facts), good=not failed)
    return 1 if failed else 0


def _logs(seen: Evidence) -> list[str]:
    return [str(seen.files.logs / name) for name, lines in seen.logs.items() if lines]


def _commands(prefix: Mapping[str, str], seen: Evidence) -> list[str]:
    """Commands that show more, as they can be pasted where the demo was started."""
    program = Path(sys.executable).with_name("regrow")
    here = Path.cwd()
    name = str(program.relative_to(here) if program.is_relative_to(here) else program)
    held, spent = seen.records.get(plot.CUT_PAYMENT), seen.records.get(plot.SPENT)
    return [
        *([f"export {' '.join(f'{key}={value}' for key, value in prefix.items())}"] if prefix else []),
        f"{name} status",
        f"{name} failures",
        *([f"{name} show {held.id}"] if held else []),
        *([f"{name} explain {spent.id}"] if spent else []),
        f"{name} inbox {plot.UNPAID.user}",
        f"cat {seen.files.logs / 'admin_alerts.log'}",
        *(f"cat {path}" for path in seen.files.new_reports()[:1]),
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
    language = reader_language()
    show = Show(texts(language), wiring.words(language), lambda: monotonic() - begin)
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
