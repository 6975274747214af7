"""What every implementation of `Store` promises, sentence by sentence of the protocol."""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections.abc import Awaitable

import pytest

from edgeproxy.storage import (
    MIN_PART_BYTES,
    OCTETS,
    Corrupt,
    IfAbsent,
    IfMatch,
    NotFound,
    ObjectInfo,
    PreconditionFailed,
    Store,
    StoreUnavailable,
)

BIG = random.Random(7).randbytes(2 * MIN_PART_BYTES + 12_345)
PARTS = [BIG[at : at + MIN_PART_BYTES] for at in range(0, len(BIG), MIN_PART_BYTES)]


async def streamed(store: Store, key: str, start: int = 0, length: int | None = None) -> bytes:
    async with store.stream(key, start, length) as (_, pieces):
        return b"".join([piece async for piece in pieces])


async def keys(store: Store, prefix: str, *, after: str = "", limit: int | None = None) -> list[str]:
    return [info.key async for info in store.list(prefix, after=after, limit=limit)]


async def write_big(store: Store, key: str) -> None:
    upload = await store.begin(key, MIN_PART_BYTES)
    for number, part in enumerate(PARTS, 1):
        await upload.write(number, part)
    await upload.complete()


async def outcomes(attempts: list[Awaitable[ObjectInfo]]) -> tuple[list[ObjectInfo], list[BaseException]]:
    answers = await asyncio.gather(*attempts, return_exceptions=True)
    won = [answer for answer in answers if isinstance(answer, ObjectInfo)]
    return won, [answer for answer in answers if isinstance(answer, BaseException)]


# Reading what was written


async def test_an_object_comes_back_with_its_content_type_and_metadata(store: Store) -> None:
    written = await store.put(
        "a/b", b"bytes", content_type="application/json", metadata={"size": "5", "by-whom": "x y"}
    )
    info, data = await store.read("a/b", 5)
    assert data == b"bytes"
    assert (info.key, info.size, info.content_type) == ("a/b", 5, "application/json")
    assert dict(info.metadata) == {"size": "5", "by-whom": "x y"}
    assert info == await store.head("a/b")
    assert (written.key, written.size, written.etag) == (info.key, info.size, info.etag)


async def test_an_object_without_more_is_octets_without_metadata(store: Store) -> None:
    await store.put("a", b"bytes")
    info = await store.head("a")
    assert (info.content_type, dict(info.metadata)) == (OCTETS, {})


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_bytes_of_every_kind_can_be_written(store: Store, kind: type) -> None:
    await store.put("a", kind(b"bytes"))
    assert (await store.read("a", 5))[1] == b"bytes"


async def test_an_empty_object_is_an_object(store: Store) -> None:
    await store.put("plain", b"")
    await store.put("described", b"", metadata={"deleted": "yes"})
    for key in ("plain", "described"):
        assert (await store.head(key)).size == 0
        assert (await store.read(key, 0))[1] == b""
        assert await streamed(store, key) == b""
    assert dict((await store.head("described")).metadata) == {"deleted": "yes"}


async def test_the_time_of_an_object_is_when_it_was_written(store: Store) -> None:
    await store.put("a", b"")
    assert abs((await store.head("a")).modified - time.time()) < 30


async def test_what_is_not_there_is_not_found(store: Store) -> None:
    await store.put("a/b", b"")
    for key in ("c", "a", "a/c", "a/b/c"):
        with pytest.raises(NotFound):
            await store.head(key)
        with pytest.raises(NotFound):
            await store.read(key, 10)
        with pytest.raises(NotFound):
            async with store.stream(key):
                pass


async def test_read_refuses_more_than_its_limit(store: Store) -> None:
    await store.put("a", b"12345", metadata={"x": "y"})
    assert (await store.read("a", 5))[1] == b"12345"
    with pytest.raises(StoreUnavailable):
        await store.read("a", 4)


