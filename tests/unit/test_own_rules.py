"""A user's own patterns: they win, they may change, and a bad one harms nobody."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from enum import Enum, StrEnum
from functools import cache
from threading import Thread
from typing import Any

import pytest

from regrow import capture
from regrow.adapters.own_rules import OwnRules
from regrow.adapters.rules import load_rulebook
from regrow.classify import Rulebook
from regrow.errors import RuleError
from regrow.model import NETWORK, UNKNOWN, Audience, Category, Verdict


@cache
def rulebook() -> Rulebook:
    """The built-in rules, read once for all tests."""
    return load_rulebook()


class Mine(Enum):
    """An Enum as the guide writes it."""

    CUSTOM = "my_error"


class Known(StrEnum):
    """One whose members are text, and say who can help."""

    USER = "my_user_error"

    @property
    def audience(self) -> str:
        """The end user."""
        return "user"


class Odd(Enum):
    """One that names an audience that there is not."""

    CROWD = "crowd"

    @property
    def audience(self) -> str:
        """Nobody that Regrow knows."""
        return "everybody"


def verdict(rules: OwnRules, message: str) -> Verdict:
    """The verdict over one message."""
    return rules(capture.causes_from_text("", message, ""))


def test_own_patterns_win() -> None:
    """Over every built-in rule, in any case, with the text that matched; the built-in ones stay."""
    rules = OwnRules(rulebook(), {"unrecoverable_business": [r"voucher.*refused"]})
    found = verdict(rules, "Connection refused: VOUCHER 7 refused")
    assert (found.category.key, found.rule) == ("unrecoverable_business", "own.unrecoverable_business")
    assert found.matched == "VOUCHER 7 refused"
    assert NETWORK.key in {one.category for one in found.runners_up}
    assert verdict(rules, "Connection refused").category is NETWORK


@pytest.mark.parametrize(
    ("key", "category"),
    [
        (Mine.CUSTOM, Category("my_error", Audience.ADMINISTRATOR)),
        (Known.USER, Category("my_user_error", Audience.USER)),
        (Category("mine", Audience.TIME), Category("mine", Audience.TIME)),
        ("recoverable_network", NETWORK),
        (NETWORK, NETWORK),
    ],
    ids=repr,
)
def test_keys(key: Any, category: Category) -> None:
    """A category is named by its key, by an Enum's member, or is one."""
    assert verdict(OwnRules(rulebook(), {key: ["zzz+"]}), "a zzz b").category == category


def test_a_change_holds_for_the_next_verdict() -> None:
    """Appending, a new key, taking away."""
    patterns: dict[Any, list[str]] = {"mine": []}
    rules = OwnRules(rulebook(), patterns)
    assert verdict(rules, "zzz").category is UNKNOWN
    patterns["mine"].append("zzz")
    assert verdict(rules, "zzz").category.key == "mine"
    patterns["other"] = ["yyy"]
    assert verdict(rules, "yyy").category.key == "other"
    patterns.clear()
    assert verdict(rules, "zzz").category is UNKNOWN


BAD: list[tuple[Any, str]] = [
    ("(bad", "Missing close parenthesis"),
    (r"a(?=b)", "(?i)lookahead|zero-width|not supported|invalid"),
    (r"(a)\1", "(?i)back.?reference|invalid"),
    ("", "it is empty"),
    (".*", "every text|empty"),
    (5, "must be a regular expression as text"),
    (None, "must be a regular expression as text"),
    ("a" * 1001, "1001 characters"),
    ("a.{0,900}b.{0,900}c", "add 1798 places to it"),
    ("((a{1,99}){1,99}){1,99}b", "places to it"),
    ("(" * 200 + "a" + ")*b" * 200, "nested 200 deep"),
    (re.compile("a"), "must be a regular expression as text"),
    (["a"], "must be a regular expression as text"),
    ("\ud800", "lone surrogate"),
]


@pytest.mark.parametrize(("pattern", "says"), BAD, ids=lambda one: repr(one)[:20])
def test_a_bad_pattern_is_refused_at_start(pattern: Any, says: str) -> None:
    """With its category and what is wrong about it; all of them at once."""
    with pytest.raises(RuleError, match=says) as refused:
        OwnRules(rulebook(), {"mine": ["good one", pattern], "other": [7]})
    assert "a pattern for mine is " in str(refused.value)
    assert "a pattern for other is 7: it must be" in str(refused.value)


