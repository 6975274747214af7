"""What hypercorn writes, and when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from edgeproxy import serving_hypercorn
from edgeproxy.serving_hypercorn import serve_hypercorn
from tests.running import once_it_listens

REFUSED = b'{"errors": []}'


async def _refusing(scope: Any, receive: Any, send: Any) -> None:
    """Answer first, and read what still comes after that."""
    if scope["type"] != "http":
        return
    await receive()
    headers = [(b"content-length", b"%d" % len(REFUSED))]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": REFUSED, "more_body": True})
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _empty(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})


@asynccontextmanager
async def served(app: Any, folder: Path) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Serve, and give a connection."""
    stop = asyncio.Event()
    path = folder / "socket"
    serving = asyncio.ensure_future(serve_hypercorn(app, (f"unix:{path}",), stop))
    reader, writer = await once_it_listens(lambda: asyncio.open_unix_connection(path))
    try:
        yield reader, writer
    finally:
        writer.close()
        stop.set()
        await serving
        path.unlink()


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Everything that was written to a connection, write by write, by the server and by ourselves."""
    writes: list[bytes] = []
    write = asyncio.StreamWriter.write

    def note(self: asyncio.StreamWriter, data: bytes) -> None:
        writes.append(bytes(data))
        write(self, data)

    monkeypatch.setattr(asyncio.StreamWriter, "write", note)
    return writes


async def test_the_head_of_an_answer_goes_out_with_its_body(tmp_path: Path, written: list[bytes]) -> None:
    """A proxy that reads the head alone passes it on, and a client that stops sending there never gets the reason."""
    async with served(_refusing, tmp_path) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nHost: r\r\nContent-Length: 6\r\n\r\nabc")
        await reader.readuntil(REFUSED)
        writer.write(b"def")
        # The connection goes on: another request is answered as well.
        writer.write(b"POST / HTTP/1.1\r\nHost: r\r\nContent-Length: 0\r\n\r\n")
        await reader.readuntil(REFUSED)
    answers = [data for data in written if data.startswith(b"HTTP/1.1")]
    assert [(data[:12], data.endswith(REFUSED)) for data in answers] == [(b"HTTP/1.1 403", True)] * 2


async def test_an_interim_answer_does_not_wait_for_the_final_one(tmp_path: Path) -> None:
    async with served(_refusing, tmp_path) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nHost: r\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
        writer.write(b"abc")
        assert (await reader.readuntil(REFUSED)).startswith(b"HTTP/1.1 403")


async def test_an_answer_without_a_body_goes_out_by_itself(tmp_path: Path) -> None:
    async with served(_empty, tmp_path) as (reader, writer):
        for _ in range(2):
            writer.write(b"GET / HTTP/1.1\r\nHost: r\r\n\r\n")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 204")


async def test_what_is_no_http_is_refused(tmp_path: Path) -> None:
    async with served(_empty, tmp_path) as (reader, writer):
        writer.write(b"no HTTP\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 400")


GET = b"GET / HTTP/1.1\r\nHost: r\r\n\r\n"


async def test_an_idle_connection_is_closed_after_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving_hypercorn, "KEEP_ALIVE_SECONDS", 0.2)
    async with served(_empty, tmp_path) as (reader, writer):
        writer.write(GET)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 204")
        assert await reader.read() == b""
    async with served(_empty, tmp_path) as (reader, writer):
        # A head that never ends is no request.
        writer.write(b"GET / HTTP/1.1\r\n")
        assert await reader.read() == b""


async def test_a_connection_whose_request_runs_is_not_idle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving_hypercorn, "KEEP_ALIVE_SECONDS", 0.1)

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await asyncio.sleep(0.5)
        await _empty(scope, receive, send)

    async with served(slow, tmp_path) as (reader, writer):
        writer.write(GET)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 204")


async def test_a_stop_closes_idle_connections_and_lets_requests_end(tmp_path: Path) -> None:
    """No time-out of this test would do for the 75 s of an idle connection, nor for the grace of 30 s."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def waiting(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            begun.set()
            await go_on.wait()
        await _empty(scope, receive, send)

    stop = asyncio.Event()
    path = tmp_path / "socket"
    serving = asyncio.ensure_future(serve_hypercorn(waiting, (f"unix:{path}",), stop))
    idle, idle_writer = await once_it_listens(lambda: asyncio.open_unix_connection(path))
    busy, busy_writer = await asyncio.open_unix_connection(path)
    busy_writer.write(GET)
    await begun.wait()
    stop.set()
    async with asyncio.timeout(10):
        assert await idle.read() == b""
        assert not serving.done()
        go_on.set()
        assert (await busy.read()).startswith(b"HTTP/1.1 204")
        await serving
    idle_writer.close()
    busy_writer.close()


async def test_a_request_makes_one_task_and_a_connection_two(tmp_path: Path) -> None:
    """Hypercorn's own idle timer makes and cancels two more tasks for each request."""
    made: list[str] = []

    def counting(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        made.append(coroutine.__qualname__)
        return asyncio.Task(coroutine, loop=loop, **options)

    async with served(_empty, tmp_path) as (reader, writer):
        asyncio.get_running_loop().set_task_factory(counting)
        for _ in range(5):
            writer.write(GET)
            await reader.readuntil(b"\r\n\r\n")
        asyncio.get_running_loop().set_task_factory(None)
    # The tasks of the connection were made before, when it was opened, or at the first request.
    assert len([name for name in made if "_idle" in name]) <= 1
    assert made.count("_handle") == 5
    assert len(made) <= 5 + 2