@pytest.mark.parametrize(
    ("start", "length", "expected"),
    [(0, None, b"0123456789"), (3, None, b"3456789"), (3, 4, b"3456"), (0, 1, b"0"), (8, 2, b"89"), (8, 50, b"89")],
)
async def test_a_stream_has_the_range_that_was_asked_for(
    store: Store, start: int, length: int | None, expected: bytes
) -> None:
    await store.put("a", b"0123456789", metadata={"not": "a part of the bytes"})
    async with store.stream("a", start, length) as (info, pieces):
        assert b"".join([piece async for piece in pieces]) == expected
        assert info.size == 10
        assert dict(info.metadata) == {"not": "a part of the bytes"}


async def test_a_stream_comes_in_pieces_of_at_most_one_mebibyte(store: Store) -> None:
    await write_big(store, "big")
    async with store.stream("big", 5) as (info, pieces):
        read = [piece async for piece in pieces]
    assert info.size == len(BIG)
    assert max(len(piece) for piece in read) <= 1 << 20
    assert b"".join(read) == BIG[5:]


async def test_a_stream_can_be_left_half_read_and_the_store_goes_on(store: Store) -> None:
    await write_big(store, "big")
    for _ in range(20):
        async with store.stream("big") as (_, pieces):
            assert BIG.startswith(await anext(pieces))
    assert await streamed(store, "big", len(BIG) - 3) == BIG[-3:]


# Writing


async def test_a_write_replaces_what_was_there_whole(store: Store) -> None:
    first = await store.put("a", b"long bytes", content_type="text/plain", metadata={"one": "1"})
    second = await store.put("a", b"short")
    info, data = await store.read("a", 100)
    assert data == b"short"
    assert (info.content_type, dict(info.metadata)) == (OCTETS, {})
    assert info.etag == second.etag != first.etag


async def test_etags_differ_where_bytes_differ(store: Store) -> None:
    first = await store.put("a", b"same", metadata={"n": "1"})
    second = await store.put("a", b"size", metadata={"n": "1"})
    assert first.etag != second.etag


async def test_if_absent_writes_once(store: Store) -> None:
    await store.put("a", b"first", condition=IfAbsent())
    with pytest.raises(PreconditionFailed):
        await store.put("a", b"second", condition=IfAbsent())
    assert (await store.read("a", 10))[1] == b"first"
    await store.delete("a")
    await store.put("a", b"third", condition=IfAbsent())
    assert (await store.read("a", 10))[1] == b"third"


async def test_if_match_writes_over_what_was_seen_and_over_nothing_else(store: Store) -> None:
    seen = await store.put("a", b"first")
    await store.put("a", b"second", condition=IfMatch(seen.etag))
    with pytest.raises(PreconditionFailed):
        await store.put("a", b"third", condition=IfMatch(seen.etag))
    assert (await store.read("a", 10))[1] == b"second"


async def test_if_match_does_not_create(store: Store) -> None:
    seen = await store.put("a", b"first")
    await store.delete("a")
    with pytest.raises(PreconditionFailed):
        await store.put("a", b"second", condition=IfMatch(seen.etag))
    with pytest.raises(NotFound):
        await store.head("a")


async def test_an_etag_that_was_listed_or_looked_up_can_be_matched(store: Store) -> None:
    await store.put("a", b"first", metadata={"x": "y"})
    (listed,) = [info async for info in store.list("a")]
    looked_up = await store.head("a")
    assert listed.etag == looked_up.etag
    await store.put("a", b"second", condition=IfMatch(listed.etag))
    assert (await store.read("a", 10))[1] == b"second"


async def test_of_fifty_creators_at_once_exactly_one_wins(store: Store) -> None:
    won, lost = await outcomes([store.put("a/b/c", b"%d" % n, condition=IfAbsent()) for n in range(50)])
    assert len(won) == 1
    assert {type(problem) for problem in lost} == {PreconditionFailed}
    assert (await store.head("a/b/c")).etag == won[0].etag


async def test_of_many_movers_at_once_exactly_one_wins(store: Store) -> None:
    seen = await store.put("a", b"seen")
    won, lost = await outcomes([store.put("a", b"%d" % n, condition=IfMatch(seen.etag)) for n in range(20)])
    assert len(won) == 1
    assert {type(problem) for problem in lost} == {PreconditionFailed}
    assert (await store.head("a")).etag == won[0].etag


