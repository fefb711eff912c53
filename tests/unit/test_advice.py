"""Advice: every row of the tables is reached by a real error, and names nothing that does not exist."""

from __future__ import annotations

import re

import pytest

from regrow import notify
from regrow.adapters.rules import load_rulebook, packaged, read_entries
from regrow.capture import causes_from_exception, causes_from_text
from regrow.classify import Rulebook, classify
from regrow.model import CATEGORIES, NETWORK, TEMPORARY, Audience, Category, Cause, Evidence, Verdict
from regrow.notify.advice import ADVICE
from regrow.notify.row import Row
from regrow.testing import a_verdict

#: What a row is called, and errors of which it must be the advice.
EXAMPLES: dict[str, tuple[str | Exception, ...]] = {
    # network
    "host name not found": (
        "socket.gaierror: [Errno -2] Name or service not known",
        "requests.exceptions.ConnectionError: (Caused by NameResolutionError(\"<x>: Failed to resolve 'a.example'\"))",
        "域名解析失败",
    ),
    "proxy unreachable": ("requests.exceptions.ProxyError: Cannot connect to proxy.",),
    "no answer in time": (
        "httpx.ReadTimeout: ",
        "requests.exceptions.ReadTimeout: HTTPConnectionPool(host='a', port=80): Read timed out. (read timeout=10)",
        "[NETWORK] Connection timeout: API服务器连接超时，请检查网络连接",
        "网络连接超时",
        TimeoutError(110, "Connection timed out"),
    ),
    "TLS connection cut short": ("ssl.SSLEOFError: EOF occurred in violation of protocol (_ssl.c:2427)",),
    "connection refused": (
        ConnectionRefusedError(111, "Connection refused"),
        "httpx.ConnectError: All connection attempts failed",
        "net::ERR_CONNECTION_REFUSED at http://127.0.0.1:1/",
        "连接被拒绝",
    ),
    "network unreachable": (OSError(101, "Network is unreachable"), "No route to host", "网络不可达"),
    "connection broken off": (
        ConnectionResetError(104, "Connection reset by peer"),
        "http.client.RemoteDisconnected: Remote end closed connection without response",
        "httpx.RemoteProtocolError: Server disconnected without sending a response.",
        "连接被对方重设",
    ),
    # system
    "database server out of disk or memory": (
        "SQLSTATE[53100]: it happens",
        "pymysql.err.InternalError: (1021, 'x')",
    ),
    "file system is read-only": (OSError(30, "Read-only file system"), "只读文件系统"),
    "disk error": (OSError(5, "Input/output error"),),
    "database file cannot be opened": ("sqlite3.OperationalError: unable to open database file",),
    "disk full": (OSError(28, "No space left on device"), "Disk quota exceeded", "磁盘空间不足"),
    "too many open files": (OSError(24, "Too many open files"), "打开的文件过多"),
    "permission denied": (PermissionError(13, "Permission denied", "/var/x"), "permission denied"),
    "task ran too long": (
        "billiard.exceptions.TimeLimitExceeded: TimeLimitExceeded(300,)",
        "billiard.exceptions.SoftTimeLimitExceeded: SoftTimeLimitExceeded()",
        "任务执行超时",
    ),
    "browser crashed": (
        "playwright._impl._errors.TargetClosedError: Target page, context or browser has been closed",
        "浏览器崩溃",
    ),
    "out of memory": (MemoryError(), OSError(12, "Cannot allocate memory"), "java.lang.OutOfMemoryError", "内存不足"),
    "worker process killed": (
        "billiard.exceptions.WorkerLostError: Worker exited prematurely: signal 9 (SIGKILL) Job: 1.",
        "Command 'x' returned non-zero exit status 137",
        "工作进程意外退出",
    ),
    "no more processes or threads": (
        RuntimeError("can't start new thread"),
        BlockingIOError(11, "Resource temporarily unavailable"),
    ),
    "network port taken or none free": (OSError(98, "Address already in use"), "端口已被占用"),
    # temporary
    "database transactions in each other's way": (
        "psycopg.errors.DeadlockDetected: deadlock detected",
        "pymysql.err.OperationalError: (1213, 'Deadlock found when trying to get lock')",
        "检测到死锁",
    ),
    "database locked": (
        "sqlite3.OperationalError: database is locked",
        "pymysql.err.OperationalError: (1205, 'Lock wait timeout exceeded; try restarting transaction')",
        "获取分布式锁失败",
    ),
    "too many requests": (
        "requests.exceptions.HTTPError: 429 Client Error: Too Many Requests for url: http://x",
        "rate limit exceeded",
        "daily sending quota reached",
        "请求过于频繁，请稍后再试",
    ),
    "mail server puts us off": ("smtplib.SMTPDataError: (451, b'4.7.1 Greylisted')",),
    "database query too slow": ("psycopg.errors.QueryCanceled: canceling statement due to statement timeout",),
    "no database connection free": (
        "sqlalchemy.exc.TimeoutError: QueuePool limit of size 5 overflow 10 reached, connection timed out",
        "FATAL: sorry, too many clients already",
        "连接池已满",
    ),
    "the other side is starting or switching over": (
        "psycopg.OperationalError: FATAL: the database system is starting up",
        "redis.exceptions.ReadOnlyError: You can't write against a read only replica.",
        "正在主从切换",
    ),
    "cache or search cluster out of memory": ("OOM command not allowed when used memory > 'maxmemory'.",),
    "the service has trouble of its own": (
        "httpx.HTTPStatusError: 503 Service Unavailable from http://127.0.0.1:1/x: busy",
        "requests.exceptions.HTTPError: 500 Server Error: Internal Server Error for url: http://x",
        "502 Bad Gateway",
        "系统繁忙，请稍后重试",
    ),
    "database, cache or broker unreachable": (
        "redis.exceptions.ConnectionError: Error 111 connecting to localhost:6379. Connection refused.",
        'psycopg.OperationalError: connection to server at "10.0.0.1", port 5432 failed: Connection refused',
        "kombu.exceptions.OperationalError: [Errno 111] Connection refused",
        "database connection failed",
        "数据库连接失败",
    ),
    # data
    "a value cannot be stored as JSON": ("kombu.exceptions.EncodeError: Object of type set is not JSON serializable",),
    "message unreadable": ("kombu.exceptions.DecodeError: bad",),
    "wrong character encoding": (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), "编码错误"),
    "error in the code": (TypeError("f() got an unexpected keyword argument 'x'"), ZeroDivisionError(), "下标越界"),
    "the row exists already": (
        'psycopg.errors.UniqueViolation: duplicate key value violates unique constraint "orders_pkey"',
        "sqlite3.IntegrityError: UNIQUE constraint failed: users.email",
        "违反唯一约束",
    ),
    "a referenced row is missing": ("sqlite3.IntegrityError: FOREIGN KEY constraint failed", "违反外键约束"),
    "a required value is empty": (
        'null value in column "id" violates not-null constraint',
        "sqlite3.IntegrityError: NOT NULL constraint failed: users.email",
        "字段name不能为空",
    ),
    "a value is too long or out of range": ("value too long for type character varying(20)", "数值超出范围"),
    "a database constraint is violated": ("sqlite3.IntegrityError: CHECK constraint failed: price",),
    "file not found": (FileNotFoundError(2, "No such file or directory", "/data/in.csv"), "没有那个文件或目录"),
    "file damaged or of the wrong type": ("zipfile.BadZipFile: File is not a zip file", "文件已损坏"),
    "malformed JSON": ("json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)", "malformed json"),
    "a field is missing": (KeyError("order_id"), "Missing required parameter: amount", "缺少必要参数"),
    "the service refuses our request": (
        "httpx.HTTPStatusError: 422 Unprocessable Entity from http://127.0.0.1:1/x: no",
        "requests.exceptions.HTTPError: 400 Client Error: Bad Request for url: http://x",
    ),
    "input cannot be read": ("xml.etree.ElementTree.ParseError: mismatched tag: line 1, column 2", "解析失败"),
    "validation failed": (
        "[DATA] Validation failed: 快递单号格式不正确，应为10-20位数字或字母",
        "pydantic_core.ValidationError: 1 validation error for Order",
        "invalid data format",
    ),
    # set-up
    "TLS settings do not fit": ("ssl.SSLError: [SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1)",),
    "TLS certificate not accepted": (
        "ssl.SSLCertVerificationError: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed",
        "证书验证失败",
    ),
    "quota or credit used up": ("You exceeded your current quota, please check your plan", "账户已欠费，请充值"),
    "no worker knows this task": ("celery.exceptions.NotRegistered: 'app.tasks.x'", "未注册的任务"),
    "program not installed": (
        "ffmpeg: command not found",
        "BrowserType.launch: Executable doesn't exist at /ms-playwright/chromium",
        "BrowserMissing: Chromium is not installed: 找不到浏览器",
    ),
    "module or library missing": ("ModuleNotFoundError: No module named 'foo'", "没有名为foo的模块"),
    "mail server does not take our mails": ("smtplib.SMTPDataError: (554, b'5.7.1 spam')",),
    "service not enabled for our account": ("The API is disabled for this project", "接口未开通"),
    "the service no longer offers this": ("The model has been decommissioned",),
    "a setting is missing or wrong": (
        KeyError("DATABASE_URL"),
        "The DATABASE_URL environment variable is not set",
        "环境变量DATABASE_URL未设置",
    ),
    "access not allowed": (
        "requests.exceptions.HTTPError: 403 Client Error: Forbidden for url: http://x",
        "psycopg.errors.InsufficientPrivilege: permission denied for table orders",
        "没有访问该接口的权限",
    ),
    "login or API key refused": (
        "API key invalid",
        "httpx.HTTPStatusError: 401 Unauthorized from http://127.0.0.1:1/x: wrong key",
        'FATAL: password authentication failed for user "app"',
        "签名错误",
    ),
    "database table or column missing": (
        'psycopg.errors.UndefinedTable: relation "orders" does not exist',
        "sqlite3.OperationalError: no such table: orders",
        "Unknown database 'x'",
        "数据表orders不存在",
    ),
    "queue, bucket, index or the like missing": (
        "The specified bucket does not exist",
        "NOT_FOUND - no queue 'x' in vhost '/'",
    ),
    # business
    "this courier is not supported": ("CourierNotSupported: no", "courier not supported", "不支持该快递公司"),
    "this currency is not supported": ("Currency XYZ is not supported", "不支持该货币"),
    "this way of paying is not accepted": ("payment method not supported", "不支持该支付方式"),
    "not available in this country or region": ("Country XX is not supported", "该地区暂不支持配送"),
    "no tracking information found": ("No tracking found", "查无物流信息"),
    "not enough in stock": ("OutOfStock: out of stock: 茶杯 库存不足，需要 5 件", "Item is out of stock", "库存不足"),
    "not enough money in the account": ("insufficient funds in wallet", "余额不足"),
    "the coupon or offer is not valid": ("This coupon has expired", "优惠券已过期"),
    "a verification is needed": ("3D Secure is needed for this payment", "未实名认证"),
    "the payment was not accepted": ("Your card was declined.", "银行卡已过期"),
    "it exists already or is taken": ("user already exists", "手机号已注册"),
    "the account is locked": ("Your account has been suspended", "账号已被冻结"),
    "the recipient cannot be reached": ("550 5.1.1 User unknown", "Invalid recipient", "空号", "收件人地址无效"),
    "the same request was sent before": ("Duplicate order", "重复下单"),
    "it is cancelled, closed or expired": ("[BUSINESS] Order is closed", "订单已取消"),
    "it was done before": ("Order already shipped", "Charge ch_1 has already been refunded.", "订单已发货"),
    "outside of what is allowed": ("minimum order amount is 10", "超过限购数量"),
    "not possible as things stand": ("order cannot be cancelled", "当前状态不允许退款", "不可退款"),
    "what was asked for was not found": (
        "resource not found",
        "httpx.HTTPStatusError: 404 Not Found from http://127.0.0.1:1/x: no such parcel",
        "订单不存在",
    ),
    "this is not supported": ("not available",),
}

