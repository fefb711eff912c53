"""The courier's service, asked directly: what it answers, what it makes, and each of its bad days."""

from __future__ import annotations

import json
from contextlib import contextmanager
from decimal import Decimal

import httpx
import pytest

from app.courier import PROBLEM, Courier, Parcel, Trouble
from app.shop import Order, Shop

LINE = {"name": "蓝牙耳机", "price": "129.00", "count": 2}
ORDERS = {
    "A-1": Order("张三", [LINE]),
    "A-2": Order("李四", [LINE], card_declined=True),
    "A-3": Order("李四", [LINE], funds=Decimal(20)),
    "A-4": Order("王五", [{**LINE, "name": "限量键盘"}]),
    "A-5": Order("王五", [LINE], cancelled=True),
}


@contextmanager
def service(troubles=(), stock=()):
    parcels = {"SF1000000001": Parcel("运输中 <1>", 990), "77000000000001": Parcel("已签收", 640)}
    shop = Shop(ORDERS, dict(stock))
    with (
        Courier(parcels, dict(troubles), key="fresh", pickup_opens=60, shop=shop) as courier,
        httpx.Client(base_url=courier.url, trust_env=False) as client,
    ):
        yield courier, client


def test_it_knows_parcels_and_orders():
    """Questions are answered with what stands in the books, and make nothing."""
    with service() as (courier, client):
        assert client.get("/track/SF1000000001").json() == {"status": "运输中 <1>", "cents": 990}
        assert client.get("/track/77000000000001").json()["status"] == "已签收"
        assert client.get("/orders/A-1").json() == {"order": "A-1", "customer": "张三", "lines": [LINE]}
        assert client.get("/track/SF1").status_code == 404
        assert client.get("/nonsense/1").status_code == 404
        assert not any(courier.made(path) for path in ("/track/SF1000000001", "/orders/A-1", "/nonsense/1"))
        assert courier.failed() == {"/track/SF1", "/nonsense/1"}


def test_a_parcel_has_a_page():
    """The page shows company, number and status, nothing of it as HTML, in a font that the service brings along."""
    with service() as (_, client):
        page = client.get("/pages/SF1000000001")
        assert page.headers["Content-Type"] == "text/html; charset=utf-8"
        assert all(text in page.text for text in ("顺丰速运", "SF1000000001", "运输中 &lt;1&gt;", "/fonts/chinese.otf"))
        assert client.get("/fonts/chinese.otf").content.startswith(b"OTTO")


@pytest.mark.parametrize(
    ("path", "status", "kind"),
    [
        ("/track/XX1000000001", 422, "courier-not-supported"),
        ("/reservations/A-4", 409, "out-of-stock"),
        ("/reservations/A-5", 409, "order-cancelled"),
        ("/reservations/A-6", 404, "order-not-found"),
        ("/payments/A-2", 402, "card-declined"),
        ("/payments/A-3", 402, "insufficient-funds"),
    ],
)
def test_a_rule_of_the_business_refuses(path, status, kind):
    """A refusal names its rule for programs and for people, and nothing is made."""
    with service(stock={"限量键盘": 1}) as (courier, client):
        answer = client.post(path, json={})
        problem = answer.json()
        assert (answer.status_code, answer.headers["Content-Type"], problem["type"]) == (status, PROBLEM, kind)
        assert problem["title"] == kind.replace("-", " ")
        assert problem["detail"]
        assert courier.made(path) == 0
        assert courier.failed() == {path}


def test_reserving_twice_reserves_once_and_paying_twice_pays_twice():
    """A reservation and a label are made once for an order; a payment each time."""
    with service(stock={"限量键盘": 3}) as (courier, client):
        first, again = (client.post("/reservations/A-4", json={}).json() for _ in range(2))
        assert first == again == {"reservation": "R-0001"}
        assert (courier.made("/reservations/A-4"), courier.shop.stock["限量键盘"]) == (1, 1)
        first, again = (client.post("/payments/A-1", json={}).json() for _ in range(2))
        assert (first["payment"], again["payment"]) == ("P-0001", "P-0002")
        assert courier.made("/payments/A-1") == 2
        assert client.post("/labels/A-1").json() == client.post("/labels/A-1").json()
        assert courier.made("/labels/A-1") == 1


@pytest.mark.parametrize(("key", "track", "statement"), [("fresh", 200, 200), ("stale", 401, 401), ("", 200, 401)])
def test_a_wrong_key_opens_nothing(key, track, statement):
    """Statements need the key; elsewhere none will do, but not a wrong one."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with service() as (_, client):
        assert client.get("/track/SF1000000001", headers=headers).status_code == track
        assert client.get("/statements/2026-10", headers=headers).status_code == statement


def test_an_error_says_what_it_was_told_to_say_for_as_long_as_it_lasts():
    """Status, text and Retry-After come as scripted, with the first request only."""
    trouble = Trouble(times=1, status=500, error="deadlock detected", retry_after=7)
    with service({"/reservations/A-1": trouble}) as (courier, client):
        bad, good = (client.post("/reservations/A-1", json={}) for _ in range(2))
        assert (bad.status_code, bad.json(), bad.headers["Retry-After"]) == (500, {"error": "deadlock detected"}, "7")
        assert good.json() == {"reservation": "R-0001"}
        assert [visit.well for visit in courier.visits("/reservations/A-1")] == [False, True]


@pytest.mark.parametrize(
    ("trouble", "error"),
    [
        (Trouble(silent=True), httpx.ReadTimeout),
        (Trouble(hang_up=True), httpx.RemoteProtocolError),
        (Trouble(reset=True), httpx.ReadError),
    ],
)
def test_no_answer_comes_through(trouble, error):
    """The connection hangs, ends, or breaks off in the middle."""
    with service({"/track/SF1000000001": trouble}) as (_, client), pytest.raises(error):
        client.get("/track/SF1000000001", timeout=0.5)


def test_garbled_json_is_half_of_it():
    """The answer comes whole and is no JSON."""
    with service({"/track/SF1000000001": Trouble(garbled=True)}) as (_, client):
        answer = client.get("/track/SF1000000001")
        assert answer.status_code == 200
        with pytest.raises(json.JSONDecodeError):
            answer.json()


def test_work_may_be_done_although_its_answer_is_lost():
    """`done` makes the thing and hides it; without it nothing is made."""
    troubles = {"/payments/A-1": Trouble(hang_up=True, done=True), "/payments/A-5": Trouble(hang_up=True)}
    with service(troubles) as (courier, client):
        for path in troubles:
            with pytest.raises(httpx.RemoteProtocolError):
                client.post(path, json={})
        assert [courier.made(path) for path in troubles] == [1, 0]
