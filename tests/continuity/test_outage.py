"""The store is cut off for a minute: everything warm is served all the while, behind a balancer, and all else afterwards."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from random import Random

import pytest

from tests.continuity.balancer import balancing
from tests.continuity.load import strict
from tests.forwarding import forwarding
from tests.images import digest_of
from tests.pushing import Client, manifest_of
from tests.running import free_ports, registry, temporary_folder, versitygw

pytestmark = pytest.mark.timeout(300)

OUTAGE_SECONDS = 60
IMAGES = 5
PULLERS = 4


async def _push(to: Client, tag: str, chance: Random) -> str:
    config = json.dumps({"architecture": "amd64", "os": "linux", "nonce": chance.random()}).encode()
    layers = [chance.randbytes(chance.randrange(1, 100_000)) for _ in range(3)]
    for content in (config, *layers):
        await to.post_put("outage", content)
    manifest = manifest_of(config, *layers)
    (await to.push_manifest("outage", tag, manifest)).expect(201)
    return digest_of(manifest)


async def test_a_minute_without_the_store_answers_every_warm_redirect_and_every_warm_manifest(chance: Random) -> None:
    async with AsyncExitStack() as stack:
        folder = await stack.enter_async_context(temporary_folder())
        store = await stack.enter_async_context(versitygw(folder))
        line = await stack.enter_async_context(forwarding(store.port))
        store = replace(store, location=store.location.replace(f":{store.port}", f":{line.port}"))
        (port,) = free_ports(1)
        url = f"http://127.0.0.1:{port}"
        replicas = [registry(store, folder, public_url=url) for _ in range(2)]
        for one in replicas:
            await one.start()
            stack.push_async_callback(one.stop)
        balancer = await stack.enter_async_context(
            balancing(port, [one.port for one in replicas], path="/readyz?exclude=store")
        )
        for one in replicas:
            await balancer.sees(one.port)
        to = await stack.enter_async_context(strict(url, keep_alive=False))
        digests = [await _push(to, f"v{number}", chance) for number in range(IMAGES)]
        for one in replicas:
            own = await stack.enter_async_context(strict(one.url, keep_alive=True))
            for digest in digests:
                await own.whole("outage", digest)
        answered = {"manifests": 0, "redirects": 0}
        line.target, there = 1, line.target  # nobody listens there
        await line.drop()
        ends = time.monotonic() + OUTAGE_SECONDS

        async def pull() -> None:
            while time.monotonic() < ends:
                manifest = json.loads(await to.manifest("outage", chance.choice(digests)))
                answered["manifests"] += 1
                for part in (manifest["config"], *manifest["layers"]):
                    (await to.ask("GET", f"/v2/outage/blobs/{part['digest']}")).expect(307)
                    answered["redirects"] += 1

        async with asyncio.TaskGroup() as group:
            for _ in range(PULLERS):
                group.create_task(pull())
        for one in replicas:
            refused = (await to.ask("GET", "/v2/outage/manifests/v0")).expect(503)
            assert int(refused.header("retry-after")) > 0
            ready = await stack.enter_async_context(strict(one.url, keep_alive=False))
            (await ready.ask("GET", "/readyz")).expect(503)
            (await ready.ask("GET", "/readyz?exclude=store")).expect(200)
        assert len(balancer.healthy) == len(replicas)
        line.target = there
        for number, digest in enumerate(digests):
            assert (await to.whole("outage", f"v{number}"))[0] == digest
        await _push(to, "after", chance)
    print(
        f"store cut off for {OUTAGE_SECONDS} s: {answered['manifests']} manifests and {answered['redirects']} redirects, every one answered"
    )

    assert min(answered.values()) > 100
