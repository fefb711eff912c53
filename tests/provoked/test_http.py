"""HTTP through four clients: every status of a failure, broken answers, and what applications say of them."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from contextlib import AbstractContextManager

import httpx
import requests
import urllib3.exceptions
from requests.adapters import HTTPAdapter

from regrow.model import BUSINESS, CONFIG, DATA, NETWORK, SYSTEM, TEMPORARY, UNKNOWN, Category
from tests.provoked import servers
from tests.provoked.clients import CLIENTS, by_httpx, by_requests
from tests.provoked.servers import http, response, serve
from tests.provoked.table import Case, Field, check

statuses = Field("http status")
answers = Field("http")

#: Every status of RFC 9110 and its registry from 400; two labels where the RFC leaves it to the case.
STATUSES: dict[int, tuple[Category, ...]] = {
    400: (DATA,),
    401: (CONFIG,),
    402: (BUSINESS, CONFIG),
    403: (CONFIG,),
    404: (BUSINESS,),
    405: (DATA, CONFIG),
    406: (DATA, CONFIG),
    407: (CONFIG,),
    408: (NETWORK,),
    409: (DATA, BUSINESS),
    410: (BUSINESS,),
    411: (DATA,),
    412: (DATA, TEMPORARY),
    413: (DATA,),
    414: (DATA,),
    415: (DATA,),
    416: (DATA,),
    417: (DATA,),
    418: (DATA, UNKNOWN),
    421: (TEMPORARY, CONFIG),
    422: (DATA,),
    423: (TEMPORARY,),
    424: (TEMPORARY, DATA),
    425: (TEMPORARY,),
    426: (CONFIG, DATA),
    428: (DATA,),
    429: (TEMPORARY,),
    431: (DATA,),
    451: (BUSINESS, CONFIG),
    500: (TEMPORARY,),
    501: (CONFIG, DATA),
    502: (TEMPORARY,),
    503: (TEMPORARY,),
    504: (TEMPORARY,),
    505: (CONFIG, DATA),
    506: (CONFIG, TEMPORARY),
    507: (TEMPORARY, SYSTEM),
    508: (CONFIG, TEMPORARY),
    510: (CONFIG, DATA),
    511: (CONFIG, NETWORK),
}


def _get(fetch: Callable[[str], object], server: Callable[[], AbstractContextManager[str]]) -> Callable[[], object]:
    def provoke() -> None:
        with server() as url:
            fetch(url)

    return provoke


for _status, _labels in STATUSES.items():
    for _name, _fetch in CLIENTS.items():
        statuses.add(
            f"{_status}/{_name}",
            _labels,
            _get(_fetch, lambda status=_status: http(response(status, WWW_Authenticate='Basic realm="x"'))),
        )


@statuses.each()
def test_status(case: Case) -> None:
    """The status alone decides."""
    check(case)


_CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
_SLOW = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"
_GZIP = gzip.compress(b"x" * 5_000)

#: What a broken server sends: name, labels, server, time-out in seconds.
BROKEN: list[tuple[str, tuple[Category, ...], Callable[[], AbstractContextManager[str]], float]] = [
    ("cut-body", (NETWORK,), lambda: http(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"), 5),
    ("cut-chunk", (NETWORK,), lambda: http(_CHUNKED + b"ff\r\nhalf"), 5),
    ("wrong-chunk", (NETWORK, TEMPORARY), lambda: http(_CHUNKED + b"zz\r\nhalf\r\n"), 5),
    ("garbage-status-line", (NETWORK, TEMPORARY), lambda: http(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), 5),
    ("empty-reply", (NETWORK,), lambda: http(b""), 5),
    ("reset", (NETWORK,), lambda: http(b"", then=servers.abort), 5),
    ("read-timeout", (NETWORK,), lambda: http(b"", then=servers.silent), 0.3),
    ("read-timeout-in-body", (NETWORK,), lambda: http(_SLOW, then=servers.silent), 0.3),
    ("redirect-loop", (CONFIG, DATA), lambda: http(response(302, Location="/")), 5),
    ("bad-gzip", (DATA, NETWORK), lambda: http(response(200, b"no gzip at all", Content_Encoding="gzip")), 5),
    ("redirect-to-odd-scheme", (CONFIG, DATA), lambda: http(response(302, Location="gopher://127.0.0.1/")), 5),
]
for _id, _labels, _server, _timeout in BROKEN:
    for _name, _fetch in CLIENTS.items():
        if (_id, _name) == ("bad-gzip", "urllib"):
            continue  # it decodes nothing
        answers.add(f"{_id}/{_name}", _labels, _get(lambda url, f=_fetch, t=_timeout: f(url, t, None), _server))

for _name, _fetch in CLIENTS.items():
    answers.add(f"refused/{_name}", NETWORK, lambda f=_fetch: f(f"http://127.0.0.1:{servers.closed_port()}/", 5, None))
    answers.add(f"dns/{_name}", NETWORK, lambda f=_fetch: f("http://regrow.invalid/", 5, None))
    # TEST-NET-1 of RFC 5737: no route or no answer.
    answers.add(f"unreachable/{_name}", NETWORK, lambda f=_fetch: f("http://192.0.2.1/", 0.3, None))
    answers.add(f"no-scheme/{_name}", (DATA, CONFIG), lambda f=_fetch: f("courier.example/api", 5, None))
    answers.add(f"odd-scheme/{_name}", (DATA, CONFIG), lambda f=_fetch: f("htp://courier.example/api", 5, None))
    answers.add(f"bad-port/{_name}", (DATA, CONFIG), lambda f=_fetch: f("http://127.0.0.1:notaport/", 5, None))


@answers.case("retry-after/requests", TEMPORARY)
def _retry_after() -> None:
    with http(response(429, "slow down", Retry_After="30")) as url:
        by_requests(url)


@answers.case("proxy-refused/requests", NETWORK)
def _proxy_refused() -> None:
    proxy = f"http://127.0.0.1:{servers.closed_port()}"
    requests.get("http://courier.example/", proxies={"http": proxy}, timeout=5)


@answers.case("proxy-refused/httpx", NETWORK)
def _proxy_refused_httpx() -> None:
    httpx.get("http://courier.example/", proxy=f"http://127.0.0.1:{servers.closed_port()}", timeout=5)


@answers.case("proxy-refused-for-tls/requests", NETWORK)
def _proxy_refused_tls() -> None:
    proxy = f"http://127.0.0.1:{servers.closed_port()}"
    requests.get("https://courier.example/", proxies={"https": proxy}, timeout=5)


@answers.case("proxy-wants-password/requests", CONFIG)
def _proxy_407() -> None:
    with http(response(407, "who are you")) as url:
        requests.get("https://courier.example/", proxies={"https": url}, timeout=5)


@answers.case("proxy-wants-password/httpx", CONFIG)
def _proxy_407_httpx() -> None:
    with http(response(407, "who are you")) as url:
        httpx.get("https://courier.example/", proxy=url, timeout=5)


@answers.case("proxy-cannot-reach/requests", NETWORK, TEMPORARY)
def _proxy_502() -> None:
    with http(response(502, "cannot reach")) as url:
        requests.get("https://courier.example/", proxies={"https": url}, timeout=5)


@answers.case("retries-used-up-on-503/requests", TEMPORARY)
def _retries_503() -> None:
    retries = urllib3.Retry(2, status_forcelist=[503], backoff_factor=0)
    with http(response(503)) as url, requests.Session() as session:
        session.mount("http://", HTTPAdapter(max_retries=retries))
        session.get(url, timeout=5)


@answers.case("retries-used-up-on-429/urllib3", TEMPORARY)
def _retries_429() -> None:
    retries = urllib3.Retry(1, status_forcelist=[429], backoff_factor=0, respect_retry_after_header=False)
    with http(response(429)) as url, urllib3.PoolManager(retries=retries) as pool:
        pool.request("GET", url, timeout=5)


@answers.case("pool-of-connections-empty/urllib3", NETWORK, TEMPORARY)
def _pool_empty() -> None:
    with http(response(200)) as url:
        port = int(url.rpartition(":")[2])
        with urllib3.HTTPConnectionPool("127.0.0.1", port, maxsize=1, block=True) as pool:
            taken = pool._get_conn()
            try:
                pool.request("GET", "/", pool_timeout=0.05, timeout=2, retries=False)
            finally:
                taken.close()


@answers.case("pool-of-connections-empty/httpx", NETWORK, TEMPORARY)
def _pool_empty_httpx() -> None:
    limits = httpx.Limits(max_connections=1)
    with (
        http(_SLOW, then=servers.silent) as url,
        httpx.Client(limits=limits, timeout=httpx.Timeout(5, pool=0.05)) as client,
        client.stream("GET", url),
    ):
        client.get(url)


@answers.case("no-json/requests", DATA)
def _no_json() -> None:
    with http(response(200, "<html>login</html>")) as url:
        requests.get(url, timeout=5).json()


@answers.case("no-json/httpx", DATA)
def _no_json_httpx() -> None:
    with http(response(200, "<html>login</html>")) as url:
        httpx.get(url, timeout=5).json()


@answers.case("json-of-another-type/aiohttp", DATA)
def _json_type() -> None:
    import asyncio

    from tests.services import require_library

    aiohttp = require_library("aiohttp")

    async def fetch() -> object:
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return await answer.json()

    with http(response(200, "<html>login</html>", "text/html")) as url:
        asyncio.run(fetch())


@answers.case("server-says-nothing-more/http.client", NETWORK)
def _http_client() -> None:
    import http.client

    with serve(servers.hang_up) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/")
            connection.getresponse()
        finally:
            connection.close()


class CourierError(Exception):
    """As an application wraps what a service answered."""


def _wrapped(status: int, body: str) -> None:
    """The usual three lines: status and text of the answer in a sentence of one's own."""
    with http(response(status, body, "application/json")) as url:
        answer = requests.get(url, timeout=5)
        if answer.status_code >= 400:
            raise CourierError(f"courier API answered {answer.status_code}: {answer.text}")


