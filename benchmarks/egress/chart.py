"""A bar chart of bills as SVG: one bar a place, parts by where the money goes. On a light card, to be read on any background."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from xml.sax.saxutils import escape

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
_FONT: Final = "font-family=\"-apple-system, 'Segoe UI', Helvetica, Arial, sans-serif\""


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
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" {_FONT} role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="8" fill="#ffffff" stroke="#d4d4d8"/>',
        f'<text x="20" y="32" font-size="17" font-weight="600" fill="#18181b">{escape(title)}</text>',
        *_legend(),
    ]
    for number, bill in enumerate(bills):
        parts += _row(bill, TOP + ROW * number, scale)
    parts.append(f'<text x="20" y="{height - 16}" font-size="11.5" fill="#52525b">{escape(note)}</text>')
    return "\n".join([*parts, "</svg>\n"])


def _legend() -> list[str]:
    parts, x = [], 20
    for category, color in COLORS.items():
        parts.append(f'<rect x="{x}" y="50" width="12" height="12" rx="2" fill="{color}"/>')
        parts.append(f'<text x="{x + 18}" y="60.5" font-size="12.5" fill="#3f3f46">{category.value}</text>')
        x += 38 + 7 * len(category.value)
    return parts


def _row(bill: Bill, y: float, scale: float) -> list[str]:
    middle = y + BAR / 2 + 4.5
    label = escape(f"{bill.place.name} ({bill.usage.name})")
    parts = [f'<text x="{LABELS - 10}" y="{middle}" font-size="12.5" text-anchor="end" fill="#18181b">{label}</text>']
    x = float(LABELS)
    for category, cost in bill.by_category.items():
        width = cost * scale
        if width >= 0.05:
            hint = f"<title>{category.value}: {money(cost)}</title>"
            parts.append(
                f'<rect x="{x:.2f}" y="{y}" width="{width:.2f}" height="{BAR}" fill="{COLORS[category]}">{hint}</rect>'
            )
        x += width
    parts.append(f'<line x1="{LABELS}" y1="{y - 6}" x2="{LABELS}" y2="{y + BAR + 6}" stroke="#a1a1aa"/>')
    parts.append(
        f'<text x="{x + 7:.2f}" y="{middle}" font-size="12.5" font-weight="600" fill="#18181b">{money(bill.total)}</text>'
    )
    return parts
