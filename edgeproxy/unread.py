"""Bodies that nobody has read when the answer is ready, under a server that ends the connection once an answer is out whole.

Hypercorn goes on reading while the answer stands; granian does not, and a client that still sends would get a reset in place of the answer.
There what is still to come is read and dropped before the answer goes out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from edgeproxy.serving import ASGIApp

MOST_BYTES: Final = 64 * 1024 * 1024
MOST_SECONDS: Final = 20.0
"""A body that is longer, or slower, is left unread: its sender may see a reset, but does not hold up its answer for ever."""

LAST_SECONDS: Final = 1.0
"""In its place once the process is to stop: whoever is cut off then must not hold it up."""

Message = MutableMapping[str, Any]


def read_before_answer(app: ASGIApp, stop: asyncio.Event) -> ASGIApp:
    """Have what an application leaves of a body read and dropped before its answer begins; `stop` is the stop of this process."""

    async def served(scope: Message, receive: Any, send: Any) -> None:
        announced = _announced(scope) if scope["type"] == "http" else 0
        if announced == 0 or (announced is not None and announced > MOST_BYTES):
            await app(scope, receive, send)
            return
        body = _Body(receive)

        async def after_body(message: Message) -> None:
            if message["type"] == "http.response.start":
                await body.drop_rest(LAST_SECONDS if stop.is_set() else MOST_SECONDS)
            await send(message)

        await app(scope, body.receive, after_body)

    return served


class _Body:
    """Knows how far a body has been read."""

    def __init__(self, receive: Callable[[], Awaitable[Message]]) -> None:
        self._receive = receive
        self._ended = False
        self._told = False

    async def receive(self) -> Message:
        """Read on, for the application; once the rest was dropped, it is told that there was none."""
        if self._ended and not self._told:
            self._told = True
            return {"type": "http.request", "body": b"", "more_body": False}
        message = await self._receive()
        self._note(message)
        self._told = self._ended
        return message

    async def drop_rest(self, seconds: float) -> None:
        """Read and drop what is still to come, as far as it is worth it and for so many seconds at most."""
        dropped = 0
        try:
            async with asyncio.timeout(seconds):
                while not self._ended and dropped < MOST_BYTES:
                    message = await self._receive()
                    dropped += len(message.get("body", b""))
                    self._note(message)
        except TimeoutError:
            return

    def _note(self, message: Message) -> None:
        self._ended = message["type"] == "http.disconnect" or not message.get("more_body", False)


def _announced(scope: Message) -> int | None:
    """Say how many bytes a request announces; None if it is chunked, or says something that is no number."""
    length: int | None = 0
    for name, value in scope["headers"]:
        if name == b"transfer-encoding":
            return None
        if name == b"content-length":
            length = int(value) if value.isdigit() and len(value) <= 18 else None
    return length
