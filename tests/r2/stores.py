"""An `S3Store` on the double whose waits are written down instead of waited for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from edgeproxy.counters import RETRY, Counters
from edgeproxy.storage.s3 import S3Store, open_s3
from tests.r2.app import Double
from tests.r2.running import RunningDouble, running_double


@dataclass
class Watched:
    """A store on a double, with the waits it asked for and the attempts it made."""

    store: S3Store
    running: RunningDouble
    waits: list[float] = field(default_factory=list)
    attempts: list[tuple[str, str]] = field(default_factory=list)
    counters: Counters = field(default_factory=Counters)

    @property
    def double(self) -> Double:
        return self.running.double

    def outcomes(self, operation: str) -> list[str]:
        """Give how the attempts of one operation ended."""
        return [outcome for name, outcome in self.attempts if name == operation]


@asynccontextmanager
async def watched(running: RunningDouble, **options: Any) -> AsyncIterator[Watched]:
    """Open a store on a double that runs."""
    waits: list[float] = []
    attempts: list[tuple[str, str]] = []
    counters = Counters()

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    def on_call(operation: str, seconds: float, outcome: str) -> None:
        assert seconds >= 0
        counters.store_call(operation, seconds, outcome)
        if outcome != RETRY:
            attempts.append((operation, outcome))

    defaults = {"region": "auto", "endpoint": running.endpoint, "prefix": "pre", "sleep": sleep, "on_call": on_call}
    if "session" not in options and "credentials" not in options:
        defaults["credentials"] = running.credentials
    async with open_s3(running.double.name, **(defaults | options)) as store:
        yield Watched(store, running, waits, attempts, counters)


@asynccontextmanager
async def watched_double(**options: Any) -> AsyncIterator[Watched]:
    """Run a double that takes any number of writes, and open a store on it."""
    async with running_double(write_interval=None) as running, watched(running, **options) as found:
        yield found
