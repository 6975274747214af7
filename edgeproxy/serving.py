"""Running ASGI applications under a server: binds, limits, a graceful stop. Knows hypercorn; `serving_granian` knows granian."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hypercorn.asyncio import run as hypercorn_run
from hypercorn.asyncio import serve
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.config import Config

from edgeproxy import sockets

GRACE_SECONDS: Final = 30
"""A stop takes no new work and lets what runs finish for so long."""

HEAD_BYTES: Final = 64 * 1024
"""Largest request head: identity tokens of large organisations pass 10 KB."""

KEEP_ALIVE_SECONDS: Final = 75
"""An idle connection, or one whose head trickles in, is closed after so long."""


class _Connection(TCPServer):
    """A connection that ends when its client ends it.

    Hypercorn waits for its own idle timer even then: each connection that a client has closed would keep a socket and three tasks for
    `KEEP_ALIVE_SECONDS`.
    """

    async def _read_data(self) -> None:
        await super()._read_data()
        await self.idle_task.stop()


# There is no setting for it; the class is looked up by this name for each connection.
hypercorn_run.TCPServer = _Connection  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Site:
    """An application and the addresses it answers on: `host:port`, `[v6]:port`, `unix:/path` or `fd://n`."""

    app: Any
    binds: tuple[str, ...]


def configure(site: Site) -> Config:
    """Make the server's configuration for one site."""
    config = Config()
    config.bind = list(site.binds)
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


async def serve_sites(sites: Sequence[Site], stop: asyncio.Event, server: str) -> None:
    """Serve with `hypercorn` or `granian` until `stop` is set, then finish what runs."""
    tasks = [asyncio.ensure_future(_serve(site, stop, server)) for site in sites]
    try:
        done, _ = await asyncio.wait([*tasks, asyncio.ensure_future(stop.wait())], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        stop.set()
        # A connection that never ends must not keep the process: the server itself waits for some without a limit.
        await asyncio.wait(tasks, timeout=GRACE_SECONDS + 5)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _serve(site: Site, stop: asyncio.Event, server: str) -> None:
    if server == "granian":
        # An extra: it may not be installed.
        from edgeproxy.serving_granian import serve_granian  # noqa: PLC0415

        await serve_granian(site.app, site.binds, stop)
    else:
        await serve(site.app, configure(site), shutdown_trigger=stop.wait, mode="asgi")


def on_signals(stop: asyncio.Event, *reloads: Callable[[], None]) -> None:
    """Stop on SIGTERM and SIGINT, reload on SIGHUP."""

    def reload() -> None:
        for call in reloads:
            call()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, reload)
