"""The business tasks against a real courier on loopback: what they return, and how each of their troubles is judged."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import httpx
import pypdfium2
import pytest
from PIL import Image
from playwright.sync_api import Error as BrowserError

from app.courier import Courier, Parcel, Trouble
from app.screenshots import BROWSERS, BrowserMissing, PageFailed
from app.services import (
    CardDeclined,
    CourierNotSupported,
    InsufficientFunds,
    OrderCancelled,
    OrderNotFound,
    OutOfStock,
)
from app.shop import Order, Shop
from regrow import wiring
from regrow.capture import causes_from_exception, causes_from_text

NETWORK, SYSTEM, TEMPORARY = "recoverable_network", "recoverable_system", "recoverable_temporary"
DATA, CONFIG, BUSINESS = "unrecoverable_data", "unrecoverable_config", "unrecoverable_business"

PARCEL = "SF1000000001"
LINE = {"name": "蓝牙耳机", "price": "129.00", "count": 2}
ORDERS = {
    "A-1": Order("张三", [LINE, {"name": "数据线 USB-C", "price": 19.9, "count": 3}]),
    "A-2": Order("李四", [LINE], card_declined=True),
    "A-3": Order("李四", [LINE], funds=Decimal(20)),
    "A-4": Order("王五", [{**LINE, "name": "限量键盘"}]),
    "A-5": Order("王五", [LINE], cancelled=True),
    "A-6": Order("赵六", [LINE, {"name": "键盘", "count": 1}]),
}

needs_browser = pytest.mark.skipif(
    not any(map(shutil.which, BROWSERS)), reason="no Chromium here: apt-get install -y chromium"
)


@pytest.fixture(scope="module")
def business(tmp_path_factory):
    """The tasks. Importing them makes folders, so these lie outside of the repository."""
    var = tmp_path_factory.mktemp("var")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("APP_VAR", str(var))
        patch.setenv("FAILURE_DATABASE_URL", f"sqlite:///{var / 'regrow.db'}")
        patch.setenv("FAILURE_LOGS_DIR", str(var / "logs"))
        return importlib.import_module("app.tasks.business")


@pytest.fixture(scope="module")
def classify():
    return wiring.load_classifier()


@pytest.fixture
def category(classify):
    """The category of an exception."""
    return lambda error: str(classify(causes_from_exception(error)).category)


@pytest.fixture
def courier(monkeypatch, tmp_path):
    """Opens the service with troubles, by path, and tells the tasks where it is."""
    for name in [name for name in os.environ if name.startswith(("COURIER_", "SHOP_", "CHROMIUM_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RECEIPTS_DIR", str(tmp_path / "receipts"))
    monkeypatch.setenv("SCREENSHOTS_DIR", str(tmp_path / "screenshots"))
    monkeypatch.setenv("NO_PROXY", "*")

    @contextmanager
    def opened(troubles=()):
        shop = Shop(ORDERS, {"限量键盘": 1})
        with Courier({PARCEL: Parcel("运输中", 990)}, dict(troubles), key="fresh", pickup_opens=60, shop=shop) as one:
            monkeypatch.setenv("COURIER_URL", one.url)
            yield one

    return opened


def pages(path):
    """The text of each page of a PDF."""
    document = pypdfium2.PdfDocument(path)
    try:
        return [page.get_textpage().get_text_range() for page in document]
    finally:
        document.close()


def test_the_tasks_have_the_names_of_their_types(business):
    """`task_type` is the last part of the name; what may run twice says so, and a payment does not."""
    idempotent = {"tracking_update", "receipt_generation", "screenshot_capture", "shipping_price"}
    others = {"order_processing", "payment_processing", "notify_customer", "shipping_invoice", "complain"}
    for name in idempotent | others:
        task = getattr(business, name)
        assert task.name == f"app.tasks.business.{name}"
        assert getattr(task, "regrow", None) == ({"idempotent": True} if name in idempotent else None)


# -- the courier --------------------------------------------------------------------------------------------------------


def test_a_parcel_is_tracked_and_the_customer_told(business, courier):
    """The links of the chain fit together."""
    with courier() as service:
        status = business.tracking_update(PARCEL)
        assert business.notify_customer(status, PARCEL) == f"{PARCEL}: 运输中"
        assert service.visits(f"/notices/{PARCEL}")[0].body == {"text": f"{PARCEL}: 运输中"}


def test_prices_become_an_invoice(business, courier):
    """Header and body of the chord fit together."""
    with courier() as service:
        prices = [business.shipping_price(PARCEL) for _ in range(2)]
        assert business.shipping_invoice(prices, "A-1") == 1980
        assert service.made("/invoices/A-1") == 1


@pytest.mark.parametrize(
    ("trouble", "error", "expected"),
    [
        (Trouble(silent=True), httpx.ReadTimeout, NETWORK),
        (Trouble(hang_up=True), httpx.RemoteProtocolError, NETWORK),
        (Trouble(reset=True), httpx.ReadError, NETWORK),
        (Trouble(status=429, error="too many requests", retry_after=7), httpx.HTTPStatusError, TEMPORARY),
        (Trouble(status=500, error="internal error"), httpx.HTTPStatusError, TEMPORARY),
        (Trouble(status=500, error="deadlock detected"), httpx.HTTPStatusError, TEMPORARY),
        (Trouble(status=503), httpx.HTTPStatusError, TEMPORARY),
        (Trouble(garbled=True), json.JSONDecodeError, DATA),
        (Trouble(status=401, error="API key invalid"), httpx.HTTPStatusError, CONFIG),
        (Trouble(status=404, error="no parcel"), httpx.HTTPStatusError, BUSINESS),
    ],
)
def test_the_courier_has_a_bad_day(business, courier, category, monkeypatch, trouble, error, expected):
    """Each trouble rises as what httpx or json says, with the service's own words, and has its category."""
    monkeypatch.setenv("COURIER_TIMEOUT_SECONDS", "0.5")
    with courier({f"/track/{PARCEL}": trouble}), pytest.raises(error) as caught:
        business.tracking_update(PARCEL)
    assert category(caught.value) == expected
    if trouble.status:
        assert f"{trouble.status} " in str(caught.value)
        assert trouble.error in str(caught.value)


