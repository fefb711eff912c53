"""Tasks of a shop that ships parcels: each one really asks the courier's HTTP service (`app/courier.py`).

None of them handles an error, counts a retry, or knows of Regrow beyond what its owner declares about it. They use both
httpx and requests, whose errors look quite different.

COURIER_URL and COURIER_PICKUP_URL say where the courier is, COURIER_KEY is the shop's API key, and
COURIER_TIMEOUT_SECONDS is how long a task waits for an answer.
"""

from __future__ import annotations

import os
from typing import Any

import httpx
import requests
from celery.app.task import Context

from app.tasks.celery_app import celery_app


def _address(path: str, *, desk: str = "COURIER_URL") -> str:
    return os.environ[desk] + path


def _seconds() -> float:
    return float(os.environ.get("COURIER_TIMEOUT_SECONDS") or 5)


def _post(path: str, body: dict[str, Any], *, desk: str = "COURIER_URL") -> Any:
    answer = requests.post(_address(path, desk=desk), json=body, timeout=_seconds())
    answer.raise_for_status()
    return answer.json()


@celery_app.task
def track(number: str) -> str:
    """Where a parcel is."""
    answer = httpx.get(_address(f"/track/{number}"), timeout=_seconds())
    answer.raise_for_status()
    return str(answer.json()["status"])


@celery_app.task
def announce(status: str, number: str) -> str:
    """Tell the customer where the parcel is; return the text."""
    return str(_post(f"/notices/{number}", {"text": f"{number}: {status}"})["text"])


@celery_app.task
def price(number: str) -> int:
    """What sending a parcel costs, in cents."""
    answer = requests.get(_address(f"/prices/{number}"), timeout=_seconds())
    answer.raise_for_status()
    return int(answer.json()["cents"])


@celery_app.task
def invoice(cents: list[int], order: str) -> int:
    """Book the sum of some prices; return it."""
    return int(_post(f"/invoices/{order}", {"cents": sum(cents)})["cents"])


@celery_app.task(regrow={"idempotent": True})
def label(order: str) -> str:
    """Have a label printed. The courier prints one for an order, however often it is asked: hence `idempotent`."""
    return str(_post(f"/labels/{order}", {})["label"])


@celery_app.task
def pickup(order: str) -> str:
    """Have a parcel fetched; the pickup desk has a port of its own."""
    return str(_post(f"/pickups/{order}", {}, desk="COURIER_PICKUP_URL")["pickup"])


@celery_app.task
def statement(month: str) -> int:
    """What the shop owes for a month, in cents; needs the shop's API key."""
    key = {"Authorization": f"Bearer {os.environ.get('COURIER_KEY', '')}"}
    answer = httpx.get(_address(f"/statements/{month}"), headers=key, timeout=_seconds())
    answer.raise_for_status()
    return int(answer.json()["cents"])


@celery_app.task
def complain(request: Context, error: BaseException, _traceback: object) -> None:
    """An errback: tells the courier that a task has failed for good."""
    _post(f"/complaints/{request.id}", {"error": str(error)})
