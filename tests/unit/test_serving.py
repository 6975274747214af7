"""How a process stops: it shows first, and closes its doors after that."""

from __future__ import annotations

import asyncio
import json
from collections.abc import MutableMapping
from typing import Any

import pytest

from edgeproxy.serving import Stop, leaving

Headers = list[tuple[bytes, bytes]]


async def test_a_stop_shows_before_it_happens() -> None:
    stop = Stop(3600)
    assert not stop.begun.is_set()
    stop.ask()
    assert (stop.begun.is_set(), stop.due.is_set()) == (True, False)


async def test_a_stop_that_was_asked_for_happens_by_itself() -> None:
    stop = Stop(0.01)
    stop.ask()
    await stop.due.wait()


async def test_a_second_signal_ends_the_wait() -> None:
    stop = Stop(3600)
    stop.ask()
    stop.ask()
    assert stop.due.is_set()


@pytest.mark.parametrize("seconds", [0, 3600])
async def test_an_interrupt_stops_at_once(seconds: int) -> None:
    stop = Stop(seconds)
    stop.at_once()
    assert stop.begun.is_set()
    assert stop.due.is_set()


async def test_without_seconds_to_wait_it_happens_at_once() -> None:
    stop = Stop(0)
    stop.ask()
    assert stop.due.is_set()


async def answered(begun: asyncio.Event, headers: Headers, *, begins_during: bool = False) -> Headers:
    """Give the headers of an answer as the client sees them."""
    sent: list[MutableMapping[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if begins_during:
            begun.set()
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"x"})

    async def receive() -> Any:
        raise AssertionError

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    await leaving(app, begun)({"type": "http", "method": "GET"}, receive, send)
    assert sent[1] == {"type": "http.response.body", "body": b"x"}
    found: Headers = sent[0]["headers"]
    return found


async def test_answers_keep_the_connection_until_a_stop_begins() -> None:
    begun = asyncio.Event()
    headers = [(b"content-length", b"1")]
    assert await answered(begun, headers) == headers
    begun.set()
    assert await answered(begun, headers) == [*headers, (b"connection", b"close")]


async def test_the_answer_to_a_request_that_came_before_the_stop_ends_its_connection_too() -> None:
    assert (b"connection", b"close") in await answered(asyncio.Event(), [], begins_during=True)


async def test_a_connection_is_told_once_to_end() -> None:
    begun = asyncio.Event()
    begun.set()
    assert await answered(begun, [(b"Connection", b"close")]) == [(b"connection", b"close")]


async def cut_off(begun: asyncio.Event) -> list[MutableMapping[str, Any]]:
    """Cancel a request that has no answer yet; give what its client is sent."""
    sent: list[MutableMapping[str, Any]] = []
    waits = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        waits.set()
        await asyncio.Event().wait()

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    running = asyncio.ensure_future(leaving(app, begun)({"type": "http", "method": "PATCH"}, None, send))  # type: ignore[arg-type]
    await waits.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    return sent


async def test_a_request_that_outlasts_the_stop_is_told_to_try_again() -> None:
    begun = asyncio.Event()
    assert await cut_off(begun) == []
    begun.set()
    start, body = await cut_off(begun)
    assert start["status"] == 503
    assert {(b"retry-after", b"5"), (b"connection", b"close")} <= set(start["headers"])
    assert (b"content-length", str(len(body["body"])).encode()) in start["headers"]
    assert json.loads(body["body"])["errors"][0]["code"] == "UNAVAILABLE"