def test_a_throttled_task_knows_how_long_to_wait(business, courier, classify):
    """Retry-After gets from the service into the verdict."""
    with courier({f"/track/{PARCEL}": Trouble(status=429, retry_after=7)}):
        with pytest.raises(httpx.HTTPStatusError) as caught:
            business.tracking_update(PARCEL)
        assert classify(causes_from_exception(caught.value)).retry_after_seconds == 7


@pytest.mark.parametrize("closed", [True, False])
def test_a_company_with_an_address_of_its_own_cannot_be_reached(business, courier, category, monkeypatch, closed):
    """A closed port and a name that does not resolve; only that company's parcels suffer."""
    with courier() as service:
        monkeypatch.setenv("COURIER_URL_YT", service.pickup_url if closed else "http://courier.invalid")
        with pytest.raises(httpx.ConnectError) as caught:
            business.tracking_update("YT1000000001")
        assert category(caught.value) == NETWORK
        assert business.tracking_update(PARCEL) == "运输中"


def test_a_company_with_a_key_of_its_own_refuses_another(business, courier, category, monkeypatch):
    """The key is really sent: a wrong one is a configuration failure, the right one works."""
    monkeypatch.setenv("COURIER_KEY", "stale")
    with courier():
        with pytest.raises(httpx.HTTPStatusError, match=r"401 .*API key invalid or expired") as caught:
            business.tracking_update(PARCEL)
        assert category(caught.value) == CONFIG
        monkeypatch.setenv("COURIER_KEY_SF", "fresh")
        assert business.tracking_update(PARCEL) == "运输中"


def test_nobody_has_said_where_the_courier_is(business, courier, category, monkeypatch):
    """A missing setting is named."""
    with courier():
        monkeypatch.delenv("COURIER_URL")
        with pytest.raises(KeyError, match="COURIER_URL") as caught:
            business.tracking_update(PARCEL)
    assert category(caught.value) == CONFIG


