"""What the charts of all benchmarks share: a light card with a title, a legend and a note, to be read on a light or a dark page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final
from xml.sax.saxutils import escape

_FONT: Final = "font-family=\"-apple-system, 'Segoe UI', Helvetica, Arial, sans-serif\""
INK: Final = "#18181b"
FAINT: Final = "#52525b"
LINE: Final = "#a1a1aa"


def card(width: int, height: int, title: str, note: str, legend: Mapping[str, str], body: Iterable[str]) -> str:
    """Draw a card around elements; `legend` gives a color for each name."""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" {_FONT} role="img">',
            f"<title>{escape(title)}</title>",
            f'<rect x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="8" fill="#ffffff" stroke="#d4d4d8"/>',
            text(20, 32, title, 17, weight=600),
            *_legend(legend),
            *body,
            text(20, height - 16, note, 11.5, color=FAINT),
            "</svg>\n",
        ]
    )


def text(
    x: float, y: float, what: str, size: float, *, weight: int = 400, color: str = INK, anchor: str = "start"
) -> str:
    """Write something."""
    bold = f' font-weight="{weight}"' if weight != 400 else ""
    side = f' text-anchor="{anchor}"' if anchor != "start" else ""
    return f'<text x="{x:g}" y="{y:g}" font-size="{size:g}"{bold}{side} fill="{color}">{escape(what)}</text>'


def bar(x: float, y: float, width: float, height: float, color: str, hint: str) -> str:
    """Draw a bar that says what it is when it is pointed at."""
    return f'<rect x="{x:.2f}" y="{y:g}" width="{width:.2f}" height="{height:g}" fill="{color}"><title>{escape(hint)}</title></rect>'


def _legend(legend: Mapping[str, str]) -> list[str]:
    parts, x = [], 20
    for name, color in legend.items():
        parts.append(f'<rect x="{x}" y="50" width="12" height="12" rx="2" fill="{color}"/>')
        parts.append(text(x + 18, 60.5, name, 12.5, color="#3f3f46"))
        x += 38 + 7 * len(name)
    return parts
