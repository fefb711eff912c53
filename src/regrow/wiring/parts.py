"""Single parts by their settings: ledger, spool, classifier, language, clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regrow import config
from regrow.config import Settings
from regrow.errors import SettingsError
from regrow.model import Cause, Verdict

if TYPE_CHECKING:
    from celery import Celery

    from regrow.adapters.spool import Spool
    from regrow.ports import Classifier, Ledger, Store, Words


#: A worker and a dispatcher give a ledger's server so long to answer; whoever is at the keyboard waits as he likes.
PATIENCE_SECONDS = 10.0


def clock() -> datetime:
    """The current instant, aware, in UTC."""
    return datetime.now(UTC)


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


def open_spool(settings: Settings) -> Spool:
    """What waits on this machine's disk."""
    from regrow.adapters.spool import Spool

    return Spool(Path(settings.spool_dir), limit_bytes=settings.spool_limit_bytes)


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

    def __call__(self, causes: Sequence[Cause], *, brief: bool = False) -> Verdict:
        """The verdict over an exception chain."""
        return self.load()(causes, brief=brief)


def words(language: str) -> Words:
    """The language of what people read."""
    from regrow.adapters.words import load_words

    return load_words(language)
