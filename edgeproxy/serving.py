"""Running ASGI applications under a server: binds, limits, a graceful stop.

`serving_hypercorn` and `serving_granian` know the two servers; only the one that serves is imported, as each costs start and memory.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import signal
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

GRACE_SECONDS: Final = 30
"""A stop takes no new work and lets what runs finish for so long."""

_log = logging.getLogger(__name__)


_CUT: Final = (
    b'{"errors":[{"code":"UNAVAILABLE","message":"this process was stopped before the request ended; try again"}]}'
)
_CUT_HEADERS: Final = (
    (b"content-type", b"application/json"),
    (b"content-length", str(len(_CUT)).encode()),
    (b"retry-after", b"5"),
)


class Stop:
    """The stop of this process, in two steps: from `begun` on it shows, at `due` it happens.

    In between everything is served as ever, but /readyz says no and each answer ends its connection, so that a load balancer and clients go
    elsewhere before the doors close. `seconds` is how long that takes; 0 for a stop at once.
    """

    def __init__(self, seconds: float) -> None:
        self.begun = asyncio.Event()
        self.due = asyncio.Event()
        self._seconds = seconds

    def ask(self) -> None:
        """Begin the stop; asked again, do not wait any longer."""
        if self.begun.is_set() or self._seconds <= 0:
            self.at_once()
            return
        self.begun.set()
        _log.info("stopping in %g s: /readyz says so to whoever sends requests here", self._seconds)
        asyncio.get_running_loop().call_later(self._seconds, self.due.set)

    def at_once(self) -> None:
        """Stop now."""
        self.begun.set()
        self.due.set()


ASGIApp = Callable[
    [MutableMapping[str, Any], Callable[[], Awaitable[Any]], Callable[[MutableMapping[str, Any]], Awaitable[None]]],
    Awaitable[None],
]


def leaving(app: ASGIApp, begun: asyncio.Event) -> ASGIApp:
    """Have each answer end its connection once a stop has begun, also that of a request that came before: the next one goes elsewhere.

    A request that outlasts the stop is answered with 503, where the server would say 500 and no word.
    """

    async def served(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        started = False

        async def last(message: MutableMapping[str, Any]) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                if begun.is_set():
                    kept = [item for item in message.get("headers", ()) if item[0].lower() != b"connection"]
                    message = {**message, "headers": [*kept, (b"connection", b"close")]}
            await send(message)

        try:
            await app(scope, receive, last)
        except asyncio.CancelledError:
            if begun.is_set() and not started and scope["type"] == "http":
                await last({"type": "http.response.start", "status": 503, "headers": _CUT_HEADERS})
                await last({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else _CUT})
            raise

    return served


@dataclass(frozen=True, slots=True)
class Site:
    """An application and the addresses it answers on: `host:port`, `[v6]:port`, `unix:/path` or `fd://n`."""

    app: Any
    binds: tuple[str, ...]


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
        from edgeproxy.serving_hypercorn import serve_hypercorn  # noqa: PLC0415

        await serve_hypercorn(site.app, site.binds, stop)


def settle_memory() -> None:
    """Set aside what the start made, and give back what it needed for a while.

    What it made lives as long as the process, and a collection that walks it holds up all requests for 20 ms.
    """
    gc.collect()
    gc.freeze()
    # Of glibc; another C library gives back by itself, or has no word for it.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def on_signals(stop: Stop, *reloads: Callable[[], None]) -> None:
    """Begin to stop on SIGTERM, stop at once on SIGINT or a second SIGTERM, reload on SIGHUP."""

    def reload() -> None:
        for call in reloads:
            call()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.ask)
    loop.add_signal_handler(signal.SIGINT, stop.at_once)
    loop.add_signal_handler(signal.SIGHUP, reload)
