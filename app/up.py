"""`make up`: the services, a worker with its dispatcher, and beat, until Ctrl-C, on what the demo left.

The services have no bad day here, and retries wait as long as the settings say.
"""

from __future__ import annotations

import os
import signal
import sys
import time

from app.demo import plot, stage
from app.demo.evidence import LOGS
from app.demo.texts import reader_language, texts
from regrow.errors import RegrowError


def main() -> int:
    """Keep everything running; return the exit code.

    Raises:
        StageError: Something runs there already, or one of the processes has ended.
        RegrowError: A setting is wrong.
    """
    say = texts(reader_language())
    # Not an Event: a signal that comes while `wait` holds its lock would hang us for ever.
    told: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: told.append(number))
    lock = stage.take_folder()
    stage.FOLDER.mkdir(parents=True, exist_ok=True)
    with lock, plot.courier(troubles=False) as courier, stage.Company(lock) as company:
        os.environ.update(stage.addresses(courier))
        from app import beat
        from app.tasks.celery_app import settings

        company.start_worker()
        pid = beat.running()
        if pid is None:
            company.start_beat()
            print(say("Worker, beat and the services are starting. Ctrl-C ends them."))
        else:
            text = "Worker and the services are starting; beat (process {pid}) is running already. Ctrl-C ends them."
            print(say(text).format(pid=pid))
        print(say("Their logs: {files}").format(files=" ".join(f"{settings.logs_dir}/{name}" for name in LOGS)))
        print(say("From another terminal:"))
        print("  .venv/bin/celery -A app.tasks.celery_app inspect active")
        print("  .venv/bin/celery -A app.tasks.celery_app call app.tasks.business.tracking_update "
              "--args '[\"XX10000001\"]'")  # fmt: skip
        print("  .venv/bin/regrow failures", flush=True)
        while not told:
            company.check()
            time.sleep(1)
    print(say("Stopped."))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (stage.StageError, RegrowError) as error:
        sys.exit(f"up: {error}")
