"""Who else is told about failures: customer service, finance (G25), and whoever mail, SMS and DingTalk reach (G16).

What is not configured in the environment is skipped:

- SMTP_URL: for example smtp://user:password@mail.example:587 or smtps://...; SMTP_TO: who gets the mail, separated by
  commas; SMTP_FROM: else the first of them. A password never travels without TLS.
- SMS_WEBHOOK: the address of an SMS gateway; it is sent the notification as JSON, with `text` for the phone.
- DINGTALK_WEBHOOK: the address of a DingTalk robot; DINGTALK_SECRET: its secret, if it wants signed messages.

Mail, SMS and DingTalk are for administrators: they pass over what is for an end user.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import os
import smtplib
import ssl
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import localtime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import NAMESPACE_OID, uuid5

import httpx

import app.home  # noqa: F401  # it loads .env
from app.sending import send_to_all
from regrow.errors import DeliveryError, SettingsError
from regrow.wiring import load_settings

log = logging.getLogger(__name__)

Notification = Mapping[str, Any]

#: Functions of your own for `send_custom_notification`. Append them before the Celery application is made: there each
#: one becomes a channel, named as the function is.
notification_senders: list[Callable[[Notification], object]] = []

#: How long a server may take for one answer, in seconds.
TIMEOUT_SECONDS = 5

#: Longest text kept of a task's arguments and of a server's refusal, in characters.
_TEXT_LIMIT = 500

# httpx logs the whole address of each request, and a webhook's address holds its password.
logging.getLogger("httpx").setLevel(logging.WARNING)


def channels() -> dict[str, Callable[[Notification], object]]:
    """What `regrow.install(channels=...)` gets: each function is a channel, so each is tried again on its own.

    Raises:
        SettingsError: A variable is wrong or missing, or two senders have one name.
    """
    return {"business": business_handler, **senders()}


# -- customer service and finance (G25) -------------------------------------------------------------------------------

#: The categories that mean: a rule of the business said no.
BUSINESS = ("unrecoverable_business", "custom_business_error")

_TITLES = {
    "customer_service": {
        "zh": "订单处理失败，请联系客户",
        "en": "An order could not be processed; please contact the customer",
    },
    "finance": {
        "zh": "支付处理失败，请核对款项",
        "en": "A payment could not be processed; please check the money",
    },
}


class BusinessFailureHandler:
    """Tells the department whose business a failure is."""

    def handle_business_failure(self, task: Any, error: object) -> None:
        """Tell customer service about orders and finance about payments.

        Args:
            task: The `Task` row.
            error: What went wrong.
        """
        if task.task_type == "order_processing":
            # 订单处理失败 -> 通知客服
            notify_customer_service(task, error)
        elif task.task_type == "payment_processing":
            # 支付处理失败 -> 通知财务
            notify_finance_team(task, error)


def business_handler(notification: Notification) -> None:
    """The channel of `BusinessFailureHandler`: it takes business failures, whether or not their user is known."""
    if notification["category"] not in BUSINESS:
        return
    task = _row(notification["task_id"]) or SimpleNamespace(
        id=None,
        task_type=notification["task_type"],
        celery_task_id=notification["task_id"],
        user_id=notification["user_id"],
        params=None,
        error_message=None,
    )
    BusinessFailureHandler().handle_business_failure(task, task.error_message or notification["body"])


def notify_customer_service(task: Any, error: object) -> None:
    """Write a line into customer_service.log."""
    _write("customer_service", task, error)


def notify_finance_team(task: Any, error: object) -> None:
    """Write a line into finance.log."""
    _write("finance", task, error)


def _row(task_id: str) -> Any:
    from app.db import Session
    from app.models import Task

    with Session() as session:
        return session.query(Task).filter(Task.celery_task_id == task_id).first()


def _write(department: str, task: Any, error: object) -> None:
    settings = load_settings()
    fields = {
        "title": _TITLES[department][settings.language],
        "task": task.id,
        "task_id": task.celery_task_id,
        "type": task.task_type,
        "user": task.user_id,
        "params": json.dumps(task.params, ensure_ascii=False)[:_TEXT_LIMIT] if task.params else "",
        "error": str(error),
    }
    # JSON strings escape line breaks, so that no text can forge a second line.
    text = " ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in fields.items() if value)
    visible = "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)
    line = f"{datetime.now().astimezone().isoformat(timespec='seconds')} {visible}\n"
    path = Path(settings.logs_dir, f"{department}.log")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab", buffering=0) as file:  # one write: lines of several processes never mix
        content = line.encode(errors="replace")
        if file.write(content) != len(content):
            raise DeliveryError(f"cannot write {path}: only part of the line fitted; is the disk full?")


# -- mail, SMS, DingTalk (G16) ----------------------------------------------------------------------------------------


def send_custom_notification(notification: Notification) -> None:
    """Send a notification by mail, SMS and DingTalk, as far as they are configured, and by `notification_senders`.

    Raises:
        ExceptionGroup: Some did not take it; the others have it.
    """
    send_to_all(senders().values(), notification, "通知发送失败 / not everybody took the notification")


def senders() -> dict[str, Callable[[Notification], object]]:
    """The ways that are configured, by name.

    Raises:
        SettingsError: A variable is wrong or missing, or two senders have one name.
    """
    chosen: dict[str, Callable[[Notification], object]] = {}
    if _address("SMTP_URL", "smtp", "smtps"):
        if not os.environ.get("SMTP_TO"):
            raise SettingsError("SMTP_URL is set, but SMTP_TO is not: say who gets the mail")
        chosen["email"] = send_email
    if _address("SMS_WEBHOOK", "http", "https"):
        chosen["sms"] = send_sms
    if _address("DINGTALK_WEBHOOK", "http", "https"):
        chosen["dingtalk"] = send_dingtalk
    for send in notification_senders:
        name = getattr(send, "__name__", type(send).__name__)
        if name in chosen:
            raise SettingsError(f"notification_senders: two are called {name!r}; give each a name of its own")
        chosen[name] = send
    return chosen


def send_email(notification: Notification) -> None:
    """Send a mail.

    Raises:
        OSError: The server cannot be reached, or refuses it.
    """
    url = _address("SMTP_URL", "smtp", "smtps")
    if not url or _for_end_user(notification):
        return
    server = urlsplit(url)
    to = os.environ["SMTP_TO"]
    mail = EmailMessage()
    mail["Subject"] = "".join(char if char.isprintable() else " " for char in notification["title"])
    mail["From"] = os.environ.get("SMTP_FROM") or to.partition(",")[0]
    mail["To"] = to
    mail["Date"] = localtime()
    # The same for one notification: mail servers know a second copy by it.
    mail["Message-ID"] = f"<{uuid5(NAMESPACE_OID, notification.get('key') or notification['title'])}@regrow>"
    mail.set_content(notification["body"])
    with _mail_server(server.scheme, server.hostname or "", server.port or 0) as smtp:
        smtp.ehlo_or_helo_if_needed()
        if server.scheme == "smtp" and (server.username or smtp.has_extn("starttls")):
            smtp.starttls(context=ssl.create_default_context())
        if server.username:
            smtp.login(unquote(server.username), unquote(server.password or ""))
        refused = smtp.send_message(mail)  # raises if nobody gets it
    if refused:
        log.warning("mail %s: refused for %s", mail["Message-ID"], refused)


def _mail_server(scheme: str, host: str, port: int) -> smtplib.SMTP:
    if scheme == "smtps":
        # Without a context smtplib trusts any certificate.
        return smtplib.SMTP_SSL(host, port, timeout=TIMEOUT_SECONDS, context=ssl.create_default_context())
    return smtplib.SMTP(host, port, timeout=TIMEOUT_SECONDS)


def send_sms(notification: Notification) -> None:
    """Give a notification to the SMS gateway.

    Raises:
        DeliveryError: The gateway refuses it.
        httpx.HTTPError: It cannot be reached.
    """
    url = _address("SMS_WEBHOOK", "http", "https")
    if url and not _for_end_user(notification):
        _post("SMS_WEBHOOK", url, {"text": notification["title"], **notification})


def send_dingtalk(notification: Notification) -> None:
    """Say it in a DingTalk group.

    Source: https://open.dingtalk.com/document/orgapp/custom-robots-send-group-messages

    Raises:
        DeliveryError: DingTalk refuses it.
        httpx.HTTPError: It cannot be reached.
    """
    url = _address("DINGTALK_WEBHOOK", "http", "https")
    if not url or _for_end_user(notification):
        return
    secret = os.environ.get("DINGTALK_SECRET", "")
    if secret:
        url = str(httpx.URL(url).copy_merge_params(_signature(secret, f"{datetime.now(UTC).timestamp() * 1000:.0f}")))
    text = f"{notification['title']}\n{notification['body']}"
    answer = _post("DINGTALK_WEBHOOK", url, {"msgtype": "text", "text": {"content": text}})
    if answer.json().get("errcode"):  # DingTalk refuses with status 200
        raise DeliveryError(f"DINGTALK_WEBHOOK: {answer.text[:_TEXT_LIMIT]}")


def _signature(secret: str, timestamp: str) -> dict[str, str]:
    sign = hmac.new(secret.encode(), f"{timestamp}\n{secret}".encode(), hashlib.sha256).digest()
    return {"timestamp": timestamp, "sign": base64.b64encode(sign).decode()}


def _post(name: str, url: str, content: Mapping[str, Any]) -> httpx.Response:
    answer = httpx.post(url, json=content, timeout=TIMEOUT_SECONDS)
    if not answer.is_success:  # raise_for_status would print the address, and with it its password
        raise DeliveryError(f"{name}: HTTP {answer.status_code}: {answer.text[:_TEXT_LIMIT]}")
    return answer


def _address(name: str, *schemes: str) -> str:
    """An address from the environment, '' if it is not set."""
    value = os.environ.get(name, "").strip()
    if value and (urlsplit(value).scheme not in schemes or not urlsplit(value).hostname):
        raise SettingsError(f"{name}: not an address; give one that begins with {schemes[0]}:// or {schemes[-1]}://")
    return value


def _for_end_user(notification: Notification) -> bool:
    return bool(notification.get("audience") == "user")
