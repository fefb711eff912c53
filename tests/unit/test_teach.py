"""The pure parts of teaching: what the journal says, an operator's word, common text, trials."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from regrow import decide
from regrow.adapters.patterns import compile_patterns
from regrow.capture.fingerprint import parameterise
from regrow.model import (
    BUSINESS,
    CONFIG,
    DATA,
    NETWORK,
    OPERATOR,
    TEMPORARY,
    UNKNOWN,
    Action,
    Audience,
    Category,
    History,
    Label,
    Lesson,
    Lessons,
    OwnRule,
    Reason,
    RuleState,
    Sample,
    TaskOptions,
    Teaching,
)
from regrow.teach import Trial, common_pattern, judged, learn, propose
from regrow.testing import GUIDE, START, a_failure, a_verdict


def a_rule(**changes: Any) -> OwnRule:
    """A rule; `changes` is any field."""
    return replace(OwnRule("r", NETWORK.key, ("a pattern",)), **changes)


def journal(*said: tuple[Teaching, str] | tuple[Teaching, str, str]) -> list[Lesson]:
    """Lines of a journal: kind, subject and category."""
    return [
        Lesson(kind, subject, "ann", START + timedelta(seconds=number), *more, rule=a_rule(id=subject), id=number)
        for number, (kind, subject, *more) in enumerate(said, 1)
    ]


def a_label(text: str = "", category: Category = TEMPORARY, **changes: Any) -> Label:
    """An operator's word; `changes` is any field."""
    return replace(Label(f"v1:{text}", category.key, "ann", START, text=text), **changes)


# -- the journal ------------------------------------------------------------------------------------------------------


def test_the_last_word_counts() -> None:
    """A second word for a group replaces the first; one that is taken back is gone."""
    known = learn(
        Lessons(),
        journal(
            (Teaching.LABEL, "v1:a", "x"),
            (Teaching.LABEL, "v1:a", "y"),
            (Teaching.LABEL, "v1:b", "z"),
            (Teaching.UNLABEL, "v1:b"),
            (Teaching.UNLABEL, "v1:never"),
        ),
    )
    assert {key: label.category for key, label in known.labels.items()} == {"v1:a": "y"}
    assert (known.labels["v1:a"].by, known.labels["v1:a"].at) == ("ann", START + timedelta(seconds=2))
    assert known.last == 5


@pytest.mark.parametrize(
    ("kinds", "state"),
    [
        ("add", RuleState.LIVE),
        ("add disable", RuleState.DISABLED),
        ("add disable enable", RuleState.LIVE),
        ("propose", RuleState.PROPOSED),
        ("propose enable", RuleState.PROPOSED),
        ("propose disable", RuleState.REFUSED),
        ("propose disable enable", RuleState.PROPOSED),
        ("propose disable add", RuleState.LIVE),
        ("propose add", RuleState.LIVE),
        ("add propose", RuleState.LIVE),
        ("add disable add", RuleState.DISABLED),
    ],
)
def test_where_a_rule_stands(kinds: str, state: RuleState) -> None:
    """A proposed rule counts only when somebody adds it; one that is disabled only when somebody enables it."""
    known = learn(Lessons(), journal(*((Teaching(kind), "r") for kind in kinds.split())))
    assert known.rules["r"].state is state
    assert known.rules["r"].changed_by == "ann"


def test_a_proposal_that_is_added_under_another_id_is_gone() -> None:
    """So that it does not stand there twice."""
    lines = journal((Teaching.PROPOSE, "p"), (Teaching.ADD, "mine"))
    known = learn(Lessons(), [lines[0], replace(lines[1], proposal="p")])
    assert {name: one.state for name, one in known.rules.items()} == {"mine": RuleState.LIVE}


# -- an operator's word -----------------------------------------------------------------------------------------------


def test_a_word_stands_above_the_rules() -> None:
    """The verdict names who said it and when, and keeps what the classifier found as evidence."""
    found = a_verdict(BUSINESS, conflict=True)
    label = a_label(because="it heals at midnight")
    verdict = judged(a_failure(), found, label, TEMPORARY)
    assert (verdict.category, verdict.layer, verdict.rule, verdict.conflict) == (TEMPORARY, OPERATOR, OPERATOR, False)
    assert verdict.matched == "ann, 2026-01-01 12:00:00 UTC: it heals at midnight"
    assert [(one.category, one.rule) for one in verdict.runners_up] == [(BUSINESS.key, "a-rule")]
    assert verdict.root_cause == found.root_cause


