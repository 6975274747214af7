"""What hypercorn writes, and when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from edgeproxy.serving_hypercorn import serve_hypercorn

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
    while not path.exists():  # noqa: ASYNC110 - a server tells nobody that it listens
        await asyncio.sleep(0.01)
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        yield reader, writer
    finally:
        writer.close()
        stop.set()
        await serving


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
