"""What the commands share. All is loaded when it is first asked for: most commands need a part only."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from regrow.errors import NotMigrated, SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from typing import Any

    from celery import Celery

    from regrow.cli.screen import Screen
    from regrow.config import Settings
    from regrow.model import Label
    from regrow.oversight import Oversight
    from regrow.ports import Backlog, Classifier, Ledger, Store, Words
    from regrow.school import School


class Session:
    """One call of `regrow`.

    Args:
        app: The Celery application, where Celery's own command line has loaded it.
    """

    def __init__(self, app: Celery | None = None) -> None:
        self._app = app
        self.app_name = ""
        self.database_url = ""
        self.debug = False

    @cached_property
    def app(self) -> Celery | None:
        """The Celery application, None if nobody named one."""
        if self.app_name:
            from regrow.wiring import load_app

            return load_app(self.app_name)
        return self._app

    def needed_app(self) -> Celery:
        """The Celery application.

        Raises:
            SettingsError: Nobody named one.
        """
        if self.app is None:
            raise SettingsError("name your Celery application: regrow -A proj run (or set REGROW_APP)")
        return self.app

    @cached_property
    def settings(self) -> Settings:
        """The settings; what stands on the command line wins."""
        from regrow.wiring import load_settings

        given: dict[str, object] = {"database_url": self.database_url} if self.database_url else {}
        return load_settings(self.app, **given)

    @cached_property
    def words(self) -> Words:
        """The reader's language, with the names that the file of rules gives to its categories."""
        from regrow.wiring import open_rule_file, words

        # Whoever needs the file itself says what is wrong with it.
        return words(self.settings.language, open_rule_file(self.settings, say=lambda _problem: None))

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger to read from."""
        from regrow.wiring import open_ledger

        return open_ledger(self.settings)

    @cached_property
    def store(self) -> Store:
        """The ledger to write a person's decision to."""
        from regrow.wiring import open_store

        return open_store(self.settings)

    @property
    def patterns(self) -> Mapping[Any, Sequence[str]] | None:
        """The patterns of the application's own, where one is named."""
        installed = getattr(self.app, "regrow", None)
        return None if installed is None else installed.plugins.patterns

    @cached_property
    def school(self) -> School:
        """What takes in what an operator teaches."""
        from regrow.wiring import open_school

        return open_school(self.settings, self.store, self.ledger, self.patterns)

    @cached_property
    def classifier(self) -> Classifier:
        """The classifier, as a worker has it at this moment."""
        from regrow.wiring import open_classifier

        return open_classifier(self.settings, self.store, self.patterns)

    def label(self, fingerprint: str) -> Label | None:
        """What an operator has said of a group of failures; None if nobody has."""
        from regrow.model import Lessons
        from regrow.teach import learn

        try:
            return learn(Lessons(), self.store.lessons(0)).labels.get(fingerprint)
        except NotMigrated:  # a ledger of an older version, in which nobody could say anything
            return None

    @cached_property
    def spool(self) -> Backlog:
        """What waits on this machine's disk."""
        from regrow.wiring import open_spool

        return open_spool(self.settings)

    @cached_property
    def oversight(self) -> Oversight:
        """The pipeline, with the application's plug-ins where an application is named."""
        from regrow.wiring import bare_app, connect

        return connect(self.app or bare_app(), self.settings)

    def now(self) -> datetime:
        """The current instant."""
        from regrow.wiring import clock

        return clock()

    @cached_property
    def database(self) -> str:
        """Where the ledger lies, for people: without its password."""
        from sqlalchemy.engine import make_url

        url = make_url(self.settings.database_url)
        secrets = {key: "***" for key in url.query if "password" in key}  # libpq takes them as parameters too
        return url.update_query_dict(secrets).render_as_string(hide_password=True)

    @cached_property
    def screen(self) -> Screen:
        """The reader's terminal, or the pipe behind it."""
        from regrow.cli.screen import Screen
        from regrow.wiring import clock

        return Screen(self.words, clock(), self.settings.timezone)
