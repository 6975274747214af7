"""Pushing manifests: what they name must be there, and what they say of themselves must be true."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edgeproxy.oci.names import Digest, Repository
from edgeproxy.storage import keys
from tests.http.harness import (
    CONFIG,
    IMAGE,
    INDEX,
    LAYER,
    House,
    descriptor,
    digest_of,
    image,
    index,
    on_directory,
    pieces,
)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with on_directory(tmp_path) as found:
        await found.push_blob("acme/app", b"{}")
        await found.push_blob("acme/app", b"layer")
        yield found


async def listed(house: House, prefix: str) -> list[str]:
    return [info.key async for info in house.store.list(prefix)]


async def test_a_manifest_is_pushed_under_a_tag_and_under_its_digest(house: House) -> None:
    manifest = image(b"layer")
    by_tag = await house.put_manifest("acme/app", "latest", manifest)
    assert (by_tag.status, by_tag.body) == (201, b"")
    assert by_tag.header("location") == "/v2/acme/app/manifests/latest"
    assert by_tag.header("docker-content-digest") == digest_of(manifest)
    assert not by_tag.has("oci-subject")
    other = image(b"layer", annotations={"a": "b"})
    by_digest = await house.put_manifest("acme/app", digest_of(other), other)
    assert by_digest.expect(201).header("location") == f"/v2/acme/app/manifests/{digest_of(other)}"
    assert (await house.ask("GET", "/v2/acme/app/tags/list")).json["tags"] == ["latest"]


async def test_a_chunked_manifest_is_taken(house: House) -> None:
    target = "/v2/acme/app/manifests/latest"
    manifest = image(b"layer")
    (await house.ask("PUT", target, body=pieces(manifest, 10), headers={"content-type": IMAGE})).expect(201)
    assert (await house.ask("GET", target)).body == manifest


async def test_a_digest_that_the_manifest_does_not_have_is_refused(house: House) -> None:
    wrong = digest_of(b"other")
    reply = await house.put_manifest("acme/app", wrong, image(b"layer"))
    assert reply.error == (400, "DIGEST_INVALID")
    assert wrong in reply.message
    assert digest_of(image(b"layer")) in reply.message
    assert await listed(house, "repos/acme/app/_manifests/") == []
    assert await listed(house, "catalog/") == []


async def test_each_missing_part_is_named_and_nothing_is_written(house: House) -> None:
    manifest = image(b"layer", b"missing one", b"missing two")
    reply = await house.put_manifest("acme/app", "latest", manifest)
    assert reply.error == (404, "MANIFEST_BLOB_UNKNOWN")
    assert digest_of(b"missing one") in reply.message
    assert digest_of(b"missing two") in reply.message
    assert digest_of(b"layer") not in reply.message
    assert await listed(house, "repos/acme/app/_") == await listed(house, "repos/acme/app/_blobs/")
    for blob in (b"missing one", b"missing two"):
        await house.push_blob("acme/app", blob)
    (await house.put_manifest("acme/app", "latest", manifest)).expect(201)


async def test_each_size_that_is_not_true_is_named(house: House) -> None:
    document = json.loads(image(b"layer"))
    document["layers"][0]["size"] = 6
    reply = await house.put_manifest("acme/app", "latest", json.dumps(document).encode())
    assert reply.error == (400, "SIZE_INVALID")
    assert f"{digest_of(b'layer')} has 5 bytes, not 6" in reply.message
    assert await listed(house, "repos/acme/app/_manifests/") == []


async def test_a_blob_of_another_repository_does_not_count_as_here(house: House) -> None:
    """Cross-repository blob access: a manifest is no way to get at a blob whose digest is known."""
    reply = await house.put_manifest("thief/app", "latest", image(b"layer"))
    assert reply.error == (404, "MANIFEST_BLOB_UNKNOWN")
    (await house.ask("GET", f"/v2/thief/app/blobs/{digest_of(b'layer')}")).expect(404)
    (await house.put_manifest("acme/app", "latest", image(b"layer"))).expect(201)


@pytest.mark.parametrize(
    "media_type",
    [
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    ],
)
async def test_layers_that_may_not_be_distributed_need_not_be_there(house: House, media_type: str) -> None:
    document = json.loads(image())
    document["layers"] = [descriptor(b"licensed", media_type, urls=["https://vendor.example/layer"])]
    manifest = json.dumps(document).encode()
    (await house.put_manifest("acme/app", "windows", manifest)).expect(201)
    (await house.ask("GET", "/v2/acme/app/manifests/windows")).expect(200)
    # And a manifest that names it does not make it a blob of this repository.
    (await house.ask("HEAD", f"/v2/acme/app/blobs/{digest_of(b'licensed')}")).expect(404)


async def test_an_index_needs_its_manifests_or_blobs(house: House) -> None:
    manifest = image(b"layer")
    fat = index(manifest)
    refused = await house.put_manifest("acme/app", "fat", fat, INDEX)
    assert refused.error == (404, "MANIFEST_BLOB_UNKNOWN")
    assert digest_of(manifest) in refused.message
    (await house.put_manifest("acme/app", digest_of(manifest), manifest)).expect(201)
    (await house.put_manifest("acme/app", "fat", fat, INDEX)).expect(201)
    cache = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor(b"layer", LAYER)]}).encode()
    (await house.put_manifest("acme/app", "buildcache", cache, INDEX)).expect(201)


async def test_a_child_of_an_index_is_no_blob(house: House) -> None:
    manifest = image(b"layer")
    (await house.put_manifest("acme/app", "one", manifest)).expect(201)
    (await house.put_manifest("acme/app", "fat", index(manifest), INDEX)).expect(201)
    (await house.ask("GET", "/v2/acme/app/manifests/fat")).expect(200)
    (await house.ask("GET", f"/v2/acme/app/blobs/{digest_of(manifest)}")).expect(404)


async def test_a_subject_need_not_be_there_and_is_confirmed(house: House) -> None:
    subject = descriptor(b"not pushed yet", IMAGE)
    reply = await house.put_manifest("acme/app", "signature", image(b"layer", subject=subject))
    assert reply.expect(201).header("oci-subject") == subject["digest"]


async def test_an_unknown_media_type_is_kept_byte_for_byte(house: House) -> None:
    content = b'{"mediaType": "application/vnd.example.thing+json", "a": 1, "a": 2}\n'
    media_type = "application/vnd.example.thing+json"
    (await house.put_manifest("acme/app", "thing", content, media_type)).expect(201)
    reply = await house.ask("GET", "/v2/acme/app/manifests/thing")
    assert (reply.body, reply.header("content-type")) == (content, media_type)


async def test_the_same_bytes_pushed_with_another_media_type_are_served_with_the_last_one(house: House) -> None:
    content = b"{}\n"
    for media_type in ("application/vnd.example.a+json", "application/vnd.example.b+json"):
        (await house.put_manifest("acme/app", "thing", content, media_type)).expect(201)
        reply = await house.ask("GET", "/v2/acme/app/manifests/thing")
        assert (reply.body, reply.header("content-type")) == (content, media_type)


async def test_a_media_type_that_another_replica_changed_is_seen_within_a_minute(house: House, tmp_path: Path) -> None:
    content = b"{}\n"
    target = "/v2/acme/app/manifests/thing"
    (await house.put_manifest("acme/app", "thing", content, "application/vnd.example.a+json")).expect(201)
    assert (await house.ask("GET", target)).header("content-type") == "application/vnd.example.a+json"
    async with on_directory(tmp_path) as other:
        (await other.put_manifest("acme/app", "thing", content, "application/vnd.example.b+json")).expect(201)
    house.clock.advance(61)
    assert (await house.ask("GET", target)).header("content-type") == "application/vnd.example.b+json"


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_manifest_of_four_mebibytes_is_taken_and_a_larger_one_is_not(house: House, chunked: bool) -> None:
    limit = 4 * 1024 * 1024
    padding = limit - len(image(b"layer", annotations={"a": ""}))
    largest = image(b"layer", annotations={"a": "x" * padding})
    assert len(largest) == limit
    target, headers = "/v2/acme/app/manifests/latest", {"content-type": IMAGE}
    too_large = largest + b" "
    refused = await house.ask("PUT", target, body=pieces(too_large, 65536) if chunked else too_large, headers=headers)
    assert refused.error == (413, "MANIFEST_INVALID")
    assert str(limit) in refused.message
    assert refused.complete
    assert await listed(house, "repos/acme/app/_manifests/") == []
    taken = await house.ask("PUT", target, body=pieces(largest, 65536) if chunked else largest, headers=headers)
    taken.expect(201)


async def test_tag_parameters_set_every_tag_and_each_is_confirmed(house: House) -> None:
    manifest = image(b"layer")
    tags = [f"t{number}" for number in range(100)]
    query = "&".join(f"tag={tag}" for tag in [*tags, "t0"])
    reply = await house.put_manifest("acme/app", f"{digest_of(manifest)}?{query}", manifest)
    assert reply.expect(201).header("oci-tag") == ", ".join(tags)
    for tag in ("t0", "t99"):
        got = await house.ask("HEAD", f"/v2/acme/app/manifests/{tag}")
        assert got.expect(200).header("docker-content-digest") == digest_of(manifest)


async def test_an_immutable_tag_may_be_created_and_pushed_again_but_never_moved(house: House) -> None:
    first, second = image(b"layer"), image(b"layer", annotations={"a": "b"})
    for _ in range(2):
        (await house.put_manifest("acme/app", "v1", first)).expect(201)
    refused = await house.put_manifest("acme/app", "v1", second)
    assert refused.error == (403, "DENIED")
    assert "v1" in refused.message
    got = await house.ask("HEAD", "/v2/acme/app/manifests/v1")
    assert got.header("docker-content-digest") == digest_of(first)
    for manifest in (first, second):
        (await house.put_manifest("acme/app", "latest", manifest)).expect(201)


async def test_a_push_of_several_tags_of_which_one_may_not_move_sets_none(house: House) -> None:
    """Scope mistakes: tag parameters are no way around an immutable tag."""
    first, second = image(b"layer"), image(b"layer", annotations={"a": "b"})
    (await house.put_manifest("acme/app", "v1", first)).expect(201)
    refused = await house.put_manifest("acme/app", f"{digest_of(second)}?tag=latest&tag=v1", second)
    assert refused.error == (403, "DENIED")
    assert (await house.ask("GET", "/v2/acme/app/tags/list")).json["tags"] == ["v1"]
    assert len(await listed(house, "repos/acme/app/_manifests/")) == 1
    (await house.put_manifest("acme/app", f"{digest_of(second)}?tag=latest&tag=v2", second)).expect(201)


async def test_an_artifact_with_an_empty_config_of_its_own_type_is_taken(house: House) -> None:
    artifact = image(b"layer", artifactType="application/vnd.example.sbom")
    (await house.put_manifest("acme/app", "sbom", artifact)).expect(201)
    assert json.loads((await house.ask("GET", "/v2/acme/app/manifests/sbom")).body)["config"]["mediaType"] == CONFIG


async def test_stored_bytes_that_are_not_their_digest_are_not_served(house: House) -> None:
    manifest = image(b"layer")
    (await house.put_manifest("acme/app", "latest", manifest)).expect(201)
    place = keys.manifest(Repository("acme/app"), Digest.of(manifest))
    await house.store.put(place, manifest + b" ", content_type=IMAGE)
    reply = await house.ask("GET", "/v2/acme/app/manifests/latest")
    assert reply.error == (503, "UNAVAILABLE")
