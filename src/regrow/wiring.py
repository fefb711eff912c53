"""The composition root: the only place that names concrete adapters."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regrow import config
from regrow.config import Settings
from regrow.errors import SettingsError
from regrow.model import Audience, Cause, Lease, Verdict
from regrow.pipeline import Regrow

if TYPE_CHECKING:
    from celery import Celery

    from regrow.adapters.celery.door import Door
    from regrow.adapters.celery.install import Installation
    from regrow.ports import Classifier, Ledger, Store, Words


def clock() -> datetime:
    """The current instant, aware, in UTC."""
    return datetime.now(UTC)


def install(app: Celery, *, dispatcher: bool = False, **settings: Any) -> Installation:
    """Put Regrow into a Celery application. Call it once, where the application is made.

    Args:
        app: The application.
        dispatcher: True: each worker runs a dispatcher beside it, as `-B` does for beat; else start `regrow run`.
        settings: Any field of `Settings`, stronger than environment and files.

    Raises:
        SettingsError: Regrow is installed in this application already, or a setting's name is unknown.
    """
    from regrow.adapters.celery.door import Door
    from regrow.adapters.celery.install import Installation

    if hasattr(app, "regrow"):
        raise SettingsError(f"regrow is installed in the Celery application {app.main!r} already; install it once")
    config.check_names(settings)

    def open_door() -> Door:
        chosen = load_settings(app)
        # Loaded before the pool forks: its children share it.
        return Door(connect(app, chosen, classify=load_classifier()), limit=chosen.envelope_limit_bytes)

    def dispatch(alive: Callable[[], bool]) -> int:
        return run_dispatcher(app, load_settings(app), alive=alive)

    installation = Installation(app, settings, open_door, dispatch, dispatcher)
    app.regrow = installation
    installation.connect()
    return installation


def load_settings(app: Celery | None = None, **overrides: object) -> Settings:
    """The settings: `overrides` first, then what was given to `install`, then environment, files, defaults."""
    installed = getattr(app, "regrow", None)
    given: dict[str, object] = dict(installed.settings) if installed is not None else {}
    return config.load(**{**given, **overrides})


def load_app(name: str) -> Celery:
    """The Celery application by its dotted name, as `celery -A` finds it.

    Raises:
        SettingsError: There is none.
    """
    from celery.app.utils import find_app

    try:
        found: Celery = find_app(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingsError(f"no Celery application at {name!r}: {error} (give it as for celery -A)") from error
    return found


def connect(app: Celery, settings: Settings, *, classify: Classifier | None = None) -> Regrow:
    """The pipeline with everything it needs. Opens no connection yet.

    Args:
        app: The Celery application.
        settings: The settings.
        classify: The classifier; without one it is loaded when it is first asked, so that dispatchers never load it.
    """
    from regrow.adapters.celery.dispatcher import CeleryDispatcher
    from regrow.adapters.channels.logfile import LogFile
    from regrow.adapters.sql import Database, SqlStore

    logs = Path(settings.logs_dir)
    lease = timedelta(seconds=settings.lease_seconds)
    return Regrow(
        store=SqlStore(Database(settings.database_url)),
        classify=classify or _load_when_asked(),
        policies=settings.policies(),
        dispatcher=CeleryDispatcher(app),
        channels={
            Audience.ADMINISTRATOR: LogFile(logs / "admin_alerts.log", clock),
            Audience.USER: LogFile(logs / "user_notifications.log", clock),
        },
        words=words(settings.language),
        clock=clock,
        luck=random.random,
        lease=Lease(run=lease, claim=lease),
        telling=settings.notification_enabled and settings.mode == "recover",
    )


def run_dispatcher(app: Celery, settings: Settings, *, alive: Callable[[], bool] = lambda: True) -> int:
    """Run a dispatcher until SIGTERM; return the exit code."""
    from regrow.adapters.celery.loop import run

    return run(connect(app, settings), tick_seconds=settings.tick_seconds, alive=alive)


def open_ledger(settings: Settings) -> Ledger:
    """The ledger to read from."""
    from regrow.adapters.sql import Database, SqlLedger

    return SqlLedger(Database(settings.database_url))


def open_store(settings: Settings) -> Store:
    """The ledger to write to, for what a person decides."""
    from regrow.adapters.sql import Database, SqlStore

    return SqlStore(Database(settings.database_url))


def upgrade(settings: Settings) -> tuple[str | None, str]:
    """Bring the ledger's tables up to date; return the revision before (None: no ledger) and now."""
    from regrow.adapters.sql import Database
    from regrow.adapters.sql.migrate import upgrade as migrate

    database = Database(settings.database_url)
    try:
        return migrate(database)
    finally:
        database.close()


def load_classifier() -> Classifier:
    """The classifier with the rules of this package."""
    from functools import partial

    from regrow.adapters.rules import load_rulebook
    from regrow.classify import classify

    return partial(classify, rulebook=load_rulebook())


def _load_when_asked() -> Classifier:
    from functools import cache

    loaded = cache(load_classifier)

    def classify(causes: Sequence[Cause]) -> Verdict:
        return loaded()(causes)

    return classify


def words(language: str) -> Words:
    """The language of what people read."""
    from regrow.adapters.words import load_words

    return load_words(language)
