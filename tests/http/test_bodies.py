"""Request bodies: slow senders, refusals while a body is still arriving, and what is left over afterwards: nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from edgeproxy.oci.errors import BadRequest, ManifestTooLarge, RequestTimeout
from edgeproxy.web import bodies
from edgeproxy.web.bodies import SLOW_BYTES, SLOW_SECONDS, ClientGone, Message, RequestBody
from edgeproxy.web.heads import Head
from tests.http.harness import House, bearer, digest_of, identity, listening, on_directory

POLICY = """\
version: 1
issuers:
  ci: {url: "https://ci.example", audiences: [r]}
rules:
  - {name: mine, issuer: ci, match: {team: a}, allow: [{repositories: ["acme/**"], actions: [pull, push]}]}
"""
ANNOUNCED = 50 * 1024 * 1024


class Sender:
    """The sending side of a body, in time of its own: each piece comes after so many seconds of the loop's clock."""

    def __init__(
        self, pieces: list[tuple[float, bytes | None]], pass_time: Callable[[float], None] = lambda _: None
    ) -> None:
        self._pass_time = pass_time
        self._pieces = pieces

    async def receive(self) -> Message:
        if not self._pieces:
            return {"type": "http.disconnect"}
        seconds, piece = self._pieces.pop(0)
        self._pass_time(seconds)
        if piece is None:
            return {"type": "http.request", "body": b"", "more_body": False}
        return {"type": "http.request", "body": piece, "more_body": True}


class Clocked(asyncio.SelectorEventLoop):
    """A loop whose clock can be put forward."""

    offset = 0.0

    def pass_time(self, seconds: float) -> None:
        self.offset += seconds

    def time(self) -> float:
        return super().time() + self.offset


def head(length: int | None = None) -> Head:
    return Head("PUT", b"/v2/", b"", {}, length, has_body=True, peer="")


def read(pieces: list[tuple[float, bytes | None]], length: int | None = None) -> bytes:
    """Read a body that arrives as given."""
    loop = Clocked()

    async def story() -> bytes:
        body = RequestBody(Sender(pieces, loop.pass_time).receive, head(length))
        return b"".join([piece async for piece in body.chunks()])

    try:
        return loop.run_until_complete(story())
    finally:
        loop.close()


def test_a_sender_slower_than_64_kib_a_second_over_30_s_is_given_up() -> None:
    rate = SLOW_BYTES / SLOW_SECONDS
    assert rate == 64 * 1024
    slow = [(1.0, b"x" * int(rate * 0.9)) for _ in range(60)]
    with pytest.raises(RequestTimeout, match="64 KiB/s over 30 s"):
        read([*slow, (0.0, None)])
    enough = [(1.0, b"x" * int(rate * 1.1)) for _ in range(60)]
    assert len(read([*enough, (0.0, None)])) == 60 * int(rate * 1.1)


def test_a_pause_within_a_body_that_is_fast_enough_is_no_reason_to_give_up() -> None:
    pieces = [(0.1, b"x" * 1_000_000) for _ in range(5)]
    assert len(read([*pieces, (20.0, b"x"), (0.0, None)])) == 5_000_001


def test_time_in_which_nobody_reads_does_not_count() -> None:
    loop = Clocked()

    async def story() -> int:
        sender = Sender([(0.0, b"x") for _ in range(5)] + [(0.0, None)])
        size = 0
        async for piece in RequestBody(sender.receive, head()).chunks():
            size += len(piece)
            loop.offset += 100.0  # The store is slow, not the sender.
        return size

    try:
        assert loop.run_until_complete(story()) == 5
    finally:
        loop.close()


def test_a_client_that_goes_away_ends_the_body() -> None:
    with pytest.raises(ClientGone):
        read([(0.0, b"x")])


@pytest.mark.parametrize("length", [3, 5])
def test_a_body_that_has_another_length_than_announced_is_refused(length: int) -> None:
    with pytest.raises(BadRequest, match="4 bytes"):
        read([(0.0, b"blob"), (0.0, None)], length)
    assert read([(0.0, b"blob"), (0.0, None)], 4) == b"blob"


