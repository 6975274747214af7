"""The double on a loopback port: in the loop of a test, or (`python -m tests.r2`) as a process with a control endpoint."""

from __future__ import annotations

import asyncio
import ssl
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config

from edgeproxy.storage.presign import Credentials
from tests.r2.app import ACCESS_KEY, SECRET_KEY, Double


@dataclass
class Connections:
    """The connections that clients hold open, by their address."""

    opened: int = 0
    writers: dict[Any, asyncio.StreamWriter] = field(default_factory=dict)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def open(self) -> int:
        """Number of connections that neither side has ended."""
        return sum(not writer.transport.is_closing() for writer in self.writers.values())

    def cut(self, client: Any) -> None:
        """Drop a connection without a word."""
        writer = self.writers.get(tuple(client))
        if writer is not None:
            writer.transport.abort()


@dataclass(frozen=True, slots=True)
class RunningDouble:
    """A double and how to reach it."""

    double: Double
    endpoint: str
    connections: Connections
    credentials: Credentials = field(default_factory=lambda: Credentials(ACCESS_KEY, SECRET_KEY))


@asynccontextmanager
async def serving(app: Any, port: int = 0, tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[str, Connections]]:
    """Serve an ASGI application with hypercorn's own connections, so that they can be counted and cut."""
    config = Config()
    config.h11_max_incomplete_size = 65_536
    config.keep_alive_timeout = 3600
    context = WorkerContext(None)
    connections = Connections()
    loop = asyncio.get_running_loop()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        peer = tuple(writer.get_extra_info("peername")[:2])
        connections.opened += 1
        connections.writers[peer] = writer
        connections.tasks.add(task)
        try:
            await TCPServer(ASGIWrapper(app), loop, config, context, {}, reader, writer)
        except asyncio.CancelledError:
            # Only `serving` cancels, at its end; a cancelled handler would be logged as an error.
            writer.transport.abort()
        finally:
            connections.writers.pop(peer, None)
            connections.tasks.discard(task)

    server = await asyncio.start_server(connected, "127.0.0.1", port, backlog=1024, ssl=tls)
    try:
        scheme = "http" if tls is None else "https"
        yield f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}", connections
    finally:
        server.close()
        tasks = list(connections.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


@asynccontextmanager
async def running_double(
    *, port: int = 0, tls: ssl.SSLContext | None = None, **options: Any
) -> AsyncIterator[RunningDouble]:
    """Run a double in this loop; `options` as `Double` has them."""
    with tempfile.TemporaryDirectory(prefix="r2-double-") as folder:
        double = Double(Path(folder), **options)
        async with serving(double, port, tls) as (endpoint, connections):
            double.cut = connections.cut
            yield RunningDouble(double, endpoint, connections)
