"""The pipeline with everything it needs, and as the settings are now."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from regrow import config
from regrow.config import Settings
from regrow.errors import SettingsError
from regrow.model import Audience, Lease, Left
from regrow.oversight import ALERTS, Emptying, Oversight
from regrow.wiring.parts import (
    PATIENCE_SECONDS,
    LazyClassifier,
    clock,
    load_settings,
    open_spool,
    open_teaching,
    words,
)
from regrow.wiring.plugins import Plugins

if TYPE_CHECKING:
    from celery import Celery

    from regrow.adapters.own_rules import Taught
    from regrow.adapters.teaching import Teaching
    from regrow.ports import Channel, Classifier, Store

log = logging.getLogger("regrow")

#: A file of settings counts when it has not changed for so long: an editor may leave it empty for a moment.
SETTLED_SECONDS = 0.5


def connect(
    app: Celery, settings: Settings, *, classify: Classifier | None = None, teaching: Teaching | None = None
) -> Oversight:
    """The pipeline with everything it needs. Opens no connection yet.

    Args:
        app: The Celery application.
        settings: The settings.
        classify: The classifier; without one it is loaded when it is first asked, so that dispatchers never load it.
        teaching: What operators have taught; without it that is looked for where the settings say.
    """
    from functools import partial
    from zoneinfo import ZoneInfo

    from regrow.adapters.celery.dispatcher import CeleryDispatcher
    from regrow.adapters.reports import write_report
    from regrow.adapters.sql import Database, SqlLedger, SqlStore

    installed = getattr(app, "regrow", None)
    plugins: Plugins = installed.plugins if installed is not None else Plugins()
    lease, channel = (timedelta(seconds=one) for one in (settings.lease_seconds, settings.channel_timeout_seconds))
    database = Database(settings.database_url, patience_seconds=PATIENCE_SECONDS)
    store = SqlStore(database)
    teaching = teaching or open_teaching(settings, plugins.patterns)
    return Oversight(
        store=store,
        ledger=SqlLedger(database),
        classify=classify or LazyClassifier(plugins.patterns, teaching.taught),
        teaching=teaching,
        dispatcher=CeleryDispatcher(app),
        channels=_channels(settings, plugins, store),
        words=words(settings.language, teaching.file),
        clock=clock,
        luck=random.random,
        lease=Lease(run=lease, claim=lease, messages=max(lease, 2 * channel)),
        strategy=plugins.strategy,
        user_of=plugins.user_of,
        projection=plugins.projection,
        sources=plugins.sources,
        write_report=partial(write_report, Path(settings.reports_dir)),
        zone=ZoneInfo(settings.timezone) if settings.timezone else None,
        redact=settings.redaction(),
        **_switches(settings),
    )


def _switches(settings: Settings) -> dict[str, Any]:
    """The parts of the pipeline that follow the settings while it runs."""
    return {
        "policies": settings.policies(),
        "telling": settings.notification_enabled and settings.mode == "recover",
        "thresholds": settings.thresholds(),
        "scan_hours": settings.scan_hours,
        "in_force": settings.in_force(),
    }


def _channels(settings: Settings, plugins: Plugins, store: Store) -> dict[Audience, dict[str, Channel]]:
    """How each audience is reached, by the channel's name."""
    from regrow.adapters.channels.callback import Callback
    from regrow.adapters.channels.ledger import InLedger
    from regrow.adapters.channels.logfile import LogFile

    logs, limit = Path(settings.logs_dir), settings.channel_timeout_seconds
    own: dict[str, Channel] = {
        name: Callback(name, function, timeout_seconds=limit) for name, function in plugins.channels.items()
    }
    return {
        Audience.ADMINISTRATOR: {
            "admin_log": LogFile(logs / "admin_alerts.log", clock),
            ALERTS: InLedger(store.count_alert, clock),
            **own,
        },
        Audience.USER: {
            "user_log": LogFile(logs / "user_notifications.log", clock),
            "inbox": InLedger(store.put_notice, clock),
            **own,
        },
        Audience.MACHINE: {
            name: Callback(name, function, timeout_seconds=limit) for name, function in plugins.sinks.items()
        },
    }


