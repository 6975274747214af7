"""The budget of uploads: in order, never above the total but for one that is alone, and nothing is lost by those who leave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeproxy.oci.names import Digest
from edgeproxy.registry.memory import PART_BYTES, Budget
from edgeproxy.registry.streams import Body, Receiver
from edgeproxy.storage import MAX_PARTS, MIN_PART_BYTES, keys
from edgeproxy.storage.filesystem import FilesystemStore

MIB = 1024 * 1024


async def turn() -> None:
    """Let every task that can run, run."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_grants_are_given_in_the_order_in_which_they_were_asked_for() -> None:
    budget = Budget(10)
    await budget.take(10)
    order: list[int] = []

    async def take(number: int, size: int) -> None:
        await budget.take(size)
        order.append(number)

    tasks = [asyncio.create_task(take(number, size)) for number, size in enumerate((6, 1, 5, 1))]
    await turn()
    budget.give_back(5)
    await turn()
    assert order == []  # The small one waits behind the large one, or the large one would wait for ever.
    budget.give_back(5)
    await turn()
    assert (order, budget.used) == ([0, 1], 7)
    budget.give_back(6)
    await asyncio.gather(*tasks)
    assert (order, budget.used) == ([0, 1, 2, 3], 7)


async def test_more_than_the_total_is_granted_to_one_that_is_alone() -> None:
    budget = Budget(10)
    await budget.take(20)
    waiting = asyncio.create_task(budget.take(1))
    await turn()
    assert not waiting.done()
    budget.give_back(20)
    await waiting
    assert budget.used == 1


async def test_one_that_leaves_the_line_makes_room_for_those_behind() -> None:
    budget = Budget(10)
    await budget.take(5)
    large, small = asyncio.create_task(budget.take(10)), asyncio.create_task(budget.take(5))
    await turn()
    assert not small.done()
    large.cancel()
    await small
    assert budget.used == 10


async def test_a_grant_that_comes_in_the_moment_of_leaving_is_given_back() -> None:
    budget = Budget(10)
    await budget.take(10)
    leaving, other = asyncio.create_task(budget.take(10)), asyncio.create_task(budget.take(10))
    await turn()
    budget.give_back(10)  # Grants it to the first,
    leaving.cancel()  # which leaves before it learns of it.
    await other
    assert leaving.cancelled()
    assert budget.used == 10


async def test_a_room_that_comes_free_just_after_one_has_left_goes_to_the_next() -> None:
    budget = Budget(10)
    await budget.take(10)
    leaving, other = asyncio.create_task(budget.take(10)), asyncio.create_task(budget.take(10))
    await turn()
    leaving.cancel()  # It has not run since: it still stands in line.
    budget.give_back(10)
    await other
    assert leaving.cancelled()
    budget.give_back(10)
    assert budget.used == 0


async def test_a_block_gives_its_grant_back_whatever_happens() -> None:
    budget = Budget(10)
    with pytest.raises(ValueError, match="x"):
        async with budget.grant(10):
            raise ValueError("x")
    assert budget.used == 0


@given(st.integers(0, 100))
def test_no_grant_is_lost_by_any_order_of_coming_and_leaving(seed: int) -> None:
    async def story() -> None:
        random = Random(seed)
        budget = Budget(100)

        async def use(size: int) -> None:
            async with budget.grant(size):
                assert budget.used <= 100
                for _ in range(random.randrange(4)):
                    await asyncio.sleep(0)

        tasks = [asyncio.create_task(use(random.randrange(1, 100))) for _ in range(30)]
        for _ in range(20):
            await asyncio.sleep(0)
            random.choice(tasks).cancel()
        await asyncio.wait(tasks)
        assert all(task.cancelled() or task.exception() is None for task in tasks)
        assert budget.used == 0
        assert not budget._waiting

    asyncio.run(story())


@given(st.one_of(st.none(), st.integers(0, 5 * 1024**4)))
def test_parts_are_large_enough_that_ten_thousand_do_and_never_smaller_than_the_store_takes(length: int | None) -> None:
    budget = Budget(128 * MIB)
    size = budget.part_size(length)
    assert size >= MIN_PART_BYTES
    assert size % MIB == 0
    assert length is None or size * MAX_PARTS >= length
    assert size == PART_BYTES or length is not None


async def test_parts_are_small_under_pressure() -> None:
    budget = Budget(16 * MIB)
    assert budget.part_size(100 * MIB) == PART_BYTES
    await budget.take(9 * MIB)
    assert budget.part_size(100 * MIB) == MIN_PART_BYTES
    assert budget.part_size(None) == PART_BYTES


async def test_forty_uploads_share_a_budget_of_two_parts_without_deadlock(tmp_path: Path) -> None:
    store = await FilesystemStore.open(tmp_path)
    budget = Budget(2 * PART_BYTES)
    receiver = Receiver(store, budget)
    content = Random(1).randbytes(MIB) * 18
    digest = Digest.of(content)
    most = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal most
        for begin in range(0, len(content), MIB):
            most = max(most, budget.used)
            yield content[begin : begin + MIB]

    async def upload(number: int) -> None:
        length = len(content) if number % 2 else None
        key = keys.segment("u", f"{number:02d}")
        received = await receiver.receive(key, Body(chunks(), length), "sha256", lambda _: None)
        assert (received.size, received.digest) == (len(content), digest)
        await store.delete(key)

    try:
        await asyncio.gather(*map(upload, range(40)))
    finally:
        await store.close()
    assert budget.used == 0
    assert 0 < most <= 2 * PART_BYTES
