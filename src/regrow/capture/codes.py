"""Machine-readable facts that an exception carries in its attributes; no library is imported to read them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime

from regrow.capture.clean import NAME_LIMIT, call, clean, read, text_of

Code = tuple[str, str]

_SQLSTATE = re.compile(r"[0-9A-Z]{5}")
# Vendors' word codes: `card_declined`, `insufficient_quota`, `isv.BUSINESS_LIMIT_CONTROL`.
_WORD = re.compile(r"[A-Za-z][\w.\-]{2,63}")
_SITE = re.compile(r"(?:site|dist)-packages[\\/](\w+)")
# Source: RFC 9110 section 5.6.7, IMF-fixdate.
_HTTP_DATE = re.compile(r"\w{3}, (\d{2}) (\w{3}) (\d{4}) (\d{2}):(\d{2}):(\d{2}) GMT")
# Source: RFC 9110 sections 15.5 and 15.6.
_HTTP_FAILURES = range(400, 600)
# Longer than any wait that is meant, in seconds.
_WAIT_LIMIT = 1e9
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

# Source: PEP 249 drivers; the first argument of their errors is the server's number.
_MYSQL = ("pymysql.", "MySQLdb.", "mysql.connector.", "aiomysql.", "asyncmy.", "mariadb.")
# OSErrors whose errno is not the operating system's: OpenSSL's and the resolver's own numbers.
_FOREIGN_ERRNO = ("ssl.SSLError", "socket.gaierror", "socket.herror", "smtplib.SMTPException")


def codes_of(exc: BaseException, bases: tuple[str, ...]) -> tuple[Code, ...]:
    """Every code the exception carries, as (kind, value).

    Args:
        exc: The exception.
        bases: Dotted names of its MRO.
    """
    found: dict[Code, None] = {}
    for reader in (_database, _system, _http, _services):
        for kind, value in reader(exc, bases):
            found[kind, clean(value, NAME_LIMIT)] = None
    return tuple(found)


def package_of_file(path: object) -> str:
    """The installed package that a source file belongs to, '' for any other file."""
    match = _SITE.search(path) if isinstance(path, str) else None
    return match[1] if match else ""


def retry_after_of(exc: BaseException) -> float | None:
    """How many seconds the other side asked us to wait: from its header, or the library's own attribute."""
    for holder in (read(exc, "response"), exc):
        headers = read(holder, "headers")
        if headers is None:
            continue
        seconds = _header_seconds(_header(headers, "retry-after"), _header(headers, "date"))
        if seconds is not None:
            return seconds
    own = read(exc, "retry_after")
    return float(own) if _is_number(own) and 0 <= own < _WAIT_LIMIT else None  # type: ignore[operator, arg-type]


def _database(exc: BaseException, bases: tuple[str, ...]) -> Iterator[Code]:
    args = _args(exc)
    driver = bases[0] if bases else ""
    for name in ("sqlstate", "pgcode"):
        state = read(exc, name)
        if isinstance(state, str) and _SQLSTATE.fullmatch(state):
            yield "sqlstate", state
    if driver.startswith("pyodbc.") and args and isinstance(args[0], str) and _SQLSTATE.fullmatch(args[0]):
        yield "sqlstate", args[0]
    if driver.startswith(_MYSQL) and args and _is_int(args[0]):
        yield "mysql", str(args[0])
    constant = read(exc, "sqlite_errorname")
    if isinstance(constant, str):
        yield "sqlite", constant
    if driver.startswith(("oracledb.", "cx_Oracle.")) and args and _is_int(read(args[0], "code")):
        yield "oracle", str(read(args[0], "code"))
    if driver.startswith("pymongo.") and _is_int(read(exc, "code")):
        yield "mongo", str(read(exc, "code"))


def _system(exc: BaseException, bases: tuple[str, ...]) -> Iterator[Code]:
    number, windows = read(exc, "errno"), read(exc, "winerror")
    if "OSError" in bases and _is_int(windows):
        yield "winerror", str(windows)
    elif "OSError" in bases and _is_int(number):
        if "socket.gaierror" in bases:
            yield "gai", str(number)
        elif number > 0 and not any(name in bases for name in _FOREIGN_ERRNO):  # type: ignore[operator]
            yield "errno", str(number)
    reason = read(exc, "reason")
    if "ssl.SSLError" in bases and isinstance(reason, str):
        yield "ssl", reason
    status = read(exc, "returncode")
    if _is_int(status) and status:
        yield "exit", str(status)


