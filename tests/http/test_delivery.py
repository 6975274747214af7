"""How blobs reach clients: by redirect, through the registry, in part, or only described."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

import pytest

from edgeproxy.oci.names import Digest
from edgeproxy.storage import Store, keys
from edgeproxy.storage.served import served_app
from tests.http.harness import NOW, House, bearer, call, digest_of, identity, on_directory, on_double
from tests.interleaving import Interleaved

BLOB = Random(3).randbytes(2_500_000)
DIGEST = digest_of(BLOB)
TARGET = f"/v2/acme/app/blobs/{DIGEST}"


@pytest.fixture
async def redirecting(tmp_path: Path) -> AsyncIterator[House]:
    async with on_directory(tmp_path) as house:
        await house.push_blob("acme/app", BLOB)
        yield house


@pytest.fixture
async def proxying(tmp_path: Path) -> AsyncIterator[House]:
    async with on_directory(tmp_path, redirect=False) as house:
        await house.push_blob("acme/app", BLOB)
        yield house


async def test_a_blob_is_redirected_to_the_store_with_an_empty_body_that_nobody_keeps(redirecting: House) -> None:
    reply = await redirecting.ask("GET", TARGET)
    assert (reply.status, reply.body, reply.header("content-length")) == (307, b"", "0")
    assert reply.header("cache-control") == "no-store"
    assert reply.header("docker-content-digest") == DIGEST
    assert not reply.has("content-encoding")
    location = urlsplit(reply.header("location"))
    assert (location.scheme, location.netloc) == ("http", "store.example")
    assert location.path == f"/blobs/sha256/{DIGEST[7:]}"


async def test_the_redirect_opens_the_bytes_for_its_time_and_no_longer(redirecting: House) -> None:
    location = (await redirecting.ask("GET", TARGET)).header("location").removeprefix("http://store.example")
    for now, status in ((NOW, 200), (NOW + 299, 200), (NOW + 301, 403)):
        served = served_app(redirecting.store, b"u" * 32, lambda now=now: now)  # type: ignore[misc]
        got = await call(served, "GET", location, [], None)
        assert got.status == status
        assert (got.body == BLOB) == (status == 200)


@pytest.mark.parametrize("wanted", ["bytes=0-", "bytes=100-199", "bytes=-1", "bytes=0-0,5-6", "pages=1"])
async def test_a_range_travels_with_the_client(redirecting: House, wanted: str) -> None:
    reply = await redirecting.ask("GET", TARGET, headers={"range": wanted})
    assert reply.status == 307
    assert not reply.has("content-range")
    assert "range" not in reply.header("location").lower()


@pytest.mark.parametrize("redirect", [True, False])
async def test_a_range_that_cannot_be_satisfied_is_refused_here(tmp_path: Path, redirect: bool) -> None:
    async with on_directory(tmp_path, redirect=redirect) as house:
        await house.push_blob("acme/app", BLOB)
        for wanted in (f"bytes={len(BLOB)}-", "bytes=5-4", "bytes=a-b", "bytes=-0", "bytes=" + "0-1," * 64 + "0-1"):
            reply = await house.ask("GET", TARGET, headers={"range": wanted})
            assert reply.error == (416, "UNSUPPORTED")
            assert reply.header("content-range") == f"bytes */{len(BLOB)}"
        (await house.ask("GET", TARGET, headers={"range": f"bytes={len(BLOB) - 1}-"})).expect(307 if redirect else 206)


@pytest.mark.parametrize("redirect", [True, False])
async def test_a_head_is_answered_here_and_never_redirected(tmp_path: Path, redirect: bool) -> None:
    async with on_directory(tmp_path, redirect=redirect) as house:
        await house.push_blob("acme/app", BLOB)
        reply = await house.ask("HEAD", TARGET, headers={"range": "bytes=5-4"})
        assert (reply.status, reply.body) == (200, b"")
        assert reply.header("content-length") == str(len(BLOB))
        assert reply.header("content-type") == "application/octet-stream"
        assert reply.header("docker-content-digest") == DIGEST
        assert reply.header("accept-ranges") == "bytes"
        assert not reply.has("location")


async def test_a_proxied_blob_comes_whole_with_its_digest(proxying: House) -> None:
    reply = await proxying.ask("GET", TARGET)
    assert (reply.status, reply.body) == (200, BLOB)
    assert reply.header("content-length") == str(len(BLOB))
    assert reply.header("docker-content-digest") == DIGEST
    assert reply.header("etag") == f'"{DIGEST}"'
    assert not reply.has("content-range")


@pytest.mark.parametrize(
    ("wanted", "start", "end"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=100-199", 100, 199),
        ("bytes=2000000-", 2_000_000, len(BLOB) - 1),
        ("bytes=-5", len(BLOB) - 5, len(BLOB) - 1),
        ("bytes=0-99999999", 0, len(BLOB) - 1),
    ],
)
async def test_a_proxied_range_is_cut_out(proxying: House, wanted: str, start: int, end: int) -> None:
    reply = await proxying.ask("GET", TARGET, headers={"range": wanted})
    assert (reply.status, reply.body) == (206, BLOB[start : end + 1])
    assert reply.header("content-range") == f"bytes {start}-{end}/{len(BLOB)}"
    assert reply.header("content-length") == str(end - start + 1)
    assert reply.header("docker-content-digest") == DIGEST


@pytest.mark.parametrize("wanted", ["bytes=0-1,5-6", "bytes=" + ",".join(["0-"] * 64), "items=0-1"])
async def test_many_ranges_through_the_registry_are_answered_with_the_whole(proxying: House, wanted: str) -> None:
    """Range bombs: however many overlapping ranges are asked for, the bytes are sent once."""
    reply = await proxying.ask("GET", TARGET, headers={"range": wanted})
    assert (reply.status, reply.body) == (200, BLOB)


async def test_an_empty_blob_is_delivered_either_way(redirecting: House, tmp_path: Path) -> None:
    digest = await redirecting.push_blob("acme/app", b"")
    (await redirecting.ask("GET", f"/v2/acme/app/blobs/{digest}")).expect(307)
    async with on_directory(tmp_path, redirect=False) as proxying:
        reply = await proxying.ask("GET", f"/v2/acme/app/blobs/{digest}")
        assert (reply.status, reply.body, reply.header("content-length")) == (200, b"", "0")


async def test_a_body_that_the_store_cuts_off_is_ended_short_and_not_as_if_it_were_whole(tmp_path: Path) -> None:
    async with on_double(redirect=False) as (house, watched):
        await house.push_blob("acme/app", BLOB)
        watched.double.faults.add("cut-body", operation="GetObject", key="*blobs/*", times=None)
        reply = await house.ask("GET", TARGET)
        assert reply.status == 200
        assert not reply.complete
        assert len(reply.body) < len(BLOB)
        watched.double.faults.clear()
        reply = await house.ask("GET", TARGET)
        assert (reply.complete, reply.body) == (True, BLOB)


async def test_a_blob_whose_bytes_are_lost_is_trouble_and_not_unknown(tmp_path: Path) -> None:
    async with on_directory(tmp_path, redirect=False) as house:
        await house.push_blob("acme/app", BLOB)
        await house.store.delete(keys.blob(Digest.parse(DIGEST)))
        reply = await house.ask("GET", TARGET)
        assert reply.error == (503, "UNAVAILABLE")


async def test_a_rule_decides_how_its_callers_are_served(tmp_path: Path) -> None:
    policy = """\
