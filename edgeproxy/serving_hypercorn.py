"""The sites under hypercorn, the default. The only module that imports hypercorn."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Final

from hypercorn.asyncio import run as hypercorn_run
from hypercorn.asyncio import serve
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.config import Config
from hypercorn.events import Event, RawData, Updated

from edgeproxy import sockets
from edgeproxy.serving import GRACE_SECONDS

HEAD_BYTES: Final = 64 * 1024
"""Largest request head: identity tokens of large organisations pass 10 KB."""

KEEP_ALIVE_SECONDS: Final = 75
"""An idle connection, or one whose head trickles in, is closed after so long."""

_FINAL_HEADS: Final = tuple(b"HTTP/1.1 %d" % kind for kind in (2, 3, 4, 5))
"""How the head of an answer begins; that of an interim one (1xx) must not wait."""


class _Connection(TCPServer):
    """A connection that ends when its client ends it, watched by one task, on which the head of an answer goes out with what follows it.

    Hypercorn waits for its own idle timer even then: each connection that a client has closed would keep a socket and three tasks for
    `KEEP_ALIVE_SECONDS`. For each request it makes and cancels two tasks and a timer, to know when a connection is idle.
    And it writes the head by itself: a proxy that reads it before the body is there passes it on, and a client that
    stops sending at the sight of a 403 then has nginx give up the request, body and all.
    """

    _head = b""
    _idle_since: float | None = None

    async def protocol_send(self, event: Event) -> None:
        if isinstance(event, Updated):
            self._idle_since = self.loop.time() if event.idle else None
            return
        if isinstance(event, RawData) and not self._head and event.data.startswith(_FINAL_HEADS):
            # Something follows at once: a piece of the body, or the end of the message with or without bytes of its own.
            self._head = event.data
            return
        if self._head:
            head, self._head = self._head, b""
            if isinstance(event, RawData):
                event = RawData(head + event.data)
            else:
                await super().protocol_send(RawData(head))
        await super().protocol_send(event)

    async def _read_data(self) -> None:
        await super()._read_data()
        await self.idle_task.stop()

    async def _idle_timeout(self) -> None:
        """Close the connection once it was idle for too long, or is while the server stops. Runs as long as the connection does."""
        self._idle_since = self.loop.time()
        while (ends := (self._idle_since or self.loop.time()) + KEEP_ALIVE_SECONDS) > self.loop.time():
            try:
                async with asyncio.timeout_at(ends):
                    await self.context.terminated.wait()
            except TimeoutError:
                continue
            break
        if self._idle_since is not None:
            await asyncio.shield(self._initiate_server_close())


# There is no setting for it; the class is looked up by this name for each connection.
hypercorn_run.TCPServer = _Connection  # type: ignore[attr-defined]


async def serve_hypercorn(app: Any, binds: tuple[str, ...], stop: asyncio.Event) -> None:
    """Serve an application on its addresses until `stop` is set."""
    await serve(app, configure(binds), shutdown_trigger=stop.wait, mode="asgi")


def configure(binds: Sequence[str]) -> Config:
    """Make the server's configuration for one site's addresses."""
    config = Config()
    config.bind = list(binds)
    config.umask = sockets.UMASK  # of unix sockets, while they are made
    config.backlog = 2048
    config.h11_max_incomplete_size = HEAD_BYTES
    config.h2_max_header_list_size = HEAD_BYTES
    config.keep_alive_timeout = KEEP_ALIVE_SECONDS
    config.keep_alive_max_requests = 100_000
    config.graceful_timeout = GRACE_SECONDS
    config.include_server_header = False
    # Each is up to 64 KiB of a body that is not granted memory yet.
    config.max_app_queue_size = 4
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn.error")
    # An upload over HTTP/2 would be held to a window of 64 KiB a round trip.
    config.alpn_protocols = ["http/1.1"]
    return config
