"""The engines behind rule patterns."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from regrow.adapters.patterns import MATCH_LIMIT, compile_patterns
from regrow.errors import RuleError

ENGINES = ("hyperscan", "re2")

REFUSED = [
    "(?=a)b",
    "(?<!a)b",
    r"(a)\1",
    "",
    "  ",
    ".*",
    ".+",
    "a*",
    ".",
    r"[\s\S]",
    "(",
    "x|",
    "\ud800",
    "a++b",
]


@pytest.mark.parametrize("engine", ENGINES)
def test_reports_each_pattern_once_in_order_with_its_text(engine: str) -> None:
    """Patterns come back by position, each once, whatever the order of their hits."""
    matcher = compile_patterns(["refused", "connection.*timeout", "超时", "absent"], engine=engine)
    found = matcher.scan("连接超时: Connection to db timeout; refused; refused")
    assert found == [(0, "refused"), (1, "Connection to db timeout"), (2, "超时")]


@pytest.mark.parametrize("engine", ENGINES)
def test_dot_stops_at_a_line_break(engine: str) -> None:
    """`.` does not match a line break, as in the guide's own expressions."""
    matcher = compile_patterns(["connection.*timeout"], engine=engine)
    assert matcher.scan("connection lost\ntimeout") == []


@pytest.mark.parametrize("engine", ENGINES)
def test_a_dot_is_one_character_in_any_script(engine: str) -> None:
    """A counted dot counts characters, not bytes."""
    matcher = compile_patterns(["a.b", "x.{2}y"], engine=engine)
    assert matcher.scan("a错b x错误y") == [(0, "a错b"), (1, "x错误y")]


@pytest.mark.parametrize("engine", ENGINES)
def test_survives_half_characters_and_bounds_what_it_reports(engine: str) -> None:
    """Lone surrogates in a text are replaced, and a long match is cut."""
    matcher = compile_patterns(["start.*end"], engine=engine)
    [(index, matched)] = matcher.scan("\ud800 start " + "错" * 5000 + " end")
    assert index == 0
    assert matched.startswith("start")
    assert len(matched) <= MATCH_LIMIT


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("pattern", REFUSED)
def test_refuses_what_no_engine_should_run(engine: str, pattern: str) -> None:
    """A pattern that cannot run, or matches everything, is refused by position and with advice."""
    with pytest.raises(RuleError, match=r"pattern 1 .*; write it without"):
        compile_patterns(["fine", pattern], engine=engine)


def test_a_long_gap_is_too_large_for_a_start_but_is_still_found() -> None:
    """Where the engine cannot say where a match starts, the text before its end is reported."""
    [(_, matched)] = compile_patterns(["connection错?.{0,40}timeout"], engine="hyperscan").scan(
        "a connection to x timeout"
    )
    assert matched.endswith("connection to x timeout")


@pytest.mark.parametrize("engine", ENGINES)
def test_many_threads_share_one_matcher(engine: str) -> None:
    """Threads scan at once and each gets its own answer."""
    matcher = compile_patterns([f"word{i}x" for i in range(50)], engine=engine)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: matcher.scan(f"here is word{i % 50}x " * 20), range(400)))
    assert found == [[(i % 50, f"word{i % 50}x")] for i in range(400)]


@pytest.mark.parametrize("engine", ENGINES)
def test_hostile_pattern_takes_linear_time(engine: str) -> None:
    """A pattern on which backtracking engines hang for years just answers."""
    assert compile_patterns(["^(a+)+b$"], engine=engine).scan("a" * 8000) == []


@pytest.mark.parametrize("engine", ENGINES)
def test_no_patterns_find_nothing(engine: str) -> None:
    """An empty set of patterns is allowed."""
    assert compile_patterns([], engine=engine).scan("anything") == []


def test_unknown_engine_is_refused() -> None:
    """An engine that is not installed is named."""
    with pytest.raises(RuleError, match="no pattern engine 'pcre'"):
        compile_patterns(["a"], engine="pcre")
