"""A store that is out of order: what was known goes on for ten minutes, everything else is 503, and trouble is never an answer about names."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edgeproxy.storage import Store
from tests.http.harness import House, digest_of, image, in_session, on_directory
from tests.interleaving import Interleaved

LAYER = b"layer"
BLOB = f"/v2/acme/app/blobs/{digest_of(LAYER)}"
MANIFEST = image(LAYER)
BY_DIGEST = f"/v2/acme/app/manifests/{digest_of(MANIFEST)}"


class Outage:
    """A house whose store can fail."""

    def __init__(self, house: House, store: Interleaved) -> None:
        self.house = house
        self.store = store


@pytest.fixture
async def outage(tmp_path: Path) -> AsyncIterator[Outage]:
    stores: list[Interleaved] = []

    def wrap(store: Store) -> Interleaved:
        stores.append(Interleaved(store))
        return stores[0]

    async with on_directory(tmp_path, wrap=wrap) as house:
        await house.push_image("acme/app", "latest", LAYER)
        yield Outage(house, stores[0])


@pytest.mark.parametrize(
    ("method", "target", "status"), [("GET", BLOB, 307), ("HEAD", BLOB, 200), ("GET", BY_DIGEST, 200)]
)
async def test_what_was_known_is_served_ten_minutes_past_its_life_and_then_503(
    outage: Outage, method: str, target: str, status: int
) -> None:
    house, store = outage.house, outage.store
    (await house.ask("GET", BY_DIGEST)).expect(200)
    (await house.ask(method, target)).expect(status)
    store.failing = "*"
    for advance in (0, 59, 2, 500, 98):
        house.clock.advance(advance)
        (await house.ask(method, target)).expect(status)
    house.clock.advance(2)
    reply = await house.ask(method, target)
    assert (reply.status, reply.header("retry-after")) == (503, "5")
    store.failing = ""
    (await house.ask(method, target)).expect(status)


async def test_a_blob_that_only_a_manifest_vouches_for_is_served_too(outage: Outage, tmp_path: Path) -> None:
    stores: list[Interleaved] = []

    def wrap(store: Store) -> Interleaved:
        stores.append(Interleaved(store))
        return stores[0]

    async with on_directory(tmp_path, wrap=wrap) as fresh:
        (await fresh.ask("GET", BY_DIGEST)).expect(200)
        (await fresh.ask("GET", BLOB)).expect(307)
        stores[0].failing = "*"
        fresh.clock.advance(300)
        (await fresh.ask("GET", BLOB)).expect(307)


UPLOADS = "/v2/acme/app/blobs/uploads/"
REQUESTS = [
    ("GET", "/v2/acme/app/manifests/latest", None),
    ("HEAD", "/v2/acme/app/manifests/none", None),
    ("GET", f"/v2/acme/app/manifests/{digest_of(b'x')}", None),
    ("GET", f"/v2/acme/app/blobs/{digest_of(b'x')}", None),
    ("DELETE", BLOB, None),
    ("DELETE", BY_DIGEST, None),
    ("DELETE", "/v2/acme/app/manifests/latest", None),
    ("DELETE", "/v2/acme/app/manifests/v1", None),
    ("PUT", "/v2/acme/app/manifests/latest", MANIFEST),
    ("PUT", "/v2/acme/app/manifests/v1", MANIFEST),
    ("POST", f"{UPLOADS}?digest={digest_of(b'x')}", b"x"),
    ("POST", f"{UPLOADS}?digest={digest_of(b'x')}", b"wrong"),
    ("POST", f"{UPLOADS}?mount={digest_of(LAYER)}&from=acme/app", b""),
    ("GET", "/v2/acme/app/tags/list", None),
    ("GET", "/v2/acme/none/tags/list", None),
    ("GET", "/v2/_catalog", None),
    ("GET", f"/v2/acme/app/referrers/{digest_of(b'x')}", None),
]


@pytest.mark.parametrize(("method", "target", "body"), REQUESTS)
async def test_trouble_is_503_with_retry_after_and_never_an_answer_about_names(
    outage: Outage, method: str, target: str, body: bytes | None
) -> None:
    outage.store.failing = "*"
    reply = await outage.house.ask(
        method, target, body=body, headers={"content-type": "application/vnd.oci.image.manifest.v1+json"}
    )
    assert reply.status == 503
    assert reply.header("retry-after") == "5"
    if method != "HEAD":
        assert reply.error == (503, "UNAVAILABLE")
        assert reply.message == "the object store cannot answer now; try again (request r1)"
    assert reply.complete


@pytest.mark.parametrize("method", ["GET", "PATCH", "PUT", "DELETE"])
async def test_an_upload_outlives_an_outage(outage: Outage, method: str) -> None:
    house, store = outage.house, outage.store
    location = await house.start_upload("acme/app")
    location = (await house.ask("PATCH", location, body=b"abc")).expect(202).header("location")
    store.failing = "*"
    target = in_session(location, digest_of(b"abc")) if method == "PUT" else location
    reply = await house.ask(method, target, body=b"d" if method == "PATCH" else b"")
    assert reply.error == (503, "UNAVAILABLE")
    store.failing = ""
    (await house.ask("GET", location)).expect(204)
    (await house.ask("PUT", in_session(location, digest_of(b"abc")), body=b"")).expect(201)


@pytest.mark.parametrize("failing", ["*/_manifests/*", "*/_tagged/*", "*/_tags/*", "catalog/*", "*/_deletions"])
async def test_a_push_that_fails_half_way_succeeds_when_it_is_sent_again(outage: Outage, failing: str) -> None:
    house, store = outage.house, outage.store
    for blob in (b"{}", LAYER):
        await house.push_blob("acme/new", blob)
    store.failing = failing
    assert (await house.put_manifest("acme/new", "latest", MANIFEST)).error == (503, "UNAVAILABLE")
    store.failing = ""
    assert (await house.ask("GET", "/v2/acme/new/manifests/latest")).status == 404
    (await house.put_manifest("acme/new", "latest", MANIFEST)).expect(201)
    (await house.ask("GET", "/v2/acme/new/manifests/latest")).expect(200)


async def test_nothing_of_a_blob_is_visible_when_its_link_cannot_be_written(outage: Outage) -> None:
    house, store = outage.house, outage.store
    store.failing = "*/_blobs/*"
    target = f"{UPLOADS}?digest={digest_of(b'new')}"
    assert (await house.ask("POST", target, body=b"new")).error == (503, "UNAVAILABLE")
    store.failing = ""
    (await house.ask("HEAD", f"/v2/acme/app/blobs/{digest_of(b'new')}")).expect(404)
    (await house.ask("POST", target, body=b"new")).expect(201)


async def test_probes_that_name_no_repository_answer_through_an_outage(outage: Outage) -> None:
    outage.store.failing = "*"
    (await outage.house.ask("GET", "/v2/")).expect(200)
    (await outage.house.ask("GET", "/healthz")).expect(200)
