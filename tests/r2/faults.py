"""What goes wrong on purpose: which call, how often, and how."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from random import Random
from typing import Any, Literal

Effect = Literal["error", "latency", "cut-before", "cut-after", "cut-body"]


@dataclass
class Fault:
    """One kind of trouble.

    `operation` and `key` are globs. Of the calls that match, the first `skip` go well, then `times` (None: all) are hit, each with
    `probability`. `error` answers `status` and `code`; `latency` waits `seconds` first; `cut-before` drops the connection with nothing
    done, `cut-after` when the write has taken effect; `cut-body` in the middle of the body of a GET.
    """

    effect: Effect
    operation: str = "*"
    key: str = "*"
    skip: int = 0
    times: int | None = 1
    probability: float = 1.0
    status: int = 500
    code: str = "InternalError"
    seconds: float = 0.0
    seen: int = field(default=0, init=False)
    hit: int = field(default=0, init=False)
    struck: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    """Set at the first hit."""


class Faults:
    """The plan. `random` decides where a probability is asked for, so that a seed repeats a run."""

    def __init__(self, seed: int = 0) -> None:
        self.random = Random(seed)
        self.plan: list[Fault] = []

    def add(self, effect: Effect, **how: Any) -> Fault:
        """Plan a fault; the fields of `Fault` by name."""
        fault = Fault(effect, **how)
        self.plan.append(fault)
        return fault

    def clear(self) -> None:
        """Forget the plan."""
        self.plan.clear()

    def strike(self, operation: str, key: str) -> list[Fault]:
        """Give the faults that hit this call."""
        return [fault for fault in self.plan if self._hits(fault, operation, key)]

    def _hits(self, fault: Fault, operation: str, key: str) -> bool:
        if not (fnmatchcase(operation, fault.operation) and fnmatchcase(key, fault.key)):
            return False
        fault.seen += 1
        if fault.seen <= fault.skip or (fault.times is not None and fault.hit >= fault.times):
            return False
        if fault.probability < 1.0 and self.random.random() >= fault.probability:
            return False
        fault.hit += 1
        fault.struck.set()
        return True
