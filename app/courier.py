"""A courier's HTTP service on 127.0.0.1, small but real: it tracks parcels, prints labels, and has bad days.

A shop (`app/shop.py`) has its desks in the same house. The service knows nothing of Celery or Regrow. It remembers
every request that reached it, so that what it saw can be compared with what others say. Its troubles are given by path;
some more come of themselves: a parcel it does not know (404), a wrong key (401), and whatever a rule of the business
refuses: that is answered with `application/problem+json` (RFC 9457), whose `type` names the rule.
"""

from __future__ import annotations

import html
import json
import math
import socket
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import takewhile
from socketserver import TCPServer
from threading import Event, Lock, Thread, Timer
from time import monotonic
from typing import Any, Self

from app.font import chinese_font
from app.shop import Refusal, Shop

LOOPBACK = "127.0.0.1"

#: The companies whose parcels it can track, by the letters that their numbers begin with.
COMPANIES = {"SF": "顺丰速运", "YT": "圆通速递", "ZTO": "中通快递", "JD": "京东物流", "EMS": "中国邮政"}

#: The content type of an answer that says no by a rule of the business. Source: RFC 9457.
PROBLEM = "application/problem+json"

#: The HTTP status of each refusal.
_REFUSED = {
    "courier-not-supported": HTTPStatus.UNPROCESSABLE_ENTITY,
    "order-not-found": HTTPStatus.NOT_FOUND,
    "order-cancelled": HTTPStatus.CONFLICT,
    "out-of-stock": HTTPStatus.CONFLICT,
    "card-declined": HTTPStatus.PAYMENT_REQUIRED,
    "insufficient-funds": HTTPStatus.PAYMENT_REQUIRED,
}

_PAGE = """<!doctype html>
<html lang="zh-CN">
<meta charset="utf-8">
<title>{number}</title>
<link rel="icon" href="data:,">
<style>
  @font-face {{ font-family: Noto; src: url(/fonts/chinese.otf); }}
  body {{ font: 20px/1.8 Noto; margin: 3em; color: #222; }}
  h1 {{ border-bottom: 3px solid #c8102e; }}
  dt {{ color: #777; }}
  dd {{ margin: 0 0 1em; font-size: 1.3em; }}
</style>
<h1>快递查询</h1>
<dl><dt>快递公司<dd>{company}<dt>快递单号<dd>{number}<dt>当前状态<dd>{status}</dl>
</html>
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the service answers with.

    Args:
        status: The HTTP status.
        content: The body.
        kind: Its content type.
    """

    status: HTTPStatus
    content: bytes
    kind: str


