"""TLS through four clients: certificates that are wrong in each way, and handshakes that are cut."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

from regrow.model import CONFIG, NETWORK
from tests.provoked import servers
from tests.provoked.clients import CLIENTS, Fetch
from tests.provoked.servers import certificate, https, response, serve
from tests.provoked.table import Case, Field, check, shared

tls = Field("tls")


@dataclass(frozen=True)
class _Certificates:
    good: Path
    expired: Path
    early: Path
    stranger: Path


@shared
@contextmanager
def certificates() -> Iterator[_Certificates]:
    """One of each kind, all self-signed."""
    with servers.folder() as folder:
        yield _Certificates(
            certificate(folder, "good"),
            certificate(folder, "expired", days=(-9, -2)),
            certificate(folder, "early", days=(2, 9)),
            certificate(folder, "stranger", host="courier.example"),
        )


def _self_signed(fetch: Fetch) -> None:
    with https(certificates().good) as url:
        fetch(url, 5, None)


def _expired(fetch: Fetch) -> None:
    with https(certificates().expired) as url:
        fetch(url, 5, certificates().expired)


def _not_yet_valid(fetch: Fetch) -> None:
    with https(certificates().early) as url:
        fetch(url, 5, certificates().early)


def _wrong_host(fetch: Fetch) -> None:
    with https(certificates().stranger) as url:
        fetch(url, 5, certificates().stranger)


def _wrong_authority(fetch: Fetch) -> None:
    with https(certificates().good) as url:
        fetch(url, 5, certificates().stranger)


def _plain_port(fetch: Fetch) -> None:
    def answer(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(response(400, "plain"))
        connection.shutdown(socket.SHUT_WR)
        servers.silent(connection)

    with serve(answer) as port:
        fetch(f"https://127.0.0.1:{port}/", 5, None)


def _plain_speaking_port(fetch: Fetch) -> None:
    def smtp(connection: socket.socket) -> None:
        connection.sendall(b"220 mail.example ESMTP\r\n")
        servers.silent(connection)

    with serve(smtp) as port:
        fetch(f"https://127.0.0.1:{port}/", 5, None)


def _cut(fetch: Fetch) -> None:
    def cut(connection: socket.socket) -> None:
        connection.recv(1)
        connection.shutdown(socket.SHUT_WR)
        servers.silent(connection)

    with serve(cut) as port:
        fetch(f"https://127.0.0.1:{port}/", 5, None)


def _reset(fetch: Fetch) -> None:
    with serve(servers.reset) as port:
        fetch(f"https://127.0.0.1:{port}/", 5, None)


def _handshake_timeout(fetch: Fetch) -> None:
    with serve(servers.silent) as port:
        fetch(f"https://127.0.0.1:{port}/", 0.3, None)


def _client_certificate_wanted(fetch: Fetch, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> None:
    def demand(context: ssl.SSLContext) -> None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(certificates().good)
        context.maximum_version = newest

    with https(certificates().good, prepare=demand) as url:
        fetch(url, 5, certificates().good)


def _client_certificate_wanted_in_old_tls(fetch: Fetch) -> None:
    _client_certificate_wanted(fetch, ssl.TLSVersion.TLSv1_2)


def _no_common_cipher(fetch: Fetch) -> None:
    def odd(context: ssl.SSLContext) -> None:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("PSK-AES128-GCM-SHA256")

    with https(certificates().good, prepare=odd) as url:
        fetch(url, 5, certificates().good)


for _id, _labels, _provoke in (
    ("self-signed", CONFIG, _self_signed),
    ("expired", CONFIG, _expired),
    ("not-yet-valid", CONFIG, _not_yet_valid),
    ("wrong-host", CONFIG, _wrong_host),
    ("wrong-authority", CONFIG, _wrong_authority),
    ("plain-port", CONFIG, _plain_port),
    ("plain-port-that-speaks-first", CONFIG, _plain_speaking_port),
    ("cut-handshake", NETWORK, _cut),
    ("reset-handshake", NETWORK, _reset),
    ("handshake-timeout", NETWORK, _handshake_timeout),
    ("client-certificate-wanted", CONFIG, _client_certificate_wanted),
    ("client-certificate-wanted-in-tls-1.2", CONFIG, _client_certificate_wanted_in_old_tls),
    ("no-common-cipher", CONFIG, _no_common_cipher),
):
    for _name, _fetch in CLIENTS.items():
        tls.add(f"{_id}/{_name}", _labels, lambda p=_provoke, f=_fetch: p(f))


@tls.case("missing-authorities/requests", CONFIG)
def _missing_bundle() -> None:
    requests.get("https://127.0.0.1:1/", verify="/nonexistent/ca.pem", timeout=5)


@tls.case("missing-client-certificate/requests", CONFIG)
def _missing_client_certificate() -> None:
    requests.get("https://127.0.0.1:1/", cert="/nonexistent/client.pem", timeout=5)


@tls.case("certificate-is-no-pem/ssl", CONFIG)
def _no_pem() -> None:
    with servers.folder() as folder:
        path = folder / "broken.pem"
        path.write_text("not a certificate")
        ssl.create_default_context().load_cert_chain(path)


@tls.case("key-of-another-certificate/ssl", CONFIG)
def _key_mismatch() -> None:
    ssl.create_default_context().load_cert_chain(certificates().good, certificates().expired)


@tls.case("cut-after-handshake/ssl", NETWORK)
def _cut_later() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates().good)

    def cut(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as wrapped:
            wrapped.recv(1)
            wrapped.shutdown(socket.SHUT_RDWR)

    trusting = ssl.create_default_context(cafile=certificates().good)
    with (
        serve(cut) as port,
        socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
        trusting.wrap_socket(plain, server_hostname="127.0.0.1", suppress_ragged_eofs=False) as secure,
    ):
        secure.sendall(b"x")
        secure.recv(1)


@tls.each()
def test_tls(case: Case) -> None:
    """A certificate is set-up, a cut handshake is the network."""
    check(case)
