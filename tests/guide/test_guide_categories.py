"""Six categories, the guide's patterns, and the analyzer (G1, G13, G15, G21)."""

from __future__ import annotations

import ast
import re
from typing import Any

import pytest

from tests.guide.machine import Machine
from tests.guide.printed import chapter, runs

#: The table's first column -> the key.
NAMES = {
    "可恢复网络错误": "recoverable_network",
    "可恢复系统错误": "recoverable_system",
    "可恢复临时错误": "recoverable_temporary",
    "不可恢复数据错误": "unrecoverable_data",
    "不可恢复配置错误": "unrecoverable_config",
    "不可恢复业务错误": "unrecoverable_business",
}

#: The table's third column -> what is decided, and who is told.
HANDLING = {
    "立即重试": ("retry", ""),
    "延迟重试": ("retry", ""),
    "渐进重试": ("retry", ""),
    "通知管理员": ("hand_over", "administrator"),
    "通知用户": ("hand_over", "user"),
}

#: What each printed pattern is for, in words that match no other one.
EXAMPLES = {
    r"connection.*timeout": "Connection to warehouse ended in a timeout",
    r"network.*unreachable": "the network of the warehouse is unreachable",
    r"connection.*refused": "connection to the printer was refused",
    r"dns.*resolution.*failed": "DNS name resolution for the printer has failed",
    r"socket.*timeout": "socket operation: timeout",
    r"read.*timeout": "read of 4096 bytes: timeout",
    r"memory.*error": "Memory allocation error",
    r"disk.*space": "the disk of this worker has not enough space",
    r"no.*space.*left": "there is no more space left here",
    r"resource.*temporarily.*unavailable": "[Errno 11] Resource temporarily unavailable",
    r"too.*many.*open.*files": "Too many files: open files are limited; open some files less",
    r"permission.*denied": "[Errno 13] Permission denied: '/var/spool/labels'",
    r"invalid.*data.*format": "invalid data: wrong format of line 3",
    r"malformed.*json": "malformed body, no JSON",
    r"parse.*error": "could not parse line 3: error",
    r"validation.*failed": "Validation of the address failed",
    r"constraint.*violation": "Constraint address_check: violation",
    r"null.*value.*in.*column": "null value found in a column",
}

ANALYSE = """
from app.tasks.failure_tasks import FailureAnalyzer, FailureCategory
found = [FailureAnalyzer().analyze_failure(text) for text in texts]
answer = [[category, isinstance(category, FailureCategory), analysis] for category, analysis in found]
"""


def categories(running: Machine, texts: list[str]) -> list[str]:
    """What the analyzer says about some messages."""
    return [category for category, _member, _analysis in running.python(ANALYSE, texts=texts)]


def table() -> list[list[str]]:
    """The rows of the guide's table: category, description, handling, examples."""
    rows = [row.strip("|").split("|") for row in chapter("1. 智能失败分析").splitlines() if row.startswith("| **")]
    return [[cell.strip(" *") for cell in row] for row in rows]


# -- the table (G1) ---------------------------------------------------------------------------------------------------


def test_the_table(running: Machine) -> None:
    """Every example of the table gets its category, and what is decided is what the table says."""
    assert [row[0] for row in table()] == list(NAMES)
    code = """
from app.tasks.celery_app import celery_app
from regrow.capture import causes_from_text
from regrow.decide import decide
from regrow.model import Failure, History
from regrow.notify import compose
pipeline = celery_app.regrow.pipeline()
answer = []
for text in texts:
    now = pipeline.clock()
    causes = causes_from_text("", text, "")
    failure = Failure("id", "app.tasks.business.tracking_update", now, causes, envelope="{}", user_id="7")
    verdict = pipeline.classify(causes)
    decision = decide(failure, verdict, History(), 1, now=now, policies=pipeline.policies)
    told = [message.audience for message in compose(failure, verdict, decision, 1, pipeline.words)]
    answer.append([verdict.category.key, decision.action, *told])
"""
    for name, _description, handling, examples in table():
        texts = examples.split(", ")
        assert len(texts) >= 2
        for text, (category, action, *told) in zip(texts, running.python(code, texts=texts), strict=True):
            assert (text, category) == (text, NAMES[name])
            assert (action, *told) == tuple(filter(None, HANDLING[handling]))


def test_the_members(running: Machine) -> None:
    """The six, `unknown`, and the guide's own two; each equals its text and is found by it."""
    code = """
from app.tasks.failure_tasks import FailureCategory
answer = {one.name: one.value for one in FailureCategory}
for name, value in answer.items():
    member = getattr(FailureCategory, name)
    assert FailureCategory(value) is member == value
    assert f"{member}" == value
"""
    keys = [*NAMES.values(), "unknown", "custom_error", "custom_business_error"]
    assert running.python(code) == {key.upper(): key for key in keys}
    assert categories(running, ["", "Error", "Something went wrong"]) == ["unknown"] * 3


