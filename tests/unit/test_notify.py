"""Messages: the right person, once, and no secrets for end users."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow import decide, notify
from regrow.model import (
    BUSINESS,
    CATEGORIES,
    Action,
    Audience,
    Category,
    Cause,
    Decision,
    History,
    Reason,
    TaskOptions,
)
from regrow.testing import GUIDE, START, a_failure, a_verdict

SECRET = "XSECRETX /srv/app/pay.py db-7.internal:5432"

PLANS = [(action, reason) for action in Action for reason in Reason]


@pytest.mark.parametrize("category", CATEGORIES.values(), ids=str)
@pytest.mark.parametrize("user_id", ["", "42"])
def test_one_message_per_decision(category: Category, user_id: str) -> None:
    """Every decision but a retry tells exactly one person, with a key that is its own."""
    keys = set()
    for attempt, (action, reason) in enumerate(PLANS, start=1):
        failure = a_failure(task_id="a", user_id=user_id)
        told = notify.compose(failure, a_verdict(category), Decision(action, reason), attempt, str)
        silent = action is Action.RETRY or reason is Reason.EXPECTED
        assert len(told) == (0 if silent else 1)
        keys.update(message.key for message in told)
        for message in told:
            is_user = category is BUSINESS and action is Action.HAND_OVER and user_id == "42"
            assert message.audience is (Audience.USER if is_user else Audience.ADMINISTRATOR)
            assert message.priority == ("normal" if is_user else "high")
            assert message.title
            assert "\n" not in message.title
            assert message.body
    assert len(keys) == sum(a is not Action.RETRY and r is not Reason.EXPECTED for a, r in PLANS)


@given(st.text(min_size=1))
def test_an_end_user_never_sees_the_error(text: str) -> None:
    """Whatever the exception says, an end user's words are the same: advice (G6)."""

    def told(error: str) -> tuple[str, str]:
        failure = a_failure(
            task_id="a", user_id="42", causes=(Cause(error, error),), traceback=error, error=error, worker=error
        )
        verdict = a_verdict(BUSINESS, matched=error, root_cause=error)
        decision = decide.decide(failure, verdict, History(), 1, now=START, policies=GUIDE)
        (message,) = notify.compose(failure, verdict, decision, 1, str)
        assert message.audience is Audience.USER
        return message.title, message.body

    assert told(text) == told(SECRET)
    assert SECRET not in "".join(told(SECRET))


def test_no_user_goes_to_the_administrator_and_says_so() -> None:
    """A business failure whose user nobody knows is the administrator's, with the cause and the reason why."""
    failure = a_failure(BUSINESS)
    decision = Decision(Action.HAND_OVER, Reason.NOT_HEALABLE)
    (message,) = notify.compose(failure, a_verdict(BUSINESS, root_cause=SECRET), decision, 1, str)
    assert message.audience is Audience.ADMINISTRATOR
    assert SECRET in message.body
    assert "nobody knows who that is, so this comes to you" in message.body


def test_every_reason_and_category_has_words() -> None:
    """Nothing that can be decided leaves people without a sentence."""
    sentences = [notify.explain(reason, str) for reason in Reason]
    assert len(set(sentences)) == len(Reason)
    for key in CATEGORIES:
        assert notify.name(key, str) != key
        assert notify.advice(key, str)
    assert notify.name("their_own", str) == "their_own"
    assert notify.advice("their_own", str)


def test_the_language_is_a_value() -> None:
    """Every sentence goes through the words that were given."""
    failure = a_failure(BUSINESS, options=TaskOptions())
    decision = Decision(Action.HAND_OVER, Reason.NOT_HEALABLE)
    (message,) = notify.compose(failure, a_verdict(BUSINESS), decision, 1, lambda text: f"<{text}>")
    assert all(line.startswith("<") for line in message.body.splitlines())
    assert message.title.startswith("<")
