"""A shop's books and its rules: what can be reserved, and what can be paid. Speaks no HTTP; the courier's service does.

What a customer must hear is a `Refusal` in the shop's own words: a few in English, then what it is about in Chinese.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any


@dataclass(frozen=True, slots=True)
class Order:
    """What a customer wants.

    Args:
        customer: The customer's name.
        lines: What is bought, as it was typed in: each with `name`, `price` (yuan, as text) and `count`.
        funds: What the customer's account holds, in yuan.
        card: Last digits of the customer's bank card.
        card_declined: True if the bank declines that card.
        cancelled: True if the customer has called it off.
    """

    customer: str
    lines: Sequence[Mapping[str, Any]]
    funds: Decimal = Decimal(10_000)
    card: str = "8888"
    card_declined: bool = False
    cancelled: bool = False

    @property
    def total(self) -> Decimal:
        """What it costs, in yuan."""
        return sum((Decimal(line["price"]) * line["count"] for line in self.lines), Decimal(0))


class Refusal(Exception):
    """A rule says no.

    Args:
        kind: Its name for programs, for example `out-of-stock`.
        detail: What it is about, for people.
    """

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(kind, detail)
        self.kind = kind
        self.detail = detail


class Shop:
    """The books.

    Args:
        orders: The orders, by number.
        stock: How many pieces are left, by name; of what is not listed there is always enough.
    """

    def __init__(self, orders: Mapping[str, Order], stock: Mapping[str, int]) -> None:
        self.orders = orders
        self.stock = dict(stock)
        self._reservations = 0
        self._payments = 0

    def look_up(self, number: str) -> dict[str, Any]:
        """An order as its receipt wants it.

        Raises:
            Refusal: There is no such order.
        """
        order = self._order(number)
        return {"order": number, "customer": order.customer, "lines": [dict(line) for line in order.lines]}

    def reserve(self, number: str) -> dict[str, Any]:
        """Take an order's goods off the shelf; return the reservation.

        Raises:
            Refusal: There is no such order, it is cancelled, or something is out of stock.
        """
        order = self._order(number)
        if order.cancelled:
            raise Refusal("order-cancelled", f"订单 {number} 已取消")
        for line in order.lines:
            left = self.stock.get(line["name"], line["count"])
            if left < line["count"]:
                raise Refusal("out-of-stock", f"{line['name']} 库存不足，需要 {line['count']} 件，仅剩 {left} 件")
        for line in order.lines:
            if line["name"] in self.stock:
                self.stock[line["name"]] -= line["count"]
        self._reservations += 1
        return {"reservation": f"R-{self._reservations:04}"}

    def pay(self, number: str) -> dict[str, Any]:
        """Charge an order to the customer's card; asked twice, it charges twice. Return the payment.

        Raises:
            Refusal: There is no such order, the card is declined, or it has too little money.
        """
        order = self._order(number)
        if order.card_declined:
            raise Refusal("card-declined", f"尾号 {order.card} 的银行卡被发卡行拒绝")
        if order.funds < order.total:
            raise Refusal("insufficient-funds", f"应付 {order.total:.2f} 元，可用 {order.funds:.2f} 元")
        self._payments += 1
        return {"payment": f"P-{self._payments:04}", "total": str(order.total)}

    def _order(self, number: str) -> Order:
        if number not in self.orders:
            raise Refusal("order-not-found", f"订单 {number} 不存在")
        return self.orders[number]
