"""Pushes against pushes, one step at a time: two replicas over one store, of which chosen calls wait until a test lets them go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from edgeproxy.storage.file_presign import FilePresigner
from edgeproxy.storage.filesystem import FilesystemStore
from tests.http.harness import Clock, House, Reply, build, digest_of, image, in_session
from tests.interleaving import Interleaved

REPOSITORY = "acme/app"


@dataclass
class Replicas:
    """Two replicas of one registry; the calls of `a` can be stopped."""

    stops: Interleaved
    a: House
    b: House


@pytest.fixture
async def replicas(tmp_path: Path) -> AsyncIterator[Replicas]:
    store = await FilesystemStore.open(tmp_path)
    stops = Interleaved(store)
    clock = Clock()
    presigner = FilePresigner("http://store.example", b"u" * 32, clock)
    found = Replicas(stops, build(stops, presigner, clock=clock), build(store, presigner, clock=clock))
    for blob in (b"{}", b"layer"):
        await found.b.push_blob(REPOSITORY, blob)
    yield found
    for house in (found.a, found.b):
        await house.registry.uploads.wait_for_commits()
        house.audit.close()
    await store.close()


def target(reference: str) -> str:
    return f"/v2/{REPOSITORY}/manifests/{reference}"


def soon(what: Awaitable[Reply]) -> asyncio.Task[Reply]:
    return asyncio.ensure_future(what)


async def patch(house: House, location: str, body: bytes, start: int | None = None) -> Reply:
    headers = {} if start is None else {"content-range": f"{start}-{start + len(body) - 1}"}
    return await house.ask("PATCH", location, body=body, headers=headers)


@pytest.mark.parametrize("slow", [b"long" * 1000, b"s"])
@pytest.mark.parametrize(("key", "when"), [("uploads/*/data/*", "after"), ("uploads/*/00000002", "before")])
async def test_one_rival_wins_an_offset_whatever_their_lengths_and_however_slow_the_loser(
    replicas: Replicas, slow: bytes, key: str, when: Literal["before", "after"]
) -> None:
    a, b, stops = replicas.a, replicas.b, replicas.stops
    location = (await patch(b, await b.start_upload(REPOSITORY), b"first", 0)).header("location")
    stop = stops.stop("put", key, when=when)
    loser = soon(patch(a, location, slow, 5))
    await stop.reached.wait()
    won = await patch(b, location, b"winner", 5)
    assert won.expect(202).header("range") == "0-10"
    stop.go()
    lost = await loser
    assert lost.error == (416, "BLOB_UPLOAD_INVALID")
    assert lost.header("range") == "0-10"
    digest = digest_of(b"firstwinner")
    (await a.ask("PUT", in_session(lost.header("location"), digest), body=b"")).expect(201)
    assert [info.key async for info in stops.list("uploads/")] == []


async def test_of_many_rivals_at_both_replicas_exactly_one_wins_and_its_bytes_are_the_upload(
    replicas: Replicas,
) -> None:
    location = await replicas.a.start_upload(REPOSITORY)
    bodies = [bytes([65 + number]) * (number * 997 + 1) for number in range(16)]
    rivals = [patch((replicas.a, replicas.b)[number % 2], location, body, 0) for number, body in enumerate(bodies)]
    replies = await asyncio.gather(*rivals)
    winners = [number for number, reply in enumerate(replies) if reply.status == 202]
    assert len(winners) == 1
    assert {reply.status for reply in replies} == {202, 416}
    winner = bodies[winners[0]]
    assert {reply.header("range") for reply in replies} == {f"0-{len(winner) - 1}"}
    finished = in_session(replies[winners[0]].header("location"), digest_of(winner))
    (await replicas.b.ask("PUT", finished, body=b"")).expect(201)


async def test_two_ends_of_one_upload_with_different_digests_get_different_answers(replicas: Replicas) -> None:
    a = replicas.a
    location = (await patch(a, await a.start_upload(REPOSITORY), b"bytes", 0)).header("location")
    stop = replicas.stops.stop("copy", "blobs/*")
    right = soon(a.ask("PUT", in_session(location, digest_of(b"bytes")), body=b""))
    await stop.reached.wait()
    wrong = await a.ask("PUT", in_session(location, digest_of(b"other")), body=b"")
    assert wrong.error == (400, "DIGEST_INVALID")
    stop.go()
    assert (await right).status in {201, 404}
    (await a.ask("HEAD", f"/v2/{REPOSITORY}/blobs/{digest_of(b'other')}")).expect(404)


async def test_the_same_end_sent_twice_at_once_succeeds_twice(replicas: Replicas) -> None:
    a = replicas.a
    location = (await patch(a, await a.start_upload(REPOSITORY), b"bytes", 0)).header("location")
    stop = replicas.stops.stop("copy", "blobs/*")
    ends = [soon(a.ask("PUT", in_session(location, digest_of(b"bytes")), body=b"")) for _ in range(2)]
    await stop.reached.wait()
    stop.go()
    assert [reply.status for reply in await asyncio.gather(*ends)] == [201, 201]


async def test_two_replicas_that_push_the_same_blob_at_once_both_succeed(replicas: Replicas) -> None:
    stop = replicas.stops.stop("put", "blobs/*")
    slow = soon(replicas.a.ask("POST", f"/v2/{REPOSITORY}/blobs/uploads/?digest={digest_of(b'new')}", body=b"new"))
    await stop.reached.wait()
    await replicas.b.push_blob("acme/other", b"new")
    stop.go()
    (await slow).expect(201)
    (await replicas.b.ask("HEAD", f"/v2/{REPOSITORY}/blobs/{digest_of(b'new')}")).expect(200)


async def test_a_tag_moved_at_one_replica_is_read_moved_at_the_other_at_once(replicas: Replicas) -> None:
    a, b = replicas.a, replicas.b
    for number in range(5):
        manifest = image(b"layer", annotations={"n": str(number)})
        (await a.put_manifest(REPOSITORY, "latest", manifest)).expect(201)
        for house in (b, a):
            got = await house.ask("GET", target("latest"))
            assert got.expect(200).header("docker-content-digest") == digest_of(manifest)
            assert got.body == manifest


async def test_a_read_of_a_tag_that_began_before_it_moved_is_not_given_to_those_who_ask_after(
    replicas: Replicas,
) -> None:
    a, b = replicas.a, replicas.b
    old, new = image(b"layer"), image(b"layer", annotations={"a": "b"})
    (await b.put_manifest(REPOSITORY, "latest", old)).expect(201)
    stop = replicas.stops.stop("read", "*/_tags/latest", when="after")
    early = soon(a.ask("HEAD", target("latest")))
    await stop.reached.wait()
    (await b.put_manifest(REPOSITORY, "latest", new)).expect(201)
    late = soon(a.ask("HEAD", target("latest")))
    await asyncio.sleep(0)
    stop.go()
    assert (await early).header("docker-content-digest") == digest_of(old)
    assert (await late).header("docker-content-digest") == digest_of(new)


@pytest.mark.parametrize("operation", ["tag before", "way back before"])
async def test_of_two_manifests_pushed_at_once_under_an_immutable_tag_one_wins_for_ever(
    replicas: Replicas, operation: str
) -> None:
    a, b = replicas.a, replicas.b
    mine, yours = image(b"layer", annotations={"by": "a"}), image(b"layer", annotations={"by": "b"})
    key = "*/_tags/v1" if operation == "tag before" else "*/_tagged/*"
    stop = replicas.stops.stop("put", key)
    slow = soon(a.put_manifest(REPOSITORY, "v1", mine))
    await stop.reached.wait()
    (await b.put_manifest(REPOSITORY, "v1", yours)).expect(201)
    stop.go()
    assert (await slow).error == (403, "DENIED")
    for house in (a, b):
        assert (await house.ask("HEAD", target("v1"))).header("docker-content-digest") == digest_of(yours)
    deleted = await b.ask("DELETE", target(digest_of(yours)))
    assert deleted.error == (403, "DENIED")
    (await b.ask("DELETE", target(digest_of(mine)))).expect(202)


async def test_the_same_manifest_pushed_at_once_under_an_immutable_tag_succeeds_twice(replicas: Replicas) -> None:
    stop = replicas.stops.stop("put", "*/_tags/v1")
    slow = soon(replicas.a.put_manifest(REPOSITORY, "v1", image(b"layer")))
    await stop.reached.wait()
    (await replicas.b.put_manifest(REPOSITORY, "v1", image(b"layer"))).expect(201)
    stop.go()
    (await slow).expect(201)
