"""The app that honours presigned URLs, in process: its exact answers, its clock, its key, and what it leaves open."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypercorn.asyncio import serve
from hypercorn.config import Config

from edgeproxy.storage import StoreUnavailable
from edgeproxy.storage.file_presign import FilePresigner, url_signing_key
from edgeproxy.storage.filesystem import PIECE_BYTES, FilesystemStore
from edgeproxy.storage.served import served_app

KEY = bytes(range(32))
DATA = random.Random(5).randbytes(4 * PIECE_BYTES)
NOW = 1_750_000_000.5
PROJECT = Path(__file__).parents[3]


@dataclass
class Clock:
    now: float = NOW

    def __call__(self) -> float:
        return self.now


@dataclass
class Answer:
    messages: list[dict[str, Any]] = field(default_factory=list)

    @property
    def status(self) -> int:
        return int(self.messages[0]["status"])

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.messages[0]["headers"])

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.messages[1:])


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[FilesystemStore]:
    opened = await FilesystemStore.open(tmp_path / "store")
    await opened.put("a/b", DATA)
    yield opened
    await opened.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def url(clock: Clock) -> str:
    return (await FilePresigner("http://store.test:5001/", KEY, clock).presign("a/b", 60)).url


def scope_of(url: str, method: str, headers: dict[bytes, bytes]) -> dict[str, Any]:
    parts = urlsplit(url)
    return {
        "type": "http",
        "method": method,
        "raw_path": parts.path.encode(),
        "query_string": parts.query.encode(),
        "headers": list(headers.items()),
    }


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@dataclass
class Caller:
    """Asks the app as a server would."""

    store: FilesystemStore
    clock: Clock

    async def __call__(self, url: str, method: str = "GET", headers: dict[bytes, bytes] | None = None) -> Answer:
        answer = Answer()

        async def receive() -> dict[str, Any]:
            return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

        async def send(message: Any) -> None:
            answer.messages.append(message)

        await served_app(self.store, KEY, self.clock)(scope_of(url, method, headers or {}), receive, send)
        return answer


@pytest.fixture
def ask(store: FilesystemStore, clock: Clock) -> Caller:
    return Caller(store, clock)


async def test_a_url_is_the_endpoint_the_key_and_its_end(url: str) -> None:
    assert url.startswith(f"http://store.test:5001/a/b?expires={int(NOW) + 60}&signature=")


async def test_an_endpoint_may_have_a_path_that_a_proxy_strips(ask: Caller, clock: Clock) -> None:
    url = (await FilePresigner("https://proxy.test/blobs", KEY, clock).presign("a/b", 60)).url
    assert url.startswith("https://proxy.test/blobs/a/b?")
    assert (await ask(url.replace("/blobs/", "/"))).body == DATA
    assert (await ask(url)).status == 403


async def test_the_whole_object_is_answered_with_its_headers(ask: Caller, store: FilesystemStore, url: str) -> None:
    answer = await ask(url)
    assert answer.status == 200
    assert answer.body == DATA
    assert answer.headers[b"etag"].decode() == f'"{(await store.head("a/b")).etag}"'
    assert answer.headers[b"x-content-type-options"] == b"nosniff"
    assert max(len(message["body"]) for message in answer.messages[1:]) <= 1 << 20


async def test_a_url_opens_until_its_second_and_not_from_then_on(ask: Caller, clock: Clock, url: str) -> None:
    clock.now = int(NOW) + 59.9
    assert (await ask(url)).status == 200
    clock.now = int(NOW) + 60
    answer = await ask(url)
    assert answer.status == 403
    assert answer.body == (
        b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code>'
        b"<Message>Request has expired: ask the registry for a new URL.</Message></Error>"
    )
    assert answer.headers[b"content-length"] == str(len(answer.body)).encode()


async def test_another_key_signs_nothing_here(ask: Caller, clock: Clock) -> None:
    forged = (await FilePresigner("http://store.test:5001", bytes(32), clock).presign("a/b", 60)).url
    answer = await ask(forged)
    assert answer.status == 403
    assert b"<Code>SignatureDoesNotMatch</Code>" in answer.body


async def test_keys_that_are_none_are_not_signed(clock: Clock) -> None:
    with pytest.raises(ValueError, match="not a key"):
        await FilePresigner("http://store.test", KEY, clock).presign("../etc/passwd", 60)


async def test_an_authorization_header_is_refused_so_that_a_leaking_client_is_noticed(ask: Caller, url: str) -> None:
    answer = await ask(url, headers={b"Authorization": b"Bearer secret"})
    assert answer.status == 400
    assert b"<Code>InvalidArgument</Code>" in answer.body
    assert b"secret" not in answer.body
    assert (await ask(url, headers={b"x-other": b"Bearer secret"})).status == 200


async def test_head_is_refused_as_the_url_was_signed_for_get(ask: Caller, url: str) -> None:
    assert (await ask(url, "HEAD")).status == 403
    assert (await ask(url, "GET")).status == 200


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "PATCH", "OPTIONS"])
async def test_other_methods_are_not_allowed(ask: Caller, url: str, method: str) -> None:
    answer = await ask(url, method)
    assert (answer.status, answer.headers[b"allow"]) == (405, b"GET")


@pytest.mark.parametrize(
    "wanted",
    ["bytes=0-1,4-5", "bytes=5-4", "bytes=", "bytes=-", "bytes=a-b", "lines=0-1", "bytes 0-1", "bytes=1-2-3", ""],
)
async def test_several_ranges_or_none_that_parses_get_the_whole(ask: Caller, url: str, wanted: str) -> None:
    answer = await ask(url, headers={b"range": wanted.encode()})
    assert (answer.status, len(answer.body)) == (200, len(DATA))
    assert b"content-range" not in answer.headers


@pytest.mark.parametrize("wanted", [f"bytes={len(DATA)}-", f"bytes={len(DATA)}-{len(DATA) + 5}", "bytes=-0"])
async def test_a_range_that_cannot_be_satisfied_says_how_large_the_object_is(
    ask: Caller, url: str, wanted: str
) -> None:
    answer = await ask(url, headers={b"range": wanted.encode()})
    assert answer.status == 416
    assert answer.headers[b"content-range"] == b"bytes */%d" % len(DATA)
    assert b"<Code>InvalidRange</Code>" in answer.body
    last = await ask(url, headers={b"range": b"bytes=%d-" % (len(DATA) - 1)})
    assert (last.status, last.body) == (206, DATA[-1:])


async def test_if_range_gives_the_part_of_the_same_version_only(ask: Caller, store: FilesystemStore, url: str) -> None:
    etag = (await store.head("a/b")).etag.encode()
    same = await ask(url, headers={b"range": b"bytes=0-1", b"if-range": b'"%b"' % etag})
    assert (same.status, same.body) == (206, DATA[:2])
    for other in (b'"another"', b"Wed, 21 Oct 2015 07:28:00 GMT"):
        whole = await ask(url, headers={b"range": b"bytes=0-1", b"if-range": other})
        assert (whole.status, len(whole.body)) == (200, len(DATA))


async def test_a_client_that_leaves_ends_the_reading(store: FilesystemStore, clock: Clock, url: str) -> None:
    await store.head("a/b")
    before = descriptors()
    sent: list[Any] = []
    left = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if not left.is_set():
            await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)
        if len(sent) == 2:
            left.set()

    await served_app(store, KEY, clock)(scope_of(url, "GET", {}), receive, send)
    assert len(sent) < 2 + len(DATA) // PIECE_BYTES
    assert sent[-1]["more_body"]
    assert descriptors() == before


async def test_a_file_that_shrinks_while_it_is_sent_cuts_the_answer(
    ask: Caller, store: FilesystemStore, clock: Clock, url: str, tmp_path: Path
) -> None:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    async def send(message: Any) -> None:
        sent.append(message)
        os.truncate(tmp_path / "store/objects/a/b", PIECE_BYTES)

    with pytest.raises(StoreUnavailable):
        await served_app(store, KEY, clock)(scope_of(url, "GET", {}), receive, send)
    assert sent[-1]["type"] == "http.response.start" or sent[-1]["more_body"]


async def test_a_store_that_fails_is_answered_503_and_logged(
    ask: Caller, store: FilesystemStore, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    await store.close()
    answer = await ask(url)
    assert (answer.status, answer.headers[b"retry-after"]) == (503, b"1")
    assert "the store is closed" in caplog.text
    assert urlsplit(url).query not in caplog.text


async def test_descriptors_are_closed_when_connections_are_lost(store: FilesystemStore, clock: Clock) -> None:
    await store.put("big", b"x" * 20_000_000)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    stop = asyncio.Event()
    server = asyncio.create_task(serve(served_app(store, KEY, clock), config, shutdown_trigger=stop.wait))  # type: ignore[arg-type]
    parts = urlsplit((await FilePresigner("http://127.0.0.1", KEY, clock).presign("big", 60)).url)
    request = f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    counts = []
    for _ in range(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.transport.abort()
        # The file is closed as soon as the server sees the loss; the test's own time limit ends a wait for ever.
        while any(path.name == "big" for path in open_files()):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        counts.append(descriptors())
    assert counts[-1] <= counts[0] + 1
    stop.set()
    await server


def open_files() -> list[Path]:
    paths = []
    for descriptor in Path("/proc/self/fd").iterdir():
        # The descriptor of the listing itself has gone by now.
        with suppress(FileNotFoundError):
            paths.append(descriptor.readlink())
    return paths


async def test_the_life_of_the_server_is_acknowledged(store: FilesystemStore, clock: Clock) -> None:
    received = iter(["lifespan.startup", "lifespan.shutdown"])
    sent: list[str] = []

    async def receive() -> dict[str, Any]:
        return {"type": next(received)}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await served_app(store, KEY, clock)({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_a_websocket_is_closed(store: FilesystemStore, clock: Clock) -> None:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await served_app(store, KEY, clock)({"type": "websocket"}, receive, send)
    assert sent == [{"type": "websocket.close"}]


# The key of the signatures


async def test_the_key_is_made_once_and_is_its_owners_only(store: FilesystemStore, tmp_path: Path) -> None:
    root = tmp_path / "store"
    key = url_signing_key(root)
    assert len(key) == 32
    assert url_signing_key(root) == key
    assert (root / "url-signing-key").stat().st_mode & 0o777 == 0o600
    assert list((root / "tmp").iterdir()) == []


async def test_processes_that_make_the_key_at_once_agree(store: FilesystemStore, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from edgeproxy.storage.file_presign import url_signing_key\n"
        "sys.stdin.readline(); print(url_signing_key(Path(sys.argv[1])).hex())"
    )
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, str(tmp_path / "store"),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=PROJECT,
        )
        for _ in range(4)
    ]  # fmt: skip
    answers = await asyncio.gather(*[process.communicate(b"go\n") for process in processes])
    assert len({answer for answer, _ in answers}) == 1
    assert answers[0][0].strip().decode() == url_signing_key(tmp_path / "store").hex()


async def test_a_key_file_that_is_no_key_is_refused(store: FilesystemStore, tmp_path: Path) -> None:
    path = tmp_path / "store/url-signing-key"
    for content in (b"", b"short", bytes(33)):
        path.write_bytes(content)
        with pytest.raises(StoreUnavailable, match="not a key of 32 bytes"):
            url_signing_key(tmp_path / "store")
    path.write_bytes(KEY)
    assert url_signing_key(tmp_path / "store") == KEY
    with pytest.raises(StoreUnavailable, match="own the directory"):
        url_signing_key(tmp_path / "nowhere")
