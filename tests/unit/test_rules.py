"""The packaged rules and how rule files are read."""

from __future__ import annotations

import importlib
import re
import tomllib
from importlib.metadata import packages_distributions

import pytest

from regrow.adapters.rules import alternatives, build_rulebook, check_examples, load_rulebook, packaged, read_entries
from regrow.classify import Rulebook, classify
from regrow.classify.verdict import facts_of
from regrow.errors import RuleError
from regrow.model import Cause

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


# Modules that cannot be imported without a package that this environment does not have.
WITH_PACKAGES_OF_THEIR_OWN = (
    "kombu.transport.SQS.",
    "kombu.transport.confluentkafka.",
    "sqlalchemy.dialects.postgresql.asyncpg.",
)


def listed_classes() -> dict[str, list[str]]:
    """Every class name of the packaged rules, and the rules that hold it."""
    holders: dict[str, list[str]] = {}
    for entry in read_entries(packaged()):
        if entry.section == "classes":
            for name in entry.values["names"]:
                holders.setdefault(name, []).append(entry.id)
    return holders


def installed_top_levels() -> set[str]:
    return {name for name, owners in packages_distributions().items() if set(owners) != {"regrow"}}


def test_no_class_stands_twice() -> None:
    """The first entry would win in silence: each name is judged once."""
    assert {name: ids for name, ids in listed_classes().items() if len(ids) > 1} == {}


def test_no_store_stands_twice() -> None:
    """Each package is listed once."""
    packages = [
        package
        for text in packaged().values()
        for table in tomllib.loads(text).get("stores", [])
        for package in table["packages"]
    ]
    assert sorted(set(packages)) == sorted(packages)


def test_every_library_entry_says_which_versions_were_read() -> None:
    """Whoever doubts a verdict finds the package and version that it was read from."""
    entries = [entry for entry in read_entries(packaged()) if entry.file == "31_libraries.toml"]
    assert entries
    for entry in entries:
        assert re.search(r"\b\d+\.\d+", entry.values["source"]), entry.id


def test_listed_classes_of_installed_packages_are_exceptions() -> None:
    """What 31_libraries.toml names, and is installed here, is there and can be raised."""
    here = installed_top_levels()
    names = [
        name
        for entry in read_entries(packaged())
        if entry.section == "classes" and entry.file == "31_libraries.toml"
        for name in entry.values["names"]
        if name.partition(".")[0] in here and not name.startswith(WITH_PACKAGES_OF_THEIR_OWN)
    ]
    found = {name: found_class(name) for name in names}
    wrong = [name for name, cls in found.items() if cls is not None and not issubclass(cls, BaseException)]
    missing = [name for name, cls in found.items() if cls is None]
    assert wrong == []
    assert missing == []
    assert len(names) > 100


def found_class(name: str) -> type | None:
    parts = name.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        try:
            thing: object = importlib.import_module(".".join(parts[:cut]))
        except ImportError:
            continue
        for part in parts[cut:]:
            thing = getattr(thing, part, None)
        return thing if isinstance(thing, type) else None
    return None


@pytest.mark.parametrize(
    ("bases", "category"),
    [
        (("redis.exceptions.AuthenticationError", "redis.exceptions.ConnectionError"), "unrecoverable_config"),
        (("anthropic.EnforcedSpendLimitReachedError", "anthropic.RateLimitError"), "unrecoverable_config"),
        (("asyncpg.exceptions._base.DataError", "asyncpg.exceptions._base.InterfaceError"), "unrecoverable_data"),
        (("amqp.exceptions.ContentTooLarge", "amqp.exceptions.RecoverableChannelError"), "unrecoverable_data"),
        (("ccxt.base.errors.InvalidNonce", "ccxt.base.errors.NetworkError"), "unrecoverable_config"),
        (("kafka.errors.UnknownTopicIdError", "kafka.errors.RetriableError"), "unrecoverable_config"),
        (
            ("redis.exceptions.CrossSlotTransactionError", "redis.exceptions.RedisClusterException"),
            "unrecoverable_data",
        ),
        (("mysql.connector.errors.ReadTimeoutError", "mysql.connector.errors.Error"), "recoverable_temporary"),
    ],
)
def test_a_class_is_not_taken_for_its_parent(rulebook: Rulebook, bases: tuple[str, ...], category: str) -> None:
    """Where a library's parent class means something else, the child stands in the table."""
    assert classify([Cause(bases[0], "", bases)], rulebook).category.key == category


@pytest.mark.parametrize(
    "name",
    [
        "braintree.exceptions.gateway_timeout_error.GatewayTimeoutError",
        "braintree.exceptions.http.timeout_error.ReadTimeoutError",
        "ccxt.base.errors.RequestTimeout",
        "neo4j.exceptions.IncompleteCommit",
        "psycopg.errors.TransactionResolutionUnknown",
        "billiard.pool.MaybeEncodingError",
    ],
)
def test_work_that_may_be_done_is_not_repeated(rulebook: Rulebook, name: str) -> None:
    """Where nobody knows whether the payment or the commit went through, a person looks first."""
    assert classify([Cause(name, "", (name,))], rulebook).caution


@pytest.mark.parametrize(
    "name", ["TransactionException", "ServerError", "SessionExpiredError", "DeadlineExceededError"]
)
def test_a_vague_bare_name_is_no_class_of_a_library(rulebook: Rulebook, name: str) -> None:
    """An application's own class of that name, known from text alone, is not taken for a library's."""
    assert name not in rulebook.classes


def test_a_code_that_is_read_is_also_known(rulebook: Rulebook) -> None:
    """What a pattern reads out of a text has a meaning in the tables: `ORA-00060`, `StatusCode.UNAVAILABLE`."""
    for entry in read_entries(packaged()):
        if entry.section == "text_codes":
            for example in entry.values.get("examples", ()):
                found, _ = facts_of([Cause("", example)], rulebook)
                assert any(fact.layer == "code" for fact in found), (entry.id, example)
