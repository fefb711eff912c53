"""Classification holds for any text and any exception, and its work grows with the length of the text alone."""

from __future__ import annotations

from collections.abc import Callable
from time import process_time
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from regrow.adapters.rules import load_rulebook
from regrow.capture import Redaction, causes_from_exception, causes_from_text, fingerprint
from regrow.capture.clean import TEXT_LIMIT
from regrow.classify import classify
from regrow.classify.script import _SIMPLIFIED, _TRADITIONAL, simplified
from regrow.classify.statistics import features
from regrow.model import CATEGORIES, Verdict

RULEBOOK = load_rulebook()
REDACTION = Redaction(emails=True)
LAYERS = {"user", "structured", "code", "class", "pattern", "statistics", "none"}
ROOT_CAUSE_LIMIT = 500

# What rules and expressions look at, so that random texts meet them.
pieces = st.sampled_from(
    [
        *(
            "connection refused ",
            "timeout ",
            "quota exceeded ",
            "per minute ",
            "invalid token ",
            "not found ",
            "permission denied ",
        ),
        *(
            "retry after 5 ",
            "try again in 1m30s ",
            "9" * 300,
            "HTTP 503 ",
            "ORA-00060 ",
            "errno -2 ",
            "SQLSTATE 08006 ",
            "ExitCode: ",
        ),
        *(
            "连接超时",
            "連線逾時",
            "伺服器",
            "余额不足",
            "请求过于频繁",
            "[NETWORK] ",
            "【数据】",
            "[SQL: ",
            "KeyError: ",
            "redis.",
        ),
        *(
            "password=",
            "Bearer ",
            "://a:b@",
            "cookie: a=b;",
            '{"error_type": "',
            '"error_message": "',
            '"}',
            "Caused by: a.B: c\n",
        ),
        *(
            "Traceback (most recent call last):\n",
            '  File "a.py", line 1, in f\n',
            "\x00",
            "\ud800",
            "\n",
            "a_b_c_",
            "AaAaAa",
            "'",
            '"',
        ),
    ]
)
characters = st.text(st.characters(exclude_categories=()), max_size=60)
texts = st.lists(st.one_of(pieces, characters), max_size=8).map("".join)
# Characters of both scripts, and what may stand between them.
mixed = st.text(
    st.one_of(st.sampled_from(_TRADITIONAL + _SIMPLIFIED), st.characters(exclude_categories=())), max_size=200
)
exceptions = st.builds(
    lambda base, args, attributes: type("Some", (base,), {**attributes, "__module__": "some.client"})(*args),
    st.sampled_from([Exception, OSError, KeyError, ConnectionError, TimeoutError, PermissionError]),
    st.lists(st.one_of(texts, st.integers(), st.none(), st.binary(max_size=9)), max_size=3),
    st.dictionaries(
        st.sampled_from(
            ["errno", "sqlstate", "status_code", "code", "retry_after", "reason", "response", "returncode"]
        ),
        st.one_of(texts, st.integers(), st.floats()),
        max_size=4,
    ),
)


def assert_well_formed(verdict: Verdict) -> None:
    assert CATEGORIES.get(verdict.category.key) is verdict.category
    assert 0 <= verdict.confidence <= 1
    assert verdict.layer != "none" or verdict.category.key == "unknown"
    assert verdict.layer in LAYERS
    assert len(verdict.root_cause) <= ROOT_CAUSE_LIMIT
    assert verdict.retry_after_seconds is None or 0 <= verdict.retry_after_seconds < float("inf")
    for one in verdict.runners_up:
        assert one.category in CATEGORIES
        assert one.layer in LAYERS
        assert 0 <= one.confidence <= 1
        assert one.cause >= 0


@given(texts, texts, texts)
@settings(max_examples=300, deadline=None)
def test_any_text_has_a_well_formed_verdict(name: str, message: str, printed: str) -> None:
    """Whatever a failure says, it is judged, and twice the same."""
    causes = causes_from_text(name, message, printed)
    verdict = classify(causes, RULEBOOK)
    assert_well_formed(verdict)
    assert classify(causes, RULEBOOK) == verdict


@given(exceptions)
@settings(max_examples=200, deadline=None)
def test_any_exception_has_a_well_formed_verdict(exc: BaseException) -> None:
    """Whatever is raised, it is judged, and twice the same."""
    causes = causes_from_exception(exc)
    verdict = classify(causes, RULEBOOK)
    assert_well_formed(verdict)
    assert classify(causes_from_exception(exc), RULEBOOK) == verdict


@given(texts)
@example("quota exceeded quota exceeded ")  # two sentences of one rule, of different lengths
@settings(deadline=None)
def test_brief_leaves_out_the_runners_up_and_nothing_else(message: str) -> None:
    """The verdict that is made beside a failing task is the one that an operator sees."""
    causes = causes_from_text("", message, "")
    whole, brief = classify(causes, RULEBOOK), classify(causes, RULEBOOK, brief=True)
    assert brief.runners_up == ()
    assert (brief.category, brief.rule, brief.matched) == (whole.category, whole.rule, whole.matched)


