"""A TCP forwarder that follows the HTTP it forwards: it stands in front of the registry and of the store, and counts at the socket.

Bytes pass unchanged, so that signatures over the host name hold.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

from benchmarks.egress.http1 import Connection, Exchange, NotHttp

PIECE: Final = 256 * 1024


class CountingProxy:
    """Forwards connections of 127.0.0.1:`port` to 127.0.0.1:`target` and hands each exchange to `on_exchange`. Made by `counting`.

    `sent` and `received` are all bytes that passed, from the server's point of view; `untold` are connections that were no HTTP.
    """

    def __init__(self, target: int, on_exchange: Callable[[Exchange], None]) -> None:
        self.port = 0
        self.target = target
        self.on_exchange = on_exchange
        self.sent = 0
        self.received = 0
        self.untold = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def quiet(self) -> None:
        """Wait until every request is answered."""
        await self._idle.wait()

    def _changed(self, by: int) -> None:
        self._in_flight += by
        if self._in_flight:
            self._idle.clear()
        else:
            self._idle.set()

    def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a connection; its work is a task of ours, so that no server waits for it."""
        task = asyncio.create_task(self._forward(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Break every connection and wait until they are gone."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self.target, limit=PIECE)
        except OSError:
            writer.transport.abort()
            return
        connection = Connection(self.on_exchange)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, server_writer, connection, from_server=False))
                group.create_task(self._pump(server_reader, writer, connection, from_server=True))
        except* NotHttp:
            self.untold += 1
        except* OSError:
            pass  # one side broke: so does the other, below
        finally:
            self._changed(-connection.in_flight)
            with suppress(NotHttp):
                connection.closed(time.perf_counter())
            for each in (writer, server_writer):
                each.transport.abort()
            for each in (writer, server_writer):
                with suppress(OSError):
                    await each.wait_closed()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        connection: Connection,
        *,
        from_server: bool,
    ) -> None:
        while piece := await reader.read(PIECE):
            if from_server:
                self.sent += len(piece)
            else:
                self.received += len(piece)
            # Before it is written: who reads the answer must find it counted.
            before = connection.in_flight
            (connection.from_server if from_server else connection.from_client)(piece, time.perf_counter())
            self._changed(connection.in_flight - before)
            writer.write(piece)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


@asynccontextmanager
async def counting(target: int, on_exchange: Callable[[Exchange], None]) -> AsyncIterator[CountingProxy]:
    """Run a counting proxy; `target` may be set later."""
    proxy = CountingProxy(target, on_exchange)
    server = await asyncio.start_server(proxy.connected, "127.0.0.1", 0, limit=PIECE)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
        await server.wait_closed()
