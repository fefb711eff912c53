"""A courier's HTTP service on 127.0.0.1, small but real: it tracks parcels, prints labels, and has bad days.

It knows nothing of Celery or Regrow. It remembers every request that reached it, so that what it saw can be compared
with what others say. Its troubles are given by path; two more come of themselves: a parcel it does not know (404), and
a statement asked for without the right key (401).
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from threading import Event, Lock, Thread, Timer
from time import monotonic
from typing import Any, Self

LOOPBACK = "127.0.0.1"

_Answer = tuple[HTTPStatus, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Parcel:
    """One parcel in the courier's books."""

    status: str
    cents: int


@dataclass(frozen=True, slots=True)
class Trouble:
    """What goes wrong with a path.

    Args:
        times: With how many requests, from the first one on.
        status: Answer with this HTTP status; 0: not by a status.
        retry_after: Seconds that the answer asks the client to wait; 0: does not say.
        silent: Never answer: the client's own time-out must end it.
        hang_up: Close the connection instead of an answer.
        garbled: Answer 200 with half of the JSON.
        done: The work is done all the same; only its answer is lost.
    """

    times: float = math.inf
    status: int = 0
    retry_after: int = 0
    silent: bool = False
    hang_up: bool = False
    garbled: bool = False
    done: bool = False


@dataclass(frozen=True, slots=True)
class Visit:
    """One request that reached the courier.

    Args:
        path: What was asked for.
        at: When, on this process's monotonic clock.
        body: What came with it.
        well: True if it got the answer that it came for.
    """

    path: str
    at: float
    body: Mapping[str, Any]
    well: bool