class Live:
    """The pipeline of this process, with the settings as environment and files say now.

    Args:
        app: The Celery application.
        patterns: The application's own error patterns.
        overrides: Settings that win over all others.
    """

    def __init__(self, app: Celery, patterns: Mapping[Any, Sequence[str]] | None = None, **overrides: object) -> None:
        self._app = app
        self._overrides = overrides
        self._patterns = patterns
        self._teaching: Teaching | None = None
        self.classifier = LazyClassifier(patterns, self._taught)
        self._regrow: Oversight | None = None
        self._settings: Settings | None = None
        self._applied: Settings | None = None
        # A task may go to another folder; the settings stay where the process was started.
        self._folder = Path.cwd()
        self._seen: tuple[object, ...] = ()
        self._new: tuple[object, ...] = ()
        self._new_since = 0.0

    @property
    def settings(self) -> Settings:
        """The settings.

        Raises:
            SettingsError: They are wrong, and there are no earlier ones to go on with.
        """
        seen = config.stamps(self._folder)
        if self._settings is None:
            self._settings, self._seen = self._load(), seen
        elif seen == self._seen:
            self._new = ()
        elif config.age(seen, clock()) >= SETTLED_SECONDS:
            self._follow(seen)
        elif seen != self._new:  # somebody may be writing it at this moment
            self._new, self._new_since = seen, monotonic()
        elif monotonic() - self._new_since >= SETTLED_SECONDS:
            self._follow(seen)
        return self._settings

    def _follow(self, seen: tuple[object, ...]) -> None:
        gone = [name for name, old, new in zip(config.FILES, self._seen, seen, strict=True) if old and not new]
        self._seen = seen
        if gone:  # nobody switches Regrow off by removing a file
            log.error("regrow goes on with the settings that it has: %s is gone from %s", gone[0], self._folder)
            return
        try:
            self._settings = self._load()
        except SettingsError as error:
            log.error("regrow goes on with the settings that it has: %s", error)

    def _load(self) -> Settings:
        return load_settings(self._app, self._folder, **self._overrides)

    @property
    def teaching(self) -> Teaching:
        """What operators have taught; the file of rules is looked for where the process was started.

        Raises:
            SettingsError: The settings are wrong.
        """
        if self._teaching is None:
            self._teaching = open_teaching(self.settings, self._patterns, self._folder)
        return self._teaching

    def _taught(self) -> Taught:
        return self.teaching.taught()

    def __call__(self) -> Oversight:
        """The pipeline.

        Raises:
            SettingsError: The settings are wrong.
        """
        settings = self.settings
        if self._regrow is not None and settings is self._applied:
            return self._regrow
        if self._regrow is None:
            self._regrow = connect(self._app, settings, classify=self.classifier, teaching=self.teaching)
        elif any(getattr(self._regrow, name) != value for name, value in _switches(settings).items()):
            self._regrow = replace(self._regrow, **_switches(settings))
            log.info("regrow: settings changed: %s", settings.in_force())
        self._applied = settings
        return self._regrow


def run_dispatcher(app: Celery, settings: Settings, *, alive: Callable[[], bool] = lambda: True) -> int:
    """Run a dispatcher until SIGTERM; return the exit code."""
    from regrow.adapters.celery.loop import run

    live = Live(app, database_url=settings.database_url)
    return run(live, tick_seconds=settings.tick_seconds, alive=alive, spool=open_spool(settings))


def drain(
    app: Celery, settings: Settings, wish: Emptying, tell: Callable[[Left], object]
) -> tuple[datetime, Left, int]:
    """Empty the ledger; see `loop.drain`."""
    from regrow.adapters.celery.loop import drain as run

    return run(Live(app, database_url=settings.database_url), wish, open_spool(settings), tell)
