"""The files under the root of a filesystem store, and the few moves that make changes of them atomic and durable.

```
objects/<key>     one file an object (see `trailer`); never written in place, only linked, renamed over, unlinked
tmp/<random>      what is being written; garbage if it is old
locks/<00..ff>    locked (flock) while a name that may exist is replaced or removed: processes share roots
url-signing-key   see `file_presign`
```

Synchronous: `FilesystemStore` calls it in threads. Raises `OSError` beside the store's own; `threads` words them.
"""

# Names are strings and moves are the kernel's calls here: descriptors, errors by number, a million names at a time.
# ruff: noqa: PTH100, PTH102, PTH103, PTH105, PTH106, PTH108, PTH112, PTH116, PTH118, PTH120

from __future__ import annotations

import errno
import fcntl
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final
from uuid import uuid4

from edgeproxy.storage import OCTETS, Condition, IfAbsent, IfMatch, NotFound, PreconditionFailed
from edgeproxy.storage.object_file import (
    describe,
    etag,
    finish,
    opened,
    remove_if_there,
    stamp,
    sync_directory,
    write_all,
)

STALE_SECONDS: Final = 86_400
_LOCKS: Final = 256
_COPY_BYTES: Final = 1 << 20
# Every attempt loses its directory only to one delete that empties it just then.
_ATTEMPTS: Final = 100
_MISSING: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG})


def check_key(key: str) -> str:
    """Defend the root against a key that would leave it.

    Raises:
        ValueError: the key is absolute, has an empty component, `.`, `..` or a NUL.

    """
    if "\0" in key or any(part in ("", ".", "..") for part in key.split("/")):
        raise ValueError(f"not a key of an object: {key!r}")
    return key


