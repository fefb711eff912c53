"""The model behind the rules: what it looks at, when its word counts, and what it may not do alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from regrow.adapters.patterns import compile_patterns
from regrow.adapters.rules import load_model, load_rulebook
from regrow.classify import Model, Pattern, Rule, Rulebook, classify
from regrow.classify.script import simplified
from regrow.classify.statistics import features
from regrow.classify.verdict import UNSURE
from regrow.model import BUSINESS, CATEGORIES, DATA, NETWORK, UNKNOWN, Cause
from tools import evaluate, train_statistics

KEYS = tuple(CATEGORIES)


def model(**weights: str) -> Model:
    """A model that knows a few words, each of one category."""
    made = {word: tuple(9.0 if key == category else 0.0 for key in KEYS) for word, category in weights.items()}
    return Model(KEYS, made, guess=0.6, overrule=0.6, retry=0.9)


def book(asked: Model | None, *rules: tuple[str, Rule]) -> Rulebook:
    """A rulebook with these patterns and this model."""
    patterns = tuple(Pattern(text, rule) for text, rule in rules)
    matcher = compile_patterns([one.pattern for one in patterns])
    return Rulebook({}, {}, {}, frozenset(), patterns, matcher, model=asked)


def test_it_is_asked_where_nothing_speaks() -> None:
    """Words decide where no fact does; what they are is the evidence, and what is likely is the confidence."""
    found = classify([Cause("", "the parcel is stuck")], book(model(parcel=BUSINESS.key)))
    assert (found.category, found.layer, found.matched) == (BUSINESS, "statistics", "parcel")
    assert 0.9 < found.confidence <= 1
    assert classify([Cause("", "nothing known")], book(model(parcel=BUSINESS.key))).category is UNKNOWN


def test_a_plain_fact_is_not_weighed() -> None:
    """From a rank on the rule decides; below it, the words may, and the rule stays as a runner-up."""
    asked = model(parcel=BUSINESS.key)
    plain = classify([Cause("", "parcel broken")], book(asked, ("broken", Rule("r", DATA, 90, 0.9))))
    weak = classify([Cause("", "parcel broken")], book(asked, ("broken", Rule("r", DATA, 50, 0.9))))
    assert (plain.category, plain.rule) == (DATA, "r")
    assert (weak.category, [one.rule for one in weak.runners_up]) == (BUSINESS, ["r"])


def test_words_alone_start_no_retry_against_a_fact() -> None:
    """Where a fact speaks against it a person is asked; where one speaks for it the words may agree."""
    asked = model(parcel=NETWORK.key)
    against = classify([Cause("", "parcel broken")], book(asked, ("broken", Rule("r", DATA, 60, 0.9))))
    assert (against.category, against.caution) == (NETWORK, UNSURE)
    agreed = Rule("r", CATEGORIES["recoverable_temporary"], 60, 0.9)
    assert classify([Cause("", "parcel broken")], book(asked, ("broken", agreed))).caution == ""
    careful = replace(asked, retry=1.0)
    assert classify([Cause("", "parcel")], book(careful)).caution == UNSURE


def test_what_it_looks_at() -> None:
    """Stems of words and pairs of them, the parts of names, Chinese by characters, and the facts."""
    seen = features("OrderNotFound", "Connections lost\n订单不存在", [(76, DATA.key, "data.x")])
    for name in ("type order", "class OrderNotFound", "connec", "connec lost", "订单", "不存在", "rule data.x"):
        assert name in seen
    assert "lost 订单" not in seen
    assert features("", "same", []) == features("", "same", [])
    ids = ("01c7610c-d424-4ae1-b8af-c451148c5d6e", "2d0f2f4c-d400-4078-894a-6e2479c2fc3b")
    assert len({tuple(features("", f"Can't retry app.pay[{one}]", [])) for one in ids}) == 1


def test_the_packaged_model_is_whole() -> None:
    """It knows every category, and each feature has a weight for each."""
    packaged = load_model()
    assert set(packaged.categories) == set(CATEGORIES)
    assert {len(weights) for weights in packaged.weights.values()} == {len(CATEGORIES)}
    assert sum(packaged.judge(["bias", "connec"])) == pytest.approx(1)


@pytest.mark.parametrize(
    ("traditional", "plain"),
    [
        ("伺服器忙碌中", "服务器忙碌中"),
        ("資料庫連線逾時", "数据库连接超时"),
        ("找不到該檔案", "找不到该文件"),
        ("訊息佇列已滿", "消息队列已满"),
        ("plain ASCII", "plain ASCII"),
        ("设定档案", "设定档案"),  # the mainland's own words stay
    ],
)
def test_traditional_characters_are_read_as_simplified(traditional: str, plain: str) -> None:
    """Of the same length, so that what was found stands at the same place."""
    assert simplified(traditional) == plain
    assert len(plain) == len(traditional)


def test_both_scripts_get_the_same_verdict() -> None:
    """Whoever writes 資料庫連線逾時 means 数据库连接超时."""
    rulebook = load_rulebook()
    for traditional, plain in (
        ("資料庫連線逾時", "数据库连接超时"),
        ("訂單不存在", "订单不存在"),
        ("記憶體不足", "内存不足"),
    ):
        assert classify([Cause("", traditional)], rulebook).category is classify([Cause("", plain)], rulebook).category


def test_what_matched_is_shown_as_it_was_written() -> None:
    """Whoever reads a verdict finds the text in his own log."""
    verdict = classify([Cause("", "訂單 7：商品庫存不足")], load_rulebook())
    assert verdict.category is BUSINESS
    assert verdict.matched in "訂單 7：商品庫存不足"
    assert all(one.matched in "訂單 7：商品庫存不足" for one in verdict.runners_up if one.layer == "pattern")


def test_training_gives_the_same_model_again() -> None:
    """The same lines, the same weights: the file in the package can be made anew."""
    lines = [
        train_statistics.Line("a", "", "connection lost", "", (NETWORK.key,)),
        train_statistics.Line("b", "", "order lost", "", (BUSINESS.key, DATA.key)),
    ]
    seen = [features("", line.message, []) for line in lines]
    assert train_statistics.train(lines, seen).weights == train_statistics.train(lines, seen).weights


def test_figures() -> None:
    """A second defensible label counts; a retry of what time cannot heal is unsafe; a caution starts none."""
    asked = model(net=NETWORK.key, biz=BUSINESS.key)

    def judged(text: str, *labels: str) -> evaluate.Judged:
        verdict = classify([Cause("", text)], book(asked))
        return evaluate.Judged(train_statistics.Line("l", "", text, "", labels), verdict, verdict)

    found = evaluate.figures(
        [
            judged("net", NETWORK.key),
            judged("net", DATA.key),
            judged("biz", DATA.key, BUSINESS.key),
            judged("?", NETWORK.key),
        ]
    )
    assert found["accuracy"] == 0.5
    assert found["retry_precision"] == 0.5
    assert found["not_unsafe"] == 0.75
    assert found["not_missed"] == 0.5
    assert evaluate.below({"accuracy": 0.8}, {"accuracy": 0.9}) == ["accuracy is 80.0%, recorded are 90.0%"]


def test_no_figure_has_fallen(capsys: pytest.CaptureFixture[str]) -> None:
    """On real failures of libraries that were left out of the training (`make evaluate`)."""
    assert evaluate.main([]) == 0, capsys.readouterr().out
