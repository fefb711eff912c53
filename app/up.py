"""`make up`: courier, worker and dispatcher of the reference application until Ctrl-C, on what the demo left.

The courier has no bad day here, and retries wait as long as the settings say.
"""

from __future__ import annotations

import os
import signal
import sys
import time

from app.courier import Courier
from app.demo import plot, stage


def main() -> int:
    """Keep everything running; return the exit code."""
    # Not an Event: a signal that comes while `wait` holds its lock would hang us for ever.
    told: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: told.append(number))
    lock = stage.take_folder(fresh=False)
    with Courier(plot.PARCELS, {}, key=plot.COURIER_KEY, pickup_opens=0) as courier, stage.Company(lock) as company:
        needed = {
            "APP_VAR": str(stage.FOLDER),
            "COURIER_URL": courier.url,
            "COURIER_PICKUP_URL": courier.pickup_url,
            "COURIER_KEY": plot.COURIER_KEY,
        }
        os.environ.update(needed)
        stage.run("db", "upgrade")
        company.start()
        print(f"Worker and dispatcher are starting; their logs lie in {stage.LOGS}. Ctrl-C ends them.")
        print("To send a task from another terminal:")
        print(f"  export {' '.join(f'{name}={value}' for name, value in needed.items())}")
        print(
            "  .venv/bin/celery -A app.tasks.celery_app call app.tasks.parcels.track --args '[\"SF9999\"]'", flush=True
        )
        while not told:
            company.check()
            time.sleep(1)
    print("Stopped.")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except stage.StageError as error:
        sys.exit(f"up: {error}")
