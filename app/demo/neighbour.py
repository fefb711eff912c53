"""`python -m app.demo.neighbour`: prints who uses the application's data, which must not be moved under his feet."""

from __future__ import annotations

import sys


def main() -> int:
    """Ask around; return 1 if somebody is there."""
    from app import beat
    from app.tasks.celery_app import celery_app

    found = [name for answer in celery_app.control.ping(timeout=1) for name in answer]
    pid = beat.running()
    if pid is not None:
        found.append(f"beat (process {pid})")
    print(", ".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
