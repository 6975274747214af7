"""The comparison as a chart in SVG: a group of bars for each row, with a line from the smallest to the largest sample."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from benchmarks.card import FAINT, INK, LINE, bar, card, text
from benchmarks.peers.figures import ROWS, Contender, Row, RowName, summary
from benchmarks.peers.report import about, number
from benchmarks.peers.result import Result

COLUMN: Final = 500
LABELS: Final = 150
RIGHT: Final = 62
TOP: Final = 92
HEAD: Final = 24
ROW: Final = 19
BAR: Final = 13
GAP: Final = 16
COLORS: Final = {"edgeproxy": "#c2410c", "distribution": "#0369a1", "zot": "#7c3aed", "bare": "#94a3b8"}
_COLUMNS: Final = (
    (RowName.BLOB, RowName.DIGEST, RowName.TAG, RowName.TAGS),
    (RowName.PUT, RowName.PATCH, RowName.PUSHES, RowName.CALLS, RowName.START),
)


def draw(result: Result) -> str:
    """Draw the first measure of every row. Those with two workers are left out: they had another core."""
    columns = [[ROWS[name] for name in names if name in result.samples] for names in _COLUMNS]
    columns = [column for column in columns if column]
    parts: list[str] = []
    lowest = TOP
    for place, rows in enumerate(columns):
        y = TOP
        for row in rows:
            parts += _group(result, row, place * COLUMN, y)
            y += HEAD + ROW * len(_shown(result, row)) + GAP
        lowest = max(lowest, y)
    families = {who.family for row in result.samples.values() for who in row}
    legend = {name: color for name, color in COLORS.items() if name in families}
    note = about(result)[0].partition("; ")[0] + "; one core a server. Medians, the line from the least to the most."
    warning = [line for line in about(result) if "trial" in line or "quick" in line]
    title = "Answers, pushes and starts beside the peers" + (" (not to be quoted)" if warning else "")
    return card(COLUMN * max(1, len(columns)) + 20, lowest + 34, title, note, legend, parts)


def _shown(result: Result, row: Row) -> Sequence[Contender]:
    return [who for who in result.samples[row.name] if who.workers == 1]


def _group(result: Result, row: Row, x: float, y: float) -> Iterator[str]:
    better = "more is better" if row.main.more else "less is better"
    yield text(x + 20, y + 6, row.title, 13, weight=600)
    yield text(x + COLUMN, y + 6, f"{row.main.title}, {better}", 11, color=FAINT, anchor="end")
    found = {who: summary(result.samples, row.name, who, row.main.name) for who in _shown(result, row)}
    largest = max((each.most for each in found.values() if each is not None), default=0.0) or 1.0
    scale = (COLUMN - LABELS - RIGHT - 20) / largest
    left = x + 20 + LABELS
    y += HEAD - 8
    for who, each in found.items():
        middle = y + BAR / 2
        yield text(left - 8, middle + 4, who.called, 11.5, anchor="end")
        if each is None:
            yield text(left + 6, middle + 4, "failed", 11.5, color=FAINT)
        else:
            shown = number(each.median, row.main.digits)
            yield bar(left, y, each.median * scale, BAR, COLORS[who.family], f"{who.called}: {shown} {row.main.title}")
            ends = left + each.least * scale, left + each.most * scale
            yield f'<line x1="{ends[0]:.2f}" y1="{middle:g}" x2="{ends[1]:.2f}" y2="{middle:g}" stroke="{INK}" stroke-width="1.2"/>'
            yield text(ends[1] + 6, middle + 4, shown, 11.5, weight=600)
        y += ROW
    yield f'<line x1="{left:g}" y1="{y - ROW * len(found) - 4:g}" x2="{left:g}" y2="{y - 2:g}" stroke="{LINE}"/>'
