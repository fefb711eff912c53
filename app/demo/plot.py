"""What is played: which tasks are sent, what the courier does to them, and what must come of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.courier import Parcel, Trouble
from regrow.model import BUSINESS, CONFIG, DATA, NETWORK, TEMPORARY, Category, State

if TYPE_CHECKING:
    from celery.result import AsyncResult

#: The key that the courier wants; the shop's own has expired.
COURIER_KEY = "fresh"
SHOP_KEY = "expired"

#: The customer behind the order whose parcel does not exist.
CUSTOMER = "customer-42"

#: How long the pickup desk stays closed, and how long the throttled price list wants to be left alone.
PICKUP_OPENS_SECONDS = 2.0
RETRY_AFTER_SECONDS = 3

PARCELS = {
    "SF1001": Parcel("delivered", 990),
    "SF1002": Parcel("in transit", 1250),
    "SF1003": Parcel("in transit", 980),
    "SF1004": Parcel("in transit", 1770),
    "SF1005": Parcel("in transit", 1250),
    "SF1006": Parcel("waiting for pickup", 640),
    "SF1007": Parcel("delivered", 1430),
}


@dataclass(frozen=True, slots=True)
class Scene:
    """One task.

    Args:
        task: Last part of the task's name.
        path: What it asks the courier for; no two tasks ask for the same.
        trouble: What the courier does to it.
        category: What Regrow must call each of its failures; None if nothing goes wrong.
        ends: Where it must stand in the ledger in the end; None if the ledger must not know it.
        refused: True if its desk is closed at first, so that requests do not even arrive.
    """

    task: str
    path: str
    trouble: Trouble | None = None
    category: Category | None = None
    ends: State | None = None
    refused: bool = False

    @property
    def subject(self) -> str:
        """What it is about: a parcel, an order, a month."""
        return self.path.rpartition("/")[2]


PLAIN = Scene("track", "/track/SF1001", Trouble(times=2, silent=True), NETWORK, State.RECOVERED)
HEAD = Scene("track", "/track/SF1002", Trouble(times=2, status=503), TEMPORARY, State.RECOVERED)
TAIL = Scene("announce", "/notices/SF1002")
MEMBERS = (
    Scene("price", "/prices/SF1003"),
    Scene(
        "price",
        "/prices/SF1004",
        Trouble(times=1, status=429, retry_after=RETRY_AFTER_SECONDS),
        TEMPORARY,
        State.RECOVERED,
    ),
    Scene("price", "/prices/SF1005", Trouble(times=1, hang_up=True), NETWORK, State.RECOVERED),
)
BODY = Scene("invoice", "/invoices/A-2001")
PICKUP = Scene("pickup", "/pickups/A-2002", None, NETWORK, State.RECOVERED, refused=True)
LABEL = Scene("label", "/labels/A-2003", Trouble(times=1, silent=True, done=True), NETWORK, State.RECOVERED)
LOST = Scene("label", "/labels/A-2004", Trouble(status=503), TEMPORARY, State.EXHAUSTED)
GARBLED = Scene("track", "/track/SF1006", Trouble(garbled=True), DATA, State.HANDED_OVER)
UNKNOWN_PARCEL = Scene("track", "/track/SF9999", None, BUSINESS, State.HANDED_OVER)
STATEMENT = Scene("statement", "/statements/2026-10", None, CONFIG, State.HANDED_OVER)
FINE = Scene("track", "/track/SF1007")

SCENES = (
    PICKUP, PLAIN, HEAD, TAIL, *MEMBERS, BODY, LABEL, LOST, GARBLED, UNKNOWN_PARCEL, STATEMENT, FINE,
)  # fmt: skip

TROUBLES = {scene.path: scene.trouble for scene in SCENES if scene.trouble is not None}

#: What the three waiting calls must return.
ANSWERS = {
    PLAIN: PARCELS[PLAIN.subject].status,
    TAIL: f"{HEAD.subject}: {PARCELS[HEAD.subject].status}",
    BODY: sum(PARCELS[member.subject].cents for member in MEMBERS),
}


def send() -> dict[Scene, AsyncResult]:
    """Send every task; return their results."""
    from celery import chain, chord

    from app.tasks import parcels

    results: dict[Scene, AsyncResult] = {}
    # First, so that it surely finds its desk closed: the desk opens after the first request at the other one.
    results[PICKUP] = parcels.pickup.delay(PICKUP.subject)
    results[PLAIN] = parcels.track.delay(PLAIN.subject)
    results[TAIL] = chain(parcels.track.s(HEAD.subject), parcels.announce.s(HEAD.subject)).apply_async()
    results[HEAD] = results[TAIL].parent
    prices = [parcels.price.s(member.subject) for member in MEMBERS]
    results[BODY] = chord(prices, parcels.invoice.s(BODY.subject)).apply_async()
    results.update(zip(MEMBERS, results[BODY].parent.results, strict=True))
    results[LABEL] = parcels.label.delay(LABEL.subject)
    results[LOST] = parcels.label.apply_async((LOST.subject,), link_error=parcels.complain.s())
    results[GARBLED] = parcels.track.delay(GARBLED.subject)
    results[UNKNOWN_PARCEL] = parcels.track.apply_async((UNKNOWN_PARCEL.subject,), headers={"user_id": CUSTOMER})
    results[STATEMENT] = parcels.statement.delay(STATEMENT.subject)
    results[FINE] = parcels.track.delay(FINE.subject)
    return results


def told(scene: Scene) -> str:
    """The log file in which somebody must have been told about a task, '' if nobody must."""
    if scene.ends is State.HANDED_OVER and scene.category is BUSINESS:
        return "user_notifications.log"
    return "admin_alerts.log" if scene.ends in (State.HANDED_OVER, State.EXHAUSTED) else ""


def must_fail(scenes: Sequence[Scene], failed_paths: set[str]) -> list[Scene]:
    """The tasks that have failed at least once by what the courier saw, or because their desk was closed."""
    return [scene for scene in scenes if scene.path in failed_paths or scene.refused]