class Files:
    """Names and moves under one root. `clock` (seconds since the epoch) only tells which temporary files are old."""

    def __init__(self, root: Path, clock: Callable[[], float]) -> None:
        self.root = os.path.abspath(root)
        self.objects = os.path.join(self.root, "objects")
        self._temporary = os.path.join(self.root, "tmp")
        self._locks = os.path.join(self.root, "locks")
        self._clock = clock

    def prepare(self) -> None:
        """Make the directories, and remove what dead processes have left."""
        # What lies below is a private registry's: closed to others unless the operator opens it.
        os.makedirs(self.root, mode=0o700, exist_ok=True)
        for directory in (self.objects, self._temporary, self._locks):
            os.makedirs(directory, exist_ok=True)
        sync_directory(self.root)
        oldest = self._clock() - STALE_SECONDS
        for entry in os.scandir(self._temporary):
            with suppress(FileNotFoundError):
                # A link that a copy has just made carries the old mtime of its source, but a new ctime.
                if entry.stat().st_ctime < oldest:
                    os.unlink(entry.path)

    def path(self, key: str) -> str:
        """Where the object lies.

        Raises:
            ValueError: as `check_key`.

        """
        return os.path.join(self.objects, check_key(key))

    def open(self, key: str) -> int:
        """Open an object for reading; the caller closes the descriptor. The name may go meanwhile.

        Raises:
            NotFound: no such object.

        """
        try:
            return os.open(self.path(key), os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in _MISSING:
                raise NotFound(key) from None
            raise

    @contextmanager
    def reading(self, key: str) -> Iterator[int]:
        """Open an object for reading for as long as the context lasts.

        Raises:
            NotFound: no such object.

        """
        descriptor = self.open(key)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def temporary_name(self) -> str:
        """Make up a path for a file that is not an object yet."""
        return os.path.join(self._temporary, uuid4().hex)

    @contextmanager
    def temporary(self) -> Iterator[tuple[str, int]]:
        """Create a file that is not an object yet; its temporary name and its descriptor are gone in the end."""
        path = self.temporary_name()
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            yield path, descriptor
        finally:
            os.close(descriptor)
            remove_if_there(path)

    def publish(self, temporary: str, key: str, condition: Condition) -> None:
        """Give a finished, synced file the name of an object, durably; `temporary` may or may not remain.

        Raises:
            PreconditionFailed: nothing has changed then.

        """
        target = self.path(key)
        directory = os.path.dirname(target)
        for attempt in range(_ATTEMPTS):
            try:
                self._name(temporary, target, key, condition)
                break
            except FileNotFoundError:
                if attempt == _ATTEMPTS - 1:
                    raise
                # Lost again to a delete: the next attempt makes it anew.
                with suppress(FileNotFoundError):
                    self._make_directory(directory)
        # Gone: somebody has deleted the object since, and it is theirs to sync.
        with suppress(FileNotFoundError):
            sync_directory(directory)

    def _name(self, temporary: str, target: str, key: str, condition: Condition) -> None:
        if isinstance(condition, IfAbsent):
            try:
                os.link(temporary, target)
            except FileExistsError:
                raise PreconditionFailed(f"{key} exists") from None
            return
        with self._locked(key):
            if isinstance(condition, IfMatch) and self._current(target) != condition.etag:
                raise PreconditionFailed(f"{key} is not the version {condition.etag} any more")
            os.replace(temporary, target)

    @staticmethod
    def _current(target: str) -> str | None:
        try:
            return etag(os.stat(target))
        except OSError as error:
            if error.errno in _MISSING:
                return None
            raise

    def copy(self, source: str, target: str) -> None:
        """Put the bytes of `source` under `target`: the same file under a second name where it has nothing but bytes.

        That file's time becomes now under both names, as a new object must not look old to a garbage collector.

        Raises:
            NotFound: no such source.

        """
        path = self.temporary_name()
        try:
            self._link(source, path)
            with opened(path) as descriptor:
                info = describe(descriptor, source)
                if info.size == os.fstat(descriptor).st_size:
                    stamp(descriptor)
                    self.publish(path, target, None)
                else:
                    self._copy_bytes(descriptor, info.size, target)
        finally:
            remove_if_there(path)

    def _link(self, source: str, path: str) -> None:
        existing = self.path(source)
        try:
            os.link(existing, path)
        except OSError as error:
            if error.errno in _MISSING or os.path.isdir(existing):
                raise NotFound(source) from None
            raise

    def _copy_bytes(self, source: int, size: int, target: str) -> None:
        with self.temporary() as (path, descriptor):
            for offset in range(0, size, _COPY_BYTES):
                write_all(descriptor, os.pread(source, min(_COPY_BYTES, size - offset), offset), offset)
            finish(descriptor, size, OCTETS, {})
            self.publish(path, target, None)

    def delete(self, key: str) -> None:
        """Remove an object and the directories it leaves empty, durably; nothing happens if there is none."""
        path = self.path(key)
        try:
            with self._locked(key):
                os.unlink(path)
        except OSError as error:
            if error.errno in _MISSING or os.path.isdir(path):
                return
            raise
        self._prune(os.path.dirname(path))

    def _prune(self, directory: str) -> None:
        while directory != self.objects:
            try:
                os.rmdir(directory)
            except FileNotFoundError:
                pass
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                with suppress(FileNotFoundError):
                    sync_directory(directory)
                    return
            directory = os.path.dirname(directory)
        sync_directory(directory)

    def _make_directory(self, path: str) -> None:
        # A root that has gone, as of a disk that is not mounted any more, must not come back as an empty one.
        if path == self.objects:
            return
        try:
            os.mkdir(path)
        except FileExistsError:
            return
        except FileNotFoundError:
            self._make_directory(os.path.dirname(path))
            with suppress(FileExistsError):
                os.mkdir(path)
        sync_directory(os.path.dirname(path))

    @contextmanager
    def _locked(self, key: str) -> Iterator[None]:
        number = zlib.crc32(key.encode()) % _LOCKS
        with opened(f"{self._locks}/{number:02x}", os.O_RDWR | os.O_CREAT) as descriptor:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
