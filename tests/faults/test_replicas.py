"""Two registries on one store: they share keys, policy and bucket, and nothing else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest

from tests.images import digest_of
from tests.pushing import OCTETS, Client, Reply, client, manifest_of, with_digest
from tests.running import STORES, Registry, StoreKind, bucket, registry, temporary_folder

pytestmark = pytest.mark.timeout(600)

RACES = 20


@dataclass(frozen=True, slots=True)
class Pair:
    """Two replicas and a client of each."""

    registry: Registry
    a: Client
    b: Client


@asynccontextmanager
async def replicas(kind: StoreKind) -> AsyncIterator[Pair]:
    """Run two replicas over an empty store."""
    async with temporary_folder() as folder, bucket(kind, folder) as store:
        public = "http://127.0.0.1:5000"
        one, two = (registry(store, folder, public_url=public) for _ in range(2))
        await one.start()
        try:
            await two.start()
            try:
                async with client(one.url) as a, client(two.url) as b:
                    yield Pair(one, a, b)
            finally:
                await two.stop()
        finally:
            await one.stop()


@pytest.fixture(params=STORES)
async def pair(request: pytest.FixtureRequest) -> AsyncIterator[Pair]:
    async with replicas(request.param) as running:
        yield running
        report = await running.registry.fsck("--bytes")
        assert report["damage"] == []


async def _push(to: Client, repository: str, tag: str, text: str) -> bytes:
    config = json.dumps({"architecture": "amd64", "os": "linux", "text": text}).encode()
    layer = text.encode()
    for content in (config, layer):
        await to.post_put(repository, content)
    manifest = manifest_of(config, layer)
    (await to.push_manifest(repository, tag, manifest)).expect(201)
    return manifest


async def test_an_upload_that_began_at_one_replica_goes_on_and_ends_at_the_other(pair: Pair, chance: Random) -> None:
    content = chance.randbytes(300_000)
    location = await pair.a.start("replicas/upload")
    first = (await pair.a.append(location, content[:100_000], 0)).expect(202)
    status = (await pair.b.ask("GET", first.header("location"))).expect(204)
    second = (await pair.b.append(status.header("location"), content[100_000:200_000], 100_000)).expect(202)
    last = with_digest(second.header("location"), digest_of(content))
    (await pair.b.ask("PUT", last, data=content[200_000:], headers=OCTETS)).expect(201)

    assert status.header("range") == "0-99999"
    assert await pair.a.blob("replicas/upload", digest_of(content)) == content
    assert await pair.b.blob("replicas/upload", digest_of(content)) == content


async def test_a_tag_moved_at_one_replica_is_read_at_the_other_at_once(pair: Pair) -> None:
    for number in range(RACES):
        writer, reader = (pair.a, pair.b) if number % 2 else (pair.b, pair.a)
        manifest = await _push(writer, "replicas/tag", "moving", f"version {number}")

        assert await reader.manifest("replicas/tag", "moving") == manifest


async def test_one_of_two_rivals_for_an_offset_wins_and_its_bytes_cannot_change(pair: Pair, chance: Random) -> None:
    for number in range(RACES):
        begun = chance.randbytes(1000)
        start = (await pair.a.append(await pair.a.start("replicas/race"), begun, 0)).expect(202).header("location")
        rivals = [chance.randbytes(chance.randrange(1, 200_000)) for _ in range(2)]
        replies = await asyncio.gather(
            *(rival.append(start, chunk, len(begun)) for rival, chunk in zip((pair.a, pair.b), rivals, strict=True))
        )
        won = [reply.status for reply in replies]
        assert sorted(won) == [202, 416], f"race {number}: {won}"
        winner, loser = replies[won.index(202)], replies[won.index(416)]
        whole = begun + rivals[won.index(202)]
        truth = f"0-{len(whole) - 1}"

        assert winner.header("range") == truth
        assert loser.header("range") == truth
        await pair.b.finish(winner.header("location"), digest_of(whole))
        assert await pair.a.blob("replicas/race", digest_of(whole)) == whole


async def test_a_slow_rival_for_an_offset_loses_and_changes_nothing(pair: Pair, chance: Random) -> None:
    for number in range(RACES):
        begun = chance.randbytes(1000)
        start = (await pair.a.append(await pair.a.start("replicas/slow"), begun, 0)).expect(202).header("location")
        quick, slow = chance.randbytes(50_000), chance.randbytes(chance.randrange(1000, 100_000))
        begins, may_end = asyncio.Event(), asyncio.Event()

        async def slowly(
            content: bytes = slow, on: asyncio.Event = begins, until: asyncio.Event = may_end
        ) -> AsyncIterator[bytes]:
            yield content[:500]
            on.set()
            await until.wait()
            yield content[500:]

        losing = asyncio.create_task(pair.a.ask("PATCH", start, data=slowly(), headers=OCTETS))
        await begins.wait()
        whole = begun + quick
        won = (await pair.b.append(start, quick, len(begun))).expect(202)
        committed = chance.random() < 0.5
        if committed:
            await pair.b.finish(won.header("location"), digest_of(whole))
        may_end.set()
        lost = await losing

        # A loser that comes after the commit finds no session any more.
        assert lost.status in ((404, 416) if committed else (416,)), f"race {number}: {lost}"
        if not committed:
            await pair.a.finish(won.header("location"), digest_of(whole))
        assert await pair.a.blob("replicas/slow", digest_of(whole)) == whole


async def test_deleting_the_old_image_never_takes_a_tag_that_a_push_has_moved(pair: Pair, chance: Random) -> None:
    for number in range(RACES):
        old = await _push(pair.a, "replicas/move", "v", f"old {number}")
        config = json.dumps({"architecture": "amd64", "os": "linux", "number": number}).encode()
        for content in (config, b"new"):
            await pair.b.post_put("replicas/move", content)
        new = manifest_of(config, b"new")
        deleting = pair.a.ask("DELETE", f"/v2/replicas/move/manifests/{digest_of(old)}")
        pushing = pair.b.push_manifest("replicas/move", "v", new)
        deleted, pushed = await _race(deleting, pushing, chance)

        pushed.expect(201)
        deleted.expect(202)
        for replica in (pair.a, pair.b):
            assert await replica.manifest("replicas/move", "v") == new, f"race {number}"


async def test_a_tag_and_a_digest_that_are_pushed_and_deleted_at_once_are_there_whole_or_gone(
    pair: Pair, chance: Random
) -> None:
    there = 0
    for number in range(RACES):
        manifest = await _push(pair.a, "replicas/same", "v", f"same {number}")
        digest = digest_of(manifest)
        reference = chance.choice(("v", digest))
        deleting = pair.a.ask("DELETE", f"/v2/replicas/same/manifests/{reference}")
        pushing = pair.b.push_manifest("replicas/same", "v", manifest)
        deleted, pushed = await _race(deleting, pushing, chance)

        pushed.expect(201)
        deleted.expect(202, 404)
        by_tag = await pair.b.ask("GET", "/v2/replicas/same/manifests/v")
        tags = json.loads((await pair.a.ask("GET", "/v2/replicas/same/tags/list")).expect(200, 404).body)
        assert ("v" in (tags.get("tags") or [])) == (by_tag.status == 200), f"race {number}"
        if by_tag.expect(200, 404).status == 200:
            there += 1
            assert (await pair.b.whole("replicas/same", "v"))[0] == digest
            assert await pair.b.manifest("replicas/same", digest) == manifest
        else:
            # Gone only if the delete did it; and a push that nothing meets brings it back whole.
            deleted.expect(202)
        again = await _push(pair.b, "replicas/same", "v", f"same {number}")
        assert await pair.a.manifest("replicas/same", "v") == again
    print(f"the push was seen last in {there} of {RACES} races")


async def _race(
    one: Coroutine[Any, Any, Reply], two: Coroutine[Any, Any, Reply], chance: Random
) -> tuple[Reply, Reply]:
    """Do both at nearly the same time, now the one first, now the other."""

    async def later(seconds: float, request: Coroutine[Any, Any, Reply]) -> Reply:
        await asyncio.sleep(max(0.0, seconds))
        return await request

    lead = chance.uniform(-0.02, 0.02)
    return await asyncio.gather(later(lead, one), later(-lead, two))
