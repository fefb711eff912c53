"""What is wrong with a set-up, and how to mend it.

of_ledger.py    settings, ledger, dispatchers, clocks
of_broker.py    broker, result backend
of_workers.py   workers, queues
of_machine.py   folders, spool
"""

from __future__ import annotations

from itertools import chain

from regrow.model import Finding, Level, SetUp, Switches
from regrow.ports import Words
from regrow.report.of_broker import of_broker, of_results
from regrow.report.of_ledger import of_ledger, of_settings
from regrow.report.of_machine import of_machine
from regrow.report.of_workers import of_workers

_ORDER = tuple(Level)


def diagnose(setup: SetUp, switches: Switches, _: Words) -> list[Finding]:
    """The findings that follow from the facts, the worst first.

    Args:
        setup: The facts.
        switches: The settings that they are compared with.
    """
    found = chain(
        of_settings(setup, switches, _),
        of_broker(setup, switches, _),
        of_results(setup, _),
        of_ledger(setup, switches, _),
        of_workers(setup, switches, _),
        of_machine(setup, switches, _),
    )
    return sorted(found, key=lambda one: _ORDER.index(one.level))
