"""Says what a workload costs: a table, a chart, one sentence; as text, JSON and SVG."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from io import StringIO
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.egress.chart import draw, money
from benchmarks.egress.pricing import Bill, Category

WIDTH: Final = 130
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
        f" {size(usage.storage)} stored) costs {money(best.total)} at {best.place.name} ({usage.name})"
    )
    if cheapest:
        text += ", and " + ", ".join(
            f"{money(bill.total)} at {bill.place.name} ({bill.usage.name})" for bill in cheapest
        )
    return f"{text}, at prices of {day}."


def error_text(bills: Sequence[Bill], factor: float) -> str:
    """Say how sure it is."""
    if not bills:
        return ""
    usage = bills[0].usage
    if factor == 1:
        return "The workload is priced as it is, as one month."
    share = (
        f"within {usage.error:.0%} (two standard errors of the bytes, from the spread between slices of the workload)"
        if usage.error < 1
        else "by an unknown error, as the workload is too short or too uneven to tell"
    )
    return (
        f"{factor:,.4g} times a workload of {usage.span / 3600:.2f} hours stands for a month, {share};"
        " weekdays, seasons and growth that it does not hold are in no figure. What is stored is not multiplied."
    )


def text(bills: Sequence[Bill], factor: float, day: date, warnings: Sequence[str]) -> str:
    """Write the report as text."""
    table = Table(box=box.SIMPLE_HEAD, title=f"US dollars a month, prices of {day}", title_justify="left")
    for name in ("place", "registry"):
        table.add_column(name, no_wrap=True)
    for name in (*(category.value for category in Category), "total", "range"):
        table.add_column(name, justify="right", no_wrap=True)
    for bill in _sorted(bills):
        costs = (f"{cost:,.2f}" for cost in bill.by_category.values())
        total_range = f"{bill.low:,.2f} - {bill.high:,.2f}" if factor != 1 else ""
        table.add_row(bill.place.name, bill.usage.name, *costs, f"{bill.total:,.2f}", total_range)
    lines = [_printed(table), sentence(bills, factor, day), error_text(bills, factor)]
    return "\n".join([*lines, *(f"warning: {warning}" for warning in warnings)]) + "\n"


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
    return draw(
        _sorted(bills), f"A month of this workload: {moved}", f"US dollars a month, list prices as known on {day}."
    )


def _sorted(bills: Sequence[Bill]) -> list[Bill]:
    return sorted(bills, key=lambda bill: (bill.total, bill.place.name, bill.usage.name))


def _printed(table: Table) -> str:
    output = StringIO()
    Console(file=output, width=WIDTH, no_color=True).print(table)
    return output.getvalue().rstrip() + "\n"
