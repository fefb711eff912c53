"""Causes -> facts: what speaks for which category, and where it stands."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from regrow.classify.rulebook import Rule, Rulebook, code_key
from regrow.classify.script import simplified
from regrow.model import Cause
from regrow.ports import Matcher

# `[NETWORK] Connection timeout: ...`, `【网络错误】...`. Source: guide, best practice 1.
# Possessive: a bracket and a page of spaces would take quadratic time.
_BRACKETED = re.compile(r"\s*+[\[【［]\s*+([^\]】］\n]{1,40}?)\s*+[\]】］]")
_BRACKETS = "[【［"
# What SQLAlchemy appends to a message: the statement and its values say nothing about why it failed.
_STATEMENT = "[SQL: "
# A minus sign belongs to a number only where no word stands before it: `Errno -2`, but `ORA-00060`.
_WORDS = re.compile(r"(?:(?<!\w)-)?\w(?:[\w.\-]*\w)?")
_IDENTIFIER = re.compile(r"\b[A-Za-z]+(?:_[A-Za-z]+)+\b|\b[A-Za-z]?[a-z]+(?:[A-Z][a-z]+)+\b")
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")
_IDENTIFIERS_LIMIT = 20
#: From this rank on a sentence means one thing, so identifiers are not asked too.
_PLAIN = 80
# Builtins whose message means nothing without them: `KeyError: 'DATABASE_URL'`, `PermissionError: Managers only`.
_NAMES_WITH_TEXT = frozenset({"KeyError", "PermissionError"})
_WAIT = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|milli|h|小时|m|分|s|秒)?", re.IGNORECASE)
_UNIT_SECONDS = {"ms": 0.001, "milli": 0.001, "h": 3600, "小时": 3600, "m": 60, "分": 60, "s": 1, "秒": 1, "": 1}


class Fact:
    """One thing that speaks for a category.

    Args:
        rule: What it means.
        layer: Which kind of fact: `user`, `structured`, `code`, `class` or `pattern`.
        depth: Which exception of the chain it was found in; 0 is the outermost.
        said: The code or class; for a pattern, the text that it occurs in, as the engine has read it.
        matcher: For a pattern: the engine that found it, and knows where.
        hit: For a pattern: what that engine said.
        written: That text as it was written, of the same length, where the engine has read another script.
    """

    __slots__ = ("_hit", "_matcher", "_said", "_written", "depth", "layer", "rule")

    def __init__(
        self,
        rule: Rule,
        layer: str,
        depth: int,
        said: str,
        matcher: Matcher | None = None,
        hit: tuple[int, int] = (0, 0),
        written: str = "",
    ) -> None:
        self.rule = rule
        self.layer = layer
        self.depth = depth
        self._said = said
        self._matcher = matcher
        self._hit = hit
        self._written = written

    @property
    def matched(self) -> str:
        """The text or code that matched. To find it costs another scan, so only what is shown is asked."""
        if self._matcher is not None:
            found = self._matcher.matched(self._hit, self._said)
            at = self._said.find(found) if self._written else -1
            self._said = self._written[at : at + len(found)] if at >= 0 else found
            self._matcher = None
        return self._said

    def under(self, rule: Rule) -> Fact:
        """The same fact, meaning something else."""
        return Fact(rule, self.layer, self.depth, self._said, self._matcher, self._hit, self._written)


class Reading:
    """What was found in a chain of causes.

    Args:
        causes: The exception chain, outermost first.
        rulebook: What is known.
    """

    def __init__(self, causes: Sequence[Cause], rulebook: Rulebook) -> None:
        self._rulebook = rulebook
        self.facts: list[Fact] = []
        self.wait: float | None = None
        self.store = False
        for depth, cause in enumerate(causes):
            if rulebook.own_matcher is not None:
                self.facts.extend(_user_facts(depth, cause, rulebook, rulebook.own_matcher))
            self._structured(depth, cause)
            self._codes(depth, cause, self._said(depth, cause))
            self._class(depth, cause)

    def _structured(self, depth: int, cause: Cause) -> None:
        """`[DATA] ...` at the start of a message, or a category's word as the type in JSON details (G23)."""
        words = self._rulebook.words
        bracketed = _BRACKETED.match(cause.message) if cause.message.lstrip()[:1] in _BRACKETS else None
        for word in (bracketed[1] if bracketed else "", cause.type):
            rule = words.get(word.lower()) if word else None
            if rule is not None:
                self.facts.append(Fact(rule, "structured", depth, word))

    def _said(self, depth: int, cause: Cause) -> list[tuple[str, str]]:
        """Read the text: patterns become facts; return the codes that stand in it."""
        written = _text(cause, self._rulebook)
        text = simplified(written)
        codes = self._scan(depth, text, "" if text is written else written)
        if not any(fact.rule.rank >= _PLAIN for fact in self.facts):
            codes += self._scan(depth, _spelled_out(text))
        return codes

    def _scan(self, depth: int, text: str, written: str = "") -> list[tuple[str, str]]:
        """Scan a text once, sort what was found by what it is good for, and return the codes."""
        matcher, patterns = self._rulebook.matcher, self._rulebook.patterns
        codes: list[tuple[str, str]] = []
        for hit in matcher.hits(text):
            pattern = patterns[hit[0]]
            if pattern.rule is not None:
                self.facts.append(Fact(pattern.rule, "pattern", depth, text, matcher, hit, written))
            elif pattern.reads == "store":
                self.store = True
            elif pattern.reads == "wait":
                self._waits(_seconds(matcher.matched(hit, text)))
            else:
                codes.append((pattern.reads, _word(matcher.matched(hit, text), pattern.take)))
        return codes

    def _waits(self, seconds: float | None) -> None:
        if seconds is not None and (self.wait is None or seconds > self.wait):
            self.wait = seconds

    def _codes(self, depth: int, cause: Cause, said: Sequence[tuple[str, str]]) -> None:
        """Codes in attributes; codes in the text only where the exception itself carries none of that kind."""
        found = cause.codes
        if said:
            kinds = {kind for kind, _ in found}
            found = (*found, *(code for code in said if code[0] not in kinds))
        for kind, value in found:
            rule = code_rule(kind, value, self._rulebook.codes)
            if rule is not None:
                self.facts.append(Fact(rule, "code", depth, f"{kind} {value}"))

    def _class(self, depth: int, cause: Cause) -> None:
        """The first class of the MRO that is known: the most specific one."""
        classes = self._rulebook.classes
        for name in cause.bases or (cause.type,):
            rule = classes.get(name.removeprefix("builtins."))
            if rule is not None:
                self.facts.append(Fact(rule, "class", depth, name))
                return


