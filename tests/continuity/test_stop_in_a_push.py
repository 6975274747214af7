"""A replica that is told to stop while somebody pushes: it finishes the push, or the session goes on at another one."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import time
from collections.abc import AsyncIterator
from random import Random

import pytest

from edgeproxy.serving import GRACE_SECONDS
from tests.images import digest_of
from tests.pushing import OCTETS, client, with_digest
from tests.running import StoreKind, bucket, registry, serving, temporary_folder

pytestmark = pytest.mark.timeout(400)

MIB = 1024 * 1024
PIECES = 1024
"""Of a mebibyte each: a layer of 1 GiB."""


class Large:
    """A gibibyte that is made while it is sent."""

    def __init__(self, chance: Random) -> None:
        self._piece = bytearray(chance.randbytes(MIB))
        running = hashlib.sha256()
        for number in range(PIECES):
            running.update(self._numbered(number))
        self.digest = f"sha256:{running.hexdigest()}"
        self.nearly = asyncio.Event()

    def _numbered(self, number: int) -> bytearray:
        self._piece[:4] = number.to_bytes(4, "big")
        return self._piece

    async def sent(self) -> AsyncIterator[bytes]:
        """Give its bytes, and tell when seven eighths of them are away."""
        for number in range(PIECES):
            yield bytes(self._numbered(number))
            if number == PIECES * 7 // 8:
                self.nearly.set()


@pytest.mark.parametrize(("kind", "server"), [("versitygw", "hypercorn"), ("versitygw", "granian")])
async def test_a_stop_in_the_middle_of_a_push_of_a_gibibyte_finishes_it(
    kind: StoreKind, server: str, chance: Random
) -> None:
    large = await asyncio.to_thread(Large, chance)
    async with serving(kind, server=server) as one:
        async with client(one.url, seconds=300) as to:
            location = await to.start("stop/whole")
            pushing = asyncio.create_task(
                to.ask("PUT", with_digest(location, large.digest), data=large.sent(), headers=OCTETS)
            )
            await large.nearly.wait()
            asked = time.monotonic()
            stopping = asyncio.create_task(one.stop())
            (await pushing).expect(201)
            assert await stopping == 0
            took = time.monotonic() - asked
        await one.start()
        async with client(one.url) as to:
            (await to.ask("HEAD", f"/v2/stop/whole/blobs/{large.digest}")).expect(200)
        assert (await one.fsck("--bytes"))["damage"] == []
    print(
        f"stop in a push of 1 GiB, {server}: finished, and the process ended {took:.1f} s after SIGTERM with an eighth to come"
    )


@pytest.mark.parametrize("server", ["hypercorn", "granian"])
async def test_a_push_that_outlasts_the_stop_is_cut_and_its_session_goes_on_at_another_replica(
    server: str, chance: Random
) -> None:
    content = chance.randbytes(3 * MIB)
    acknowledged = MIB
    async with temporary_folder() as folder, bucket("filesystem", folder) as store:
        public = "http://127.0.0.1:5000"
        leaving, staying = (registry(store, folder, public_url=public, server=server) for _ in range(2))
        await leaving.start()
        await staying.start()
        try:
            async with client(leaving.url, seconds=120) as to:
                begun = await to.append(await to.start("stop/cut"), content[:acknowledged], 0)
                location = begun.expect(202).header("location")
                arrives = asyncio.Event()

                async def endless() -> AsyncIterator[bytes]:
                    yield content[acknowledged : 2 * MIB]
                    arrives.set()
                    while True:
                        # Fast enough not to be given up as a slow sender.
                        await asyncio.sleep(0.2)
                        yield bytes(64 * 1024)

                cut = asyncio.create_task(to.ask("PATCH", location, data=endless(), headers=OCTETS))
                await arrives.wait()
                asked = time.monotonic()
                os.kill(leaving.pid, signal.SIGTERM)
                refused = (await cut).expect(503)
                assert int(refused.header("retry-after")) > 0
                status = await leaving.stop()
                took = time.monotonic() - asked
            async with client(staying.url) as to:
                known = (await to.ask("GET", location)).expect(204)
                assert known.header("range") == f"0-{acknowledged - 1}"
                rest = await to.append(known.header("location"), content[acknowledged:], acknowledged)
                await to.finish(rest.expect(202).header("location"), digest_of(content))
                assert await to.blob("stop/cut", digest_of(content)) == content
            print(
                f"stop of an endless push, {server}: ended with {status} after {took:.1f} s (grace {GRACE_SECONDS} s)"
            )
        finally:
            await staying.stop()

    assert status == 0
    # Whoever runs it kills it some time after the grace: not a figure of speed, but what docs/container.md builds on.
    assert took < GRACE_SECONDS + 15
