"""Messages: the right person, once, in words that help, and no secrets for end users."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from regrow import decide, notify
from regrow.adapters.words import load_words
from regrow.model import (
    BUSINESS,
    CATEGORIES,
    CONFIG,
    NETWORK,
    SYSTEM,
    UNKNOWN,
    Action,
    Answer,
    Audience,
    Category,
    Cause,
    Decision,
    Due,
    Evidence,
    History,
    Message,
    Reason,
    Refusal,
    State,
    TaskOptions,
    Verdict,
)
from regrow.notify.of_business import ADVICE as FOR_USERS
from regrow.ports import Words
from regrow.testing import GUIDE, START, a_failure, a_verdict

SECRET = "XSECRETX /srv/app/pay.py db-7.internal:5432"

PLANS = [(action, reason) for action in Action for reason in Reason]

LANGUAGES = {language: load_words(language) for language in ("en", "zh")}

HANDED_OVER = Decision(Action.HAND_OVER, Reason.NOT_HEALABLE)
USED_UP = Decision(Action.GIVE_UP, Reason.RETRIES_USED_UP)
HELD = Decision(Action.HOLD, Reason.WORK_MAY_BE_DONE)


def told(decision: Decision, attempt: int = 1, verdict: Verdict | None = None, words: Words = str, **about) -> Message:
    """The one message that a decision about a network failure calls for."""
    since = about.pop("since", None)
    failure = a_failure(**{"task_id": "t-1", "task_name": "shop.tasks.pay", **about})
    refused = a_verdict(NETWORK, rule="errno.network", matched="errno 111", root_cause="OSError: [Errno 111] refused")
    (message,) = notify.compose(failure, verdict or refused, decision, attempt, words, since=since)
    return message


@pytest.mark.parametrize("category", CATEGORIES.values(), ids=str)
@pytest.mark.parametrize("user_id", ["", "42"])
def test_one_message_per_decision(category: Category, user_id: str) -> None:
    """Every decision but a retry tells exactly one person, with a key that is its own."""
    keys = set()
    for attempt, (action, reason) in enumerate(PLANS, start=1):
        failure = a_failure(task_id="a", user_id=user_id)
        messages = notify.compose(failure, a_verdict(category), Decision(action, reason), attempt, str)
        silent = action is Action.RETRY or reason is Reason.EXPECTED
        assert len(messages) == (0 if silent else 1)
        keys.update(message.key for message in messages)
        for message in messages:
            is_user = category is BUSINESS and action is Action.HAND_OVER and user_id == "42"
            assert message.audience is (Audience.USER if is_user else Audience.ADMINISTRATOR)
            assert message.priority == ("normal" if is_user else "high")
            assert message.group == failure.fingerprint
            assert message.title
            assert "\n" not in message.title
            assert message.body
    assert len(keys) == sum(a is not Action.RETRY and r is not Reason.EXPECTED for a, r in PLANS)


# -- administrators ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("language", "decision", "attempt", "title"),
    [
        ("en", HANDED_OVER, 1, "pay failed: connection refused"),
        ("en", USED_UP, 6, "pay still fails after 5 retries: connection refused"),
        ("en", USED_UP, 2, "pay still fails after 1 retry: connection refused"),
        ("en", HELD, 2, "pay waits for your decision: connection refused"),
        ("en", Decision(Action.GIVE_UP, Reason.WOULD_EXPIRE), 1, "pay failed: connection refused"),
        ("zh", HANDED_OVER, 1, "pay 失败：连接被拒绝"),
        ("zh", USED_UP, 6, "pay 经 5 次重试仍失败：连接被拒绝"),
        ("zh", HELD, 2, "pay 等待您处理：连接被拒绝"),
    ],
)
def test_a_title_says_what_and_why(language: str, decision: Decision, attempt: int, title: str) -> None:
    """At three in the morning the first line says what failed, how often it was tried, and why."""
    assert told(decision, attempt, words=LANGUAGES[language]).title == title


@pytest.mark.parametrize(
    ("language", "line"),
    [
        ("en", "Every retry failed (5 retries in 16 min); no more are left."),
        ("zh", "全部重试均已失败（5 次重试，历时16分钟），不再重试。"),
    ],
)
def test_how_many_retries_over_which_time(language: str, line: str) -> None:
    """Retries that are used up are counted, and timed where the first failure is known."""
    words = LANGUAGES[language]
    assert line in told(USED_UP, 6, words=words, since=START - timedelta(seconds=960)).body.splitlines()
    assert "(5 retries); no more are left." in told(USED_UP, 6).body


def test_the_whole_message() -> None:
    """An administrator reads which task, the error, the decision, what to do, and the commands to type."""
    assert told(USED_UP, 6, words=LANGUAGES["zh"]).body.splitlines() == [
        "任务：shop.tasks.pay（网络问题）",
        "原因：OSError: [Errno 111] refused",
        "全部重试均已失败（5 次重试），不再重试。",
        "请确认对方服务已启动、主机和端口正确，且未被防火墙拦截。",
        "处理完毕后重新运行：regrow retry t-1 --force",
        "详情：regrow show t-1",
    ]


@pytest.mark.parametrize(
    ("decision", "kept", "line"),
    [
        (HANDED_OVER, True, "When that is done, run it again: regrow retry t-1"),
        (USED_UP, True, "When that is done, run it again: regrow retry t-1 --force"),
        (HELD, True, "Check whether its work was done. If not: regrow retry t-1; if it was: regrow dismiss t-1"),
        (
            Decision(Action.HOLD, Reason.WAIT_TOO_LONG),
            True,
            "Run it again: regrow retry t-1; leave it: regrow dismiss t-1",
        ),
        (HANDED_OVER, False, ""),
        (Decision(Action.GIVE_UP, Reason.WOULD_EXPIRE), True, ""),
    ],
)
def test_how_to_run_it_again(decision: Decision, kept: bool, line: str) -> None:
    """The command is there where a retry can work, and only there."""
    body = told(decision, 2, envelope="{}" if kept else None).body
    assert line in body.splitlines() or not line
    assert ("regrow retry" in body) is bool(line)
    assert body.splitlines()[-1] == "More: regrow show t-1"


def test_an_unknown_cause_shows_the_error_in_the_title() -> None:
    """Where nobody knows why, the error itself says most."""
    verdict = a_verdict(UNKNOWN, matched="", root_cause="shop.errors.Boom: it\nbroke " + 200 * "x")
    title = told(Decision(Action.HAND_OVER, Reason.UNKNOWN_CAUSE), verdict=verdict).title
    assert title.startswith("pay failed: unknown cause (Boom: it broke xxx")
    assert len(title) < 200
    assert "unknown cause" in told(HANDED_OVER, verdict=a_verdict(UNKNOWN, root_cause="")).title


@given(st.text(), st.text())
@example("a\nb", "x; rm -rf /")
def test_others_text_keeps_its_place(task_name: str, task_id: str) -> None:
    """A task's name cannot break the title's line, and its id is no command in an administrator's shell."""
    message = told(HANDED_OVER, task_name=task_name, task_id=task_id)
    assert message.title.isprintable()
    if ";" in task_id:
        assert f"regrow show '{task_id.split(chr(39))[0]}" in message.body


