"""A receipt: what was bought, read with suspicion, and its PDF."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from app.font import chinese_font

_FONT = "Noto"
_GREY = (235, 235, 235)
_FIELDS = {"name": "商品名称", "price": "单价", "count": "数量"}


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that was bought.

    Args:
        name: What it is.
        price: What a piece costs, in yuan.
        count: How many pieces.
    """

    name: str
    price: Decimal
    count: int

    @property
    def sum(self) -> Decimal:
        """What all pieces cost, in yuan."""
        return self.price * self.count


def read_lines(order: str, given: Sequence[Mapping[str, object]]) -> tuple[Line, ...]:
    """The lines of an order, or why there can be no receipt.

    Args:
        order: The order's number.
        given: Its lines, each with `name`, `price` (yuan, as text or number) and `count`.

    Raises:
        ValueError: A field is missing, or a price or count is none.
    """
    if not given:
        raise ValueError(f"[DATA] Validation failed: 订单 {order} 没有商品，无法开具收据")
    return tuple(_read(order, number, line) for number, line in enumerate(given, 1))


def _read(order: str, number: int, line: Mapping[str, object]) -> Line:
    missing = [f"{title} {name}" for name, title in _FIELDS.items() if line.get(name) in (None, "")]
    if missing:
        raise ValueError(f"[DATA] Validation failed: 订单 {order} 第 {number} 行缺少{'、'.join(missing)}")
    price, count = str(line["price"]), str(line["count"])
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,2})?", price):
        raise ValueError(
            f"[DATA] Validation failed: 订单 {order} 第 {number} 行金额无效：{price!r}，应为不小于 0 的数，最多两位小数"
        )
    if not re.fullmatch("[1-9][0-9]{0,5}", count):
        raise ValueError(f"[DATA] Validation failed: 订单 {order} 第 {number} 行数量无效：{count!r}，应为正整数")
    return Line(str(line["name"]), Decimal(price), int(count))


def pdf(order: str, customer: str, lines: Sequence[Line], *, made_at: datetime) -> bytes:
    """The receipt as a PDF.

    Args:
        order: The order's number.
        customer: The customer's name, '' if nobody needs to know.
        lines: What was bought.
        made_at: When the receipt is made.
    """
    from fpdf import FPDF
    from fpdf.fonts import FontFace

    # It tells how it made each table of the font smaller.
    logging.getLogger("fontTools.subset").setLevel(logging.WARNING)
    page = FPDF()
    page.add_font(_FONT, fname=chinese_font())
    page.set_title(f"收据 {order}")
    page.set_lang("zh-CN")
    page.set_creation_date(made_at)
    page.add_page()
    page.set_font(_FONT, size=24)
    page.cell(text="收据", align="C", w=0, new_x="LMARGIN", new_y="NEXT")
    page.ln(6)
    page.set_font(_FONT, size=12)
    head = {"订单号": order, "客户": customer, "开具时间": f"{made_at:%Y-%m-%d %H:%M}"}
    for title, text in head.items():
        if text:
            page.multi_cell(text=f"{title}：{text}", w=0, h=8, new_x="LMARGIN", new_y="NEXT")
    page.ln(4)
    with page.table(
        col_widths=(50, 20, 10, 20),
        text_align=("LEFT", "RIGHT", "RIGHT", "RIGHT"),
        headings_style=FontFace(fill_color=_GREY),
        line_height=9,
        padding=(1, 2),
    ) as table:
        table.row(("商品", "单价（元）", "数量", "小计（元）"))
        for line in lines:
            table.row((line.name, f"{line.price:,.2f}", str(line.count), f"{line.sum:,.2f}"))
        total = sum((line.sum for line in lines), Decimal(0))
        table.row(("合计", "", "", f"{total:,.2f}"), style=FontFace(fill_color=_GREY))
    return bytes(page.output())
