"""Mail and file servers that give each reply: SMTP, IMAP, POP3, FTP, SSH."""

from __future__ import annotations

import contextlib
import ftplib
import imaplib
import poplib
import smtplib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from regrow.model import BUSINESS, CONFIG, DATA, NETWORK, TEMPORARY, Category
from tests.provoked import servers
from tests.provoked.servers import closed_port, serve, talking
from tests.provoked.table import Case, Field, check
from tests.services import require_library

mail = Field("smtp")
files = Field("ftp, ssh, imap")

_HELLO = "250-mail.example\n250-AUTH PLAIN LOGIN\n250 SIZE 1000000"


def _send(greeting: str, replies: dict[str, str], *, login: bool = False, people: int = 1) -> None:
    """A letter through a server that gives these replies."""
    answers = {"EHLO": _HELLO, "AUTH": "235 2.7.0 Accepted", "DATA": "354 Go on", "QUIT": "221 Bye", **replies}
    recipients = [f"user{number}@example.com" for number in range(people)]
    with talking(greeting, answers) as port:
        client = smtplib.SMTP("127.0.0.1", port, timeout=5)
        try:
            if login:
                client.login("app", "secret")
            client.sendmail("shop@example.com", recipients, "Subject: Your order\r\n\r\nShipped.")
        finally:
            client.close()


_READY = "220 mail.example ESMTP"
REPLIES: list[tuple[str, tuple[Category, ...], str, str]] = [
    ("421-busy", (TEMPORARY,), "MAIL", "421 4.3.2 Service shutting down"),
    ("421-many", (TEMPORARY,), "RCPT", "421 4.7.0 Too many connections from your address, try again later"),
    ("450-mailbox", (TEMPORARY,), "RCPT", "450 4.2.1 Mailbox temporarily unavailable"),
    ("450-greylisted", (TEMPORARY,), "RCPT", "450 4.7.1 Greylisted, please try again in 300 seconds"),
    ("451-local", (TEMPORARY,), "RCPT", "451 4.3.0 Local error in processing"),
    ("452-storage", (TEMPORARY,), "MAIL", "452 4.3.1 Insufficient system storage"),
    ("452-many", (TEMPORARY,), "RCPT", "452 4.5.3 Too many recipients"),
    ("550-unknown", (BUSINESS,), "RCPT", "550 5.1.1 <user0@example.com>: Recipient address rejected: User unknown"),
    ("550-no-mailbox", (BUSINESS,), "RCPT", "550 No such user here"),
    ("551-moved", (BUSINESS,), "RCPT", "551 5.1.6 User not local, please try another"),
    ("552-mailbox-full", (BUSINESS, TEMPORARY), "RCPT", "552 5.2.2 Mailbox full"),
    ("553-syntax", (BUSINESS, DATA), "RCPT", "553 5.1.3 Bad recipient address syntax"),
    ("501-syntax", (BUSINESS, DATA), "RCPT", "501 5.1.3 Bad recipient address syntax"),
    ("550-disabled", (BUSINESS,), "RCPT", "550 5.2.1 The email account that you tried to reach is disabled"),
    ("550-relay", (CONFIG,), "RCPT", "550 5.7.1 Relaying denied"),
    ("554-relay", (CONFIG,), "RCPT", "554 5.7.1 Relay access denied"),
    ("550-listed", (CONFIG,), "RCPT", "550 5.7.1 Service unavailable; client host blocked using zen.spamhaus.org"),
    ("530-login", (CONFIG,), "MAIL", "530 5.7.0 Authentication required"),
    ("550-sender", (CONFIG,), "MAIL", "550 5.7.1 Sender address rejected: not owned by user app"),
    ("503-order", (DATA, CONFIG), "MAIL", "503 5.5.1 Bad sequence of commands"),
    ("552-size", (DATA,), "END", "552 5.3.4 Message size exceeds fixed limit"),
    ("554-spam", (CONFIG, DATA), "END", "554 5.7.1 Message rejected as spam by Content Filtering"),
    ("451-later", (TEMPORARY,), "END", "451 4.7.1 Please try again later"),
    ("554-content", (DATA,), "END", "554 5.6.0 Message contains invalid header"),
]
for _name, _labels, _at, _reply in REPLIES:
    mail.add(f"{_at.lower()}-{_name}", _labels, lambda a=_at, r=_reply: _send(_READY, {a: r}))

