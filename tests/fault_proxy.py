"""A TCP proxy that can refuse, cut and freeze: a database that is stopped, restarted, or takes bytes and never answers."""

from __future__ import annotations

import select
import socket
from contextlib import suppress
from threading import Event, Thread

CHUNK = 65536


class FaultProxy:
    """Stands before a server on this machine.

    Args:
        port: The server's port.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._open = Event()
        self._open.set()
        self._thawed = Event()
        self._thawed.set()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._closed = False
        Thread(target=self._accept, daemon=True).start()

    def stop(self) -> None:
        """Cut all connections and refuse new ones, as a server that is stopped."""
        self._open.clear()
        for pair in list(self._pairs):
            self._cut(pair)

    def freeze(self) -> None:
        """Take connections and bytes, and answer nothing."""
        self._thawed.clear()

    def heal(self) -> None:
        """Be a good network again."""
        self._thawed.set()
        self._open.set()

    def close(self) -> None:
        """End."""
        self._closed = True
        self.stop()
        self._server.close()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            if not self._open.is_set():
                client.close()
                continue
            server = socket.create_connection(("127.0.0.1", self._target))
            pair = (client, server)
            self._pairs.add(pair)
            Thread(target=self._pass_on, args=(pair,), daemon=True).start()

    def _pass_on(self, pair: tuple[socket.socket, socket.socket]) -> None:
        other = {pair[0]: pair[1], pair[1]: pair[0]}
        try:
            while True:
                ready, _, _ = select.select(pair, (), (), 0.5)
                self._thawed.wait()
                for one in ready:
                    data = one.recv(CHUNK)
                    if not data:
                        return
                    other[one].sendall(data)
        except (OSError, ValueError):  # cut from the other side, or by `stop`
            return
        finally:
            self._cut(pair)

    def _cut(self, pair: tuple[socket.socket, socket.socket]) -> None:
        self._pairs.discard(pair)
        for one in pair:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
