"""Secrets and personal data out of what is stored: the texts of a failure, not the call that is sent again.

Most failures hold nothing of the kind, so a quick look comes first; it may be wrong only by looking twice.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from regrow.capture import shapes
from regrow.capture.clean import TAIL_LIMIT, TEXT_LIMIT
from regrow.capture.fingerprint import fingerprint
from regrow.capture.named import DOUBTFUL_NAMES, MARK, SECRET_NAMES, SHORT_NAMES, hide_named, is_named, normal, nothing
from regrow.model import Cause, Failure

#: What is replaced may bring other things to light; after so many rounds it does not any more.
_ROUNDS = 4
_NESTING_LIMIT = 40
_CUT = re.compile(r"""[^\s"',;&{}()\[\]\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]*""")

# The quick look. Names come together in one table: small letters, `=` for what separates, `0` for any digit, without
# what may stand between. Beginnings of keys in another: only the characters that tell them apart.
_NAMES_TABLE = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ:123456789", b"abcdefghijklmnopqrstuvwxyz=000000000")
_BETWEEN = b" \t_-.\\\"'`)"
_BEGINNINGS = b"AKIDSLTzJyghskxo_-"
_NOT_BEGINNINGS = bytes(set(range(256)) - set(_BEGINNINGS))
_REDUCED = (b"AKI", b"ASI", b"AIz", b"LTAI", b"yJ", b"gh_", b"gho_", b"ghs_", b"g-", b"xox", b"k__", b"k_s_", b"sk-")


@dataclass(frozen=True, slots=True)
class Redaction:
    """What is taken out of a text before it is stored.

    Passwords in addresses, values beside secret names, keys known by their beginning, private keys and card numbers go
    always.

    Args:
        keys: Further names whose values are secret; a longer name that ends like one of them counts too.
        emails: True: mail addresses lose what stands before the `@`.
    """

    keys: tuple[str, ...] = ()
    emails: bool = False

    def text(self, text: str) -> str:
        """`text` without secrets; the same text if there are none. Redacting it again changes nothing.

        Args:
            text: Any text; time grows with its length alone.
        """
        names, endings = _names(self.keys)
        for _ in range(_ROUNDS):
            before, text = text, self._round(text, names, endings)
            if text == before:
                break
        return text

    def _round(self, text: str, names: tuple[str, ...], endings: tuple[bytes, ...]) -> str:
        whole = text.isascii()
        raw = (text if whole else text.replace("：", ":")).encode("utf-8", "replace")
        plain = raw.translate(_NAMES_TABLE, _BETWEEN)
        reduced = raw.translate(None, _NOT_BEGINNINGS)
        dashes = b"--" in reduced and "--" in text
        if dashes and b"privatekey" in plain:
            text = shapes.hide_private_keys(text)
        # Lists: a generator costs more than what it saves here.
        if any([beginning in reduced for beginning in _REDUCED]):  # noqa: C419
            text = shapes.hide_keys(text)
        if "@" in text:
            text = shapes.hide_passwords(text)
            if self.emails:
                text = shapes.hide_mailboxes(text)
        if b"0000000000000" in plain:
            text = shapes.hide_cards(text)
        if b"bearer" in plain or b"basic" in plain:
            text = shapes.hide_bearers(text)
        if dashes or any([piece.rstrip(b"0").endswith(endings) for piece in plain.split(b"=")[:-1]]):  # noqa: C419
            text = hide_named(text, names)
        return text

    def causes(self, causes: tuple[Cause, ...]) -> tuple[Cause, ...]:
        """Causes without secrets in their messages."""
        texts = [self.text(_mended(cause.message)) for cause in causes]
        if all(text == cause.message for text, cause in zip(texts, causes, strict=True)):
            return causes
        return tuple(replace(cause, message=text) for cause, text in zip(causes, texts, strict=True))

    def json(self, text: str) -> str:
        """JSON text without secrets in its strings, nor beside a secret key; the same text if there are none."""
        try:
            found = json.loads(text)
            shown = self._value(found, "", 0)
            return text if shown == found else json.dumps(shown)
        except (ValueError, RecursionError):  # no JSON, or too deep
            return self.text(text)

    def _value(self, value: Any, key: str, depth: int) -> Any:
        if depth > _NESTING_LIMIT:
            return MARK
        if isinstance(value, dict):
            return {self.text(name): self._value(one, name, depth + 1) for name, one in value.items()}
        if isinstance(value, list):
            return [self._value(one, key, depth + 1) for one in value]
        if isinstance(value, bool) or value is None:
            return value
        said = value if isinstance(value, str) else str(value)
        if key and is_named(key, _names(self.keys)[0]):
            return value if nothing(said) else MARK
        shown = self.text(said)
        return value if shown == said else shown

    def failure(self, failure: Failure) -> Failure:
        """The failure without secrets in its texts. The call that is sent again stays exact."""
        causes, trace = self.causes(failure.causes), self.text(failure.traceback)
        error = self.json(failure.error)
        if (causes, trace, error) == (failure.causes, failure.traceback, failure.error):
            return failure
        # Made of the texts, it is made again; what somebody else grouped by stays.
        ours = failure.fingerprint == fingerprint(failure.causes, failure.traceback)
        shape = fingerprint(causes, trace) if ours else failure.fingerprint
        return replace(failure, causes=causes, traceback=trace, error=error, fingerprint=shape)


@lru_cache(maxsize=16)
def _names(keys: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[bytes, ...]]:
    """Endings of secret names, and those which the quick look searches."""
    names = (*SECRET_NAMES, *filter(None, map(normal, keys)))
    return names, tuple(name.encode("utf-8", "replace") for name in (*names, *DOUBTFUL_NAMES, *SHORT_NAMES))


def _mended(message: str) -> str:
    """A message that was cut, without the piece of a word behind the cut: its name may be gone, and it a secret."""
    at = TEXT_LIMIT - TAIL_LIMIT
    if len(message) != TEXT_LIMIT or message[at - 3 : at] != "...":
        return message
    match = _CUT.match(message, at)
    return message[:at] + message[match.end() if match else at :]
