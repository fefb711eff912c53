"""A file of rules: refused with its faults where a person waits, followed in a worker, and never its end."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from regrow import wiring
from regrow.adapters import rule_file
from regrow.adapters.own_rules import OwnRules, Taught
from regrow.adapters.rule_file import FollowedFile, parse_rules
from regrow.adapters.rules import load_rulebook
from regrow.adapters.teaching import Teaching
from regrow.capture import causes_from_text
from regrow.errors import LedgerError, NotMigrated, RuleError
from regrow.model import NETWORK, TEMPORARY, Audience, Category, Lesson, OwnRule, RuleState, Verdict
from regrow.model import Teaching as Kind
from regrow.testing import START, a_failure, a_verdict
from regrow.wiring import check_file, overlaps

GOOD = """
[[rules]]
id = "courier.gateway"
category = "courier_busy"
patterns = ['gateway .* busy', '网关.*繁忙']
must_match = ["Gateway SF busy (code=12)", "顺丰网关很繁忙"]
must_not_match = ["gateway is fine"]
author = "ann"
note = "they say so at night"

[[rules]]
id = "off"
category = "unrecoverable_data"
patterns = ['odd one']
enabled = false

[[categories]]
key = "courier_busy"
audience = "administrator"
retry = true
policy = { delays = [1, 2.5], max_attempts = 4 }
name = { en = "the courier is busy", zh = "快递公司繁忙" }
"""


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is looked at each time, and counts at once."""
    monkeypatch.setattr(rule_file, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(rule_file, "SETTLED_SECONDS", 0.0)


def verdict(rules: OwnRules, message: str) -> Verdict:
    """The verdict over one message."""
    return rules(causes_from_text("", message, ""))


def test_what_a_file_says() -> None:
    """Rules, categories with their schedule, and names in both languages."""
    file = parse_rules(GOOD, "r.toml")
    gateway, off = file.rules
    assert gateway == OwnRule(
        "courier.gateway",
        "courier_busy",
        ("gateway .* busy", "网关.*繁忙"),
        ("Gateway SF busy (code=12)", "顺丰网关很繁忙"),
        ("gateway is fine",),
        "ann",
        "they say so at night",
        from_file=True,
    )
    assert off.state is RuleState.DISABLED
    assert file.categories == {"courier_busy": Category("courier_busy", Audience.ADMINISTRATOR, True, (1.0, 2.5), 4)}
    assert file.names == {"en": {"courier_busy": "the courier is busy"}, "zh": {"courier_busy": "快递公司繁忙"}}
    assert parse_rules("", "r.toml").rules == ()


RULE = '[[rules]]\nid = "r"\ncategory = "unknown"\npatterns = ["a pattern"]\n'
CATEGORY = '[[categories]]\nkey = "my_own"\naudience = "user"\n'

WRONG = [
    ("[[rules", "it is not TOML"),
    ("colour = 1", "the file: there is no field 'colour'; known are rules, categories"),
    ("rules = 5", r"rules: write each one as a table of its own: \[\[rules\]\]"),
    ("rules = ['a']", r"rules: write each one as a table of its own: \[\[rules\]\]"),
    ("[[rules]]\ncategory = 'unknown'\npatterns = ['a']", "rule number 1: it has no `id`; add it"),
    ("[[rules]]\nid = 'x'", "rule 'x': it has no `category` and no `patterns`; add it"),
    (RULE + "patern = ['b']", "rule 'r': there is no field 'patern'; known are id, category"),
    (RULE.replace('["a pattern"]', '"a pattern"'), "rule 'r': `patterns` must be a list of texts"),
    (RULE.replace('["a pattern"]', "[5]"), "rule 'r': `patterns` must be a list of texts"),
    (RULE.replace('["a pattern"]', "[]"), "rule 'r': it has no `patterns`"),
    (RULE + "enabled = 'yes'", "rule 'r': `enabled` must be true or false, this is 'yes'"),
    (
        RULE.replace("unknown", "moon"),
        "rule 'r': no such category: 'moon'; known are recoverable_network.* make it with",
    ),
    (RULE.replace('"r"', '"a b"'), "rule 'a b': an id has letters"),
    (RULE.replace('"r"', '"own.x"'), "this id is Regrow's own"),
    (RULE + RULE, "rule 'r': there are two with this id"),
    (RULE.replace("a pattern", "a" * 1001), "rule 'r': the pattern .* it has 1001 characters"),
    (RULE.replace("a pattern", "a{0,900}"), "add 899 places to it"),
    (CATEGORY.replace("my_own", "My Own"), "category 'My Own': a key is small letters"),
    (CATEGORY.replace("my_own", "mine"), "category 'mine': a key is small letters"),
    (CATEGORY.replace("my_own", "recoverable_network"), "there is one with this key already"),
    (CATEGORY + CATEGORY, "there is one with this key already"),
    (CATEGORY.replace("user", "time"), "no such audience: 'time'; known are administrator, user"),
    ('[[categories]]\nkey = "my_own"', "it needs a `key` and an `audience`"),
    (CATEGORY + "policy = { delays = [1] }", "it has a `policy` and is not retried; add retry = true"),
    (CATEGORY + "retry = true\npolicy = { delays = [-1] }", "`delays` must be a list of seconds between 0 and 86400"),
    (CATEGORY + "retry = true\npolicy = { delays = [nan] }", "`delays` must be a list of seconds"),
    (
        CATEGORY + "retry = true\npolicy = { max_attempts = 51 }",
        "`max_attempts` must be a whole number between 0 and 50",
    ),
    (
        CATEGORY + "retry = true\npolicy = { delay = 1 }",
        "`policy` has no field 'delay'; known are delays, max_attempts",
    ),
    (CATEGORY + "name = { fr = 'x' }", "no such language: 'fr'; known are en, zh"),
    (CATEGORY + "name = { en = '' }", "its name in 'en' must be text"),
]


@pytest.mark.parametrize(("text", "says"), WRONG, ids=range(len(WRONG)))
def test_a_wrong_form_is_refused(text: str, says: str) -> None:
    """With the file, the place, what is wrong and how to mend it."""
    with pytest.raises(RuleError, match=f"(?s)^r.toml: .*{says}"):
        parse_rules(text, "r.toml")


def test_all_faults_at_once() -> None:
    """One line each."""
    with pytest.raises(RuleError) as refused:
        parse_rules(RULE.replace("unknown", "moon") + CATEGORY.replace("user", "all"), "r.toml")
    assert len(str(refused.value).splitlines()) == 2


CONTENT = [
    (RULE.replace("a pattern", "(bad"), "rule 'r': the pattern '\\(bad': "),
    (RULE.replace("a pattern", "a(?=b)"), "rule 'r': the pattern .*write it without lookaround"),
    (RULE.replace("a pattern", ".*"), "rule 'r': the pattern '.\\*': "),
    (RULE + 'must_match = ["nothing like it"]', "must_match 'nothing like it' is matched by none of its patterns"),
    (RULE + 'must_match = ["Connection refused"]', "must_match 'Connection refused' is matched by none"),
    (
        RULE.replace("unknown", "recoverable_network")
        + RULE.replace('"r"', '"s"')
        + 'must_match = ["a pattern"]\n'
        + RULE.replace('"r"', '"t"').replace("unknown", "recoverable_system")
        + 'must_match = ["a pattern"]',
        "rule 't': must_match 'a pattern' is unknown by s, not recoverable_system; make one of the two rules narrower",
    ),
    (
        RULE + 'must_not_match = ["this is A Pattern"]',
        "must_not_match 'this is A Pattern' matches; make a pattern narrower",
    ),
]


@pytest.mark.parametrize(("text", "says"), CONTENT, ids=range(len(CONTENT)))
def test_examples_and_patterns_are_checked(text: str, says: str, tmp_path: Path) -> None:
    """What the engine refuses, and each example that is not as it must be."""
    path = tmp_path / "r.toml"
    path.write_text(text)
    _, wrong = check_file(path)
    assert len(wrong) == 1
    assert wrong[0].startswith(f"{path}: ")
    with pytest.raises(AssertionError, match=says):
        raise AssertionError(wrong[0])


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """A folder, bad bytes, or none where one was named."""
    (tmp_path / "latin.toml").write_bytes(b"# \xe9\n")
    for path in (tmp_path, tmp_path / "latin.toml", tmp_path / "none.toml"):
        with pytest.raises(RuleError, match=r"it cannot be read .*; FAILURE_RULES_FILE says where it is"):
            FollowedFile(path, required=True)
    assert FollowedFile(tmp_path / "none.toml", required=False)().rules == ()


def test_overlaps_with_built_in_examples(tmp_path: Path) -> None:
    """Each built-in example that would be of another category is named, with both rules."""
    file = parse_rules(RULE.replace("a pattern", "^connection refused$"), "r.toml")
    assert {(one.rule, one.example.lower(), one.before, one.after) for one in overlaps(file)} == {
        ("r", "connection refused", "recoverable_network", "unknown")
    }
    assert overlaps(parse_rules(GOOD, "r.toml")) == []


# -- in a process that runs -------------------------------------------------------------------------------------------


def followed(path: Path, said: list[str]) -> tuple[OwnRules, FollowedFile]:
    """A classifier that follows a file, as a worker's does."""
    file = FollowedFile(path, required=False, say=said.append)
    return OwnRules(load_rulebook(), {}, Teaching(file).taught), file


def write(path: Path, text: str) -> None:
    """A new version of a file, certain to be seen as one."""
    path.with_suffix(".new").write_text(text)
    os.replace(path.with_suffix(".new"), path)


def test_a_change_is_followed(quick: None, tmp_path: Path) -> None:
    """A file that comes, changes, and is emptied."""
    path, said = tmp_path / "r.toml", list[str]()
    rules, _ = followed(path, said)
    assert verdict(rules, "gateway SF busy").category.key == "unknown"
    write(path, GOOD)
    found = verdict(rules, "gateway SF busy")
    assert (found.rule, found.layer) == ("courier.gateway", "user")
    assert found.category == Category("courier_busy", Audience.ADMINISTRATOR, True, (1.0, 2.5), 4)
    assert verdict(rules, "an odd one").category.key == "unknown", "it is not enabled"
    write(path, GOOD.replace("enabled = false", "enabled = true"))
    assert verdict(rules, "an odd one").rule == "off"
    write(path, "")
    assert verdict(rules, "gateway SF busy").category.key == "unknown"
    assert said == []


@pytest.mark.parametrize(
    "broken",
    [
        "[[rules",
        RULE.replace("unknown", "moon"),
        RULE.replace("a pattern", "(bad"),
        RULE + 'must_match = ["Broken pipe"]',
    ],
)
def test_the_last_good_rules_go_on(broken: str, quick: None, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What is broken is said once, wherever the fault is found; what comes after is followed again."""
    path = tmp_path / "r.toml"
    path.write_text(GOOD)
    file = FollowedFile(path, required=False, say=lambda text: logging.getLogger("regrow").error("%s", text))
    rules = OwnRules(load_rulebook(), {}, Teaching(file).taught)
    write(path, broken)
    for _ in range(3):
        assert verdict(rules, "gateway SF busy").rule == "courier.gateway"
    assert len(caplog.records) == 1
    assert "goes on with the rules that it has" in caplog.text
    write(path, RULE)
    assert verdict(rules, "a pattern").rule == "r"
    assert verdict(rules, "gateway SF busy").rule == "none"


def test_broken_from_the_start(quick: None, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A worker goes on with the built-in rules; where nobody is told, it is an error."""
    path, said = tmp_path / "r.toml", list[str]()
    path.write_text("[[rules")
    rules, _ = followed(path, said)
    assert verdict(rules, "Connection refused").category is NETWORK
    assert len(said) == 1
    assert "it is not TOML" in said[0]
    with pytest.raises(RuleError, match="it is not TOML"):
        FollowedFile(path, required=False)
    write(path, RULE + 'must_match = ["Broken pipe"]')
    assert verdict(rules, "a pattern").rule == "none"
    assert "must_match 'Broken pipe' is matched by none" in caplog.text


def test_nobody_removes_rules_by_removing_the_file(quick: None, tmp_path: Path) -> None:
    """It is said once, and the rules go on; when the file is back it is followed."""
    path, said = tmp_path / "r.toml", list[str]()
    path.write_text(GOOD)
    rules, _ = followed(path, said)
    path.unlink()
    for _ in range(3):
        assert verdict(rules, "gateway SF busy").rule == "courier.gateway"
    assert said == [f"regrow goes on with the rules that it has: {path} is gone"]
    write(path, RULE)
    assert verdict(rules, "a pattern").rule == "r"


def test_a_file_that_is_being_written_is_left_in_peace(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It counts when it has rested for a moment."""
    monkeypatch.setattr(rule_file, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(rule_file, "SETTLED_SECONDS", 3600.0)
    path, said = tmp_path / "r.toml", list[str]()
    path.write_text(GOOD)
    _, file = followed(path, said)
    write(path, "[[rules")
    assert len(file().rules) == 2
    monkeypatch.setattr(rule_file, "SETTLED_SECONDS", 0.0)
    file._next_look = 0.0
    assert len(file().rules) == 2
    assert len(said) == 1


def test_rules_of_the_ledger_beside_those_of_the_file(caplog: pytest.LogCaptureFixture) -> None:
    """All count; one that no engine will run is left out and said once; of two that match the careful one wins."""
    taught = Taught(
        parse_rules(GOOD, "r.toml"),
        (
            OwnRule("mine", "courier_busy", ("zzz",)),
            OwnRule("bad", "unknown", ("(bad",)),
            OwnRule("careful", "unrecoverable_data", ("gateway .* busy",)),
            OwnRule("gone", "no_longer_here", ("yyy",)),
        ),
    )
    rules = OwnRules(load_rulebook(), {"app_own": ["xxx"]}, lambda: taught)
    assert verdict(rules, "zzz").category.max_attempts == 4
    assert verdict(rules, "xxx").rule == "own.app_own"
    assert (verdict(rules, "gateway SF busy").rule, verdict(rules, "gateway SF busy").conflict) == ("careful", True)
    assert verdict(rules, "yyy").category == Category("no_longer_here", Audience.ADMINISTRATOR)
    assert [one.getMessage()[:80] for one in caplog.records] == [
        "regrow leaves out a pattern of your own: a pattern of the rule bad is '(bad': Mi"
    ]


# -- what a process knows of the ledger's journal ---------------------------------------------------------------------


def a_word(category: str = TEMPORARY.key, number: int = 1) -> Lesson:
    """An operator's word for the group of `a_failure`."""
    return Lesson(Kind.LABEL, "1:abc", "ann", START, category, id=number)


def test_the_journal_is_read_once_in_a_while() -> None:
    """At most every two seconds, from the line that is known on; a label counts for its group alone."""
    asked: list[int] = []

    def read(after: int) -> list[Lesson]:
        asked.append(after)
        return [a_word()] if after < 1 else []

    teaching = Teaching(lambda: parse_rules("", ""))
    for _ in range(5):
        teaching.refresh(read)
    assert asked == [0]
    teaching._next = 0.0
    teaching.refresh(read)
    assert asked == [0, 1]
    found = a_verdict(NETWORK)
    assert teaching.judge(a_failure(), found).category is TEMPORARY
    assert teaching.judge(a_failure(fingerprint="1:other"), found) is found


@pytest.mark.parametrize("error", [LedgerError("it is away"), NotMigrated("no table"), RuntimeError("odd")])
def test_a_ledger_that_cannot_be_read_stops_nobody(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """What is known goes on, and it is said once; a ledger without a journal is no news."""

    def away(_after: int) -> Any:
        raise error

    teaching = Teaching(lambda: parse_rules("", ""))
    teaching.learn([a_word()])
    for _ in range(3):
        teaching._next = 0.0
        teaching.refresh(away)
    assert teaching.judge(a_failure(), a_verdict(NETWORK)).category is TEMPORARY
    assert len(caplog.records) == (0 if isinstance(error, NotMigrated) else 1)


def test_categories_of_file_and_application() -> None:
    """A label may name any of them; the names of the file are spoken in both languages."""
    file = parse_rules(GOOD, "r.toml")
    teaching = Teaching(lambda: file, {"app_own": ["x"], 5: ["y"]})
    assert {"app_own", "courier_busy", "unknown"} <= set(teaching.categories)
    teaching.learn([replace(a_word("courier_busy"))])
    assert teaching.judge(a_failure(), a_verdict(NETWORK)).category.delays_seconds == (1.0, 2.5)
    for language, name in (("en", "the courier is busy"), ("zh", "快递公司繁忙")):
        words = wiring.words(language, lambda: file)
        assert words("courier_busy") == name
        assert words("bad data") == wiring.words(language)("bad data")