async def test_a_small_body_is_read_up_to_its_limit_announced_or_not() -> None:
    too_large = ManifestTooLarge("too large")
    for length in (None, 4, 5):
        pieces: list[tuple[float, bytes | None]] = [(0.0, b"x" * (length or 5)), (0.0, None)]
        body = RequestBody(Sender(pieces).receive, head(length))
        if length == 4:
            assert await body.read(4, too_large) == b"xxxx"
        else:
            with pytest.raises(ManifestTooLarge):
                await body.read(4, too_large)


async def test_draining_ends_with_the_body_or_at_the_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "DRAIN_BYTES", 10)
    short: list[tuple[float, bytes | None]] = [(0.0, b"xxxx"), (0.0, None)]
    assert await RequestBody(Sender(short).receive, head()).drain() is True
    long: list[tuple[float, bytes | None]] = [(0.0, b"xxxx") for _ in range(10)]
    assert await RequestBody(Sender(long).receive, head()).drain() is False
    assert len(long) == 7
    odd: list[tuple[float, bytes | None]] = [(0.0, b"xxxx"), (0.0, None)]
    assert await RequestBody(Sender(odd).receive, head(9)).drain() is False


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    callers = {"a": bearer(identity(team="a"))}
    async with on_directory(tmp_path, policy=POLICY, callers=callers, max_blob_bytes=1024 * 1024) as found:
        yield found


def open_sockets() -> int:
    """Count the sockets of this process."""
    count = 0
    for entry in Path("/proc/self/fd").iterdir():
        try:
            count += str(entry.readlink()).startswith("socket:")
        except FileNotFoundError:
            pass  # That of the listing itself.
    return count


async def settled(tasks: int, sockets: int) -> bool:
    """Wait until no more tasks and sockets are there than given; false if they stay."""
    for _ in range(500):
        if len(asyncio.all_tasks()) <= tasks and open_sockets() <= sockets:
            return True
        await asyncio.sleep(0.02)
    return False


