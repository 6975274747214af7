"""The same sites under granian (extra `granian`), for busy deployments. The only module that imports granian."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final

from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server

from edgeproxy.sockets import MODE
from edgeproxy.unread import read_before_answer

BACKLOG: Final = 2048


async def serve_granian(app: Any, binds: tuple[str, ...], stop: asyncio.Event) -> None:
    """Serve an application on its addresses until `stop` is set.

    Every address has a socket of its own with SO_REUSEPORT, so several processes may serve the same ones.
    """
    servers = [_server(read_before_answer(app, stop), bind) for bind in binds]
    running = [asyncio.ensure_future(server.serve()) for server in servers]
    stopped = asyncio.ensure_future(stop.wait())
    done, _ = await asyncio.wait([*running, stopped], return_when=asyncio.FIRST_COMPLETED)
    for server in servers:
        server.stop()  # type: ignore[no-untyped-call]
    try:
        for task in done - {stopped}:
            task.result()
        await asyncio.gather(*running)
    except RuntimeError as error:
        # What its native part makes of a failure to listen.
        raise OSError(f"{', '.join(binds)}: {error}") from None


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