GENERAL = [next(row for row in reversed(ADVICE) if row.category == key) for key in CATEGORIES]

NARROW = [row for row in ADVICE if row not in GENERAL]


@pytest.fixture(scope="module")
def rulebook() -> Rulebook:
    """The packaged rules."""
    return load_rulebook()


def causes_of(error: str | Exception) -> tuple[Cause, ...]:
    """An exception as a worker sees it, or as text has kept it."""
    if isinstance(error, Exception):
        return tuple(causes_from_exception(error))
    kind, colon, message = error.partition(": ")
    typed = colon and re.fullmatch(r"[\w.]*[A-Za-z]+(Error|Exception|[a-z][A-Z])?\w*", kind) and "." in kind
    typed = typed or re.fullmatch(r"[A-Z]\w+(Supported|Stock|Missing|Error)", kind)
    return tuple(causes_from_text(kind, message, "") if typed else causes_from_text("Exception", error, ""))


@pytest.mark.parametrize(
    ("error", "name"), [(error, name) for name, errors in EXAMPLES.items() for error in errors], ids=str
)
def test_advice_for_real_errors(error: str | Exception, name: str, rulebook: Rulebook) -> None:
    """Each of these errors gets the advice that a person who knows it would give."""
    verdict = classify(causes_of(error), rulebook)
    row = next(row for row in ADVICE if row.name == name)
    assert (notify.cause(verdict, str), verdict.category.key) == (name, row.category)
    assert notify.advice(verdict, str) == row.text