async def upload(address: tuple[str, int], head: str, body: int, *, chunked: bool = False) -> tuple[int, bytes]:
    """Send a request with a large body at full speed and read the answer meanwhile; give its status and body."""
    reader, writer = await asyncio.open_connection(*address)
    framing = "transfer-encoding: chunked" if chunked else f"content-length: {body}"
    writer.write(f"{head}\r\nhost: x\r\n{framing}\r\n\r\n".encode())

    async def send() -> None:
        piece = b"x" * 65536
        framed = b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece
        try:
            for _ in range(body // len(piece)):
                writer.write(framed)
                await writer.drain()
        except ConnectionError:
            pass  # The server may end the connection after its answer.

    sending = asyncio.create_task(send())
    try:
        answer = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        content = await reader.readexactly(length)
    finally:
        sending.cancel()
        await asyncio.wait([sending])
        writer.close()
    return int(answer.split(b" ")[1]), content


REFUSED = {
    "no credential": ("PATCH /v2/acme/app/blobs/uploads/x HTTP/1.1", 401, "UNAUTHORIZED"),
    "a credential that is not believed": (
        "PATCH /v2/acme/app/blobs/uploads/x HTTP/1.1\r\nauthorization: Bearer z",
        401,
        "UNAUTHORIZED",
    ),
    "another's repository": ("PUT /v2/other/app/manifests/x HTTP/1.1\r\nauthorization: Bearer a", 403, "DENIED"),
    "no such session": (
        "PUT /v2/acme/app/blobs/uploads/x?digest=" + digest_of(b"") + " HTTP/1.1\r\nauthorization: Bearer a",
        404,
        "BLOB_UPLOAD_UNKNOWN",
    ),
    "no such name": ("POST /v2/ACME/blobs/uploads/ HTTP/1.1\r\nauthorization: Bearer a", 400, "NAME_INVALID"),
    "too large": (
        "POST /v2/acme/app/blobs/uploads/?digest=" + digest_of(b"") + " HTTP/1.1\r\nauthorization: Bearer a",
        413,
        "SIZE_INVALID",
    ),
    "too large a manifest": (
        "PUT /v2/acme/app/manifests/x HTTP/1.1\r\nauthorization: Bearer a",
        413,
        "MANIFEST_INVALID",
    ),
}


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
async def test_a_client_that_is_still_sending_reads_the_whole_refusal_and_nothing_is_left(
    house: House, case: tuple[str, int, str], chunked: bool
) -> None:
    head, status, code = case
    async with listening(house.app) as address:
        (await warm(address)).close()
        tasks, sockets = len(asyncio.all_tasks()), open_sockets()
        answers = await asyncio.gather(*(upload(address, head, ANNOUNCED, chunked=chunked) for _ in range(5)))
        assert [(answer[0], json.loads(answer[1])["errors"][0]["code"]) for answer in answers] == [(status, code)] * 5
        assert await settled(tasks, sockets)
        assert house.registry.budget.used == 0


async def warm(address: tuple[str, int]) -> asyncio.StreamWriter:
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"GET /v2/ HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    await reader.read()
    return writer


async def test_a_hundred_refused_uploads_leave_no_task_and_no_socket(house: House) -> None:
    head, status, _ = REFUSED["no credential"]
    async with listening(house.app) as address:
        (await warm(address)).close()
        tasks, sockets = len(asyncio.all_tasks()), open_sockets()
        gate = asyncio.Semaphore(20)

        async def one() -> tuple[int, bytes]:
            async with gate:
                return await upload(address, head, ANNOUNCED)

        answers = await asyncio.gather(*(one() for _ in range(100)))
        assert {answer[0] for answer in answers} == {status}
        assert all(json.loads(answer[1])["errors"] for answer in answers)
        assert await settled(tasks, sockets)


@pytest.mark.parametrize("target", ["/healthz", "/nothing", "http://x/v2/"])
async def test_bodies_that_no_route_reads_leave_nothing_either(house: House, target: str) -> None:
    async with listening(house.app) as address:
        (await warm(address)).close()
        tasks, sockets = len(asyncio.all_tasks()), open_sockets()
        answers = await asyncio.gather(*(upload(address, f"POST {target} HTTP/1.1", ANNOUNCED) for _ in range(10)))
        assert {answer[0] for answer in answers} <= {400, 404, 405}
        assert await settled(tasks, sockets)


async def test_a_body_framed_in_two_ways_leaves_nothing_either(house: House) -> None:
    async with listening(house.app) as address:
        (await warm(address)).close()
        tasks, sockets = len(asyncio.all_tasks()), open_sockets()
        head = f"PATCH /v2/acme/app/blobs/uploads/x HTTP/1.1\r\ncontent-length: {ANNOUNCED}"
        answers = await asyncio.gather(*(upload(address, head, ANNOUNCED, chunked=True) for _ in range(10)))
        assert {answer[0] for answer in answers} == {400}
        assert await settled(tasks, sockets)


async def test_clients_that_go_away_in_the_midst_of_an_upload_leave_nothing(house: House) -> None:
    async with listening(house.app) as address:
        (await warm(address)).close()
        tasks, sockets = len(asyncio.all_tasks()), open_sockets()
        location = await house.start_upload("acme/app", as_="a")
        for _ in range(10):
            _, writer = await asyncio.open_connection(*address)
            writer.write(
                f"PATCH {location} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer a\r\ncontent-length: 1000000\r\n\r\n".encode()
            )
            writer.write(b"x" * 1000)
            await writer.drain()
            writer.close()
        assert await settled(tasks, sockets)
        assert house.registry.budget.used == 0
        left = [info.key async for info in house.store.list("uploads/")]
        assert [key for key in left if "/data/" in key] == []


async def test_a_connection_serves_on_after_a_refusal_whose_body_was_read_to_its_end(house: House) -> None:
    async with listening(house.app) as address:
        reader, writer = await asyncio.open_connection(*address)
        body = b"x" * 300_000
        for _ in range(3):
            writer.write(
                b"PATCH /v2/acme/app/blobs/uploads/x HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
                + body
            )
            answer = await reader.readuntil(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 401")
            length = next(
                int(line[15:]) for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length:")
            )
            await reader.readexactly(length)
        writer.close()


async def test_a_body_beyond_the_cap_of_draining_ends_its_connection_and_leaves_nothing(house: House) -> None:
    head, status, _ = REFUSED["no credential"]
    async with listening(house.app) as address:
        (await warm(address)).close()
        tasks, sockets = len(asyncio.all_tasks()), open_sockets()
        answers = await asyncio.gather(*(upload(address, head, 4 * ANNOUNCED) for _ in range(4)))
        assert {answer[0] for answer in answers} == {status}
        assert await settled(tasks, sockets)
