"""A bar chart of bills as SVG: one bar a place, parts by where the money goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from benchmarks.card import LINE, bar, card, text
from benchmarks.egress.pricing import Bill, Category

WIDTH: Final = 900
LABELS: Final = 340
RIGHT: Final = 100
TOP: Final = 92
ROW: Final = 30
BAR: Final = 18
COLORS: Final = {
    Category.EGRESS: "#c2410c",
    Category.OPERATIONS: "#7c3aed",
    Category.STORAGE: "#0369a1",
    Category.COMPUTE: "#64748b",
}


def money(amount: float) -> str:
    """Write an amount as people read it."""
    if amount >= 100:
        return f"${amount:,.0f}"
    return f"${amount:.2f}"


def draw(bills: Sequence[Bill], title: str, note: str) -> str:
    """Draw the bills in their order; the longest bar is the largest total."""
    largest = max((bill.total for bill in bills), default=0.0) or 1.0
    scale = (WIDTH - LABELS - RIGHT) / largest
    height = TOP + ROW * len(bills) + 44
    rows = [part for number, bill in enumerate(bills) for part in _row(bill, TOP + ROW * number, scale)]
    return card(WIDTH, height, title, note, {category.value: color for category, color in COLORS.items()}, rows)


def _row(bill: Bill, y: float, scale: float) -> list[str]:
    middle = y + BAR / 2 + 4.5
    parts = [text(LABELS - 10, middle, f"{bill.place.name} ({bill.usage.name})", 12.5, anchor="end")]
    x = float(LABELS)
    for category, cost in bill.by_category.items():
        width = cost * scale
        if width >= 0.05:
            parts.append(bar(x, y, width, BAR, COLORS[category], f"{category.value}: {money(cost)}"))
        x += width
    parts.append(f'<line x1="{LABELS}" y1="{y - 6}" x2="{LABELS}" y2="{y + BAR + 6}" stroke="{LINE}"/>')
    parts.append(text(x + 7, middle, money(bill.total), 12.5, weight=600))
    return parts
