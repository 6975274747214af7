"""What an application leaves of a body, where the server ends the connection once the answer is out."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from edgeproxy import unread
from edgeproxy.unread import MOST_BYTES, read_before_answer

START = {"type": "http.response.start", "status": 403, "headers": []}
END = {"type": "http.response.body", "body": b"no", "more_body": False}


class Wire:
    """A client's body in pieces, and everything that happened, in order."""

    def __init__(self, *pieces: bytes, header: tuple[bytes, bytes] | None = None) -> None:
        self.pieces = list(pieces)
        self.happened: list[Any] = []
        length = (b"content-length", str(sum(map(len, pieces))).encode())
        self.scope = {"type": "http", "headers": [(b"host", b"r"), header or length] if pieces or header else []}

    async def receive(self) -> dict[str, Any]:
        piece = self.pieces.pop(0)
        self.happened.append(piece)
        return {"type": "http.request", "body": piece, "more_body": bool(self.pieces)}

    async def send(self, message: Any) -> None:
        self.happened.append(message["type"])


async def refuse(scope: Any, receive: Any, send: Any) -> None:
    await send(START)
    await send(END)


async def test_what_is_left_of_a_body_is_read_before_the_answer_begins() -> None:
    wire = Wire(b"one", b"two", b"three")
    await read_before_answer(refuse, asyncio.Event())(wire.scope, wire.receive, wire.send)
    assert wire.happened == [b"one", b"two", b"three", "http.response.start", "http.response.body"]


async def test_a_body_that_was_read_is_not_waited_for() -> None:
    wire = Wire(b"one", b"two")

    async def read(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["more_body"]:
            pass
        await refuse(scope, receive, send)

    await read_before_answer(read, asyncio.Event())(wire.scope, wire.receive, wire.send)
    assert wire.happened == [b"one", b"two", "http.response.start", "http.response.body"]


async def test_an_application_that_reads_on_after_its_answer_finds_the_end() -> None:
    wire = Wire(b"one", b"two")
    found: list[Any] = []

    async def late(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(START)
        found.append(await receive())
        await send(END)

    await read_before_answer(late, asyncio.Event())(wire.scope, wire.receive, wire.send)
    assert found == [{"type": "http.request", "body": b"", "more_body": False}]


@pytest.mark.parametrize(
    ("header", "read"),
    [
        ((b"content-length", str(MOST_BYTES + 1).encode()), 0),
        ((b"content-length", str(MOST_BYTES).encode()), 3),
        ((b"transfer-encoding", b"chunked"), 3),
        ((b"content-length", b"0"), 0),
    ],
)
async def test_only_what_is_worth_it_is_read(header: tuple[bytes, bytes], read: int) -> None:
    wire = Wire(b"one", b"two", b"three", header=header)
    await read_before_answer(refuse, asyncio.Event())(wire.scope, wire.receive, wire.send)
    assert wire.happened.index("http.response.start") == read


async def test_a_chunked_body_without_an_end_is_read_so_far_and_no_further() -> None:
    piece = bytes(MOST_BYTES // 4)
    wire = Wire(*[piece] * 9, header=(b"transfer-encoding", b"chunked"))
    await read_before_answer(refuse, asyncio.Event())(wire.scope, wire.receive, wire.send)
    assert wire.happened.index("http.response.start") == 4


async def test_a_request_without_a_body_is_passed_on_as_it_is() -> None:
    wire = Wire()
    await read_before_answer(refuse, asyncio.Event())(wire.scope, wire.receive, wire.send)
    assert wire.happened == ["http.response.start", "http.response.body"]


async def test_a_body_that_does_not_end_is_given_up_sooner_while_the_process_stops(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(unread, "MOST_SECONDS", 3600.0)
    monkeypatch.setattr(unread, "LAST_SECONDS", 0.05)
    stop = asyncio.Event()
    wire = Wire(header=(b"transfer-encoding", b"chunked"))
    pieces = [b"one", b"two"]

    async def receive() -> dict[str, Any]:
        if not pieces:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": pieces.pop(0), "more_body": True}

    async def cut_off(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        stop.set()
        await refuse(scope, receive, send)

    await read_before_answer(cut_off, stop)(wire.scope, receive, wire.send)
    assert (pieces, wire.happened) == ([], ["http.response.start", "http.response.body"])