async def test_bytes_with_their_sha256_are_taken_and_others_leave_nothing(store: Store) -> None:
    announced = hashlib.sha256(b"right").digest()
    with pytest.raises(Corrupt):
        await store.put("a", b"wrong", sha256=announced)
    with pytest.raises(NotFound):
        await store.head("a")
    await store.put("a", b"right", sha256=announced)
    with pytest.raises(Corrupt):
        await store.put("a", b"wrong", sha256=announced)
    assert (await store.read("a", 10))[1] == b"right"


@pytest.mark.parametrize("key", ["a+b", "a=b&c", "a!b~c", "(a)*'", "a%2Fb", "A_b-c.d", "a,b;c", "a@b:c$"])
async def test_odd_characters_are_part_of_the_key(store: Store, key: str) -> None:
    await store.put(f"x/{key}", key.encode(), condition=IfAbsent())
    assert (await store.read(f"x/{key}", 100))[1] == key.encode()
    assert await keys(store, "x/") == [f"x/{key}"]
    await store.copy(f"x/{key}", "x/copy")
    assert (await store.read("x/copy", 100))[1] == key.encode()
    await store.delete(f"x/{key}")
    assert await keys(store, "x/") == ["x/copy"]


# Multipart


async def test_a_multipart_object_becomes_visible_by_complete_only(store: Store) -> None:
    upload = await store.begin("big", MIN_PART_BYTES)
    for number, part in enumerate(PARTS, 1):
        await upload.write(number, part)
    with pytest.raises(NotFound):
        await store.head("big")
    assert await keys(store, "") == []
    info = await upload.complete()
    assert info.size == len(BIG)
    assert info.etag == (await store.head("big")).etag
    assert await streamed(store, "big") == BIG


async def test_parts_may_be_written_at_once_in_any_order_and_again(store: Store) -> None:
    upload = await store.begin("big", MIN_PART_BYTES)
    await upload.write(3, b"will be replaced, and is longer than what replaces it" * 1000)
    await upload.write(1, b"\0" * MIN_PART_BYTES)
    await asyncio.gather(*[upload.write(number, memoryview(PARTS[number - 1])) for number in (3, 1, 2)])
    await upload.complete()
    assert await streamed(store, "big") == BIG


@pytest.mark.parametrize("data", [b"", b"short", BIG[:MIN_PART_BYTES]])
async def test_an_object_may_have_one_part_of_any_size(store: Store, data: bytes) -> None:
    upload = await store.begin("a", MIN_PART_BYTES)
    await upload.write(1, data)
    assert (await upload.complete()).size == len(data)
    assert await streamed(store, "a") == data


async def test_a_multipart_object_keeps_its_content_type(store: Store) -> None:
    upload = await store.begin("a", MIN_PART_BYTES, content_type="text/plain")
    await upload.write(1, b"text")
    await upload.complete()
    info, data = await store.read("a", 4)
    assert (info.content_type, data) == ("text/plain", b"text")


async def test_abort_leaves_nothing_and_can_be_repeated(store: Store) -> None:
    upload = await store.begin("big", MIN_PART_BYTES)
    await upload.write(1, PARTS[0])
    await upload.abort()
    await upload.abort()
    assert await keys(store, "") == []


async def test_abort_leaves_what_was_there_before(store: Store) -> None:
    await store.put("a", b"before")
    upload = await store.begin("a", MIN_PART_BYTES)
    await upload.write(1, b"after")
    await upload.abort()
    assert (await store.read("a", 10))[1] == b"before"


async def test_complete_replaces_what_is_there_unless_told_otherwise(store: Store) -> None:
    await store.put("a", b"before")
    upload = await store.begin("a", MIN_PART_BYTES)
    await upload.write(1, b"after")
    await upload.complete()
    assert (await store.read("a", 10))[1] == b"after"


async def test_complete_if_absent_on_an_existing_key_fails_and_ends_the_upload(store: Store) -> None:
    await store.put("a", b"before")
    upload = await store.begin("a", MIN_PART_BYTES)
    await upload.write(1, b"after")
    with pytest.raises(PreconditionFailed):
        await upload.complete(IfAbsent())
    assert (await store.read("a", 10))[1] == b"before"
    await store.delete("a")
    with pytest.raises(StoreUnavailable):
        await upload.complete(IfAbsent())
    await upload.abort()
    assert await keys(store, "") == []


