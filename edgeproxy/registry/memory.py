"""One budget for the bytes of all uploads in flight, granted in whole parts, first come first served.

A grant is taken *before* bytes are read: without one the server does not read from the socket, so the sender waits in its own kernel.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

from edgeproxy.storage import MAX_PARTS, MIN_PART_BYTES

PART_BYTES: Final = 8 * 1024 * 1024
_MIB: Final = 1024 * 1024


class Budget:
    """Bytes that uploads may hold in memory at one time."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.used = 0
        self.uploads = 0
        """Streams that are being received at the moment."""
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def waiting(self) -> int:
        """Say how many wait for a grant."""
        return len(self._waiting)

    def part_size(self, length: int | None) -> int:
        """Choose the part size of an upload: 8 MiB, 5 MiB under pressure, more where 10,000 parts would not do."""
        pressed = bool(self._waiting) or self.used * 2 > self.total
        size = MIN_PART_BYTES if pressed and length is not None else PART_BYTES
        if length is not None:
            needed = -(-length // MAX_PARTS)
            size = max(size, -(-needed // _MIB) * _MIB)
        return size

    async def take(self, size: int) -> None:
        """Wait for a grant of `size` bytes; more than there is in all is granted when nothing else is out."""
        if not self._waiting and self._fits(size):
            self.used += size
            return
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (size, granted)
        self._waiting.append(entry)
        try:
            await granted
        except asyncio.CancelledError:
            if entry in self._waiting:
                self._waiting.remove(entry)
                self._grant()
            elif not granted.cancelled():
                self.give_back(size)
            raise

    def give_back(self, size: int) -> None:
        """Return a grant; those who wait get theirs in the order in which they came."""
        self.used -= size
        self._grant()

    @contextmanager
    def upload(self) -> Iterator[None]:
        """Count a stream for the duration of a block."""
        self.uploads += 1
        try:
            yield
        finally:
            self.uploads -= 1

    @asynccontextmanager
    async def grant(self, size: int) -> AsyncIterator[None]:
        """Hold a grant for the duration of a block."""
        await self.take(size)
        try:
            yield
        finally:
            self.give_back(size)

    def _fits(self, size: int) -> bool:
        return self.used + size <= self.total or self.used == 0

    def _grant(self) -> None:
        while self._waiting and self._fits(self._waiting[0][0]):
            size, granted = self._waiting.popleft()
            # One that was cancelled a moment ago may not have left the line yet.
            if not granted.done():
                self.used += size
                granted.set_result(None)
