"""Capture holds for any text and any exception."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from regrow.capture import causes_from_exception, causes_from_text, fingerprint
from regrow.capture.clean import TEXT_LIMIT

# Any text, with what UTF-8 and PostgreSQL refuse in it.
texts = st.text(st.characters(exclude_categories=()), max_size=300)
values = st.one_of(
    texts,
    st.integers(),
    st.none(),
    st.booleans(),
    st.floats(),
    st.binary(max_size=20),
    st.dictionaries(texts, texts, max_size=3),
)
names = st.sampled_from(
    [
        "sqlstate",
        "errno",
        "response",
        "status",
        "status_code",
        "code",
        "headers",
        "retry_after",
        "orig",
        "reason",
        "recipients",
        "reply_code",
        "returncode",
        "exc_module",
    ]
)


def assert_storable(causes: tuple[Any, ...]) -> None:
    assert causes
    for cause in causes:
        for text in (
            cause.type,
            cause.message,
            *cause.bases,
            *(part for code in cause.codes for part in code),
        ):
            assert "\x00" not in text
            assert len(text) <= TEXT_LIMIT
            text.encode("utf-8")
        assert cause.retry_after_seconds is None or cause.retry_after_seconds >= 0


@given(
    st.lists(values, max_size=3),
    st.dictionaries(names, values, max_size=5),
    st.sampled_from([Exception, OSError, KeyError, UnicodeError]),
)
def test_any_exception_becomes_storable_causes(
    args: list[Any], attributes: dict[str, Any], base: type[Exception]
) -> None:
    """Whatever stands in an exception, its causes can be stored."""
    exc = type("Some", (base,), {**attributes, "__module__": "some.http"})(*args)
    assert_storable(causes_from_exception(exc))


@given(texts, texts, texts)
@settings(max_examples=200)
def test_any_text_becomes_storable_causes_with_one_fingerprint(name: str, message: str, printed: str) -> None:
    """Text of any kind is read, and the same text always has the same fingerprint."""
    causes = causes_from_text(name, message, printed)
    assert_storable(causes)
    assert fingerprint(causes, printed) == fingerprint(causes_from_text(name, message, printed), printed)


@given(
    st.sampled_from(["__str__", "__repr__", "args", "__cause__", "__context__", "__traceback__", "response", "code"]),
    st.sampled_from([ValueError, GeneratorExit, RecursionError]),
)
def test_an_attribute_that_raises_harms_nothing(name: str, error: type[BaseException]) -> None:
    """Whatever raises inside the exception, there is a cause."""

    def fail(*_: object) -> object:
        raise error("hostile")

    body = {name: fail if name.endswith("r__") else property(fail)}
    assert_storable(causes_from_exception(type("Hostile", (Exception,), body)("x")))
