"""Every failure that is provoked for real, in tables: what makes it happen, and what it is by spec/labels.md.

A label is decided from the situation, before the verdict is seen; two labels where both can be defended.
"""

from __future__ import annotations

import importlib
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache, wraps
from pathlib import Path
from typing import TypeVar

import pytest

from regrow.adapters.rules import load_rulebook
from regrow.capture import causes_from_exception
from regrow.classify import Rulebook, classify
from regrow.model import Category, Cause, Verdict
from tests.provoked.servers import NotProvoked

Provoke = Callable[[], object]
Given = TypeVar("Given")

_PATIENCE_SECONDS = 120


@dataclass(frozen=True)
class Case:
    """One failure.

    Args:
        field: Where it belongs, e.g. `postgresql`.
        id: Its name; what follows a slash is the client library through which the same situation is met.
        expected: The labels that are right.
        provoke: Makes it happen and lets the exception out.
    """

    field: str
    id: str
    expected: tuple[Category, ...]
    provoke: Provoke

    @property
    def situation(self) -> str:
        """The same for every client library."""
        return f"{self.field}:{self.id.partition('/')[0]}"


@dataclass(frozen=True)
class Outcome:
    """What classification made of a failure."""

    case: Case
    causes: tuple[Cause, ...]
    verdict: Verdict

    @property
    def right(self) -> bool:
        """True if the verdict is one of the expected labels."""
        return self.verdict.category in self.case.expected

    @property
    def unsafe(self) -> bool:
        """True if it would be retried though time heals nothing."""
        return self.verdict.category.retry and not any(category.retry for category in self.case.expected)

    @property
    def missed(self) -> bool:
        """True if it would not be retried though time heals it."""
        return not self.verdict.category.retry and all(category.retry for category in self.case.expected)

    def __str__(self) -> str:
        """The failure with every fact that was read, for whoever mends a rule."""
        case, verdict = self.case, self.verdict
        wanted = " or ".join(category.key for category in case.expected)
        rule = f"rule {verdict.rule}, {verdict.layer}, matched {verdict.matched!r}"
        lines = [f"{case.field}:{case.id}: wanted {wanted}, got {verdict.category.key} ({rule})"]
        for cause in self.causes:
            bases = [name for name in cause.bases[1:] if name not in ("Exception", cause.type)]
            lines.append(f"    {cause.type}: {cause.message[:300]!r} codes={cause.codes} bases={bases}")
        return "\n".join(lines)


class Field:
    """The failures of one field; a test file holds one or more.

    Args:
        name: E.g. `postgresql`.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.cases: list[Case] = []

    def add(self, case_id: str, expected: Category | tuple[Category, ...], provoke: Provoke) -> None:
        """Register a failure."""
        assert case_id not in {case.id for case in self.cases}, case_id
        labels = expected if isinstance(expected, tuple) else (expected,)
        self.cases.append(Case(self.name, case_id, labels, provoke))

    def case(self, case_id: str, *expected: Category) -> Callable[[Provoke], Provoke]:
        """Decorator: register the function as what provokes the failure."""

        def register(provoke: Provoke) -> Provoke:
            self.add(case_id, expected, provoke)
            return provoke

        return register

    def each(self) -> pytest.MarkDecorator:
        """Parametrises a test with every failure of the field."""
        return pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in self.cases])


@cache
def rulebook() -> Rulebook:
    """What the package ships."""
    return load_rulebook()


@contextmanager
def _bounded() -> Iterator[None]:
    """No failure may keep the tests waiting for ever, whatever it waits for."""

    def ring(*_: object) -> None:
        raise NotProvoked(f"still waiting after {_PATIENCE_SECONDS} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, _PATIENCE_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def run(case: Case) -> Outcome:
    """Make the failure happen and classify the live exception.

    Raises:
        NotProvoked: Nothing was raised.
    """
    try:
        with _bounded():
            case.provoke()
    except Exception as error:
        causes = causes_from_exception(error)
    else:
        raise NotProvoked(f"{case.field}:{case.id}: nothing was raised")
    return Outcome(case, causes, classify(causes, rulebook()))


#: Failures that are misread today, one a line with the reason; none of them may be in it that is read rightly.
KNOWN = {
    line.partition("  ")[0].strip()
    for line in (Path(__file__).parent / "known_wrong.txt").read_text("utf-8").splitlines()
    if line.strip() and not line.startswith("#")
}


def check(case: Case) -> None:
    """What every test of a provoked failure asserts: it is read rightly, or known to be misread."""
    outcome = run(case)
    if f"{case.field}:{case.id}" in KNOWN:
        assert not outcome.right, f"{case.field}:{case.id} is read rightly now: take it out of known_wrong.txt"
    else:
        assert outcome.right, str(outcome)


def all_cases() -> Iterator[Case]:
    """Every failure of every field."""
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        module = importlib.import_module(f"tests.provoked.{path.stem}")
        for field in vars(module).values():
            if isinstance(field, Field):
                yield from field.cases


_open = ExitStack()
_made: dict[object, object] = {}


def shared(make: Callable[[], AbstractContextManager[Given]]) -> Callable[[], Given]:
    """A server or the like that the failures of one file share; made at first use, ended by `close_shared`."""

    @wraps(make)
    def give() -> Given:
        if make not in _made:
            try:
                _made[make] = _open.enter_context(make())
            except NotProvoked as failure:
                _made[make] = failure
        made = _made[make]
        if isinstance(made, NotProvoked):
            raise made
        return made  # type: ignore[return-value]

    return give


def close_shared() -> None:
    """End all shared servers."""
    _made.clear()
    _open.close()
