"""Single parts by their settings: ledger, spool, classifier, language, clock."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regrow import config
from regrow.config import Settings
from regrow.errors import SettingsError
from regrow.model import Cause, RuleFile, Verdict

if TYPE_CHECKING:
    from celery import Celery

    from regrow.adapters.own_rules import Taught
    from regrow.adapters.rule_file import FollowedFile
    from regrow.adapters.spool import Spool
    from regrow.adapters.teaching import Teaching
    from regrow.ports import Classifier, Ledger, Store, Words

log = logging.getLogger("regrow")

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


def open_rule_file(
    settings: Settings, folder: Path | None = None, *, say: Callable[[str], object] | None = None
) -> FollowedFile:
    """The file of rules, followed while it changes.

    Args:
        settings: The settings.
        folder: Where a path that is not absolute begins; the current folder if not given.
        say: Told what is wrong with the file, which then is left out; None: that is an error.

    Raises:
        RuleError: Something is wrong with it, and there is nobody to tell.
    """
    from regrow.adapters.rule_file import FollowedFile

    path = (folder or Path.cwd()) / settings.rules_file
    return FollowedFile(path, required="rules_file" in settings.model_fields_set, say=say)


def open_teaching(
    settings: Settings, patterns: Mapping[Any, Sequence[str]] | None = None, folder: Path | None = None
) -> Teaching:
    """What operators have taught: the file of rules now, and what the ledger's journal says once it is read."""
    from regrow.adapters.teaching import Teaching

    return Teaching(open_rule_file(settings, folder, say=log.error), patterns)


def load_classifier(
    patterns: Mapping[Any, Sequence[str]] | None = None, taught: Callable[[], Taught] | None = None
) -> Classifier:
    """The classifier with the rules of this package.

    Args:
        patterns: Your own error patterns by category; they win.
        taught: Gives the rules of file and ledger as they are now; they win too.

    Raises:
        RuleError: One of the patterns cannot be used.
    """
    from functools import partial

    from regrow.adapters.rules import load_rulebook
    from regrow.classify import classify

    if patterns is None and taught is None:
        return partial(classify, rulebook=load_rulebook())
    from regrow.adapters.own_rules import OwnRules

    return OwnRules(load_rulebook(), patterns or {}, *([taught] if taught else []))


class LazyClassifier:
    """The classifier, loaded when it is first asked (`ports.Classifier`).

    Args:
        patterns: Your own error patterns by category.
        taught: Gives the rules of file and ledger as they are now.
    """

    def __init__(
        self, patterns: Mapping[Any, Sequence[str]] | None = None, taught: Callable[[], Taught] | None = None
    ) -> None:
        self._patterns = patterns
        self._taught = taught
        self._loaded: Classifier | None = None

    def load(self) -> Classifier:
        """The classifier itself."""
        if self._loaded is None:
            self._loaded = load_classifier(self._patterns, self._taught)
        return self._loaded

    def __call__(self, causes: Sequence[Cause], *, brief: bool = False) -> Verdict:
        """The verdict over an exception chain."""
        return self.load()(causes, brief=brief)


def words(language: str, file: Callable[[], RuleFile] | None = None) -> Words:
    """The language of what people read.

    Args:
        language: Its name.
        file: Gives the file of rules, which names its own categories.
    """
    from regrow.adapters.words import load_words, with_names

    spoken = load_words(language)
    return spoken if file is None else with_names(spoken, lambda: file().names.get(language, {}))
