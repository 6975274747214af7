"""Uploads as objects: what is written in which order, what is asked of the store, what is left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest

from edgeproxy.oci.errors import BlobUploadUnknown, DigestInvalid
from edgeproxy.oci.names import Digest, Repository
from edgeproxy.registry.sessions import Session
from edgeproxy.registry.states import Segment, SessionStates
from edgeproxy.registry.streams import Body
from edgeproxy.registry.uploads import OutOfOrder, Uploads
from edgeproxy.storage import Store, StoreUnavailable, keys
from tests.http.harness import House, on_directory
from tests.interleaving import Interleaved

APP = Repository("acme/app")
MIB = 1024 * 1024


class Room:
    """The uploads of a registry, and its store."""

    def __init__(self, house: House, store: Interleaved) -> None:
        self.house = house
        self.store = store
        self.uploads: Uploads = house.registry.uploads

    async def left(self) -> list[str]:
        return [info.key async for info in self.store.list("")]


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    stores: list[Interleaved] = []

    def wrap(store: Store) -> Interleaved:
        stores.append(Interleaved(store))
        return stores[0]

    async with on_directory(tmp_path, wrap=wrap, upload_memory_bytes=32 * MIB) as house:
        yield Room(house, stores[0])


async def chunks(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def body(*pieces: bytes, length: bool = True) -> Body:
    return Body(chunks(*pieces), sum(map(len, pieces)) if length else None)


def test_the_object_of_a_state_gives_its_segment_back() -> None:
    segment = Segment("n", 5, 7, Digest.of(b"x", "sha512"))
    assert Segment.load(segment.dump()) == segment
    assert segment.end == 12


async def test_a_chunk_is_written_before_the_state_that_names_it(room: Room) -> None:
    session = await room.uploads.append(room.uploads.start(), body(b"abc"), 0)
    written = [key for operation, key in room.store.calls if operation == "put"]
    assert [key.split("/")[2] for key in written] == ["00000000", "data", "00000001"]
    assert (session.sequence, session.offset) == (1, 3)


async def test_the_commit_of_one_chunk_copies_inside_the_store_and_reads_nothing(room: Room) -> None:
    session = await room.uploads.append(room.uploads.start(), body(b"abc", length=False), None)
    room.store.calls.clear()
    await room.uploads.finish(APP, session, Digest.of(b"abc"), None, None)
    operations = [operation for operation, _ in room.store.calls]
    assert operations.count("copy") == 1
    assert "stream" not in operations
    assert await room.left() == [keys.blob(Digest.of(b"abc")), keys.link(APP, Digest.of(b"abc"))]


async def test_several_large_chunks_are_joined_and_hashed_again(room: Room) -> None:
    content = Random(5).randbytes(21 * MIB)
    session = room.uploads.start()
    for begin, end in ((0, 9 * MIB), (9 * MIB, 10 * MIB + 1), (10 * MIB + 1, 21 * MIB)):
        session = await room.uploads.append(session, body(content[begin:end]), begin)
    digest = Digest.of(content)
    await room.uploads.finish(APP, session, digest, None, None)
    _, stored = await room.store.read(keys.blob(digest), 32 * MIB)
    assert stored == content
    assert await room.left() == [keys.blob(digest), keys.link(APP, digest)]
    assert room.house.registry.budget.used == 0


async def test_bytes_that_changed_between_chunk_and_commit_do_not_become_a_blob(room: Room) -> None:
    session = room.uploads.start()
    for number, piece in enumerate((b"abc", b"def")):
        session = await room.uploads.append(session, body(piece), number * 3)
    found = [info.key async for info in room.store.list(f"uploads/{session.upload}/data/")]
    await room.store.put(found[0], b"xyz")
    with pytest.raises(DigestInvalid):
        await room.uploads.finish(APP, session, Digest.of(b"abcdef"), None, None)
    assert await room.left() == []


async def test_the_caller_that_stops_waiting_does_not_stop_the_commit(room: Room) -> None:
    session = await room.uploads.append(room.uploads.start(), body(b"abc"), 0)
    stop = room.store.stop("copy", "blobs/*")
    waiting = asyncio.create_task(room.uploads.finish(APP, session, Digest.of(b"abc"), None, None))
    await stop.reached.wait()
    waiting.cancel()
    await asyncio.wait([waiting])
    stop.go()
    await room.uploads.wait_for_commits()
    assert keys.link(APP, Digest.of(b"abc")) in await room.left()
    await room.uploads.finish(APP, session, Digest.of(b"abc"), None, None)


async def test_a_commit_that_the_store_fails_leaves_the_session_usable(room: Room) -> None:
    session = await room.uploads.append(room.uploads.start(), body(b"abc"), 0)
    for failing in ("blobs/*", "repos/*"):
        room.store.failing = failing
        with pytest.raises(StoreUnavailable):
            await room.uploads.finish(APP, session, Digest.of(b"abc"), None, None)
    room.store.failing = ""
    await room.uploads.finish(APP, session, Digest.of(b"abc"), None, None)


@pytest.mark.parametrize("size", [3, 20 * MIB])
async def test_a_chunk_that_the_store_fails_gives_its_memory_back_and_can_be_sent_again(room: Room, size: int) -> None:
    session = room.uploads.start()
    content = b"x" * size
    room.store.failing = "uploads/*"
    with pytest.raises(StoreUnavailable):
        await room.uploads.append(session, body(content), 0)
    assert room.house.registry.budget.used == 0
    room.store.failing = ""
    session = await room.uploads.append(session, body(content), 0)
    await room.uploads.finish(APP, session, Digest.of(content), None, None)


async def test_an_upload_that_is_cut_off_in_the_midst_of_parts_leaves_no_byte_and_no_grant(room: Room) -> None:
    stop = room.store.stop("write", "blobs/*", times=3)
    content = [b"x" * MIB] * 30
    digest = Digest.of(b"".join(content))
    uploading = asyncio.create_task(room.uploads.store_whole(APP, digest, body(*content)))
    await stop.reached.wait()
    uploading.cancel()
    await asyncio.wait([uploading])
    assert uploading.cancelled()
    stop.go()
    assert room.house.registry.budget.used == 0
    assert await room.left() == []
    await room.uploads.store_whole(APP, digest, body(*content))


async def test_a_segment_whose_state_was_lost_to_a_rival_is_deleted(room: Room) -> None:
    session = room.uploads.start()
    await room.uploads.append(session, body(b"abc"), 0)
    with pytest.raises(OutOfOrder) as late:
        await room.uploads.append(session, body(b"defg"), 0)
    assert (late.value.standing.sequence, late.value.standing.offset) == (1, 3)
    assert len([key for key in await room.left() if "/data/" in key]) == 1


async def test_a_state_written_twice_because_its_answer_was_lost_is_its_own_winner(room: Room) -> None:
    session = room.uploads.start()
    after = await room.uploads.append(session, body(b"abc"), 0)
    states = SessionStates(room.store)
    segment = await states.segment(session.upload, 1)
    assert await states.win(session, segment)
    assert not await states.win(session, Segment("another", 0, 3, segment.digest))
    assert after.offset == 3


async def test_a_finished_session_is_unknown(room: Room) -> None:
    session = await room.uploads.append(room.uploads.start(), body(b"abc"), 0)
    await room.uploads.finish(APP, session, Digest.of(b"abc"), None, None)
    for attempt in (
        room.uploads.standing(session),
        room.uploads.append(session, body(b"d"), 3),
        room.uploads.cancel(session),
    ):
        with pytest.raises(BlobUploadUnknown):
            await attempt


async def test_more_chunks_than_an_upload_may_have_are_refused(room: Room) -> None:
    session = Session("a" * 32, 10_000, 5, "sha256", 2**40)
    await room.store.put(keys.state(session.upload, 10_000), Segment("n", 0, 5, Digest.of(b"x")).dump())
    with pytest.raises(Exception, match="at most 10000 chunks"):
        await room.uploads.append(session, body(b"x"), 5)


@pytest.mark.parametrize("length", [True, False])
async def test_an_empty_chunk_changes_nothing_and_leaves_no_bytes(room: Room, length: bool) -> None:
    session = room.uploads.start()
    assert await room.uploads.append(session, body(b"", length=length), None) == session
    # Of a chunk that turned out to be empty the mark that the session is open stays: a rival may count on it.
    assert await room.left() == ([] if length else [f"uploads/{session.upload}/00000000"])


async def test_a_rival_that_is_slower_than_the_commit_finds_its_session_gone(room: Room) -> None:
    session = room.uploads.start()
    began, ended = asyncio.Event(), asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        began.set()
        await ended.wait()
        yield b"slow"

    rival = asyncio.create_task(room.uploads.append(session, Body(slowly(), 4), 0))
    await began.wait()
    winner = await room.uploads.append(session, body(b"abc"), 0)
    await room.uploads.finish(APP, winner, Digest.of(b"abc"), None, None)
    ended.set()

    with pytest.raises(BlobUploadUnknown):
        await rival
    assert [key for key in await room.left() if key.startswith("uploads/")] == []