def test_every_row_is_reached() -> None:
    """No advice is there that nobody ever gets, and none has an example that is gone."""
    assert set(EXAMPLES) == {row.name for row in NARROW}
    assert len({row.name for row in ADVICE}) == len(ADVICE)
    assert len({row.text for row in ADVICE}) == len(ADVICE)


@pytest.mark.parametrize("row", ADVICE, ids=lambda row: row.name)
def test_every_fact_exists(row: Row, rulebook: Rulebook) -> None:
    """Every rule and every code that a row names exists, and can speak for the row's category."""
    rules = {entry.id: entry.values.get("category") for entry in read_entries(packaged())}
    # What fails on the way to a database is that database's outage: such facts change their category.
    possible = {row.category, NETWORK.key} if row.category == TEMPORARY.key else {row.category}
    for fact in row.facts:
        kind, _, value = fact.partition(" ")
        if value:
            verdict = classify([Cause("", "", codes=((kind, value),))], rulebook)
            assert (verdict.layer, verdict.matched) == ("code", fact)
            assert verdict.category.key in possible, fact
        else:
            assert rules.get(fact) in possible, fact


@pytest.mark.parametrize("row", ADVICE, ids=lambda row: row.name)
def test_shape(row: Row) -> None:
    """A row says when it fits, a category's last one always does; names fit into a title, texts are sentences."""
    assert bool(row.facts or row.words) is (row in NARROW)
    assert "" not in (re.compile(row.words).pattern.split("|") if row.words else ())
    assert "\n" not in row.name
    assert len(row.name) <= 45
    assert row.text.endswith((".", "?"))
    assert len(row.text) <= 110