@pytest.mark.parametrize(
    ("number", "error", "words", "expected"),
    [
        ("XX1000000001", CourierNotSupported, "courier not supported: 不支持快递公司 XX", BUSINESS),
        ("SF9999999999", httpx.HTTPStatusError, "404 Not Found", BUSINESS),
        ("SF-1", ValueError, r"\[DATA\] Validation failed: 快递单号格式不正确，应为10-20位数字或字母", DATA),
    ],
)
def test_a_number_is_no_good(business, courier, category, number, error, words, expected):
    """An unknown company, an unknown parcel, no number at all."""
    with courier(), pytest.raises(error, match=words) as caught:
        business.tracking_update(number)
    assert category(caught.value) == expected


# -- receipts -----------------------------------------------------------------------------------------------------------


def test_a_receipt_is_a_pdf_with_chinese_text(business, courier, tmp_path):
    """Every fact of the order stands in it, and it alone lies in its folder."""
    with courier():
        path = Path(business.receipt_generation("A-1"))
    (text,) = pages(path)
    for expected in ("收据", "订单号：A-1", "客户：张三", "蓝牙耳机 129.00 2 258.00", "数据线 USB-C 19.90 3 59.70"):
        assert expected in text
    assert "合计 317.70" in text
    assert list((tmp_path / "receipts").iterdir()) == [path]


def test_a_receipt_for_given_lines_may_be_long(business, courier):
    """Nobody is asked, the table goes on over pages, each with its heading, and the sum is right."""
    lines = [{"name": f"名称很长的商品第 {number} 号" * 3, "price": "1234.50", "count": 1} for number in range(60)]
    with courier() as service:
        path = business.receipt_generation("A-9", lines=lines)
        assert service.visits("/orders/A-9") == []
    texts = pages(path)
    assert len(texts) > 1
    assert all("单价（元）" in text for text in texts)
    assert "74,070.00" in texts[-1]


def test_a_receipt_made_again_replaces_the_first(business, courier):
    """One file for an order."""
    with courier():
        business.receipt_generation("A-1", lines=[LINE])
        path = business.receipt_generation("A-1", lines=[{**LINE, "name": "键盘"}])
    (text,) = pages(path)
    assert "键盘" in text
    assert "蓝牙耳机" not in text


@pytest.mark.parametrize(
    ("order", "lines", "words"),
    [
        ("A-6", None, "订单 A-6 第 2 行缺少单价 price"),
        ("A-1", [{}], "订单 A-1 第 1 行缺少商品名称 name、单价 price、数量 count"),
        ("A-1", [{**LINE, "price": "12,50"}], "订单 A-1 第 1 行金额无效：'12,50'"),
        ("A-1", [{**LINE, "price": -1}], "金额无效：'-1'"),
        ("A-1", [{**LINE, "price": float("nan")}], "金额无效：'nan'"),
        ("A-1", [{**LINE, "count": 0}], "数量无效：'0'"),
        ("A-1", [], "没有商品"),
        ("../A-1", [LINE], "订单号格式不正确"),
    ],
)
def test_an_order_is_no_good_for_a_receipt(business, courier, category, tmp_path, order, lines, words):
    """What is wrong is said in the guide's form, and no file is left."""
    with courier(), pytest.raises(ValueError, match=r"^\[DATA\] Validation failed: ") as caught:
        business.receipt_generation(order, lines=lines)
    assert words in str(caught.value)
    assert category(caught.value) == DATA
    assert list(tmp_path.rglob("*.p*")) == []


def test_an_order_arrives_garbled(business, courier, category):
    """Malformed JSON rises as such."""
    with courier({"/orders/A-1": Trouble(garbled=True)}), pytest.raises(json.JSONDecodeError) as caught:
        business.receipt_generation("A-1")
    assert category(caught.value) == DATA


