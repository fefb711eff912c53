"""Secrets go before anything is stored; what tells the cause stays."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from regrow.adapters.celery import facts
from regrow.capture import Redaction, causes_from_exception, fingerprint
from regrow.capture.clean import TEXT_LIMIT
from regrow.model import Cause
from regrow.testing import a_failure

PLAIN = Redaction()

# Keys are put together here, so that no scanner of repositories takes them for real ones.
HIDDEN = [
    ("password=geheim", "password=***"),
    ('PGPASSWORD = "geheim"', 'PGPASSWORD = "***"'),
    ("db_pass=geheim", "db_pass=***"),
    ("Foo(user=bob, password=geheim, host=h)", "Foo(user=bob, password=***, host=h)"),
    ("password=a,b;c&d next", "password=*** next"),
    ("password=(geheim", "password=***"),
    ("Server=db;Password=geheim;Database=x", "Server=db;Password=***;Database=x"),
    ('{"user": "bob", "password": "ge heim"}', '{"user": "bob", "password": "***"}'),
    (r'{"m": "{\"password\": \"a\\\"b\", \"u\": 1}"}', r'{"m": "{\"password\": \"***\", \"u\": 1}"}'),
    (r'{"password": "a\"geheim", "u": 1}', '{"password": "***", "u": 1}'),
    ("{'api_key': 'geheim', 'x': 1}", "{'api_key': '***', 'x': 1}"),
    ("{'token': b'geheim'}", "{'token': b'***'}"),
    ("<QueryDict: {'password': ['geheim']}>", "<QueryDict: {'password': ['***']}>"),
    ("[parameters: {'password': 'geheim', 'id': 1}]", "[parameters: {'password': '***', 'id': 1}]"),
    ('"password": "geheim and no end\nnext', '"password": "***\nnext'),
    ("https://h/p?access_token=geheim&x=1", "https://h/p?access_token=***&x=1"),
    ("https://h/p?sv=1&sig=geheim%2B1&x=1", "https://h/p?sv=1&sig=***&x=1"),
    ("Authorization: Bearer geheim", "Authorization: Bearer ***"),
    ("Authorization: Basic dXNlcjpnZWhlaW0=", "Authorization: Basic ***"),
    ('Authorization: Digest username="bob", response="geheim"', "Authorization: Digest ***"),
    (
        r"b'GET / HTTP/1.1\r\nAuthorization: Bearer geheim\r\nHost: x'",
        r"b'GET / HTTP/1.1\r\nAuthorization: Bearer ***\r\nHost: x'",
    ),
    ("{'Authorization': 'Bearer geheim'}", "{'Authorization': 'Bearer ***'}"),
    ("[(b'authorization', b'Bearer geheim123')]", "[(b'authorization', b'Bearer ***')]"),
    ("Cookie: sessionid=geheim; csrf=geheim2\nHost: x", "Cookie: ***\nHost: x"),
    ("Set-Cookie: sid=geheim; Path=/; HttpOnly", "Set-Cookie: ***"),
    ("session_id=a1b2c3d4e5", "session_id=***"),
    ("Invalid token: a1b2c3d4e5f6", "Invalid token: ***"),
    ("api key: geheim99 was refused", "api key: *** was refused"),
    ("Key (token)=(geheim) already exists.", "Key (token)=(***) already exists."),
    ("Command '['mysql', '--password', 'geheim']' returned 1", "Command '['mysql', '--password', '***']' returned 1"),
    ("mysqldump --password geheim mydb", "mysqldump --password *** mydb"),
    ("密码：geheim123，请重试", "密码：***，请重试"),
    ("用户密码=geheim", "用户密码=***"),
    ("口令: geheim，令牌：abc", "口令: ***，令牌：***"),
    ('{"访问令牌": "geheim"}', '{"访问令牌": "***"}'),
    ("验证码：123456", "验证码：***"),
    ("postgresql://user:geheim@host/db", "postgresql://user:***@host/db"),
    ("postgresql://user:ge/h@ei#m@host/db", "postgresql://user:***@host/db"),
    ("redis://:geheim@host:6379/0", "redis://:***@host:6379/0"),
    ("amqp://u:geheim@h1;amqp://u:geheim@h2", "amqp://u:***@h1;amqp://u:***@h2"),
    ("https://user:geheim@host/path/@foo", "https://user:***@host/path/@foo"),
    ("https://0123456789abcdef0123@sentry.io/1", "https://***@sentry.io/1"),
    ("token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.abc-def_1 refused", "token eyJ*** refused"),
    ("Bearer abc123def refused", "Bearer *** refused"),
    (
        "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN RSA PRIVATE KEY-----***-----END RSA PRIVATE KEY-----",
    ),
    (f"-----BEGIN PRIVATE KEY-----\n{'A1' * 32}\n{'b2' * 32} cut", "-----BEGIN PRIVATE KEY-----*** cut"),
    (f"cut {'A1' * 32}\n{'b2' * 32}\nab=\n-----END PRIVATE KEY-----", "cut ***-----END PRIVATE KEY-----"),
    (
        r"-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----***-----END PRIVATE KEY-----",
    ),
    ("the key AK" + "IAIOSFODNN7EXAMPLE is gone", "the key AKIA*** is gone"),
    (r"x\nAK" + "IAIOSFODNN7EXAMPLE", r"x\nAKIA***"),
    ("gh" + "p_" + "a1" * 18, "ghp_***"),
    ("gh" + "s_" + "a1" * 18, "ghs_***"),
    ("github" + "_pat_" + "a1" * 20, "github_pat_***"),
    ("gl" + "pat-" + "a1" * 10, "glpat-***"),
    ("xo" + "xb-123456789012-abcdefghijkl", "xoxb-***"),
    ("sk" + "_live_" + "a1" * 12, "sk_live_***"),
    ("rk" + "_test_" + "a1" * 12, "rk_test_***"),
    ("Incorrect API key provided: sk" + "-proj-abcdefghijklmnop12345", "Incorrect API key provided: sk-***"),
    ("AI" + "za" + "a1" * 17 + "b", "AIza***"),
    ("LT" + "AI" + "a1" * 10, "LTAI***"),
    ("AK" + "ID" + "a1" * 16, "AKID***"),
    ("card 4111 1111 1111 1111 declined", "card ***1111 declined"),
    ("4111-1111-1111-1111", "***1111"),
    ("卡号6222021234567890128无效", None),
    ("amex 3782 822463 10005, 378282246310005", "amex ***0005, ***0005"),
    ("5555555555554444 2223003122003222", "***4444 ***3222"),
]
KEPT = [
    'FATAL: password authentication failed for user "bob"',
    "invalid api key",
    "token expired",
    "Invalid token: unexpected end of input",
    "Unexpected token: '}'",
    "unexpected token: identifier at line 3",
    "token 'foo' at line 3",
    "KeyError: 'api_key'",
    'Missing secret: "DB_PASSWORD"',
    "Missing required token: 'access'",
    "key (id)=(5) already exists",
    "UniqueViolation: Key (email)=(a@b.c) already exists.",
    "password: This field may not be blank.",
    "{'password': ['This field is required.']}",
    "password=None, token=null, secret=",
    "token: expired",
    "authorization: denied",
    "Authorization: Bearer token is missing",
    "Basic authentication required",
    'Bearer realm="example", error="invalid_token"',
    "Cookie: expired",
    "token: 3 errors",
    "max_tokens=4096, tokens: 12",
    "session = Session()",
    "Session: closed",
    "bypass: yes, compass=north",
    "WHERE users.token = %(token_1)s AND password=%s",
    "connect(password=self.password)",
    "postgresql://{user}:{password}@{host}/db",
    "if token == expected:",
    "令牌已过期",
    "密码错误",
    "密码：错误",
    "密码: 不能为空",
    '{"密码": "不能为空"}',
    "http://localhost:4873/@scope/pkg",
    "https://medium.com/@user",
    "ssh://git@github.com/x",
    "redis://host:6379/0 and bob@example.com",
    "http://[::1]:8080/@x",
    "Could not find -----BEGIN RSA PRIVATE KEY----- in file x",
    "task-runner-with-a-long-name-1 disk-of-a-name-with-20-letters",
    "order 4111111111111112",
    "1700000000000 20240115123456789 1234567890123456 1700000000123456789",
    "550e8400-e29b-41d4-a716-446655440000",
    "id 94111111111111111 and 41111111111111111111 and 0.4111111111111111",
    "connection to server at 10.0.3.7, port 5432 failed: Connection refused",
]


@pytest.mark.parametrize(("text", "shown"), HIDDEN, ids=range(len(HIDDEN)))
def test_secrets_are_hidden(text: str, shown: str | None) -> None:
    """The secret goes; name, host and sentence stay."""
    if shown is None:  # a UnionPay number of 19 digits
        assert PLAIN.text(text) == "卡号***0128无效"
    else:
        assert PLAIN.text(text) == shown
    assert PLAIN.text(PLAIN.text(text)) == PLAIN.text(text)


@pytest.mark.parametrize("text", KEPT)
def test_diagnoses_are_kept(text: str) -> None:
    """What tells the cause stays to the letter."""
    assert PLAIN.text(text) == text


def test_further_names_and_mail_addresses() -> None:
    """They go only if an administrator says so."""
    text = "pin=4711 身份证：11010519491231002X bob.b+x@example.com"
    assert PLAIN.text(text) == text
    more = Redaction(keys=("PIN", "身份证", " "), emails=True)
    assert more.text(text) == "pin=*** 身份证：*** ***@example.com"


def test_every_text_of_a_failure_but_its_call() -> None:
    """Messages, traceback and stored error are redacted; the envelope is what is sent again."""
    secret = "postgresql://u:geheim@h/db"
    causes = (Cause("X", f"cannot reach {secret}"), Cause("Y", "no route"))
    error = {"exc_type": "X", "exc_module": "m", "exc_message": [secret, {"password": "geheim", "id": 7}, None, "密码"]}
    whole = replace(
        a_failure(task_id="t"),
        causes=causes,
        traceback=f"X: {secret}",
        error=json.dumps(error),
        envelope=json.dumps({"args": [secret]}),
        fingerprint=fingerprint(causes, f"X: {secret}"),
    )
    shown = PLAIN.failure(whole)
    assert shown.causes[0].message == "cannot reach postgresql://u:***@h/db"
    assert shown.causes[1] == causes[1]
    assert shown.traceback == "X: postgresql://u:***@h/db"
    assert json.loads(shown.error)["exc_message"] == [
        "postgresql://u:***@h/db",
        {"password": "***", "id": 7},
        None,
        "密码",
    ]
    assert shown.envelope == whole.envelope
    assert shown.fingerprint == fingerprint(shown.causes, shown.traceback)
    assert PLAIN.failure(shown) is shown
    assert PLAIN.failure(replace(whole, fingerprint="mine")).fingerprint == "mine"


@pytest.mark.parametrize(
    "error", ["no json password=geheim", "[" * 100_000, '{"password": ' + "[" * 90 + "1" + "]" * 90 + "}"]
)
def test_an_error_in_no_good_json_is_redacted_as_text(error: str) -> None:
    """Nothing raises, and nothing slips through."""
    assert "geheim" not in PLAIN.json(error)


def test_a_secret_that_was_cut_in_two() -> None:
    """Where a long message was cut, a name may be gone whose secret is half there."""
    for place in range(5_960, 6_010):
        text = "x " * (place // 2) + "password=" + "geheim9" * 400 + " x" * 2_000
        (cause,) = PLAIN.causes(causes_from_exception(ValueError(text)))
        assert "geheim9" not in cause.message
    assert len(PLAIN.causes((Cause("X", "文" * TEXT_LIMIT),))[0].message) == TEXT_LIMIT


def test_a_long_traceback_is_cut_at_a_line() -> None:
    """Its second part starts with a whole line."""
    error = ValueError("\n".join(f"password=geheim{number}" for number in range(5_000)))
    text = facts._traceback(error)
    assert len(text) < facts.TRACEBACK_LIMIT + 100
    assert " characters left out ...\npassword=" in text
    assert "geheim" not in PLAIN.text(text).replace(text[: facts.TRACEBACK_LIMIT // 2].rpartition("\n")[2], "")


texts = st.text(st.characters(exclude_categories=()), max_size=200)
pieces = st.lists(
    st.sampled_from(
        " |\n|, ".split("|")
        + 'password token: = : \' " \\ \\" :// @ / # ? & ; , ( ) [ ] { } bob a1b2c3d4 密码 ： 错误 4111111111111111 4111 - -- '
        "eyJ eyJhbGciOiJIUzI1 . Bearer Basic dXNlcjpw Cookie: a=b; sk- AKIAIOSFODNN7EXAMPLE -----BEGIN -----END session= *** "
        "PRIVATE KEY----- Authorization: Digest invalid None <x> %s --password postgresql http xoxb-1234567890 \\n A1A1A1A1A1A1A1A1A1A1A1A1".split()
    ),
    max_size=25,
).map("".join)


@given(st.one_of(texts, pieces), st.booleans())
@settings(max_examples=1_500, deadline=None)
@example("token=12 4111 1111 1111 1111", False)
def test_any_text_is_redacted_once_and_for_all(text: str, emails: bool) -> None:
    """Nothing raises, a second time changes nothing, and the text does not grow beyond its marks."""
    redact = Redaction(keys=("kunde",), emails=emails)
    once = redact.text(text)
    assert redact.text(once) == once
    assert len(once) <= 2 * len(text) + 3
    assert redact.json(once) is not None
    assert redact.causes((Cause("X", text),))[0].message == redact.text(text)


SECRETS = st.from_regex(r"[A-Za-z][a-z]{2,8}[0-9]{2,6}[A-Za-z]{2,8}", fullmatch=True).filter(lambda one: len(one) > 8)
FORMS = [
    "password={}",
    "x passwd: {} y",
    '{{"a": 1, "client_secret": "{}", "b": 2}}',
    "{{'access_token': '{}'}}",
    r'"{{\"apiKey\": \"{}\"}}"',
    "https://h/x?token={}&y=1",
    "Authorization: Bearer {}",
    "X-Api-Key: {}",
    "Cookie: sid={}; a=b",
    "mysql://root:{}@h/db",
    "redis://:{}@h",
    "https://u:{}@h/p@q",
    "Key (session_token)=({}) already exists.",
    "run --token {} now",
    "密码：{}。",
    "令牌={}",
    "[('secret_key=', 1)] secret_key='{}'",
]


@given(SECRETS, st.sampled_from(FORMS), texts, texts)
@settings(max_examples=600, deadline=None)
def test_a_planted_secret_never_survives(secret: str, form: str, before: str, after: str) -> None:
    """In whatever text it stands, in whatever form."""
    text = f"{before}\n{form.format(secret)}\n{after}"
    assert secret not in PLAIN.text(text).replace(before, "").replace(after, "")


HOSTILE = [
    *(
        "a",
        "password=",
        'password:"',
        "密码：「",
        "eyJ",
        "eyJaaaaaaaaaaaa.",
        "-----BEGIN PRIVATE KEY-----",
        "://a:b@",
        "@",
    ),
    *(
        "a@",
        "4",
        "4111 ",
        "\\",
        '\\"',
        "token)=(",
        "Cookie: a=b; ",
        "password='a",
        "token: ",
        "密",
        "-",
        "'",
        "A" * 20 + "\n",
    ),
]


@pytest.mark.parametrize("unit", HOSTILE)
@pytest.mark.parametrize("start", ["", "password=", "://a:", "Bearer eyJ -- 4111111111111111 ", 'password:"'])
def test_hostile_texts_end(unit: str, start: str) -> None:
    """64,000 characters that repeat themselves come back, redacted once and for all."""
    once = PLAIN.text(start + (unit * 64_000)[:64_000])
    assert PLAIN.text(once) == once
