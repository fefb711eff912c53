"""Secrets that are known by their shape: passwords in addresses, keys, private keys, cards, mail addresses."""

from __future__ import annotations

import base64
import binascii
import re

from regrow.capture.named import MARK, nothing, opaque

# A token that stands for a user is longer than the name of one, in characters.
_TOKEN_LENGTH = 16

# Keys that tell what they are by how they begin.
_PREFIXED = re.compile(
    r"""(?:(?<![A-Za-z0-9])|(?<=\\[nrt]))(?:
        (?P<keep1>AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])   # Source: AWS IAM, "Understanding unique ID prefixes"
      | (?P<keep2>gh[pousr]_)[A-Za-z0-9]{20,255}+         # Source: GitHub blog, 2021-04-05, token formats
      | (?P<keep3>github_pat_)[A-Za-z0-9_]{20,255}+       # Source: GitHub docs, fine-grained tokens
      | (?P<keep4>gl(?:pat|dt|rt|cbt|ptt|ft)-)[A-Za-z0-9_.\-]{16,300}+  # Source: GitLab docs, token prefixes
      | (?P<keep5>xox[abeoprs]-)[A-Za-z0-9\-]{8,300}+     # Source: Slack docs, token types
      | (?P<keep6>[sr]k_(?:live|test)_)[A-Za-z0-9]{8,255}+  # Source: Stripe docs, API keys
      | (?P<keep7>sk-)(?=[A-Za-z_\-]{0,80}[0-9])[A-Za-z0-9_\-]{20,300}+  # Source: OpenAI and Anthropic API keys
      | (?P<keep8>AIza)[A-Za-z0-9_\-]{35}                 # Source: Google Cloud docs, API keys
      | (?P<keep9>LTAI)[A-Za-z0-9]{12,30}(?![A-Za-z0-9])  # Source: Alibaba Cloud RAM, AccessKey ID
      | (?P<keep10>AKID)[A-Za-z0-9]{32}(?![A-Za-z0-9])    # Source: Tencent Cloud CAM, SecretId
      | (?P<keep11>eyJ)[A-Za-z0-9_\-]{10,8000}+(?:\.[A-Za-z0-9_\-]{0,8000}+){0,6}+  # Source: RFC 7519; `{"` in base64
    )""",
    re.VERBOSE,
)
# Source: RFC 7468. Without its end, what follows as long as it is base64; and the lines before an end without a start.
_PEM = re.compile(
    r"""(?P<begin>-----BEGIN[ ][A-Z0-9 ]{0,40}PRIVATE[ ]KEY(?:[ ]BLOCK)?-----)
        (?: (?:[^-]|-(?!----)){1,16000}+(?=-----END)
          | (?:(?:\s|\\{1,7}[nr]){0,8}+[A-Za-z0-9+/=]{20,200}+){1,400}+ )
      | (?<![A-Za-z0-9+/=])(?:[A-Za-z0-9+/=]{20,200}+(?:\s|\\{1,7}[nr]){1,8}+){1,60}+
        (?:[A-Za-z0-9+/=]{1,76}+(?:\s|\\{1,7}[nr]){0,8}+)?(?=-----END[ ][A-Z0-9 ]{0,40}PRIVATE)
    """,
    re.VERBOSE,
)
# What may stand in an address after `://`.
_ADDRESS = re.compile(r"""(?:[^\s"'`<>\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]|["'](?=\w))*+""")
_AUTHORITY = re.compile(r"[^/?#]*")
_PORT = re.compile(r"\d{1,5}[/?#]")
_BEARER = re.compile(r"(?P<scheme>Bearer|Basic)[ ]{1,4}(?P<value>[A-Za-z0-9._~+/\-]{6,8000}+={0,2})", re.IGNORECASE)
# Runs of digits, whole or in the groups that cards have. Source: ISO/IEC 7812-1; the groups are how cards are printed.
_DIGITS = re.compile(
    r"(?:(?<![A-Za-z0-9_])|(?<=\\[nrt]))(?<!\d\.)"
    r"(?:\d{13,19}|\d{4}([ \-])\d{4}\1\d{4}\1\d{4}(?:\1\d{1,3})?|\d{4}([ \-])\d{6}\2\d{4,5}"
    r"|\d{6}[ \-]\d{13})(?![A-Za-z0-9_])"
)
# Issuers, with the lengths of their numbers. Source: en.wikipedia.org/wiki/Payment_card_number, after ISO/IEC 7812.
_ISSUED = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})"  # Visa
    r"|(?:5[1-5]|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d*(?<=^\d{16})"  # Mastercard
    r"|3[47]\d{13}"  # American Express
    r"|(?:62|81)\d{14,17}"  # UnionPay
    r"|(?:6011|64[4-9]\d|65\d\d)\d{12,15}"  # Discover
    r"|35(?:2[89]|[3-8]\d)\d{12,15}"  # JCB
    r"|3(?:0[0-5]|095|[689]\d)\d{11}"  # Diners Club
    r"|(?:5018|5020|5038|5893|6304|6759|676[1-3]|220[0-4]|9792)\d{12}"  # Maestro, Mir, Troy
)
_MAIL = re.compile(
    r"(?<![A-Za-z0-9_.+\-])[A-Za-z0-9_.+\-]{1,64}+(?=@[A-Za-z0-9\-]{1,63}\.[A-Za-z0-9])"  # Source: RFC 5321 4.5.3.1
)


