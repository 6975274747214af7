"""The doors to objects: what the registry asks of a store, in the terms that R2, S3 and a directory share.

Keys are strings of printable ASCII without a leading slash; no key lies below another key (`a` and `a/b`). Reads, writes, lists and
deletes are strongly consistent. Implementations: `s3.S3Store`, `filesystem.FilesystemStore`; `tests/contract` holds them to this page.

Library exceptions do not pass: every method raises only the exceptions defined here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Final, Protocol

OCTETS: Final = "application/octet-stream"
"""Content type of everything that is not a manifest."""

MIN_PART_BYTES: Final = 5 * 1024 * 1024
MAX_PARTS: Final = 10_000
"""Rules of S3 and R2 for multipart uploads: parts of at least 5 MiB and of equal size but for the last, at most 10,000."""


class StoreError(Exception):
    """Root of what a store raises."""


class NotFound(StoreError):
    """No object under that key."""


class PreconditionFailed(StoreError):
    """A conditional write whose condition did not hold; nothing was written."""


class StoreUnavailable(StoreError):
    """The store did not answer in time, answered 5xx or 429 after all retries, or refused our credentials.

    The text is for the log: it names the operation and the store's own error code, never a credential or a signature.
    """


class CredentialDenied(StoreUnavailable):
    """The store knows the credential, which may not do this. The text names the permission that is missing."""


class CertificateExpired(StoreUnavailable):
    """The certificate that the store shows has ended."""


class Corrupt(StoreError):
    """The bytes that arrived at the store are not the bytes that were sent (checksum mismatch); nothing was written."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What is known of an object without its bytes.

    `size` in bytes; `etag` is opaque, without quotes, and differs whenever the bytes or metadata differ; `modified` is seconds since the
    epoch by the *store's* clock (whole seconds on S3). `content_type` and `metadata` are empty in listings.
    """

    key: str
    size: int
    etag: str
    modified: float
    content_type: str = OCTETS
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class IfAbsent:
    """Write only if no object has the key (`If-None-Match: *`)."""


@dataclass(frozen=True, slots=True)
class IfMatch:
    """Write only if the object under the key still has this etag (`If-Match`)."""

    etag: str


Condition = IfAbsent | IfMatch | None


class Multipart(Protocol):
    """An object being written in parts; it becomes visible only by `complete`.

    Part numbers start at 1. All parts but the last have the size that `begin` was given. Different parts may be written at the same
    time, and a part may be written again.
    """

    async def write(self, number: int, data: bytes | bytearray | memoryview) -> None:
        """Write one part.

        Raises:
            StoreUnavailable: after the retries of this part.

        """

    async def complete(self, condition: IfAbsent | None = None) -> ObjectInfo:
        """Make the object visible, whole.

        A condition that does not hold ends the multipart upload (R2's rule), as `abort` would.

        Raises:
            PreconditionFailed: `IfAbsent` was asked for and the key exists.
            StoreUnavailable: it is not known whether the object became visible.

        """

    async def abort(self) -> None:
        """Drop everything written; no error if it is gone already."""


class Store(Protocol):
    """A bucket."""

    async def head(self, key: str) -> ObjectInfo:
        """Describe an object, its content type and metadata included.

        Raises:
            NotFound: no such object.

        """

    async def read(self, key: str, limit: int) -> tuple[ObjectInfo, bytes]:
        """Read a whole small object.

        Raises:
            NotFound: no such object.
            StoreUnavailable: also if it is larger than `limit` bytes.

        """

    def stream(
        self, key: str, start: int = 0, length: int | None = None
    ) -> AbstractAsyncContextManager[tuple[ObjectInfo, AsyncIterator[bytes]]]:
        """Open an object for reading `length` bytes (all, if None) from `start`, in pieces of at most 1 MiB.

        `ObjectInfo.size` is the size of the whole object. A connection that is cut while reading raises `StoreUnavailable` from the
        iterator.

        Raises:
            NotFound: no such object, on entering.

        """

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
        """Write an object, atomically and durably.

        `metadata` keys are lower-case letters, digits and dashes, values printable ASCII, 2 KiB in all. With `sha256` the store itself
        verifies the bytes. A conditional write whose answer was lost is retried, and may then find its own object: callers compare what
        is there before they call it another's.

        Raises:
            PreconditionFailed: the condition does not hold.
            Corrupt: the bytes do not have that `sha256`.

        """

    async def begin(self, key: str, part_size: int, *, content_type: str = OCTETS) -> Multipart:
        """Begin an object of unknown or large size, in parts of `part_size` bytes (at least `MIN_PART_BYTES`)."""

    async def copy(self, source: str, target: str) -> None:
        """Copy the bytes of an object onto another key inside the store, replacing what is there; large objects in parallel parts.

        The copy has content type `OCTETS` and no metadata. It becomes visible whole or not at all.

        Raises:
            NotFound: no such source.

        """

    async def delete(self, key: str) -> None:
        """Remove an object; no error if there is none."""

    def list(self, prefix: str, *, after: str = "", limit: int | None = None) -> AsyncIterator[ObjectInfo]:
        """List the objects whose key begins with `prefix`, in byte order of the key, those greater than the full key `after`.

        Memory is bounded whatever the number of objects. `limit` ends the listing after so many and sizes the pages asked for.
        """

    async def check(self) -> None:
        """Prove with one cheap call that the bucket answers, for `/readyz`.

        Raises:
            StoreUnavailable: it does not.

        """

    async def lacking(self) -> tuple[str, ...]:
        """Find what the credential may not do here and a registry has to, a line each with the permission; writes no object.

        Whether it may write is left to the first write.

        Raises:
            StoreUnavailable: the store cannot be used at all; the text says what to mend.

        """

    async def close(self) -> None:
        """Give back connections."""


@dataclass(frozen=True, slots=True)
class PresignedURL:
    """A URL that carries its own, expiring right to GET one object. Its query is a secret: `repr` does not show it."""

    url: str = field(repr=False)
    seconds: int


class Presigner(Protocol):
    """Makes presigned URLs. Hot path: no call to the store."""

    def presign_now(self, key: str, seconds: int) -> PresignedURL | None:
        """Sign as `presign` does; None where the credential has to be asked for first, which takes a wait."""

    async def presign(self, key: str, seconds: int) -> PresignedURL:
        """Sign a GET of `key` for `seconds`, or less where the credential that signs ends sooner.

        Raises:
            StoreUnavailable: there is no usable credential to sign with.

        """
