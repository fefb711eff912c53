"""A user's own patterns: they win, they may change, and a bad one harms nobody."""

from __future__ import annotations

import logging
from enum import Enum, StrEnum
from threading import Thread
from typing import Any

import pytest

from regrow import capture
from regrow.adapters.own_rules import OwnRules
from regrow.adapters.rules import load_rulebook
from regrow.errors import RuleError
from regrow.model import NETWORK, UNKNOWN, Audience, Category, Verdict


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


def verdict(rules: OwnRules, message: str) -> Verdict:
    """The verdict over one message."""
    return rules(capture.causes_from_text("", message, ""))


def test_own_patterns_win() -> None:
    """Over every built-in rule, in any case, with the text that matched; the built-in ones stay."""
    rules = OwnRules(load_rulebook(), {"unrecoverable_business": [r"voucher.*refused"]})
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
    assert verdict(OwnRules(load_rulebook(), {key: ["zzz+"]}), "a zzz b").category == category


def test_a_change_holds_for_the_next_verdict() -> None:
    """Appending, a new key, taking away."""
    patterns: dict[Any, list[str]] = {"mine": []}
    rules = OwnRules(load_rulebook(), patterns)
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
    ("\ud800", "lone surrogate"),
]


@pytest.mark.parametrize(("pattern", "says"), BAD, ids=lambda one: repr(one)[:20])
def test_a_bad_pattern_is_refused_at_start(pattern: Any, says: str) -> None:
    """With what is wrong about it."""
    with pytest.raises(RuleError, match=says):
        OwnRules(load_rulebook(), {"mine": ["good one", pattern]})


@pytest.mark.parametrize(("pattern", "says"), BAD, ids=lambda one: repr(one)[:20])
def test_a_bad_pattern_that_comes_later_is_left_out(pattern: Any, says: str, caplog: pytest.LogCaptureFixture) -> None:
    """It is said once; the good ones work on."""
    patterns: dict[Any, list[Any]] = {"mine": ["good one"]}
    rules = OwnRules(load_rulebook(), patterns)
    patterns["mine"] += [pattern, "another good"]
    with caplog.at_level(logging.ERROR):
        for text in ("good one", "another good", "good one"):
            assert verdict(rules, text).category.key == "mine"
    assert len(caplog.records) == 1
    assert caplog.records[0].getMessage().startswith("regrow leaves out a pattern of your own")


@pytest.mark.parametrize("key", [5, None, "", " ", Enum("E", {"A": 5}).A], ids=repr)  # type: ignore[attr-defined]
def test_a_bad_category(key: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Refused at start, left out later."""
    with pytest.raises(RuleError, match="neither text nor a member"):
        OwnRules(load_rulebook(), {key: ["a pattern"]})
    patterns: dict[Any, list[str]] = {}
    rules = OwnRules(load_rulebook(), patterns)
    patterns[key] = ["a pattern"]
    assert verdict(rules, "a pattern").category is UNKNOWN
    assert "leaves out patterns" in caplog.text


def test_too_many(caplog: pytest.LogCaptureFixture) -> None:
    """More than two thousand patterns are an accident."""
    many = [f"word{number}" for number in range(2001)]
    with pytest.raises(RuleError, match="2001 patterns"):
        OwnRules(load_rulebook(), {"mine": many})
    assert caplog.text == ""


def test_a_single_text_is_one_pattern() -> None:
    """Not one pattern for each letter."""
    rules = OwnRules(load_rulebook(), {"mine": "zzz"})
    assert verdict(rules, "a z b").category is UNKNOWN
    assert verdict(rules, "a zzz b").category.key == "mine"


def test_threads_may_change_it() -> None:
    """Verdicts while another thread appends: none breaks, and in the end all patterns are known."""
    patterns: dict[Any, list[str]] = {}
    rules = OwnRules(load_rulebook(), patterns)

    def change() -> None:
        for number in range(30):
            patterns[f"mine_{number}"] = [f"zz{number}zz"]

    thread = Thread(target=change)
    thread.start()
    while thread.is_alive():
        verdict(rules, "Connection refused")
    thread.join()
    assert {verdict(rules, f"zz{number}zz").category.key for number in range(30)} == set(patterns)
