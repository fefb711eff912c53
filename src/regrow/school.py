"""What operators teach: their words for groups of failures, and rules, which are tried before they count."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import sha256

from regrow.capture.fingerprint import parameterise
from regrow.errors import LedgerError, RuleError
from regrow.model import Category, Group, Label, Lesson, Lessons, OwnRule, Record, RuleFile, RuleState, Sample, Teaching
from regrow.ports import Clock, Ledger, Store
from regrow.teach import Trial, learn, propose

#: Failures that a trial reads at a time: one may have a traceback of 64 kB.
PAGE = 200

#: An error message is kept with a label, for the rules that may be made of it; more of it says no more.
TEXT_LIMIT = 500

#: Groups that were given another category, whose messages a proposed rule must not match.
COUNTER_EXAMPLES = 50

#: Failures of a group that are named.
NAMED = 5

#: Two who teach at the same moment: the second reads again what the first has said.
TRIES = 5

#: Says what category a failure of the ledger would get, and whether one of the rules that are tried speaks for it.
Judge = Callable[[Sample], tuple[Category, bool]]


@dataclass(frozen=True, slots=True)
class Relabelled:
    """What came of an operator's word.

    Args:
        label: What holds now; None if it was taken back.
        before: What held before, None if nothing did.
        group: The failures that it is about.
        proposal: A rule that is proposed, because three such words agree.
    """

    label: Label | None
    before: Label | None
    group: Group
    proposal: OwnRule | None = None


@dataclass(frozen=True)
class School:
    """Takes in what operators teach.

    Args:
        store: The ledger to write to.
        ledger: The ledger to read from.
        clock: Tells the time.
        categories: Every category that is known, by its key.
        file: The file of rules.
        check: Says what is wrong with rules, given with them those of the ledger that are asked beside them.
        rehearse: Makes a judge, given the file of rules, those of the ledger, and the ids of those that are tried.
    """

    store: Store
    ledger: Ledger
    clock: Clock
    categories: Mapping[str, Category]
    file: RuleFile
    check: Callable[[Sequence[OwnRule], Sequence[OwnRule]], list[str]]
    rehearse: Callable[[RuleFile, Sequence[OwnRule], frozenset[str]], Judge]

    def lessons(self) -> Lessons:
        """Everything that was taught."""
        return learn(Lessons(), self.store.lessons(0))

    # -- words for groups -------------------------------------------------------------------------------------------

    def relabel(self, record: Record, category: str, *, by: str, because: str = "", alone: bool = True) -> Relabelled:
        """Failures of the group of this one are of this category, from now on.

        Args:
            record: A failure of the group.
            category: Key of the category.
            by: Who says so.
            because: Why.
            alone: True if it is said of this failure, so that it shows the correction itself.

        Raises:
            RuleError: There is no such category.
        """
        if category not in self.categories:
            raise RuleError(f"no such category: {category}; known are: {', '.join(self.categories)}")
        now, text = self.clock(), _text(record)
        said = Lesson(Teaching.LABEL, record.fingerprint, by, now, category, because, text)
        before: list[Label | None] = []
        proposed: list[OwnRule] = []

        def make(lessons: Lessons) -> list[Lesson]:
            before[:] = [lessons.labels.get(record.fingerprint)]
            after = learn(lessons, [replace(said, id=lessons.last + 1)])
            found = self._proposal(after.labels[record.fingerprint], after)
            proposed[:] = [found] if found else []
            return [said, *(Lesson(Teaching.PROPOSE, one.id, by, now, category, rule=one) for one in proposed)]

        after = self._teach(make, failure=record.id if alone else None)
        return Relabelled(
            after.labels[record.fingerprint],
            before[0],
            self.ledger.group(record.fingerprint, limit=NAMED),
            proposed[0] if proposed else None,
        )

    def unlabel(self, fingerprint: str, *, by: str, failure: int | None = None) -> Relabelled:
        """Take back what was said of a group.

        Args:
            fingerprint: The group.
            by: Who takes it back.
            failure: The failure that it was said of, so that it shows that too.

        Raises:
            RuleError: Nothing was said of it.
        """
        said = Lesson(Teaching.UNLABEL, fingerprint, by, self.clock())
        before: list[Label] = []

        def make(lessons: Lessons) -> list[Lesson]:
            if fingerprint not in lessons.labels:
                raise RuleError(f"nothing was said of the group {fingerprint}, so that there is nothing to take back")
            before[:] = [lessons.labels[fingerprint]]
            return [said]

        self._teach(make, failure=failure)
        return Relabelled(None, before[0], self.ledger.group(fingerprint, limit=NAMED))

    def _proposal(self, new: Label, lessons: Lessons) -> OwnRule | None:
        """A rule for what this label and two others have in common; None if there is none that is good and new."""
        found = propose(new, lessons.labels.values(), parameterise)
        if found is None:
            return None
        pattern, labels = found
        texts = tuple(one.text for one in labels)
        others = [one.text for one in lessons.labels.values() if one.category != new.category and one.text]
        rule = OwnRule(
            id=f"proposed.{sha256(f'{new.category}:{pattern}'.encode()).hexdigest()[:8]}",
            category=new.category,
            patterns=(pattern,),
            must_match=texts,
            must_not_match=tuple(others[-COUNTER_EXAMPLES:]),
            author=", ".join(dict.fromkeys(one.by for one in labels)),
            note=" / ".join(one.fingerprint for one in labels),
        )
        live = _live(lessons)
        known = {(one.category, one.patterns) for one in (*lessons.rules.values(), *self.file.rules)}
        if rule.id in lessons.rules or (rule.category, rule.patterns) in known or self.check([rule], live):
            return None
        # If the rules that are there say it of all three already, it is no news.
        ids = frozenset(one.id for one in (*self.file.rules, *live))
        judge = self.rehearse(self.file, live, ids)
        told = [judge(_sample(text, self.clock())) for text in texts]
        return None if all(hit and one.key == new.category for one, hit in told) else rule

    # -- rules ------------------------------------------------------------------------------------------------------

    def trial(
        self, rules: Sequence[OwnRule], *, days: float, file: RuleFile | None = None, seen: Callable[[int], object]
    ) -> Trial:
        """What rules would have changed in the last days; writes nothing, and holds a page of failures at a time.

        It is compared with what the rules and words of now make of the same failures: what those have changed since is
        no news.

        Args:
            rules: The rules, to be asked beside those that there are.
            days: How far back.
            file: A file of rules, to stand in the place of the one that is in force.
            seen: Hears how many failures were looked at so far.
        """
        lessons = self.lessons()
        ids = frozenset(one.id for one in (*rules, *(file.rules if file else ())))
        now = _live(lessons)
        then = [*(one for one in now if one.id not in ids), *(replace(one, state=RuleState.LIVE) for one in rules)]
        known = {**self.categories, **(file.categories if file else {})}
        before, after = self.rehearse(self.file, now, ids), self.rehearse(file or self.file, then, ids)
        # Rules that are only added change nothing where they do not match.
        adding = file is None and not ids & {one.id for one in now}
        trial = Trial()
        until = self.clock()
        for sample in self._samples(until - timedelta(days=days), until):
            label = lessons.labels.get(sample.fingerprint)
            category, hit = after(sample)
            if label is None:
                known_before = category if adding and not hit else before(sample)[0]
                trial.count(sample, known_before, category, hit=hit)
            else:  # an operator's word stands above all rules
                said = known.get(label.category, category)
                trial.count(sample, said, said, hit=hit)
            if trial.seen % PAGE == 0:
                seen(trial.seen)
        return trial

    def _samples(self, since: datetime, until: datetime) -> Iterator[Sample]:
        before: tuple[datetime, int] | None = None
        while True:
            page = self.ledger.samples(since, until, before=before, limit=PAGE)
            yield from page
            if len(page) < PAGE:
                return
            before = page[-1].last_failed_at, page[-1].id

    def add(self, rule: OwnRule, *, by: str, because: str = "", proposal: str = "") -> OwnRule:
        """A rule counts from now on.

        Args:
            rule: The rule; its examples are checked.
            by: Who adds it.
            because: Why.
            proposal: Id of the proposed rule that it was.

        Raises:
            RuleError: Something is wrong with it, or its id is taken.
        """
        said = Lesson(Teaching.ADD, rule.id, by, self.clock(), rule.category, because, rule=rule, proposal=proposal)

        def make(lessons: Lessons) -> list[Lesson]:
            known = lessons.rules.get(rule.id)
            if known is not None and known.state in (RuleState.LIVE, RuleState.DISABLED):
                raise RuleError(f"there is a rule {rule.id!r} already; give this one another id")
            self.checked(rule, lessons)
            return [said]

        return self._teach(make).rules[rule.id]

    def checked(self, rule: OwnRule, lessons: Lessons) -> None:
        """Refuse a rule that is wrong.

        Raises:
            RuleError: With a line for each fault.
        """
        if rule.category not in self.categories:
            raise RuleError(f"no such category: {rule.category}; known are: {', '.join(self.categories)}")
        wrong = self.check([replace(rule, state=RuleState.LIVE)], _live(lessons))
        if wrong:
            raise RuleError("\n".join(wrong))

    def switch(self, rule: str, *, on: bool, by: str, because: str = "") -> OwnRule:
        """Disable or enable a rule of the ledger; a proposed one is refused, or proposed again.

        Raises:
            RuleError: There is no such rule in the ledger, or it is so already.
        """
        kind = Teaching.ENABLE if on else Teaching.DISABLE
        said = Lesson(kind, rule, by, self.clock(), because=because)

        def make(lessons: Lessons) -> list[Lesson]:
            if rule in {one.id for one in self.file.rules}:
                raise RuleError(f"the rule {rule!r} stands in {self.file.path}; set its `enabled` there")
            known = lessons.rules.get(rule)
            if known is None:
                raise RuleError(f"there is no rule {rule!r} in the ledger; `regrow rules list` shows those there are")
            after = learn(lessons, [replace(said, id=lessons.last + 1)]).rules[rule]
            if after.state is known.state:
                raise RuleError(f"the rule {rule!r} is {known.state} already")
            return [said]

        return self._teach(make).rules[rule]

    # -- the journal ------------------------------------------------------------------------------------------------

    def _teach(self, make: Callable[[Lessons], Sequence[Lesson]], *, failure: int | None = None) -> Lessons:
        """Write what `make` makes of all that was taught before; return what is known then."""
        for _ in range(TRIES):
            lessons = self.lessons()
            if self.store.teach(make(lessons), last=lessons.last, failure=failure):
                return self.lessons()
        raise LedgerError("others are teaching at this very moment; try again")


def _live(lessons: Lessons) -> list[OwnRule]:
    return [one for one in lessons.rules.values() if one.state is RuleState.LIVE]


def _text(record: Record) -> str:
    """The message of the group's failures, for the rules that may be made of it."""
    message = record.history[-1].message if record.history else record.message
    return (message or record.message)[:TEXT_LIMIT]


def _sample(text: str, now: datetime) -> Sample:
    return Sample(0, "", now, "", "", text, "", "", "none", "")
