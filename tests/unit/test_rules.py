"""The packaged rules and how rule files are read."""

from __future__ import annotations

import pytest

from regrow.adapters.rules import alternatives, build_rulebook, check_examples, load_rulebook
from regrow.classify import Rulebook
from regrow.errors import RuleError

GOOD = """
[[patterns]]
id = "mine"
category = "unrecoverable_data"
rank = 70
patterns = ['zebra|gnu']
examples = ["a zebra"]
source = "the zoo"
"""


@pytest.fixture(scope="module")
def rulebook() -> Rulebook:
    return load_rulebook()


def test_every_example_is_classified_as_its_own_rule_says(rulebook: Rulebook) -> None:
    """No packaged rule contradicts its examples."""
    assert check_examples(rulebook) == []


def test_a_file_of_ones_own_is_read() -> None:
    """A rule file becomes a rulebook."""
    assert [pattern.pattern for pattern in build_rulebook({"a.toml": GOOD}).patterns] == ["zebra", "gnu"]


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ({"a.toml": GOOD.replace("unrecoverable_data", "nonsense")}, "names the category 'nonsense'"),
        ({"a.toml": GOOD, "b.toml": GOOD}, "b.toml: rule 'mine' stands in a.toml too"),
        ({"a.toml": GOOD.replace('source = "the zoo"', "")}, "has no `source`"),
        ({"a.toml": GOOD.replace("rank = 70", "")}, "has no `rank`"),
        ({"a.toml": GOOD.replace("zebra|gnu", "(?=zebra)gnu")}, "cannot be used"),
        ({"a.toml": "[[["}, "a.toml is not TOML"),
    ],
)
def test_a_wrong_rule_is_refused_by_name(texts: dict[str, str], said: str) -> None:
    """Each mistake in a rule file says which rule, and what to mend."""
    with pytest.raises(RuleError, match=said.replace("(", r"\(")):
        build_rulebook(texts)


@pytest.mark.parametrize(
    ("pattern", "parts"),
    [
        ("a|b", ["a", "b"]),
        ("(a|b)|c", ["(a|b)", "c"]),
        (r"a\|b", [r"a\|b"]),
        ("[|a]|b", ["[|a]", "b"]),
        (r"\(|b", [r"\(", "b"]),
    ],
)
def test_alternatives_split_at_the_top_only(pattern: str, parts: list[str]) -> None:
    """Groups, classes and escapes stay whole."""
    assert alternatives(pattern) == parts
