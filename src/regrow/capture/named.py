"""Secrets that stand beside their name: `password=...`, `"api_key": "..."`, `Authorization: Bearer ...`, `密码：...`.

A value is only taken where it looks like one: `Invalid token: unexpected end of input` is a diagnosis and stays. Each
expression is bounded or possessive, and each value is read once, so that no text takes more than linear time.
"""

from __future__ import annotations

import re

#: Stands where a secret was.
MARK = "***"

#: Last parts of names whose value is a secret; written small, without `_`, `-`, `.`, spaces and digits at the end.
#: Source: own, from the parameter names of PEP 249 drivers, cloud SDKs, OAuth 2 (RFC 6749) and HTTP (RFC 9110).
SECRET_NAMES = (
    *("password", "passwd", "passphrase", "passcode", "passwordhash", "pwd", "secret", "token", "cvv", "cvc"),
    *("apikey", "accesskey", "accesskeyid", "accountkey", "authkey", "encryptionkey", "masterkey", "privatekey"),
    *("secretkey", "sharedkey", "signingkey", "credential", "credentials", "authorization", "cookie"),
    *("密码", "密碼", "口令", "密钥", "密鑰", "私钥", "令牌", "凭证", "凭据", "验证码"),
)
#: Names that often stand before something harmless: only a value that is no word is taken.
DOUBTFUL_NAMES = ("session", "sessionid", "sessid", "sessionkey", "signature", "jwt", "会话", "签名")
#: The same as whole parts of a name: `db_pass`, but not `bypass`; `&sig=`, but not `config_key`.
_SECRET_PARTS = frozenset({"pass", "pw"})
_DOUBTFUL_PARTS = frozenset({"sid", "sig", "auth"})
SHORT_NAMES = ("pass", "pw", "sid", "sig", "auth")
# `api key: ...`
_BEFORE_KEY = re.compile(r"(?:api|access|secret|private|auth|account|encryption)[ ]$", re.IGNORECASE)