version: 1
issuers:
  ci: {url: "https://ci.example", audiences: [r]}
rules:
  - {name: near, issuer: ci, match: {net: near}, allow: [{repositories: ["**"], actions: [pull, push]}]}
  - {name: far, issuer: ci, match: {net: far}, allow: [{repositories: ["**"], actions: [pull]}], deliver: proxy}
  - {name: direct, issuer: ci, match: {net: direct}, allow: [{repositories: ["**"], actions: [pull]}], deliver: redirect}
"""
    callers = {net: bearer(identity(net=net)) for net in ("near", "far", "direct")}
    for redirect, wanted in ((True, [307, 200, 307]), (False, [200, 200, 307])):
        async with on_directory(tmp_path, policy=policy, callers=callers, redirect=redirect) as house:
            await house.push_blob("acme/app", BLOB, as_="near")
            found = [(await house.ask("GET", TARGET, as_=net)).status for net in ("near", "far", "direct")]
            assert found == wanted


async def test_a_warm_redirect_asks_the_store_nothing_for_a_minute(tmp_path: Path) -> None:
    stores: list[Interleaved] = []

    def wrap(store: Store) -> Interleaved:
        stores.append(Interleaved(store))
        return stores[0]

    async with on_directory(tmp_path, wrap=wrap) as house:
        await house.push_blob("acme/app", BLOB)
        stores[0].calls.clear()
        for _ in range(3):
            (await house.ask("GET", TARGET)).expect(307)
        assert stores[0].calls == []
        house.clock.advance(60)
        (await house.ask("GET", TARGET)).expect(307)
        assert stores[0].calls == [("head", f"repos/acme/app/_blobs/sha256/{DIGEST[7:]}")]


async def test_cross_repository_blob_access_is_prevented(redirecting: House) -> None:
    """A digest alone opens nothing: GET, HEAD, mount and an upload of nothing all find no blob where none is linked."""
    other = f"/v2/thief/app/blobs/{DIGEST}"
    for method in ("GET", "HEAD"):
        assert (await redirecting.ask(method, other)).status == 404
    for source in ("", "&from=thief/app", "&from=nobody/here"):
        target = f"/v2/thief/app/blobs/uploads/?mount={DIGEST}{source}"
        (await redirecting.ask("POST", target, body=b"")).expect(202)
    location = await redirecting.start_upload("thief/app")
    finished = await redirecting.ask("PUT", f"{location}?digest={DIGEST}", body=b"")
    assert finished.error == (400, "DIGEST_INVALID")
    assert (await redirecting.ask("HEAD", other)).status == 404
    for method, status in (("GET", 307), ("HEAD", 200)):
        assert (await redirecting.ask(method, TARGET)).status == status