def test_what_nothing_had_found_is_no_evidence() -> None:
    """An unknown cause leaves none."""
    assert judged(a_failure(), a_verdict(UNKNOWN), a_label(), NETWORK).runners_up == ()


@pytest.mark.parametrize(
    ("failure", "verdict", "action", "reason"),
    [
        ({}, {}, Action.RETRY, Reason.CAN_HEAL),
        ({"options": TaskOptions(retry=False)}, {}, Action.HAND_OVER, Reason.OWNER_SAID_NO),
        ({"work_done": True}, {}, Action.HOLD, Reason.WORK_MAY_BE_DONE),
        ({"died": True}, {}, Action.HOLD, Reason.WORK_MAY_BE_DONE),
        ({"died": True, "options": TaskOptions(idempotent=True)}, {}, Action.RETRY, Reason.CAN_HEAL),
        ({}, {"caution": "work may be done"}, Action.HOLD, Reason.WORK_MAY_BE_DONE),
        ({"expected": True}, {}, Action.HAND_OVER, Reason.EXPECTED),
        ({"final": Reason.REJECTED}, {}, Action.HAND_OVER, Reason.REJECTED),
        ({"envelope": None}, {}, Action.HAND_OVER, Reason.CALL_NOT_KEPT),
    ],
)
def test_a_word_for_a_retry_overrules_no_caution(
    failure: dict[str, Any], verdict: dict[str, Any], action: Action, reason: Reason
) -> None:
    """He has said what the failure is; what speaks against a retry without a person goes on speaking."""
    one = a_failure(**failure)
    said = judged(one, a_verdict(DATA, **verdict), a_label(), TEMPORARY)
    decision = decide.decide(one, said, History(), 1, now=START, policies=GUIDE)
    assert (decision.action, decision.reason) == (action, reason)


def test_a_word_against_a_retry() -> None:
    """What the classifier would retry is handed over."""
    said = judged(a_failure(), a_verdict(NETWORK), a_label(category=CONFIG), CONFIG)
    assert decide.decide(a_failure(), said, History(), 1, now=START, policies=GUIDE).reason is Reason.NOT_HEALABLE


# -- categories of one's own ------------------------------------------------------------------------------------------


def test_a_category_brings_its_schedule() -> None:
    """Its delays one after the other, the last one for all that follow, and its own limit."""
    mine = Category("courier_busy", Audience.ADMINISTRATOR, retries=True, delays_seconds=(1, 5), max_attempts=3)
    decisions = [
        decide.decide(a_failure(), a_verdict(mine), History(), attempt, now=START, policies=GUIDE)
        for attempt in (1, 2, 3, 4)
    ]
    assert [one.delay_seconds for one in decisions] == [1, 5, 5, None]
    assert [one.action for one in decisions] == [Action.RETRY] * 3 + [Action.GIVE_UP]


def test_a_category_without_a_schedule_waits_as_temporary_failures_do() -> None:
    """And one that is not retried is not."""
    retried = Category("courier_busy", Audience.USER, retries=True)
    assert decide.decide(a_failure(), a_verdict(retried), History(), 1, now=START, policies=GUIDE).delay_seconds == 180
    left = Category("courier_gone", Audience.USER)
    assert (
        decide.decide(a_failure(), a_verdict(left), History(), 1, now=START, policies=GUIDE).action is Action.HAND_OVER
    )
    none = Category("courier_off", Audience.USER, retries=True, max_attempts=0)
    assert (
        decide.decide(a_failure(), a_verdict(none), History(), 1, now=START, policies=GUIDE).reason
        is Reason.RETRIES_OFF
    )
    assert decide.retries_allowed(replace(retried, max_attempts=9), GUIDE) == 9


# -- common text ------------------------------------------------------------------------------------------------------

