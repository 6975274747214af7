"""What a process remembers of the bucket, and for how long.

A positive answer lives 60 s; nothing negative is remembered. While the store fails, a positive answer serves ten minutes past its life:
pulls go on through an outage. What one replica deletes, its siblings may still serve for 60 s; the deleting one forgets at once, also
answers that were on their way while it deleted (`Memory.epoch`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from edgeproxy.bounded import Bounded

FRESH_SECONDS: Final = 60.0
STALE_SECONDS: Final = 600.0
PATIENCE_SECONDS: Final = 2.0
"""How long a store that may be failing is waited for where a stale answer is at hand."""

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Remembered(Generic[Value]):
    """A positive answer of the store."""

    value: Value
    fresh_until: float

    def is_fresh(self, now: float) -> bool:
        """Say whether it may be served without asking."""
        return now < self.fresh_until

    def is_servable(self, now: float) -> bool:
        """Say whether it may be served while the store fails."""
        return now < self.fresh_until + STALE_SECONDS


class Memory(Generic[Key, Value]):
    """A map of positive answers, bounded in bytes, the least recently used forgotten first."""

    def __init__(self, limit: int, weigh: Callable[[Key, Value], int]) -> None:
        """Keep the most bytes of all answers, and what estimates those of one."""
        self._entries: Bounded[Key, Remembered[Value]] = Bounded(limit, lambda key, found: weigh(key, found.value))
        self.hits = 0
        self.misses = 0
        self.epoch = 0
        """Counts what was forgotten on purpose. An answer asked for in an earlier epoch is not remembered."""

    @property
    def weight(self) -> int:
        """Bytes of all answers, by estimate."""
        return self._entries.weight

    def get(self, key: Key, now: float) -> Remembered[Value] | None:
        """Look up an answer, fresh or not; only a fresh one counts as a hit."""
        found = self._entries.get(key)
        if found is None:
            self.misses += 1
            return None
        self._entries.used(key)
        if now < found.fresh_until:
            self.hits += 1
        else:
            self.misses += 1
        return found

    def fresh(self, key: Key, now: float) -> Value | None:
        """Give a fresh answer or nothing, for who then asks again with `get`: only a hit counts."""
        found = self._entries.get(key)
        if found is None or now >= found.fresh_until:
            return None
        self._entries.used(key)
        self.hits += 1
        return found.value

    def peek(self, key: Key) -> Remembered[Value] | None:
        """Look at an answer without using it: it counts as neither hit nor miss."""
        return self._entries.get(key)

    def put(self, key: Key, value: Value, fresh_until: float, epoch: int) -> None:
        """Remember an answer that was asked for in `epoch`, unless something was forgotten since."""
        if epoch == self.epoch:
            self._entries.put(key, Remembered(value, fresh_until))

    def forget(self, key: Key) -> None:
        """Forget an answer, and whatever is on its way."""
        self.epoch += 1
        self._entries.drop(key)

    def clear(self) -> None:
        """Forget everything, and whatever is on its way."""
        self.epoch += 1
        self._entries.clear()

    def __len__(self) -> int:
        return len(self._entries)


class Conflated(Generic[Key, Value]):
    """Calls of one function by key, of which at most one runs and one waits, whatever the number of callers.

    A caller never gets the result of a call that began before it asked, so nothing stale is served. `hits` counts those who shared a run.
    """

    def __init__(self, call: Callable[[Key], Awaitable[Value]]) -> None:
        self._call = call
        self._running: dict[Key, asyncio.Task[Value]] = {}
        self._waiting: dict[Key, asyncio.Task[Value]] = {}
        self.hits = 0
        self.misses = 0

    async def __call__(self, key: Key) -> Value:
        """Run the function for this key, or share a run that has not begun yet."""
        # Shielded: a caller that goes away must not take the answer from those who share it.
        return await asyncio.shield(self._task(key))

    def _task(self, key: Key) -> asyncio.Task[Value]:
        waiting = self._waiting.get(key)
        if waiting is not None:
            self.hits += 1
            return waiting
        self.misses += 1
        running = self._running.get(key)
        if running is None:
            task = self._running[key] = asyncio.ensure_future(self._run(key))
        else:
            task = self._waiting[key] = asyncio.ensure_future(self._after(key, running))
        task.add_done_callback(_retrieve)
        return task

    async def _after(self, key: Key, previous: asyncio.Task[Value]) -> Value:
        await asyncio.wait([previous])
        self._running[key] = self._waiting.pop(key)
        return await self._run(key)

    async def _run(self, key: Key) -> Value:
        try:
            return await self._call(key)
        finally:
            # `_after` puts the next run in this place itself, and only once this one is done.
            if self._running.get(key) is asyncio.current_task():
                del self._running[key]


def _retrieve(task: asyncio.Task[Value]) -> None:
    """Take note of an exception that every caller may have gone away from."""
    if not task.cancelled():
        task.exception()