for _name, _labels, _reply in (
    ("535", CONFIG, "535 5.7.8 Authentication credentials invalid"),
    ("534", CONFIG, "534 5.7.9 Application-specific password required"),
    ("538", CONFIG, "538 5.7.11 Encryption required for requested authentication mechanism"),
    ("454", TEMPORARY, "454 4.7.0 Temporary authentication failure"),
):
    mail.add(f"auth-{_name}", _labels, lambda r=_reply: _send(_READY, {"AUTH": r}, login=True))

mail.add("greeting-421", TEMPORARY, lambda: _send("421 4.3.2 Too busy, try again later", {}))
mail.add("greeting-554", (CONFIG, BUSINESS), lambda: _send("554 5.7.1 No SMTP service for you here", {}))
mail.add("two-unknown", BUSINESS, lambda: _send(_READY, {"RCPT": "550 5.1.1 User unknown"}, people=2))
mail.add("hang-up-at-data", NETWORK, lambda: _send(_READY, {"DATA": "hang up"}))
mail.add("hang-up-at-hello", NETWORK, lambda: _send(_READY, {"EHLO": "hang up", "HELO": "hang up"}))
mail.add("no-login-offered", CONFIG, lambda: _send(_READY, {"EHLO": "250 mail.example"}, login=True))
mail.add("refused", NETWORK, lambda: smtplib.SMTP("127.0.0.1", closed_port(), timeout=5))
mail.add("dns", NETWORK, lambda: smtplib.SMTP("regrow.invalid", 25, timeout=5))


@mail.case("closed-at-once", NETWORK)
def _closed_at_once() -> None:
    with serve(servers.hang_up) as port:
        smtplib.SMTP("127.0.0.1", port, timeout=5)


@mail.case("read-timeout", NETWORK)
def _timeout() -> None:
    with serve(servers.silent) as port:
        smtplib.SMTP("127.0.0.1", port, timeout=0.1)


@mail.case("no-tls-offered", CONFIG)
def _starttls() -> None:
    with talking(_READY, {"EHLO": "250 mail.example"}) as port:
        client = smtplib.SMTP("127.0.0.1", port, timeout=5)
        try:
            client.starttls()
        finally:
            client.close()


@mail.case("not-connected", DATA, NETWORK)
def _not_connected() -> None:
    smtplib.SMTP().noop()


@mail.case("no-ascii-address", DATA)
def _no_ascii() -> None:
    with talking(_READY, {"EHLO": _HELLO}) as port:
        client = smtplib.SMTP("127.0.0.1", port, timeout=5)
        try:
            client.sendmail("shop@example.com", ["jörg@example.com"], "Subject: x\r\n\r\nx")
        finally:
            client.close()


@mail.each()
def test_smtp(case: Case) -> None:
    """4xx is the server's moment, 5xx the recipient, the letter or the set-up."""
    check(case)


# -- FTP ---------------------------------------------------------------------------------------------------------------


def _ftp(replies: dict[str, str], act: Callable[[ftplib.FTP], object], greeting: str = "220 Ready") -> None:
    answers = {"USER": "331 Password, please", "PASS": "230 Welcome", "TYPE": "200 OK", **replies}
    with talking(greeting, answers, default="200 OK") as port:
        client = ftplib.FTP(timeout=5)
        try:
            client.connect("127.0.0.1", port)
            client.login("app", "secret")
            act(client)
        finally:
            client.close()


def _nothing(client: object) -> None:
    pass


