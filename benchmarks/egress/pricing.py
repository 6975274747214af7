"""From what was used to what it costs: one bill for each place, line by line. Pure but for reading price files."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from benchmarks.egress import price_files
from benchmarks.egress.places import Instance, Place, Service
from benchmarks.egress.price_files import Item, Price, PriceError, PriceList
from benchmarks.egress.usage import MONTH_SECONDS, Usage

MONTH_HOURS: Final = 730
PEAK: Final = 4.0
"""How much busier the busiest hour is than the mean; instances are made for that."""
BUSY: Final = 0.5
"""The part of a core that an instance may be busy at the peak."""


class Category(StrEnum):
    """Where the money goes."""

    EGRESS = "egress"
    OPERATIONS = "operations"
    STORAGE = "storage"
    COMPUTE = "compute"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a bill. `quantity` is in the price's units, as billed."""

    category: Category
    service: str
    price: Price
    quantity: float
    cost: float


@dataclass(frozen=True, slots=True)
class Bill:
    """What a month of a usage costs at a place. `low` and `high` bound the total by the usage's error."""

    usage: Usage
    place: Place
    lines: tuple[Line, ...]
    low: float
    high: float

    @property
    def total(self) -> float:
        """The sum, in US dollars."""
        return sum(line.cost for line in self.lines)

    @property
    def by_category(self) -> dict[Category, float]:
        """The sum of each category."""
        sums = dict.fromkeys(Category, 0.0)
        for line in self.lines:
            sums[line.category] += line.cost
        return sums

    def as_json(self) -> dict[str, Any]:
        """Give it as plain values."""
        return {
            "usage": self.usage.name,
            "delivery": self.usage.delivery,
            "place": self.place.name,
            "total": round(self.total, 4),
            "low": round(self.low, 4),
            "high": round(self.high, 4),
            **{category.value: round(cost, 4) for category, cost in self.by_category.items()},
            "lines": [
                {
                    "category": line.category.value,
                    "service": line.service,
                    "name": line.price.name,
                    "quantity": line.quantity,
                    "unit": line.price.unit,
                    "cost": round(line.cost, 4),
                    "date": line.price.date.isoformat(),
                    "source": line.price.source,
                }
                for line in self.lines
            ],
        }


@dataclass(slots=True)
class Pricer:
    """Prices usages with the price files of a folder as they were known on a day; collects warnings about old prices."""

    day: date
    folder: Path = price_files.FOLDER
    warnings: list[str] = field(default_factory=list)
    _lists: dict[str, PriceList] = field(default_factory=dict)

    def bill(self, usage: Usage, place: Place, factor: float) -> Bill:
        """Make the bill of `factor` times a usage at a place.

        Raises:
            PriceError: a price file is wrong, or has no price for what was used.

        """
        lines = self._lines(usage, place, factor)
        low, high = (
            sum(line.cost for line in self._lines(usage, place, max(0.0, factor * (1 + sign * usage.error))))
            for sign in (-1, 1)
        )
        return Bill(usage, place, tuple(lines), low, high)

    def bills(self, usages: Sequence[Usage], places: Sequence[Place], factor: float) -> list[Bill]:
        """Make the bills of all usages at all places that make sense for their delivery."""
        return [
            self.bill(usage, place, factor) for usage in usages for place in places if usage.delivery in place.serves
        ]

    def _lines(self, usage: Usage, place: Place, factor: float) -> list[Line]:
        grown = _grown(usage, factor)
        lines = self._storage(grown, place) + self._operations(grown, place) + self._egress(grown, place)
        return lines + self._compute(grown, place)

    def _on(self, service: Service, place: Place) -> tuple[Price, ...]:
        if service.prices not in self._lists:
            self._lists[service.prices] = price_files.load(service.prices, self.folder)
        found = self._lists[service.prices].on(self.day, service.region, place.where)
        for warning in price_files.warnings(found, self.day):
            if warning not in self.warnings:
                self.warnings.append(warning)
        return found

    def _storage(self, usage: Usage, place: Place) -> list[Line]:
        return _billed(Category.STORAGE, place.store, self._on(place.store, place), {Item.STORAGE: usage.storage})

    def _operations(self, usage: Usage, place: Place) -> list[Line]:
        lines: list[Line] = []
        known: set[str] = set()
        for price in self._on(place.store, place):
            if price.item is Item.OPERATIONS:
                count = sum(usage.operations.get(name, 0) for name in price.operations)
                known |= price.operations
                lines.append(_line(Category.OPERATIONS, place.store, price, count))
        unknown = sorted(set(usage.operations) - known)
        if unknown:
            raise PriceError(f"{self._lists[place.store.prices].path}:1: no price for the operation {unknown[0]}")
        return lines

    def _egress(self, usage: Usage, place: Place) -> list[Line]:
        """Bytes that leave by the same price list share its free part and its steps."""
        bytes_by_service: dict[Service, float] = defaultdict(float)
        bytes_by_service[place.store_egress] += usage.store_egress
        bytes_by_service[place.compute_egress] += usage.registry_egress
        lines: list[Line] = []
        for service, quantity in bytes_by_service.items():
            metered = {Item.EGRESS: quantity}
            if service == place.store_egress and service != place.store:
                metered[Item.REQUESTS] = usage.store_client_requests
            found = _billed(Category.EGRESS, service, self._on(service, place), metered)
            if not any(line.price.item is Item.EGRESS for line in found):
                raise PriceError(
                    f"{self._lists[service.prices].path}:1: no price for bytes that leave {service.region}"
                )
            lines += found
        return lines

    def _compute(self, usage: Usage, place: Place) -> list[Line]:
        instances = instances_for(usage, place.instance)
        metered: dict[Item, float] = {Item.HOURS: MONTH_HOURS, Item.REQUESTS: usage.requests}
        match place.instance.billing:
            case "flat":
                metered[Item.MONTH] = instances
                seconds = 0.0
            case "hours":
                metered[Item.MONTH] = 1
                seconds = instances * MONTH_HOURS * 3600.0
            case "requests":
                seconds = min(usage.request_seconds, instances * MONTH_HOURS * 3600.0)
        metered[Item.CPU] = seconds * place.instance.vcpu
        metered[Item.MEMORY] = seconds * place.instance.memory_bytes
        return _billed(Category.COMPUTE, place.compute, self._on(place.compute, place), metered)


def instances_for(usage: Usage, instance: Instance) -> int:
    """Say how many instances a month of this usage needs at its peak."""
    return max(1, math.ceil(usage.cpu_seconds / MONTH_SECONDS * PEAK / BUSY / instance.vcpu))


def _grown(usage: Usage, factor: float) -> Usage:
    """Multiply what grows with time; what is stored does not."""
    return replace(
        usage,
        span=usage.span * factor,
        requests=round(usage.requests * factor),
        registry_egress=round(usage.registry_egress * factor),
        store_egress=round(usage.store_egress * factor),
        store_client_requests=round(usage.store_client_requests * factor),
        operations={name: round(count * factor) for name, count in usage.operations.items()},
        cpu_seconds=usage.cpu_seconds * factor,
        request_seconds=usage.request_seconds * factor,
    )


def _billed(category: Category, service: Service, found: Sequence[Price], metered: Mapping[Item, float]) -> list[Line]:
    return [_line(category, service, price, metered[price.item]) for price in found if price.item in metered]


def _line(category: Category, service: Service, price: Price, quantity: float) -> Line:
    return Line(category, service.prices, price, price.units(quantity), price.cost(quantity))