_NAMED = re.compile(
    r"""
    (?P<name>[A-Za-z0-9_.\-\u4e00-\u9fff]{2,80}+)
    (?: (?P<column>\)=\()  # Source: PostgreSQL, `Key (%s)=(%s) already exists.`
      | (?:\\{0,7}+["'`])?+ [ \t]{0,8}+ (?P<sep>=>|==|:=|=|:(?!//)|：) [ \t]{0,8}+
        (?:[\[(]{1,2}(?=\\{0,7}["']))?+ (?P<open>(?:[bBuU](?=["']))?+\\{0,7}+["'“‘「])?+
    )
    """,
    re.VERBOSE,
)
# The name of an option and the word after it, as a command line or the list of its words. Source: subprocess.py,
# `Command '%s' returned non-zero exit status`.
_OPTION = re.compile(
    r"--(?P<name>[A-Za-z][\w\-]{1,40}+)(?:[\"'],[ ]{0,2}(?P<quote>[\"'])|[ ]{1,2})(?=[^\s\-\"'])", re.ASCII
)
# What ends an unquoted value: space, Chinese, a quote, bracket or comma that nothing follows which could belong to it.
_VALUE = re.compile(
    r"""(?:
        [^\s"'`,;&)\]}>\\\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]
      | \\(?!r\\n)  # the line's end in a text that is quoted
      | ["'`](?=\w)
      | [)\]}>](?![\s)\]}>,;:'"]|$)
      | [,;&](?![\s"']|[\w.\-]{1,40}+["']?[=:]|$)
    )*+""",
    re.VERBOSE,
)
_CLOSING = {"“": "”", "‘": "’", "「": "」"}
_ENDS = {quote: re.compile(rf"(?<!\\)(\\*+){quote}|\n") for quote in "\"'”’」"}
_LINE = re.compile(r"[^\r\n]*+")
_COLUMN = re.compile(r"[^)\r\n]*+")
# Source: RFC 6265 section 4.2.1.
_COOKIE = re.compile(r"""[^\s=;,"']{1,80}+=(?:[^\s;"'\\]|\\(?!r\\n))*+(?:;[ ]?)?+|(?:HttpOnly|Secure);?[ ]?""")
# Source: the IANA registry of HTTP authentication schemes. The second group has parameters up to the end of the line.
_SCHEME = re.compile(
    r"(?:Bearer|Basic|Token|Negotiate|NTLM|ApiKey|JWT|(?P<parameters>Digest|OAuth|Hawk|HMAC|AWS4-HMAC-SHA256))[ ]{1,4}",
    re.IGNORECASE,
)
# Placeholders and absent values say what is wrong and hide nothing.
_NOTHING = re.compile(
    r"|none|null|nil|undefined|true|false|\*+|<[a-z _\-]{0,40}>|%s|%\([a-z_]\w{0,60}\)s|\$\{\w{1,60}\}"
    r"|\{\{?[ ]?[a-z_][\w.]{0,60}[ ]?\}?\}|arn:aws[\w:/.*\-]{0,200}",
    re.IGNORECASE,
)
_DOTTED = re.compile(r"(?:[A-Za-z_]{1,40}\.){1,4}([A-Za-z_]{1,40})")
# Words that say what is wrong with a secret, or of what type it is.
_DIAGNOSES = frozenset(
    (
        *("a", "an", "and", "argument", "bad", "blank", "bytes", "cannot", "changed", "denied", "dict", "disabled"),
        *("empty", "error", "expected", "expired", "failed", "failure", "field", "forbidden", "incorrect", "int"),
        *("invalid", "is", "list", "malformed", "mismatch", "missing", "must", "no", "not", "ok", "option", "optional"),
        *(
            "or",
            "rejected",
            "required",
            "requires",
            "reset",
            "revoked",
            "should",
            "str",
            "string",
            "the",
            "unauthorized",
        ),
        *("unexpected", "unknown", "unset", "value", "wrong"),
    )
)
_BLAMED = re.compile(
    r"(?:invalid|unexpected|bad|illegal|unknown|expected|wrong|unrecognized|malformed|expired|missing|required|such)"
    r"[ ](?:[A-Za-z]{1,12}[ ])?$",
    re.IGNORECASE,
)
_PROSE = re.compile(r"[,;]?[ \t]{1,4}[A-Za-z][\w\-]{0,40}+(?![\"']?[ \t]?[=:])")
_SENTENCE = re.compile(r"[A-Z][a-z]+(?:[ ][\w'\-]{1,40}){2,20}\.")
_WORD = re.compile(r"[A-Za-z][A-Za-z'\-]{0,40}")
_CHINESE = re.compile(r"[\s\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]{1,200}")
# Lengths in characters: of the shortest value that can be told from a word, of one that is longer than any word, and of
# the shortest that is taken behind a colon.
_OPAQUE_LENGTH = 6
_LONG = 32
_SHORTEST = 3
_ASSIGNS = ("=", ":=", "=>")
_BRACKETS = ("{", "[", "(")
# Behind a bracket: the list or object begins.
_OPENS = (*_BRACKETS, '"', "'", "\\")
_PARTS = re.compile(r"[_.\-]")
_PLAIN_NAME = str.maketrans("", "", "_-. ")


def normal(name: str) -> str:
    """A name as it is compared: `X-Api-Key2` is `xapikey`."""
    return name.lower().translate(_PLAIN_NAME).rstrip("0123456789")


def opaque(value: str) -> bool:
    """True if a value is no word of a language: letters and digits mixed, odd characters, or very long."""
    if len(value) < _OPAQUE_LENGTH:
        return False
    letters = any("a" <= one <= "z" for one in value.lower())
    digits = any("0" <= one <= "9" for one in value)
    return (letters and digits) or len(value) >= _LONG or any(one in "!#$%^&+~@" for one in value)


def nothing(value: str) -> bool:
    """True if there is no secret in a value: it is absent, a placeholder, or hidden already."""
    return _NOTHING.fullmatch(value) is not None


def is_named(name: str, names: tuple[str, ...]) -> bool:
    """True if the value beside this name is a secret.

    Args:
        name: The name, as it is written.
        names: Endings of secret names, as `normal` writes them.
    """
    return normal(name).endswith(names) or _part(name) in _SECRET_PARTS


