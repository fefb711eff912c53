"""Which fact wins, and what the verdict says about it."""

from __future__ import annotations

import pytest

from regrow.adapters.patterns import compile_patterns
from regrow.adapters.rules import load_rulebook
from regrow.capture import causes_from_text
from regrow.classify import Rule, Rulebook, classify
from regrow.model import BUSINESS, CONFIG, DATA, NETWORK, SYSTEM, TEMPORARY, UNKNOWN, Category, Cause

# Source: spec/labels.md, boundaries and settled cases; the guide, error patterns and best practice 1.
SENTENCES = [
    ("[NETWORK] Connection timeout: API服务器连接超时，请检查网络连接", NETWORK),
    ("[DATA] Validation failed: 快递单号格式不正确，应为10-20位数字或字母", DATA),
    ("Connection refused", NETWORK),
    ("could not connect to redis://10.0.0.1:6379: Connection refused", TEMPORARY),
    ("Can't connect to MySQL server on 'db' (timed out)", TEMPORARY),
    ('FATAL: password authentication failed for user "app"', CONFIG),
    ("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed", CONFIG),
    ("EOF occurred in violation of protocol (_ssl.c:1006)", NETWORK),
    ("403 Forbidden", CONFIG),
    ("403 Forbidden: rate limit exceeded", TEMPORARY),
    ("[Errno 13] Permission denied: '/var/data'", SYSTEM),
    ("permission denied for table orders", CONFIG),
    ('duplicate key value violates unique constraint "x"', DATA),
    ("Order already shipped", BUSINESS),
    ('relation "orders" does not exist', CONFIG),
    ("Order 123 not found", BUSINESS),
    ("[Errno 2] No such file or directory: '/data/in.csv'", DATA),
    ("You exceeded your current quota, please check your plan and billing details", CONFIG),
    ("canceling statement due to statement timeout", TEMPORARY),
    ("KeyError: 'DATABASE_URL'", CONFIG),
    ("KeyError: 'name'", DATA),
    ("courier not supported", BUSINESS),
    ("不支持该快递公司", BUSINESS),
    ("数据库连接失败", TEMPORARY),
    ("网络连接超时", NETWORK),
    ("磁盘空间不足", SYSTEM),
    ("API密钥无效", CONFIG),
    ("Something went wrong", UNKNOWN),
    ("Error", UNKNOWN),
    ("", UNKNOWN),
]


@pytest.fixture(scope="module")
def rulebook() -> Rulebook:
    return load_rulebook()


@pytest.mark.parametrize(("message", "category"), SENTENCES)
def test_what_the_labels_settle(rulebook: Rulebook, message: str, category: Category) -> None:
    """Boundaries and settled cases of the specification hold for plain text."""
    verdict = classify(causes_from_text("", message, ""), rulebook)
    assert verdict.category is category, verdict


def test_nothing_to_say_is_unknown(rulebook: Rulebook) -> None:
    """No cause at all is unknown, never retried, and still a verdict."""
    verdict = classify((), rulebook)
    assert (verdict.category, verdict.rule, verdict.confidence) == (UNKNOWN, "none", 0.0)


def test_the_root_cause_beats_its_wrapper(rulebook: Rulebook) -> None:
    """Max retries exceeded: the exception inside says why."""
    chain = [
        Cause("requests.exceptions.ConnectionError", "Max retries exceeded"),
        Cause("ssl.SSLCertVerificationError", ""),
    ]
    verdict = classify(chain, rulebook)
    assert verdict.category is CONFIG
    assert verdict.root_cause == "ssl.SSLCertVerificationError"


def test_a_refused_connection_of_a_store_is_its_outage(rulebook: Rulebook) -> None:
    """The package that raised tells a broker's refused connection from any other."""
    refused = Cause(
        "ConnectionRefusedError",
        "",
        ("ConnectionRefusedError", "ConnectionError", "OSError"),
        (("errno", "111"),),
    )
    at_broker = Cause(refused.type, "", refused.bases, (*refused.codes, ("package", "amqp")))
    assert classify([refused], rulebook).category is NETWORK
    assert classify([at_broker], rulebook).category is TEMPORARY


