"""What exceptions and texts say, reduced to causes."""

from __future__ import annotations

import errno
import socket
import sqlite3
import ssl
import traceback
import urllib.error
from email.message import Message
from types import SimpleNamespace
from typing import Any

import pytest

from regrow.capture import causes_from_exception, causes_from_text, display, fingerprint
from regrow.capture.clean import TEXT_LIMIT


class Odd(Exception):
    """An exception with whatever attributes a test gives it."""

    def __init__(self, *args: object, **attributes: Any) -> None:
        super().__init__(*args)
        self.__dict__.update(attributes)


def raised(function: Any) -> BaseException:
    try:
        function()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def test_follows_cause_before_context_outermost_first() -> None:
    """The chain is what `raise ... from` says, from the outside in."""

    def fail() -> None:
        try:
            {}["x"]
        except KeyError as error:
            raise ValueError("outer") from error

    assert [cause.type for cause in causes_from_exception(raised(fail))] == ["ValueError", "KeyError"]


def test_a_suppressed_context_stays_out() -> None:
    """`raise ... from None` means what it says."""

    def fail() -> None:
        try:
            {}["x"]
        except KeyError:
            raise ValueError("outer") from None

    assert [cause.type for cause in causes_from_exception(raised(fail))] == ["ValueError"]


def test_finds_wrapped_exceptions() -> None:
    """`orig`, `reason`, exceptions in args and members of a group are causes too."""
    wrapped = Odd("a", orig=OSError(111, "no"))
    assert [c.type for c in causes_from_exception(wrapped)][1] == "ConnectionRefusedError"
    inside = Odd(Odd("max", reason=TimeoutError()))
    assert [c.type for c in causes_from_exception(inside)][-1] == "TimeoutError"
    group = ExceptionGroup("g", [ValueError("1"), KeyError("2")])
    assert [c.type for c in causes_from_exception(group)] == ["ExceptionGroup", "ValueError", "KeyError"]


def test_a_circle_ends() -> None:
    """Exceptions that cause each other are each told once."""
    one, two = ValueError("1"), KeyError("2")
    one.__cause__, two.__cause__ = two, one
    assert len(causes_from_exception(one)) == 2


def test_names_are_whole_and_builtins_are_bare() -> None:
    """Names are as tracebacks print them, with the whole MRO."""
    [cause] = causes_from_exception(socket.gaierror(-2, "x"))
    assert (cause.type, cause.bases) == ("socket.gaierror", ("socket.gaierror", "OSError", "Exception"))


def headers(**values: str) -> Message:
    message = Message()
    for name, value in values.items():
        message[name.replace("_", "-")] = value
    return message


@pytest.mark.parametrize(
    ("exc", "code"),
    [
        (OSError(errno.ENOSPC, "x"), ("errno", "28")),
        (socket.gaierror(-3, "x"), ("gai", "-3")),
        (Odd(sqlstate="40P01"), ("sqlstate", "40P01")),
        (Odd(pgcode="23505"), ("sqlstate", "23505")),
        (Odd(response=SimpleNamespace(status_code=429)), ("http", "429")),
        (Odd(status_code=503), ("http", "503")),
        (urllib.error.HTTPError("u", 502, "m", headers(), None), ("http", "502")),
        (
            Odd(response={"Error": {"Code": "SlowDown"}, "ResponseMetadata": {"HTTPStatusCode": 503}}),
            ("word", "SlowDown"),
        ),
        (Odd(code="card_declined"), ("word", "card_declined")),
        (Odd(returncode=-9), ("exit", "-9")),
        (type("OperationalError", (Exception,), {"__module__": "pymysql.err"})(1213, "x"), ("mysql", "1213")),
        (
            type("NotFound", (Exception,), {"__module__": "amqp.exceptions", "reply_code": 404})(),
            ("amqp", "404"),
        ),
        (
            type(
                "RpcError",
                (Exception,),
                {"__module__": "grpc", "code": lambda self: SimpleNamespace(name="UNAVAILABLE")},
            )(),
            ("grpc", "UNAVAILABLE"),
        ),
        (
            raised(
                lambda: (sqlite3.connect(":memory:").execute("CREATE TABLE t (a INT NOT NULL); ") and None) or 1 / 0
            ),
            None,
        ),
    ],
)
def test_reads_codes_from_attributes(exc: BaseException, code: tuple[str, str] | None) -> None:
    """Each library's machine-readable fact is found without importing the library."""
    found = causes_from_exception(exc)[0].codes
    assert code in found if code else found == ()


def test_foreign_numbers_are_no_errno() -> None:
    """OpenSSL's error number 1 is not EPERM, and a status below 400 is no failure."""
    assert causes_from_exception(ssl.SSLError(1, "x"))[0].codes == ()
    assert causes_from_exception(Odd(response=SimpleNamespace(status_code=200)))[0].codes == ()


@pytest.mark.parametrize(
    ("sent", "seconds"),
    [
        (headers(Retry_After="30"), 30.0),
        ({"retry-after": "1.5"}, 1.5),
        (headers(Retry_After="Wed, 21 Oct 2015 07:28:30 GMT", Date="Wed, 21 Oct 2015 07:28:00 GMT"), 30.0),
        (headers(Retry_After="Wed, 21 Oct 2015 07:28:00 GMT"), None),
        (headers(Retry_After="Wed, 99 Oct 2015 07:28:00 GMT", Date="Wed, 21 Oct 2015 07:28:00 GMT"), None),
        (headers(Retry_After="-5"), None),
        (None, None),
    ],
)
def test_reads_retry_after(sent: object, seconds: float | None) -> None:
    """Seconds are taken as they are; a date counts from the response's own Date."""
    exc = Odd(response=SimpleNamespace(status_code=429, headers=sent))
    assert causes_from_exception(exc)[0].retry_after_seconds == seconds


