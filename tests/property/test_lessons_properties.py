"""Whatever operators say in whatever order: no rule counts by itself, and nobody who reads the journal differs."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from regrow.model import Lesson, Lessons, OwnRule, RuleState, Teaching
from regrow.teach import learn
from regrow.testing import START

NAMES = st.sampled_from(["a", "b", "c"])
KINDS = st.sampled_from(list(Teaching))


def line(number: int, kind: Teaching, subject: str, proposal: str = "") -> Lesson:
    """A line of the journal."""
    made = OwnRule(subject, "recoverable_network", ("p",)) if kind in (Teaching.ADD, Teaching.PROPOSE) else None
    at = START + timedelta(seconds=number)
    return Lesson(kind, subject, f"by{number}", at, f"c{number}", rule=made, proposal=proposal, id=number)


LINES = st.lists(st.tuples(KINDS, NAMES, st.sampled_from(["", "a", "b"])), max_size=30).map(
    lambda made: [line(number, *one) for number, one in enumerate(made, 1)]
)


@given(LINES, st.integers(0, 30), st.integers(0, 30))
def test_it_does_not_matter_when_one_reads(lines: list[Lesson], first: int, again: int) -> None:
    """In one go, in two parts, or some lines twice: what is known in the end is the same."""
    whole = learn(Lessons(), lines)
    parts = learn(learn(Lessons(), lines[:first]), lines[first:])
    assert parts == whole
    assert learn(parts, lines[:again]) == whole


class RuleMachine(RuleBasedStateMachine):
    """One rule, and a model of it that is written down in another way: as what the last words about it were."""

    def __init__(self) -> None:
        super().__init__()
        self.known = Lessons()
        self.number = 0
        self.added = self.proposed = self.off = False

    def say(self, kind: Teaching) -> None:
        """Say it in the journal."""
        self.number += 1
        self.known = learn(self.known, [line(self.number, kind, "r")])

    @rule()
    def propose(self) -> None:
        """Three words agree."""
        self.say(Teaching.PROPOSE)
        self.proposed = True

    @rule()
    def add(self) -> None:
        """An operator adds it; if it is there already that is no news."""
        self.say(Teaching.ADD)
        if not self.added:
            self.added, self.off = True, False

    @rule()
    def disable(self) -> None:
        """An operator does not want it."""
        self.say(Teaching.DISABLE)
        self.off = self.added or self.proposed

    @rule()
    def enable(self) -> None:
        """He does after all."""
        self.say(Teaching.ENABLE)
        self.off = False

    @invariant()
    def stands_where_it_was_put(self) -> None:
        """It counts if, and only if, somebody added it and nobody has disabled it since."""
        found = self.known.rules.get("r")
        if not (self.added or self.proposed):
            assert found is None
            return
        assert found is not None
        assert (found.state is RuleState.LIVE) is (self.added and not self.off)
        assert (found.state in (RuleState.DISABLED, RuleState.LIVE)) is self.added
        assert (found.state in (RuleState.DISABLED, RuleState.REFUSED)) is self.off


TestRuleMachine = RuleMachine.TestCase
