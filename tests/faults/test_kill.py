"""kill -9 at random moments under concurrent pushes: nothing acknowledged is lost, nothing unverified is visible."""

from __future__ import annotations

import asyncio
import hashlib
import time
from random import Random

import pytest

from edgeproxy.storage import Store
from tests.faults.acknowledged import Acknowledged, begin_sessions, push_images, verify
from tests.pushing import client
from tests.running import Registry, StoreKind, serving

pytestmark = pytest.mark.timeout(1500)

PUSHERS = 5
LONGEST_LIFE = 1.2
"""Seconds of pushing before the kill."""


async def _a_short_life(registry: Registry, chance: Random, known: Acknowledged, number: int) -> None:
    """Let clients push until the registry is killed under them."""
    async with client(registry.url, seconds=30) as pusher, asyncio.TaskGroup() as pushers:
        for index in range(PUSHERS):
            own = Random(chance.random())
            pushers.create_task(push_images(pusher, f"{number}-{index}", own, known))
        pushers.create_task(begin_sessions(pusher, f"{number}-sessions", Random(chance.random()), known))
        # The moment of the kill is what is tried here: there is no event to wait for.
        await asyncio.sleep(chance.uniform(0.02, LONGEST_LIFE))
        await registry.kill()


async def _unverified(store: Store, seen: set[str]) -> list[str]:
    """Name the visible blobs whose bytes are not their digest, among those not looked at before."""
    wrong = []
    async for info in store.list("blobs/"):
        if info.key in seen:
            continue
        seen.add(info.key)
        _, algorithm, expected = info.key.split("/")
        digest = hashlib.new(algorithm)
        async with store.stream(info.key) as (_, content):
            async for piece in content:
                digest.update(piece)
        if digest.hexdigest() != expected:
            wrong.append(info.key)
    return wrong


@pytest.mark.parametrize("kind", ["filesystem", "versitygw"])
async def test_a_kill_loses_nothing_acknowledged_and_shows_nothing_unverified(
    kind: StoreKind, rounds: int, chance: Random
) -> None:
    began, promises = time.monotonic(), 0
    async with serving(kind) as registry:
        async with registry.store.open() as store:
            seen: set[str] = set()
            for number in range(rounds):
                known = Acknowledged()
                await _a_short_life(registry, chance, known, number)
                assert await _unverified(store, seen) == [], f"round {number}"
                await registry.start()
                async with client(registry.url) as reader:
                    await verify(reader, known)
                promises += known.size
        report = await registry.fsck("--bytes")
    print(f"{kind}: {rounds} kills, {promises} promises kept, {time.monotonic() - began:.0f} s")

    assert report["damage"] == []
    assert promises > rounds
