"""Deletes against pushes, reads and other replicas, one step at a time.

No acknowledged push is lost: where a push and a delete overlap, what is left is what one of the two orders leaves.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edgeproxy.storage.file_presign import FilePresigner
from edgeproxy.storage.filesystem import FilesystemStore
from tests.http.harness import IMAGE, Clock, House, Reply, build, descriptor, digest_of, image
from tests.interleaving import Interleaved

REPOSITORY = "acme/app"
MANIFEST = image(b"layer")
DIGEST = digest_of(MANIFEST)
LAYER_DIGEST = digest_of(b"layer")


class Replicas:
    """Two replicas of one registry. The calls of each can be stopped, by `stops[house]`."""

    def __init__(self, store: FilesystemStore) -> None:
        clock = Clock()
        presigner = FilePresigner("http://store.example", b"u" * 32, clock)
        self.clock = clock
        self.store = store
        self.at_a, self.at_b = Interleaved(store), Interleaved(store)
        self.a = build(self.at_a, presigner, clock=clock)
        self.b = build(self.at_b, presigner, clock=clock)

    async def tags(self) -> list[str]:
        return list((await self.b.ask("GET", f"/v2/{REPOSITORY}/tags/list")).json["tags"])

    async def status(self, reference: str) -> int:
        """Ask a replica that remembers nothing."""
        fresh = Replicas(self.store)
        try:
            return (await fresh.a.ask("GET", target(reference))).status
        finally:
            fresh.close()

    def close(self) -> None:
        for house in (self.a, self.b):
            house.audit.close()


@pytest.fixture
async def replicas(tmp_path: Path) -> AsyncIterator[Replicas]:
    store = await FilesystemStore.open(tmp_path)
    found = Replicas(store)
    for blob in (b"{}", b"layer"):
        await found.b.push_blob(REPOSITORY, blob)
    yield found
    found.close()
    await store.close()


def target(reference: str) -> str:
    return f"/v2/{REPOSITORY}/manifests/{reference}"


def blob(digest: str) -> str:
    return f"/v2/{REPOSITORY}/blobs/{digest}"


def push(house: House, reference: str = "latest", manifest: bytes = MANIFEST) -> asyncio.Task[Reply]:
    return asyncio.create_task(house.put_manifest(REPOSITORY, reference, manifest))


def delete(house: House, reference: str = DIGEST) -> asyncio.Task[Reply]:
    return asyncio.create_task(house.ask("DELETE", target(reference)))


PUSH_STOPS = [
    ("put", "*/_manifests/*", "after"),
    ("head", "*/_manifests/*", "after"),
    ("put", "*/_tagged/*", "before"),
    ("put", "*/_tagged/*", "after"),
    ("put", "*/_tags/*", "before"),
    ("put", "*/_tags/*", "after"),
]
DELETE_STOPS = [
    ("list", "*/_tagged/*", "before"),
    ("list", "*/_tagged/*", "after"),
    ("put", "*/_tags/*", "after"),
    ("delete", "*/_manifests/*", "before"),
    ("delete", "*/_manifests/*", "after"),
]


@pytest.mark.parametrize("tagged", [True, False])
@pytest.mark.parametrize(("operation", "key", "when"), PUSH_STOPS)
async def test_a_delete_in_the_midst_of_a_push_loses_no_push(
    replicas: Replicas, operation: str, key: str, when: str, tagged: bool
) -> None:
    """The push is answered after the delete, so what it pushed is there."""
    first = "latest" if tagged else DIGEST
    (await push(replicas.b, first)).expect(201)
    stop = replicas.at_a.stop(operation, key, when=when)  # type: ignore[arg-type]
    pushing = push(replicas.a)
    reached = asyncio.create_task(stop.reached.wait())
    await asyncio.wait([reached, pushing], return_when=asyncio.FIRST_COMPLETED)
    reached.cancel()
    (await delete(replicas.b)).expect(202)
    was_waiting = not pushing.done()
    stop.go()
    (await pushing).expect(201)
    if was_waiting:
        assert (await replicas.tags(), await replicas.status(DIGEST), await replicas.status("latest")) == (
            ["latest"],
            200,
            200,
        )


@pytest.mark.parametrize("skip", [0, 1])
@pytest.mark.parametrize(("operation", "key", "when"), DELETE_STOPS)
async def test_a_push_in_the_midst_of_a_delete_is_there_or_gone_but_never_half(
    replicas: Replicas, operation: str, key: str, when: str, skip: int
) -> None:
    (await push(replicas.b)).expect(201)
    stop = replicas.at_a.stop(operation, key, when=when, skip=skip)  # type: ignore[arg-type]
    deleting = delete(replicas.a)
    reached = asyncio.create_task(stop.reached.wait())
    await asyncio.wait([reached, deleting], return_when=asyncio.FIRST_COMPLETED)
    reached.cancel()
    (await push(replicas.b)).expect(201)
    stop.go()
    (await deleting).expect(202)
    found = (await replicas.tags(), await replicas.status(DIGEST), await replicas.status("latest"))
    assert found in (([], 404, 404), (["latest"], 200, 200))


PUSH_AT = [
    ("put", "*/_manifests/*"),
    ("put", "*/_tagged/*"),
    ("put", "*/_tags/*"),
    ("head", "*/_manifests/*"),
]
DELETE_AT = [
    ("read", "*/_tags/*"),
    ("put", "*/_tags/*"),
    ("delete", "*/_manifests/*"),
    ("list", "*/_tagged/*"),
    ("head", "*/_manifests/*"),
]


@pytest.mark.parametrize("skip", [0, 1])
@pytest.mark.parametrize(("push_at", "push_key"), PUSH_AT)
@pytest.mark.parametrize(("delete_at", "delete_key"), DELETE_AT)
async def test_a_push_and_a_delete_that_stop_in_each_other_s_midst_leave_all_or_nothing(
    replicas: Replicas, push_at: str, push_key: str, delete_at: str, delete_key: str, skip: int
) -> None:
    (await push(replicas.b)).expect(201)
    at_delete = replicas.at_a.stop(delete_at, delete_key, when="after", skip=skip)
    at_push = replicas.at_b.stop(push_at, push_key, when="after")
    deleting = delete(replicas.a)
    await first(at_delete.reached, deleting)
    pushing = push(replicas.b)
    await first(at_push.reached, pushing)
    at_delete.go()
    (await deleting).expect(202)
    at_push.go()
    (await pushing).expect(201)
    found = (await replicas.tags(), await replicas.status(DIGEST), await replicas.status("latest"))
    assert found in (([], 404, 404), (["latest"], 200, 200))


async def first(event: asyncio.Event, task: asyncio.Task[Reply]) -> None:
    """Wait until a stop is reached, or the request is through without."""
    reached = asyncio.create_task(event.wait())
    await asyncio.wait([reached, task], return_when=asyncio.FIRST_COMPLETED)
    reached.cancel()


async def test_a_tag_that_moves_while_it_is_deleted_stays(replicas: Replicas) -> None:
    other = image(b"layer", annotations={"a": "b"})
    (await push(replicas.b)).expect(201)
    for reference in ("latest", DIGEST):
        stop = replicas.at_a.stop("put", "*/_tags/latest")
        deleting = delete(replicas.a, reference)
        await stop.reached.wait()
        (await push(replicas.b, manifest=other)).expect(201)
        stop.go()
        answer = await deleting
        if reference == DIGEST:
            # Only tags of that digest go with it.
            assert answer.status == 202
            assert await replicas.tags() == ["latest"]
        else:
            assert answer.status == 202
            assert await replicas.tags() == []
        (await push(replicas.b)).expect(201)


async def test_a_tag_set_again_while_it_is_deleted_is_still_found_by_its_digest(replicas: Replicas) -> None:
    (await push(replicas.b)).expect(201)
    stop = replicas.at_a.stop("put", "*/_tags/latest", when="after")
    deleting = delete(replicas.a, "latest")
    await stop.reached.wait()
    at_push = replicas.at_b.stop("put", "*/_tagged/*", when="after")
    pushing = push(replicas.b)
    await at_push.reached.wait()
    stop.go()
    (await deleting).expect(202)
    at_push.go()
    (await pushing).expect(201)
    assert await replicas.tags() == ["latest"]
    (await delete(replicas.a)).expect(202)
    assert await replicas.tags() == []


async def test_an_immutable_tag_created_while_its_delete_was_looked_at_stays(replicas: Replicas) -> None:
    stop = replicas.at_a.stop("read", "*/_tags/v1", when="after")
    deleting = delete(replicas.a, "v1")
    await stop.reached.wait()
    (await push(replicas.b, "v1")).expect(201)
    stop.go()
    assert (await deleting).error == (404, "MANIFEST_UNKNOWN")
    assert await replicas.status("v1") == 200


@pytest.mark.parametrize(("operation", "key", "when"), DELETE_STOPS)
async def test_deleting_a_digest_never_leaves_an_immutable_tag_pointing_nowhere(
    replicas: Replicas, operation: str, key: str, when: str
) -> None:
    subject = descriptor(b"subject", IMAGE)
    manifest = image(b"layer", subject=subject)
    digest = digest_of(manifest)
    (await push(replicas.b, "latest", manifest)).expect(201)
    stop = replicas.at_a.stop(operation, key, when=when)  # type: ignore[arg-type]
    deleting = delete(replicas.a, digest)
    await stop.reached.wait()
    (await push(replicas.b, "v1", manifest)).expect(201)
    stop.go()
    answer = await deleting
    assert answer.status in {202, 403}
    assert (await replicas.status("v1"), await replicas.status(digest)) == (200, 200)
    referrers = (await replicas.b.ask("GET", f"/v2/{REPOSITORY}/referrers/{subject['digest']}")).json["manifests"]
    assert [item["digest"] for item in referrers] == [digest]


@pytest.mark.parametrize(
    ("operation", "key", "when"),
    [
        ("put", "*/_manifests/*", "after"),
        ("put", "*/_referrers/*", "before"),
        ("put", "*/_referrers/*", "after"),
        ("head", "*/_manifests/*", "after"),
    ],
)
@pytest.mark.parametrize(
    ("delete_at", "delete_when"),
    [
        ("*/_referrers/*", "before"),
        ("*/_referrers/*", "after"),
        ("*/_manifests/*", "before"),
        ("*/_manifests/*", "after"),
    ],
)
async def test_a_referrer_pushed_while_it_is_deleted_is_there_with_its_entry_or_gone_with_it(
    replicas: Replicas, operation: str, key: str, when: str, delete_at: str, delete_when: str
) -> None:
    subject = descriptor(b"subject", IMAGE)
    manifest = image(b"layer", subject=subject)
    digest = digest_of(manifest)
    (await push(replicas.b, digest, manifest)).expect(201)
    at_delete = replicas.at_a.stop("delete", delete_at, when=delete_when)  # type: ignore[arg-type]
    at_push = replicas.at_b.stop(operation, key, when=when)  # type: ignore[arg-type]
    deleting = delete(replicas.a, digest)
    await first(at_delete.reached, deleting)
    pushing = push(replicas.b, digest, manifest)
    await first(at_push.reached, pushing)
    at_delete.go()
    (await deleting).expect(202)
    at_push.go()
    (await pushing).expect(201)
    listed = (await replicas.b.ask("GET", f"/v2/{REPOSITORY}/referrers/{subject['digest']}")).json["manifests"]
    assert (await replicas.status(digest), [item["digest"] for item in listed]) in ((200, [digest]), (404, []))


async def test_many_pushes_and_deletes_of_one_tag_and_digest_leave_all_or_nothing(replicas: Replicas) -> None:
    for _ in range(5):
        rivals = [push(house) for house in (replicas.a, replicas.b)] + [
            delete(house, reference) for house in (replicas.a, replicas.b) for reference in (DIGEST, "latest")
        ]
        replies = await asyncio.gather(*rivals)
        assert {reply.status for reply in replies[:2]} == {201}
        assert {reply.status for reply in replies[2:]} <= {202, 404}
        tags, manifest = await replicas.tags(), await replicas.status(DIGEST)
        assert (tags, manifest) in (([], 404), (["latest"], 200), ([], 200))


@pytest.mark.parametrize("method", ["HEAD", "GET"])
async def test_a_blob_deleted_here_is_gone_at_once_even_while_it_was_being_asked_for(
    replicas: Replicas, method: str
) -> None:
    stop = replicas.at_a.stop("head", "*/_blobs/*", when="after")
    reading = asyncio.create_task(replicas.a.ask("HEAD", blob(LAYER_DIGEST)))
    await stop.reached.wait()
    (await replicas.a.ask("DELETE", blob(LAYER_DIGEST))).expect(202)
    stop.go()
    assert (await reading).status == 200
    assert (await replicas.a.ask(method, blob(LAYER_DIGEST))).status == 404


async def test_a_manifest_deleted_here_is_gone_at_once_even_while_it_was_being_read(replicas: Replicas) -> None:
    (await push(replicas.a)).expect(201)
    stop = replicas.at_a.stop("read", "*/_manifests/*", when="after")
    reading = asyncio.create_task(replicas.a.ask("GET", target(DIGEST)))
    await stop.reached.wait()
    # The other replica's delete does not know of the read; ours reads the manifest itself.
    (await delete(replicas.b)).expect(202)
    gone = asyncio.create_task(replicas.a.ask("DELETE", target(DIGEST)))
    assert (await gone).error == (404, "MANIFEST_UNKNOWN")
    stop.go()
    assert (await reading).status == 200
    assert (await replicas.a.ask("HEAD", target(DIGEST))).status == 404


async def test_a_manifest_that_is_being_read_does_not_vouch_for_a_blob_deleted_meanwhile(replicas: Replicas) -> None:
    (await push(replicas.a)).expect(201)
    stop = replicas.at_a.stop("read", "*/_manifests/*", when="after")
    reading = asyncio.create_task(replicas.a.ask("GET", target(DIGEST)))
    await stop.reached.wait()
    (await replicas.a.ask("DELETE", blob(LAYER_DIGEST))).expect(202)
    stop.go()
    (await reading).expect(200)
    assert (await replicas.a.ask("HEAD", blob(LAYER_DIGEST))).status == 404


async def test_a_blob_that_another_replica_deleted_is_not_accepted_in_a_manifest_pushed_here_later(
    replicas: Replicas,
) -> None:
    (await replicas.a.ask("HEAD", blob(LAYER_DIGEST))).expect(200)
    (await push(replicas.a, "before")).expect(201)
    (await replicas.b.ask("DELETE", blob(LAYER_DIGEST))).expect(202)
    refused = await push(replicas.a, "after")
    assert refused.error == (404, "MANIFEST_BLOB_UNKNOWN")
    await replicas.b.push_blob(REPOSITORY, b"layer")
    (await push(replicas.a, "after")).expect(201)


async def test_a_link_seen_between_the_note_of_a_deletion_and_the_deletion_does_not_count_later(
    replicas: Replicas,
) -> None:
    stop = replicas.at_b.stop("delete", "*/_blobs/*")
    deleting = asyncio.create_task(replicas.b.ask("DELETE", blob(LAYER_DIGEST)))
    await stop.reached.wait()
    (await push(replicas.a, "during")).expect(201)
    stop.go()
    (await deleting).expect(202)
    assert (await push(replicas.a, "after")).error == (404, "MANIFEST_BLOB_UNKNOWN")
    mount = f"/v2/acme/new/blobs/uploads/?mount={LAYER_DIGEST}&from={REPOSITORY}"
    (await replicas.a.ask("POST", mount, body=b"")).expect(202)


async def test_a_note_that_replaced_another_replica_s_unseen_note_hides_no_deletion(replicas: Replicas) -> None:
    await replicas.a.push_blob(REPOSITORY, b"other")
    (await replicas.a.ask("HEAD", blob(LAYER_DIGEST))).expect(200)
    (await push(replicas.a, "before")).expect(201)
    (await replicas.b.ask("DELETE", blob(LAYER_DIGEST))).expect(202)
    (await replicas.a.ask("DELETE", blob(digest_of(b"other")))).expect(202)
    assert (await push(replicas.a, "after")).error == (404, "MANIFEST_BLOB_UNKNOWN")


async def test_a_manifest_pushed_during_a_deletion_vouches_for_no_blob_beyond_a_minute(replicas: Replicas) -> None:
    stop = replicas.at_b.stop("delete", "*/_blobs/*")
    deleting = asyncio.create_task(replicas.b.ask("DELETE", blob(LAYER_DIGEST)))
    await stop.reached.wait()
    (await push(replicas.a, "during")).expect(201)
    stop.go()
    (await deleting).expect(202)
    for _ in range(3):
        replicas.clock.advance(61)
        (await replicas.a.ask("GET", target("during"))).expect(200)
        assert (await replicas.a.ask("HEAD", blob(LAYER_DIGEST))).status == 404
