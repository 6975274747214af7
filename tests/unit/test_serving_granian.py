"""A stop under granian: what still runs after the grace is cut off while what it needs is open."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest

from edgeproxy import serving
from edgeproxy.serving import ASGIApp, Site, leaving, serve_sites
from tests.running import free_ports, once_it_listens

pytest.importorskip("granian")


async def test_a_request_that_outlasts_the_stop_is_answered_and_ends_before_the_server_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The servers get five seconds more than it: half a second in all.
    monkeypatch.setattr(serving, "GRACE_SECONDS", -4.5)
    stop, entered = asyncio.Event(), asyncio.Event()
    told: list[str] = []

    async def app(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        entered.set()
        try:
            await asyncio.sleep(60)
        finally:
            # As an upload does, which gives back what it holds in the store.
            await asyncio.sleep(0.05)
            told.append("cleaned up")

    answer = await _stopped_meanwhile(app, stop, entered)
    told.append("server ended")

    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"this process was stopped before the request ended" in answer
    assert told == ["cleaned up", "server ended"]


async def test_a_request_that_ends_within_the_grace_is_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "GRACE_SECONDS", 20)
    stop, entered = asyncio.Event(), asyncio.Event()

    async def app(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            entered.set()
            await asyncio.sleep(0.5)
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
            await send({"type": "http.response.body", "body": b"ok"})

    answer = await _stopped_meanwhile(app, stop, entered)

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"ok")


async def _stopped_meanwhile(app: ASGIApp, stop: asyncio.Event, entered: asyncio.Event) -> bytes:
    """Ask, stop once the request is `entered`, and give the answer when the server has ended."""
    (port,) = free_ports(1)
    serves = asyncio.create_task(serve_sites([Site(leaving(app, stop), (f"127.0.0.1:{port}",))], stop, "granian"))
    reader, writer = await once_it_listens(lambda: asyncio.open_connection("127.0.0.1", port))
    writer.write(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
    await entered.wait()
    stop.set()
    answer = await reader.read()
    await serves
    writer.close()
    return answer
