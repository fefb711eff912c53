"""The composition root: the only place that names concrete adapters."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from regrow import config
from regrow.config import Settings
from regrow.errors import LedgerError, SettingsError
from regrow.model import Audience, Cause, Failure, Lease, Left, SetUp, Switches, Verdict
from regrow.oversight import ALERTS, Emptying, Oversight

if TYPE_CHECKING:
    from celery import Celery

    from regrow.adapters.celery.install import Doors, Installation, Sign
    from regrow.adapters.spool import Spool
    from regrow.ports import Channel, Classifier, Ledger, Projection, Source, Store, Strategy, Words

log = logging.getLogger("regrow")

#: A file of settings counts when it has not changed for so long: an editor may leave it empty for a moment.
SETTLED_SECONDS = 0.5

#: A worker and a dispatcher give a ledger's server so long to answer; whoever is at the keyboard waits as he likes.
PATIENCE_SECONDS = 10.0

#: Names of the channels that Regrow brings.
BUILT_IN_CHANNELS = ("admin_log", ALERTS, "user_log", "inbox")


def clock() -> datetime:
    """The current instant, aware, in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Plugins:
    """What an application adds to Regrow; see `install`."""

    sources: Sequence[Source] = ()
    projection: Projection | None = None
    channels: Mapping[str, Callable[[Mapping[str, Any]], object]] = field(default_factory=dict)
    sinks: Mapping[str, Callable[[Mapping[str, Any]], object]] = field(default_factory=dict)
    strategy: Strategy | None = None
    patterns: Mapping[Any, Sequence[str]] | None = None
    user_of: Callable[[Failure], object] | None = None


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
    _check(plugins)
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
    try:
        live().store.beat(sign(0, 0))  # before its first task begins
    except LedgerError as error:  # it may come back: each failure tries it again
        log.error("regrow: until this is mended failures wait in the folder %s: %s", settings.spool_dir, error)
    spool, terms = open_spool(settings), Terms(settings.envelope_limit_bytes, settings.redaction())
    caretaker = Caretaker(live, spool, sign)
    door = Door(live, terms=terms, caretaker=caretaker, boot=sign.boot, track=settings.track_starts)
    net = Net(clock, door.wishes, caretaker, terms=terms)
    return Doors(door, Parent(live, door.wishes, net, caretaker, boot=sign.boot, terms=terms), caretaker)


def open_spool(settings: Settings) -> Spool:
    """What waits on this machine's disk."""
    from regrow.adapters.spool import Spool

    return Spool(Path(settings.spool_dir), limit_bytes=settings.spool_limit_bytes)


def _check(plugins: Plugins) -> None:
    """Refuse plug-ins that could not work, at start rather than in the middle of a failure."""
    from regrow.adapters.channels.callback import Callback

    for kind in ("channels", "sinks"):
        for name, function in getattr(plugins, kind).items():
            if name in BUILT_IN_CHANNELS:
                raise SettingsError(f"{kind}: the name {name!r} is taken by a channel of Regrow's own")
            Callback(name, function, timeout_seconds=1)
    for name in ("strategy", "user_of"):
        given = getattr(plugins, name)
        if given is not None and not callable(given):
            raise SettingsError(f"{name}={given!r} is not callable")
    if plugins.patterns is not None:
        load_classifier(plugins.patterns)


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
        self.classifier = LazyClassifier(patterns)
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

    def __call__(self) -> Oversight:
        """The pipeline.

        Raises:
            SettingsError: The settings are wrong.
        """
        settings = self.settings
        if self._regrow is not None and settings is self._applied:
            return self._regrow
        if self._regrow is None:
            self._regrow = connect(self._app, settings, classify=self.classifier)
        elif any(getattr(self._regrow, name) != value for name, value in _switches(settings).items()):
            self._regrow = replace(self._regrow, **_switches(settings))
            log.info("regrow: settings changed: %s", settings.in_force())
        self._applied = settings
        return self._regrow


def load_settings(app: Celery | None = None, folder: Path | None = None, /, **overrides: object) -> Settings:
    """The settings: `overrides` first, then what was given to `install`, then environment, files, defaults."""
    installed = getattr(app, "regrow", None)
    given: dict[str, object] = dict(installed.settings) if installed is not None else {}
    return config.load(folder, **{**given, **overrides})


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


def bare_app() -> Celery:
    """A Celery application that knows no broker, for what sends nothing."""
    from celery import Celery

    return Celery("regrow", set_as_current=False)


def connect(app: Celery, settings: Settings, *, classify: Classifier | None = None) -> Oversight:
    """The pipeline with everything it needs. Opens no connection yet.

    Args:
        app: The Celery application.
        settings: The settings.
        classify: The classifier; without one it is loaded when it is first asked, so that dispatchers never load it.
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
    return Oversight(
        store=store,
        ledger=SqlLedger(database),
        classify=classify or LazyClassifier(plugins.patterns),
        dispatcher=CeleryDispatcher(app),
        channels=_channels(settings, plugins, store),
        words=words(settings.language),
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


def examine(app: Celery, settings: Settings, *, app_name: str) -> SetUp:
    """Look at everything that a set-up needs; changes nothing, and waits half a minute at most.

    Args:
        app: The Celery application.
        settings: The settings.
        app_name: How the command line names the application.
    """
    from regrow.adapters.examination import examine as look
    from regrow.adapters.sql import Database

    return look(
        app,
        app_name,
        database=Database(settings.database_url, patience_seconds=PATIENCE_SECONDS),
        spool=open_spool(settings),
        folders={name: Path(getattr(settings, name)) for name in ("logs_dir", "reports_dir", "spool_dir")},
        clock=clock,
        redact=settings.redaction().text,
    )


def switches(settings: Settings) -> Switches:
    """The settings that the findings of an examination depend on."""
    return Switches(**{name: getattr(settings, name) for name in Switches.__slots__})


def load_classifier(patterns: Mapping[Any, Sequence[str]] | None = None) -> Classifier:
    """The classifier with the rules of this package.

    Args:
        patterns: Your own error patterns by category; they win.

    Raises:
        RuleError: One of them cannot be used.
    """
    from functools import partial

    from regrow.adapters.rules import load_rulebook
    from regrow.classify import classify

    if patterns is None:
        return partial(classify, rulebook=load_rulebook())
    from regrow.adapters.own_rules import OwnRules

    return OwnRules(load_rulebook(), patterns)


class LazyClassifier:
    """The classifier, loaded when it is first asked (`ports.Classifier`).

    Args:
        patterns: Your own error patterns by category.
    """

    def __init__(self, patterns: Mapping[Any, Sequence[str]] | None = None) -> None:
        self._patterns = patterns
        self._loaded: Classifier | None = None

    def load(self) -> Classifier:
        """The classifier itself."""
        if self._loaded is None:
            self._loaded = load_classifier(self._patterns)
        return self._loaded

    def __call__(self, causes: Sequence[Cause]) -> Verdict:
        """The verdict over an exception chain."""
        return self.load()(causes)


def words(language: str) -> Words:
    """The language of what people read."""
    from regrow.adapters.words import load_words

    return load_words(language)
