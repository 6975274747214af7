"""A TCP forwarder that counts: it stands between a client and a server, so that a test knows which bytes went which way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

PIECE = 256 * 1024


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes in each direction."""

    to_server: int = 0
    to_client: int = 0

    def __sub__(self, earlier: Traffic) -> Traffic:
        """Tell what was added since `earlier`."""
        return Traffic(self.to_server - earlier.to_server, self.to_client - earlier.to_client)


class Forwarder:
    """Forwards connections of 127.0.0.1:`port` to 127.0.0.1:`target`, and counts. Made by `forwarding`."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self.target = target
        self._to_server = 0
        self._to_client = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def traffic(self) -> Traffic:
        """What has been forwarded so far."""
        return Traffic(self._to_server, self._to_client)

    def cut(self) -> None:
        """Break every connection there is."""
        for task in self._tasks:
            task.cancel()

    async def drop(self) -> None:
        """Break every connection and wait until they are gone."""
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a connection; its work is a task of ours, so that no server waits for it."""
        task = asyncio.create_task(self._forward(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, server_writer, to_server=True))
                group.create_task(self._pump(server_reader, writer, to_server=False))
        except* OSError:
            pass  # one side broke: so does the other, below
        finally:
            for each in (writer, server_writer):
                each.transport.abort()
            for each in (writer, server_writer):
                with suppress(OSError):
                    await each.wait_closed()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, to_server: bool) -> None:
        while piece := await reader.read(PIECE):
            if to_server:
                self._to_server += len(piece)
            else:
                self._to_client += len(piece)
            writer.write(piece)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


@asynccontextmanager
async def forwarding(target: int = 0) -> AsyncIterator[Forwarder]:
    """Run a forwarder; `target` may be set later."""
    forwarder = Forwarder(target)
    server = await asyncio.start_server(forwarder.connected, "127.0.0.1", 0, limit=PIECE)
    forwarder.port = server.sockets[0].getsockname()[1]
    try:
        yield forwarder
    finally:
        server.close()
        await forwarder.drop()
        await server.wait_closed()
