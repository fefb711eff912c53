"""A dispatcher process that can kill itself at any step of its work, decided from outside the product's code.

REGROW_TEST_KILL is `<when>:<method>:<count>`: SIGKILL `before` or `after` the count-th call of that method of the store or of
the dispatcher; `after:letter:<count>`: when so many messages of a batch are out.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from celery.canvas import Signature

from regrow import wiring
from regrow.adapters.celery import publishing
from regrow.adapters.celery.loop import run
from tests.integration.proj_app import app

#: Methods whose answer is what went wrong, so nothing if all went well.
_BATCHES = ("retry", "close")


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
            # An empty batch, and a look that finds nothing, are no steps of the work.
            if args and args[0] == []:
                return method(*args, **kwargs)
            if self._when == "before":
                self._strike()
                return method(*args, **kwargs)
            found = method(*args, **kwargs)
            if found is None or found or name in _BATCHES:
                self._strike()
            return found

        return armed

    def _strike(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def die_after(letters: int) -> None:
    """Be killed when so many messages of a batch are out, and the others are not."""
    out = 0

    def one_by_one(send: Callable[..., Any]) -> Callable[..., Any]:
        def armed(self: Any, *args: Any, **more: Any) -> Any:
            nonlocal out
            batch = args[0] if args else [None]
            for one in batch:
                found = send(self, [one]) if args else send(self, **more)
                out += 1
                if out == letters:
                    os.kill(os.getpid(), signal.SIGKILL)
            return found

        return armed

    for kind, name in ((publishing._Redis, "send"), (publishing._Amqp, "send"), (Signature, "apply_async")):
        setattr(kind, name, one_by_one(getattr(kind, name)))


def main() -> int:
    """Run until SIGTERM, or until the chosen step."""
    logging.basicConfig(level=logging.INFO, stream=sys.stdout)
    settings = wiring.load_settings(app)
    regrow = wiring.connect(app, settings)
    kill = os.environ.get("REGROW_TEST_KILL")
    if kill:
        when, method, count = kill.split(":")
        if method == "letter":
            die_after(int(count))
        regrow = dataclasses.replace(
            regrow,
            store=Deadly(regrow.store, when, method, int(count)),
            dispatcher=Deadly(regrow.dispatcher, when, method, int(count)),
        )
    return run(lambda: regrow, tick_seconds=settings.tick_seconds)


if __name__ == "__main__":
    sys.exit(main())
