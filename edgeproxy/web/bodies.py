"""Request bodies: bounded reading, slow senders, and refusing without breaking the pipe.

A refused upload must neither leak its connection nor leave the client with a reset instead of the answer. So the answer goes out first and
whole, then what still arrives is read and dropped, and only then is the response ended. Past the cap the connection is given up: a task
goes on reading until the server has closed it, as a server that waits to hand over a body nobody reads would keep its socket for good.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any, Final

from edgeproxy.oci.errors import BadRequest, RegistryError, RequestTimeout
from edgeproxy.web.heads import Head

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

SLOW_SECONDS: Final = 30.0
SLOW_BYTES: Final = 64 * 1024 * int(SLOW_SECONDS)
"""A body slower than 64 KiB/s over 30 s is given up. Time in which we do not read does not count."""

DRAIN_BYTES: Final = 64 * 1024 * 1024
DRAIN_SECONDS: Final = 30.0


class ClientGone(Exception):
    """The connection ended before the body did."""


class RequestBody:
    """The body of one request."""

    def __init__(self, receive: Receive, head: Head) -> None:
        self._receive = receive
        self.length = head.content_length
        """The announced number of bytes; None if the body is chunked."""
        self.finished = not head.has_body
        self.gone = False
        self.received = 0
        self.on_end: Callable[[], None] = _nothing
        self._waited = 0.0
        self._in_window = 0

    async def chunks(self) -> AsyncIterator[bytes]:
        """Give the pieces as they arrive.

        Raises:
            RequestTimeout: the sender is too slow.
            ClientGone: the sender is gone.

        """
        while not self.finished:
            piece = await self._next(SLOW_SECONDS)
            if piece:
                yield piece

    async def read(self, limit: int, too_large: RegistryError) -> bytes:
        """Read a whole small body.

        Raises:
            RegistryError: `too_large`, if there are more than `limit` bytes.

        """
        if self.length is not None and self.length > limit:
            raise too_large
        pieces = bytearray()
        async for piece in self.chunks():
            pieces += piece
            if len(pieces) > limit:
                raise too_large
        return bytes(pieces)

    async def drain(self) -> bool:
        """Read and drop what still arrives; True if the body ended, False if it was given up."""
        dropped = 0
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                while not self.finished and dropped < DRAIN_BYTES:
                    dropped += len(await self._next(DRAIN_SECONDS))
        except (TimeoutError, RegistryError, ClientGone):
            return False
        return self.finished

    async def until_gone(self) -> None:
        """Read and drop until the connection is closed."""
        while not self.gone:
            message = await self._receive()
            self.gone = message["type"] == "http.disconnect"

    async def _next(self, patience: float) -> bytes:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(patience):
                message = await self._receive()
        except TimeoutError:
            raise _slow() from None
        if message["type"] == "http.disconnect":
            self.gone = True
            raise ClientGone
        piece: bytes = message.get("body", b"")
        self.received += len(piece)
        self._check_speed(loop.time() - began, len(piece))
        if not message.get("more_body", False):
            self._end()
        return piece

    def _check_speed(self, waited: float, size: int) -> None:
        self._waited += waited
        self._in_window += size
        if self._waited >= SLOW_SECONDS:
            if self._in_window < SLOW_BYTES:
                raise _slow()
            self._waited, self._in_window = 0.0, 0

    def _end(self) -> None:
        self.finished = True
        if self.length is not None and self.received != self.length:
            raise BadRequest(f"the body has {self.received} bytes, not {self.length} as its Content-Length says")
        self.on_end()


def _nothing() -> None:
    """Do nothing when the body ends."""


def _slow() -> RequestTimeout:
    return RequestTimeout("the body arrives too slowly (less than 64 KiB/s over 30 s); send it again")