def hide_private_keys(text: str) -> str:
    """`text` with the body of every PEM private key replaced."""
    return _PEM.sub(lambda match: (match["begin"] or "") + MARK, text)


def hide_keys(text: str) -> str:
    """`text` with every key replaced that is known by its beginning; the beginning stays."""
    return _PREFIXED.sub(lambda match: f"{match[match.lastgroup or 0]}{MARK}", text)


def hide_cards(text: str) -> str:
    """`text` with every payment card number replaced, but for its last four digits."""
    return _DIGITS.sub(_card, text)


def hide_bearers(text: str) -> str:
    """`text` with the credentials behind `Bearer` and `Basic` replaced."""
    return _BEARER.sub(_bearer, text)


def hide_mailboxes(text: str) -> str:
    """`text` with what stands before the `@` of every mail address replaced."""
    return _MAIL.sub(MARK, text)


def _card(match: re.Match[str]) -> str:
    digits = match[0].replace(" ", "").replace("-", "")
    return f"{MARK}{digits[-4:]}" if _ISSUED.fullmatch(digits) and _luhn(digits) else match[0]


def _luhn(digits: str) -> bool:
    # Source: ISO/IEC 7812-1, annex B.
    odd, even = digits[-1::-2], digits[-2::-2]
    return (sum(map(int, odd)) + sum(sum(divmod(2 * int(one), 10)) for one in even)) % 10 == 0


def _bearer(match: re.Match[str]) -> str:
    value = match["value"]
    secret = opaque(value) if match["scheme"].lower() == "bearer" else _is_basic(value)
    return f"{match[0][: -len(value)]}{MARK}" if secret else match[0]


def _is_basic(value: str) -> bool:
    """True for `user:password` in base64 (RFC 7617)."""
    try:
        return b":" in base64.b64decode(value + "=" * (-len(value) % 4), validate=True)
    except (binascii.Error, ValueError):
        return False


def hide_passwords(text: str) -> str:
    """`text` with the passwords in its addresses replaced: `scheme://user:***@host`."""
    kept: list[str] = []
    done, at = 0, text.find("://")
    while at >= 0:
        start = at + 3
        at = text.find("://", start)
        match = _ADDRESS.match(text, start, len(text) if at < 0 else at)
        chunk = match[0] if match else ""
        begin, end = _password(chunk, web=text.startswith("http", max(0, start - 8)))
        if begin < end:
            kept += (text[done : start + begin], MARK)
            done = start + end
    return "".join((*kept, text[done:])) if kept else text


def _password(address: str, *, web: bool) -> tuple[int, int]:
    """Where the password stands in what follows `://`; an empty range if there is none.

    A password may hold `@`, `/` or `#` that ought to be encoded; the path of a web address may hold an `@`.
    """
    if "@" not in address or address.startswith("["):
        return 0, 0
    authority = _AUTHORITY.match(address)
    host = authority.end() if authority else 0
    at = address.rfind("@", 0, host) if web else address.rfind("@")
    at = address.find("@") if at < 0 else at
    user, colon, password = address[:at].partition(":")
    if any(one in user for one in "/?#"):
        return 0, 0
    if not colon:  # a token in the user's place
        return (0, at) if at >= _TOKEN_LENGTH and opaque(user) else (0, 0)
    if nothing(password) or _PORT.match(password):
        return 0, 0
    return len(user) + 1, at