for _name, _labels, _replies, _act in (
    ("login", (CONFIG,), {"PASS": "530 Login incorrect."}, _nothing),
    (
        "missing-file",
        (BUSINESS, DATA),
        {"SIZE": "550 prices.csv: No such file or directory"},
        lambda c: c.size("prices.csv"),
    ),
    ("forbidden", (CONFIG,), {"DELE": "550 Permission denied."}, lambda client: client.delete("prices.csv")),
    (
        "bad-name",
        (DATA, CONFIG),
        {"RNFR": "350 Go on", "RNTO": "553 File name not allowed."},
        lambda c: c.rename("a", "b"),
    ),
    ("storage", (TEMPORARY, CONFIG), {"MKD": "452 Insufficient storage space."}, lambda client: client.mkd("new")),
    ("busy", (TEMPORARY,), {"SIZE": "450 Requested file action not taken. File busy."}, lambda c: c.size("prices.csv")),
    ("many", (TEMPORARY,), {"PASS": "421 Too many connections, try again later."}, _nothing),
    ("data", (NETWORK, TEMPORARY), {"PASV": "425 Can't open data connection."}, lambda c: c.makepasv()),
    ("hang-up", (NETWORK,), {"PWD": "hang up"}, lambda client: client.pwd()),
    ("unknown-command", (CONFIG, DATA), {"SITE": "502 Command not implemented."}, lambda c: c.sendcmd("SITE CHMOD")),
):
    files.add(f"ftp-{_name}", _labels, lambda r=_replies, a=_act: _ftp(r, a))
files.add("ftp-refused", NETWORK, lambda: ftplib.FTP().connect("127.0.0.1", closed_port(), timeout=5))
files.add("ftp-dns", NETWORK, lambda: ftplib.FTP().connect("regrow.invalid", 21, timeout=5))
files.add("ftp-greeting-421", TEMPORARY, lambda: _ftp({}, _nothing, "421 Service not available, try again later."))


# -- IMAP and POP3 -----------------------------------------------------------------------------------------------------


def _imap(reply: str) -> None:
    """A mailbox opened at a server that gives this reply to the login."""

    def handle(connection: socket.socket) -> None:
        connection.sendall(b"* OK IMAP4rev1 ready\r\n")
        with connection.makefile("rb") as lines:
            for line in lines:
                tag, word = line.split()[:2]
                if word.upper() == b"CAPABILITY":
                    connection.sendall(b"* CAPABILITY IMAP4rev1\r\n" + tag + b" OK done\r\n")
                elif word.upper() == b"LOGIN" and not reply:
                    return
                else:
                    connection.sendall(tag + b" " + reply.encode() + b"\r\n")

    with serve(handle) as port:
        client = imaplib.IMAP4("127.0.0.1", port, timeout=5)
        try:
            client.login("app", "secret")
        finally:
            with contextlib.suppress(OSError):
                client.shutdown()


files.add("imap-login", CONFIG, lambda: _imap("NO [AUTHENTICATIONFAILED] Invalid credentials (Failure)"))
files.add("imap-unavailable", TEMPORARY, lambda: _imap("NO [UNAVAILABLE] Server temporarily unavailable"))
files.add("imap-hang-up", NETWORK, lambda: _imap(""))
files.add("imap-refused", NETWORK, lambda: imaplib.IMAP4("127.0.0.1", closed_port(), timeout=5))


def _pop(reply: str) -> None:
    with talking("+OK ready", {"PASS": reply}, default="+OK") as port:
        client = poplib.POP3("127.0.0.1", port, timeout=5)
        try:
            client.user("app")
            client.pass_("secret")
        finally:
            client.close()


files.add("pop3-login", CONFIG, lambda: _pop("-ERR [AUTH] Authentication failed."))
files.add("pop3-locked", TEMPORARY, lambda: _pop("-ERR [IN-USE] Mailbox is locked by another session"))
files.add("pop3-hang-up", NETWORK, lambda: _pop("hang up"))


# -- SSH ---------------------------------------------------------------------------------------------------------------


