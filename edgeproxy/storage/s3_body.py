"""Request bodies and their signing: how bytes go to S3 without being copied and without holding up the event loop.

The SDK takes `bytes` and files. `bytes` above 1 MiB go to the socket in one piece (aiohttp warns of it), a file is read
in threads, and both are hashed on the event loop. `Body` is read by aiohttp as an asynchronous iterable of views, and
brings its hash along.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Any, Final

from botocore.auth import AUTH_TYPE_MAPS, S3SigV4Auth

SIGNATURE_VERSION: Final = "edgeproxy-s3v4"
"""Name under which `BodySigner` is known to the SDK."""

_PIECE: Final = 256 * 1024
_HASH_IN_THREAD: Final = 256 * 1024
_UNSIGNED: Final = "UNSIGNED-PAYLOAD"


class Body:
    """Bytes to be sent, any number of times, without a copy. `payload` is what goes into `x-amz-content-sha256`."""

    def __init__(self, data: bytes | bytearray | memoryview, payload: str) -> None:
        self._view = memoryview(data).cast("B") if len(data) else memoryview(b"")
        self._position = 0
        self.payload = payload

    def __len__(self) -> int:
        return len(self._view)

    def read(self, size: int | None = -1) -> bytes:
        """Read on, as a file: the SDK accepts as a body what has this method."""
        end = len(self._view) if size is None or size < 0 else min(len(self._view), self._position + size)
        piece = bytes(self._view[self._position : end])
        self._position = end
        return piece

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move the reading position, as a file."""
        self._position = offset + (0, self._position, len(self._view))[whence]
        return self._position

    def tell(self) -> int:
        """Give the reading position, as a file."""
        return self._position

    async def __aiter__(self) -> AsyncIterator[memoryview]:
        for start in range(0, len(self._view), _PIECE):
            yield self._view[start : start + _PIECE]


async def prepare(data: bytes | bytearray | memoryview, *, sign: bool, sha256: bytes | None = None) -> Body | bytes:
    """Make a body.

    With `sign` its hash is part of the signature: the one given, or else computed, in a thread where that takes long.
    """
    if len(data) == 0:
        return b""
    if not sign:
        return Body(data, _UNSIGNED)
    if sha256 is not None:
        return Body(data, sha256.hex())
    if len(data) < _HASH_IN_THREAD:
        return Body(data, hashlib.sha256(data).hexdigest())
    return Body(data, await asyncio.to_thread(lambda: hashlib.sha256(data).hexdigest()))


class BodySigner(S3SigV4Auth):  # type: ignore[misc]  # botocore ships no types
    """The SDK's own header signer, but for the hash of a `Body`, which is known already."""

    def payload(self, request: Any) -> str:
        """Give the value of `x-amz-content-sha256`."""
        body = request.data
        if isinstance(body, Body):
            return body.payload
        return str(super().payload(request))


AUTH_TYPE_MAPS[SIGNATURE_VERSION] = BodySigner