def _http(exc: BaseException, bases: tuple[str, ...]) -> Iterator[Code]:
    response = read(exc, "response")
    candidates = [
        read(response, "status_code"),
        read(response, "status"),
        read(exc, "status_code"),
        read(exc, "status"),
        read(exc, "http_status"),
        read(read(exc, "resp"), "status"),
    ]
    if any("http" in name.lower() or name.startswith("google.api_core.") for name in bases):
        candidates.append(read(exc, "code"))
    for status in candidates:
        # An int subclass such as HTTPStatus is welcome; text, as googleapiclient has it, is not a number of ours.
        if isinstance(status, int) and not isinstance(status, bool) and status in _HTTP_FAILURES:
            yield "http", str(int(status))
            return


def _services(exc: BaseException, bases: tuple[str, ...]) -> Iterator[Code]:
    code = read(exc, "code")
    if callable(code) and any("grpc" in name.lower() or "Rpc" in name for name in bases):
        name = read(call(code), "name")
        if isinstance(name, str):
            yield "grpc", name
    response = read(exc, "response")
    if isinstance(response, dict):
        error, meta = response.get("Error"), response.get("ResponseMetadata")
        if isinstance(error, dict) and isinstance(error.get("Code"), str):
            yield "word", error["Code"]
        if isinstance(meta, dict) and _is_int(meta.get("HTTPStatusCode")) and meta["HTTPStatusCode"] in _HTTP_FAILURES:
            yield "http", str(meta["HTTPStatusCode"])
    for attribute in ("code", "error_code", "errcode", "error"):
        word = read(exc, attribute)
        if isinstance(word, str) and _WORD.fullmatch(word):
            yield "word", word
    if bases and bases[0].startswith(("amqp.", "pika.", "aiormq.")) and _is_int(read(exc, "reply_code")):
        yield "amqp", str(read(exc, "reply_code"))
    yield from _smtp(exc)


def _smtp(exc: BaseException) -> Iterator[Code]:
    number = read(exc, "smtp_code")
    if _is_int(number):
        yield "smtp", str(number)
    recipients = read(exc, "recipients")
    if isinstance(recipients, dict):
        for answer in list(recipients.values())[:1]:
            if isinstance(answer, tuple) and answer and _is_int(answer[0]):
                yield "smtp", str(answer[0])


def _args(exc: BaseException) -> tuple[object, ...]:
    args = read(exc, "args")
    return args if type(args) is tuple else ()


def _is_int(thing: object) -> bool:
    return type(thing) is int


def _is_number(thing: object) -> bool:
    return type(thing) in (int, float)


def _header(headers: object, name: str) -> str:
    """A header's value whatever its case and the mapping's type, '' if there is none."""
    for spelling in (name.title(), name):
        value = call(read(headers, "get"), spelling)
        if isinstance(value, (str, int)) and not isinstance(value, bool):
            return text_of(value, NAME_LIMIT).strip()
    return ""


def _header_seconds(after: str, date: str) -> float | None:
    """Seconds from Retry-After; a date counts from the response's own Date, for a pure stage has no clock."""
    if re.fullmatch(r"\d{1,9}(\.\d{1,6})?", after):
        return float(after)
    until, since = _http_date(after), _http_date(date)
    return max(0.0, (until - since).total_seconds()) if until and since else None


def _http_date(text: str) -> datetime | None:
    # Not strptime: `%a` and `%b` follow the locale that the application has set.
    match = _HTTP_DATE.fullmatch(text)
    if match is None or match[2] not in _MONTHS:
        return None
    numbers = (int(match[3]), _MONTHS.index(match[2]) + 1, *(int(match[i]) for i in (1, 4, 5, 6)))
    moment = call(datetime, *numbers)
    return moment if isinstance(moment, datetime) else None
