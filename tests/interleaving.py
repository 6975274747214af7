"""A store that stops where a test wants it to: every call is passed on to a real store, and chosen ones wait before or after."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal

from edgeproxy.storage import OCTETS, Condition, IfAbsent, Multipart, ObjectInfo, Store, StoreError, StoreUnavailable


@dataclass
class Stop:
    """A place at which calls of one operation wait, `after` they took effect or before. The first `skip` pass, then `times` are held."""

    operation: str
    key: str
    after: bool = False
    skip: int = 0
    times: int = 1
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    going: asyncio.Event = field(default_factory=asyncio.Event)

    def go(self) -> None:
        """Let those who wait go on."""
        self.going.set()

    async def meet(self, operation: str, key: str, *, after: bool) -> None:
        if self.operation != operation or self.after != after or not fnmatchcase(key, self.key):
            return
        if self.skip:
            self.skip -= 1
        elif self.times:
            self.times -= 1
            self.reached.set()
            await self.going.wait()


class Interleaved:
    """A `Store` over another one. `failing` is a glob of keys for which it is out of order; `calls` lists what was asked."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._stops: list[Stop] = []
        self.failing = ""
        self.calls: list[tuple[str, str]] = []

    def stop(
        self, operation: str, key: str, *, when: Literal["before", "after"] = "before", skip: int = 0, times: int = 1
    ) -> Stop:
        """Hold the next calls of an operation on keys that match a glob."""
        stop = Stop(operation, key, when == "after", skip, times)
        self._stops.append(stop)
        return stop

    @asynccontextmanager
    async def _passing(self, operation: str, key: str) -> AsyncIterator[None]:
        self.calls.append((operation, key))
        for stop in self._stops:
            await stop.meet(operation, key, after=False)
        if self.failing and fnmatchcase(key, self.failing):
            raise StoreUnavailable(f"{operation} {key}: out of order")
        try:
            yield
        except StoreError:
            await self._meet_after(operation, key)
            raise
        await self._meet_after(operation, key)

    async def _meet_after(self, operation: str, key: str) -> None:
        for stop in self._stops:
            await stop.meet(operation, key, after=True)

    async def head(self, key: str) -> ObjectInfo:
        async with self._passing("head", key):
            return await self._store.head(key)

    async def read(self, key: str, limit: int) -> tuple[ObjectInfo, bytes]:
        async with self._passing("read", key):
            return await self._store.read(key, limit)

    def stream(
        self, key: str, start: int = 0, length: int | None = None
    ) -> AbstractAsyncContextManager[tuple[ObjectInfo, AsyncIterator[bytes]]]:
        return self._stream(key, start, length)

    @asynccontextmanager
    async def _stream(
        self, key: str, start: int, length: int | None
    ) -> AsyncIterator[tuple[ObjectInfo, AsyncIterator[bytes]]]:
        async with self._passing("stream", key), self._store.stream(key, start, length) as opened:
            yield opened

    async def put(
        self,
        key: str,
        data: bytes | bytearray | memoryview,
        *,
        content_type: str = OCTETS,
        metadata: Mapping[str, str] | None = None,
        sha256: bytes | None = None,
        condition: Condition = None,
    ) -> ObjectInfo:
        async with self._passing("put", key):
            return await self._store.put(
                key, data, content_type=content_type, metadata=metadata, sha256=sha256, condition=condition
            )

    async def begin(self, key: str, part_size: int, *, content_type: str = OCTETS) -> Multipart:
        async with self._passing("begin", key):
            return _Parts(self, key, await self._store.begin(key, part_size, content_type=content_type))

    async def copy(self, source: str, target: str) -> None:
        async with self._passing("copy", target):
            await self._store.copy(source, target)

    async def delete(self, key: str) -> None:
        async with self._passing("delete", key):
            await self._store.delete(key)

    async def list(self, prefix: str, *, after: str = "", limit: int | None = None) -> AsyncIterator[ObjectInfo]:
        async with self._passing("list", prefix):
            found = [info async for info in self._store.list(prefix, after=after, limit=limit)]
        for info in found:
            yield info

    async def check(self) -> None:
        async with self._passing("check", ""):
            await self._store.check()

    async def lacking(self) -> tuple[str, ...]:
        async with self._passing("lacking", ""):
            return await self._store.lacking()

    async def close(self) -> None:
        await self._store.close()


class _Parts:
    def __init__(self, store: Interleaved, key: str, upload: Multipart) -> None:
        self._interleaved = store
        self._key = key
        self._upload = upload

    async def write(self, number: int, data: bytes | bytearray | memoryview) -> None:
        async with self._interleaved._passing("write", self._key):
            await self._upload.write(number, data)

    async def complete(self, condition: IfAbsent | None = None) -> ObjectInfo:
        async with self._interleaved._passing("complete", self._key):
            return await self._upload.complete(condition)

    async def abort(self) -> None:
        await self._upload.abort()