def test_no_user_goes_to_the_administrator_and_says_so() -> None:
    """A business failure whose user nobody knows is the administrator's, with the cause and the reason why."""
    failure = a_failure(BUSINESS)
    (message,) = notify.compose(failure, a_verdict(BUSINESS, root_cause=SECRET), HANDED_OVER, 1, str)
    assert message.audience is Audience.ADMINISTRATOR
    assert SECRET in message.body
    assert "nobody knows who that is, so this comes to you" in message.body
    assert "What the user can do: Please check" in message.body


def test_a_users_failure_that_was_retried_in_vain() -> None:
    """A user's own strategy may retry business failures; once that is over the administrator decides, knowing the user."""
    message = told(USED_UP, 3, a_verdict(BUSINESS), user_id="42")
    assert message.audience is Audience.ADMINISTRATOR
    assert message.user_id == "42"
    assert "nobody knows" not in message.body
    assert "What the user can do: Please check" in message.body


def test_an_own_category_is_called_as_it_calls_itself() -> None:
    """A category of the application's own has no words of ours, and still gets a message."""
    own = Category("custom_error", Audience.ADMINISTRATOR)
    message = told(HANDED_OVER, verdict=a_verdict(own, matched="database is locked"))
    assert message.title == "pay failed: custom_error"
    assert "Read the traceback." in message.body


