"""The same sites under granian (extra `granian`), for busy deployments. The only module that imports granian."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any, Final

from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server

from edgeproxy.serving import ASGIApp
from edgeproxy.sockets import MODE
from edgeproxy.unread import read_before_answer

BACKLOG: Final = 2048

CUT_SECONDS: Final = 2.0
"""Requests that are cut off have so long to answer, then their connections to end: a stop stays within the 40 s of docs/container.md."""


class _Requests:
    """The requests that run, to be cut off: granian leaves them to the event loop's end, when what they need is closed already."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._running: set[asyncio.Task[Any]] = set()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            await self._app(scope, receive, send)
        finally:
            self._running.discard(task)

    async def cut(self) -> None:
        """End them, and wait until they have ended."""
        running = set(self._running)
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running, timeout=CUT_SECONDS)


async def serve_granian(app: ASGIApp, binds: tuple[str, ...], stop: asyncio.Event) -> None:
    """Serve an application on its addresses until `stop` is set.

    Every address has a socket of its own with SO_REUSEPORT, so several processes may serve the same ones. Cancelled, it cuts off what runs.
    """
    requests = _Requests(app)
    servers = [_server(read_before_answer(requests, stop), bind) for bind in binds]
    running = [asyncio.ensure_future(server.serve()) for server in servers]
    stopped = asyncio.ensure_future(stop.wait())
    try:
        done, _ = await asyncio.wait([*running, stopped], return_when=asyncio.FIRST_COMPLETED)
        for server in servers:
            server.stop()  # type: ignore[no-untyped-call]
        for task in done - {stopped}:
            task.result()
        # Not gathered: what is cancelled here must leave the servers up, or nobody would get the answer that says so.
        await asyncio.wait(running)
        for task in running:
            task.result()
    except asyncio.CancelledError:
        await requests.cut()
        await asyncio.wait(running, timeout=CUT_SECONDS)
        raise
    except RuntimeError as error:
        # What its native part makes of a failure to listen.
        raise OSError(f"{', '.join(binds)}: {error}") from None
    finally:
        for task in (*running, stopped):
            task.cancel()


def _server(app: Any, bind: str) -> Server:
    host, _, port = bind.rpartition(":")
    path = Path(bind.removeprefix("unix:")) if bind.startswith("unix:") else None
    server = Server(
        app,
        address=host.strip("[]") if path is None else "127.0.0.1",
        port=int(port) if path is None else 0,
        uds=path,
        interface=Interfaces.ASGINL,
        http=HTTPModes.http1,
        websockets=False,
        backlog=BACKLOG,
        http1_settings=HTTP1Settings(header_read_timeout=30_000),
        log_enabled=False,
    )
    server.uds_permissions = MODE
    return server
