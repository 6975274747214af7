"""What a workload used: the quantities that are billed, and how sure they are. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

MAX_SLICES: Final = 480
MONTH_SECONDS: Final = 30 * 86_400

Delivery = Literal["redirect", "proxy"]


@dataclass(frozen=True, slots=True)
class Usage:
    """The quantities of one workload served in one way.

    Bytes out of the registry and out of the store go to clients; what the two say to each other stays inside one region.
    `request_seconds` is the time in which requests were served, each rounded up to 100 ms. `storage` is held at the end. `error` is the
    relative error (two standard errors) of taking the workload's span for a longer one.
    """

    name: str
    delivery: Delivery
    span: float
    requests: int
    registry_egress: int
    store_egress: int
    store_client_requests: int
    operations: Mapping[str, int]
    storage: int
    cpu_seconds: float
    request_seconds: float
    error: float

    @property
    def egress(self) -> int:
        """All bytes to clients."""
        return self.registry_egress + self.store_egress

    def as_json(self) -> dict[str, Any]:
        """Give it as plain values."""
        return asdict(self)


def usage_of(plain: Mapping[str, Any]) -> Usage:
    """Take back what `as_json` gave.

    Raises:
        KeyError, TypeError: it did not.

    """
    return Usage(**plain)


def scale(text: str, span: float) -> float:
    """Read a factor: `30x`, or `month`, which makes 30 days of the workload's span.

    Raises:
        ValueError: it is neither, or the span is too short to tell.

    """
    if text == "month":
        if span < 60:
            raise ValueError(
                f"the workload spans {span:.0f} s, too little to tell how many of it are a month: use --scale 30x or so"
            )
        return MONTH_SECONDS / span
    try:
        factor = float(text.removesuffix("x"))
    except ValueError:
        factor = math.nan
    if not text.endswith("x") or not math.isfinite(factor) or factor <= 0:
        raise ValueError(f"--scale {text!r} is neither like 30x nor month")
    return factor


@dataclass(slots=True)
class Slices:
    """A quantity over time, in at most `MAX_SLICES` slices of equal length, which grow as the workload turns out to be longer."""

    width: float = 60.0
    origin: float | None = None
    sums: dict[int, float] = field(default_factory=dict)
    first: float = math.inf
    last: float = -math.inf

    def add(self, time: float, amount: float) -> None:
        """Add an amount at a time."""
        self.first, self.last = min(self.first, time), max(self.last, time)
        if self.origin is None:
            self.origin = time
        index = math.floor((time - self.origin) / self.width)
        self.sums[index] = self.sums.get(index, 0.0) + amount
        while (self.last - self.first) / self.width > MAX_SLICES:
            self._coarsen()

    @property
    def span(self) -> float:
        """Seconds from first to last."""
        return max(0.0, self.last - self.first)

    def error(self) -> float:
        """Give the relative error of the sum: two standard errors, from the spread between slices; 1 where there are too few to tell."""
        if not self.sums:
            return 1.0
        begin, end = min(self.sums), max(self.sums)
        values = [self.sums.get(index, 0.0) for index in range(begin, end + 1)]
        count, total = len(values), sum(values)
        if count < 5 or total == 0:
            return 1.0
        mean = total / count
        deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (count - 1))
        return min(1.0, 2 * deviation * math.sqrt(count) / total)

    def _coarsen(self) -> None:
        self.width *= 2
        sums: dict[int, float] = {}
        for index, amount in self.sums.items():
            sums[index // 2] = sums.get(index // 2, 0.0) + amount
        self.sums = sums
