"""The engines behind rule patterns."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from regrow.adapters.patterns import MATCH_LIMIT, HyperscanMatcher, compile_patterns, growth
from regrow.adapters.rules import load_rulebook, packaged, read_entries
from regrow.capture import causes_from_text
from regrow.classify import Rulebook, classify
from regrow.errors import RuleError
from regrow.ports import Matcher

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
    found = scan(matcher, "连接超时: Connection to db timeout; refused; refused")
    assert found == [(0, "refused"), (1, "Connection to db timeout"), (2, "超时")]


@pytest.mark.parametrize("engine", ENGINES)
def test_dot_stops_at_a_line_break(engine: str) -> None:
    """`.` does not match a line break, as in the guide's own expressions."""
    matcher = compile_patterns(["connection.*timeout"], engine=engine)
    assert scan(matcher, "connection lost\ntimeout") == []


@pytest.mark.parametrize("engine", ENGINES)
def test_a_dot_is_one_character_in_any_script(engine: str) -> None:
    """A counted dot counts characters, not bytes."""
    matcher = compile_patterns(["a.b", "x.{2}y"], engine=engine)
    assert scan(matcher, "a错b x错误y") == [(0, "a错b"), (1, "x错误y")]


@pytest.mark.parametrize("engine", ENGINES)
def test_survives_half_characters_and_bounds_what_it_reports(engine: str) -> None:
    """Lone surrogates in a text are replaced, and a long match is cut."""
    matcher = compile_patterns(["start.*end"], engine=engine)
    [(index, matched)] = scan(matcher, "\ud800 start " + "错" * 5000 + " end")
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
    [(_, matched)] = scan(
        compile_patterns(["connection错?.{0,40}timeout"], engine="hyperscan"), "a connection to x timeout"
    )
    assert matched.endswith("connection to x timeout")


@pytest.mark.parametrize("engine", ENGINES)
def test_many_threads_share_one_matcher(engine: str) -> None:
    """Threads scan at once and each gets its own answer."""
    matcher = compile_patterns([f"word{i}x" for i in range(50)], engine=engine)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: scan(matcher, f"here is word{i % 50}x " * 20), range(400)))
    assert found == [[(i % 50, f"word{i % 50}x")] for i in range(400)]


@pytest.mark.parametrize("engine", ENGINES)
def test_hostile_pattern_takes_linear_time(engine: str) -> None:
    """A pattern on which backtracking engines hang for years just answers."""
    assert scan(compile_patterns(["^(a+)+b$"], engine=engine), "a" * 8000) == []


@pytest.mark.parametrize(
    ("pattern", "places", "depth"),
    [
        ("a+b*c?|^d$", 0, 0),
        ("a{3}", 2, 0),
        ("a{2,}", 1, 0),
        ("(ab){0,50}c", 98, 1),
        ("((a{2}b){3}c){2}", 17, 2),
        ("(?:x|yz){4}", 9, 1),
        ("(?P<name>a){2}(?i:b){2}", 2, 1),
        (r"[]a{9}]{2}\d{2}\({2}", 3, 0),
        ("错{3}", 6, 0),
        ("a{0}{2", 0, 0),
        ("((", 0, 2),
        ("{3})]", 0, 0),
    ],
)
def test_growth(pattern: str, places: int, depth: int) -> None:
    """What counts add, nested ones multiplied; what is no count, or no pattern at all, adds nothing."""
    assert growth(pattern) == (places, depth)


def test_counts_too_large_for_a_start_are_still_found() -> None:
    """A pattern whose start would take long to prepare reports the text before its end."""
    [(_, matched)] = scan(compile_patterns(["begin.{0,120}end"], engine="hyperscan"), "x begin y end")
    assert matched == "x begin y end"


@pytest.mark.parametrize("engine", ENGINES)
def test_no_patterns_find_nothing(engine: str) -> None:
    """An empty set of patterns is allowed."""
    assert scan(compile_patterns([], engine=engine), "anything") == []


def test_unknown_engine_is_refused() -> None:
    """An engine that is not installed is named."""
    with pytest.raises(RuleError, match="no pattern engine 'pcre'"):
        compile_patterns(["a"], engine="pcre")


def scan(matcher: Matcher, text: str) -> list[tuple[int, str]]:
    """What an engine finds: (index of the pattern, matched text), in pattern order."""
    return [(hit[0], matcher.matched(hit, text)) for hit in matcher.hits(text)]


WORDS = [f"word{i}x" for i in range(50)]
TEXT = "word7x and word41x"
FOUND = [(7, "word7x"), (41, "word41x")]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder of this test alone."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "regrow"


def compiled(monkeypatch: pytest.MonkeyPatch) -> bool:
    """True if the 50 words were compiled, False if they came from the cache; either way they must work."""
    calls = []
    real = HyperscanMatcher._compile
    with monkeypatch.context() as patch:
        patch.setattr(HyperscanMatcher, "_compile", lambda self, it: (calls.append(1), real(self, it))[1])
        assert scan(compile_patterns(WORDS, keep=True), TEXT) == FOUND
    return bool(calls)