def _chained(status: int, body: str) -> None:
    """The same, but raised from the client's exception."""
    with http(response(status, body, "application/json")) as url:
        try:
            by_httpx(url)
        except httpx.HTTPStatusError as error:
            raise CourierError(f"label not made: {error.response.text}") from error


BODIES: list[tuple[str, tuple[Category, ...], int, str]] = [
    ("403-rate", (TEMPORARY,), 403, '{"message": "API rate limit exceeded for user ID 7."}'),
    ("400-courier", (BUSINESS,), 400, '{"error": "Courier DHL is not supported for country BR"}'),
    ("404-order", (BUSINESS,), 404, '{"error": "Order 4711 not found"}'),
    ("409-shipped", (BUSINESS,), 409, '{"error": "Order 4711 has already been shipped"}'),
    ("401-expired", (CONFIG,), 401, '{"error": "access token expired"}'),
    ("403-scope", (CONFIG,), 403, '{"error": "insufficient_scope", "message": "Missing scope shipments:write"}'),
    ("500-input", (DATA,), 500, '{"error": "ValueError: invalid value for field weight: -3"}'),
    ("500-plain", (TEMPORARY,), 500, '{"error": "Internal Server Error"}'),
    ("503-maintenance", (TEMPORARY,), 503, '{"error": "Down for maintenance, back soon"}'),
    ("429-minute", (TEMPORARY,), 429, '{"error": "Rate limit of 60 requests per minute exceeded"}'),
    ("429-day", (TEMPORARY,), 429, '{"error": "Daily limit of 5000 requests reached"}'),
    ("429-month", (CONFIG,), 429, '{"error": "You have used up your monthly quota. Upgrade your plan."}'),
    ("402-balance", (CONFIG, BUSINESS), 402, '{"error": "Insufficient balance"}'),
    ("422-field", (DATA,), 422, '{"errors": [{"field": "postcode", "message": "is not a valid postcode"}]}'),
    ("400-required", (DATA,), 400, '{"error": "Field \'weight\' is required"}'),
    ("400-stock", (BUSINESS,), 400, '{"error": "Item SKU-9 is out of stock"}'),
    ("403-suspended", (BUSINESS, CONFIG), 403, '{"error": "Your account has been suspended"}'),
    ("502-html", (TEMPORARY,), 502, "<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"),
]
for _id, _labels, _status, _body in BODIES:
    answers.add(f"said-{_id}/own-sentence", _labels, lambda s=_status, b=_body: _wrapped(s, b))
    answers.add(f"said-{_id}/raised-from", _labels, lambda s=_status, b=_body: _chained(s, b))


@answers.each()
def test_http(case: Case) -> None:
    """Broken answers, unreachable servers, and the services' own words."""
    check(case)