@pytest.mark.skipif(sys.platform != "linux", reason="/sys is Linux's")
def test_the_folder_is_not_writable(business, courier, category, monkeypatch):
    """Not even root makes a folder in /sys."""
    monkeypatch.setenv("RECEIPTS_DIR", "/sys/receipts")
    with courier(), pytest.raises(OSError, match="/sys/receipts") as caught:
        business.receipt_generation("A-1")
    assert category(caught.value) == SYSTEM


def test_the_disk_is_full(business, courier, category, monkeypatch, tmp_path):
    """The old receipt stays whole, and no half of the new one is left."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", disk], capture_output=True, check=False
    ).returncode
    if mounted != 0:
        pytest.skip("a disk that is full needs the right to mount one")
    try:
        (disk / "A-1.pdf").write_text("old")
        monkeypatch.setenv("RECEIPTS_DIR", str(disk))
        with courier(), pytest.raises(OSError, match="No space left on device") as caught:
            business.receipt_generation("A-1")
        assert category(caught.value) == SYSTEM
        assert [(file.name, file.read_text()) for file in disk.iterdir()] == [("A-1.pdf", "old")]
    finally:
        subprocess.run(["umount", disk], check=True)


# -- screenshots --------------------------------------------------------------------------------------------------------


def children():
    """The processes that we have started and that still run."""
    stats = [path.read_text().rpartition(")")[2].split() for path in Path("/proc").glob("[0-9]*/stat") if path.exists()]
    return sum(fields[1] == str(os.getpid()) and fields[0] != "Z" for fields in stats)


@needs_browser
def test_a_parcels_page_becomes_a_picture(business, courier, tmp_path):
    """The picture shows the page as it looks, in the font that the page brings; it alone lies in its folder."""
    before = children()
    with courier() as service:
        path = Path(business.screenshot_capture(PARCEL))
        again = Path(business.screenshot_capture(f"{service.url}/pages/{PARCEL}"))
        assert all(visit.well for visit in service.visits("/fonts/chinese.otf"))
        assert service.visits("/fonts/chinese.otf")
    assert path.name == f"{PARCEL}.png"
    assert sorted((tmp_path / "screenshots").iterdir()) == sorted([path, again])
    with Image.open(path) as picture, Image.open(again) as other:
        assert picture.format == "PNG"
        assert picture.size == (1024, 640)
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 20)}
        assert (200, 16, 46) in colours  # the line under the heading
        assert (34, 34, 34) in colours  # the text
        assert picture.tobytes() == other.tobytes()
    assert children() == before


@needs_browser
@pytest.mark.parametrize(
    ("trouble", "error", "expected"),
    [
        (Trouble(status=503), PageFailed, TEMPORARY),
        (Trouble(status=404, error="no parcel"), PageFailed, BUSINESS),
        (Trouble(status=422, error="courier not supported"), PageFailed, BUSINESS),
        (Trouble(hang_up=True), BrowserError, NETWORK),
        (Trouble(silent=True), BrowserError, NETWORK),
    ],
)
def test_a_page_has_a_bad_day(business, courier, category, monkeypatch, tmp_path, trouble, error, expected):
    """An error page is no picture; the browser is closed whatever happens."""
    before = children()
    if trouble.silent:
        monkeypatch.setenv("SCREENSHOT_TIMEOUT_SECONDS", "4")
    with courier({f"/pages/{PARCEL}": trouble}), pytest.raises(error) as caught:
        business.screenshot_capture(PARCEL)
    assert category(caught.value) == expected
    if trouble.status:
        assert str(trouble.status) in str(caught.value)
        assert trouble.error in str(caught.value)
    assert list(tmp_path.rglob("*.png*")) == []
    assert children() == before


@pytest.mark.parametrize("named", [True, False])
def test_no_browser_is_installed(business, courier, classify, monkeypatch, tmp_path, named):
    """The error names what is missing and how to install it: an administrator must act, as its text alone tells."""
    monkeypatch.setenv("PATH", str(tmp_path))
    if named:
        monkeypatch.setenv("CHROMIUM_PATH", str(tmp_path / "chromium"))
    with courier(), pytest.raises(BrowserMissing) as caught:
        business.screenshot_capture(PARCEL)
    text = str(caught.value)
    missing = f"CHROMIUM_PATH={tmp_path / 'chromium'}" if named else "chromium, chromium-browser, google-chrome"
    assert missing in text
    assert "apt-get install -y chromium" in text
    for causes in (causes_from_exception(caught.value), causes_from_text("", text, "")):
        assert str(classify(causes).category) == CONFIG


@pytest.mark.parametrize("page", ["file:///etc/passwd", "chrome://version", "not a number"])
def test_only_web_pages_are_taken(business, courier, category, page):
    """No file of this machine becomes a picture."""
    with courier(), pytest.raises(ValueError, match=r"^\[DATA\] Validation failed: ") as caught:
        business.screenshot_capture(page)
    assert category(caught.value) == DATA


# -- the shop -----------------------------------------------------------------------------------------------------------


def test_an_order_is_reserved_and_paid(business, courier):
    """The shop hears who it is for; a payment is made each time it is asked for."""
    with courier() as service:
        assert business.order_processing("A-1", user_id="customer-42") == "R-0001"
        assert business.payment_processing("A-1", user_id="customer-42") == "P-0001"
        assert business.payment_processing("A-1") == "P-0002"
        assert service.visits("/reservations/A-1")[0].body == {"user_id": "customer-42"}
        assert service.made("/payments/A-1") == 2


def test_the_shop_may_have_an_address_of_its_own(business, courier, monkeypatch):
    """SHOP_URL moves the shop and leaves the courier where it is."""
    with courier() as service:
        monkeypatch.setenv("SHOP_URL", service.pickup_url)
        with pytest.raises(httpx.ConnectError):
            business.order_processing("A-1")
        assert business.tracking_update(PARCEL) == "运输中"


@pytest.mark.parametrize(
    ("task", "order", "error", "words"),
    [
        ("order_processing", "A-4", OutOfStock, "out of stock: 限量键盘 库存不足，需要 2 件，仅剩 1 件"),
        ("order_processing", "A-5", OrderCancelled, "order cancelled: 订单 A-5 已取消"),
        ("order_processing", "A-404", OrderNotFound, "order not found: 订单 A-404 不存在"),
        ("payment_processing", "A-2", CardDeclined, "card declined: 尾号 8888 的银行卡被发卡行拒绝"),
        ("payment_processing", "A-3", InsufficientFunds, "insufficient funds: 应付 258.00 元，可用 20.00 元"),
        ("payment_processing", "A-404", OrderNotFound, "order not found: 订单 A-404 不存在"),
        ("receipt_generation", "A-404", OrderNotFound, "order not found: 订单 A-404 不存在"),
    ],
)
def test_the_shop_says_no(business, courier, category, task, order, error, words):
    """A rule of the business rises in the words of the domain."""
    with courier(), pytest.raises(error) as caught:
        getattr(business, task)(order)
    assert str(caught.value) == words
    assert category(caught.value) == BUSINESS


@pytest.mark.parametrize("task", ["order_processing", "payment_processing"])
@pytest.mark.parametrize("trouble", [Trouble(status=503), Trouble(status=500, error="deadlock detected")])
def test_the_shop_cannot_serve_just_now(business, courier, category, task, trouble):
    """A failure of the shop's side rises with what it says."""
    troubles = dict.fromkeys(("/reservations/A-1", "/payments/A-1"), trouble)
    with courier(troubles), pytest.raises(httpx.HTTPStatusError, match=trouble.error) as caught:
        getattr(business, task)("A-1")
    assert category(caught.value) == TEMPORARY


def test_a_payments_answer_is_lost(business, courier, category, monkeypatch):
    """The money is taken, and the task cannot know."""
    monkeypatch.setenv("COURIER_TIMEOUT_SECONDS", "0.5")
    with courier({"/payments/A-1": Trouble(silent=True, done=True)}) as service:
        with pytest.raises(httpx.ReadTimeout) as caught:
            business.payment_processing("A-1")
        assert service.made("/payments/A-1") == 1
    assert category(caught.value) == NETWORK