def test_redis_authentication_is_not_a_connection_error(rulebook: Rulebook) -> None:
    """redis-py makes it a ConnectionError; the first known class of the MRO decides."""
    bases = (
        "redis.exceptions.AuthenticationError",
        "redis.exceptions.ConnectionError",
        "redis.exceptions.RedisError",
    )
    assert classify([Cause(bases[0], "", bases)], rulebook).category is CONFIG


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (Cause("NotImplementedError", ""), "does not exist"),
        (Cause("celery.exceptions.NotRegistered", "'x'"), "no worker knows"),
        (Cause("kombu.exceptions.EncodeError", "x is not JSON serializable"), "work may be done already"),
        (
            Cause("billiard.exceptions.WorkerLostError", "Worker exited prematurely: signal 9"),
            "work may be done already",
        ),
        (Cause("billiard.einfo.WorkerLostError", ""), "work may be done already"),
        (Cause("WorkerLostError", ""), "work may be done already"),
        (Cause("billiard.exceptions.TimeLimitExceeded", "TimeLimitExceeded(300,)"), "work may be done already"),
    ],
)
def test_caution_where_a_retry_would_be_wrong(rulebook: Rulebook, cause: Cause, words: str) -> None:
    """Some failures must never run again without a person, and the verdict says why."""
    assert words in classify([cause], rulebook).caution


def test_a_task_cut_off_is_still_the_systems_trouble(rulebook: Rulebook) -> None:
    """The caution does not change the category; a soft time limit, which the task could catch, needs none."""
    for name in ("billiard.exceptions.WorkerLostError", "billiard.exceptions.TimeLimitExceeded"):
        assert classify([Cause(name, "")], rulebook).category is SYSTEM
    soft = classify([Cause("billiard.exceptions.SoftTimeLimitExceeded", "")], rulebook)
    assert (soft.category, soft.caution) == (SYSTEM, "")


@pytest.mark.parametrize(
    ("message", "seconds"),
    [
        ("Rate limit. Please try again in 20s", 20),
        ("Retry-After: 30", 30),
        ("请20秒后重试", 20),
        ("try again in 1m30s", 90),
        ("no", None),
    ],
)
def test_reads_how_long_to_wait(rulebook: Rulebook, message: str, seconds: float | None) -> None:
    """A waiting time in the text becomes seconds."""
    assert classify([Cause("", message)], rulebook).retry_after_seconds == seconds


def test_a_header_beats_the_text(rulebook: Rulebook) -> None:
    """What the exception carries is exact; what its text says may be rounded."""
    assert classify([Cause("", "try again in 20s", retry_after_seconds=21.5)], rulebook).retry_after_seconds == 21.5


def test_equal_facts_that_disagree_do_not_retry(rulebook: Rulebook) -> None:
    """At equal rank the label that does not retry wins, and the verdict says that there was a conflict."""
    codes = {("a", "1"): Rule("t", TEMPORARY, 80, 0.9), ("b", "1"): Rule("d", DATA, 80, 0.9)}
    book = Rulebook({}, codes, {}, frozenset(), (), rulebook.matcher.__class__([]))  # type: ignore[call-arg]
    verdict = classify([Cause("", "", codes=(("a", "1"), ("b", "1")))], book)
    assert (verdict.category, verdict.conflict) == (DATA, True)
    assert [evidence.rule for evidence in verdict.runners_up] == ["t"]


def test_equal_facts_of_two_layers_that_disagree_do_not_retry(rulebook: Rulebook) -> None:
    """The same holds between a code and a class; at another depth the root cause wins, and there is no conflict."""
    retry, fail = Rule("t", TEMPORARY, 80, 0.9), Rule("d", DATA, 80, 0.9)
    book = Rulebook({}, {("a", "1"): retry}, {"x.Y": fail}, frozenset(), (), rulebook.matcher.__class__([]))  # type: ignore[call-arg]
    both = classify([Cause("x.Y", "", ("x.Y",), (("a", "1"),))], book)
    assert (both.category, both.rule, both.conflict) == (DATA, "d", True)
    root = classify([Cause("x.Y", "", ("x.Y",)), Cause("z.Z", "", ("z.Z",), (("a", "1"),))], book)
    assert (root.category, root.rule, root.conflict) == (TEMPORARY, "t", False)