@pytest.mark.parametrize(("pattern", "says"), BAD, ids=lambda one: repr(one)[:20])
def test_a_bad_pattern_that_comes_later_is_left_out(pattern: Any, says: str, caplog: pytest.LogCaptureFixture) -> None:
    """It is said once; the good ones work on."""
    patterns: dict[Any, list[Any]] = {"mine": ["good one"]}
    rules = OwnRules(rulebook(), patterns)
    patterns["mine"] += [pattern, "another good"]
    with caplog.at_level(logging.ERROR):
        for text in ("good one", "another good", "good one"):
            assert verdict(rules, text).category.key == "mine"
    patterns["other"] = ["zzz"]
    assert verdict(rules, "good one").category.key == "mine"
    assert len(caplog.records) == 1
    said = caplog.records[0].getMessage()
    assert said.startswith("regrow leaves out a pattern of your own: a pattern for mine is ")
    assert re.search(says, said)


@pytest.mark.parametrize("key", [5, None, "", " ", Enum("E", {"A": 5}).A], ids=repr)  # type: ignore[attr-defined]
def test_a_bad_category(key: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Refused at start, left out later."""
    with pytest.raises(RuleError, match="neither text nor a member"):
        OwnRules(rulebook(), {key: ["a pattern"]})
    patterns: dict[Any, list[str]] = {}
    rules = OwnRules(rulebook(), patterns)
    patterns[key] = ["a pattern"]
    assert verdict(rules, "a pattern").category is UNKNOWN
    assert "leaves out a pattern" in caplog.text


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("k" * 65, "has 65 characters"),
        (Category("recoverable_network", Audience.USER), "is for the audience time, not user"),
        (Odd.CROWD, "has the audience 'everybody'; known are time"),
    ],
)
def test_a_category_that_cannot_be(key: Any, says: str, caplog: pytest.LogCaptureFixture) -> None:
    """Too long for the ledger, or for an audience that it cannot have: the others of the mapping work on."""
    with pytest.raises(RuleError, match=says):
        OwnRules(rulebook(), {key: ["zzz"]})
    patterns: dict[Any, list[str]] = {"mine": ["yyy"]}
    rules = OwnRules(rulebook(), patterns)
    patterns[key] = ["zzz"]
    assert (verdict(rules, "zzz").category, verdict(rules, "yyy").category.key) == (UNKNOWN, "mine")
    assert says in caplog.text


def test_an_audience_holds_for_every_key_of_the_same_name() -> None:
    """The guide's Enum says nothing of an audience; that another key of its name has said it is enough."""
    rules = OwnRules(rulebook(), {Mine.CUSTOM: ["zzz"], Category("my_error", Audience.USER): []})
    assert verdict(rules, "zzz").category == Category("my_error", Audience.USER)
    with pytest.raises(RuleError, match="'my_error' is for the audience time, not user"):
        OwnRules(rulebook(), {Category("my_error", Audience.TIME): [], Category("my_error", Audience.USER): ["zzz"]})


def test_an_anchor_means_the_message() -> None:
    """Whatever class of exception says it; the class can be matched too."""
    rules = OwnRules(rulebook(), {"begin": ["^gone away$"], "class": [r"^shop\.Gone: gone"]})
    [cause] = capture.causes_from_text("shop.Gone", "gone away", "")
    found = rules([cause])
    assert {found.category.key, *(one.category for one in found.runners_up)} >= {"begin", "class"}
    assert found.layer == "user"


def test_the_innermost_cause_is_heard_first() -> None:
    """As with the built-in patterns; a retry never wins over the other of two that match in one exception."""
    rules = OwnRules(rulebook(), {"outer": ["wrapper"], "inner": ["root"], NETWORK: ["both"], "no": ["both"]})
    try:
        try:
            raise ValueError("the root")
        except ValueError as error:
            raise RuntimeError("the wrapper") from error
    except RuntimeError as error:
        found = rules(capture.causes_from_exception(error))
    assert (found.category.key, found.root_cause) == ("inner", "ValueError: the root")
    both = verdict(rules, "both")
    assert (both.category.key, both.conflict) == ("no", True)


@pytest.mark.parametrize("value", [None, 5, object()], ids=["None", "5", "object"])
def test_what_is_no_list_is_one_bad_pattern(value: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever stands in the mapping, a verdict is given."""
    with pytest.raises(RuleError, match="it must be a regular expression as text"):
        OwnRules(rulebook(), {"mine": value})
    patterns: dict[Any, Any] = {"mine": ["zzz"]}
    rules = OwnRules(rulebook(), patterns)
    patterns["other"] = value
    assert verdict(rules, "zzz").category.key == "mine"
    assert "a pattern for other is " in caplog.text


class Broken(Mapping[Any, list[str]]):
    """A mapping that cannot be read at times."""

    broken = False

    def __getitem__(self, key: object) -> list[str]:
        return ["zzz"]

    def __iter__(self) -> Iterator[Any]:
        if self.broken:
            raise RuntimeError("changed size during iteration")
        return iter(["mine"])

    def __len__(self) -> int:
        return 1


def test_a_mapping_that_cannot_be_read(caplog: pytest.LogCaptureFixture) -> None:
    """Refused at start; later the rules that are known go on, and it is said once."""
    patterns = Broken()
    rules = OwnRules(rulebook(), patterns)
    patterns.broken = True
    assert {verdict(rules, "zzz").category.key for _ in range(3)} == {"mine"}
    [said] = [record.getMessage() for record in caplog.records]
    assert said == (
        "regrow cannot read your own patterns, and goes on with those that it has: "
        "RuntimeError('changed size during iteration')"
    )
    for wrong in (patterns, ["zzz"], None):
        with pytest.raises(RuleError, match=r"cannot be read .*; give a dict of lists"):
            OwnRules(rulebook(), wrong)  # type: ignore[arg-type]


def test_all_together_too_large(caplog: pytest.LogCaptureFixture) -> None:
    """Each is allowed, all are not: refused at start, and later the old ones go on."""
    large = [f"a{number}.{{0,200}}b" for number in range(26)]
    with pytest.raises(RuleError, match="add 5174 places to them"):
        OwnRules(rulebook(), {"mine": large})
    patterns: dict[Any, list[str]] = {"mine": ["zzz"]}
    rules = OwnRules(rulebook(), patterns)
    patterns["mine"] += large
    assert [verdict(rules, text).category.key for text in ("zzz", "a5 b")] == ["mine", "unknown"]
    assert "goes on with the patterns that it has" in caplog.text


REPEATS = """
from regrow.adapters.own_rules import OwnRules
from regrow.adapters.rules import load_rulebook
from regrow.capture import causes_from_text
rules = OwnRules(load_rulebook(), {"mine": [r"(ab)+", r"(foo)+", r"(?:x +a){1,20}", r"a+x{1,20}b"]})
for word in ("ab ", "foo", "x a", "aaxb", "Your card was declined. ", "Connection refused\\n"):
    for times in (50, 100, 1000):
        assert rules(causes_from_text("", word * times, "")).category.key != "unknown"
"""


def test_a_text_that_repeats_itself_does_not_end_the_process() -> None:
    """In block mode the engine broke its stack on such texts: in a process of its own, so that a crash is seen."""
    ended = subprocess.run([sys.executable, "-c", REPEATS], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_too_many(caplog: pytest.LogCaptureFixture) -> None:
    """More than two thousand patterns are an accident."""
    many = [f"word{number}" for number in range(2001)]
    with pytest.raises(RuleError, match="2001 patterns"):
        OwnRules(rulebook(), {"mine": many})
    assert caplog.text == ""


def test_a_single_text_is_one_pattern() -> None:
    """Not one pattern for each letter."""
    rules = OwnRules(rulebook(), {"mine": "zzz"})
    assert verdict(rules, "a z b").category is UNKNOWN
    assert verdict(rules, "a zzz b").category.key == "mine"


def test_threads_may_change_it() -> None:
    """Verdicts while another thread appends: none breaks, and in the end all patterns are known."""
    patterns: dict[Any, list[str]] = {}
    rules = OwnRules(rulebook(), patterns)

    def change() -> None:
        for number in range(30):
            patterns[f"mine_{number}"] = [f"zz{number}zz"]

    thread = Thread(target=change)
    thread.start()
    while thread.is_alive():
        verdict(rules, "Connection refused")
    thread.join()
    assert {verdict(rules, f"zz{number}zz").category.key for number in range(30)} == set(patterns)
