"""Price files: dated lines with their source, in TOML. What is wrong is told with file and line. Pure but for reading.

A file holds `[[price]]` tables. Each is one line of a bill:

- `item`: what is metered, one of `Item`; `name`: what the bill calls it; `region`: where it holds
- `unit`: what the price is for; `size`: how much of the metered quantity that is (bytes, operations, seconds); `round_up`: whole units only
- `steps`: `{from, to, price}` in units, without gap or overlap, the last without `to`; a free tier is a step of price 0
- `operations`: for `item = "operations"`, the names of those that are billed so
- `times`: for what is had more than once (public addresses); `date` and `source`: when the price was known, and who says so
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).with_name("prices")
OLD: Final = timedelta(days=365)

_HEADER: Final = re.compile(r"^[ \t]*\[\[[ \t]*price[ \t]*\]\]", re.MULTILINE)
_STEPS: Final = re.compile(r"^[ \t]*steps[ \t]*=", re.MULTILINE)
_STEP: Final = re.compile(r"#[^\n]*|(?P<step>\{)")
_TOML_LINE: Final = re.compile(r"\(at line (\d+), column \d+\)")
_KEYS: Final = {"item", "name", "region", "unit", "size", "round_up", "steps", "operations", "times", "date", "source"}


class PriceError(ValueError):
    """A price file is wrong, or has no price for what was asked. The message begins with file:line."""


class Item(StrEnum):
    """What can be metered. Storage is byte-months, memory is byte-seconds."""

    EGRESS = "egress"
    STORAGE = "storage"
    OPERATIONS = "operations"
    REQUESTS = "requests"
    HOURS = "hours"
    CPU = "vcpu-seconds"
    MEMORY = "memory-byte-seconds"
    MONTH = "month"


@dataclass(frozen=True, slots=True)
class Step:
    """The price of one unit from `begin` units to `end` (infinity for the last step)."""

    begin: float
    end: float
    price: float


@dataclass(frozen=True, slots=True)
class Price:
    """One line of a price list. `place` is its file:line."""

    place: str
    item: Item
    name: str
    region: str
    unit: str
    size: float
    round_up: bool
    steps: tuple[Step, ...]
    operations: frozenset[str]
    times: int
    date: date
    source: str

    def units(self, quantity: float) -> float:
        """Give what is billed for a quantity, in units."""
        units = quantity * self.times / self.size
        return float(math.ceil(units)) if self.round_up else units

    def cost(self, quantity: float) -> float:
        """Price a quantity, step by step."""
        units = self.units(quantity)
        return sum(max(0.0, min(units, step.end) - step.begin) * step.price for step in self.steps)


@dataclass(frozen=True, slots=True)
class PriceList:
    """All prices of one service. Of lines that differ in their date only, the newest that was known on the day counts."""

    service: str
    path: Path
    prices: tuple[Price, ...]

    @property
    def regions(self) -> list[str]:
        """Name the regions that have prices."""
        return sorted({price.region for price in self.prices})

    def on(self, day: date, region: str, place: str) -> tuple[Price, ...]:
        """Give the lines of a region as they were known on a day; `place` is who asks for that region.

        Raises:
            PriceError: there is no such region, or a line has no price as old as that.

        """
        here = [price for price in self.prices if price.region == region]
        if not here:
            known = ", ".join(self.regions)
            raise PriceError(
                f"{place}: {self.service} has no prices for region {region!r}; {self.path.name} has {known}"
            )
        newest: dict[tuple[Item, str], Price] = {}
        for price in sorted(here, key=lambda one: one.date):
            if price.date <= day:
                newest[price.item, price.name] = price
        for price in here:
            if (price.item, price.name) not in newest:
                raise PriceError(
                    f"{price.place}: {self.service} {price.name}: known since {price.date} only, so not on {day}; "
                    "add an older line, or ask --as-of a later day"
                )
        return tuple(newest.values())


def warnings(prices: Sequence[Price], day: date) -> list[str]:
    """Say which prices are older than a year on that day."""
    return [
        f"{price.place}: the price of {price.name} is of {price.date}, more than a year before {day}; check {price.source}"
        for price in prices
        if day - price.date > OLD
    ]


def load(service: str, folder: Path = FOLDER) -> PriceList:
    """Read the price list of a service.

    Raises:
        PriceError: there is none, or it is wrong.

    """
    path = folder / f"{service}.toml"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        known = ", ".join(sorted(file.stem for file in folder.glob("*.toml")))
        raise PriceError(f"{path}: {error.strerror}; there are prices of {known}") from None
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PriceError(syntax(path, error)) from None
    lines = _Lines(path, text)
    tables = document.get("price")
    if not isinstance(tables, list) or not tables or set(document) != {"price"}:
        raise PriceError(f"{path}:1: a price file holds [[price]] tables and nothing else")
    prices = tuple(_price(table, number, lines) for number, table in enumerate(tables))
    _check_once(prices)
    return PriceList(service, path, prices)


def syntax(path: Path, error: tomllib.TOMLDecodeError) -> str:
    """Tell an error of TOML as other errors are told: file:line first."""
    found = _TOML_LINE.search(str(error))
    return f"{path}:{found[1] if found is not None else 1}: {_TOML_LINE.sub('', str(error)).strip()}"


class _Lines:
    """Finds the line of the n-th price, and of the n-th of its steps, as the TOML parser does not tell."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._text = text
        self._starts = [match.start() for match in _HEADER.finditer(text)]

    def price(self, number: int) -> str:
        return self._place(self._start(number))

    def step(self, number: int, step: int) -> str:
        begin, end = self._start(number), self._start(number + 1)
        steps = _STEPS.search(self._text, begin, end)
        braces = _STEP.finditer(self._text, steps.end(), end) if steps is not None else ()
        found = [match.start() for match in braces if match["step"]]
        return self._place(found[step] if step < len(found) else begin)

    def _start(self, number: int) -> int:
        """Give where a price begins; the end of the file after the last."""
        return self._starts[number] if number < len(self._starts) else len(self._text)

    def _place(self, offset: int) -> str:
        line = self._text.count("\n", 0, offset) + 1
        return f"{self._path}:{line}"