REFUSED = Cause("ConnectionRefusedError", "[Errno 111] Connection refused", (), (("errno", "111"),))


@pytest.mark.parametrize(
    "fact",
    [
        Cause("aiohttp.client_exceptions.ClientConnectorCertificateError", ""),
        Cause("psycopg.OperationalError", 'FATAL: password authentication failed for user "app"'),
        Cause("ssl.SSLError", "", (), (("ssl", "CERTIFICATE_VERIFY_FAILED"),)),
        Cause("requests.exceptions.HTTPError", "", (), (("http", "401"),)),
        Cause("psycopg.errors.InvalidPassword", "", (), (("sqlstate", "28P01"),)),
        Cause("pymysql.err.OperationalError", "", (), (("mysql", "1045"),)),
        Cause("grpc.RpcError", "", (), (("grpc", "UNAUTHENTICATED"),)),
        Cause("smtplib.SMTPAuthenticationError", "", (), (("smtp", "535"),)),
        Cause("openai.RateLimitError", "You exceeded your current quota", (), (("http", "429"),)),
        Cause("stripe.AuthenticationError", "server closed the connection unexpectedly"),
    ],
)
def test_authentication_certificate_and_quota_beat_a_connection_at_any_depth(rulebook: Rulebook, fact: Cause) -> None:
    """Whether the connection error wraps it or is wrapped by it, and even if the deadlocked database is in between."""
    busy = Cause("psycopg.errors.DeadlockDetected", "deadlock detected", (), (("sqlstate", "40P01"),))
    lost = Cause("x.Y", "server closed the connection unexpectedly")
    for other in (REFUSED, busy, lost):
        for chain in ([other, fact], [fact, other], [other, other, fact, other]):
            assert classify(chain, rulebook).category is CONFIG, chain


def test_a_word_in_a_class_name_overrules_neither_code_nor_class(rulebook: Rulebook) -> None:
    """A name speaks only where nothing else is known of the exception."""
    by_code = classify([Cause("psycopg.errors.DeadlockDetected", "", (), (("sqlstate", "40P01"),))], rulebook)
    assert (by_code.category, by_code.layer) == (TEMPORARY, "code")
    by_class = classify([Cause("requests.exceptions.ReadTimeout", "", ("requests.exceptions.ReadTimeout",))], rulebook)
    assert (by_class.category, by_class.layer) == (NETWORK, "class")
    own = classify([Cause("shop.QuotaExceededError", "", (), (("http", "429"),))], rulebook)
    assert (own.category, own.layer) == (TEMPORARY, "code")
    by_name = classify([Cause("shop.QuotaExceededError", "")], rulebook)
    assert (by_name.category, by_name.layer) == (CONFIG, "pattern")


def test_the_users_rule_is_asked_first(rulebook: Rulebook) -> None:
    """A rule of one's own wins over everything, and the old rulebook does not change."""
    own = Category("custom_error", BUSINESS.audience)
    mine = rulebook.with_rule("mine", own, "connection refused", compile_patterns)
    assert classify([Cause("", "Connection refused")], mine).category is own
    assert classify([Cause("", "Connection refused")], rulebook).category is NETWORK


def test_the_statement_says_nothing_about_the_reason(rulebook: Rulebook) -> None:
    """What SQLAlchemy appends is the user's data, not an error message."""
    message = "(sqlite3.Error) odd [SQL: INSERT INTO notes VALUES ('connection refused')]"
    assert classify([Cause("x.Y", message)], rulebook).category is UNKNOWN


def test_json_details_speak_for_the_failure(rulebook: Rulebook) -> None:
    """The guide's JSON details are read; words in their context are not."""
    text = '{"error_type": "OrderError", "error_message": "Order 5 not found", "context": {"note": "rate limit"}, "timestamp": "x"}'
    verdict = classify(causes_from_text("Exception", text, ""), rulebook)
    assert (verdict.category, verdict.matched != "") == (BUSINESS, True)
