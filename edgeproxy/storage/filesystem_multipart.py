"""Multipart objects of the filesystem store."""

from __future__ import annotations

import asyncio
import os

from edgeproxy.storage import MAX_PARTS, IfAbsent, ObjectInfo
from edgeproxy.storage.files import Files
from edgeproxy.storage.object_file import describe, finish, opened, remove_if_there, write_all
from edgeproxy.storage.threads import Threads


class FilesystemMultipart:
    """A `Multipart` in one temporary file: parts have equal size, so each goes where it will stay."""

    def __init__(self, files: Files, threads: Threads, key: str, part_size: int, content_type: str) -> None:
        self._files = files
        self._threads = threads
        self._key = key
        self._part_size = part_size
        self._content_type = content_type
        self._path = files.temporary_name()
        self._sizes: dict[int, int] = {}

    async def create(self) -> None:
        """Create the temporary file."""
        try:
            await self._threads.run(f"begin {self._key}", self._create)
        except asyncio.CancelledError:
            # Nobody will have this object to call `abort` on.
            remove_if_there(self._path)
            raise

    def _create(self) -> None:
        with opened(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL):
            pass

    async def write(self, number: int, data: bytes | bytearray | memoryview) -> None:
        """See `Multipart.write`.

        Raises:
            ValueError: no such part number, or more bytes than a part has.

        """
        if not 1 <= number <= MAX_PARTS:
            raise ValueError(f"part {number} of {self._key}: numbers go from 1 to {MAX_PARTS}")
        if len(data) > self._part_size:
            raise ValueError(f"part {number} of {self._key} has {len(data)} bytes, parts have {self._part_size}")
        # Until it is whole again it counts as missing.
        self._sizes.pop(number, None)
        await self._threads.run(f"write part {number} of {self._key}", self._write, number, data)
        self._sizes[number] = len(data)

    def _write(self, number: int, data: bytes | bytearray | memoryview) -> None:
        with opened(self._path, os.O_WRONLY) as descriptor:
            write_all(descriptor, data, (number - 1) * self._part_size)
            # Spread over the parts, or else `complete` would have to wait for gigabytes.
            os.fdatasync(descriptor)

    async def complete(self, condition: IfAbsent | None = None) -> ObjectInfo:
        """See `Multipart.complete`.

        Raises:
            ValueError: a part is missing, or one that is not the last is short.

        """
        numbers = range(1, max(self._sizes, default=1) + 1)
        for number in numbers:
            wanted = self._part_size if number != numbers[-1] else self._sizes.get(number)
            if wanted is None or self._sizes.get(number) != wanted:
                raise ValueError(f"part {number} of {self._key} was not written, or not whole")
        size = (numbers[-1] - 1) * self._part_size + self._sizes[numbers[-1]]
        return await self._threads.run(f"complete {self._key}", self._complete, size, condition)

    def _complete(self, size: int, condition: IfAbsent | None) -> ObjectInfo:
        with opened(self._path, os.O_RDWR) as descriptor:
            # The last part may have been longer when it was first written.
            os.ftruncate(descriptor, size)
            finish(descriptor, size, self._content_type, {})
            info = describe(descriptor, self._key)
            try:
                self._files.publish(self._path, self._key, condition)
            finally:
                remove_if_there(self._path)
            return info

    async def abort(self) -> None:
        """See `Multipart.abort`."""
        await self._threads.run(f"abort {self._key}", remove_if_there, self._path)