@given(texts)
@settings(deadline=None)
def test_what_is_hidden_is_judged_too(message: str) -> None:
    """A failure without its secrets has a verdict, and redacting it again changes nothing."""
    hidden = REDACTION.causes(causes_from_text("", message, ""))
    assert_well_formed(classify(hidden, RULEBOOK))
    assert REDACTION.causes(hidden) == hidden


@given(mixed)
def test_simplified_keeps_the_length(text: str) -> None:
    """What is found stands at the same place in the text as it came; simplifying twice is simplifying once."""
    assert len(simplified(text)) == len(text)
    assert simplified(simplified(text)) == simplified(text)


@given(st.text(st.sampled_from(_TRADITIONAL), min_size=1, max_size=40), texts)
@settings(max_examples=200, deadline=None)
def test_traditional_characters_are_read_as_simplified_ones(characters: str, said: str) -> None:
    """Two failures that differ by script alone have the same verdict."""
    message = f"{said} {characters}"
    ours, theirs = (classify(causes_from_text("", one, ""), RULEBOOK) for one in (message, simplified(message)))
    assert (ours.category, ours.rule, ours.layer) == (theirs.category, theirs.rule, theirs.layer)


# -- work ---------------------------------------------------------------------------------------------------------------

HOSTILE = [
    *(
        "word ",
        "connection refused ",
        "(",
        "[",
        "{",
        "7",
        "7 ",
        "错",
        "连接超时",
        "連線",
        "a_b_c_",
        "AaAaAa",
        "\n",
        "A\n",
        " \n",
        "\r\n",
    ),
    *(
        "A:\n",
        "a1\n",
        "KeyError\n",
        "a.b\n",
        "'",
        '"',
        "\\",
        "\\'",
        "`",
        "“",
        "-",
        ".",
        "a.",
        ":",
        "/a",
        "a@",
        "a@b.",
        "=",
        "password=",
        "密码：",
    ),
    *(
        "://",
        "a://b:c@",
        "cookie: a=b;",
        "Bearer a",
        "eyJ",
        "-----BEGIN PRIVATE KEY-----",
        "4111 ",
        "Caused by: a.B: c\n",
        "  | ",
    ),
    *(
        '  File "a.py", line 1, in f\n',
        '  File "',
        "Traceback (most recent call last):\n",
        '{"a":',
        "[[",
        "invalid required ",
        "retry after 5 ",
    ),
]
HOSTILE_BEHIND = [
    ("[", "\t"),
    ("[", "\n"),
    ("【", "　"),
    ("", "[[password="),
    ("", "password=="),
    ("", "password:[a"),
    ("'", "\\'"),
]
# Eight times the text takes about eight times as long where time is linear, 64 times where it is quadratic.
TIMES = 8
MOST = 32
# What takes less is the clock's own grain, in seconds.
GRAIN = 2e-4

STAGES: dict[str, tuple[int, Callable[[str], Any]]] = {
    "capture of a traceback": (64_000, lambda text: causes_from_text("", "", text)),
    "capture of a message": (TEXT_LIMIT, lambda text: causes_from_text("", text, "")),
    "capture of an exception": (TEXT_LIMIT, lambda text: causes_from_exception(ValueError(text))),
    "redaction": (64_000, REDACTION.text),
    "redaction of JSON": (64_000, REDACTION.json),
    "fingerprint": (64_000, lambda text: fingerprint((), text)),
    "classification": (TEXT_LIMIT, lambda text: classify(causes_from_text("", text, ""), RULEBOOK)),
}


def seconds(work: Callable[[str], Any], text: str) -> float:
    start = process_time()
    work(text)
    return process_time() - start


@pytest.mark.parametrize(("before", "piece"), [*(("", piece) for piece in HOSTILE), *HOSTILE_BEHIND])
@pytest.mark.parametrize("stage", STAGES)
def test_no_text_takes_quadratic_time(stage: str, before: str, piece: str) -> None:
    """A text that repeats itself costs as much more as it is longer; ratios within one run, the best of several."""
    length, work = STAGES[stage]
    long, short = (before + (piece * (length // len(piece)))[: size - 1] for size in (length, length // TIMES))
    ratios = []
    for _ in range(5):
        ratios.append(seconds(work, long) / max(seconds(work, short), GRAIN))
        if ratios[-1] < MOST:
            return
    pytest.fail(f"{TIMES} times the text takes {min(ratios):.0f} times as long")


@pytest.mark.parametrize("piece", HOSTILE)
def test_the_model_looks_at_a_bounded_number_of_words(piece: str) -> None:
    """However long a message is, no more words are weighed than its first thousand characters hold."""
    counted = [len(features("E", piece * (size // len(piece)), ())) for size in (2_000, 8_000, 64_000)]
    assert counted[0] == counted[1] == counted[2]