@pytest.mark.parametrize("words", LANGUAGES.values(), ids=LANGUAGES)
@pytest.mark.parametrize("reason", [Reason.FELL_SILENT, Reason.CANNOT_BE_SENT, Reason.ALREADY_FAILED, Reason.POISON])
def test_a_retry_that_is_not_sent_again(reason: Reason, words: Words) -> None:
    """Whoever must decide reads why, and which command does what."""
    message = notify.compose_silent(a_due(), reason, words)
    assert message.group == "1:abc"
    assert message.priority == "high"
    assert message.title.startswith("pay ")
    assert notify.explain(reason, words) in message.body
    assert "regrow retry t-1" in message.body
    assert "regrow show t-1" in message.body
    assert ("regrow dismiss t-1" in message.body) is (reason not in (Reason.ALREADY_FAILED, Reason.POISON))


@pytest.mark.parametrize("words", LANGUAGES.values(), ids=LANGUAGES)
@pytest.mark.parametrize("reason", [Reason.REJECTED, Reason.NOT_RUN, Reason.EXPIRED, Reason.POISON])
def test_what_no_worker_could_run_or_end(reason: Reason, words: Words) -> None:
    """The administrator reads why; what may be sent again comes with the command, and what has expired does not."""
    action = Action.GIVE_UP if reason is Reason.POISON else Action.HAND_OVER
    message = told(Decision(action, reason), verdict=a_verdict(SYSTEM), words=words)
    assert message.audience is Audience.ADMINISTRATOR
    assert notify.explain(reason, words) in message.body
    assert ("regrow retry" in message.body) is (reason is not Reason.EXPIRED)
    assert ("--force" in message.body) is (reason is Reason.POISON)


def test_retries_that_keep_dying_are_counted() -> None:
    """A task that kills its worker again and again is called by its name."""
    assert "3 retries ended in that way" in notify.compose_silent(a_due(deaths=3), Reason.FELL_SILENT, str).body
    assert "ended in that way" not in notify.compose_silent(a_due(deaths=1), Reason.FELL_SILENT, str).body


def a_due(deaths: int = 0) -> Due:
    """A retry that the dispatcher holds in its hands."""
    return Due(
        7, "t-1", "shop.tasks.pay", NETWORK.key, State.DISPATCHED, 2, "tok", True, True, 0, deaths, False, "{}", "{}",
        False, "1:abc",
    )  # fmt: skip


# -- end users --------------------------------------------------------------------------------------------------------


def all_that_users_read(words: Words) -> set[tuple[str, str]]:
    """Every pair of title and body that there is for them."""
    title = words("Your request could not be completed: {why}")
    known = {(title.format(why=words(row.name)), words(row.text)) for row in FOR_USERS[:-1]}
    return known | {(words("Your request could not be completed"), words(FOR_USERS[-1].text))}


hostile = st.text() | st.builds(
    "{} {} {}".format,
    st.sampled_from(["", "card", "order not found", "库存不足", "{why}", "%s", "\n\x1b[31m"]),
    st.just(SECRET),
    st.text(),
)


@given(
    error=hostile,
    task_name=hostile,
    key=st.sampled_from([BUSINESS.key, "custom_business_error"]),
    rules=st.lists(st.sampled_from(["business.mailbox", "http.missing", "none", SECRET]), min_size=1, max_size=4),
    words=st.sampled_from(list(LANGUAGES.values())),
)
def test_an_end_user_never_sees_the_error(error: str, task_name: str, key: str, rules: list[str], words: Words) -> None:
    """Whatever the exception, the host, the task or a rule says, an end user reads one of our own sentences (G6)."""
    failure = a_failure(
        task_id=SECRET,
        task_name=task_name,
        user_id="42",
        causes=(Cause(error, error),),
        traceback=error,
        error=error,
        worker=error,
        queue=error,
    )
    category = Category(key, Audience.USER)
    verdict = a_verdict(
        category,
        rule=rules[0],
        matched=error,
        root_cause=error,
        runners_up=tuple(Evidence(key, "pattern", rule, error) for rule in rules[1:]),
    )
    decision = decide.decide(failure, verdict, History(), 1, now=START, policies=GUIDE)
    (message,) = notify.compose(failure, verdict, decision, 1, words)
    assert message.audience is Audience.USER
    assert (message.title, message.body) in all_that_users_read(words)