COMMON = [
    (
        ["Courier SF quota of shop 12", "courier YTO quota for 99", "the courier has no quota"],
        r"\bcourier\b.*\bquota\b",
    ),
    (["顺丰快递今日额度已用完，订单12", "圆通今日额度已用完", "中通：今日额度已用完了"], "今日额度已用完"),
    (["上海仓库网关繁忙", "网关很繁忙", "网关繁忙！"], "网关.*繁忙"),
    (
        ["Gateway 'x' busy (code=1)", "gateway 'y' busy (code=2)", "Gateway 'z' busy (code=3)"],
        r"\bgateway\b.*\bbusy \(code\b",
    ),
    (["first line quota spent\nnoise 1", "quota spent\nother noise", "any quota spent"], r"\bquota spent\b"),
    (
        ["库存服务 gateway 不可用", "订单服务 gateway 暂不可用", "支付服务 gateway 不可用"],
        r"服务 \bgateway\b.*可用|服务 gateway.*",
    ),
]


@pytest.mark.parametrize(("messages", "pattern"), COMMON, ids=lambda one: one[0][:12] if isinstance(one, list) else "")
def test_common_text(messages: list[str], pattern: str) -> None:
    """The longest sequence of words in all of them, with gaps; the pattern matches each, and no other text."""
    found = common_pattern([parameterise(one) for one in messages])
    assert found == pattern or "|" in pattern
    matcher = compile_patterns([found])
    assert all(matcher.hits(one) for one in messages)
    assert not matcher.hits("Connection refused")


@pytest.mark.parametrize(
    "messages",
    [
        ["the error is not in the list", "an error is in this", "error is in that"],
        ["Order 1 not found", "Payment 2 not found", "user 3 not found"],
        ["operation failed", "task failed", "it failed"],
        ["错误：失败", "失败的错误", "出现错误，失败"],
        ["库存不足", "库存已满", "库存为零"],
        ["order <number>", "order <number>", "order <number>"],
        ["quota, quota", "quota quota quota", "quota: quota"],
        ["", "", ""],
        ["a b c", "d e f", "g h i"],
    ],
)
def test_too_little_in_common(messages: list[str]) -> None:
    """Stop words, one word, or fewer than four Chinese characters tell nothing."""
    assert common_pattern(messages) == ""


def test_three_that_agree() -> None:
    """Two are not enough, nor is a third of another category or with another text; the third makes a pattern."""
    first, second = a_label("courier SF quota 1"), a_label("courier YTO has no quota")
    other = a_label("the courier quota is spent", DATA)
    alien = a_label("database is locked")
    third = a_label("courier quota used up")
    assert propose(second, [first, second, other, alien], parameterise) is None
    found = propose(third, [first, second, third, other, alien], parameterise)
    assert found is not None
    assert found[0] == r"\bcourier\b.*\bquota\b"
    assert set(found[1]) == {first, second, third}


def test_many_labels_are_quick() -> None:
    """Thousands of long messages take no time to speak of."""
    many = [a_label(f"gateway timeout {'abcdefgh'[n % 8]}{n} " * 30) for n in range(3000)]
    found = propose(many[0], many, parameterise)
    assert found is not None
    assert "gateway" in found[0]


# -- trials -----------------------------------------------------------------------------------------------------------


def a_sample(number: int, category: Category, caution: str = "") -> Sample:
    """A failure of the ledger."""
    return Sample(number, "shop.pay", START, "v1:a", "E", "text", "", category.key, "pattern", "a-rule", caution)


def test_a_trial_counts() -> None:
    """From and to, the retries that would start and stop, and at most five examples of each."""
    trial = Trial()
    for number in range(8):
        trial.count(a_sample(number, BUSINESS), BUSINESS, TEMPORARY, hit=True)
    trial.count(a_sample(8, DATA, caution="work may be done"), DATA, TEMPORARY, hit=True)
    trial.count(a_sample(9, NETWORK), NETWORK, DATA, hit=True)
    trial.count(a_sample(10, NETWORK), NETWORK, NETWORK, hit=False)
    assert (trial.seen, trial.hits, trial.changed) == (11, 10, 10)
    assert (trial.starts.count, trial.stops.count, trial.risky, trial.held) == (8, 1, 8, 1)
    assert [one.id for one in trial.starts.examples] == [0, 1, 2, 3, 4]
    assert {pair: change.count for pair, change in trial.changes.items()} == {
        (BUSINESS.key, TEMPORARY.key): 8,
        (DATA.key, TEMPORARY.key): 1,
        (NETWORK.key, DATA.key): 1,
    }
