"""Every text that people read exists in every language, and the compiled catalogue is the one that was written."""

from __future__ import annotations

import ast
import gettext
import re
import struct
import tomllib
from collections.abc import Iterator
from pathlib import Path
from string import Formatter

import pytest

from regrow.adapters.words import languages, load_words
from regrow.classify.verdict import UNSURE
from regrow.errors import SettingsError

ROOT = Path(__file__).parents[2] / "src" / "regrow"
CATALOGUES = sorted(ROOT.glob("locale/*/LC_MESSAGES/regrow.po"))
SOURCES = [source for folder in ("notify", "report", "cli") for source in sorted(ROOT.glob(f"{folder}/*.py"))]


def written(catalogue: Path) -> dict[str, str]:
    """The entries of a .po file that has neither plurals nor contexts; its header is the entry of ''."""
    entries: dict[str, str] = {}
    for block in re.split(r"\n\s*\n", catalogue.read_text(encoding="utf-8")):
        lines = [line for line in block.splitlines() if line and not line.startswith("#")]
        joined = "".join(lines).removeprefix("msgid ")
        source, _, translation = joined.partition("msgstr ")
        entries[text(source)] = text(translation)
    return entries


def text(quoted: str) -> str:
    """A quoted string of a .po file, which may be cut into several."""
    return "".join(ast.literal_eval(part) for part in re.findall(r'"(?:[^"\\]|\\.)*"', quoted))


def said() -> Iterator[str]:
    """Every text that the code gives to `_()` and every caution of a rule and of the model."""
    for source in SOURCES:
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("_", "session.words"):
                match node.args:
                    case [ast.Constant(value=str(words))]:
                        yield words
    for rules in ROOT.glob("rules/*.toml"):
        yield from cautions(tomllib.loads(rules.read_text(encoding="utf-8")))
    yield UNSURE


def cautions(value: object) -> Iterator[str]:
    """Every `caution` anywhere in a file of rules."""
    if isinstance(value, dict):
        if isinstance(value.get("caution"), str):
            yield value["caution"]
        for part in value.values():
            yield from cautions(part)
    elif isinstance(value, list):
        for part in value:
            yield from cautions(part)


def placeholders(template: str) -> set[str]:
    """The names in braces."""
    return {name for _, name, _, _ in Formatter().parse(template) if name is not None}


@pytest.mark.parametrize("catalogue", CATALOGUES, ids=lambda path: path.parts[-3])
def test_compiled_as_written(catalogue: Path) -> None:
    """The .mo file holds exactly the entries of its .po file."""
    compiled = catalogue.with_suffix(".mo").read_bytes()
    with catalogue.with_suffix(".mo").open("rb") as file:
        words = gettext.GNUTranslations(file)
    entries = written(catalogue)
    magic, _, count = struct.unpack("<III", compiled[:12])
    assert magic == 0x950412DE
    assert count == len(entries)
    assert {source: words.gettext(source) for source in entries if source} == {
        source: translation for source, translation in entries.items() if source
    }


@pytest.mark.parametrize("catalogue", CATALOGUES, ids=lambda path: path.parts[-3])
def test_nothing_missing_or_left_over(catalogue: Path) -> None:
    """Each text of the code has its translation, and no translation is for a text that is gone."""
    entries = written(catalogue)
    assert {source for source, translation in entries.items() if not translation} == set()
    assert set(entries) - {""} == set(said())


@pytest.mark.parametrize("catalogue", CATALOGUES, ids=lambda path: path.parts[-3])
def test_same_placeholders(catalogue: Path) -> None:
    """A translation fills in the same values as its original."""
    for source, translation in written(catalogue).items():
        if source:
            assert placeholders(source) == placeholders(translation), source


def test_texts_are_given_whole() -> None:
    """Nothing but a literal text, a caution, a row of advice or a user's own category is translated: else nobody sees it."""
    odd = [
        ast.unparse(node)
        for source in SOURCES
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "_" and not isinstance(node.args[0], ast.Constant)
    ]
    assert set(odd) <= {
        "_(verdict.caution)",
        "_(row.name)",
        "_(row.text)",
        # The key of a user's own category: his file of rules names it.
        "_(category)",
        "_(verdict.category.key)",
    }


def test_english_is_itself() -> None:
    """English needs no catalogue."""
    assert load_words("en")("bad data") == "bad data"


def test_chinese() -> None:
    """Chinese is spoken; what has no translation stays as it is, and nothing stays nothing."""
    words = load_words("zh")
    assert words("bad data") == "数据有误"
    assert words("no such text") == "no such text"
    assert words("") == ""


@pytest.mark.parametrize("name", ["fr", "", "ZH", "../zh", "zh/../zh"])
def test_unknown_language(name: str) -> None:
    """A language that does not exist is refused, and those that do are named."""
    with pytest.raises(SettingsError, match="known are: en, zh"):
        load_words(name)


def test_languages() -> None:
    """The languages are English and those with a catalogue."""
    assert languages() == ("en", "zh")
