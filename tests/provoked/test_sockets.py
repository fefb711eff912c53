"""Bare sockets, names and streams."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable

from regrow.model import CONFIG, NETWORK, SYSTEM
from tests.provoked import servers
from tests.provoked.servers import closed_port, serve
from tests.provoked.table import Case, Field, check

sockets = Field("socket")


@sockets.case("refused", NETWORK)
def _refused() -> None:
    socket.create_connection(("127.0.0.1", closed_port()), timeout=5)


@sockets.case("read-timeout", NETWORK)
def _timeout() -> None:
    with serve(servers.silent) as port, socket.create_connection(("127.0.0.1", port), timeout=0.05) as sock:
        sock.recv(1)


@sockets.case("reset", NETWORK)
def _reset() -> None:
    with serve(servers.reset) as port, socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
        sock.sendall(b"x")
        sock.recv(1)


@sockets.case("broken-pipe", NETWORK)
def _broken_pipe() -> None:
    one, two = socket.socketpair()
    with one:
        two.close()
        one.sendall(b"x")


@sockets.case("broken-pipe-of-a-file", NETWORK)
def _broken_pipe_of_a_file() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        os.write(writing, b"x")
    finally:
        os.close(writing)


@sockets.case("aborted-by-this-side", NETWORK)
def _not_connected() -> None:
    with socket.socket() as sock:
        sock.send(b"x")


@sockets.case("unreachable-network", NETWORK)
def _unreachable() -> None:
    with socket.socket(socket.AF_INET6) as sock:
        sock.settimeout(0.5)
        sock.connect(("2001:db8::1", 80))  # RFC 3849: documentation


@sockets.case("unreachable-host", NETWORK)
def _unreachable_host() -> None:
    with socket.socket() as sock:
        sock.settimeout(0.5)
        sock.connect(("192.0.2.1", 80))  # RFC 5737: documentation


@sockets.case("broadcast-address", NETWORK, SYSTEM)
def _broadcast() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"x", ("255.255.255.255", 9))


@sockets.case("dns", NETWORK)
def _dns() -> None:
    socket.getaddrinfo("regrow.invalid", 80)


@sockets.case("dns-of-one-kind", NETWORK)
def _dns_v6() -> None:
    socket.create_connection(("regrow.invalid", 80), timeout=1)


@sockets.case("dns-name-that-is-none", NETWORK, CONFIG)
def _bad_name() -> None:
    socket.gethostbyname("no such host")


@sockets.case("unknown-service", CONFIG, NETWORK)
def _service() -> None:
    socket.getaddrinfo("127.0.0.1", "no-such-service")


@sockets.case("address-in-use", SYSTEM, CONFIG)
def _in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.socket() as two:
        two.bind(one.getsockname())


@sockets.case("address-of-another-machine", SYSTEM, CONFIG)
def _not_ours() -> None:
    with socket.socket() as sock:
        sock.bind(("192.0.2.1", 0))


@sockets.case("unix-socket-refused", NETWORK)
def _unix_refused() -> None:
    with servers.folder() as folder:
        path = str(folder / "sock")
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(path)
        with socket.socket(socket.AF_UNIX) as two:
            two.connect(path)


@sockets.case("would-block", SYSTEM)
def _would_block() -> None:
    one, two = socket.socketpair()
    with one, two:
        one.setblocking(False)
        one.recv(1)


def _stream(act: Callable[[asyncio.StreamReader], object], handle: servers.Handle) -> Callable[[], None]:
    async def read(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            await act(reader)  # type: ignore[misc]
        finally:
            writer.close()

    def provoke() -> None:
        with serve(handle) as port:
            asyncio.run(read(port))

    return provoke


def _half(connection: socket.socket) -> None:
    connection.sendall(b"half")


sockets.add("cut-stream/asyncio", NETWORK, _stream(lambda reader: reader.readexactly(100), _half))
sockets.add(
    "read-timeout/asyncio", NETWORK, _stream(lambda reader: asyncio.wait_for(reader.read(1), 0.05), servers.silent)
)
sockets.add("reset/asyncio", NETWORK, _stream(lambda reader: reader.readexactly(1), servers.abort))


@sockets.case("refused/asyncio", NETWORK)
def _async_refused() -> None:
    asyncio.run(asyncio.open_connection("127.0.0.1", closed_port()))  # type: ignore[arg-type]


@sockets.case("refused-at-each-address/asyncio", NETWORK)
def _async_refused_twice() -> None:
    asyncio.run(asyncio.open_connection("localhost", closed_port()))  # type: ignore[arg-type]


@sockets.case("dns/asyncio", NETWORK)
def _async_dns() -> None:
    asyncio.run(asyncio.open_connection("regrow.invalid", 80))  # type: ignore[arg-type]


@sockets.case("connect-timeout/asyncio", NETWORK)
def _async_timeout() -> None:
    async def wait() -> None:
        async with asyncio.timeout(0.05):
            with serve(servers.silent) as port:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                try:
                    await reader.read(1)
                finally:
                    writer.close()

    asyncio.run(wait())


@sockets.each()
def test_sockets(case: Case) -> None:
    """The bytes did not get through."""
    check(case)
