"""A load balancer as plain as they come: connections go round to the replicas whose /readyz answers 200, and nothing is tried twice.

It looks into no request, so a connection stays where it was sent: what a replica does not do for its connections, nobody does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Protocol

import aiohttp

from tests.forwarding import PIECE, Forwarder, forwarding

CHECK_SECONDS = 0.2
CHECK_TIMEOUT = 3.0


class Balancing(Protocol):
    """What a test asks of any balancer."""

    async def sees(self, port: int, *, healthy: bool = True) -> None:
        """Wait until a replica is in, or out."""


class Balancer:
    """Spreads the connections of 127.0.0.1:`port` over replicas. Made by `balancing`."""

    def __init__(self, lines: dict[int, Forwarder], path: str) -> None:
        self.port = 0
        self.healthy: list[int] = []
        self._lines = lines
        self._path = path
        self._taken = 0

    def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a connection; with no healthy replica it is dropped."""
        if not self.healthy:
            writer.transport.abort()
            return
        self._taken += 1
        self._lines[self.healthy[self._taken % len(self.healthy)]].connected(reader, writer)

    async def watch(self) -> None:
        """Ask every replica how it is, for ever."""
        timeout = aiohttp.ClientTimeout(total=CHECK_TIMEOUT)
        async with aiohttp.ClientSession(timeout=timeout) as session, asyncio.TaskGroup() as group:
            for port in self._lines:
                group.create_task(self._watch(session, port))

    async def _watch(self, session: aiohttp.ClientSession, port: int) -> None:
        while True:
            try:
                async with session.get(f"http://127.0.0.1:{port}{self._path}") as answer:
                    ready = answer.status == 200
            except (aiohttp.ClientError, TimeoutError):
                ready = False
            if ready and port not in self.healthy:
                self.healthy.append(port)
            if not ready and port in self.healthy:
                self.healthy.remove(port)
            await asyncio.sleep(CHECK_SECONDS)

    async def sees(self, port: int, *, healthy: bool = True) -> None:
        """Wait until a replica is in, or out."""
        while (port in self.healthy) != healthy:  # noqa: ASYNC110 - what it waits for is itself polled
            await asyncio.sleep(CHECK_SECONDS / 4)


@asynccontextmanager
async def balancing(port: int, targets: Sequence[int], path: str = "/readyz") -> AsyncIterator[Balancer]:
    """Run a balancer on a port, in front of those of the replicas, that asks each for `path`."""
    async with AsyncExitStack() as stack:
        lines = {target: await stack.enter_async_context(forwarding(target)) for target in targets}
        balancer = Balancer(lines, path)
        server = await asyncio.start_server(balancer.connected, "127.0.0.1", port, limit=PIECE)
        balancer.port = port
        watching = asyncio.create_task(balancer.watch())
        try:
            yield balancer
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            server.close()
            for line in lines.values():
                await line.drop()
            await server.wait_closed()
