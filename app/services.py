"""How tasks ask the courier's and the shop's HTTP services, and in which words these say no.

COURIER_URL is where the courier is, COURIER_KEY our API key there. A company may have a service and a key of its own:
COURIER_URL_SF and COURIER_KEY_SF are for numbers that begin with SF. SHOP_URL is where the shop is, if not with the
courier. COURIER_TIMEOUT_SECONDS is how long we wait for an answer.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import takewhile
from typing import Any

import httpx

# What an error answer says is worth reading up to here, in characters.
_SAID = 300


class Refused(Exception):
    """A rule of the courier's or the shop's business says no; the words are theirs."""


class CourierNotSupported(Refused):
    """The courier does not know the company."""


class OrderNotFound(Refused):
    """The shop has no such order."""


class OrderCancelled(Refused):
    """The customer has called the order off."""


class OutOfStock(Refused):
    """The shop has too little of something."""


class CardDeclined(Refused):
    """The bank declines the customer's card."""


class InsufficientFunds(Refused):
    """The customer has too little money."""


_REFUSALS = {
    "courier-not-supported": CourierNotSupported,
    "order-not-found": OrderNotFound,
    "order-cancelled": OrderCancelled,
    "out-of-stock": OutOfStock,
    "card-declined": CardDeclined,
    "insufficient-funds": InsufficientFunds,
}


def courier_url(number: str) -> str:
    """Where the service is that knows a parcel."""
    return _setting("COURIER_URL", number) or os.environ["COURIER_URL"]


def courier(path: str, number: str, body: Mapping[str, Any] | None = None) -> Any:
    """Ask the courier about a parcel; return the answer's JSON.

    Args:
        path: What is asked.
        number: The parcel's number.
        body: What is sent; None: it is only a question.

    Raises:
        Refused: A rule of the business says no.
        httpx.HTTPError: It cannot be reached, or its answer is an error.
    """
    return _ask(courier_url(number) + path, body, key=_setting("COURIER_KEY", number))


def shop(path: str, body: Mapping[str, Any] | None = None) -> Any:
    """Ask the shop; return the answer's JSON.

    Args:
        path: What is asked.
        body: What is sent; None: it is only a question.

    Raises:
        Refused: A rule of the business says no.
        httpx.HTTPError: It cannot be reached, or its answer is an error.
    """
    return _ask((os.environ.get("SHOP_URL") or os.environ["COURIER_URL"]) + path, body, key="")


def _setting(name: str, number: str) -> str:
    """A setting of the company whose letters a number begins with, else everybody's."""
    company = "".join(takewhile(str.isupper, number))
    return os.environ.get(f"{name}_{company}") or os.environ.get(name, "")


def _ask(url: str, body: Mapping[str, Any] | None, *, key: str) -> Any:
    answer = httpx.request(
        "GET" if body is None else "POST",
        url,
        json=body,
        headers={"Authorization": f"Bearer {key}"} if key else None,
        timeout=float(os.environ.get("COURIER_TIMEOUT_SECONDS") or 5),
    )
    if answer.headers.get("Content-Type") == "application/problem+json":
        problem = answer.json()
        raise _REFUSALS.get(problem["type"], Refused)(f"{problem['title']}: {problem['detail']}")
    if not answer.is_success:
        # Not raise_for_status, which leaves out what the service says about it.
        said = f"{answer.status_code} {answer.reason_phrase} from {url}: {answer.text[:_SAID]}"
        raise httpx.HTTPStatusError(said, request=answer.request, response=answer)
    return answer.json()