def _text(cause: Cause, rulebook: Rulebook) -> str:
    """The text that patterns see: last part of the class name, then the message.

    Not the whole class path, whose package names mislead. No name where a table knows the class or a code that
    the exception carries: a word in a name must not overrule them. Not JSON details: the next cause holds what
    they say.
    """
    if ("details", "json") in cause.codes:
        return ""
    name = "" if _is_known(cause, rulebook) else last_part(cause.type)
    return f"{name}: {without_statement(cause.message)}"


def without_statement(message: str) -> str:
    """A message without the SQL statement that SQLAlchemy appends."""
    return message.partition(_STATEMENT)[0]


def last_part(name: str) -> str:
    r"""The last part of a class name: of `a.b.C`, Ruby's and C++'s `A::B::C`, PHP's `A\B\C`, Java's `a.B$C`."""
    for mark in ("::", "\\", "$"):
        if mark in name:
            name = name.replace(mark, ".")
    return name.rstrip(".").rpartition(".")[2]


def _is_known(cause: Cause, rulebook: Rulebook) -> bool:
    """True if the full class name, or a code in an attribute, already says what the name could."""
    name = cause.type
    if name in _NAMES_WITH_TEXT:
        return False
    if name in rulebook.classes and (cause.bases or "." in name):
        return True
    return any(code_rule(kind, value, rulebook.codes) for kind, value in cause.codes)


def _spelled_out(text: str) -> str:
    """The identifiers of a text as words, on a line of their own: `ZONE_NOT_SUPPORTED` -> `zone not supported`."""
    if "_" not in text and not _HUMP.search(text):  # most texts, and quicker to see
        return ""
    names = _IDENTIFIER.findall(text.partition(": ")[2])[:_IDENTIFIERS_LIMIT]
    return "\n" + ", ".join(_HUMP.sub(" ", name).replace("_", " ") for name in names) if names else ""


def _user_facts(depth: int, cause: Cause, rulebook: Rulebook, matcher: Matcher) -> Iterator[Fact]:
    # The message alone too: `^` means its beginning, whatever class of exception says it.
    texts = (cause.message, f"{cause.type}: {cause.message}") if cause.type else (cause.message,)
    seen: set[int] = set()
    for text in texts:
        for hit in matcher.hits(text):
            rule = rulebook.own_patterns[hit[0]].rule
            if rule is not None and hit[0] not in seen:
                seen.add(hit[0])
                yield Fact(rule, "user", depth, text, matcher, hit)


def code_rule(kind: str, value: str, codes: Mapping[tuple[str, str], Rule]) -> Rule | None:
    """The rule of the exact code, else of its class: SQLSTATE `08006` -> `08`, HTTP `599` -> `5`."""
    kind, value = code_key(kind, value)
    rule = codes.get((kind, value))
    for length in (2, 1):
        rule = rule or codes.get((kind, value[:length] + "*"))
    return rule


def _word(matched: str, take: int) -> str:
    words = _WORDS.findall(matched)
    return words[take] if words else matched


def _seconds(matched: str) -> float | None:
    """`try again in 1m30s` -> 90."""
    parts = _WAIT.findall(matched)
    return sum(float(number) * _UNIT_SECONDS[unit.lower()] for number, unit in parts) if parts else None
