"""Regrow in a Celery application."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from regrow import config
from regrow.errors import LedgerError, SettingsError
from regrow.model import Failure
from regrow.wiring.live import Live, run_dispatcher
from regrow.wiring.parts import clock, load_settings, open_spool
from regrow.wiring.plugins import Plugins, check

if TYPE_CHECKING:
    from celery import Celery

    from regrow.adapters.celery.install import Doors, Installation, Sign
    from regrow.ports import Projection, Source, Strategy

log = logging.getLogger("regrow")


def install(
    app: Celery,
    *,
    dispatcher: bool = False,
    sources: Sequence[Source] = (),
    projection: Projection | None = None,
    channels: Mapping[str, Callable[[Mapping[str, Any]], object]] | None = None,
    sinks: Mapping[str, Callable[[Mapping[str, Any]], object]] | None = None,
    strategy: Strategy | None = None,
    patterns: Mapping[Any, Sequence[str]] | None = None,
    user_of: Callable[[Failure], object] | None = None,
    **settings: Any,
) -> Installation:
    """Put Regrow into a Celery application. Call it once, where the application is made.

    Args:
        app: The application.
        dispatcher: True: each worker runs a dispatcher beside it, as `-B` does for beat; else start `regrow run`.
        sources: Records of failed work that no door saw; `scan` looks through them.
        projection: The application's own record of its tasks, kept in step with the ledger.
        channels: Functions by name; each gets every message to people, as a dict, beside Regrow's own channels.
        sinks: Functions by name; each gets an event, as a dict, for every failed run.
        strategy: Your own recovery strategy, asked before the built-in schedules.
        patterns: Your own error patterns by category; they win over the built-in rules, and may be changed later.
        user_of: Finds the end user of a failure whose message does not name one.
        settings: Any field of `Settings`, stronger than environment and files.

    Raises:
        SettingsError: Regrow is installed in this application already, a setting's name is unknown, or a plug-in is
            not what it must be.
        RuleError: A pattern cannot be used.
    """
    from functools import partial

    from regrow.adapters.celery.install import Installation

    if hasattr(app, "regrow"):
        raise SettingsError(f"regrow is installed in the Celery application {app.main!r} already; install it once")
    config.check_names(settings)
    plugins = Plugins(sources, projection, channels or {}, sinks or {}, strategy, patterns, user_of)
    check(plugins)
    live = Live(app, patterns)

    def dispatch(alive: Callable[[], bool]) -> int:
        return run_dispatcher(app, load_settings(app), alive=alive)

    installation = Installation(app, settings, plugins, live, partial(open_doors, live), dispatch, dispatcher)
    app.regrow = installation
    installation.connect()
    return installation


def open_doors(live: Live, sign: Sign) -> Doors:
    """All that stands in a worker that starts.

    Raises:
        SettingsError: The settings are wrong.
    """
    from regrow.adapters.celery.caretaker import Caretaker
    from regrow.adapters.celery.door import Door
    from regrow.adapters.celery.facts import Terms
    from regrow.adapters.celery.install import Doors
    from regrow.adapters.celery.net import Net
    from regrow.adapters.celery.parent import Parent

    # Loaded before the pool forks: its children share it.
    live.classifier.load()
    settings = live.settings
    spool, terms = open_spool(settings), Terms(settings.envelope_limit_bytes, settings.redaction())
    caretaker = Caretaker(live, spool, sign)
    try:
        caretaker.beat(live())  # before its first task begins
    except LedgerError as error:  # it may come back: each failure tries it again
        log.error("regrow: until this is mended failures wait in the folder %s: %s", settings.spool_dir, error)
    door = Door(live, terms=terms, caretaker=caretaker, boot=sign.boot, track=settings.track_starts)
    net = Net(clock, door.wishes, caretaker, terms=terms)
    return Doors(door, Parent(live, door.wishes, net, caretaker, boot=sign.boot, terms=terms), caretaker)
