"""Reads the packaged rules, `regrow/rules/*.toml`, into a Rulebook."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any

from regrow.adapters.patterns import compile_patterns
from regrow.classify import Model, Pattern, Rule, Rulebook, classify, code_key
from regrow.errors import RuleError
from regrow.model import CATEGORIES, Category, Cause

# Estimates of precision by kind of fact, until they are measured on labelled failures of other libraries.
_CONFIDENCE = {"words": 0.99, "codes": 0.97, "classes": 0.95}
_RANKS = {"words": 120, "codes": 80, "classes": 60}
_SHORT_NAME_RANK = 64
# Bare names that mean nothing without their module.
_VAGUE = frozenset(
    {
        "Error",
        "error",
        "Invalid",
        "Timeout",
        "Forbidden",
        "NotFound",
        "InternalError",
        "Unavailable",
        "AbortedError",
        "BackendError",
        "CapacityNotAvailableError",
        "ConnectionException",
        "ConsumerCancelled",
        "ContentLengthError",
        "CoordinationFailure",
        "DatabaseError",
        "DeadlineExceededError",
        "GatewayNotFound",
        "InitialHealthCheckFailedError",
        "InsufficientResources",
        "InsufficientResourcesError",
        "InvalidMetadataError",
        "MessageNacked",
        "NoConnectionsAvailable",
        "NoRouteError",
        "ObjectInUse",
        "ObjectInUseError",
        "OwnershipLostError",
        "ProtocolViolation",
        "ProtocolViolationError",
        "ReassignmentInProgress",
        "ResourceExhaustedError",
        "ServerError",
        "ServiceException",
        "SessionExpiredError",
        "StaleMetadata",
        "TimeExhausted",
        "TransactionException",
        "TransactionRollback",
        "TransferEncodingError",
        "TruncateError",
        "UnavailableError",
        "UploadAbortedError",
        "ZeroReturnError",
    }
)
# The same for what any section says at a rank: the lowest rank, and the estimate from there up.
_CONFIDENCE_FROM = ((85, 0.93), (65, 0.88), (50, 0.75), (0, 0.65))
_EXACT_FROM = 60
_NEEDS = {
    "words": ("category", "words", "examples"),
    "codes": ("category", "kind", "values", "examples"),
    "classes": ("category", "names", "examples"),
    "patterns": ("category", "patterns", "examples", "rank"),
    "text_codes": ("kind", "patterns"),
    "waits": ("patterns",),
    "store_texts": ("patterns",),
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One table of a rule file.

    Args:
        file: Name of the file.
        section: Kind of entry: `words`, `codes`, `classes`, `patterns`, `text_codes`, `waits`, `store_texts`.
        id: Unique name.
        values: All its fields.
    """

    file: str
    section: str
    id: str
    values: Mapping[str, Any]


@cache
def load_rulebook() -> Rulebook:
    """The packaged rules, compiled; once in each process.

    Raises:
        RuleError: A rule is incomplete, names an unknown category, stands twice, or its pattern is refused.
    """
    return replace(build_rulebook(packaged(), keep=True), model=load_model())


def load_model() -> Model:
    """The packaged statistics (`tools/train_statistics.py` writes them).

    Raises:
        RuleError: The file is not as that tool writes it.
    """
    text = (files("regrow") / "rules" / "statistics.tsv").read_text("utf-8")
    try:
        first, *lines = text.splitlines()
        head = json.loads(first)
        scale = head.pop("scale")
        weights = {}
        for line in lines:
            name, *numbers = line.split("\t")
            weights[name] = tuple(int(number) * scale for number in numbers)
        return Model(categories=tuple(head.pop("categories")), weights=weights, **head)
    except (ValueError, KeyError, TypeError) as error:
        raise RuleError(f"rules/statistics.tsv cannot be read: {error!r}; make it again: docs/accuracy.md") from error


def packaged() -> dict[str, str]:
    """The packaged rule files: name to TOML text, in the order of their names."""
    folder = files("regrow") / "rules"
    return {
        item.name: item.read_text("utf-8")
        for item in sorted(folder.iterdir(), key=lambda item: item.name)
        if item.name.endswith(".toml")
    }


def build_rulebook(texts: Mapping[str, str], *, keep: bool = False) -> Rulebook:
    """A rulebook from rule files.

    Args:
        texts: File name to TOML text.
        keep: Keep the compiled patterns in the user's cache folder, for the next process.

    Raises:
        RuleError: As for `load_rulebook`.
    """
    tables_of = _parsed(texts)
    entries = list(_entries(tables_of))
    patterns = [pattern for entry in entries for pattern in _patterns(entry)]
    return Rulebook(
        words=_table(entries, "words", lambda entry: [word.lower() for word in entry.values["words"]]),
        codes=_table(entries, "codes", _code_keys),
        classes=_with_short_names(_table(entries, "classes", lambda entry: entry.values["names"])),
        stores=frozenset(
            package
            for tables in tables_of.values()
            for table in tables.get("stores", [])
            for package in table["packages"]
        ),
        patterns=tuple(patterns),
        matcher=compile_patterns([pattern.pattern for pattern in patterns], keep=keep),
    )


def read_entries(texts: Mapping[str, str]) -> Iterator[Entry]:
    """Every rule of the files, checked.

    Raises:
        RuleError: A file is not TOML, or an entry is incomplete, of an unknown category, or there twice.
    """
    return _entries(_parsed(texts))


