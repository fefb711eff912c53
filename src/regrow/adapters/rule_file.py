"""A user's own rules and categories in a TOML file, read as a whole or refused as a whole."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic, time_ns
from typing import Any

from regrow.adapters.own_patterns import KEY_LIMIT, fault
from regrow.decide import LONGEST_WAIT, MOST_ATTEMPTS
from regrow.errors import RuleError
from regrow.model import CATEGORIES, Audience, Category, OwnRule, RuleFile, RuleState

#: A file counts when it has rested for so long: an editor may leave it half written for a moment.
SETTLED_SECONDS = 0.5

#: How often it is looked at, at most.
LOOK_SECONDS = 1.0

#: Languages that a category can be named in.
LANGUAGES = ("en", "zh")

_AUDIENCES = (Audience.ADMINISTRATOR, Audience.USER)
_ID = re.compile(r"[\w][\w.\-]*")
# With a `_`, so that it is never taken for a word of ours where it is translated.
_KEY = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)+")

_RULE_FIELDS = {
    "id": str,
    "category": str,
    "patterns": list,
    "must_match": list,
    "must_not_match": list,
    "author": str,
    "enabled": bool,
    "note": str,
}
_CATEGORY_FIELDS = {"key": str, "audience": str, "retry": bool, "policy": dict, "name": dict}
_NAMES = {str: "text", list: "a list of texts", bool: "true or false", dict: "a table"}

#: What is wrong with an id, beside its form.
_RESERVED = ("operator", "none")


def read_rules(path: Path) -> RuleFile:
    """A file of rules, its form checked; what its patterns and examples do is checked where they are compiled.

    Raises:
        RuleError: Something is wrong with it; the message has a line for each fault, with the place and the mend.
    """
    try:
        return parse_rules(path.read_text("utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise RuleError(f"{path}: it cannot be read ({error}); FAILURE_RULES_FILE says where it is") from None


def parse_rules(text: str, path: str) -> RuleFile:
    """The same from the text of a file."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RuleError(f"{path}: it is not TOML: {error}") from None
    reader = _Reader(path)
    reader.check_names("the file", tables, {"rules": list, "categories": list})
    categories: dict[str, Category] = {}
    names: dict[str, dict[str, str]] = {language: {} for language in LANGUAGES}
    for number, table in enumerate(reader.tables(tables, "categories"), 1):
        reader.category(table, number, categories, names)
    rules: dict[str, OwnRule] = {}
    for number, table in enumerate(reader.tables(tables, "rules"), 1):
        reader.rule(table, number, {**CATEGORIES, **categories}, rules)
    if reader.wrong:
        raise RuleError("\n".join(reader.wrong))
    return RuleFile(path, tuple(rules.values()), categories, names)