async def test_of_many_completions_if_absent_exactly_one_wins(store: Store) -> None:
    uploads = [await store.begin("a/b", MIN_PART_BYTES) for _ in range(5)]
    for number, upload in enumerate(uploads):
        await upload.write(1, b"%d" % number)
    won, lost = await outcomes([upload.complete(IfAbsent()) for upload in uploads])
    assert len(won) == 1
    assert {type(problem) for problem in lost} == {PreconditionFailed}
    assert (await store.head("a/b")).etag == won[0].etag


# Copy and delete


async def test_a_copy_has_the_bytes_and_nothing_else(store: Store) -> None:
    await store.put("a", b"plain")
    await store.put("b", b"described", content_type="text/plain", metadata={"x": "y"})
    for source, data in (("a", b"plain"), ("b", b"described")):
        await store.copy(source, f"copies/of/{source}")
        info, copied = await store.read(f"copies/of/{source}", 10)
        assert (copied, info.content_type, dict(info.metadata)) == (data, OCTETS, {})
        assert (await store.read(source, 10))[1] == data


async def test_an_object_of_many_parts_is_copied_whole(store: Store) -> None:
    await write_big(store, "big")
    await store.copy("big", "copy")
    await store.delete("big")
    assert await streamed(store, "copy") == BIG


async def test_an_empty_object_is_copied(store: Store) -> None:
    await store.put("a", b"")
    await store.copy("a", "b")
    assert (await store.head("b")).size == 0


async def test_a_copy_replaces_what_is_there(store: Store) -> None:
    await store.put("a", b"new")
    await store.put("b", b"old and longer", metadata={"x": "y"})
    await store.copy("a", "b")
    info, data = await store.read("b", 100)
    assert (data, dict(info.metadata)) == (b"new", {})
    await store.copy("a", "b")
    assert (await store.read("b", 100))[1] == b"new"


async def test_source_and_copy_go_their_own_ways(store: Store) -> None:
    await store.put("a", b"bytes")
    await store.copy("a", "b")
    await store.put("a", b"other")
    assert (await store.read("b", 10))[1] == b"bytes"
    await store.delete("a")
    assert (await store.read("b", 10))[1] == b"bytes"


async def test_a_copy_of_nothing_is_not_found_and_makes_nothing(store: Store) -> None:
    await store.put("there", b"")
    with pytest.raises(NotFound):
        await store.copy("a", "b")
    assert await keys(store, "") == ["there"]


async def test_deleting_is_idempotent_and_touches_no_neighbour(store: Store) -> None:
    await store.put("d/a", b"")
    await store.put("d/ab", b"")
    await store.delete("d/a")
    await store.delete("d/a")
    await store.delete("never/was")
    assert await keys(store, "") == ["d/ab"]
    await store.delete("d/ab")
    assert await keys(store, "") == []


async def test_what_is_written_does_not_mind_deletions_beside_it(store: Store) -> None:
    """Some stores make a folder for a key and take it away when it is empty: two writers must not meet there."""

    async def come_and_go(own: int) -> None:
        for n in range(40):
            for key in (f"uploads/{own}-{n}/put", f"uploads/{own}-{n}/parts/of"):
                if key.endswith("put"):
                    await store.put(key, b"x", condition=IfAbsent())
                else:
                    upload = await store.begin(key, MIN_PART_BYTES)
                    await upload.write(1, b"x")
                    await upload.complete()
                await store.copy(key, f"{key}-copied")
                await store.delete(key)
                await store.delete(f"{key}-copied")

    await asyncio.gather(*[come_and_go(own) for own in range(3)])
    assert await keys(store, "uploads/") == []


# Listing

NASTY = [
    "a!b/x", "a-b/x", "a-b0", "a.b/x", "a/_x/y", "a/x", "a0", "a0b/x", "a_b/x", "ab", "aB", "A", "B/a", "_/a",
    "a/x-", "a/x.y/z", "a/x0", "a/X", "a/y/1", "a/y/10", "a/y/2", "b",
]  # fmt: skip


