"""A dispatcher process that can kill itself at any step of its work, decided from outside the product's code.

REGROW_TEST_KILL is `<when>:<method>:<count>`: SIGKILL `before` or `after` the count-th call of that method of the store or of
the dispatcher.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import signal
import sys
from typing import Any

from regrow import wiring
from regrow.adapters.celery.loop import run
from tests.integration.proj_app import app


class Deadly:
    """Passes every call on, and kills the process at the chosen one.

    Args:
        inner: What does the work.
        when: `before` or `after`.
        method: At which method.
        count: At which call of it.
    """

    def __init__(self, inner: Any, when: str, method: str, count: int) -> None:
        self._inner = inner
        self._when = when
        self._method = method
        self._left = count

    def __getattr__(self, name: str) -> Any:
        """The method, armed if it is the chosen one."""
        method = getattr(self._inner, name)
        if name != self._method:
            return method

        def armed(*args: Any, **kwargs: Any) -> Any:
            # A look that finds nothing is no step of the work.
            if self._when == "before":
                self._strike()
                return method(*args, **kwargs)
            found = method(*args, **kwargs)
            if found is None or found:
                self._strike()
            return found

        return armed

    def _strike(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> int:
    """Run until SIGTERM, or until the chosen step."""
    logging.basicConfig(level=logging.INFO, stream=sys.stdout)
    settings = wiring.load_settings(app)
    regrow = wiring.connect(app, settings)
    kill = os.environ.get("REGROW_TEST_KILL")
    if kill:
        when, method, count = kill.split(":")
        regrow = dataclasses.replace(
            regrow,
            store=Deadly(regrow.store, when, method, int(count)),
            dispatcher=Deadly(regrow.dispatcher, when, method, int(count)),
        )
    return run(lambda: regrow, tick_seconds=settings.tick_seconds)


if __name__ == "__main__":
    sys.exit(main())
