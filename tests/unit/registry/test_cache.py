from __future__ import annotations

import asyncio

import pytest

from edgeproxy.registry.cache import FRESH_SECONDS, STALE_SECONDS, Conflated, Memory, Remembered


def test_an_answer_is_fresh_for_its_life_and_servable_ten_minutes_longer() -> None:
    remembered = Remembered("x", 100.0 + FRESH_SECONDS)
    assert (FRESH_SECONDS, STALE_SECONDS) == (60.0, 600.0)
    assert [remembered.is_fresh(now) for now in (100.0, 159.9, 160.0)] == [True, True, False]
    assert [remembered.is_servable(now) for now in (160.0, 759.9, 760.0)] == [True, True, False]


def test_the_least_recently_used_is_forgotten_first() -> None:
    memory: Memory[str, int] = Memory(2, lambda *_: 1)
    for key in "ab":
        memory.put(key, 1, 10, memory.epoch)
    memory.get("a", 0)
    memory.put("c", 1, 10, memory.epoch)
    assert [memory.get(key, 0) is not None for key in "abc"] == [True, False, True]
    assert len(memory) == memory.weight == 2


def test_memory_is_bounded_by_weight_and_never_takes_what_is_heavier_than_itself() -> None:
    memory: Memory[str, bytes] = Memory(10, lambda _, value: len(value))
    memory.put("a", b"x" * 6, 10, memory.epoch)
    memory.put("b", b"x" * 5, 10, memory.epoch)
    assert (memory.get("a", 0), memory.weight) == (None, 5)
    memory.put("b", b"x" * 11, 10, memory.epoch)
    assert (memory.get("b", 0), memory.weight, len(memory)) == (None, 0, 0)
    memory.put("c", b"x" * 3, 10, memory.epoch)
    memory.put("c", b"x" * 4, 10, memory.epoch)
    assert memory.weight == 4
    memory.clear()
    assert (memory.weight, len(memory)) == (0, 0)


def test_an_answer_that_was_on_its_way_when_something_was_forgotten_is_not_remembered() -> None:
    memory: Memory[str, int] = Memory(10, lambda *_: 1)
    before = memory.epoch
    memory.forget("a")
    memory.put("a", 1, 10, before)
    assert memory.get("a", 0) is None
    memory.put("a", 2, 10, memory.epoch)
    found = memory.get("a", 0)
    assert found is not None
    assert found.value == 2


def test_hits_are_fresh_answers_only() -> None:
    memory: Memory[str, int] = Memory(10, lambda *_: 1)
    memory.put("a", 1, 10, memory.epoch)
    for key, now in (("a", 9), ("a", 10), ("b", 0)):
        memory.get(key, now)
    assert (memory.hits, memory.misses) == (1, 2)


class Source:
    """Gives the number of the call, when it is told to."""

    def __init__(self) -> None:
        self.calls = 0
        self.running = 0
        self.most = 0
        self.begun = asyncio.Event()
        self.gates: list[asyncio.Event] = []
        self.error: Exception | None = None

    async def __call__(self, key: str) -> int:
        self.calls += 1
        number = self.calls
        self.running += 1
        self.most = max(self.most, self.running)
        gate = asyncio.Event()
        self.gates.append(gate)
        self.begun.set()
        try:
            await gate.wait()
            if self.error is not None:
                raise self.error
            return number
        finally:
            self.running -= 1

    async def wait(self) -> None:
        await self.begun.wait()
        self.begun.clear()


async def test_one_call_is_in_flight_and_one_queued_whatever_the_number_of_callers() -> None:
    source = Source()
    read = Conflated(source)
    first = asyncio.create_task(read("k"))
    await source.wait()
    others = [asyncio.create_task(read("k")) for _ in range(50)]
    await asyncio.sleep(0)
    assert source.calls == 1
    source.gates[0].set()
    await source.wait()
    assert await first == 1
    assert source.calls == 2
    source.gates[1].set()
    assert await asyncio.gather(*others) == [2] * 50
    assert (source.calls, source.most) == (2, 1)


async def test_nobody_gets_the_result_of_a_call_that_began_before_it_asked() -> None:
    source = Source()
    read = Conflated(source)
    asked: list[tuple[int, asyncio.Task[int]]] = []
    for turn in range(20):
        began = source.calls
        asked.append((began, asyncio.create_task(read("k"))))
        await asyncio.sleep(0)
        if turn % 3 == 0:
            for gate in source.gates:
                gate.set()
        for _ in range(turn % 4):
            await asyncio.sleep(0)
    while not all(task.done() for _, task in asked):
        for gate in source.gates:
            gate.set()
        await asyncio.sleep(0)
    assert all(task.result() > began for began, task in asked)
    assert source.most == 1


async def test_different_keys_do_not_wait_for_each_other() -> None:
    source = Source()
    read = Conflated(source)
    first, second = asyncio.create_task(read("a")), asyncio.create_task(read("b"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert source.running == 2
    for gate in source.gates:
        gate.set()
    assert {await first, await second} == {1, 2}


async def test_a_caller_that_goes_away_does_not_take_the_answer_from_the_others() -> None:
    source = Source()
    read = Conflated(source)
    running = asyncio.create_task(read("k"))
    await source.wait()
    queued, other = asyncio.create_task(read("k")), asyncio.create_task(read("k"))
    await asyncio.sleep(0)
    for task in (running, queued):
        task.cancel()
    await asyncio.wait([running, queued])
    assert running.cancelled()
    source.gates[0].set()
    await source.wait()
    source.gates[1].set()
    assert await other == 2


async def test_an_error_reaches_those_who_shared_the_call_and_not_the_next() -> None:
    source = Source()
    read = Conflated(source)
    source.error = ValueError("broken")
    failing = asyncio.create_task(read("k"))
    await source.wait()
    following = asyncio.create_task(read("k"))
    await asyncio.sleep(0)
    source.gates[0].set()
    with pytest.raises(ValueError, match="broken"):
        await failing
    await source.wait()
    source.error = None
    source.gates[1].set()
    assert await following == 2
    assert not read._running
    assert not read._waiting
