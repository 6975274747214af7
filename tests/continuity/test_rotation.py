"""What is exchanged while serving: signing keys and the policy. Under load, at replicas that notice at different times, nothing fails."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import shutil
import time
from collections.abc import Awaitable, Callable
from random import Random

import jwt
import pytest

from edgeproxy.access.signing import YOUNG_SECONDS
from tests.continuity.load import REPOSITORY, loaded
from tests.continuity.replicas import Replicas, eventually, keys_of, replicated
from tests.programs import EDGEPROXY, run
from tests.pushing import client
from tests.running import Registry

pytestmark = pytest.mark.timeout(300)

HEAD_START = 25.0
"""Seconds that a new key is given before it signs; it is known everywhere after ten, on a busy machine a little later."""
LATE = 5.0
"""Seconds by which it reaches one replica after the other."""
CHANGES = 3


async def signs_with(one: Registry) -> str:
    """Tell which key a replica signs with."""
    async with client(one.url) as to:
        answer = json.loads((await to.ask("GET", f"/token?scope=repository:{REPOSITORY}:pull")).expect(200).body)
    kid: str = jwt.get_unverified_header(answer["token"])["kid"]
    return kid


async def knows(one: Registry) -> set[str]:
    """Tell which keys a replica publishes."""
    async with client(one.url) as to:
        return {
            key["kid"] for key in json.loads((await to.ask("GET", "/.well-known/jwks.json")).expect(200).body)["keys"]
        }


async def all_of(replicas: Replicas, holds: Callable[[Registry], Awaitable[bool]]) -> None:
    for one in replicas.registries:
        await eventually(functools.partial(holds, one))


async def test_a_rotation_of_the_signing_key_fails_no_push_and_no_pull(chance: Random) -> None:
    async with replicated() as replicas:
        folders = [keys_of(one) for one in replicas.registries]
        (old,) = (path.stem for path in folders[0].glob("*.pem"))
        environment = replicas.registries[0].environment
        async with loaded(replicas.url, chance, crane_in=replicas.folder) as load:
            await load.progress()
            new = (await run(EDGEPROXY, "keys", "new", environment=environment)).strip()
            # It would sign after a minute; nobody here waits for that.
            grown = time.time() - YOUNG_SECONDS + HEAD_START
            os.utime(folders[0] / f"{new}.pem", (grown, grown))
            await asyncio.sleep(LATE)
            shutil.copy2(folders[0] / f"{new}.pem", folders[1])

            async def signs_with_new(one: Registry) -> bool:
                return await signs_with(one) == new

            await all_of(replicas, signs_with_new)
            # Every bearer that the old one signed is out of use: here, once each client has fetched another.
            await load.progress()
            for folder in folders:
                await run(EDGEPROXY, "keys", "retire", old, str(folder), environment=environment)
                await asyncio.sleep(LATE)

            async def knows_new_alone(one: Registry) -> bool:
                return await knows(one) == {new}

            await all_of(replicas, knows_new_alone)
            await load.progress()
        print(f"signing key rotation: {load}")

        assert load.failures == []


async def test_a_reload_of_the_policy_fails_no_push_and_no_pull(chance: Random) -> None:
    async with replicated() as replicas:
        path = replicas.folder / "policy.yaml"
        policy = path.read_text()
        async with loaded(replicas.url, chance) as load:
            await load.progress()
            for number in range(CHANGES):
                path.write_text(
                    f'{policy}hide: ["changed/{number}"]\ndeny: [{{name: n, repositories: ["changed/{number}"], actions: [pull]}}]\n'
                )

                async def in_force(one: Registry, number: int = number) -> bool:
                    async with client(one.url) as to:
                        asked = await to.ask("GET", f"/v2/_edgeproxy/can-i?repository=changed/{number}&action=pull")
                        return b'"allowed":false' in asked.expect(200).body

                await all_of(replicas, in_force)
                path.write_text(f"{policy}rulez: []\n")

                async def degraded(one: Registry) -> bool:
                    async with client(one.url) as to:
                        return b'"status":"degraded"' in (await to.ask("GET", "/readyz")).expect(200).body

                await all_of(replicas, degraded)
                for one in replicas.registries:
                    await replicas.balancer.sees(one.port)
            path.write_text(policy)
            await load.progress()
        print(f"policy reload: {CHANGES} changes and {CHANGES} broken ones, {load}")

        assert load.failures == []
