"""Small local servers that answer as badly as a test wants."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path

from tests.services import absent, require_library

#: Bound of every wait inside a server, in seconds.
PATIENCE_SECONDS = 30.0

Handle = Callable[[socket.socket], None]


class NotProvoked(BaseException):
    """What should fail could not even be set up: no verdict over that, so this is no Exception."""


def closed_port() -> int:
    """A port where nothing listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def serve(handle: Handle) -> Iterator[int]:
    """The port of a server that gives each connection to `handle` in a thread and then closes it."""
    threads: list[threading.Thread] = []
    connections: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def one(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError, ValueError, EOFError):
                handle(connection)

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                connection.settimeout(PATIENCE_SECONDS)
                connections.append(connection)
                threads.append(threading.Thread(target=one, args=(connection,), daemon=True))
                threads[-1].start()

        acceptor = threading.Thread(target=accept, daemon=True)
        acceptor.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            for connection in connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            for thread in (acceptor, *threads):
                thread.join(PATIENCE_SECONDS)


def silent(connection: socket.socket) -> None:
    """Say nothing until the other side gives up."""
    while connection.recv(65536):
        pass


def hang_up(connection: socket.socket) -> None:
    """Close without a word, after the client's first one if it speaks first: a race would change what it sees."""
    connection.settimeout(0.2)
    connection.recv(65536)


def reset(connection: socket.socket) -> None:
    """Answer with RST once something has been said."""
    connection.recv(1)
    abort(connection)


def abort(connection: socket.socket) -> None:
    """Answer with RST at once."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def read_request(connection: socket.socket) -> bytes:
    """One HTTP request, its body included."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(65536)
        if not part:
            return data
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    if b"100-continue" in head.lower():
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    while len(body) < length:
        part = connection.recv(65536)
        if not part:
            break
        body += part
    return head + b"\r\n\r\n" + body


def response(status: int, body: str | bytes = "", kind: str = "text/plain", **headers: str) -> bytes:
    """An HTTP answer; header names are written with underscores."""
    content = body.encode() if isinstance(body, str) else body
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Odd"
    fields = {"Content-Type": kind, "Content-Length": str(len(content)), "Connection": "close"}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} {phrase}\r\n{head}\r\n".encode() + content


@contextmanager
def http(*answers: bytes | Callable[[bytes], bytes], then: Handle | None = None) -> Iterator[str]:
    """The URL of a server that gives these answers in turn, the last one for ever; `then` acts after each.

    Args:
        answers: Raw bytes, or a function of the request.
        then: What happens to the connection after the answer; by default it is closed.
    """
    numbers = iter(range(1_000_000))

    def handle(connection: socket.socket) -> None:
        request = read_request(connection)
        answer = answers[min(next(numbers), len(answers) - 1)]
        connection.sendall(answer(request) if callable(answer) else answer)
        if then is not None:
            then(connection)
        else:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
                connection.recv(1)

    with serve(handle) as port:
        yield f"http://127.0.0.1:{port}"


@contextmanager
def talking(greeting: str, replies: Mapping[str, str], default: str = "250 OK") -> Iterator[int]:
    """The port of a line server as SMTP, FTP and POP3 have it: reply by the first word of the line, in upper case.

    Args:
        greeting: Sent at once, '' for none.
        replies: First word(s) of a line to the reply; `hang up` closes the connection.
        default: The reply to anything else.
    """

    def handle(connection: socket.socket) -> None:
        file = connection.makefile("rwb")
        with file:

            def say(text: str) -> None:
                file.write(text.replace("\n", "\r\n").encode() + b"\r\n")
                file.flush()

            if greeting:
                say(greeting)
            data = False
            for raw in file:
                line = raw.decode(errors="replace").strip()
                if data and line != ".":
                    continue
                words = "END" if data else line.upper()
                data = False
                reply = next((answer for start, answer in replies.items() if words.startswith(start)), default)
                if reply == "hang up":
                    return
                say(reply)
                data = words.startswith("DATA") and reply.startswith("354")
                if words.startswith("QUIT"):
                    return

    with serve(handle) as port:
        yield port


# -- certificates ------------------------------------------------------------------------------------------------------


def certificate(folder: Path, name: str, *, host: str = "127.0.0.1", days: tuple[int, int] = (-1, 1)) -> Path:
    """A PEM file with a self-signed certificate for the host and its key, valid on these days from now."""
    import datetime as dt
    import ipaddress

    require_library("cryptography")
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    try:
        alternative: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        alternative = x509.DNSName(host)
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + dt.timedelta(days=days[0]))
        .not_valid_after(now + dt.timedelta(days=days[1]))
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{name}.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


@contextmanager
def https(pem: Path, *, prepare: Callable[[ssl.SSLContext], None] | None = None) -> Iterator[str]:
    """The URL of a TLS server with this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    if prepare is not None:
        prepare(context)

    def handle(connection: socket.socket) -> None:
        # A second handle: the alert must arrive before the connection ends, or the client sees only a reset.
        with connection.dup() as plain:
            try:
                with context.wrap_socket(connection, server_side=True) as wrapped:
                    read_request(wrapped)
                    wrapped.sendall(response(200, "fine"))
                    with contextlib.suppress(OSError):
                        wrapped.unwrap()
            except ssl.SSLError:
                plain.shutdown(socket.SHUT_WR)
                plain.settimeout(PATIENCE_SECONDS)
                silent(plain)

    with serve(handle) as port:
        yield f"https://127.0.0.1:{port}"


# -- private services --------------------------------------------------------------------------------------------------


def program(*candidates: str) -> str:
    """The first program that exists; else skip, or fail in CI."""
    for candidate in candidates:
        found = sorted(glob.glob(candidate)) if "/" in candidate else [shutil.which(candidate)]
        if found and found[-1]:
            return str(found[-1])
    absent(f"{candidates[0].rpartition('/')[2]} is not installed")


@contextmanager
def folder() -> Iterator[Path]:
    """A folder that services may use under a user of their own; gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="regrow-provoked-", ignore_cleanup_errors=True) as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


def wait(look: Callable[[], bool], what: str, patience: float = 60.0) -> None:
    """Until it is true."""
    end = time.monotonic() + patience
    while not look():
        if time.monotonic() > end:
            raise NotProvoked(f"waited {patience:.0f} s in vain for {what}")
        time.sleep(0.03)


def listens(port: int) -> bool:
    """True if a connection is accepted."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2):
            return True
    except OSError:
        return False


@contextmanager
def running(arguments: Sequence[str], *, log: Path, user: str | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is killed afterwards, with all that it started.

    Args:
        arguments: The command line.
        log: Where its output goes.
        user: Whose process it is, if this one is root's.
    """
    options = {"user": user, "group": user, "extra_groups": []} if user and os.geteuid() == 0 else {}
    if setpriv := shutil.which("setpriv"):  # so that it ends with a test run that is killed
        arguments = [setpriv, "--pdeathsig", "KILL", *arguments]
    with log.open("ab") as out:
        process = subprocess.Popen(
            arguments,
            cwd=log.parent,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **options,  # type: ignore[arg-type]
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(PATIENCE_SECONDS)


def finish(arguments: Sequence[str], *, log: Path, user: str | None = None) -> None:
    """Run a program to its end.

    Raises:
        NotProvoked: It failed.
    """
    with running(arguments, log=log, user=user) as process:
        if process.wait(120) != 0:
            raise NotProvoked(log.read_text())
