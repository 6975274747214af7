"""From a stream of bytes to one object, hashed on the way, in bounded memory.

Up to one part: one write. More: equal parts (R2's rule), a few in flight while the next one is read and the last ones are hashed in a
thread; the object becomes visible only by the completion, which follows the verification of the hash.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from mmap import mmap
from typing import Final

from edgeproxy.oci.errors import BlobTooLarge
from edgeproxy.oci.names import Digest, Hash
from edgeproxy.registry.memory import Budget
from edgeproxy.storage import MAX_PARTS, IfAbsent, Multipart, PreconditionFailed, Store

PARTS_IN_FLIGHT: Final = 3
_INLINE_HASH_BYTES: Final = 64 * 1024
_MAPPED_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Body:
    """The bytes of a request: pieces as they arrive, and their announced number, if it was announced."""

    chunks: AsyncIterator[bytes]
    length: int | None


@dataclass(frozen=True, slots=True)
class Received:
    """What arrived."""

    size: int
    digest: Digest


Verify = Callable[[Received], None]
"""Raises if what arrived must not become visible."""


class Receiver:
    """Writes streams to objects under one budget of memory."""

    def __init__(self, store: Store, budget: Budget, max_bytes: int | None = None) -> None:
        self._store = store
        self._budget = budget
        self._max_bytes = max_bytes

    async def receive(
        self,
        key: str,
        body: Body,
        algorithm: str,
        verify: Verify,
        condition: IfAbsent | None = None,
        *,
        before: int = 0,
    ) -> Received:
        """Write a stream to `key`. Nothing is visible there unless `verify` passed.

        `condition` guards a key that is named after its content: losing to another writer of the same, verified bytes is success.
        `before` is how much of the blob has arrived earlier.

        Raises:
            BlobTooLarge: more bytes than a blob may have.
            StoreUnavailable, Corrupt: the store failed; nothing is visible.

        """
        self.check_length(body, before=before)
        with self._budget.upload():
            return await self._receive(key, body, algorithm, verify, condition, before)

    async def _receive(
        self, key: str, body: Body, algorithm: str, verify: Verify, condition: IfAbsent | None, before: int
    ) -> Received:
        part_size = self._budget.part_size(body.length)
        pieces = _Pieces(body.chunks, lambda size: self._check_size(before + size))
        hashing = _Hashing(algorithm)
        first = part_size if body.length is None else min(part_size, body.length)
        fits = body.length is not None and body.length <= part_size
        await self._budget.take(first)
        held = True
        try:
            part = await pieces.fill(first)
            if fits or pieces.ended:
                await hashing.update(part)
                received = hashing.received()
                verify(received)
                await self._put(key, part, received, condition)
                return received
            shipment = _Shipment(await self._store.begin(key, part_size), self._budget, hashing)
            held = False  # the shipment gives it back
            shipment.start(part, first)
            # What is shipped is held by its task alone: a name that lives on here would keep it past its grant.
            del part
            return await shipment.send_rest(pieces, part_size, verify, condition)
        finally:
            if held:
                self._budget.give_back(first)

    async def discard(self, body: Body, algorithm: str) -> Received:
        """Hash a stream and drop it: the sender proves that it has the bytes of what is stored already."""
        self._check_size(body.length or 0)
        pieces = _Pieces(body.chunks, self._check_size)
        hashing = _Hashing(algorithm)
        with self._budget.upload():
            async with self._budget.grant(_DISCARD_BYTES):
                while not pieces.ended:
                    await hashing.update(await pieces.fill(_DISCARD_BYTES))
        return hashing.received()

    async def _put(self, key: str, part: memoryview, received: Received, condition: IfAbsent | None) -> None:
        sha256 = bytes.fromhex(received.digest.hex) if received.digest.algorithm == "sha256" else None
        try:
            await self._store.put(key, part, sha256=sha256, condition=condition)
        except PreconditionFailed:
            # Another pusher was first; the key is named after the bytes, and ours are verified.
            pass

    def check_length(self, body: Body, *, before: int = 0) -> None:
        """Refuse a body whose announced length alone is too much, `before` being how much of the blob has arrived earlier.

        Raises:
            BlobTooLarge: it would be larger than a blob may be.

        """
        self._check_size(before + (body.length or 0))

    def _check_size(self, size: int) -> None:
        if self._max_bytes is not None and size > self._max_bytes:
            raise BlobTooLarge(f"the blob is larger than this registry accepts ({self._max_bytes} bytes)")


_DISCARD_BYTES: Final = 1024 * 1024


class _Shipment:
    """One multipart upload in progress."""

    def __init__(self, upload: Multipart, budget: Budget, hashing: _Hashing) -> None:
        self._upload = upload
        self._budget = budget
        self._hashing = hashing
        self._flying: set[asyncio.Task[None]] = set()
        self._number = 0

    async def send_rest(self, pieces: _Pieces, part_size: int, verify: Verify, condition: IfAbsent | None) -> Received:
        """Send all that follows the first part; then verify and complete."""
        try:
            while not pieces.ended:
                await self._wait(PARTS_IN_FLIGHT - 1)
                await self._send_next(pieces, part_size)
            await self._wait(0)
            received = self._hashing.received()
            verify(received)
            try:
                await self._upload.complete(condition)
            except PreconditionFailed:
                pass  # Another pusher of the same, verified bytes was first.
        except BaseException:
            await self._give_up()
            raise
        return received

    def start(self, part: memoryview, granted: int) -> None:
        """Ship one part, for which `granted` bytes were taken; in order, so that the hash takes the parts in order."""
        self._number += 1
        hashed = self._hashing.start(part)
        task = asyncio.create_task(self._ship(self._number, part, hashed))
        # Not in the task itself: one that is cancelled before its first step never comes to a `finally`. A thread that still hashes
        # keeps the bytes; it ends within milliseconds.
        task.add_done_callback(lambda _: self._budget.give_back(granted))
        self._flying.add(task)

    async def _send_next(self, pieces: _Pieces, part_size: int) -> None:
        await self._budget.take(part_size)
        try:
            part = await pieces.fill(part_size)
            self._check_number(part, part_size)
        except BaseException:
            self._budget.give_back(part_size)
            raise
        if part:
            self.start(part, part_size)
        else:
            self._budget.give_back(part_size)

    def _check_number(self, part: memoryview, part_size: int) -> None:
        if self._number == MAX_PARTS and part:
            raise BlobTooLarge(
                f"a blob of unannounced length has at most {MAX_PARTS * part_size} bytes; send a Content-Length"
            )

    async def _ship(self, number: int, part: memoryview, hashed: asyncio.Task[None]) -> None:
        await self._upload.write(number, part)
        await hashed

    async def _wait(self, at_most: int) -> None:
        while len(self._flying) > at_most:
            done, self._flying = await asyncio.wait(self._flying, return_when=asyncio.FIRST_COMPLETED)
            failures = [error for task in done if (error := task.exception()) is not None]
            if failures:
                raise failures[0]

    async def _give_up(self) -> None:
        for task in self._flying:
            task.cancel()
        if self._flying:
            await asyncio.wait(self._flying)
            for task in self._flying:
                if not task.cancelled():
                    task.exception()
        # Shielded: a cancelled request must not leave parts behind that somebody pays for.
        await asyncio.shield(asyncio.ensure_future(self._upload.abort()))


class _Pieces:
    """Cuts a stream into parts."""

    def __init__(self, chunks: AsyncIterator[bytes], check_size: Callable[[int], None]) -> None:
        self._chunks = aiter(chunks)
        self._rest = memoryview(b"")
        self._check_size = check_size
        self._total = 0
        self.ended = False

    async def fill(self, size: int) -> memoryview:
        """Read up to `size` bytes; fewer only at the end of the stream."""
        part = memoryview(_buffer(size))
        filled = 0
        while filled < size:
            if not self._rest:
                try:
                    self._rest = memoryview(await anext(self._chunks))
                except StopAsyncIteration:
                    self.ended = True
                    break
                self._total += len(self._rest)
                self._check_size(self._total)
            taken = min(len(self._rest), size - filled)
            part[filled : filled + taken] = self._rest[:taken]
            self._rest = self._rest[taken:]
            filled += taken
        return part[:filled]


def _buffer(size: int) -> bytearray | mmap:
    """Allocate a part. Large ones are mapped, so that their memory goes back to the system with them: the heap would keep it in pieces."""
    return bytearray(size) if size < _MAPPED_BYTES else mmap(-1, size)


class _Hashing:
    """A hash that takes parts in order, large ones in a thread."""

    def __init__(self, algorithm: str) -> None:
        self._algorithm = algorithm
        self._hash: Hash = hashlib.new(algorithm)
        self._size = 0
        self._last: asyncio.Task[None] | None = None

    async def update(self, part: memoryview) -> None:
        """Take in a part and wait for it."""
        self._size += len(part)
        if len(part) <= _INLINE_HASH_BYTES:
            self._hash.update(part)
        else:
            await asyncio.to_thread(self._hash.update, part)

    def start(self, part: memoryview) -> asyncio.Task[None]:
        """Take in a part after all that were started before."""
        self._size += len(part)
        self._last = asyncio.create_task(self._after(self._last, part))
        return self._last

    def received(self) -> Received:
        """Say what was taken in."""
        return Received(self._size, Digest(self._algorithm, self._hash.hexdigest()))

    async def _after(self, previous: asyncio.Task[None] | None, part: memoryview) -> None:
        if previous is not None:
            await asyncio.wait([previous])
        await asyncio.to_thread(self._hash.update, part)
