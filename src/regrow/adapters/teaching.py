"""What operators have taught, as one process knows it (`ports.Teaching`)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Any

from regrow.adapters.own_patterns import category_of
from regrow.adapters.own_rules import Taught, categories_of
from regrow.errors import NotMigrated
from regrow.model import CATEGORIES, Category, Failure, Lesson, Lessons, RuleFile, RuleState, Verdict
from regrow.teach import judged, learn

log = logging.getLogger("regrow")

#: The ledger's journal is read at most this often, and beside a failure only: in each process that has one.
REFRESH_SECONDS = 2.0

#: Rest after the ledger could not be read; and for one that has no journal yet.
REST_SECONDS = 5.0
OLD_LEDGER_SECONDS = 60.0


class Teaching:
    """Operators' words and rules, from the file and from the ledger.

    Args:
        file: Gives the file of rules as it is now.
        patterns: The application's own patterns: they name categories.

    Attributes:
        file: As given.
    """

    def __init__(self, file: Callable[[], RuleFile], patterns: Mapping[Any, Sequence[str]] | None = None) -> None:
        self.file = file
        self._patterns = patterns or {}
        self._next = 0.0
        self._said: set[str] = set()
        # Replaced as one and without a lock, as the rules of `OwnRules` are.
        self._known = Lessons(), Taught()

    @property
    def lessons(self) -> Lessons:
        """What the ledger's journal says, as far as it was read."""
        return self._known[0]

    def taught(self) -> Taught:
        """The rules that are live now."""
        lessons, taught = self._known
        file = self.file()
        if file is not taught.file:
            taught = Taught(file, taught.rules)
            self._known = lessons, taught
        return taught

    @property
    def categories(self) -> Mapping[str, Category]:
        """Every category that is known here, by its key."""
        return {**categories_of(self._patterns), **CATEGORIES, **self.file().categories}

    def refresh(self, read: Callable[[int], Sequence[Lesson]]) -> None:
        """Look for new lessons, if it is time for that; never raises: without news the old lessons hold."""
        now = monotonic()
        if now < self._next:
            return
        self._next = now + REFRESH_SECONDS
        try:
            self.learn(read(self.lessons.last))
        except NotMigrated:  # as it was before there were lessons; whoever writes to it says what to do about it
            self._next = now + OLD_LEDGER_SECONDS
        except Exception as error:
            self._next = monotonic() + REST_SECONDS
            text = f"regrow cannot read what operators have taught, and goes on with what it knows: {error}"
            if text not in self._said:
                self._said.add(text)
                log.warning("%s", text)

    def learn(self, journal: Sequence[Lesson]) -> None:
        """Take in some more lines of the journal."""
        if journal:
            lessons = learn(self.lessons, journal)
            live = tuple(one for one in lessons.rules.values() if one.state is RuleState.LIVE)
            self._known = lessons, Taught(self._known[1].file, live)

    def judge(self, failure: Failure, verdict: Verdict) -> Verdict:
        """The verdict over a failure, after what operators say of its group."""
        label = self.lessons.labels.get(failure.fingerprint)
        if label is None:
            return verdict
        return judged(failure, verdict, label, category_of(label.category, self.categories))
