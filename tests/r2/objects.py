"""What the double holds: objects and uploads, small bodies in memory, large ones in temporary files that go with their last reference."""

from __future__ import annotations

import hashlib
import os
import secrets
import tempfile
import weakref
from bisect import bisect_right, insort
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.r2.rules import S3Error

IN_MEMORY: Final = 256 * 1024
_READ: Final = 256 * 1024


class _File:
    """A temporary file that is removed when nothing refers to it any more."""

    def __init__(self, folder: Path) -> None:
        handle, name = tempfile.mkstemp(dir=folder)
        self.path = Path(name)
        self.stream = os.fdopen(handle, "wb")
        weakref.finalize(self, _remove, name)


def _remove(name: str) -> None:
    Path(name).unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Piece:
    """Some bytes: of memory, or of a file."""

    source: bytes | _File
    start: int
    size: int

    def read(self, start: int, size: int) -> Iterator[bytes]:
        """Give `size` bytes from `start` of this piece, in blocks."""
        if isinstance(self.source, bytes):
            yield self.source[self.start + start : self.start + start + size]
            return
        with self.source.path.open("rb") as stream:
            stream.seek(self.start + start)
            while size > 0:
                block = stream.read(min(size, _READ))
                size -= len(block)
                yield block

    def cut(self, start: int, size: int) -> Piece:
        """Give a part of this piece without copying it."""
        return Piece(self.source, self.start + start, size)


def cut(pieces: tuple[Piece, ...], start: int, size: int) -> tuple[Piece, ...]:
    """Give `size` bytes from `start` of a sequence of pieces."""
    found = []
    for piece in pieces:
        if size > 0 and start < piece.size:
            part = piece.cut(start, min(size, piece.size - start))
            found.append(part)
            size -= part.size
            start = 0
        else:
            start -= piece.size if start >= piece.size else 0
    return tuple(found)


class Incoming:
    """A body on its way in: hashed, and kept in memory until it is large."""

    def __init__(self, folder: Path) -> None:
        self.sha256 = hashlib.sha256()
        self.md5 = hashlib.md5(usedforsecurity=False)
        self.size = 0
        self._folder = folder
        self._memory: list[bytes] = []
        self._file: _File | None = None

    def add(self, block: bytes) -> None:
        """Take in a block."""
        self.sha256.update(block)
        self.md5.update(block)
        self.size += len(block)
        if self._file is None and self.size > IN_MEMORY:
            self._file = _File(self._folder)
            self._file.stream.writelines(self._memory)
            self._memory.clear()
        if self._file is None:
            self._memory.append(block)
        else:
            self._file.stream.write(block)

    def close(self) -> tuple[Piece, ...]:
        """Give what came in."""
        if self._file is None:
            return (Piece(b"".join(self._memory), 0, self.size),) if self.size else ()
        self._file.stream.close()
        return (Piece(self._file, 0, self.size),)

    def drop(self) -> None:
        """Let go of a body that is refused; one that was kept stays."""
        if self._file is not None:
            self._file.stream.close()

    @property
    def in_memory(self) -> bytes:
        """Give a small body."""
        return b"".join(self._memory)


@dataclass(frozen=True, slots=True)
class Stored:
    """An object, or one part of an upload."""

    pieces: tuple[Piece, ...]
    etag: str
    modified: float
    content_type: str = "application/octet-stream"
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Give the size in bytes."""
        return sum(piece.size for piece in self.pieces)

    def content(self) -> bytes:
        """Give all bytes, for tests."""
        return b"".join(block for piece in self.pieces for block in piece.read(0, piece.size))


@dataclass
class Upload:
    """A multipart upload that has begun."""

    key: str
    content_type: str
    metadata: Mapping[str, str]
    parts: dict[int, Stored] = field(default_factory=dict)


class Bucket:
    """Objects by key, in byte order, and the uploads under way."""

    def __init__(self) -> None:
        self.objects: dict[str, Stored] = {}
        self.uploads: dict[str, Upload] = {}
        self._order: list[str] = []

    def put(self, key: str, stored: Stored) -> None:
        """Write an object."""
        if key not in self.objects:
            insort(self._order, key)
        self.objects[key] = stored

    def get(self, key: str) -> Stored:
        """Give an object, or refuse."""
        found = self.objects.get(key)
        if found is None:
            raise S3Error(404, "NoSuchKey", "The specified key does not exist.")
        return found

    def delete(self, key: str) -> None:
        """Remove an object, if it is there."""
        if self.objects.pop(key, None) is not None:
            del self._order[bisect_right(self._order, key) - 1]

    def list(self, prefix: str, after: str, limit: int) -> tuple[list[str], bool]:
        """Give keys with `prefix` that are greater than `after`, and whether there are more than `limit`."""
        start = bisect_right(self._order, after)
        found: list[str] = []
        for key in self._order[max(start, self._first(prefix)) :]:
            if not key.startswith(prefix):
                break
            if len(found) == limit:
                return found, True
            found.append(key)
        return found, False

    def _first(self, prefix: str) -> int:
        found = bisect_right(self._order, prefix)
        return found - 1 if found and self._order[found - 1] == prefix else found

    def begin(self, key: str, content_type: str, metadata: Mapping[str, str]) -> str:
        """Begin an upload; its id is as long as R2's are."""
        upload = secrets.token_urlsafe(240)
        self.uploads[upload] = Upload(key, content_type, metadata)
        return upload

    def upload(self, upload: str, key: str) -> Upload:
        """Give an upload of that key, or refuse."""
        found = self.uploads.get(upload)
        if found is None or found.key != key:
            raise S3Error(404, "NoSuchUpload", "The specified multipart upload does not exist.")
        return found


def multipart_etag(parts: list[Stored]) -> str:
    """Give the etag of an object in parts: the MD5 of the parts' MD5s, and their number."""
    joined = b"".join(bytes.fromhex(part.etag) for part in parts)
    return f"{hashlib.md5(joined, usedforsecurity=False).hexdigest()}-{len(parts)}"