def _price(table: Mapping[str, Any], number: int, lines: _Lines) -> Price:
    place = lines.price(number)
    unknown = sorted(set(table) - _KEYS)
    if unknown:
        raise PriceError(f"{place}: {unknown[0]!r} is no key of a price; keys are {', '.join(sorted(_KEYS))}")
    try:
        item = Item(_field(table, "item", str, place))
    except ValueError:
        raise PriceError(f"{place}: item {table['item']!r} is not one of {', '.join(Item)}") from None
    operations = table.get("operations", [])
    if not isinstance(operations, list) or not all(isinstance(name, str) for name in operations):
        raise PriceError(f"{place}: operations must be a list of names")
    if (item is Item.OPERATIONS) != bool(operations):
        raise PriceError(f"{place}: `operations` belongs to item 'operations', and only there")
    size = _number(table.get("size"), "size", place)
    if size <= 0:
        raise PriceError(f"{place}: size must be more than 0")
    times, round_up = table.get("times", 1), table.get("round_up", False)
    if type(times) is not int or times < 1 or not isinstance(round_up, bool):
        raise PriceError(f"{place}: times must be a whole number of 1 or more, and round_up true or false")
    return Price(
        place=place,
        item=item,
        name=_field(table, "name", str, place),
        region=_field(table, "region", str, place),
        unit=_field(table, "unit", str, place),
        size=size,
        round_up=round_up,
        steps=_steps(_field(table, "steps", list, place), number, lines),
        operations=frozenset(operations),
        times=times,
        date=_field(table, "date", date, place),
        source=_field(table, "source", str, place),
    )


def _field(table: Mapping[str, Any], key: str, kind: type[Any], place: str) -> Any:
    value = table.get(key)
    # A date with a time is a date too, but cannot be compared with one.
    if not isinstance(value, kind) or not value or isinstance(value, datetime):
        raise PriceError(f"{place}: {key!r} is missing or of the wrong kind")
    return value


def _number(value: Any, key: str, place: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise PriceError(f"{place}: {key} must be a number of 0 or more")
    return float(value)


def _steps(tables: list[Any], number: int, lines: _Lines) -> tuple[Step, ...]:
    steps: list[Step] = []
    reached = 0.0
    for index, table in enumerate(tables):
        place = lines.step(number, index)
        if not isinstance(table, dict) or not set(table) <= {"from", "to", "price"}:
            raise PriceError(f"{place}: a step is {{ from = 0, to = 10, price = 0.09 }}")
        begin = _number(table.get("from"), "from", place)
        end = _number(table["to"], "to", place) if "to" in table else math.inf
        if begin < reached:
            raise PriceError(f"{place}: the step from {begin:g} overlaps the one before, which ends at {reached:g}")
        if begin > reached:
            raise PriceError(f"{place}: between {reached:g} and {begin:g} there is no price")
        if end <= begin:
            raise PriceError(f"{place}: the step ends at {end:g}, where it begins or before")
        steps.append(Step(begin, end, _number(table.get("price"), "price", place)))
        reached = end
    if reached != math.inf:
        raise PriceError(f"{lines.price(number)}: above {reached:g} there is no price; the last step has no `to`")
    return tuple(steps)


def _check_once(prices: Sequence[Price]) -> None:
    seen: dict[tuple[str, Item, str, date], Price] = {}
    billed: dict[tuple[str, str, date], Price] = {}
    for price in prices:
        key = (price.region, price.item, price.name, price.date)
        if key in seen:
            raise PriceError(f"{price.place}: the same line is at {seen[key].place}")
        seen[key] = price
        for operation in price.operations:
            other = billed.setdefault((price.region, operation, price.date), price)
            if other is not price:
                raise PriceError(f"{price.place}: {operation} is billed at {other.place} already")