def test_celerys_stand_in_gives_the_true_name() -> None:
    """An exception that could not be pickled keeps its own name."""
    stand_in = type("UnpickleableExceptionWrapper", (Exception,), {})()
    stand_in.__dict__.update(exc_module="shop.errors", exc_cls_name="NoStock", exc_args=("out",))
    [cause] = causes_from_exception(stand_in)
    assert (cause.type, cause.bases) == ("shop.errors.NoStock", ("shop.errors.NoStock",))


def test_text_is_cut_and_clean() -> None:
    """What is kept can be stored as UTF-8 anywhere, and both ends of a long message survive."""
    [cause] = causes_from_exception(ValueError("a\x00\ud800" + "错" * 20_000 + "end"))
    assert len(cause.message) <= TEXT_LIMIT
    assert cause.message.startswith("a\ufffd?")
    assert cause.message.endswith("end")
    cause.message.encode("utf-8")


class Hostile(Exception):
    """Everything one asks it raises."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__

    def __getattribute__(self, name: str) -> object:
        raise GeneratorExit(name)


def test_a_hostile_exception_is_still_a_cause() -> None:
    """Whatever an exception does, it is recorded."""
    [cause] = causes_from_exception(Hostile())
    assert cause.type.endswith("Hostile")
    assert cause.message == ""


def test_reads_a_printed_traceback() -> None:
    """The text of a chain gives the same names and messages as the chain itself."""

    def fail() -> None:
        try:
            int("x")
        except ValueError as error:
            raise RuntimeError("outer\nsecond line") from error

    exc = raised(fail)
    printed = "".join(traceback.format_exception(exc))
    assert [display(c) for c in causes_from_text("RuntimeError", "outer\nsecond line", printed)] == [
        display(c) for c in causes_from_exception(exc)
    ]


def test_a_short_name_is_spelled_out_where_the_traceback_does() -> None:
    """The full name and the raising package are facts that the traceback adds."""
    printed = 'Traceback (most recent call last):\n  File "/x/site-packages/redis/connection.py", line 1, in connect\n    raise\nredis.exceptions.ConnectionError: no'
    [cause] = causes_from_text("ConnectionError", "no", printed)
    assert (cause.type, cause.codes) == ("redis.exceptions.ConnectionError", (("package", "redis"),))


def test_reads_javas_causes() -> None:
    """`Caused by:` lines are causes, innermost last."""
    printed = "a.B: outer\n\tat x\nCaused by: java.net.ConnectException: refused\n\tat y"
    assert [c.type for c in causes_from_text("a.B", "outer", printed)][-1] == "java.net.ConnectException"


def test_a_sentence_with_a_colon_is_no_type() -> None:
    """Only what looks like a class name is split off a message."""
    assert causes_from_text("", "note: this", "")[0].type == ""
    assert causes_from_text("", "ValueError: this", "")[0].type == "ValueError"


def test_json_details_become_an_inner_cause() -> None:
    """The guide's error details are read, live and as text, in both languages."""
    live = causes_from_exception(Exception('{"error_type": "ValueError", "error_message": "bad", "context": {}}'))
    assert (live[1].type, live[1].message) == ("ValueError", "bad")
    text = causes_from_text("Exception", '{"错误类型": "ValueError", "错误信息": "坏"}', "")
    assert (text[1].type, text[1].message) == ("ValueError", "坏")


@pytest.mark.parametrize("text", ["{", "{}", "[1]", '{"a": 1}', "{" * 5000 + "}" * 5000])
def test_other_json_is_plain_text(text: str) -> None:
    """What is not the guide's details stays one cause."""
    assert len(causes_from_exception(Exception(text))) == 1


def test_fingerprint_ignores_what_varies() -> None:
    """Numbers, ids, hosts, paths, times and quoted values do not make a new failure; words and classes do."""
    one = causes_from_text("E", "Order 12 at https://a.b/c 10.0.0.1:80 'x' /tmp/a/b 2024-01-01T10:00:00Z 订单", "")
    two = causes_from_text("E", "Order 99 at https://d.e/f 10.9.9.9:81 'yy' /var/c/d 2025-02-02T11:11:11Z 订单", "")
    other = causes_from_text("E", "Parcel 12", "")
    assert fingerprint(one, "") == fingerprint(two, "") != fingerprint(other, "")
    assert fingerprint(one, "").startswith("v1:")


def test_fingerprint_knows_the_users_own_functions() -> None:
    """Line numbers and libraries' frames do not count; the user's functions do."""
    mine = '  File "/srv/app/a.py", line {}, in {}\n  File "/x/site-packages/y.py", line 3, in z\n'
    causes = causes_from_text("E", "x", "")
    assert fingerprint(causes, mine.format(1, "f")) == fingerprint(causes, mine.format(9, "f"))
    assert fingerprint(causes, mine.format(1, "f")) != fingerprint(causes, mine.format(1, "g"))
