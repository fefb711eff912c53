"""Customer service, finance, mail, SMS and DingTalk: what really arrives there."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import re
import shutil
import smtplib
import socket
import socketserver
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from threading import Thread
from types import ModuleType
from typing import Any

import httpx
import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from regrow.adapters.channels.callback import Callback
from regrow.errors import DeliveryError, SettingsError
from regrow.model import Audience
from regrow.testing import a_message

OURS = ("SMTP_URL", "SMTP_TO", "SMTP_FROM", "SMS_WEBHOOK", "DINGTALK_WEBHOOK", "DINGTALK_SECRET")


@pytest.fixture
def channels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module, with a home of its own and nothing configured."""
    for name in OURS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("APP_VAR", str(tmp_path / "var"))
    monkeypatch.setenv("FAILURE_DATABASE_URL", f"sqlite:///{tmp_path / 'regrow.db'}")
    monkeypatch.setenv("FAILURE_LOGS_DIR", str(tmp_path / "logs"))
    monkeypatch.setenv("FAILURE_LANGUAGE", "zh")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    import app.channels

    monkeypatch.setattr(app.channels, "notification_senders", [])
    return app.channels


def notification(**changes: Any) -> dict[str, Any]:
    """What a channel gets for an administrator."""
    return {
        "key": "task-1:1:hand_over:administrator",
        "audience": "administrator",
        "category": "unrecoverable_config",
        "priority": "high",
        "title": "任务失败：配置错误",
        "body": "API key invalid\n请检查配置",
        "task_id": "task-1",
        "task_name": "app.tasks.business.order_processing",
        "task_type": "order_processing",
        "user_id": "",
        **changes,
    }


def business(**changes: Any) -> dict[str, Any]:
    """What a channel gets about a business failure."""
    return notification(**{"category": "unrecoverable_business", "audience": "user", "user_id": "42", **changes})


def lines(folder: Path, department: str) -> list[dict[str, Any]]:
    """The lines of a department's log, read back."""
    path = folder / "logs" / f"{department}.log"
    if not path.exists():
        return []
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d \w+=", line)
        assert line.isprintable()
        fields = re.findall(r'(\w+)=("(?:[^"\\]|\\.)*"|\d+)', line)
        found.append({name: json.loads(value) for name, value in fields})
    return found


def a_row(**values: Any) -> Any:
    """A row of the task table."""
    from app.db import Session
    from app.models import Task

    with Session.begin() as session:
        row = Task(**{"celery_task_id": "task-1", "task_type": "order_processing", "status": "failed", **values})
        session.add(row)
    return row


# -- customer service and finance (G25) --------------------------------------------------------------------------------


def test_orders_go_to_customer_service(channels: ModuleType, tmp_path: Path) -> None:
    """A failed order stands in customer_service.log with all that is known of its task, and nowhere else."""
    row = a_row(params={"args": ["O-1"], "kwargs": {}}, user_id="42", error_message="订单不存在: O-1")
    channels.business_handler(business())
    assert lines(tmp_path, "customer_service") == [
        {
            "title": "订单处理失败，请联系客户",
            "task": row.id,
            "task_id": "task-1",
            "type": "order_processing",
            "user": "42",
            "params": '{"args": ["O-1"], "kwargs": {}}',
            "error": "订单不存在: O-1",
        }
    ]
    assert lines(tmp_path, "finance") == []


