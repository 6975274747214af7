"""Uploads in every shape that clients send, and what is left of those that fail."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest

from edgeproxy.oci.names import Digest, Repository
from edgeproxy.storage import keys
from tests.http.harness import HangUp, House, NoAnswer, Reply, digest_of, image, in_session, on_directory, pieces

MIB = 1024 * 1024
BLOB = Random(7).randbytes(300_000)
DIGEST = digest_of(BLOB)
ACME = Repository("acme/app")

OPEN_MARK = "/00000000"
"""What the first PATCH of a session leaves, even if it fails: it says that the session is open."""


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with on_directory(tmp_path) as found:
        yield found


async def stored(house: House, prefix: str = "") -> list[str]:
    return [info.key async for info in house.store.list(prefix)]


async def held(house: House, digest: str, repository: str = "acme/app") -> bytes:
    """Give the bytes behind a blob that the repository holds."""
    (await house.ask("HEAD", f"/v2/{repository}/blobs/{digest}")).expect(200)
    return (await house.store.read(keys.blob(Digest.parse(digest)), 64 * MIB))[1]


async def patch(house: House, location: str, body: bytes, start: int | None = None) -> Reply:
    headers = {} if start is None else {"content-range": f"{start}-{start + len(body) - 1}"}
    return await house.ask("PATCH", location, body=body, headers=headers)


async def test_a_blob_goes_in_with_one_post(house: House) -> None:
    reply = await house.ask("POST", f"/v2/acme/app/blobs/uploads/?digest={DIGEST}", body=BLOB)
    assert (reply.status, reply.body) == (201, b"")
    assert reply.header("location") == f"/v2/acme/app/blobs/{DIGEST}"
    assert reply.header("docker-content-digest") == DIGEST
    assert await held(house, DIGEST) == BLOB
    assert await stored(house) == [f"blobs/sha256/{DIGEST[7:]}", f"repos/acme/app/_blobs/sha256/{DIGEST[7:]}"]


async def test_opening_a_session_answers_a_path_with_one_token_and_writes_nothing(house: House) -> None:
    reply = await house.ask("POST", "/v2/acme/app/blobs/uploads/", body=b"")
    assert (reply.status, reply.body, reply.header("content-length")) == (202, b"", "0")
    assert reply.header("range") == "0-0"
    path, _, token = reply.header("location").rpartition("/")
    assert path == "/v2/acme/app/blobs/uploads"
    assert token.replace("-", "").replace("_", "").isalnum()
    assert reply.header("docker-upload-uuid")
    assert await stored(house) == []


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_blob_goes_in_with_post_and_put(house: House, slash: str, chunked: bool) -> None:
    opened = await house.ask("POST", f"/v2/acme/app/blobs/uploads{slash}", body=b"")
    body = pieces(BLOB) if chunked else BLOB
    put = await house.ask("PUT", in_session(opened.header("location"), DIGEST), body=body)
    assert put.expect(201).header("location") == f"/v2/acme/app/blobs/{DIGEST}"
    assert await held(house, DIGEST) == BLOB
    assert await stored(house, "uploads/") == []


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_blob_goes_in_with_one_patch_of_known_or_unknown_length(house: House, chunked: bool) -> None:
    location = await house.start_upload("acme/app")
    patched = await house.ask("PATCH", location, body=pieces(BLOB) if chunked else BLOB)
    assert patched.expect(202).header("range") == f"0-{len(BLOB) - 1}"
    put = await house.ask("PUT", in_session(patched.header("location"), DIGEST), body=b"")
    assert put.expect(201).header("docker-content-digest") == DIGEST
    assert await held(house, DIGEST) == BLOB
    assert await stored(house, "uploads/") == []


async def test_chunks_in_order_make_a_blob_and_the_last_may_come_with_the_put(house: House) -> None:
    location = await house.start_upload("acme/app")
    for start in (0, 100_000):
        reply = (await patch(house, location, BLOB[start : start + 100_000], start)).expect(202)
        assert reply.header("range") == f"0-{start + 99_999}"
        location = reply.header("location")
    last = {"content-range": f"200000-{len(BLOB) - 1}"}
    (await house.ask("PUT", in_session(location, DIGEST), body=BLOB[200_000:], headers=last)).expect(201)
    assert await held(house, DIGEST) == BLOB
    assert await stored(house, "uploads/") == []


async def test_a_chunk_out_of_order_is_told_where_the_upload_stands_and_the_upload_goes_on(house: House) -> None:
    location = (await patch(house, await house.start_upload("acme/app"), BLOB[:1000], 0)).header("location")
    refused = await patch(house, location, BLOB[2000:3000], 2000)
    assert refused.error == (416, "BLOB_UPLOAD_INVALID")
    assert refused.header("range") == "0-999"
    went_on = await patch(house, refused.header("location"), BLOB[1000:2000], 1000)
    assert went_on.expect(202).header("range") == "0-1999"


async def test_the_token_of_an_earlier_chunk_is_behind_and_is_told_the_truth(house: House) -> None:
    first = await house.start_upload("acme/app")
    second = (await patch(house, first, b"a" * 10, 0)).header("location")
    third = (await patch(house, second, b"b" * 10, 10)).header("location")
    for behind in (first, second):
        for reply in (await patch(house, behind, b"x" * 5), await patch(house, behind, b"x" * 5, 10)):
            assert reply.error == (416, "BLOB_UPLOAD_INVALID")
            assert reply.header("range") == "0-19"
    status = await house.ask("GET", second)
    assert (status.status, status.header("range"), status.body) == (204, "0-19", b"")
    digest = digest_of(b"a" * 10 + b"b" * 10)
    (await house.ask("PUT", in_session(third, digest), body=b"")).expect(201)


async def test_the_status_of_an_upload_is_204_without_length_and_its_location_goes_on(house: House) -> None:
    first = await house.start_upload("acme/app")
    (await patch(house, first, b"abc")).expect(202)
    status = await house.ask("GET", first)
    assert (status.status, status.header("range"), status.has("content-length")) == (204, "0-2", False)
    (await house.ask("PUT", in_session(status.header("location"), digest_of(b"abc")), body=b"")).expect(201)


@pytest.mark.parametrize("shape", ["post", "post-put", "put-without-body", "patch"])
async def test_an_empty_blob_goes_in(house: House, shape: str) -> None:
    digest = digest_of(b"")
    if shape == "post":
        reply = await house.ask("POST", f"/v2/acme/app/blobs/uploads/?digest={digest}", body=b"")
    else:
        location = await house.start_upload("acme/app")
        if shape == "patch":
            location = (await house.ask("PATCH", location, body=pieces(b""))).expect(202).header("location")
        body = None if shape == "put-without-body" else b""
        reply = await house.ask("PUT", in_session(location, digest), body=body)
    reply.expect(201)
    assert await held(house, digest) == b""
    assert (await house.ask("HEAD", f"/v2/acme/app/blobs/{digest}")).header("content-length") == "0"


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("announced", [True, False])
async def test_an_upload_may_be_finished_with_either_registered_algorithm(
    house: House, algorithm: str, announced: bool
) -> None:
    query = f"?digest-algorithm={algorithm}" if announced else ""
    opened = await house.ask("POST", f"/v2/acme/app/blobs/uploads/{query}", body=b"")
    patched = await patch(house, opened.header("location"), BLOB)
    digest = digest_of(BLOB, algorithm)
    (await house.ask("PUT", in_session(patched.header("location"), digest), body=b"")).expect(201)
    assert await held(house, digest) == BLOB


@pytest.mark.parametrize("size", [8 * MIB - 1, 8 * MIB, 8 * MIB + 1, 17 * MIB])
@pytest.mark.parametrize("shape", ["put", "put-chunked", "patch-chunked"])
async def test_blobs_around_the_size_of_a_part_arrive_whole(house: House, size: int, shape: str) -> None:
    content = Random(size).randbytes(1000) * (size // 1000 + 1)
    content = content[:size]
    digest = digest_of(content)
    location = await house.start_upload("acme/app")
    if shape == "patch-chunked":
        location = (await house.ask("PATCH", location, body=pieces(content, MIB))).expect(202).header("location")
        put = await house.ask("PUT", in_session(location, digest), body=b"")
    else:
        body = pieces(content, MIB) if shape == "put-chunked" else content
        put = await house.ask("PUT", in_session(location, digest), body=body)
    put.expect(201)
    assert digest_of(await held(house, digest)) == digest
    assert house.registry.budget.used == 0


@pytest.mark.parametrize("size", [10, 20 * MIB])
@pytest.mark.parametrize("shape", ["post", "put", "patch", "two patches"])
async def test_a_digest_that_does_not_match_says_both_digests_and_leaves_nothing_behind(
    house: House, size: int, shape: str
) -> None:
    content, stated = b"x" * size, digest_of(b"something else")
    if shape == "post":
        reply = await house.ask("POST", f"/v2/acme/app/blobs/uploads/?digest={stated}", body=content)
    else:
        location = await house.start_upload("acme/app")
        if shape == "put":
            reply = await house.ask("PUT", in_session(location, stated), body=content)
        else:
            parts = [content] if shape == "patch" else [content[:5], content[5:]]
            for part in parts:
                location = (await patch(house, location, part)).expect(202).header("location")
            reply = await house.ask("PUT", in_session(location, stated), body=b"")
    assert reply.error == (400, "DIGEST_INVALID")
    assert stated in reply.message
    assert digest_of(content) in reply.message
    assert await stored(house) == []
    assert house.registry.budget.used == 0
    (await house.ask("HEAD", f"/v2/acme/app/blobs/{stated}")).expect(404)


async def test_a_blob_that_the_bucket_has_is_not_given_to_who_cannot_show_its_bytes(house: House) -> None:
    """Knowing a digest opens nothing: the sender of another repository proves that it has the bytes."""
    await house.push_blob("acme/app", BLOB)
    refused = await house.ask("POST", f"/v2/thief/app/blobs/uploads/?digest={DIGEST}", body=b"guess")
    assert refused.error == (400, "DIGEST_INVALID")
    (await house.ask("HEAD", f"/v2/thief/app/blobs/{DIGEST}")).expect(404)
    (await house.ask("POST", f"/v2/thief/app/blobs/uploads/?digest={DIGEST}", body=BLOB)).expect(201)
    assert await held(house, DIGEST, "thief/app") == BLOB


async def test_a_cancelled_upload_is_gone_with_its_bytes(house: House) -> None:
    location = await house.start_upload("acme/app")
    patched = (await patch(house, location, BLOB)).header("location")
    cancelled = await house.ask("DELETE", patched)
    assert (cancelled.status, cancelled.body) == (204, b"")
    assert await stored(house) == []
    for method in ("GET", "PATCH", "DELETE"):
        assert (await house.ask(method, patched, body=b"x")).error == (404, "BLOB_UPLOAD_UNKNOWN")
    finished = await house.ask("PUT", in_session(patched, DIGEST), body=b"")
    assert finished.error == (404, "BLOB_UPLOAD_UNKNOWN")


async def test_a_session_that_was_cancelled_before_anything_came_is_gone_as_well(house: House) -> None:
    location = await house.start_upload("acme/app")
    (await house.ask("DELETE", location)).expect(204)
    assert (await patch(house, location, b"x")).error == (404, "BLOB_UPLOAD_UNKNOWN")
    (await patch(house, await house.start_upload("acme/app"), b"x")).expect(202)


async def test_finishing_again_after_a_lost_answer_succeeds_and_another_digest_does_not(house: House) -> None:
    location = (await patch(house, await house.start_upload("acme/app"), BLOB)).header("location")
    for _ in range(2):
        (await house.ask("PUT", in_session(location, DIGEST), body=b"")).expect(201)
    other = await house.ask("PUT", in_session(location, digest_of(b"other")), body=b"")
    assert other.error == (404, "BLOB_UPLOAD_UNKNOWN")


async def test_an_upload_begun_here_is_finished_by_another_replica(house: House, tmp_path: Path) -> None:
    location = (await patch(house, await house.start_upload("acme/app"), BLOB[:1000])).header("location")
    async with on_directory(tmp_path) as other:
        status = await other.ask("GET", location)
        assert status.header("range") == "0-999"
        location = (await patch(other, status.header("location"), BLOB[1000:])).expect(202).header("location")
    (await house.ask("PUT", in_session(location, DIGEST), body=b"")).expect(201)
    assert await held(house, DIGEST) == BLOB


async def test_a_session_expires_after_a_day(house: House) -> None:
    location = await house.start_upload("acme/app")
    house.clock.advance(24 * 3600 - 1)
    (await house.ask("GET", location)).expect(204)
    house.clock.advance(2)
    assert (await house.ask("GET", location)).error == (404, "BLOB_UPLOAD_UNKNOWN")


async def test_every_answer_of_an_upload_prolongs_nothing(house: House) -> None:
    location = await house.start_upload("acme/app")
    house.clock.advance(12 * 3600)
    later = (await patch(house, location, b"abc")).header("location")
    house.clock.advance(12 * 3600 + 1)
    assert (await house.ask("GET", later)).error == (404, "BLOB_UPLOAD_UNKNOWN")


async def test_a_blob_is_mounted_from_a_repository_that_holds_it(house: House) -> None:
    await house.push_blob("acme/base", BLOB)
    target = f"/v2/acme/app/blobs/uploads/?mount={DIGEST}&from=acme/base"
    reply = await house.ask("POST", target, body=b"")
    assert reply.expect(201).header("location") == f"/v2/acme/app/blobs/{DIGEST}"
    assert reply.header("docker-content-digest") == DIGEST
    assert await held(house, DIGEST) == BLOB


@pytest.mark.parametrize("source", ["", "&from=acme/other", "&from=No/Name", "&from=acme/app"])
async def test_a_mount_that_is_not_possible_becomes_an_upload(house: House, source: str) -> None:
    await house.push_blob("acme/base", BLOB)
    reply = await house.ask("POST", f"/v2/acme/app/blobs/uploads/?mount={DIGEST}{source}", body=b"")
    location = reply.expect(202).header("location")
    (await house.ask("HEAD", f"/v2/acme/app/blobs/{DIGEST}")).expect(404)
    (await house.ask("PUT", in_session(location, DIGEST), body=BLOB)).expect(201)


async def test_a_blob_above_the_limit_is_refused_and_one_at_the_limit_is_not(tmp_path: Path) -> None:
    async with on_directory(tmp_path, max_blob_bytes=1000) as house:
        for body in (b"x" * 1001, pieces(b"x" * 1001)):
            target = f"/v2/acme/app/blobs/uploads/?digest={digest_of(b'x' * 1001)}"
            refused = await house.ask("POST", target, body=body)
            assert refused.error == (413, "SIZE_INVALID")
            assert "1000 bytes" in refused.message
        location = await house.start_upload("acme/app")
        assert (await house.ask("PATCH", location, body=pieces(b"x" * 1001))).error == (413, "SIZE_INVALID")
        assert [key for key in await stored(house) if not key.endswith(OPEN_MARK)] == []
        await house.push_blob("acme/app", b"x" * 1000)
        assert house.registry.budget.used == 0


async def test_chunks_together_may_not_pass_the_limit_either(tmp_path: Path) -> None:
    async with on_directory(tmp_path, max_blob_bytes=1000) as house:
        location = await house.start_upload("acme/app")
        location = (await patch(house, location, b"x" * 900)).expect(202).header("location")
        refused = await patch(house, location, b"x" * 101)
        assert refused.error == (413, "SIZE_INVALID")
        location = (await patch(house, location, b"x" * 100)).expect(202).header("location")
        (await house.ask("PUT", in_session(location, digest_of(b"x" * 1000)), body=b"")).expect(201)


async def test_a_cut_upload_leaves_nothing_visible_and_the_session_usable(house: House) -> None:
    async def cut(size: int = 1000) -> AsyncIterator[bytes]:
        for _ in range(0, size, 1000):
            yield BLOB[:1000]
        raise HangUp

    location = await house.start_upload("acme/app")
    for body in (cut(), cut(20 * MIB)):
        with pytest.raises(NoAnswer):
            await house.ask("PATCH", location, body=body)
    status = await house.ask("GET", location)
    assert (status.status, status.header("range")) == (204, "0-0")
    assert [key for key in await stored(house) if not key.endswith(OPEN_MARK)] == []
    assert house.registry.budget.used == 0
    location = (await patch(house, location, BLOB)).expect(202).header("location")
    (await house.ask("PUT", in_session(location, DIGEST), body=b"")).expect(201)


async def test_a_pushed_blob_can_be_named_by_a_manifest(house: House) -> None:
    await house.push_blob("acme/app", b"{}")
    location = (await patch(house, await house.start_upload("acme/app"), BLOB)).header("location")
    (await house.ask("PUT", in_session(location, DIGEST), body=b"")).expect(201)
    (await house.put_manifest("acme/app", "latest", image(BLOB))).expect(201)
