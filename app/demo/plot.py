"""What is played: which tasks are sent, what goes wrong with each, and what must come of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from app.courier import Courier, Parcel, Trouble
from app.shop import Order, Shop
from regrow.model import BUSINESS, CONFIG, DATA, NETWORK, SYSTEM, TEMPORARY, UNKNOWN, Category, State

if TYPE_CHECKING:
    from celery.result import AsyncResult

#: The key that the courier wants; the one that the shop has for the company JD has expired.
COURIER_KEY = "fresh"
EXPIRED_KEY = "expired"

#: How long YT's own service stays closed, and how long the throttled price list wants to be left alone.
YT_OPENS_SECONDS = 2.0
RETRY_AFTER_SECONDS = 3

#: Where each type of task asks.
_DESKS = {
    "tracking_update": "track",
    "shipping_price": "prices",
    "notify_customer": "notices",
    "shipping_invoice": "invoices",
    "receipt_generation": "orders",
    "screenshot_capture": "pages",
    "order_processing": "reservations",
    "payment_processing": "payments",
}

#: What must never be done twice for one task.
ONCE = ("notify_customer", "shipping_invoice", "order_processing", "payment_processing")


@dataclass(frozen=True, slots=True)
class Scene:
    """One task.

    Args:
        task: Its type.
        subject: What it is about: a parcel, an order.
        trouble: What the service does to it.
        category: What Regrow must call each of its failures; None if nothing goes wrong.
        ends: Where it must stand in the ledger in the end; None if the ledger must not know it.
        user: The end user whom it serves, '' if nobody says.
        local: True if it fails before it asks anybody.
    """

    task: str
    subject: str
    trouble: Trouble | None = None
    category: Category | None = None
    ends: State | None = None
    user: str = ""
    local: bool = False

    @property
    def path(self) -> str:
        """What it asks for; no two tasks ask for the same."""
        return f"/{_DESKS[self.task]}/{self.subject}"


def _recovers(task: str, subject: str, category: Category, trouble: Trouble | None = None) -> Scene:
    return Scene(task, subject, trouble, category, State.RECOVERED)


def _handed(task: str, subject: str, category: Category, trouble: Trouble | None = None, user: str = "") -> Scene:
    return Scene(task, subject, trouble, category, State.HANDED_OVER, user)


# -- a bad day ---------------------------------------------------------------------------------------------------------

REFUSED = _recovers("tracking_update", "YT10000001", NETWORK)
PLAIN = _recovers("tracking_update", "SF10000001", NETWORK, Trouble(times=1, silent=True))
PHOTO = Scene("screenshot_capture", "SF10000002")
LATE_PHOTO = _recovers("screenshot_capture", "ZTO1000001", TEMPORARY, Trouble(times=1, status=503))
HEAD = _recovers("tracking_update", "SF10000003", TEMPORARY, Trouble(times=1, status=503))
TAIL = Scene("notify_customer", HEAD.subject)
MEMBERS = (
    Scene("shipping_price", "SF10000004"),
    _recovers("shipping_price", "SF10000005", TEMPORARY, Trouble(times=1, status=429, retry_after=RETRY_AFTER_SECONDS)),
    _recovers("shipping_price", "SF10000006", NETWORK, Trouble(times=1, hang_up=True)),
)
BODY = Scene("shipping_invoice", "A-2001")
SPENT = Scene("tracking_update", "EMS1000001", Trouble(status=503), TEMPORARY, State.EXHAUSTED)
SYSTEM_FAILURES = (
    _recovers("receipt_generation", "A-2002", SYSTEM),
    _recovers("receipt_generation", "A-2003", SYSTEM),
)
SOLD_OUT = Scene("order_processing", "A-2006", None, BUSINESS, State.RECOVERED, user="customer-42")
UNPAID = _handed("payment_processing", "A-2007", BUSINESS, user="customer-7")
NOT_SUPPORTED = _handed("tracking_update", "XX10000001", BUSINESS, user="customer-9")

#: Without a browser these cannot succeed, and whoever runs the demo need not have one.
PHOTOS = (PHOTO, LATE_PHOTO)

BAD_DAY = (
    REFUSED,  # first, so that it surely finds its port closed: it opens after the first request at the other one
    PLAIN,
    *PHOTOS,
    HEAD,
    TAIL,
    *MEMBERS,
    BODY,
    SPENT,
    *SYSTEM_FAILURES,
    _recovers("tracking_update", "SF10000007", NETWORK, Trouble(times=2, reset=True)),
    _recovers("tracking_update", "SF10000008", TEMPORARY, Trouble(times=1, status=500, error="deadlock detected")),
    _recovers("payment_processing", "A-2004", TEMPORARY, Trouble(times=1, status=503)),
    _recovers("order_processing", "A-2005", TEMPORARY, Trouble(times=1, status=503)),
    SOLD_OUT,
    UNPAID,
    NOT_SUPPORTED,
    _handed("tracking_update", "SF10009999", BUSINESS),  # no such parcel, and nobody says whose it is
    _handed("tracking_update", "SF10000010", DATA, Trouble(garbled=True)),
    Scene("tracking_update", "SF-11", None, DATA, State.HANDED_OVER, local=True),
    _handed("receipt_generation", "A-2008", DATA),  # a line of it has no price
    _handed("tracking_update", "JD10000001", CONFIG),
    _handed("tracking_update", "SF10000012", UNKNOWN, Trouble(status=418, error="E-1734")),
    Scene("tracking_update", "SF10000013"),
    Scene("order_processing", "A-2009"),
    Scene("payment_processing", "A-2009"),
)

# -- a worker dies -----------------------------------------------------------------------------------------------------

#: These two run when it dies. The payment is made, but the answer is on its way for ever.
CUT_HEAD = _recovers("tracking_update", "SF10000014", SYSTEM, Trouble(times=1, silent=True))
CUT_PAYMENT = Scene(
    "payment_processing", "A-2010", Trouble(times=1, silent=True, done=True), SYSTEM, State.HELD, "customer-3"
)
CUT_TAIL = Scene("notify_customer", CUT_HEAD.subject)

#: These wait behind them: some in the worker's hands, and lost with it, the others in the broker.
QUEUED = (
    Scene("order_processing", "A-2011"),
    Scene("tracking_update", "SF10000015"),
    Scene("payment_processing", "A-2011"),
    Scene("receipt_generation", "A-2012"),
    Scene("tracking_update", "SF10000016"),
    Scene("order_processing", "A-2013"),
    Scene("payment_processing", "A-2014"),
    Scene("tracking_update", "SF10000017"),
)

#: Another program wrote down that it failed; Regrow has never seen it run.
FOREIGN = _recovers("tracking_update", "ZTO1000002", NETWORK)
FOREIGN_ERROR = "[NETWORK] Connection timeout: 快递接口连接超时"

SCENES = (*BAD_DAY, CUT_HEAD, CUT_TAIL, CUT_PAYMENT, *QUEUED, FOREIGN)

#: What waiting calls must return.
ANSWERS = {
    PLAIN: "运输中",
    TAIL: f"{HEAD.subject}: 运输中",
    BODY: 990 * len(MEMBERS),
    CUT_TAIL: f"{CUT_HEAD.subject}: 运输中",
}

# -- the services ------------------------------------------------------------------------------------------------------

RARE = "限量键盘"
_LINE = {"name": "蓝牙耳机", "price": "129.00", "count": 2}
_SPECIAL_ORDERS = {
    SOLD_OUT.subject: Order("王五", [{"name": RARE, "price": "899.00", "count": 1}]),
    UNPAID.subject: Order("李四", [_LINE], funds=Decimal(20)),
    "A-2008": Order("赵六", [_LINE, {"name": "数据线", "count": 3}]),
}


def courier(*, troubles: bool) -> Courier:
    """The courier's service and the shop's.

    Args:
        troubles: Whether today is a bad day.
    """
    numbers = {scene.subject for scene in SCENES if scene.path.startswith(("/track", "/prices", "/pages"))}
    known = numbers - {"SF10009999", "SF-11"}
    orders = {scene.subject: Order("张三", [_LINE]) for scene in SCENES if scene.subject.startswith("A-")}
    return Courier(
        {number: Parcel("运输中", 990) for number in known},
        {scene.path: scene.trouble for scene in SCENES if scene.trouble is not None} if troubles else {},
        key=COURIER_KEY,
        pickup_opens=YT_OPENS_SECONDS if troubles else 0,
        shop=Shop(orders | _SPECIAL_ORDERS, {RARE: 0}),
    )


# -- sending -----------------------------------------------------------------------------------------------------------


def send_bad_day() -> dict[Scene, AsyncResult]:
    """Send the first tasks; return their results."""
    from celery import chain, chord

    from app.tasks import business

    results: dict[Scene, AsyncResult] = {}
    for scene in BAD_DAY:
        if scene is HEAD:
            results[TAIL] = chain(
                business.tracking_update.s(HEAD.subject), business.notify_customer.s(TAIL.subject)
            ).apply_async()
            results[HEAD] = results[TAIL].parent
        elif scene is BODY:
            prices = [business.shipping_price.s(member.subject) for member in MEMBERS]
            results[BODY] = chord(prices, business.shipping_invoice.s(BODY.subject)).apply_async()
            results.update(zip(MEMBERS, results[BODY].parent.results, strict=True))
        elif scene is SPENT:
            results[SPENT] = business.tracking_update.apply_async((SPENT.subject,), link_error=business.complain.s())
        elif scene is not TAIL and scene not in MEMBERS:
            results[scene] = _send(scene)
    return results


def send_before_the_kill() -> dict[Scene, AsyncResult]:
    """Send what the worker has when it dies; return the results."""
    from celery import chain

    from app.tasks import business

    results: dict[Scene, AsyncResult] = {}
    results[CUT_TAIL] = chain(
        business.tracking_update.s(CUT_HEAD.subject), business.notify_customer.s(CUT_TAIL.subject)
    ).apply_async()
    results[CUT_HEAD] = results[CUT_TAIL].parent
    return results | {scene: _send(scene) for scene in (CUT_PAYMENT, *QUEUED)}


def _send(scene: Scene) -> AsyncResult:
    from app.tasks import business

    task = getattr(business, scene.task)
    if scene.user and scene.task in ("order_processing", "payment_processing"):
        return task.delay(scene.subject, user_id=scene.user)
    return task.apply_async((scene.subject,), headers={"user_id": scene.user} if scene.user else None)


def write_foreign_row() -> AsyncResult:
    """Write down that a task has failed, as a program does that knows nothing of Regrow; return its result."""
    from datetime import UTC, datetime

    from app.db import Session
    from app.models import FAILED, Task
    from app.tasks.celery_app import celery_app

    row = Task(
        task_type=FOREIGN.task,
        params={"args": [FOREIGN.subject]},
        status=FAILED,
        error_type="ConnectionError",
        error_message=FOREIGN_ERROR,
        failed_at=datetime.now(UTC),
    )
    with Session.begin() as session:
        session.add(row)
    return celery_app.AsyncResult(row.celery_task_id)


# -- what must come of it ----------------------------------------------------------------------------------------------


def fate(scene: Scene, *, lost: Iterable[Scene], browser: bool) -> tuple[Category | None, State | None]:
    """What a task's failures must be called, and where it must end; Nones if it must not fail.

    Args:
        scene: The task.
        lost: What the worker had taken and not begun when it was killed.
        browser: True if there is a browser to take pictures with.
    """
    if scene in lost:
        return SYSTEM, State.RECOVERED
    if scene in PHOTOS and not browser:
        return CONFIG, State.HANDED_OVER
    return scene.category, scene.ends


def told(scene: Scene, category: Category | None, state: State | None) -> str:
    """The log file in which somebody must have been told about a task, '' if nobody must."""
    if category is BUSINESS and scene.user:
        return "user_notifications.log"
    needs_person = state in (State.HANDED_OVER, State.EXHAUSTED, State.HELD)
    return "admin_alerts.log" if needs_person else ""