@pytest.mark.parametrize("words", LANGUAGES.values(), ids=LANGUAGES)
def test_end_users_are_spoken_to_as_people(words: Words) -> None:
    """No command, no setting and no word of ours for a program is in what they read."""
    for title, body in all_that_users_read(words):
        text = f"{title}\n{body}".lower()
        assert not any(word in text for word in ("regrow", "worker", "celery", "task", "任务", "traceback", "{"))
        assert "\n" not in title


# -- single phrases ---------------------------------------------------------------------------------------------------


def test_every_reason_and_category_has_words() -> None:
    """Nothing that can be decided leaves people without a sentence."""
    sentences = [notify.explain(reason, str) for reason in Reason]
    assert len(set(sentences)) == len(Reason)
    assert notify.explain("of_a_later_version", str) == "of_a_later_version"
    for key in CATEGORIES:
        assert notify.name(key, str) != key
        assert notify.advice(key, str)
    assert notify.name("their_own", str) == "their_own"
    assert notify.advice("their_own", str)


def test_every_refusal_has_a_sentence() -> None:
    """A person whose order is not followed reads why; one whose order is, needs no reason."""
    sentences = {notify.refusal(Answer(False, refusal, 3, 3), str) for refusal in Refusal}
    assert len(sentences) == len(Refusal)
    assert "It has had 3 retries, and 3 are allowed; a forced retry ignores this limit." in sentences
    assert notify.refusal(Answer(True), str) == ""


@pytest.mark.parametrize(
    ("seconds", "english", "chinese"),
    [
        (0, "0 s", "0秒"),
        (-5, "0 s", "0秒"),
        (0.04, "0 s", "0秒"),
        (1.5, "1.5 s", "1.5秒"),
        (9.96, "10 s", "10秒"),
        (30, "30 s", "30秒"),
        (60, "60 s", "60秒"),
        (119.6, "2 min", "2分钟"),
        (150, "2 min 30 s", "2分钟30秒"),
        (300, "5 min", "5分钟"),
        (725, "12 min", "12分钟"),
        (5400, "90 min", "90分钟"),
        (7199, "120 min", "120分钟"),
        (7500, "2 h 5 min", "2小时5分钟"),
        (10_799, "3 h", "3小时"),
        (86_400, "24 h", "24小时"),
        (200_000, "2 d 8 h", "2天8小时"),
        (900_000, "10 d", "10天"),
    ],
)
def test_durations(seconds: float, english: str, chinese: str) -> None:
    """A time span in the largest unit of which there are two, and the next one if that says more."""
    assert notify.duration(seconds, LANGUAGES["en"]) == english
    assert notify.duration(seconds, LANGUAGES["zh"]) == chinese


@given(st.floats(0, 1e8))
def test_durations_are_near_the_truth(seconds: float) -> None:
    """Read back, a duration is off by a twentieth at most."""
    units = {"s": 1, "min": 60, "h": 3600, "d": 86_400}
    parts = notify.duration(seconds, str).split()
    said = sum(float(number) * units[unit] for number, unit in zip(parts[::2], parts[1::2], strict=True))
    assert said == pytest.approx(seconds, rel=0.05, abs=0.051)


@pytest.mark.parametrize(
    ("seconds", "english", "chinese"),
    [
        (30, "The task will be retried in 30 s", "任务将在30秒后重试"),
        (300.0, "The task will be retried in 5 min", "任务将在5分钟后重试"),
        (0, "The task will be retried at once", "任务将立即重试"),
    ],
)
def test_the_guides_words_for_a_retry(seconds: float, english: str, chinese: str) -> None:
    """The report says it exactly as the guide prints it (G11)."""
    assert notify.retry_text(seconds, LANGUAGES["en"]) == english
    assert notify.retry_text(seconds, LANGUAGES["zh"]) == chinese


def test_the_language_is_a_value() -> None:
    """Every sentence goes through the words that were given."""
    failure = a_failure(BUSINESS, options=TaskOptions())
    for verdict in (a_verdict(BUSINESS), a_verdict(CONFIG, rule="http.unauthorized")):
        (message,) = notify.compose(failure, verdict, HANDED_OVER, 1, lambda text: f"<{text}>")
        assert all(line.startswith("<") for line in message.body.splitlines())
        assert message.title.startswith("<")
