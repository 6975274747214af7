"""The contract of `Store` on a directory: the embedded default, and good enough to keep.

What a file holds is told in `trailer`, how it changes in `files`. Every call is one piece of synchronous work in a
thread of the store's own; nothing acknowledged is lost by a kill at any moment, which leaves at most temporary files.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import Final

from edgeproxy.storage import (
    MIN_PART_BYTES,
    OCTETS,
    Condition,
    Corrupt,
    ObjectInfo,
    StoreUnavailable,
    walk,
)
from edgeproxy.storage.files import Files, check_key
from edgeproxy.storage.filesystem_multipart import FilesystemMultipart
from edgeproxy.storage.object_file import describe, finish, write_all
from edgeproxy.storage.threads import Threads

PIECE_BYTES: Final = 1 << 20
"""Pieces of a stream, as large as the protocol allows: each costs a change of threads."""
_LIST_BATCH: Final = 1000


class FilesystemStore:
    """A `Store` in the directory `root`, which any number of processes may share. Made by `open`."""

    def __init__(self, files: Files, threads: Threads) -> None:
        self._files = files
        self._threads = threads

    @classmethod
    async def open(cls, root: Path, *, clock: Callable[[], float] = time.time) -> FilesystemStore:
        """Make the directory where there is none, and remove temporary files older than a day.

        `clock` tells seconds since the epoch.

        Raises:
            StoreUnavailable: the directory cannot be used; the message says why.

        """
        files = Files(root, clock)
        threads = Threads(files.root)
        try:
            await threads.run("open", files.prepare)
        except BaseException:
            await threads.close()
            raise
        return cls(files, threads)

    async def head(self, key: str) -> ObjectInfo:
        """See `Store.head`."""
        return await self._threads.run(f"head {key}", _head, self._files, key)

    async def read(self, key: str, limit: int) -> tuple[ObjectInfo, bytes]:
        """See `Store.read`."""
        return await self._threads.run(f"read {key}", _read, self._files, key, limit)

    @asynccontextmanager
    async def stream(
        self, key: str, start: int = 0, length: int | None = None
    ) -> AsyncIterator[tuple[ObjectInfo, AsyncIterator[bytes]]]:
        """See `Store.stream`. The object stays readable when its name is replaced or removed."""
        source = _Source(key, self._threads)
        try:
            info = await self._threads.run(f"stream {key}", source.open, self._files)
            end = info.size if length is None else min(info.size, start + length)
            yield info, source.pieces(start, end)
        finally:
            source.close()

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
        """See `Store.put`.

        Raises:
            ValueError: the metadata are too many, or the key is not one.

        """

        def work() -> ObjectInfo:
            if sha256 is not None and hashlib.sha256(data).digest() != sha256:
                raise Corrupt(f"the bytes of {key} do not have the SHA-256 that was announced")
            with self._files.temporary() as (path, descriptor):
                write_all(descriptor, data, 0)
                finish(descriptor, len(data), content_type, metadata or {})
                info = describe(descriptor, key)
                self._files.publish(path, key, condition)
                return info

        return await self._threads.run(f"put {key}", work)

    async def begin(self, key: str, part_size: int, *, content_type: str = OCTETS) -> FilesystemMultipart:
        """See `Store.begin`.

        Raises:
            ValueError: the parts are too small, or the key is not one.

        """
        if part_size < MIN_PART_BYTES:
            raise ValueError(f"parts of {part_size} bytes are too small, {MIN_PART_BYTES} is the least")
        upload = FilesystemMultipart(self._files, self._threads, check_key(key), part_size, content_type)
        await upload.create()
        return upload

    async def copy(self, source: str, target: str) -> None:
        """See `Store.copy`. Costs one link, whatever the size."""
        await self._threads.run(f"copy {source} to {target}", self._files.copy, source, target)

    async def delete(self, key: str) -> None:
        """See `Store.delete`."""
        await self._threads.run(f"delete {key}", self._files.delete, key)

    async def list(self, prefix: str, *, after: str = "", limit: int | None = None) -> AsyncIterator[ObjectInfo]:
        """See `Store.list`."""
        if "/" in prefix:
            check_key(prefix.rpartition("/")[0])
        page = walk.PAGE_NAMES if limit is None else min(max(limit, 1), walk.PAGE_NAMES)
        found = walk.objects(self._files.objects, prefix, after, page)
        rest = limit
        while rest is None or rest > 0:
            size = _LIST_BATCH if rest is None else min(rest, _LIST_BATCH)
            batch = await self._threads.run(f"list {prefix}", _take, found, size)
            for info in batch:
                yield info
            if len(batch) < size:
                return
            rest = None if rest is None else rest - size

    async def check(self) -> None:
        """See `Store.check`: makes and removes one temporary file."""
        await self._threads.run("check", _check, self._files)

    async def lacking(self) -> tuple[str, ...]:
        """See `Store.lacking`: whoever may make and remove a file may do everything."""
        await self.check()
        return ()

    async def close(self) -> None:
        """See `Store.close`."""
        await self._threads.close()


class _Source:
    """An open file that is being streamed."""

    def __init__(self, key: str, threads: Threads) -> None:
        self._key = key
        self._threads = threads
        self._descriptor: int | None = None

    def open(self, files: Files) -> ObjectInfo:
        """Open and describe (in a thread); `close` is called whatever happens."""
        self._descriptor = files.open(self._key)
        return describe(self._descriptor, self._key)

    async def pieces(self, start: int, end: int) -> AsyncIterator[bytes]:
        """Read from `start` to `end`."""
        while start < end:
            if self._descriptor is None:
                raise StoreUnavailable(f"stream {self._key}: read after the end of its context")
            size = min(PIECE_BYTES, end - start)
            piece = await self._threads.run(f"stream {self._key}", os.pread, self._descriptor, size, start)
            if not piece:
                raise StoreUnavailable(f"stream {self._key}: its file has become shorter")
            yield piece
            start += len(piece)

    def close(self) -> None:
        """Close. No read is under way: `Threads.run` does not leave one behind."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _head(files: Files, key: str) -> ObjectInfo:
    with files.reading(key) as descriptor:
        return describe(descriptor, key)


def _read(files: Files, key: str, limit: int) -> tuple[ObjectInfo, bytes]:
    with files.reading(key) as descriptor:
        info = describe(descriptor, key)
        if info.size > limit:
            raise StoreUnavailable(f"read {key}: it has {info.size} bytes, more than {limit}")
        return info, os.pread(descriptor, info.size, 0)


def _take(found: Iterator[ObjectInfo], size: int) -> Sequence[ObjectInfo]:
    return [*islice(found, size)]


def _check(files: Files) -> None:
    with files.temporary() as (_, descriptor):
        os.fsync(descriptor)
