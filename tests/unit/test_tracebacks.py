"""A traceback reads as Python prints it, the first time and the next."""

import traceback
from collections.abc import Callable

import pytest

from regrow.adapters.celery import tracebacks


def deep(more: int) -> None:
    if more:
        deep(more - 1)
    else:
        raise ValueError("no\nway")


def never_raised() -> None:
    return


def chained() -> None:
    try:
        deep(2)
    except ValueError as error:
        error.add_note("a note")
        try:
            raise KeyError("k") from error
        except KeyError:
            deeep(3)  # type: ignore[name-defined] # noqa: F821


def suppressed() -> None:
    try:
        deep(1)
    except ValueError:
        raise RuntimeError("again") from None


def circular() -> None:
    try:
        deep(0)
    except ValueError as error:
        other = OSError(2, "gone")
        error.__cause__, other.__cause__ = other, error
        raise


def grouped() -> None:
    raise ExceptionGroup(
        "many", [caught(chained), caught(lambda: deep(9)), ExceptionGroup("more", [ValueError("in it")])]
    )


def no_syntax() -> None:
    compile("x = = 1", "f.py", "exec")


def without_source() -> None:
    exec("def inside():\n    return 1 / 0\ninside()")


def folded() -> None:
    deep(60)


def caught(function: Callable[[], object]) -> BaseException:
    try:
        function()
    except Exception as error:
        return error
    return ValueError("it never failed")


@pytest.mark.parametrize("number", range(6))
def test_repeated_frames_are_folded_as_python_folds_them(number: int) -> None:
    error = caught(lambda: deep(number))
    assert tracebacks.text_of(error) == "".join(traceback.format_exception(error))


@pytest.mark.parametrize(
    "function",
    [never_raised, chained, suppressed, circular, grouped, no_syntax, without_source, folded],
    ids=lambda function: function.__name__,
)
def test_it_reads_as_python_prints_it(function: Callable[[], object]) -> None:
    for _ in range(2):
        error = caught(function)
        assert tracebacks.text_of(error) == "".join(traceback.format_exception(error))


def test_it_remembers_no_more_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracebacks, "REMEMBERED", 3)
    tracebacks._lines.clear()
    for function in (chained, suppressed, grouped):
        tracebacks.text_of(caught(function))
        assert len(tracebacks._lines) <= 3
