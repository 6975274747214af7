"""Where the workers of one registry leave their numbers, so that whichever of them is asked for /metrics answers for all.

One anonymous piece of memory for each worker, mapped before they are forked: no file, no socket, nothing to clean up, and what a worker
counted outlives it. Each writes its own place and reads all of them.
"""

from __future__ import annotations

import asyncio
import mmap
import struct
import time
import zlib
from collections.abc import Callable
from typing import Any, Final

import orjson

from edgeproxy.exposition import lasting, merged
from edgeproxy.metrics import Samples, Source

PLACE_BYTES: Final = 1024 * 1024
"""Room for two pages of numbers. What is not written to takes no memory."""
PUBLISH_SECONDS: Final = 1.0
GONE_SECONDS: Final = 10.0
"""A worker that has not written for so long is gone; what it counted still counts, what state it was in does not."""

_HALF: Final = (PLACE_BYTES - 8) // 2
_HEAD: Final = struct.Struct("<II")
_SWITCH: Final = struct.Struct("<Q")


class Board:
    """The places of so many workers."""

    def __init__(self, workers: int) -> None:
        self._places = [mmap.mmap(-1, PLACE_BYTES) for _ in range(workers)]

    def write(self, place: int, content: bytes) -> None:
        """Replace what stands in a place. Two halves take turns, so that who reads the one is not disturbed.

        Raises:
            ValueError: there is more than a half holds.

        """
        if len(content) > _HALF - _HEAD.size:
            raise ValueError(f"{len(content)} bytes of numbers are more than a worker's place holds")
        memory = self._places[place]
        turn = _SWITCH.unpack_from(memory, 0)[0] + 1
        start = 8 + (turn % 2) * _HALF
        memory[start + _HEAD.size : start + _HEAD.size + len(content)] = content
        _HEAD.pack_into(memory, start, len(content), zlib.crc32(content))
        _SWITCH.pack_into(memory, 0, turn)

    def read(self, place: int) -> bytes:
        """Read what stands in a place; b"" if nothing does, or if it was written again under our eyes each time."""
        memory = self._places[place]
        for _ in range(3):
            turn = _SWITCH.unpack_from(memory, 0)[0]
            start = 8 + (turn % 2) * _HALF
            length, checksum = _HEAD.unpack_from(memory, start)
            content = memory[start + _HEAD.size : start + _HEAD.size + min(length, _HALF)]
            if turn and zlib.crc32(content) == checksum:
                return content
        return b""

    def __len__(self) -> int:
        return len(self._places)


class Shared:
    """The numbers of one worker together with those of its siblings. `clock` is one that all processes of the machine share."""

    def __init__(self, own: Source, board: Board, place: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._own = own
        self._board = board
        self._place = place
        self._clock = clock
        # Whoever had this place before has died; sums must not fall because of that.
        self._before = lasting(_decoded(board.read(place))[1])

    def publish(self) -> Samples:
        """Write this worker's numbers where its siblings read them."""
        own = merged([self._own(), self._before])
        self._board.write(self._place, _encoded(self._clock(), own))
        return own

    async def publish_forever(self) -> None:
        """Publish every second; what a worker that is killed counted since is lost."""
        while True:
            await asyncio.sleep(PUBLISH_SECONDS)
            self.publish()

    def __call__(self) -> Samples:
        """Give the numbers of all workers. Our own are published first: no sibling asked later may show less."""
        pages, now = [self.publish()], self._clock()
        for place in range(len(self._board)):
            if place == self._place:
                continue
            written, page = _decoded(self._board.read(place))
            pages.append(page if now - written < GONE_SECONDS else lasting(page))
        return merged(pages)


def _encoded(now: float, samples: Samples) -> bytes:
    return orjson.dumps([now, [[name, labels, value] for (name, labels), value in samples.items()]])


def _decoded(content: bytes) -> tuple[float, Samples]:
    if not content:
        return float("-inf"), {}
    written: float
    rows: list[Any]
    written, rows = orjson.loads(content)
    return written, {(name, tuple((key, text) for key, text in labels)): value for name, labels, value in rows}
