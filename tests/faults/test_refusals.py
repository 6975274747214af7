"""A refused upload leaves nothing behind, and its client has read the whole answer.

The clients are bare sockets that go on sending while they read, as a library would hide the reset that must not come.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from random import Random

import pytest

from tests.images import digest_of
from tests.pushing import Client, client
from tests.running import Registry, StoreKind, serving

pytestmark = pytest.mark.timeout(600)

REFUSALS = 1000
AT_ONCE = 50
ANNOUNCED = 50 * 1000 * 1000
SMALL = 20_000
PIECE = bytes(64 * 1024)
SETTLE_SECONDS = 90
"""Longer than the registry keeps an idle connection."""

POLICY = """\
version: 1
public:
  - {repositories: ["open/**"], actions: [pull, push]}
  - {repositories: ["closed/**"], actions: [pull]}
"""
MAX_BLOB_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that must be refused: its line, how many bytes follow, how they are announced, and the answer that is due.

    `stubborn`: the client sends all it announced, whatever it is told; others stop and close once they have the answer.
    """

    method: str
    path: str
    length: int
    chunked: bool
    stubborn: bool
    status: int
    code: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client read."""

    status: int
    headers: dict[str, str]
    body: bytes


async def _send(writer: asyncio.StreamWriter, refusal: Refusal) -> None:
    left = refusal.length
    while left > 0:
        piece = PIECE[: min(left, len(PIECE))]
        left -= len(piece)
        writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if refusal.chunked else piece)
        await writer.drain()
    if refusal.chunked:
        writer.write(b"0\r\n\r\n")
        await writer.drain()


async def _read(reader: asyncio.StreamReader) -> Answer:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
    body = await reader.readexactly(int(headers["content-length"]))
    return Answer(int(head[0].split(" ")[1]), headers, body)


async def refused(registry: Registry, refusal: Refusal) -> Answer:
    """Send the request with its body and read the answer meanwhile, whole, whatever becomes of the sending."""
    reader, writer = await asyncio.open_connection("127.0.0.1", registry.port)
    framing = "Transfer-Encoding: chunked" if refusal.chunked else f"Content-Length: {refusal.length}"
    head = f"{refusal.method} {refusal.path} HTTP/1.1\r\nHost: {registry.host}\r\n{framing}\r\n\r\n"
    writer.write(head.encode())
    sending = asyncio.create_task(_send(writer, refusal))
    try:
        answer = await _read(reader)
        if refusal.stubborn:
            await asyncio.gather(sending, return_exceptions=True)
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)
    return answer


def refusals(location: str, chance: Random) -> Iterator[Refusal]:
    """Give what must be refused, in every framing, with small and large bodies, one client in ten a stubborn one."""
    wrong = f"?digest={digest_of(chance.randbytes(16))}"
    whole = f"/v2/open/a/blobs/uploads/{wrong}"
    kinds = (
        ("POST", whole, SMALL, 400, "DIGEST_INVALID"),
        ("PUT", location + wrong, SMALL, 400, "DIGEST_INVALID"),
        ("POST", f"/v2/Open/a/blobs/uploads/{wrong}", SMALL, 400, "NAME_INVALID"),
        ("POST", f"/v2/Open/a/blobs/uploads/{wrong}", ANNOUNCED, 400, "NAME_INVALID"),
        ("POST", f"/v2/closed/a/blobs/uploads/{wrong}", SMALL, 403, "DENIED"),
        ("POST", f"/v2/closed/a/blobs/uploads/{wrong}", ANNOUNCED, 403, "DENIED"),
        ("POST", whole, ANNOUNCED, 413, "SIZE_INVALID"),
        ("PATCH", location, ANNOUNCED, 413, "SIZE_INVALID"),
    )
    for number, (method, path, length, status, code) in enumerate(islice(cycle(kinds), REFUSALS)):
        chunked = bool(number // len(kinds) % 2)
        yield Refusal(method, path, length, chunked, chance.random() < 0.1, status, code)


@dataclass(frozen=True, slots=True)
class Standing:
    """What the server holds at a moment."""

    descriptors: int
    tasks: float


async def standing(registry: Registry, operations: Client) -> Standing:
    """Count the open descriptors of the server, and its tasks."""
    descriptors = len(await asyncio.to_thread(os.listdir, f"/proc/{registry.pid}/fd"))
    page = (await operations.ask("GET", "/metrics")).expect(200).body.decode()
    tasks = dict(line.rsplit(" ", 1) for line in page.splitlines())["edgeproxy_asyncio_tasks"]
    return Standing(descriptors, float(tasks))


async def settled(registry: Registry, operations: Client, baseline: Standing) -> Standing:
    """Wait until no more is held than before; another process can only be polled."""
    for _ in range(SETTLE_SECONDS * 4):
        now = await standing(registry, operations)
        if now.descriptors <= baseline.descriptors and now.tasks <= baseline.tasks:
            break
        await asyncio.sleep(0.25)
    return now


@pytest.fixture(params=["filesystem-hypercorn", "versitygw-hypercorn", "filesystem-granian"])
async def registry(request: pytest.FixtureRequest) -> AsyncIterator[Registry]:
    kind: StoreKind
    kind, server = request.param.split("-")
    async with serving(kind, policy=POLICY, server=server, max_blob_bytes=str(MAX_BLOB_BYTES)) as running:
        yield running


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors in /proc, which this system has not")
async def test_a_thousand_refused_uploads_leave_nothing_behind_and_each_client_reads_its_answer(
    registry: Registry, chance: Random
) -> None:
    gate = asyncio.Semaphore(AT_ONCE)
    wrong: list[str] = []

    async def one(refusal: Refusal) -> None:
        async with gate:
            try:
                answer = await asyncio.wait_for(refused(registry, refusal), 60)
            except (OSError, EOFError, TimeoutError) as error:
                wrong.append(f"{refusal}: {error!r}")
                return
        codes = [error["code"] for error in json.loads(answer.body)["errors"]]
        if (answer.status, codes) != (refusal.status, [refusal.code]):
            wrong.append(f"{refusal}: {answer}")

    # One connection is kept for counting, so that counting adds nothing.
    async with client(registry.operations_url) as operations, client(registry.url) as opener:
        location = await opener.start("open/a")
        await opener.post_put("open/a", b"accepted")  # what is made once is made now
        baseline = await standing(registry, operations)
        await asyncio.gather(*map(one, refusals(location, chance)))
        after = await settled(registry, operations, baseline)
    print(f"{REFUSALS} refusals: {baseline} before, {after} after")

    assert wrong == []
    assert after.descriptors <= baseline.descriptors
    assert after.tasks <= baseline.tasks
