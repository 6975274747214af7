"""A rolling restart under load: not one operation of a client fails."""

from __future__ import annotations

from random import Random

import pytest

from tests.continuity.load import loaded
from tests.continuity.replicas import replicated

pytestmark = pytest.mark.timeout(300)

ROUNDS = 1


@pytest.mark.parametrize("by", ["plain", "haproxy"])
@pytest.mark.parametrize("server", ["hypercorn", "granian"])
async def test_a_rolling_restart_fails_no_push_and_no_pull(server: str, by: str, chance: Random) -> None:
    async with replicated(by=by, server=server) as replicas:
        async with loaded(replicas.url, chance, crane_in=replicas.folder) as load:
            await load.progress()
            for _ in range(ROUNDS):
                await replicas.restart_one_after_the_other()
            await load.progress()
        print(f"rolling restart, {server} behind {by}: {ROUNDS * len(replicas.registries)} restarts, {load}")

        assert load.failures == []
        assert (await replicas.registries[0].fsck("--bytes"))["damage"] == []
