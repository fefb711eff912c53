"""What operators teach: that failures of a group are of a category, and rules of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from regrow.model.category import Category

#: Kind of fact of a verdict that an operator's word has decided.
OPERATOR = "operator"


class Teaching(StrEnum):
    """What a lesson says."""

    LABEL = "label"  # failures of this group are of this category
    UNLABEL = "unlabel"  # that is taken back
    PROPOSE = "propose"  # a rule that nobody has added yet
    ADD = "add"  # a rule, from now on
    DISABLE = "disable"  # not any longer; of a proposed rule: it was refused
    ENABLE = "enable"  # that is taken back


class RuleState(StrEnum):
    """Where a rule stands."""

    PROPOSED = "proposed"  # three operators' words agree on it; it decides nothing
    LIVE = "live"
    DISABLED = "disabled"
    REFUSED = "refused"  # it was proposed, and an operator does not want it


@dataclass(frozen=True, slots=True)
class OwnRule:
    """A rule of a user's own, from the file of rules or from the ledger.

    Args:
        id: Unique name.
        category: Key of the category that a hit means.
        patterns: Regular expressions; one that occurs is a hit.
        must_match: Texts that must be classified so.
        must_not_match: Texts in which no pattern may occur.
        author: Who wrote it, '' if nobody says so.
        note: Why.
        state: Where it stands.
        at: Since when it stands there; None for one in a file.
        changed_by: Who put it there.
        from_file: True if it stands in the file of rules.
    """

    id: str
    category: str
    patterns: tuple[str, ...]
    must_match: tuple[str, ...] = ()
    must_not_match: tuple[str, ...] = ()
    author: str = ""
    note: str = ""
    state: RuleState = RuleState.LIVE
    at: datetime | None = None
    changed_by: str = ""
    from_file: bool = False


@dataclass(frozen=True, slots=True)
class Lesson:
    """One line of the ledger's journal of what operators have taught; never changed, so that all of it can be undone.

    Args:
        kind: What it says.
        subject: The group's fingerprint, or the rule's id.
        by: Who says so.
        at: When.
        category: Key of the category.
        because: Why, in his own words.
        text: An error message of the group.
        rule: The whole rule, where one is proposed or added.
        proposal: Id of the proposed rule that is added under another id.
        id: Its number in the journal; 0 until it is written.
    """

    kind: Teaching
    subject: str
    by: str
    at: datetime
    category: str = ""
    because: str = ""
    text: str = ""
    rule: OwnRule | None = None
    proposal: str = ""
    id: int = 0


@dataclass(frozen=True, slots=True)
class Label:
    """An operator's word for a group of failures.

    Args:
        fingerprint: The group.
        category: Key of the category.
        by: Who said so.
        at: When.
        because: Why.
        text: An error message of the group.
    """

    fingerprint: str
    category: str
    by: str
    at: datetime
    because: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Lessons:
    """Everything that the journal says, up to a line of it.

    Args:
        labels: The operators' words, by fingerprint.
        rules: The rules, by id.
        last: Number of the last line that is counted.
    """

    labels: Mapping[str, Label] = field(default_factory=dict)
    rules: Mapping[str, OwnRule] = field(default_factory=dict)
    last: int = 0


@dataclass(frozen=True, slots=True)
class RuleFile:
    """What a file of rules says.

    Args:
        path: Where it is.
        rules: Its rules.
        categories: Its categories, by key.
        names: Their names for people, by language and key.
    """

    path: str = ""
    rules: tuple[OwnRule, ...] = ()
    categories: Mapping[str, Category] = field(default_factory=dict)
    names: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sample:
    """A failed task of the ledger, as far as a rule is tried on it.

    Args:
        id: Its id in the ledger.
        task_name: Celery's name of the task.
        last_failed_at: When its last run failed.
        fingerprint: Its group.
        exception_type: Class of the last run's exception.
        message: Its text.
        traceback: Its traceback.
        category: Key of the category that was found.
        layer: The kind of fact that won.
        rule: Id of the rule that won.
        caution: Why it must not be retried without a person, '' if nothing speaks against it.
    """

    id: int
    task_name: str
    last_failed_at: datetime
    fingerprint: str
    exception_type: str
    message: str
    traceback: str
    category: str
    layer: str
    rule: str
    caution: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """The failures of one fingerprint.

    Args:
        fingerprint: The fingerprint.
        by_state: How many stand in each state that one of them is in.
        resting: Ids of the newest that could be sent again and that nothing will send by itself.
        scheduled: Ids of the newest that wait for their retry.
        latest: Id of the newest; None if there is none.
    """

    fingerprint: str
    by_state: Mapping[str, int] = field(default_factory=dict)
    resting: tuple[int, ...] = ()
    scheduled: tuple[int, ...] = ()
    latest: int | None = None


@dataclass(frozen=True, slots=True)
class Overlap:
    """An example of a built-in rule that a rule of a user's own would change.

    Args:
        rule: Id of his rule.
        built_in: Id of the built-in rule.
        example: The example.
        before: Key of the category that it is of.
        after: Key of the category that it would be of.
    """

    rule: str
    built_in: str
    example: str
    before: str
    after: str