def _json(facts: Mapping[str, Any], status: HTTPStatus = HTTPStatus.OK, kind: str = "application/json") -> Answer:
    return Answer(status, json.dumps(facts, ensure_ascii=False).encode(), kind)


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
        error: What that answer says, for example a database's own words.
        retry_after: Seconds that the answer asks the client to wait; 0: does not say.
        silent: Never answer: the client's own time-out must end it.
        hang_up: Close the connection instead of an answer.
        reset: Break the connection off in the middle of an answer.
        garbled: Answer 200 with half of the JSON.
        done: The work is done all the same; only its answer is lost.
    """

    times: float = math.inf
    status: int = 0
    error: str = "busy"
    retry_after: int = 0
    silent: bool = False
    hang_up: bool = False
    reset: bool = False
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
        key: The API key. Statements ask for it; elsewhere no key will do, but a wrong one will not.
        pickup_opens: How long after the first request at the main desk the pickup desk opens, in seconds.
        shop: The shop in the same house.
    """

    def __init__(
        self,
        parcels: Mapping[str, Parcel],
        troubles: Mapping[str, Trouble],
        *,
        key: str,
        pickup_opens: float = 0,
        shop: Shop | None = None,
    ) -> None:
        self.parcels = parcels
        self.troubles = troubles
        self.key = key
        self.shop = shop or Shop({}, {})
        self.closing = Event()
        self._opens = pickup_opens
        self._visits: list[Visit] = []
        #: What is made once for a path, however often it is asked for.
        self._given: dict[str, Answer] = {}
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

    def arrived(self, path: str, body: Mapping[str, Any], key: str) -> tuple[Trouble | None, Answer]:
        """Do what a request asks for; return what goes wrong with it, and the answer."""
        with self._lock:
            count = sum(visit.path == path for visit in self._visits)
            trouble = self.troubles.get(path)
            if trouble is not None and count >= trouble.times:
                trouble = None
            if trouble is None or trouble.done:
                answer = self._answer(path, body, key)
            else:
                answer = _json({"status": "in transit", "cents": 0})
            self._visits.append(Visit(path, monotonic(), body, well=trouble is None and answer.status == HTTPStatus.OK))
            if self._timer is None:
                self._timer = Timer(self._opens, self._open_pickup)
                self._timer.start()
            return trouble, answer

    def _answer(self, path: str, body: Mapping[str, Any], key: str) -> Answer:
        desk, _, name = path.strip("/").partition("/")
        if key != self.key and (key or desk == "statements"):
            return _json({"error": "API key invalid or expired"}, HTTPStatus.UNAUTHORIZED)
        try:
            answer = self._given.get(path) or self._read(desk, name) or self._make(desk, path, name, body)
        except Refusal as no:
            said = {"type": no.kind, "title": no.kind.replace("-", " "), "detail": no.detail}
            return _json(said, _REFUSED[no.kind], PROBLEM)
        return answer or _json({"error": f"no such desk: {desk}"}, HTTPStatus.NOT_FOUND)

    def _read(self, desk: str, name: str) -> Answer | None:
        """Answer a question; None if the desk answers none."""
        if desk == "fonts":
            return Answer(HTTPStatus.OK, chinese_font().read_bytes(), "font/otf")
        if desk == "orders":
            return _json(self.shop.look_up(name))
        if desk == "statements":
            return _json({"cents": sum(parcel.cents for parcel in self.parcels.values())})
        if desk in ("track", "prices", "pages"):
            return self._look_up(desk, name)
        return None

    def _look_up(self, desk: str, number: str) -> Answer:
        company = "".join(takewhile(str.isupper, number))
        if company and company not in COMPANIES:
            raise Refusal("courier-not-supported", f"不支持快递公司 {company}")
        parcel = self.parcels.get(number)
        if parcel is None:
            return _json({"error": f"no parcel {number}"}, HTTPStatus.NOT_FOUND)
        if desk != "pages":
            return _json({"status": parcel.status, "cents": parcel.cents})
        told = {"company": COMPANIES.get(company, "-"), "number": number, "status": parcel.status}
        page = _PAGE.format_map({name: html.escape(text) for name, text in told.items()})
        return Answer(HTTPStatus.OK, page.encode(), "text/html; charset=utf-8")

    def _make(self, desk: str, path: str, name: str, body: Mapping[str, Any]) -> Answer | None:
        """Bring something into the world; None if the desk does no such thing."""
        made: Mapping[str, Any]
        if desk == "labels":
            made = {"label": f"L-{len(self._given) + 1:04}"}
        elif desk == "reservations":
            made = self.shop.reserve(name)
        elif desk == "payments":
            made = self.shop.pay(name)
        elif desk in ("notices", "invoices", "complaints", "pickups"):
            made = {**body, "pickup": f"P-{name}"}
        else:
            return None
        self._made[path] += 1
        answer = _json(made)
        if desk in ("labels", "reservations"):
            self._given[path] = answer
        return answer

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
        trouble, answer = self.service.arrived(self.path, body, key)
        half = len(answer.content) // 2
        if trouble is None:
            self._send(answer)
        elif trouble.silent:
            self.service.closing.wait(60)
        elif trouble.garbled:
            self._send(Answer(HTTPStatus.OK, answer.content[:half], answer.kind))
        elif trouble.reset:
            self._send(answer, sent=half)
            # Lingering for no time makes the system send a reset instead of a polite end.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.rfile.close()
            self.connection.close()
        elif not trouble.hang_up:
            self._send(_json({"error": trouble.error}, HTTPStatus(trouble.status)), retry_after=trouble.retry_after)

    def _send(self, answer: Answer, *, retry_after: int = 0, sent: int | None = None) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(answer.content)))
        if retry_after:
            self.send_header("Retry-After", str(retry_after))
        self.end_headers()
        self.wfile.write(answer.content[:sent])

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class named it
        """Be quiet: visits are remembered, not printed."""


def _url(server: _Server) -> str:
    return f"http://{LOOPBACK}:{server.server_port}"