class Courier:
    """The service: a main desk, and a pickup desk whose port is closed at first.

    Args:
        parcels: The parcels it knows, by number.
        troubles: What goes wrong, by path.
        key: The API key that statements ask for.
        pickup_opens: How long after the first request at the main desk the pickup desk opens, in seconds.
    """

    def __init__(
        self, parcels: Mapping[str, Parcel], troubles: Mapping[str, Trouble], *, key: str, pickup_opens: float
    ) -> None:
        self.parcels = parcels
        self.troubles = troubles
        self.key = key
        self.closing = Event()
        self._opens = pickup_opens
        self._visits: list[Visit] = []
        self._labels: dict[str, str] = {}
        self._made: Counter[str] = Counter()
        self._lock = Lock()
        self._timer: Timer | None = None
        self.opened_at: float | None = None
        self._desk = self._bound()
        self._pickup = self._bound()

    # -- opening hours ----------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        """Open the main desk; the pickup desk opens later by itself."""
        self._open(self._desk)
        return self

    def __exit__(self, *_: object) -> None:
        """Close both desks; whoever still waits for an answer gets none."""
        self.closing.set()
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()
        self._desk.shutdown()
        if self.opened_at is not None:
            self._pickup.shutdown()
        self._desk.server_close()
        self._pickup.server_close()

    @property
    def url(self) -> str:
        """Where the main desk is."""
        return _url(self._desk)

    @property
    def pickup_url(self) -> str:
        """Where the pickup desk is, or will be."""
        return _url(self._pickup)

    def _bound(self) -> _Server:
        """A server that has its port, so that nobody else takes it, and refuses connections until it is opened."""
        courier = self

        class Desk(_Desk):
            service = courier

        server = _Server((LOOPBACK, 0), Desk, bind_and_activate=False)
        server.server_bind()
        return server

    def _open(self, server: _Server) -> None:
        server.server_activate()
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, name="courier", daemon=True).start()

    def _open_pickup(self) -> None:
        self.opened_at = monotonic()
        self._open(self._pickup)

    # -- one request ------------------------------------------------------------------------------------------------

    def arrived(
        self, path: str, body: Mapping[str, Any], key: str
    ) -> tuple[Trouble | None, HTTPStatus, dict[str, Any]]:
        """Do what a request asks for; return what goes wrong with it, the status and the answer."""
        with self._lock:
            count = sum(visit.path == path for visit in self._visits)
            trouble = self.troubles.get(path)
            if trouble is not None and count >= trouble.times:
                trouble = None
            status, answer = (HTTPStatus.OK, {}) if trouble and not trouble.done else self._answer(path, body, key)
            self._visits.append(Visit(path, monotonic(), body, well=trouble is None and status == HTTPStatus.OK))
            if self._timer is None:
                self._timer = Timer(self._opens, self._open_pickup)
                self._timer.start()
            return trouble, status, answer

    def _answer(self, path: str, body: Mapping[str, Any], key: str) -> _Answer:
        desk, _, name = path.strip("/").partition("/")
        if desk in ("track", "prices"):
            return self._look_up(name)
        if desk == "statements":
            return self._account(key)
        if desk == "labels":
            return self._print_label(path, name)
        if desk in ("notices", "invoices", "complaints", "pickups"):
            self._made[path] += 1
            return HTTPStatus.OK, {**body, "pickup": f"P-{name}"}
        return HTTPStatus.NOT_FOUND, {"error": f"no such desk: {desk}"}

    def _look_up(self, number: str) -> _Answer:
        parcel = self.parcels.get(number)
        if parcel is None:
            return HTTPStatus.NOT_FOUND, {"error": f"no parcel {number}"}
        return HTTPStatus.OK, {"status": parcel.status, "cents": parcel.cents}

    def _account(self, key: str) -> _Answer:
        if key != self.key:
            return HTTPStatus.UNAUTHORIZED, {"error": "API key invalid or expired"}
        return HTTPStatus.OK, {"cents": sum(parcel.cents for parcel in self.parcels.values())}

    def _print_label(self, path: str, order: str) -> _Answer:
        if order not in self._labels:
            self._labels[order] = f"L-{len(self._labels) + 1:04}"
            self._made[path] += 1
        return HTTPStatus.OK, {"label": self._labels[order]}

    # -- what it remembers ------------------------------------------------------------------------------------------

    def visits(self, path: str) -> list[Visit]:
        """The requests for a path, in order."""
        with self._lock:
            return [visit for visit in self._visits if visit.path == path]

    def made(self, path: str) -> int:
        """How many things (labels, notices, invoices ...) a path has brought into the world."""
        with self._lock:
            return self._made[path]

    def failed(self) -> set[str]:
        """The paths that did not get what they came for at least once."""
        with self._lock:
            return {visit.path for visit in self._visits if not visit.well}


class _Server(ThreadingHTTPServer):
    """An HTTP server whose end waits for no silent client."""

    daemon_threads = True
    block_on_close = False

    def server_bind(self) -> None:
        """Take the port. Not as HTTPServer does it, which asks the DNS for our name."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = LOOPBACK, self.server_address[1]


class _Desk(BaseHTTPRequestHandler):
    """Speaks HTTP with one client."""

    service: Courier

    def do_GET(self) -> None:
        """A question."""
        self._serve({})

    def do_POST(self) -> None:
        """An order."""
        text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._serve(json.loads(text or "{}"))

    def _serve(self, body: Mapping[str, Any]) -> None:
        key = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        trouble, status, answer = self.service.arrived(self.path, body, key)
        if trouble is None:
            self._send(status, json.dumps(answer))
        elif trouble.silent:
            self.service.closing.wait(60)
        elif trouble.garbled:
            text = json.dumps(answer or {"status": "in transit", "cents": 0})
            self._send(HTTPStatus.OK, text[: len(text) // 2])
        elif not trouble.hang_up:
            self._send(HTTPStatus(trouble.status), json.dumps({"error": "busy"}), trouble.retry_after)

    def _send(self, status: HTTPStatus, text: str, retry_after: int = 0) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text.encode())))
        if retry_after:
            self.send_header("Retry-After", str(retry_after))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class named it
        """Be quiet: visits are remembered, not printed."""


def _url(server: _Server) -> str:
    return f"http://{LOOPBACK}:{server.server_port}"