@pytest.fixture
async def nasty(store: Store) -> Store:
    for name in NASTY:
        await store.put(name, name.encode())
    return store


async def test_a_listing_is_in_byte_order_of_the_whole_key(nasty: Store) -> None:
    assert await keys(nasty, "") == sorted(NASTY)


@pytest.mark.parametrize("prefix", ["a", "a/", "a/x", "a-b", "a/y/1", "a/y/10", "A", "b", "B/", "z", "a/q/", "a/x/y/z"])
async def test_a_prefix_need_not_end_at_a_slash(nasty: Store, prefix: str) -> None:
    assert await keys(nasty, prefix) == [key for key in sorted(NASTY) if key.startswith(prefix)]


@pytest.mark.parametrize("after", ["A", "a", "a/", "a/x", "a/x.", "a/x.y/z", "a-b/x", "a.b/zzz", "b", "zzz", "a/y/1"])
async def test_a_listing_goes_on_after_any_key_there_or_not(nasty: Store, after: str) -> None:
    assert await keys(nasty, "", after=after) == [key for key in sorted(NASTY) if key > after]
    assert await keys(nasty, "a/", after=after) == [
        key for key in sorted(NASTY) if key > after and key.startswith("a/")
    ]


@pytest.mark.parametrize("limit", [0, 1, 2, 7, len(NASTY), 100])
async def test_a_limit_ends_the_listing(nasty: Store, limit: int) -> None:
    assert await keys(nasty, "", limit=limit) == sorted(NASTY)[:limit]
    assert (
        await keys(nasty, "a/", after="a/_x/y", limit=limit)
        == [key for key in sorted(NASTY) if key.startswith("a/") and key > "a/_x/y"][:limit]
    )


async def test_a_listing_says_size_etag_and_time_and_no_more(store: Store) -> None:
    await store.put("a", b"12345", content_type="text/plain", metadata={"x": "y"})
    await store.put("b", b"")
    await store.put("c", b"", metadata={"deleted": "yes"})
    listed = [info async for info in store.list("")]
    assert [(info.key, info.size) for info in listed] == [("a", 5), ("b", 0), ("c", 0)]
    for info in listed:
        head = await store.head(info.key)
        assert info.etag == head.etag
        assert abs(info.modified - head.modified) < 1
        assert (info.content_type, dict(info.metadata)) == ("", {})


async def test_a_listing_of_nothing_is_empty(store: Store) -> None:
    assert await keys(store, "") == []
    assert await keys(store, "no/such/") == []


async def test_a_listing_of_many_pages_has_every_object_once(store: Store) -> None:
    names = [f"many/{n:05d}" for n in range(2_500)]
    waiting = iter(random.Random(3).sample(names, len(names)))

    async def write() -> None:
        for name in waiting:
            await store.put(name, b"")

    await asyncio.gather(*[write() for _ in range(16)])
    assert await keys(store, "many/") == names
    assert await keys(store, "many/", after="many/01200", limit=1_100) == names[1_201:2_301]


async def test_a_listing_can_be_left_before_its_end(nasty: Store) -> None:
    found = nasty.list("")
    assert (await anext(found)).key == min(NASTY)
    assert await keys(nasty, "b") == ["b"]


# The whole


async def test_a_store_that_runs_passes_its_check_and_keeps_nothing_of_it(store: Store) -> None:
    await store.check()
    assert await keys(store, "") == []


async def test_what_was_acknowledged_is_read_at_once_by_everyone(store: Store) -> None:
    async def write_then_read(n: int) -> None:
        await store.put(f"shared/{n}", b"%d" % n)
        assert (await store.read(f"shared/{n}", 10))[1] == b"%d" % n
        assert f"shared/{n}" in await keys(store, "shared/")
        await store.delete(f"shared/{n}")
        assert f"shared/{n}" not in await keys(store, "shared/")

    await asyncio.gather(*[write_then_read(n) for n in range(20)])
    assert await keys(store, "") == []
