"""One sample of one row: what is asked is verified first, then timed, then what was counted is checked again."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks import processes
from benchmarks.egress.counting import CountingProxy, counting
from benchmarks.egress.http1 import Exchange
from benchmarks.egress.operations import is_presigned
from benchmarks.egress.tallies import AtStore
from benchmarks.egress.witness import Audit
from benchmarks.peers import contents, wrk
from benchmarks.peers.contenders import REPOSITORY, Running, Store, behind, running
from benchmarks.peers.contents import HOT, Contents
from benchmarks.peers.figures import Contender, RowName, Sample
from benchmarks.peers.machine import Cores, program
from benchmarks.peers.pushing import Layer, Pusher
from tests.images import MANIFEST, digest_of
from tests.pushing import Reply

MIB: Final = 1024 * 1024


class Wrong(Exception):
    """A contender does not do what is timed. The message says what it does."""


@dataclass(frozen=True, slots=True)
class Size:
    """How long and how much. `seconds` is one run of wrk, `warm` the run before it that is not counted."""

    rounds: int
    seconds: float
    warm: float
    tags: int
    layer_mib: int
    pushes: int
    push_mib: int


FULL: Final = Size(rounds=5, seconds=5, warm=1, tags=1000, layer_mib=1024, pushes=32, push_mib=64)
QUICK: Final = Size(rounds=2, seconds=1, warm=1, tags=100, layer_mib=128, pushes=8, push_mib=16)

_LOOKS: Final = 10
"""So often the audit is looked at for lines that are missing: the thread that writes them may get no turn for a while on a busy machine."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What every sample needs. `digests` are those of layers by seed and MiB, as hashing them takes longer than pushing."""

    cores: Cores
    store: Store
    folder: Path
    size: Size
    contents: Contents
    digests: Mapping[tuple[int, int], str]

    def layer(self, seed: int, mib: int) -> Layer:
        """Give a layer."""
        return Layer(seed, mib, self.digests[seed, mib])

    @asynccontextmanager
    async def fresh(self, contender: Contender, name: str) -> AsyncIterator[Running]:
        """Run a contender that was just started, over an empty bucket of its own."""
        place = self.store.bucket(name)
        try:
            async with running(contender, place, self.folder / name, self.cores) as server:
                yield server
        finally:
            await asyncio.to_thread(_emptied, place.folder)


def _emptied(folder: Path) -> None:
    """Remove a bucket, and wait for the disk, so that the next push does not pay for this one."""
    shutil.rmtree(folder)
    os.sync()


def paths_of(row: RowName, made: Contents) -> list[str]:
    """Give the paths that a row asks for."""
    blob = f"/v2/{REPOSITORY}/blobs/{digest_of(made.layers[0])}"
    references = {
        RowName.DIGEST: [made.digest],
        RowName.TAG: [HOT],
        RowName.TAGS: list(made.tagged),
    }
    return [blob] if row is RowName.BLOB else [f"/v2/{REPOSITORY}/manifests/{each}" for each in references[row]]


def check_answer(row: RowName, answer: Reply, expected: bytes) -> None:
    """Look whether an answer is what the row times.

    Raises:
        Wrong: it is something else.

    """
    if row is RowName.BLOB:
        location = {name.lower(): value for name, value in answer.headers.items()}.get("location", "")
        if answer.status != 307 or "X-Amz-Signature=" not in location:
            raise Wrong(f"a blob is answered with {answer.status}, and not with a redirect to a presigned URL")
    elif answer.status != 200 or answer.body != expected:
        raise Wrong(
            f"a manifest is answered with {answer.status} and {len(answer.body)} bytes, not its {len(expected)}"
        )


async def verify(server: Running, row: RowName, made: Contents, headers: Mapping[str, str]) -> None:
    """Ask once, with the credential and, where one is wanted, without.

    Raises:
        Wrong: the answer is not what is timed, or a caller without a credential gets it too.

    """
    path = paths_of(row, made)[-1]
    expected = list(made.tagged.values())[-1] if row is RowName.TAGS else made.manifest
    check_answer(row, await contents.ask(server, path, headers), expected)
    if headers and (await contents.ask(server, path, {})).status != 401:
        raise Wrong("it answers without the credential too, so it does not check it")