def test_what_was_compiled_is_kept_for_the_user_alone(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One file, readable by its owner only, and the next process compiles nothing."""
    assert compiled(monkeypatch)
    [file] = cache.iterdir()
    assert (stat.S_IMODE(cache.stat().st_mode), stat.S_IMODE(file.stat().st_mode)) == (0o700, 0o600)
    assert not compiled(monkeypatch)


def test_nothing_is_kept_unless_asked_for(cache: Path) -> None:
    """A pattern of the user's own leaves no file behind."""
    compile_patterns(WORDS)
    assert not cache.exists()


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def _flip(file: Path) -> None:
    whole = bytearray(file.read_bytes())
    whole[len(whole) // 2] ^= 1
    file.write_bytes(whole)


def _empty(file: Path) -> None:
    file.write_bytes(b"")


def _rubbish(file: Path) -> None:
    file.write_bytes(b"rubbish" * 1000)


def _writable_by_others(file: Path) -> None:
    file.chmod(0o666)


def _link(file: Path) -> None:
    elsewhere = file.parent.parent / "elsewhere"
    file.rename(elsewhere)
    file.symlink_to(elsewhere)


@pytest.mark.parametrize("harm", [_cut, _flip, _empty, _rubbish, _writable_by_others, _link])
def test_a_file_that_cannot_be_trusted_is_replaced(
    cache: Path, monkeypatch: pytest.MonkeyPatch, harm: Callable[[Path], None]
) -> None:
    """Damaged, writable by others or a link: it is not loaded, but compiled anew and written once more."""
    compiled(monkeypatch)
    [file] = cache.iterdir()
    harm(file)
    assert compiled(monkeypatch)
    assert not compiled(monkeypatch)


def test_a_file_of_somebody_else_is_not_loaded(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another user wrote could hold anything."""
    compiled(monkeypatch)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert compiled(monkeypatch)


def test_a_file_under_another_name_is_not_loaded(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole file that holds other patterns is damage like any other."""
    compiled(monkeypatch)
    [file] = cache.iterdir()
    compile_patterns(["other", *WORDS], keep=True)
    [other] = set(cache.iterdir()) - {file}
    file.write_bytes(other.read_bytes())
    assert compiled(monkeypatch)


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file stands where the folder should be; so it does for an account without a home."""
    (tmp_path / "regrow").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert compiled(monkeypatch)
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", _homeless)
    assert compiled(monkeypatch)


def _homeless() -> Path:
    raise RuntimeError("no home")


def test_files_of_old_versions_are_swept_out(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody has written for months goes; what is recent stays, since another version may use it."""
    cache.mkdir()
    for name, age in (("patterns-old.hsdb", 90), ("patterns-new.hsdb", 1), ("notes.txt", 900)):
        (cache / name).write_bytes(b"x")
        when = cache.stat().st_mtime - age * 86_400
        os.utime(cache / name, (when, when))
    compiled(monkeypatch)
    left = {file.name for file in cache.iterdir()}
    assert {"patterns-new.hsdb", "notes.txt"} < left
    assert "patterns-old.hsdb" not in left


def in_children(count: int, work: Callable[[], list[tuple[int, str]]]) -> list[list[tuple[int, str]]]:
    """What `work` returns in each of so many forked children.

    Not multiprocessing: other libraries clean up after its forks, and may wait for what only the parent can have.
    """
    children = []
    for _ in range(count):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.write(writer, json.dumps(work()).encode())
            finally:
                os._exit(0)
        os.close(writer)
        children.append((child, reader))
    answers = []
    for child, reader in children:
        with os.fdopen(reader) as file:
            answers.append([(number, text) for number, text in json.loads(file.read() or "[]")])
        os.waitpid(child, 0)
    return answers


def test_processes_that_start_at_once_do_not_disturb_each_other(cache: Path) -> None:
    """Each writes its own temporary file and renames it; one file is left, and it is whole."""
    assert in_children(12, lambda: scan(compile_patterns(WORDS, keep=True), TEXT)) == [FOUND] * 12
    assert len(list(cache.iterdir())) == 1


@pytest.mark.parametrize("warm", [False, True])
def test_a_forked_child_scans_on(cache: Path, warm: bool) -> None:
    """A worker forks after the rules are loaded; parent and children scan with the same database."""
    matcher = compile_patterns(WORDS, keep=True)
    if warm:
        matcher = compile_patterns(WORDS, keep=True)
        assert scan(matcher, TEXT) == FOUND
    assert in_children(3, lambda: [one for _ in range(50) for one in scan(matcher, TEXT)]) == [FOUND * 50] * 3
    assert scan(matcher, TEXT) == FOUND


def test_a_database_from_the_cache_serves_eight_threads(cache: Path) -> None:
    """What was loaded from a file scans as well as what was compiled."""
    compile_patterns(WORDS, keep=True)
    matcher = compile_patterns(WORDS, keep=True)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda text: scan(matcher, text), [TEXT] * 2000)) == [FOUND] * 2000


@pytest.fixture(scope="module")
def rulebook() -> Rulebook:
    return load_rulebook()


def test_both_engines_reach_the_same_verdicts(rulebook: Rulebook) -> None:
    """The whole rulebook in both engines, over every example of every rule and what they say inside a sentence."""
    patterns = [pattern.pattern for pattern in rulebook.patterns]
    other = replace(rulebook, matcher=compile_patterns(patterns, engine="re2"))
    examples = [str(text) for entry in read_entries(packaged()) for text in entry.values.get("examples", ())]
    texts = [*examples, *(f"任务 7 失败, step 3: {text} (see the log)" for text in examples)]
    assert len(texts) > 300
    for text in texts:
        causes = causes_from_text("", text, "")
        one, two = classify(causes, rulebook), classify(causes, other)
        assert (one.category, one.rule, one.conflict) == (two.category, two.rule, two.conflict), text
