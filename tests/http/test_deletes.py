"""Deleting tags, manifests and blobs, and what is gone with them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edgeproxy.oci.names import Digest
from edgeproxy.storage import keys
from tests.http.harness import IMAGE, House, descriptor, digest_of, image, on_directory


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with on_directory(tmp_path) as found:
        for blob in (b"{}", b"layer"):
            await found.push_blob("acme/app", blob)
        yield found


async def status(house: House, reference: str, method: str = "HEAD") -> int:
    return (await house.ask(method, f"/v2/acme/app/manifests/{reference}")).status


async def test_a_deleted_tag_is_gone_and_its_manifest_stays(house: House) -> None:
    manifest = image(b"layer")
    for tag in ("latest", "other"):
        (await house.put_manifest("acme/app", tag, manifest)).expect(201)
    deleted = await house.ask("DELETE", "/v2/acme/app/manifests/latest")
    assert (deleted.status, deleted.body) == (202, b"")
    assert [await status(house, name) for name in ("latest", "other", digest_of(manifest))] == [404, 200, 200]
    assert (await house.ask("GET", "/v2/acme/app/tags/list")).json["tags"] == ["other"]
    again = await house.ask("DELETE", "/v2/acme/app/manifests/latest")
    assert again.error == (404, "MANIFEST_UNKNOWN")


async def test_a_deleted_tag_can_be_set_again(house: House) -> None:
    manifest = image(b"layer")
    for _ in range(3):
        (await house.put_manifest("acme/app", "latest", manifest)).expect(201)
        assert await status(house, "latest") == 200
        (await house.ask("DELETE", "/v2/acme/app/manifests/latest")).expect(202)
        assert await status(house, "latest") == 404
    (await house.put_manifest("acme/app", "latest", manifest)).expect(201)
    (await house.ask("DELETE", f"/v2/acme/app/manifests/{digest_of(manifest)}")).expect(202)
    assert (await house.ask("GET", "/v2/acme/app/tags/list")).json["tags"] == []


async def test_a_deleted_manifest_takes_its_tags_along_and_no_others(house: House) -> None:
    gone, kept = image(b"layer"), image(b"layer", annotations={"a": "b"})
    for tag in ("a", "b", "moved"):
        (await house.put_manifest("acme/app", tag, gone)).expect(201)
    for tag in ("moved", "c"):
        (await house.put_manifest("acme/app", tag, kept)).expect(201)
    (await house.ask("DELETE", f"/v2/acme/app/manifests/{digest_of(gone)}")).expect(202)
    assert await status(house, digest_of(gone)) == 404
    assert await status(house, digest_of(gone), "GET") == 404
    assert (await house.ask("GET", "/v2/acme/app/tags/list")).json["tags"] == ["c", "moved"]
    again = await house.ask("DELETE", f"/v2/acme/app/manifests/{digest_of(gone)}")
    assert again.error == (404, "MANIFEST_UNKNOWN")


async def test_a_deleted_manifest_can_be_pushed_again(house: House) -> None:
    manifest = image(b"layer")
    for _ in range(2):
        (await house.put_manifest("acme/app", "latest", manifest)).expect(201)
        (await house.ask("DELETE", f"/v2/acme/app/manifests/{digest_of(manifest)}")).expect(202)
    (await house.put_manifest("acme/app", "latest", manifest)).expect(201)
    assert await status(house, "latest") == 200


async def test_a_deleted_referrer_is_listed_no_more(house: House) -> None:
    subject = descriptor(b"subject", IMAGE)
    manifests = [image(b"layer", subject=subject, annotations={"n": str(number)}) for number in range(2)]
    for manifest in manifests:
        (await house.put_manifest("acme/app", digest_of(manifest), manifest)).expect(201)
    (await house.ask("DELETE", f"/v2/acme/app/manifests/{digest_of(manifests[0])}")).expect(202)
    found = (await house.ask("GET", f"/v2/acme/app/referrers/{subject['digest']}")).json["manifests"]
    assert [item["digest"] for item in found] == [digest_of(manifests[1])]


async def test_a_deleted_blob_is_gone_from_this_repository_at_once_and_from_no_other(house: House) -> None:
    digest = digest_of(b"layer")
    await house.push_blob("acme/other", b"layer")
    for _ in range(2):
        (await house.ask("GET", f"/v2/acme/app/blobs/{digest}")).expect(307)
    deleted = await house.ask("DELETE", f"/v2/acme/app/blobs/{digest}")
    assert (deleted.status, deleted.body) == (202, b"")
    for method in ("HEAD", "GET", "DELETE"):
        assert (await house.ask(method, f"/v2/acme/app/blobs/{digest}")).status == 404
    (await house.ask("GET", f"/v2/acme/other/blobs/{digest}")).expect(307)
    assert (await house.store.head(keys.blob(Digest.parse(digest)))).size == 5


async def test_a_manifest_does_not_vouch_for_a_blob_that_was_deleted(house: House) -> None:
    manifest = image(b"layer")
    (await house.put_manifest("acme/app", "latest", manifest)).expect(201)
    (await house.ask("GET", "/v2/acme/app/manifests/latest")).expect(200)
    digest = digest_of(b"layer")
    (await house.ask("DELETE", f"/v2/acme/app/blobs/{digest}")).expect(202)
    for _ in range(2):
        (await house.ask("GET", "/v2/acme/app/manifests/latest")).expect(200)
        assert (await house.ask("HEAD", f"/v2/acme/app/blobs/{digest}")).status == 404
        house.clock.advance(61)


async def test_a_deleted_blob_may_not_be_named_by_a_new_manifest_until_it_is_pushed_again(house: House) -> None:
    digest = digest_of(b"layer")
    (await house.ask("DELETE", f"/v2/acme/app/blobs/{digest}")).expect(202)
    assert (await house.put_manifest("acme/app", "latest", image(b"layer"))).error == (404, "MANIFEST_BLOB_UNKNOWN")
    mount = await house.ask("POST", f"/v2/acme/new/blobs/uploads/?mount={digest}&from=acme/app", body=b"")
    mount.expect(202)
    await house.push_blob("acme/app", b"layer")
    (await house.put_manifest("acme/app", "latest", image(b"layer"))).expect(201)
    (await house.ask("GET", f"/v2/acme/app/blobs/{digest}")).expect(307)


async def test_immutable_tags_are_deleted_neither_by_name_nor_by_digest(house: House) -> None:
    manifest = image(b"layer")
    for tag in ("v1", "latest"):
        (await house.put_manifest("acme/app", tag, manifest)).expect(201)
    for reference in ("v1", digest_of(manifest)):
        refused = await house.ask("DELETE", f"/v2/acme/app/manifests/{reference}")
        assert refused.error == (403, "DENIED")
        assert "immutable" in refused.message
    assert [await status(house, name) for name in ("v1", "latest", digest_of(manifest))] == [200, 200, 200]
    (await house.ask("DELETE", "/v2/acme/app/manifests/latest")).expect(202)
    assert (await house.ask("DELETE", "/v2/acme/app/manifests/v2")).error == (404, "MANIFEST_UNKNOWN")


async def test_a_tag_that_was_deleted_before_it_became_immutable_can_be_created(house: House) -> None:
    (await house.put_manifest("acme/app", "rc", image(b"layer"))).expect(201)
    (await house.ask("DELETE", "/v2/acme/app/manifests/rc")).expect(202)
    house.set_policy(
        "version: 1\npublic:\n  - {repositories: ['**'], actions: [pull, push, delete]}\n"
        "tags:\n  - {repositories: ['**'], tags: ['rc'], immutable: true}\n"
    )
    (await house.put_manifest("acme/app", "rc", image(b"layer"))).expect(201)
    assert await status(house, "rc") == 200
    assert (await house.ask("DELETE", "/v2/acme/app/manifests/rc")).error == (403, "DENIED")


async def test_deleting_what_was_never_there_says_what_is_missing(house: House) -> None:
    missing = digest_of(b"never")
    assert (await house.ask("DELETE", f"/v2/acme/app/manifests/{missing}")).error == (404, "MANIFEST_UNKNOWN")
    assert (await house.ask("DELETE", "/v2/acme/app/manifests/never")).error == (404, "MANIFEST_UNKNOWN")
    assert (await house.ask("DELETE", f"/v2/acme/app/blobs/{missing}")).error == (404, "BLOB_UNKNOWN")