def _parsed(texts: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    parsed = {}
    for name, text in texts.items():
        try:
            parsed[name] = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise RuleError(f"{name} is not TOML: {error}") from error
    return parsed


def _entries(parsed: Mapping[str, Mapping[str, Any]]) -> Iterator[Entry]:
    seen: dict[str, str] = {}
    for name, tables in parsed.items():
        for section, needed in _NEEDS.items():
            for values in tables.get(section, []):
                entry = _checked(name, section, values, needed)
                if entry.id in seen:
                    raise RuleError(f"{name}: rule {entry.id!r} stands in {seen[entry.id]} too; give it another id")
                seen[entry.id] = name
                yield entry


def check_examples(rulebook: Rulebook, entries: Sequence[Entry] | None = None) -> list[str]:
    """What is wrong with the examples: one line for each that is not classified as its own rule says.

    Args:
        rulebook: The rulebook to check.
        entries: The rules whose examples are tried; the packaged ones if None.
    """
    wrong = []
    for entry in read_entries(packaged()) if entries is None else entries:
        for example in entry.values.get("examples", ()):
            verdict = classify([example_cause(entry, example)], rulebook)
            wanted = entry.values.get("category")
            if wanted is not None and verdict.category.key != wanted:
                wrong.append(f"{entry.id}: {example!r} is {verdict.category.key} by {verdict.rule}")
    return wrong


def example_cause(entry: Entry, example: str) -> Cause:
    """What the example of a rule stands for: a code, a class, or `Name: message`."""
    if entry.section == "codes":
        return Cause("", "", codes=((entry.values["kind"], example),))
    if entry.section == "classes":
        return Cause(example, "")
    name, colon, message = example.partition(": ")
    return Cause(name, message) if colon and name.isidentifier() else Cause("", example)


def _checked(name: str, section: str, values: Mapping[str, Any], needed: Sequence[str]) -> Entry:
    for field in ("id", "source", *needed):
        if field not in values:
            raise RuleError(f"{name}: rule {values.get('id', '?')!r} in [[{section}]] has no `{field}`; add it")
    _category(name, values)
    return Entry(name, section, values["id"], values)


def _category(name: str, values: Mapping[str, Any]) -> Category | None:
    key = values.get("category")
    if key is not None and key not in CATEGORIES:
        raise RuleError(f"{name}: rule {values['id']!r} names the category {key!r}; known are {', '.join(CATEGORIES)}")
    return None if key is None else CATEGORIES[key]


def _rule(entry: Entry) -> Rule:
    category = _category(entry.file, entry.values)
    if category is None:  # _checked has seen to it for every section that needs one
        raise RuleError(f"{entry.file}: rule {entry.id!r} has no `category`; add it")
    rank = int(entry.values.get("rank", _RANKS.get(entry.section, 60)))
    confidence = float(entry.values.get("confidence", _confidence(entry.section, rank)))
    return Rule(entry.id, category, rank, confidence, entry.values.get("caution", ""))


def _confidence(section: str, rank: int) -> float:
    if section in _CONFIDENCE and rank >= _EXACT_FROM:
        return _CONFIDENCE[section]
    return next(estimate for lowest, estimate in _CONFIDENCE_FROM if rank >= lowest)


def _table(entries: Sequence[Entry], section: str, keys: Any) -> dict[Any, Rule]:
    table: dict[Any, Rule] = {}
    for entry in entries:
        if entry.section == section:
            rule = _rule(entry)
            for key in keys(entry):
                # The first rule keeps a key, so that files and entries are read in the order they stand in.
                table.setdefault(key, rule)
    return table


def _with_short_names(classes: Mapping[str, Rule]) -> dict[str, Rule]:
    """Adds bare names for what is known from text alone, where all classes of that name mean the same.

    A live exception never meets them: only builtins have bare names. They rank below plain sentences.
    """
    rules: dict[str, list[Rule]] = {}
    for name, rule in classes.items():
        rules.setdefault(name.rpartition(".")[2], []).append(rule)
    short = {
        name: replace(found[0], rank=min(_SHORT_NAME_RANK, *(rule.rank for rule in found)))
        for name, found in rules.items()
        if name not in _VAGUE and len({rule.category.key for rule in found}) == 1
    }
    return {**short, **classes}


def _code_keys(entry: Entry) -> list[tuple[str, str]]:
    return [code_key(entry.values["kind"], value) for value in entry.values["values"]]


def _patterns(entry: Entry) -> Iterator[Pattern]:
    for pattern in (part for whole in entry.values.get("patterns", ()) for part in alternatives(whole)):
        if entry.section == "patterns":
            yield Pattern(pattern, _rule(entry))
        elif entry.section == "text_codes":
            yield Pattern(pattern, None, entry.values["kind"], int(entry.values.get("take", -1)))
        else:
            yield Pattern(pattern, None, "wait" if entry.section == "waits" else "store")


def alternatives(pattern: str) -> list[str]:
    """`a|(b|c)|d` -> `a`, `(b|c)`, `d`: engines compile and run many small patterns better than one large one."""
    parts, start, depth, bracket, escaped = [], 0, 0, False, False
    for at, char in enumerate(pattern):
        if escaped or char == "\\":
            escaped = not escaped
        elif bracket or char == "[":
            bracket = char != "]"
        elif char in "()":
            depth += 1 if char == "(" else -1
        elif char == "|" and depth == 0:
            parts.append(pattern[start:at])
            start = at + 1
    return [*parts, pattern[start:]]
