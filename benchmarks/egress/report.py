"""Says what a workload costs: a table, a chart, one sentence; as text, JSON and SVG."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from datetime import date
from io import StringIO
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.egress.chart import draw, money
from benchmarks.egress.pricing import Bill, Category
from benchmarks.egress.usage import Usage

WIDTH: Final = 115
_UNITS: Final = ("B", "kB", "MB", "GB", "TB", "PB")


def size(number: float) -> str:
    """Write a number of bytes in decimal units, as bills do."""
    unit = 0
    while number >= 1000 and unit < len(_UNITS) - 1:
        number, unit = number / 1000, unit + 1
    return f"{number:.0f} B" if unit == 0 else f"{number:.1f} {_UNITS[unit]}"


def count(number: float) -> str:
    """Write a large number."""
    if number < 10_000:
        return f"{number:.0f}"
    return f"{number / 1e3:.0f} thousand" if number < 1e6 else f"{number / 1e6:,.1f} million"


def sentence(bills: Sequence[Bill], factor: float, day: date) -> str:
    """Say in one sentence what the workload costs on R2 with redirects, and elsewhere."""
    if not bills:
        return "There is nothing to price."
    ours = [bill for bill in bills if bill.usage.name == "edgeproxy-redirect" and bill.place.store.prices == "r2"]
    best = min(ours or list(bills), key=lambda bill: bill.total)
    usage = best.usage
    others = {
        bill.place.store_egress: bill for bill in reversed(bills) if bill.place.store.prices != best.place.store.prices
    }
    cheapest = sorted(others.values(), key=lambda bill: bill.total)
    text = (
        f"A month of this workload ({size(usage.egress * factor)} to clients in {count(usage.requests * factor)} requests,"
        f" {size(usage.storage)} stored) costs {money(best.total)} on {best.place.name} ({_how(best)})"
    )
    if cheapest:
        text += ", and " + ", ".join(f"{money(bill.total)} on {bill.place.name} ({_how(bill)})" for bill in cheapest)
    return f"{text}, at list prices as known on {day}."


def _how(bill: Bill) -> str:
    """Name a registry and how it delivers, in words."""
    registry = bill.usage.name.partition("-")[0]
    return f"{registry} with redirects" if bill.usage.delivery == "redirect" else f"{registry} passing the bytes on"


def stands_for(usage: Usage, factor: float) -> str:
    """Say what a month was made of, and how sure that is."""
    if factor == 1:
        return "The workload is priced as it is, as one month"
    times = f"{factor:,.0f}" if factor >= 100 else f"{factor:.4g}"
    error = f"give or take {usage.error:.0%}" if usage.error < 1 else "with an unknown error"
    return f"{times} times a workload of {usage.span / 3600:.1f} hours stand for a month, {error}"


def error_text(bills: Sequence[Bill], factor: float) -> str:
    """Say how sure it is."""
    if not bills:
        return ""
    usage = bills[0].usage
    if factor == 1:
        return f"{stands_for(usage, factor)}."
    how = (
        "two standard errors of the bytes, from the spread between slices of the workload"
        if usage.error < 1
        else "the workload is too short or too uneven to tell"
    )
    return (
        f"{stands_for(usage, factor)} ({how}); weekdays, seasons and growth that it does not hold are in no figure."
        " What is stored is not multiplied."
    )


def text(bills: Sequence[Bill], factor: float, day: date, warnings: Sequence[str]) -> str:
    """Write the report as text."""
    rows = [["place", "registry", *(category.value for category in Category), "total"]]
    rows[0] += ["range"] if factor != 1 else []
    for bill in _sorted(bills):
        row = [bill.place.name, bill.usage.name, *map(amount, bill.by_category.values()), amount(bill.total)]
        rows.append(row + ([f"{amount(bill.low)} - {amount(bill.high)}"] if factor != 1 else []))
    lines = [f"US dollars a month, list prices as known on {day}\n", *_columns(rows), ""]
    lines += [wrapped(sentence(bills, factor, day)), wrapped(error_text(bills, factor)), *_notes(bills)]
    return "\n".join([*lines, *(f"warning: {warning}" for warning in warnings)]) + "\n"


def amount(dollars: float) -> str:
    """Write an amount in a column: cents where they matter."""
    return f"{dollars:,.0f}" if dollars >= 1000 else f"{dollars:,.2f}"


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Set rows in columns as wide as they need: names to the left, figures to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if place < 2 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]


def wrapped(text: str) -> str:
    """Break a paragraph into lines of the width of the table."""
    return "\n".join(textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False))


def _notes(bills: Sequence[Bill]) -> list[str]:
    """Say what to know of the places, each thing once."""
    by_note: dict[str, list[str]] = {}
    for bill in bills:
        names = by_note.setdefault(bill.place.note, [])
        if bill.place.name not in names:
            names.append(bill.place.name)
    return [wrapped(f"note: {' and '.join(names)}: {note}.") for note, names in by_note.items() if note]


def lines_text(bills: Sequence[Bill]) -> str:
    """Write every line of every bill, with its quantity and source."""
    tables = []
    for bill in _sorted(bills):
        table = Table(
            box=box.SIMPLE_HEAD, title=f"{bill.place.name} ({bill.usage.name}): {bill.total:,.2f}", title_justify="left"
        )
        for name in ("category", "line", "date", "source"):
            table.add_column(name, overflow="fold")
        table.add_column("quantity", justify="right", no_wrap=True)
        table.add_column("cost", justify="right", no_wrap=True)
        for line in bill.lines:
            quantity = f"{line.quantity:,.6g} {line.price.unit}"
            name = f"{line.service}: {line.price.name}"
            table.add_row(
                line.category.value, name, str(line.price.date), line.price.source, quantity, f"{line.cost:,.4f}"
            )
        tables.append(_printed(table))
    return "\n".join(tables)


def as_json(bills: Sequence[Bill], factor: float, day: date, warnings: Sequence[str]) -> dict[str, Any]:
    """Give the report as plain values."""
    return {
        "sentence": sentence(bills, factor, day),
        "scale": factor,
        "error": error_text(bills, factor),
        "as_of": day.isoformat(),
        "bills": [bill.as_json() for bill in _sorted(bills)],
        "warnings": list(warnings),
    }


def svg(bills: Sequence[Bill], factor: float, day: date) -> str:
    """Draw the report."""
    usage = bills[0].usage if bills else None
    moved = (
        "" if usage is None else f"{size(usage.egress * factor)} to clients, {count(usage.requests * factor)} requests"
    )
    note = f"US dollars a month, list prices as known on {day}. {stands_for(bills[0].usage, factor)}." if bills else ""
    return draw(_sorted(bills), f"A month of this workload: {moved}", note)


def _sorted(bills: Sequence[Bill]) -> list[Bill]:
    return sorted(bills, key=lambda bill: (bill.total, bill.place.name, bill.usage.name))


def _printed(table: Table) -> str:
    output = StringIO()
    Console(file=output, width=WIDTH, no_color=True).print(table)
    lines = [line.rstrip() for line in output.getvalue().rstrip().splitlines()]
    # rich begins with a line that has nothing but the upper edge of a box.
    return "\n".join(line for number, line in enumerate(lines) if line or number != 1) + "\n"