class _Reader:
    """Collects what is wrong with a file, so that all of it is said at once.

    Args:
        path: The file.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self.wrong: list[str] = []

    def say(self, where: str, what: str) -> None:
        """Note a fault."""
        self.wrong.append(f"{self._path}: {where}: {what}")

    def tables(self, tables: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
        """The tables of a section."""
        found = tables.get(name, [])
        if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
            self.say(name, f"write each one as a table of its own: [[{name}]]")
            return []
        return found

    def check_names(self, where: str, table: Mapping[str, Any], known: Mapping[str, type]) -> bool:
        """Check that fields are known and of their kinds."""
        good = True
        for name, value in table.items():
            if name not in known:
                self.say(where, f"there is no field {name!r}; known are {', '.join(known)}")
                good = False
            elif not isinstance(value, known[name]) or (known[name] is list and name != "rules" and not _texts(value)):
                if name in ("rules", "categories"):
                    continue  # `tables` says it
                self.say(where, f"`{name}` must be {_NAMES[known[name]]}, this is {value!r:.80}")
                good = False
        return good

    # -- rules ------------------------------------------------------------------------------------------------------

    def rule(
        self, table: dict[str, Any], number: int, categories: Mapping[str, Category], rules: dict[str, OwnRule]
    ) -> None:
        """Read a rule."""
        name = table.get("id")
        where = f"rule {name!r}" if name else f"rule number {number}"
        if not self.check_names(where, table, _RULE_FIELDS):
            return
        missing = [field for field in ("id", "category", "patterns") if not table.get(field)]
        if missing:
            self.say(where, f"it has no {' and no '.join(f'`{one}`' for one in missing)}; add it")
            return
        if why := id_fault(table["id"]):
            self.say(where, why)
        if table["id"] in rules:
            self.say(where, "there are two with this id; give one of them another")
        if table["category"] not in categories:
            known = ", ".join(categories)
            self.say(
                where, f"no such category: {table['category']!r}; known are {known}; or make it with [[categories]]"
            )
        for pattern in table["patterns"]:
            if why := fault(pattern):
                self.say(where, f"the pattern {pattern!r:.80}: {why}")
        rules[table["id"]] = OwnRule(
            id=table["id"],
            category=table["category"],
            patterns=tuple(table["patterns"]),
            must_match=tuple(table.get("must_match", ())),
            must_not_match=tuple(table.get("must_not_match", ())),
            author=table.get("author", ""),
            note=table.get("note", ""),
            state=RuleState.LIVE if table.get("enabled", True) else RuleState.DISABLED,
            from_file=True,
        )

    # -- categories -------------------------------------------------------------------------------------------------

    def category(
        self,
        table: dict[str, Any],
        number: int,
        categories: dict[str, Category],
        names: dict[str, dict[str, str]],
    ) -> None:
        """Read a category."""
        key = table.get("key")
        where = f"category {key!r}" if key else f"category number {number}"
        if not self.check_names(where, table, _CATEGORY_FIELDS):
            return
        if not key or not table.get("audience"):
            self.say(where, "it needs a `key` and an `audience`; add them")
            return
        if not _KEY.fullmatch(key) or len(key) > KEY_LIMIT:
            self.say(
                where, f"a key is small letters and digits with `_` between, as courier_quota, at most {KEY_LIMIT}"
            )
        if key in CATEGORIES or key in categories:
            self.say(where, "there is one with this key already; give yours another")
        if table["audience"] not in _AUDIENCES:
            self.say(where, f"no such audience: {table['audience']!r}; known are {', '.join(_AUDIENCES)}")
            return
        retry = table.get("retry", False)
        if "policy" in table and not retry:
            self.say(where, "it has a `policy` and is not retried; add retry = true, or take the policy out")
        delays, most = self._policy(where, table.get("policy", {}))
        categories[key] = Category(key, Audience(table["audience"]), retry, delays, most)
        self._named(where, key, table.get("name", {}), names)

    def _policy(self, where: str, table: Mapping[str, Any]) -> tuple[tuple[float, ...], int | None]:
        delays, most = table.get("delays", []), table.get("max_attempts")
        for name in sorted(set(table) - {"delays", "max_attempts"}):
            self.say(where, f"`policy` has no field {name!r}; known are delays, max_attempts")
        longest = LONGEST_WAIT.total_seconds()
        if not isinstance(delays, list) or not all(_number(one) and 0 <= one <= longest for one in delays):
            self.say(where, f"`delays` must be a list of seconds between 0 and {longest:.0f}, this is {delays!r:.80}")
            delays = []
        if most is not None and not (isinstance(most, int) and _number(most) and 0 <= most <= MOST_ATTEMPTS):
            self.say(
                where, f"`max_attempts` must be a whole number between 0 and {MOST_ATTEMPTS}, this is {most!r:.80}"
            )
            most = None
        return tuple(float(one) for one in delays), most

    def _named(self, where: str, key: str, table: Mapping[str, Any], names: dict[str, dict[str, str]]) -> None:
        for language, name in table.items():
            if language not in LANGUAGES:
                self.say(where, f"no such language: {language!r}; known are {', '.join(LANGUAGES)}")
            elif not isinstance(name, str) or not name.strip():
                self.say(where, f"its name in {language!r} must be text, this is {name!r:.80}")
            else:
                names[language][key] = name


def id_fault(name: str) -> str:
    """What is wrong with the id of a rule; '' if nothing is."""
    if not _ID.fullmatch(name) or len(name) > KEY_LIMIT:
        return f"an id has letters, digits, `.`, `-` and `_`, at most {KEY_LIMIT}"
    if name in _RESERVED or name.startswith("own."):
        return "this id is Regrow's own; take another"
    return ""


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _nobody(_text: str) -> None:
    """Nobody is told."""


class FollowedFile:
    """The file of rules as it is now; looked at once in a while, so that asking costs next to nothing.

    Args:
        path: Where it is.
        required: True if it must be there; else no file means no rules.
        say: Told once what is wrong with it; None: at the start that is an error.

    Raises:
        RuleError: Something is wrong with it, and there is nobody to tell.
    """

    def __init__(self, path: Path, *, required: bool, say: Callable[[str], object] | None = None) -> None:
        self._path = path
        self._required = required
        self._say = say or _nobody
        self._read = RuleFile()
        self._seen: object = None
        self._new: object = None
        self._new_since = 0.0
        self._next_look = 0.0
        try:
            self.load()
        except RuleError as error:
            if say is None:
                raise
            say(f"regrow goes on without the file of rules: {error}")

    def load(self) -> RuleFile:
        """Read it now, whatever was read before.

        Raises:
            RuleError: Something is wrong with it.
        """
        self._seen = self._stamp()
        if self._seen is not None or self._required:
            self._read = read_rules(self._path)
        return self._read

    def __call__(self) -> RuleFile:
        """What it says; the last good version where it is broken or gone."""
        now = monotonic()
        if now < self._next_look:
            return self._read
        self._next_look = now + LOOK_SECONDS
        stamp = self._stamp()
        if stamp == self._seen:
            self._new = None
        elif stamp is None:  # nobody takes rules out of force by removing a file
            self._seen = None
            self._say(f"regrow goes on with the rules that it has: {self._path} is gone")
        elif time_ns() - stamp[1] >= SETTLED_SECONDS * 1e9 or (
            stamp == self._new and now - self._new_since >= SETTLED_SECONDS
        ):
            self._follow()
        elif stamp != self._new:
            self._new, self._new_since, self._next_look = stamp, now, now + SETTLED_SECONDS
        return self._read

    def _follow(self) -> None:
        try:
            self.load()
        except RuleError as error:
            self._say(f"regrow goes on with the rules that it has: {error}")

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            status = os.stat(self._path)  # noqa: PTH116  # asked beside a failing task, and a Path takes longer
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size