def test_payments_go_to_finance(channels: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed payment stands in finance.log; English where English is set."""
    monkeypatch.setenv("FAILURE_LANGUAGE", "en")
    a_row(task_type="payment_processing", error_message="card declined")
    channels.business_handler(business(task_type="payment_processing"))
    (line,) = lines(tmp_path, "finance")
    assert line["title"] == "A payment could not be processed; please check the money"
    assert line["error"] == "card declined"
    assert lines(tmp_path, "customer_service") == []


@pytest.mark.parametrize("category", ["unrecoverable_business", "custom_business_error"])
def test_also_if_nobody_knows_the_user(channels: ModuleType, tmp_path: Path, category: str) -> None:
    """A business failure that went to the administrator, as its user is unknown, is still the department's business."""
    a_row(error_message="订单不存在")
    channels.business_handler(business(audience="administrator", user_id="", category=category))
    assert [line["error"] for line in lines(tmp_path, "customer_service")] == ["订单不存在"]


def test_other_failures_are_not_their_business(channels: ModuleType, tmp_path: Path) -> None:
    """Other categories and other task types pass by without a line."""
    a_row()
    channels.business_handler(notification())
    channels.business_handler(business(task_type="tracking_update", task_id="task-2"))
    assert not (tmp_path / "logs").exists()


def test_without_a_row_the_notification_must_do(channels: ModuleType, tmp_path: Path) -> None:
    """A task that has no row is told by what the notification says."""
    channels.business_handler(business(task_id="nobody-knows"))
    (line,) = lines(tmp_path, "customer_service")
    assert line == {
        "title": "订单处理失败，请联系客户",
        "task_id": "nobody-knows",
        "type": "order_processing",
        "user": "42",
        "error": "API key invalid\n请检查配置",
    }


def test_no_text_can_forge_a_line(channels: ModuleType, tmp_path: Path) -> None:
    """Line breaks, terminal codes and direction marks of an error are escaped."""
    evil = 'a\n2024-01-01T00:00:00+08:00 title="x"\r\n\x1b[31m\u2028\u202e\x85"'
    row = a_row(error_message=evil, params={"args": ["\n"], "kwargs": {}})
    channels.BusinessFailureHandler().handle_business_failure(row, evil)
    (line,) = lines(tmp_path, "customer_service")
    assert line["error"] == evil


def test_the_handler_as_the_guide_calls_it(channels: ModuleType, tmp_path: Path) -> None:
    """`handle_business_failure(task, error)` takes a row and an exception."""
    row = a_row(task_type="payment_processing", celery_task_id="task-3")
    channels.BusinessFailureHandler().handle_business_failure(row, ValueError("余额不足"))
    assert [line["error"] for line in lines(tmp_path, "finance")] == ["余额不足"]


def test_a_log_that_cannot_be_written_is_tried_again(channels: ModuleType, tmp_path: Path) -> None:
    """While the log cannot be written the channel refuses; afterwards the same message goes through, once."""
    (tmp_path / "logs").touch()
    channel = Callback("business", channels.channels()["business"], 60)
    message = a_message("k", audience=Audience.USER, category="unrecoverable_business", task_name="x.order_processing")
    with pytest.raises(DeliveryError, match="logs"):
        channel.send(message)
    (tmp_path / "logs").unlink()
    channel.send(message)
    assert len(lines(tmp_path, "customer_service")) == 1


# -- what is configured ------------------------------------------------------------------------------------------------


def test_nothing_is_configured_at_first(channels: ModuleType) -> None:
    """Without settings only the business channel is there, and a custom notification goes nowhere."""
    assert channels.notification_senders == []
    assert list(channels.channels()) == ["business"]
    channels.send_custom_notification(notification())
    for send in (channels.send_email, channels.send_sms, channels.send_dingtalk):
        send(notification())


def test_each_way_is_a_channel(channels: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is configured, and what users add, becomes a channel under its own name."""
    monkeypatch.setenv("SMTP_URL", "smtps://mail.example")
    monkeypatch.setenv("SMTP_TO", "ops@example.com")
    monkeypatch.setenv("SMS_WEBHOOK", "https://sms.example/send")
    monkeypatch.setenv("DINGTALK_WEBHOOK", "https://oapi.dingtalk.com/robot/send?access_token=x")

    def send_wecom(_: Any) -> None: ...

    channels.notification_senders.append(send_wecom)
    assert list(channels.channels()) == ["business", "email", "sms", "dingtalk", "send_wecom"]
    channels.notification_senders.append(send_wecom)
    with pytest.raises(SettingsError, match="two are called 'send_wecom'"):
        channels.channels()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SMTP_URL", "mail.example:587"),
        ("SMTP_URL", "http://s3cret@mail.example"),
        ("SMS_WEBHOOK", "ftp://s3cret@x"),
        ("DINGTALK_WEBHOOK", "https://?s3cret"),
    ],
)
def test_a_wrong_address_is_said_at_start(
    channels: ModuleType, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """A wrong address is named by its setting, without the password that may stand in it."""
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=f"{name}: not an address") as caught:
        channels.channels()
    assert "s3cret" not in str(caught.value)


def test_mail_needs_a_reader(channels: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mail server without anybody to write to is a mistake."""
    monkeypatch.setenv("SMTP_URL", "smtp://127.0.0.1")
    with pytest.raises(SettingsError, match="SMTP_TO"):
        channels.channels()


def test_one_that_is_down_keeps_it_from_nobody_else(channels: ModuleType) -> None:
    """`send_custom_notification` tries every way, and then says which did not work."""
    got: list[Any] = []

    def broken(_: Any) -> None:
        raise ValueError("down")

    channels.notification_senders.extend([broken, got.append])
    with pytest.raises(ExceptionGroup) as caught:
        channels.send_custom_notification(notification())
    assert [str(error) for error in caught.value.exceptions] == ["down"]
    assert got == [notification()]


# -- mail --------------------------------------------------------------------------------------------------------------


@dataclass
class MailServer:
    """A small SMTP server on loopback that keeps what it is sent."""

    port: int = 0
    refuse: str = ""
    starttls: bool = False
    commands: list[str] = field(default_factory=list)
    mails: list[bytes] = field(default_factory=list)

    def serve(self, read: Callable[[], bytes], write: Callable[[bytes], object]) -> None:
        write(b"220 here\r\n")
        while line := read().decode().strip():
            self.commands.append(line)
            verb = line.split()[0].upper()
            if self.refuse and line.upper().startswith(self.refuse):
                write(b"550 no\r\n")
            elif verb == "EHLO":
                write(b"250-here\r\n250-STARTTLS\r\n" if self.starttls else b"250-here\r\n")
                write(b"250 AUTH PLAIN\r\n")
            elif verb == "STARTTLS":
                write(b"220 go on\r\n")
                return  # what follows would be TLS
            elif verb == "DATA":
                write(b"354 go on\r\n")
                content = []
                while (text := read()) != b".\r\n":
                    content.append(text.removeprefix(b"."))
                self.mails.append(b"".join(content))
                write(b"250 taken\r\n")
            elif verb == "AUTH":
                write(b"235 welcome\r\n")
            elif verb == "QUIT":
                write(b"221 bye\r\n")
                return
            else:
                write(b"250 ok\r\n")


@contextmanager
def serving(wrap: Callable[[socket.socket], socket.socket] = lambda plain: plain) -> Iterator[MailServer]:
    """A running mail server; `wrap` makes TLS of its connections."""
    kept = MailServer()

    class Talk(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with suppress(ssl.SSLError), wrap(self.request) as connection, connection.makefile("rb") as lines:
                kept.serve(lines.readline, connection.sendall)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Talk) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        kept.port = server.server_address[1]
        yield kept
        server.shutdown()
        thread.join()


@pytest.fixture
def mail(channels: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[MailServer]:
    """A mail server that is configured."""
    monkeypatch.setenv("SMTP_TO", "ops@example.com, boss@example.com")
    with serving() as kept:
        monkeypatch.setenv("SMTP_URL", f"smtp://127.0.0.1:{kept.port}")
        yield kept


def read_mail(content: bytes) -> EmailMessage:
    """A mail as its reader sees it."""
    return message_from_bytes(content, policy=policy.default)  # type: ignore[return-value]


def test_a_mail_arrives(channels: ModuleType, mail: MailServer) -> None:
    """An administrator's notification arrives as a mail, Chinese and all, at everybody who is named."""
    channels.send_custom_notification(notification())
    (content,) = mail.mails
    read = read_mail(content)
    assert read["Subject"] == "任务失败：配置错误"
    assert read["From"] == "ops@example.com"
    assert read["To"] == "ops@example.com, boss@example.com"
    assert read["Date"]
    assert read.get_content().splitlines() == ["API key invalid", "请检查配置"]
    to = [one for one in mail.commands if one.startswith("rcpt")]
    assert ["ops@example.com" in to[0], "boss@example.com" in to[1]] == [True, True]


def test_the_sender_can_be_set(channels: ModuleType, mail: MailServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """SMTP_FROM is who writes."""
    monkeypatch.setenv("SMTP_FROM", "regrow@example.com")
    channels.send_email(notification())
    assert read_mail(mail.mails[0])["From"] == "regrow@example.com"


def test_a_second_copy_can_be_known(channels: ModuleType, mail: MailServer) -> None:
    """A mail that is sent again has the same id; another notification has another one."""
    for one in (notification(), notification(), notification(key="other")):
        channels.send_email(one)
    first, again, other = (read_mail(content)["Message-ID"] for content in mail.mails)
    assert first == again != other


def test_no_title_can_add_a_header(channels: ModuleType, mail: MailServer) -> None:
    """A title with line breaks stays one line, and a line with a dot alone does not end the mail."""
    channels.send_email(notification(title="x\r\nBcc: evil@example.com", body="a\n.\nb"))
    read = read_mail(mail.mails[0])
    assert read["Bcc"] is None
    assert read["Subject"] == "x  Bcc: evil@example.com"
    assert read.get_content().splitlines() == ["a", ".", "b"]


def test_a_users_message_is_not_mailed(channels: ModuleType, mail: MailServer) -> None:
    """What is for an end user is not the administrators' mail."""
    channels.send_email(business())
    assert mail.commands == []


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA"])
def test_a_refused_mail_is_an_error(channels: ModuleType, mail: MailServer, verb: str) -> None:
    """A mail that nobody gets is not delivered."""
    mail.refuse = verb
    with pytest.raises(smtplib.SMTPException):
        channels.send_email(notification())
    assert mail.mails == []


def test_one_refused_reader_is_said(channels: ModuleType, mail: MailServer, caplog: pytest.LogCaptureFixture) -> None:
    """If one of two readers is refused, the other has it: it is said, and not sent to him again and again."""
    mail.refuse = "RCPT TO:<BOSS"
    channels.send_email(notification())
    assert len(mail.mails) == 1
    assert "boss@example.com" in caplog.text


def test_a_password_needs_tls(channels: ModuleType, mail: MailServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without TLS no password leaves this machine."""
    monkeypatch.setenv("SMTP_URL", f"smtp://me:s3cret@127.0.0.1:{mail.port}")
    with pytest.raises(smtplib.SMTPNotSupportedError, match="STARTTLS"):
        channels.send_email(notification())
    assert mail.mails == []
    assert {one.split()[0].upper() for one in mail.commands} <= {"EHLO", "QUIT"}


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is missing")
def test_mail_over_tls(channels: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Over TLS the password and the mail arrive, but only at a server whose certificate is trusted."""
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    make = f"openssl req -x509 -newkey rsa:2048 -nodes -keyout {key} -out {cert} -days 2 -subj /CN=localhost"
    subprocess.run([*make.split(), "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    monkeypatch.setenv("SMTP_TO", "ops@example.com")
    with serving(lambda plain: context.wrap_socket(plain, server_side=True)) as server:
        monkeypatch.setenv("SMTP_URL", f"smtps://me:s3cret%21@127.0.0.1:{server.port}")
        with pytest.raises(ssl.SSLCertVerificationError):
            channels.send_email(notification())
        assert server.commands == []
        monkeypatch.setenv("SSL_CERT_FILE", str(cert))
        channels.send_email(notification())
    (login,) = [one for one in server.commands if one.startswith("AUTH PLAIN ")]
    assert base64.b64decode(login.split()[2]) == b"\0me\0s3cret!"
    assert len(server.mails) == 1


def test_tls_is_used_where_it_is_offered(channels: ModuleType, mail: MailServer) -> None:
    """A server that offers TLS and then does not speak it gets no mail."""
    mail.starttls = True
    with pytest.raises((ssl.SSLError, OSError)):
        channels.send_email(notification())
    assert mail.commands[-1] == "STARTTLS"
    assert mail.mails == []


def test_no_server_no_mail(channels: ModuleType, monkeypatch: pytest.MonkeyPatch, closed_port: int) -> None:
    """A server that is down is an error, so that it is tried again."""
    monkeypatch.setenv("SMTP_TO", "ops@example.com")
    for scheme in ("smtp", "smtps"):
        monkeypatch.setenv("SMTP_URL", f"{scheme}://127.0.0.1:{closed_port}")
        with pytest.raises(ConnectionRefusedError):
            channels.send_email(notification())


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port at which nobody listens, and which nobody else takes meanwhile."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


# -- DingTalk and SMS --------------------------------------------------------------------------------------------------

TAKEN = {"errcode": 0, "errmsg": "ok"}


def test_dingtalk(channels: ModuleType, monkeypatch: pytest.MonkeyPatch, httpserver: HTTPServer) -> None:
    """The robot gets a text, at the address with its token."""
    httpserver.expect_oneshot_request(
        "/robot/send",
        method="POST",
        query_string={"access_token": "t0ken"},
        json={"msgtype": "text", "text": {"content": "任务失败：配置错误\nAPI key invalid\n请检查配置"}},
    ).respond_with_json(TAKEN)
    monkeypatch.setenv("DINGTALK_WEBHOOK", httpserver.url_for("/robot/send?access_token=t0ken"))
    channels.send_custom_notification(notification())
    channels.send_dingtalk(business())  # not for the group
    httpserver.check()
    assert len(httpserver.log) == 1


def test_dingtalk_signed(channels: ModuleType, monkeypatch: pytest.MonkeyPatch, httpserver: HTTPServer) -> None:
    """With a secret each message is signed as DingTalk wants it."""
    got: list[Request] = []

    def robot(request: Request) -> Response:
        got.append(request)
        return Response(json.dumps(TAKEN))

    httpserver.expect_request("/robot/send").respond_with_handler(robot)
    monkeypatch.setenv("DINGTALK_WEBHOOK", httpserver.url_for("/robot/send?access_token=t0ken"))
    monkeypatch.setenv("DINGTALK_SECRET", "SEC123")
    channels.send_dingtalk(notification())
    args = got[0].args
    assert args["access_token"] == "t0ken"
    assert re.fullmatch(r"\d{13}", args["timestamp"])
    signed = hmac.new(b"SEC123", f"{args['timestamp']}\nSEC123".encode(), hashlib.sha256).digest()
    assert base64.b64decode(args["sign"]) == signed


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        ('{"errcode": 310000, "errmsg": "keywords not in content"}', 200, "keywords not in content"),
        ("forbidden", 403, "HTTP 403: forbidden"),
        ("", 302, "HTTP 302"),
        ("broken", 500, "HTTP 500: broken"),
    ],
)
def test_a_refusal_is_an_error_without_the_token(
    channels: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    httpserver: HTTPServer,
    caplog: pytest.LogCaptureFixture,
    answer: str,
    status: int,
    said: str,
) -> None:
    """A robot that refuses, in whatever way, is an error; its token stands neither in the error nor in a log."""
    caplog.set_level(logging.INFO)
    httpserver.expect_request("/robot/send").respond_with_data(answer, status=status)
    monkeypatch.setenv("DINGTALK_WEBHOOK", httpserver.url_for("/robot/send?access_token=t0ken"))
    with pytest.raises(DeliveryError, match=said) as caught:
        channels.send_dingtalk(notification())
    assert "t0ken" not in str(caught.value)
    ours = [one.getMessage() for one in caplog.records if one.name != "werkzeug"]  # the test's own server
    assert "t0ken" not in "\n".join(ours)


def test_an_answer_that_is_not_dingtalks_is_an_error(
    channels: ModuleType, monkeypatch: pytest.MonkeyPatch, httpserver: HTTPServer
) -> None:
    """A page of some proxy is no delivery."""
    httpserver.expect_request("/robot/send").respond_with_data("<html>log in</html>")
    monkeypatch.setenv("DINGTALK_WEBHOOK", httpserver.url_for("/robot/send"))
    with pytest.raises(ValueError):
        channels.send_dingtalk(notification())


def test_sms(channels: ModuleType, monkeypatch: pytest.MonkeyPatch, httpserver: HTTPServer) -> None:
    """The gateway gets the whole notification, and the text for the phone."""
    httpserver.expect_oneshot_request(
        "/send", method="POST", json={"text": "任务失败：配置错误", **notification()}
    ).respond_with_data("queued", status=202)
    monkeypatch.setenv("SMS_WEBHOOK", httpserver.url_for("/send"))
    channels.send_custom_notification(notification())
    channels.send_sms(business())
    httpserver.check()
    assert len(httpserver.log) == 1


def test_no_gateway_no_sms(channels: ModuleType, monkeypatch: pytest.MonkeyPatch, closed_port: int) -> None:
    """A gateway or a robot that is down is an error, so that it is tried again."""
    for name, send in (("SMS_WEBHOOK", channels.send_sms), ("DINGTALK_WEBHOOK", channels.send_dingtalk)):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port}/t0ken")
        with pytest.raises(httpx.ConnectError) as caught:
            send(notification())
        assert "t0ken" not in str(caught.value)


def test_a_silent_gateway_is_not_waited_for(channels: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that takes the connection and never answers is given up."""
    monkeypatch.setattr(channels, "TIMEOUT_SECONDS", 0.2)
    monkeypatch.setenv("SMTP_TO", "ops@example.com")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("SMS_WEBHOOK", f"http://{address}")
        monkeypatch.setenv("DINGTALK_WEBHOOK", f"http://{address}")
        monkeypatch.setenv("SMTP_URL", f"smtp://{address}")
        with pytest.raises(ExceptionGroup) as caught:
            channels.send_custom_notification(notification())
    assert [type(error) for error in caught.value.exceptions] == [
        smtplib.SMTPServerDisconnected,
        httpx.ReadTimeout,
        httpx.ReadTimeout,
    ]
