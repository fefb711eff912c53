"""What the shop does all day: real tasks that ask the courier's and the shop's services, write PDFs and take pictures.

None of them handles an error, counts a retry, or knows of Regrow beyond what its owner declares about it: `idempotent`
where running twice does no harm. Who the end user is may be said by the message header or the argument `user_id`.
Settings: `app/services.py` and `app/screenshots.py`; RECEIPTS_DIR and SCREENSHOTS_DIR (default: in APP_VAR) are where
files go.
"""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from typing import Any

from celery.app.task import Context

from app import artifacts, receipts, screenshots
from app.services import courier, courier_url, shop
from app.tasks.celery_app import celery_app


def _parcel(number: str) -> str:
    """A parcel's number, if it is one."""
    if not re.fullmatch("[0-9A-Za-z]{10,20}", number):
        raise ValueError(f"[DATA] Validation failed: 快递单号格式不正确，应为10-20位数字或字母：{number!r}")
    return number


def _order(number: str) -> str:
    """An order's number, if it is one; it becomes part of addresses and file names."""
    if not re.fullmatch("[0-9A-Za-z-]{1,40}", number):
        raise ValueError(f"[DATA] Validation failed: 订单号格式不正确，应为1-40位数字、字母或连字符：{number!r}")
    return number


@celery_app.task(regrow={"idempotent": True})
def tracking_update(number: str) -> str:
    """Where a parcel is."""
    return str(courier(f"/track/{_parcel(number)}", number)["status"])


@celery_app.task(regrow={"idempotent": True})
def receipt_generation(order_id: str, lines: list[dict[str, Any]] | None = None) -> str:
    """Write an order's receipt as a PDF; return its path.

    Args:
        order_id: The order.
        lines: What was bought, each line with `name`, `price` (yuan) and `count`; None: the shop is asked.
    """
    file = artifacts.folder("RECEIPTS_DIR", "receipts") / f"{_order(order_id)}.pdf"
    order: dict[str, Any] = shop(f"/orders/{order_id}") if lines is None else {"customer": "", "lines": lines}
    read = receipts.read_lines(order_id, order["lines"])
    return artifacts.write(file, receipts.pdf(order_id, order["customer"], read, made_at=datetime.now().astimezone()))


@celery_app.task(regrow={"idempotent": True})
def screenshot_capture(page: str) -> str:
    """Take a picture of a web page as PNG; return its path.

    Args:
        page: Its address, or the number of a parcel: then it is the courier's page about it.
    """
    if "://" not in page:
        url, name = f"{courier_url(page)}/pages/{_parcel(page)}", page
    elif re.match("https?:", page):
        url, name = page, hashlib.sha256(page.encode()).hexdigest()[:16]
    else:
        raise ValueError(f"[DATA] Validation failed: 只能截取 http 或 https 网页：{page!r}")
    file = artifacts.folder("SCREENSHOTS_DIR", "screenshots") / f"{name}.png"
    return artifacts.write(file, screenshots.capture(url))


@celery_app.task
def order_processing(order_id: str, user_id: str = "") -> str:
    """Reserve an order's goods in the shop; return the reservation's number."""
    return str(shop(f"/reservations/{_order(order_id)}", {"user_id": user_id})["reservation"])


@celery_app.task
def payment_processing(order_id: str, user_id: str = "") -> str:
    """Charge an order to the customer's card; return the payment's number.

    Run twice it charges twice: so it is not `idempotent`, and a run whose end nobody saw waits for a person.
    """
    return str(shop(f"/payments/{_order(order_id)}", {"user_id": user_id})["payment"])


@celery_app.task
def notify_customer(status: str, number: str) -> str:
    """Tell the customer where a parcel is; return the text. Made for `tracking_update.s(number) | ...`."""
    return str(courier(f"/notices/{_parcel(number)}", number, {"text": f"{number}: {status}"})["text"])


@celery_app.task(regrow={"idempotent": True})
def shipping_price(number: str) -> int:
    """What sending a parcel costs, in cents."""
    return int(courier(f"/prices/{_parcel(number)}", number)["cents"])


@celery_app.task
def shipping_invoice(cents: list[int], order_id: str) -> int:
    """Book the sum of some prices; return it, in cents. Made to be the body of a chord of `shipping_price`."""
    return int(shop(f"/invoices/{_order(order_id)}", {"cents": sum(cents)})["cents"])


@celery_app.task
def complain(request: Context, error: BaseException, _traceback: object) -> None:
    """An errback: tell the courier that a task has failed for good."""
    shop(f"/complaints/{request.id}", {"error": str(error)})
