"""Pulling manifests: the same headers by tag and by digest, for GET and HEAD."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.http.harness import IMAGE, House, digest_of, image, on_directory


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with on_directory(tmp_path) as found:
        yield found


@pytest.mark.parametrize("by", ["latest", "digest"])
async def test_a_head_of_a_manifest_has_the_headers_of_its_get_and_no_body(house: House, by: str) -> None:
    manifest = await house.push_image("acme/app", "latest", b"layer")
    target = f"/v2/acme/app/manifests/{by if by == 'latest' else digest_of(manifest)}"
    got, head = await house.ask("GET", target), await house.ask("HEAD", target)
    assert got.status == head.status == 200
    assert got.headers == head.headers
    assert (got.body, head.body) == (manifest, b"")
    assert got.header("content-length") == str(len(manifest))
    assert got.header("content-type") == IMAGE
    assert got.header("docker-content-digest") == digest_of(manifest)
    assert got.header("etag") == f'"{digest_of(manifest)}"'


async def test_by_tag_and_by_digest_differ_in_nothing_but_how_long_they_may_be_kept(house: House) -> None:
    manifest = await house.push_image("acme/app", "latest")
    tag = await house.ask("GET", "/v2/acme/app/manifests/latest")
    digest = await house.ask("GET", f"/v2/acme/app/manifests/{digest_of(manifest)}")
    assert tag.header("cache-control") == "private, no-cache"
    assert digest.header("cache-control") == "private, max-age=31536000, immutable"
    assert set(tag.headers) - set(digest.headers) == {("cache-control", "private, no-cache")}


async def test_a_manifest_is_given_back_byte_for_byte(house: House) -> None:
    await house.push_blob("acme/app", b"{}")
    manifest = image().replace(b", ", b" ,\n\t") + b"\n\n"
    (await house.put_manifest("acme/app", "odd", manifest)).expect(201)
    assert (await house.ask("GET", "/v2/acme/app/manifests/odd")).body == manifest


async def test_accept_and_range_do_not_matter_to_a_manifest(house: House) -> None:
    manifest = await house.push_image("acme/app", "latest")
    for headers in (
        [("accept", "text/html")],
        [("accept", IMAGE), ("accept", "*/*")],
        [("range", "bytes=0-3")],
        [("range", "bytes=99999999-")],
        [("accept-encoding", "gzip")],
    ):
        reply = await house.ask("GET", "/v2/acme/app/manifests/latest", headers=headers)
        assert (reply.status, reply.body) == (200, manifest)
        assert not reply.has("content-encoding")


@pytest.mark.parametrize("given", ['"{}"', 'W/"{}"', '"x", "{}"', "*"])
async def test_a_manifest_that_the_client_has_is_not_sent_again(house: House, given: str) -> None:
    manifest = await house.push_image("acme/app", "latest")
    digest = digest_of(manifest)
    target = "/v2/acme/app/manifests/latest"
    reply = await house.ask("GET", target, headers={"if-none-match": given.format(digest)})
    assert (reply.status, reply.body) == (304, b"")
    assert reply.header("etag") == f'"{digest}"'
    assert reply.header("docker-content-digest") == digest
    # A length here would be that of the manifest (RFC 9110, 8.6); none is never wrong.
    assert not reply.has("content-length")
    other = await house.ask("GET", target, headers={"if-none-match": '"sha256:other"'})
    assert (other.status, other.body) == (200, manifest)


async def test_a_manifest_under_sha512_is_served_under_sha512(house: House) -> None:
    await house.push_blob("acme/app", b"{}")
    manifest = image()
    digest = digest_of(manifest, "sha512")
    pushed = await house.put_manifest("acme/app", digest, manifest)
    assert pushed.expect(201).header("docker-content-digest") == digest
    got = await house.ask("GET", f"/v2/acme/app/manifests/{digest}")
    assert (got.status, got.body, got.header("docker-content-digest")) == (200, manifest, digest)
    assert (await house.ask("GET", f"/v2/acme/app/manifests/{digest_of(manifest)}")).error == (404, "MANIFEST_UNKNOWN")


async def test_every_answer_names_its_request_and_the_api(house: House) -> None:
    for target, headers, wanted in (
        ("/v2/", {}, "r1"),
        ("/v2/", {"x-request-id": "abc-1/2=3+4_5.6"}, "abc-1/2=3+4_5.6"),
        ("/v2/", {"x-request-id": "a\x01b"}, "r1"),
        ("/v2/", {"x-request-id": "x" * 129}, "r1"),
        ("/v2/no/such/endpoint", {"x-request-id": "kept"}, "kept"),
    ):
        reply = await house.ask("GET", target, headers=headers)
        assert reply.header("x-request-id") == wanted
        assert reply.header("docker-distribution-api-version") == "registry/2.0"


async def test_the_colon_of_a_digest_may_be_encoded_and_the_namespace_of_a_mirror_is_ignored(house: House) -> None:
    manifest = await house.push_image("acme/app", "latest")
    digest = digest_of(manifest).replace(":", "%3A")
    assert (await house.ask("GET", f"/v2/acme/app/manifests/{digest}?ns=docker.io")).body == manifest