def test_rows_of_a_category_stand_together_and_each_category_has_a_general_one() -> None:
    """The order of the table is the order of the question."""
    keys = [row.category for row in ADVICE]
    assert sorted(keys, key=list(dict.fromkeys(keys)).index) == keys
    assert set(keys) == set(CATEGORIES)
    for row in GENERAL:
        assert notify.advice(row.category, str) == row.text
        assert notify.name(row.category, str) == row.name


def test_the_fact_that_won_decides_and_the_others_help_out() -> None:
    """What else spoke up is asked only where the winner says nothing, and never what spoke for another category."""
    refused = Evidence(NETWORK.key, "code", "errno.network", "errno 111")
    locked = Evidence(TEMPORARY.key, "pattern", "store.transaction", "database is locked")

    def named(rule: str, matched: str, *others: Evidence) -> str:
        verdict: Verdict = a_verdict(NETWORK, rule=rule, matched=matched, runners_up=others)
        return notify.cause(verdict, str)

    assert named("network.dns", "Name or service not known", refused) == "host name not found"
    assert named("structured.network", "NETWORK", refused) == "connection refused"
    assert named("structured.network", "NETWORK", locked) == "network trouble"


def test_own_categories() -> None:
    """A category of the application's own gets general advice, for whoever is told."""
    for audience, category in ((Audience.USER, "unrecoverable_business"), (Audience.ADMINISTRATOR, "unknown")):
        verdict = a_verdict(Category("their_own", audience), matched="database is locked")
        assert notify.advice(verdict, str) == notify.advice(category, str)
        assert notify.cause(verdict, str) == "their_own"
