"""The comparison as the command runs it: rows one after the other, rounds within a row, contenders in turn within a round."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.peers import contents, measuring
from benchmarks.peers.contenders import Place, Running, Store, running, store
from benchmarks.peers.figures import ROWS, Contender, Row, RowName, Sample
from benchmarks.peers.machine import CannotRun, Cores, found
from benchmarks.peers.measuring import Bench, Size, Wrong
from benchmarks.peers.pushing import PushFailed
from benchmarks.peers.wrk import WrkFailed
from benchmarks.push_memory import digest_of

UNDER_LOAD: Final = (RowName.BLOB, RowName.DIGEST, RowName.TAG, RowName.TAGS)
PUSHED: Final = (RowName.PUT, RowName.PATCH, RowName.PUSHES)
_PROGRAMS: Final = {"distribution": "registry", "zot": "zot"}

Taken = dict[RowName, dict[Contender, list[Sample]]]
Take = Callable[[Contender, str], Awaitable[Sample]]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be run: rows, contenders, how much of each."""

    rows: tuple[RowName, ...]
    contenders: tuple[Contender, ...]
    size: Size

    def of_row(self, row: Row) -> list[Contender]:
        """Say who takes part in a row, in the order in which they are taken."""
        return [each for each in row.contenders if each in self.contenders]

    def total(self) -> int:
        """Count the samples."""
        return self.size.rounds * sum(len(self.of_row(ROWS[row])) for row in self.rows)


def needed(rows: Sequence[RowName]) -> list[str]:
    """Name the programs without which nothing of these rows can be measured."""
    return ["taskset", "versitygw", *(["wrk"] if {*rows} & {*UNDER_LOAD} else [])]


def missing(contenders: Sequence[Contender]) -> dict[Contender, str]:
    """Say who cannot take part, and why."""
    gone = {}
    for each in contenders:
        binary = _PROGRAMS.get(each.family)
        if binary is not None and found(binary) is None:
            gone[each] = f"there is no program named {binary} on PATH nor in a folder of --programs"
    return gone


class Comparison:
    """Runs a plan. `say` gets a line a sample, `advance` is called after each."""

    def __init__(self, plan: Plan, folder: Path, say: Callable[[str], None], advance: Callable[[int], None]) -> None:
        self._plan = plan
        self._folder = folder
        self._say = say
        self._advance = advance
        self._broken: dict[Contender, str] = {}
        self.taken: Taken = {}

    async def run(self) -> None:
        """Take every sample; those that fail are kept with their reason.

        Raises:
            CannotRun: what all need is missing: wrk, the S3 server, a second core.

        """
        cores = Cores.of_this_machine()
        usable = os.sched_getaffinity(0)
        async with store(self._folder, cores) as s3:
            bench = await asyncio.to_thread(self._bench, cores, s3)
            await self._fill(bench)
            # What generates load must not take the server's core; servers are pinned one by one.
            os.sched_setaffinity(0, {cores.load})
            try:
                await self._all(bench)
            finally:
                os.sched_setaffinity(0, usable)

    async def _all(self, bench: Bench) -> None:
        rows = [ROWS[name] for name in self._plan.rows]
        under_load = [row for row in rows if row.name in UNDER_LOAD]
        if under_load:
            await self._under_load(bench, under_load)
        for row in rows:
            if row.name in PUSHED:
                await self._rounds(row, partial(measuring.pushed, bench, row.name))
            elif row.name is RowName.CALLS:
                await self._rounds(row, partial(measuring.counted, bench))
            elif row.name is RowName.START:
                for who in self._plan.of_row(row):  # once for the disk's cache, and not counted
                    await self._try(who, partial(measuring.start, bench, who, f"first-{who}"))
                await self._rounds(row, partial(measuring.start, bench))

    def _bench(self, cores: Cores, s3: Store) -> Bench:
        size = self._plan.size
        digests: dict[tuple[int, int], str] = {}
        wanted = {RowName.PUT: [0], RowName.PATCH: [0], RowName.PUSHES: range(size.pushes)}
        for row, seeds in wanted.items():
            mib = size.push_mib if row is RowName.PUSHES else size.layer_mib
            if row in self._plan.rows:
                digests |= {(seed, mib): digest_of(seed, mib) for seed in seeds if (seed, mib) not in digests}
        return Bench(cores, s3, self._folder, size, contents.make(size.tags), digests)

    async def _fill(self, bench: Bench) -> None:
        """Make a bucket for each family, and put the image and its tags into it."""
        families: dict[str, list[Contender]] = {}
        for who in self._plan.contenders:
            if who.family != "bare":
                families.setdefault(who.family, []).append(who)
        for family, members in families.items():
            place = bench.store.bucket(family)
            if not {*self._plan.rows} & {*UNDER_LOAD, RowName.CALLS}:
                continue
            self._say(f"filling the bucket of {family}")

            async def fill(who: Contender = members[0], place: Place = place) -> Sample:
                async with running(who, place, bench.folder / f"fill-{who.family}", bench.cores) as server:
                    await contents.fill(server, bench.contents)
                return Sample({})

            if failure := (await self._try(members[0], fill)).failure:
                self._say(f"it cannot be filled: {failure}")
                self._broken |= dict.fromkeys(members, f"its bucket could not be filled: {failure}")

    async def _under_load(self, bench: Bench, rows: Sequence[Row]) -> None:
        """All servers run from the beginning to the end; those whose turn it is not are idle."""
        servers: dict[Contender, Running] = {}
        async with AsyncExitStack() as stack:
            for who in self._plan.contenders:
                if not any(who in row.contenders for row in rows):
                    continue
                place = None if who.family == "bare" else bench.store.place(who.family)

                async def start(who: Contender = who, place: Place | None = place) -> Sample:
                    server = running(who, place, bench.folder / who, bench.cores)
                    servers[who] = await stack.enter_async_context(server)
                    return Sample({})

                if failure := (await self._try(who, start)).failure:
                    self._broken[who] = failure
            for row in rows:

                async def take(who: Contender, _: str, row: Row = row) -> Sample:
                    return await measuring.under_load(bench, servers[who], row.name)

                await self._rounds(row, take)

    async def _rounds(self, row: Row, take: Take) -> None:
        taken = self.taken.setdefault(row.name, {})
        for number in range(self._plan.size.rounds):
            for who in self._plan.of_row(row):
                sample = await self._try(who, partial(take, who, f"{row.name}-{number}-{who}"))
                taken.setdefault(who, []).append(sample)
                self._say(f"{row.name} {number + 1}/{self._plan.size.rounds} {who}: {_told(row, sample)}")
                self._advance(1)

    async def _try(self, who: Contender, take: Callable[[], Awaitable[Sample]]) -> Sample:
        """Take a sample. One that fails says why; a contender that is broken gives no other."""
        if who in self._broken:
            return Sample({}, self._broken[who])
        try:
            return await take()
        except* (CannotRun, PushFailed, WrkFailed, Wrong, AssertionError, OSError) as group:
            failure = " ".join(str(_first(group)).split())
        return Sample({}, failure[:500] or "failed without a word")


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner


def _told(row: Row, sample: Sample) -> str:
    if sample.failure:
        return f"FAILED: {sample.failure}"
    return ", ".join(f"{sample.figures[each.name]:,.{each.digits}f} {each.title}" for each in row.measures)
