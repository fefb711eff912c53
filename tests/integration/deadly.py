"""A scan or a replay of the spool that kills itself at a step of its work, decided from outside the product's code.

`python -m tests.integration.deadly scan|replay`; REGROW_TEST_KILL is `<when>:<step>:<count>`: SIGKILL `before` or `after` the
count-th `handle` (one transaction), `write` (before its commit), `rename` or `unlink` (of the spool's files), `give_lease`.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from regrow import wiring
from regrow.model import DATA, Failure, Handled
from regrow.oversight import Oversight
from regrow.testing import a_failure
from tests.integration.dispatch import Deadly
from tests.integration.proj_app import app, site

WHEN, STEP, COUNT = (os.environ.get("REGROW_TEST_KILL") or "::0").split(":")
left = int(COUNT or 0)


def strike(when: str, step: str) -> None:
    """Die if this is the chosen step."""
    global left
    if (when, step) == (WHEN, STEP):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


class Mortal(Oversight):
    """The pipeline, which may die around each transaction."""

    def handle(self, failures: Sequence[Failure]) -> list[Handled]:
        """Record failures."""
        strike("before", "handle")
        handled = super().handle(failures)
        strike("after", "handle")
        return handled


class MortalStore(Deadly):
    """The ledger, which may die inside of a transaction, or when a lease is given back."""

    @contextmanager
    def transaction(self, *, durable: bool) -> Iterator[Any]:
        """Open a transaction."""
        with self._inner.transaction(durable=durable) as ledger:
            yield MortalLedger(ledger)


class MortalLedger:
    """A transaction that may die before its commit."""

    def __init__(self, inner: Any) -> None:
        self.histories = inner.histories
        self._inner = inner

    def write(self, handled: Sequence[Handled]) -> list[Handled]:
        """Keep failures."""
        strike("before", "write")
        kept = self._inner.write(handled)
        strike("after", "write")
        return kept


def mortal_paths() -> None:
    """Files may outlive whoever renames or removes them."""
    for name in ("rename", "unlink"):
        real: Callable[..., Any] = getattr(Path, name)

        def armed(path: Path, *args: Any, _real: Any = real, _name: str = name, **kwargs: Any) -> Any:
            strike("before", _name)
            done = _real(path, *args, **kwargs)
            strike("after", _name)
            return done

        setattr(Path, name, armed)


class Table:
    """An application's own table of failed tasks: a file of ids."""

    def failed(self, since: datetime) -> Iterator[Failure]:
        """The failed ones."""
        for task_id in (Path(site["folder"]) / "failed").read_text().split():
            yield dataclasses.replace(
                a_failure(DATA, task_id=task_id, failed_at=datetime.now(UTC)), scanned=True, parkable=False
            )


def main() -> None:
    """Scan, or replay."""
    settings = wiring.load_settings(app)
    plain = wiring.connect(app, settings)
    parts = {field.name: getattr(plain, field.name) for field in dataclasses.fields(plain)}
    store = MortalStore(plain.store, WHEN, STEP, left if STEP == "give_lease" else -1)
    regrow = Mortal(**{**parts, "store": store, "sources": [Table()]})
    if sys.argv[1] == "scan":
        print(regrow.scan())
    else:
        mortal_paths()
        print(wiring.open_spool(settings).replay(regrow.handle))


if __name__ == "__main__":
    main()
