"""What a request costs at the store, counted by the strict double of R2."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.http.harness import House, build, digest_of, image, in_session, on_double
from tests.r2.stores import Watched, watched

LAYERS = [b"layer %d" % number for number in range(6)]
MANIFEST = image(*LAYERS)


@pytest.fixture
async def counted() -> AsyncIterator[tuple[House, Watched]]:
    async with on_double() as (house, found):
        await house.push_image("acme/app", "latest", *LAYERS)
        found.double.counters.reset()
        yield house, found


@asynccontextmanager
async def cold(found: Watched) -> AsyncIterator[House]:
    """Run another replica on the same bucket, which remembers nothing."""
    async with watched(found.running) as second:
        house = build(second.store, second.store.presigner())
        yield house
        house.audit.close()


def total(found: Watched) -> int:
    number = found.double.counters.total
    found.double.counters.reset()
    return number


async def redirect(house: House, content: bytes) -> None:
    (await house.ask("GET", f"/v2/acme/app/blobs/{digest_of(content)}")).expect(307)


async def test_the_redirect_of_a_cold_blob_costs_one_call_and_of_a_warm_one_none(
    counted: tuple[House, Watched],
) -> None:
    async with cold(counted[1]) as house:
        await redirect(house, LAYERS[0])
        assert total(counted[1]) == 1
        for _ in range(5):
            await redirect(house, LAYERS[0])
        assert total(counted[1]) == 0


async def test_a_warm_manifest_costs_nothing_by_digest_and_one_call_by_tag(counted: tuple[House, Watched]) -> None:
    house, found = counted
    by_digest, by_tag = f"/v2/acme/app/manifests/{digest_of(MANIFEST)}", "/v2/acme/app/manifests/latest"
    (await house.ask("GET", by_digest)).expect(200)
    total(found)
    for method in ("GET", "HEAD"):
        (await house.ask(method, by_digest)).expect(200)
        assert total(found) == 0
        (await house.ask(method, by_tag)).expect(200)
        assert total(found) == 1


async def pull(house: House) -> None:
    head = await house.ask("HEAD", "/v2/acme/app/manifests/latest")
    digest = head.expect(200).header("docker-content-digest")
    manifest = json.loads((await house.ask("GET", f"/v2/acme/app/manifests/{digest}")).body)
    for part in [manifest["config"], *manifest["layers"]]:
        (await house.ask("GET", f"/v2/acme/app/blobs/{part['digest']}")).expect(307)


async def test_a_cold_pull_of_six_layers_costs_three_calls_and_a_warm_one_one(counted: tuple[House, Watched]) -> None:
    async with cold(counted[1]) as house:
        await pull(house)
        assert total(counted[1]) <= 3
        await pull(house)
        assert total(counted[1]) == 1


@pytest.mark.parametrize("repository", ["acme/app", "acme/new"])
async def test_a_push_costs_three_calls_a_blob_and_eight(counted: tuple[House, Watched], repository: str) -> None:
    layers = [b"new layer %d" % number for number in range(5)]
    config = b'{"new": true}'
    async with cold(counted[1]) as house:
        for blob in (config, *layers):
            location = await house.start_upload(repository)
            (await house.ask("PUT", in_session(location, digest_of(blob)), body=blob)).expect(201)
        (await house.put_manifest(repository, "fresh", image(*layers, config=config))).expect(201)
        assert total(counted[1]) <= 3 * 6 + 8


async def test_a_blob_that_the_bucket_has_is_not_written_again(counted: tuple[House, Watched]) -> None:
    house, found = counted
    await house.push_blob("acme/other", LAYERS[0])
    operations = found.double.counters.operations
    assert dict(operations) == {"HeadObject": 1, "PutObject": 1}
    assert found.double.counters.received == 0


async def test_a_hot_tag_costs_no_more_than_two_reads_at_a_time_however_many_ask(
    counted: tuple[House, Watched],
) -> None:
    house, found = counted
    (await house.ask("GET", "/v2/acme/app/manifests/latest")).expect(200)
    total(found)
    replies = await asyncio.gather(*(house.ask("HEAD", "/v2/acme/app/manifests/latest") for _ in range(100)))
    assert {reply.status for reply in replies} == {200}
    assert total(found) <= 2
