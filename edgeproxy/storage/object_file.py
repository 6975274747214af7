"""One file that holds one object (see `trailer`): writing, finishing, describing it. Synchronous; raises `OSError`."""

# Names are strings and moves are the kernel's calls here: descriptors, errors by number, a million names at a time.
# ruff: noqa: PTH108

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from edgeproxy.storage import NotFound, ObjectInfo, StoreUnavailable
from edgeproxy.storage.trailer import MAGIC, MAX_BYTES, Trailer, TrailerDamaged, trailer


def etag(status: os.stat_result) -> str:
    """Name one version of a file. `stamp` makes its time fine enough to tell a reused inode apart."""
    return f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"


def write_all(descriptor: int, data: bytes | bytearray | memoryview, offset: int) -> None:
    """Write all of `data` at `offset`, however many calls it takes."""
    rest = memoryview(data)
    while rest:
        written = os.pwrite(descriptor, rest, offset)
        rest = rest[written:]
        offset += written


def finish(descriptor: int, size: int, content_type: str, metadata: Mapping[str, str]) -> None:
    """Make an object of a file with `size` bytes: append its trailer, set its time, sync it."""
    end = os.pread(descriptor, len(MAGIC), max(0, size - len(MAGIC)))
    write_all(descriptor, trailer(content_type, metadata, end), size)
    stamp(descriptor)
    os.fsync(descriptor)


def describe(descriptor: int, key: str) -> ObjectInfo:
    """Describe the object in an open file.

    Raises:
        NotFound: it is a directory.
        StoreUnavailable: its trailer is damaged.

    """
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise NotFound(key)
    end = os.pread(descriptor, MAX_BYTES, max(0, status.st_size - MAX_BYTES))
    try:
        found = Trailer.parse(end)
    except TrailerDamaged as problem:
        raise StoreUnavailable(f"the file of {key} is damaged: {problem}; restore it, or delete the object") from None
    size = status.st_size - found.size
    return ObjectInfo(key, size, etag(status), status.st_mtime, found.content_type, found.metadata)


def sync_directory(path: str) -> None:
    """Make the names in a directory durable."""
    with opened(path) as descriptor:
        os.fsync(descriptor)


def remove_if_there(path: str) -> None:
    """Remove a file that may have gone."""
    with suppress(FileNotFoundError):
        os.unlink(path)


@contextmanager
def opened(path: str, flags: int = os.O_RDONLY, mode: int = 0o666) -> Iterator[int]:
    """Open a file or directory for as long as the context lasts."""
    descriptor = os.open(path, flags | os.O_CLOEXEC, mode)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def stamp(descriptor: int) -> None:
    """Set the time of a file that becomes an object to now."""
    now = time.time_ns()
    os.utime(descriptor, ns=(now, now))
