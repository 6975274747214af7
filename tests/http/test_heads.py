"""Request heads as they come off the wire, through the real server: what two parsers could read differently is refused and the connection ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edgeproxy.oci.errors import BadRequest
from edgeproxy.web.heads import Head
from tests.http.harness import House, digest_of, listening, on_directory

BLOB = b"blob"
TARGET = f"/v2/acme/app/blobs/{digest_of(BLOB)}"


class Wire:
    """A connection on which a test writes bytes of its own."""

    def __init__(self, house: House, host: str, port: int) -> None:
        self.house = house
        self._address = host, port

    async def send(self, request: bytes) -> tuple[int, bytes, bool]:
        """Send bytes; give status and bytes of the first answer, and whether the server ended the connection after it."""
        reader, writer = await asyncio.open_connection(*self._address)
        try:
            writer.write(request)
            await writer.drain()
            head = await reader.readuntil(b"\r\n\r\n")
            status = int(head.split(b" ", 2)[1])
            length = next(
                (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
            )
            body = await reader.readexactly(length)
            writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
            try:
                closed = await reader.read(1) == b""
            except ConnectionError:
                closed = True
            return status, head + body, closed
        finally:
            writer.close()


@pytest.fixture
async def wire(tmp_path: Path) -> AsyncIterator[Wire]:
    async with on_directory(tmp_path) as house:
        await house.push_blob("acme/app", BLOB)
        async with listening(house.app) as (host, port):
            yield Wire(house, host, port)


def request(
    target: str = "/v2/", *headers: str, method: str = "GET", version: str = "HTTP/1.1", body: bytes = b""
) -> bytes:
    lines = [f"{method} {target} {version}", *(headers or ("host: registry.example",)), "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


async def test_an_ordinary_request_is_answered_and_the_connection_stays(wire: Wire) -> None:
    status, answer, closed = await wire.send(request())
    assert (status, closed) == (200, False)
    assert answer.endswith(b"{}")


async def test_a_body_that_is_framed_in_two_ways_is_refused_and_the_connection_ends(wire: Wire) -> None:
    body = b"4\r\nblob\r\n0\r\n\r\n"
    target = f"/v2/acme/app/blobs/uploads/?digest={digest_of(BLOB)}"
    twice = ("host: x", "content-length: 4", "transfer-encoding: chunked")
    status, answer, closed = await wire.send(request(target, *twice, method="POST", body=body))
    assert (status, closed) == (400, True)
    assert b"frames its body in two ways" in answer or b"content-length: 0" in answer
    status, _, _ = await wire.send(request(target, "host: x", "transfer-encoding: chunked", method="POST", body=body))
    assert status == 201


@pytest.mark.parametrize(
    "headers",
    [
        ("content-length: 4", "content-length: 5"),
        ("content-length: 4, 5",),
        ("content-length: +4",),
        ("content-length: 0x4",),
        ("content-length: -1",),
        ("content-length: 4 4",),
        ("content-length: 99999999999999999999999999",),
        ("transfer-encoding: gzip, chunked",),
        ("transfer-encoding: chunked, identity",),
        ("transfer-encoding: xchunked",),
        ("transfer-encoding: chunked", "transfer-encoding: chunked"),
    ],
)
async def test_a_length_that_is_not_one_number_is_refused(wire: Wire, headers: tuple[str, ...]) -> None:
    target = f"/v2/acme/app/blobs/uploads/?digest={digest_of(BLOB)}"
    status, _, closed = await wire.send(request(target, "host: x", *headers, method="POST", body=BLOB))
    assert status in {400, 501}
    assert closed
    status, _, _ = await wire.send(request(target, "host: x", "content-length: 4", method="POST", body=BLOB))
    assert status == 201


@pytest.mark.parametrize("size", ["zz", "-1", "0x4", "1" * 40])
async def test_a_chunk_size_that_is_none_is_refused_or_ends_the_connection(wire: Wire, size: str) -> None:
    target = f"/v2/acme/app/blobs/uploads/?digest={digest_of(BLOB)}"
    headers = ("host: x", "transfer-encoding: chunked")
    body = f"{size}\r\nblob\r\n0\r\n\r\n".encode()
    try:
        status, _, closed = await wire.send(request(target, *headers, method="POST", body=body))
    except (asyncio.IncompleteReadError, ConnectionError):
        status, closed = 400, True
    assert (status, closed) == (400, True)
    assert [info.key async for info in wire.house.store.list("uploads/")] == []


@pytest.mark.parametrize("version", ["HTTP/9.9", "HTTP/1.2", "HTTP/0.9", "HTTP/2.0", "HTTP/1.1x", "http/1.1"])
async def test_an_http_version_that_does_not_exist_is_refused(wire: Wire, version: str) -> None:
    status, _, closed = await wire.send(request(version=version))
    assert status in {400, 505}
    assert closed


@pytest.mark.parametrize(
    "target",
    ["http://registry.example/v2/", "http://evil.example/v2/acme/app/tags/list", "*", "v2/", "registry.example:443"],
)
async def test_a_target_that_is_no_path_is_refused(wire: Wire, target: str) -> None:
    status, _, _ = await wire.send(request(target))
    assert status in {400, 404}
    assert (await wire.send(request("/v2/")))[0] == 200


@pytest.mark.parametrize(
    "line",
    [
        "GET /v2/ acme HTTP/1.1",
        "GET  /v2/ HTTP/1.1",
        "GET /v2/\tx HTTP/1.1",
        "GET /v2/\x00 HTTP/1.1",
        "GET /v2/\r/x HTTP/1.1",
        "GET /v2/\xff HTTP/1.1",
    ],
)
async def test_a_request_line_with_what_none_has_is_refused(wire: Wire, line: str) -> None:
    try:
        status, _, closed = await wire.send(f"{line}\r\nhost: x\r\n\r\n".encode("latin-1"))
    except (asyncio.IncompleteReadError, ConnectionError):
        status, closed = 400, True
    assert status == 400
    assert closed


@pytest.mark.parametrize("header", ["x-request-id: a\rb", "x-request-id: a\x00b", "x y: z", "x-folded: a\r\n b\x00"])
async def test_a_header_with_what_none_has_is_refused(wire: Wire, header: str) -> None:
    status, _, closed = await wire.send(request("/v2/", "host: x", header))
    assert (status, closed) == (400, True)


async def test_a_folded_header_is_no_way_to_inject_another(wire: Wire) -> None:
    _, answer, _ = await wire.send(request("/v2/", "host: x", "x-request-id: a\r\n x-injected: b"))
    assert b"x-injected" not in answer


@pytest.mark.parametrize(
    "host", ["evil.example/v2/public?", "a b", "", "[::1", "x\\y", "registry.example:99999999", "a" * 5000]
)
async def test_the_host_decides_nothing(wire: Wire, host: str) -> None:
    status, answer, _ = await wire.send(request(TARGET, f"host: {host}"))
    assert status in {307, 400}
    if status == 307:
        assert b"location: http://store.example/blobs/" in answer


async def test_two_hosts_are_refused_or_decide_nothing(wire: Wire) -> None:
    status, answer, _ = await wire.send(request(TARGET, "host: a", "host: b"))
    assert status == 400 or b"location: http://store.example/blobs/" in answer


async def test_a_websocket_is_refused(wire: Wire) -> None:
    upgrade = (
        "host: x",
        "connection: upgrade",
        "upgrade: websocket",
        "sec-websocket-version: 13",
        "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
    )
    for target in ("/v2/", "/healthz"):
        status, _, _ = await wire.send(request(target, *upgrade))
        assert status == 403


async def test_a_head_of_sixty_thousand_bytes_is_read_and_one_of_seventy_thousand_is_not(wire: Wire) -> None:
    status, _, _ = await wire.send(request("/v2/", "host: x", f"x-large: {'a' * 60_000}"))
    assert status == 200
    try:
        status, _, closed = await wire.send(request("/v2/", "host: x", f"x-large: {'a' * 140_000}"))
    except (asyncio.IncompleteReadError, ConnectionError):
        status, closed = 431, True
    assert status in {400, 431}
    assert closed


async def test_a_head_names_its_length_and_sends_no_byte_of_it(wire: Wire) -> None:
    reader, writer = await asyncio.open_connection(*wire._address)
    writer.write(request(TARGET, method="HEAD") + request("/v2/"))
    head = await reader.readuntil(b"\r\n\r\n")
    assert b"content-length: 4" in head
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    writer.close()


@pytest.mark.parametrize("version", ["1.0", "1"])
def test_http_1_0_is_taken_however_the_server_names_it(version: str) -> None:
    scope = {"http_version": version, "method": "GET", "headers": [], "raw_path": b"/readyz", "query_string": b""}
    assert Head.read(scope).raw_path == b"/readyz"
    with pytest.raises(BadRequest, match="does not exist"):
        Head.read({**scope, "http_version": "0.9"})