# -- the patterns (G13) -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [str, str.upper, str.lower], ids=["as it is", "upper", "lower"])
@runs("错误模式匹配规则/网络错误模式")
def test_network_patterns(running: Machine, printed: str, case: Any) -> None:
    """Each printed pattern gives its category."""
    check(running, printed, "recoverable_network", case)


@pytest.mark.parametrize("case", [str, str.upper, str.lower], ids=["as it is", "upper", "lower"])
@runs("错误模式匹配规则/系统错误模式")
def test_system_patterns(running: Machine, printed: str, case: Any) -> None:
    """Each printed pattern gives its category."""
    check(running, printed, "recoverable_system", case)


@pytest.mark.parametrize("case", [str, str.upper, str.lower], ids=["as it is", "upper", "lower"])
@runs("错误模式匹配规则/数据错误模式")
def test_data_patterns(running: Machine, printed: str, case: Any) -> None:
    """Each printed pattern gives its category."""
    check(running, printed, "unrecoverable_data", case)


def check(running: Machine, printed: str, category: str, case: Any) -> None:
    """Each pattern of a printed list gives this category, by an example and by no other pattern of the guide."""
    space: dict[str, Any] = {}
    exec(printed, space)
    patterns = space["patterns"]
    assert len(patterns) == 6
    texts = [case(EXAMPLES[pattern]) for pattern in patterns]
    for pattern, text in zip(patterns, texts, strict=True):
        assert [one for one in EXAMPLES if re.search(one, text, re.IGNORECASE)] == [pattern]
    assert dict(zip(texts, categories(running, texts), strict=True)) == dict.fromkeys(texts, category)


# -- the analyzer (G21) -----------------------------------------------------------------------------------------------

FAILED_TASKS = {
    "a dict": 'failed_task = {"error_message": "connection timeout", "task_type": "tracking_update"}',
    "a message": 'failed_task = "connection timeout"',
    "an exception": 'failed_task = ConnectionRefusedError(111, "Connection refused")',
    "a row": """
from app.db import db
from app.models import Task
failed_task = Task(task_type="tracking_update", error_type="httpx.ConnectError", error_message="Connection refused")
""",
    "a stored row": """
from app.db import db
from app.models import Task
failed_task = db.query(Task).filter(Task.error_message == "connection refused").first()
""",
}


@runs("故障排除/2. 错误分类不准确")
@pytest.mark.parametrize("what", FAILED_TASKS)
def test_the_analyzer(running: Machine, printed: str, what: str) -> None:
    """The printed lines say the category as its text, and the verdict as a dict, whatever a failed task is."""
    if what == "a stored row":
        task_id = running.send("stumble", "never", "connection refused")
        running.record(task_id)
        running.projected(task_id, "retrying")
    answer, said = running.typed(
        f"{FAILED_TASKS[what]}\n{printed}\n"
        "from app.tasks.failure_tasks import FailureCategory\n"
        "answer = [category == 'recoverable_network', isinstance(category, FailureCategory), analysis]"
    )
    assert answer[:2] == [True, True]
    begin, _, shown = said.partition(", 分析: ")
    assert begin == "分类: recoverable_network"
    analysis = ast.literal_eval(shown)
    assert analysis.keys() == answer[2].keys()
    assert analysis["category"] == "recoverable_network"
    assert analysis["rule"]
    assert 0.5 < analysis["confidence"] <= 1


def test_the_analyzer_refuses_what_is_no_failed_task(running: Machine) -> None:
    """A clear error, not a verdict on the text of an object."""
    code = """
from app.tasks.failure_tasks import FailureAnalyzer
try:
    FailureAnalyzer().analyze_failure(123)
except TypeError as error:
    answer = str(error)
"""
    assert "error_message" in running.python(code)


# -- own categories and patterns (G15) --------------------------------------------------------------------------------


@runs("配置选项/自定义错误模式")
def test_custom_patterns(running: Machine, printed: str) -> None:
    """The printed patterns are there, and give their category; added to an analyzer they count from the next verdict."""
    texts = ["custom shipping error pattern", "a specific business rule says no"]
    assert categories(running, texts) == ["custom_error"] * 2
    code = """
from app.tasks.failure_tasks import FailureAnalyzer, FailureCategory, custom_patterns as built_in
exec(printed)
analyzer = FailureAnalyzer()
answer = [built_in[FailureCategory.CUSTOM_ERROR] == custom_patterns[FailureCategory.CUSTOM_ERROR]]
analyzer.error_patterns[FailureCategory.CUSTOM_ERROR] = []
answer.append(analyzer.analyze_failure(text)[0])
analyzer.error_patterns.update(custom_patterns)
answer.append(analyzer.analyze_failure(text)[0])
"""
    with running.prompt() as prompt:
        answer, _said = prompt.run(code, printed=printed, text=texts[0])
    assert answer[1] != "custom_error"
    assert answer == [True, answer[1], "custom_error"]