@contextmanager
def _ssh_server(accept: bool) -> Iterator[tuple[int, Any]]:
    """The port of an SSH server and its key; it accepts each password or none, and no channel."""
    paramiko = require_library("paramiko")
    key = paramiko.ECDSAKey.generate()

    class Interface(paramiko.ServerInterface):  # type: ignore[misc, name-defined]
        def check_auth_password(self, username: str, password: str) -> int:
            return int(paramiko.AUTH_SUCCESSFUL if accept else paramiko.AUTH_FAILED)

        def get_allowed_auths(self, username: str) -> str:
            return "password"

        def check_channel_request(self, kind: str, chanid: int) -> int:
            return int(paramiko.OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED)

    done = threading.Event()

    def handle(connection: socket.socket) -> None:
        transport = paramiko.Transport(connection)
        try:
            transport.add_server_key(key)
            transport.start_server(server=Interface())
            done.wait(servers.PATIENCE_SECONDS)
        finally:
            transport.close()

    with serve(handle) as port:
        try:
            yield port, key
        finally:
            done.set()


def _ssh(port: int, *, known: Any = None, strict: bool = False, **options: Any) -> None:
    paramiko = require_library("paramiko")
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(paramiko.RejectPolicy() if strict else paramiko.WarningPolicy())
    if not strict:
        client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
    if known is not None:
        client.get_host_keys().add(f"[127.0.0.1]:{port}", known.get_name(), known)
    usual = {"username": "app", "password": "x", "look_for_keys": False, "allow_agent": False, "timeout": 5}
    try:
        client.connect("127.0.0.1", port, **{"banner_timeout": 5, "auth_timeout": 10, **usual, **options})
        client.exec_command("true", timeout=5)
    finally:
        client.close()


@files.case("ssh-wrong-password", CONFIG)
def _ssh_password() -> None:
    with _ssh_server(accept=False) as (port, _):
        _ssh(port)


@files.case("ssh-channel-prohibited", CONFIG)
def _ssh_channel() -> None:
    with _ssh_server(accept=True) as (port, _):
        _ssh(port)


@files.case("ssh-other-host-key", CONFIG)
def _ssh_host_key() -> None:
    paramiko = require_library("paramiko")
    with _ssh_server(accept=True) as (port, _):
        _ssh(port, known=paramiko.ECDSAKey.generate())


@files.case("ssh-unknown-host", CONFIG)
def _ssh_unknown_host() -> None:
    with _ssh_server(accept=True) as (port, _):
        _ssh(port, strict=True)


@files.case("ssh-refused", NETWORK)
def _ssh_refused() -> None:
    _ssh(closed_port())


@files.case("ssh-no-banner", NETWORK)
def _ssh_banner() -> None:
    with serve(servers.hang_up) as port:
        _ssh(port)


@files.case("ssh-silent", NETWORK)
def _ssh_silent() -> None:
    with serve(servers.silent) as port:
        _ssh(port, banner_timeout=0.3)


@files.case("ssh-another-protocol", NETWORK, CONFIG)
def _ssh_protocol() -> None:
    def http(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        servers.silent(connection)

    with serve(http) as port:
        _ssh(port, banner_timeout=0.3)


@files.case("ssh-key-that-is-none", CONFIG, DATA)
def _ssh_key() -> None:
    paramiko = require_library("paramiko")
    with servers.folder() as folder:
        path = folder / "key"
        path.write_text("not a key")
        paramiko.RSAKey.from_private_key_file(str(path))


@files.case("ssh-key-with-a-passphrase", CONFIG)
def _ssh_passphrase() -> None:
    paramiko = require_library("paramiko")
    with servers.folder() as folder:
        path = folder / "key"
        paramiko.ECDSAKey.generate().write_private_key_file(str(path), password="right")
        paramiko.ECDSAKey.from_private_key_file(str(path))


@files.each()
def test_files(case: Case) -> None:
    """Servers of files and mailboxes."""
    check(case)
