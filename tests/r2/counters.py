"""What the double counts: operations by name and class, bytes by direction, refusals, requests in flight."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tests.r2.rules import CLASS_A, CLASS_B


@dataclass
class Counters:
    """Counts since the start, or since `reset`. `received` and `sent` are bytes of bodies; `refused` counts error codes."""

    operations: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    received: int = 0
    sent: int = 0
    trailers: int = 0
    """Bodies that came as aws-chunked or with a checksum trailer."""

    def billed(self) -> dict[str, int]:
        """Give the number of operations by R2's class: `A`, `B`, `free`."""
        classes = {"A": 0, "B": 0, "free": 0}
        for name, count in self.operations.items():
            classes["A" if name in CLASS_A else "B" if name in CLASS_B else "free"] += count
        return classes

    @property
    def total(self) -> int:
        """Number of operations of all kinds."""
        return sum(self.operations.values())

    def reset(self) -> None:
        """Begin again."""
        self.operations.clear()
        self.refused.clear()
        self.received = self.sent = self.trailers = 0

    def as_json(self) -> dict[str, Any]:
        """Give everything, for the control endpoint."""
        return {
            "operations": dict(self.operations),
            "refused": dict(self.refused),
            "classes": self.billed(),
            "received": self.received,
            "sent": self.sent,
            "trailers": self.trailers,
        }