@runs("扩展开发/1. 添加新的错误类型")
def test_a_new_category(running: Machine, printed: str) -> None:
    """The printed lines add a category, for the next verdict; a worker that has them handles such failures by it."""
    code = """
from enum import Enum
from app.tasks.failure_tasks import FailureAnalyzer

class Analyzer(FailureAnalyzer):
    def __init__(self):
        super().__init__()
        self.error_patterns.pop("custom_business_error")
        before = self.analyze_failure("custom voucher business error")[0]
        exec(printed)
        self.found = [before, *(self.analyze_failure(text)[0] for text in texts)]

answer = Analyzer().found
"""
    texts = ["custom voucher business error", "a specific voucher validation has failed"]
    with running.prompt() as prompt:
        answer, _said = prompt.run(code, printed=printed, texts=texts)
    assert answer[0] != "custom_business_error"
    assert answer[1:] == ["custom_business_error", "custom_business_error"]

    task_id = running.send("stumble", "never", texts[0], headers={"user_id": "user-voucher"})
    record = running.record(task_id)
    assert (record.category, record.state) == ("custom_business_error", "handed_over")
    assert record.history[0].rule == "own.custom_business_error"


def test_more_categories_from_outside(running: Machine) -> None:
    """Any Enum, any key, any time; a pattern that was just added changes the very next verdict."""
    code = """
from enum import Enum
from app.tasks.failure_tasks import FailureAnalyzer, FailureCategory

class Mine(Enum):
    VOUCHER = "voucher_error"

analyzer = FailureAnalyzer()
answer = [analyzer.analyze_failure(text)[0]]
analyzer.error_patterns[Mine.VOUCHER] = ["voucher .* is void"]
answer.append(analyzer.analyze_failure(text)[0])
analyzer.error_patterns[Mine.VOUCHER].append("gutschein")
answer.append(FailureAnalyzer().analyze_failure("Gutschein 7")[0])
FailureCategory.add("LATE_ERROR", "late_error", audience="time")
analyzer.error_patterns[FailureCategory.LATE_ERROR] = ["too late"]
answer.append(analyzer.analyze_failure("too late by 3 s")[0])
answer += [FailureCategory.LATE_ERROR, FailureCategory("voucher_error")]
"""
    with running.prompt() as prompt:
        answer, _said = prompt.run(code, text="voucher 7 is void")
    assert answer[0] != "voucher_error"
    assert answer[1:] == [*["voucher_error"] * 2, "late_error", "late_error", "voucher_error"]


@pytest.mark.parametrize("when", ["at start", "later"])
def test_a_pattern_that_cannot_be_used(running: Machine, when: str) -> None:
    """It is refused with its reason: at start as an error, in a process that runs by being left out, so that others go on."""
    code = """
from app.tasks.failure_tasks import FailureAnalyzer, FailureCategory
analyzer = FailureAnalyzer()
if when == "later":
    analyzer.analyze_failure("x")
answer = []
for pattern in patterns:
    analyzer.error_patterns[FailureCategory.CUSTOM_ERROR] = [pattern, "a good one"]
    try:
        answer.append([analyzer.analyze_failure(text)[0] for text in ("a good one", "connection timeout")])
    except Exception as error:
        answer.append(f"{type(error).__name__}: {error}")
"""
    bad = {"(": "(", "(?=later)x": "(?=later)x", r"(x)\1": r"\1", "x" * 5000: "5000 characters", 7: "custom_error is 7"}
    with running.prompt() as prompt:
        answer, _said = prompt.run(code, patterns=list(bad), when=when)
        said = prompt.process.text()
    if when == "later":
        assert answer == [["custom_error", "recoverable_network"]] * len(bad)
        assert said.count("regrow leaves out a pattern of your own") == len(bad)
        assert all(why in said for why in bad.values())
    else:
        assert [one[:10] for one in answer] == ["RuleError:"] * len(bad)
        assert all(why in one for one, why in zip(answer, bad.values(), strict=True))


def test_a_hostile_pattern_hangs_nobody(running: Machine) -> None:
    """Exponential for many matchers: here the verdict comes at once, even on a long text."""
    code = """
from app.tasks.failure_tasks import FailureAnalyzer, FailureCategory
analyzer = FailureAnalyzer()
analyzer.error_patterns[FailureCategory.CUSTOM_ERROR] = ["(a+)+$", "(x|xx)*y"]
answer = [analyzer.analyze_failure("x" * 50_000 + "!")[0], analyzer.analyze_failure("a" * 50_000)[0]]
"""
    with running.prompt() as prompt:
        assert prompt.run(code)[0] == ["unknown", "custom_error"]
