"""What rules would change, counted over failures of the ledger."""

from __future__ import annotations

from dataclasses import dataclass, field

from regrow.model import BUSINESS, DATA, Category, Sample

#: Examples that are kept of each kind of change.
EXAMPLES = 5

#: A retry of what stands there would repeat what a person or the data have refused.
RISKY = (BUSINESS.key, DATA.key)


@dataclass(slots=True)
class Change:
    """Failures that would go from one category to another.

    Args:
        before: Key of the category that was found.
        after: Key of the category that the rules say.
        count: How many.
        examples: Some of them.
    """

    before: str
    after: str
    count: int = 0
    examples: list[Sample] = field(default_factory=list)

    def add(self, sample: Sample) -> None:
        """Count one."""
        self.count += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(sample)


@dataclass(slots=True)
class Trial:
    """What came of a trial; holds counts and a few examples, however many failures are counted.

    Args:
        seen: Failures that were looked at.
        hits: Failures that the rules speak for, changed or not.
        changes: By category before and after.
        starts: Retries that the rules would start.
        stops: Retries that they would stop.
        risky: Of those that would start, failures that are business or data failures now.
        held: Failures that time could heal by these rules, but for a caution: a person would be asked.
    """

    seen: int = 0
    hits: int = 0
    changes: dict[tuple[str, str], Change] = field(default_factory=dict)
    starts: Change = field(default_factory=lambda: Change("", ""))
    stops: Change = field(default_factory=lambda: Change("", ""))
    risky: int = 0
    held: int = 0

    def count(self, sample: Sample, before: Category, after: Category, *, hit: bool) -> None:
        """Count a failure that the rules would put from one category into another."""
        self.seen += 1
        self.hits += hit
        if before.key == after.key:
            return
        self.changes.setdefault((before.key, after.key), Change(before.key, after.key)).add(sample)
        if sample.caution:
            self.held += after.retry and not before.retry
        elif after.retry and not before.retry:
            self.starts.add(sample)
            self.risky += before.key in RISKY
        elif before.retry and not after.retry:
            self.stops.add(sample)

    @property
    def changed(self) -> int:
        """Failures that would get another category."""
        return sum(change.count for change in self.changes.values())