async def under_load(bench: Bench, server: Running, row: RowName) -> Sample:
    """Ask for the same over and over: requests a second, CPU, memory."""
    headers = await server.headers()
    await verify(server, row, bench.contents, headers)
    script = bench.folder / f"{server.contender}.lua"
    script.touch(mode=0o600)
    script.write_text(wrk.script(paths_of(row, bench.contents), {"Accept": MANIFEST, **headers}))
    try:
        prefix, binary = bench.cores.for_load(), program("wrk")
        await wrk.run(prefix, binary, server.url, script, bench.size.warm)
        audit = Audit(server.audit) if server.audit is not None else None
        if audit is not None:
            await audit.added()
        processes.forget_peak(server.pid)
        before = processes.cpu_seconds(server.pid)
        load = await wrk.run(prefix, binary, server.url, script, bench.size.seconds)
        cpu = processes.cpu_seconds(server.pid) - before
        peak = processes.peak_bytes(server.pid)
    finally:
        script.unlink()
    failure = load.failure or await unaudited(server, audit, row, load.requests)
    await verify(server, row, bench.contents, headers)
    figures = {
        "rate": load.rate,
        "cpu_1000": cpu / load.requests * 1000 if load.requests else 0.0,
        "p50_ms": load.p50_ms,
        "p99_ms": load.p99_ms,
        "peak_mib": peak / MIB,
    }
    return Sample(figures, failure)


async def unaudited(server: Running, audit: Audit | None, row: RowName, requests: int) -> str:
    """Say that lines are missing in the audit, if any are: they are part of the work."""
    if audit is None or server.audit is None:
        return ""
    written = 0
    for _ in range(_LOOKS):
        written += (await audit.added()).get("blobs" if row is RowName.BLOB else "manifests", 0)
        if written >= requests:
            break
    # The server appends, so that the file may be cut short under it.
    await asyncio.to_thread(_truncated, server.audit)
    return "" if written >= requests else f"the audit has {written} lines of {requests} requests"


def _truncated(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate()


async def pushed(bench: Bench, row: RowName, contender: Contender, name: str) -> Sample:
    """Push to a fresh registry over an empty bucket: seconds, CPU, peak memory since its start."""
    size = bench.size
    if row is RowName.PUSHES:
        layers = [bench.layer(seed, size.push_mib) for seed in range(size.pushes)]
    else:
        layers = [bench.layer(0, size.layer_mib)]
    async with bench.fresh(contender, name) as server:
        pusher = Pusher(server.port, REPOSITORY, await server.headers())
        calls: list[tuple[Callable[[Layer], None], Layer]] = [
            (pusher.patch if row is RowName.PATCH or (row is RowName.PUSHES and layer.seed % 2) else pusher.put, layer)
            for layer in layers
        ]
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(len(calls)) as threads:
            cpu, began = processes.cpu_seconds(server.pid), time.perf_counter()
            await asyncio.gather(*(loop.run_in_executor(threads, call, layer) for call, layer in calls))
            seconds = time.perf_counter() - began
        figures = {
            "seconds": seconds,
            "cpu": processes.cpu_seconds(server.pid) - cpu,
            "peak_mib": processes.peak_bytes(server.pid) / MIB,
        }
        for layer in layers:
            await asyncio.to_thread(pusher.expect_held, layer)
    return Sample(figures)


async def counted(bench: Bench, contender: Contender, name: str) -> Sample:
    """Pull the image from a registry that was just started, and again: what each costs at the store."""
    tallies = [AtStore()]

    def count(exchange: Exchange) -> None:
        tallies[-1].count(exchange, by_client=is_by_client(exchange, contender.family))

    place = bench.store.place(contender.family)
    async with (
        counting(bench.store.port, count) as proxy,
        running(contender, behind(place, proxy.port), bench.folder / name, bench.cores) as server,
    ):
        headers = await server.headers()
        figures: dict[str, float] = {}
        for which in ("cold", "warm"):
            await proxy.quiet()
            tally = AtStore()
            tallies.append(tally)
            await contents.pull(server, bench.contents, headers)
            await proxy.quiet()
            figures |= {which: tally.registry_calls, f"{which}_bytes": tally.sent_to_registry}
            _check_pull(tally, proxy, bench.contents)
    return Sample(figures)


def is_by_client(exchange: Exchange, family: str) -> bool:
    """Tell a client's request from the registry's own: edgeproxy signs its reads in the query too, but reads no bytes of blobs."""
    return is_presigned(exchange.target) and (family != "edgeproxy" or "/repos/" not in exchange.target)


def _check_pull(tally: AtStore, proxy: CountingProxy, made: Contents) -> None:
    whole = sum(map(len, (made.config, *made.layers)))
    if tally.content_to_clients != whole:
        raise Wrong(f"{tally.content_to_clients} bytes of blobs came from the store, not the {whole} of the image")
    if proxy.untold:
        raise Wrong(f"{proxy.untold} connections to the store could not be counted")


async def start(bench: Bench, contender: Contender, name: str) -> Sample:
    """Start it: seconds until the first answer, and the memory it has then."""
    async with running(contender, bench.store.place(contender.family), bench.folder / name, bench.cores) as server:
        figures = {
            "seconds": server.seconds,
            "rss_mib": processes.resident_bytes(server.pid) / MIB,
            "cpu": processes.cpu_seconds(server.pid),
        }
    return Sample(figures)