def hide_named(text: str, names: tuple[str, ...]) -> str:
    """`text` with the value of every secret name replaced by MARK.

    Args:
        text: Any text.
        names: Endings of secret names, as `normal` writes them.
    """
    text = _hide(text, _NAMED, names)
    return _hide(text, _OPTION, names) if "--" in text else text


def _hide(text: str, expression: re.Pattern[str], names: tuple[str, ...]) -> str:
    kept: list[str] = []
    done = at = 0
    while match := expression.search(text, at):
        start, end = _secret(text, match, names)
        at = match.end()
        if start < end:
            kept += (text[done:start], MARK)
            done = at = end
    return "".join((*kept, text[done:])) if kept else text


def _secret(text: str, match: re.Match[str], names: tuple[str, ...]) -> tuple[int, int]:
    """Where the secret beside a name begins and ends; an empty range if there is none."""
    name, given, start = match["name"], match.groupdict(), match.end()
    plain = normal(name)
    sure = is_named(name, names) or (
        plain == "key" and bool(_BEFORE_KEY.search(text, match.start() - 12, match.start()))
    )
    if not sure and not plain.endswith(DOUBTFUL_NAMES) and _part(name) not in _DOUBTFUL_PARTS:
        return 0, 0
    sure = sure and not _BLAMED.search(text, match.start() - 30, match.start())
    quote = given.get("open") or given.get("quote") or ""
    scheme = _SCHEME.match(text, start) if plain.endswith("authorization") else None
    if scheme:
        start = scheme.end()
    whole = bool(given.get("column"))
    if whole:
        end = _reach(_COLUMN, text, start)
    elif quote:
        end = _closing(text, start, quote)
    elif scheme and scheme["parameters"]:
        end, whole = _reach(_LINE, text, start), True
    elif plain.endswith("cookie") and (cookies := _cookies(text, start)) > start:
        end, whole = cookies, True
    else:
        # Code is not read here: the names in it are found later, and each time it may be as long as the text.
        reach = start if sure and _is_code(text, start, given.get("sep")) else _reach(_VALUE, text, start)
        end = start + len(text[start:reach].rstrip(".,:;\\"))
    value = text[start:end]
    if nothing(value) or _CHINESE.fullmatch(value):
        secret = False
    elif whole:
        secret = True
    elif not sure:
        secret = opaque(value)
    elif quote:
        secret = not _SENTENCE.fullmatch(value)
    else:
        secret = _bare(text, end, value, given.get("sep"), names)
    return (start, end) if secret else (0, 0)


def _bare(text: str, end: int, value: str, sep: str | None, names: tuple[str, ...]) -> bool:
    """True if an unquoted value beside a secret name is a secret, not code and not the rest of a sentence."""
    code = _DOTTED.fullmatch(value)
    if (code and is_named(code[1], names)) or value in _BRACKETS:
        return False
    if sep in _ASSIGNS:
        return True
    if value.lower() in _DIAGNOSES or len(value) < _SHORTEST:
        return False
    # The words after an option of a command are its other arguments.
    prose = sep is not None and _PROSE.match(text, end)
    return opaque(value) or not prose


def _is_code(text: str, start: int, sep: str | None) -> bool:
    """True if an unquoted value is compared, or opens a list or an object."""
    opens = text[start : start + 1] in _BRACKETS
    return sep == "==" or (opens and (sep not in _ASSIGNS or text[start + 1 : start + 2] in _OPENS))


def _part(name: str) -> str:
    return _PARTS.split(name.lower().rstrip("0123456789"))[-1]


def _reach(expression: re.Pattern[str], text: str, start: int) -> int:
    match = expression.match(text, start)
    return match.end() if match else start


def _cookies(text: str, start: int) -> int:
    while (end := _reach(_COOKIE, text, start)) > start:
        start = end
    return start


def _closing(text: str, start: int, quote: str) -> int:
    """Where a quoted value ends: at a quote with no more backslashes than its opening one has, or with the line."""
    mark = quote[-1]
    for found in _ENDS[_CLOSING.get(mark, mark)].finditer(text, start):
        slashes = found[1]
        inside_word = mark == "'" and text[found.end() : found.end() + 1].isalnum()
        if slashes is None or (len(slashes) < len(quote) and not inside_word):
            return found.start()
    return len(text)
