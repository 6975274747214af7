"""Replays a trace through a running registry, segment by segment: open loop at a speed, or as fast as possible."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Final

import aiohttp

from benchmarks.egress.client import Failed, Got, RegistryClient, session
from benchmarks.egress.http1 import Exchange
from benchmarks.egress.journal import Journal
from benchmarks.egress.plan import Manifest, Plan, is_replayable
from benchmarks.egress.result import Totals
from benchmarks.egress.tallies import Latencies
from benchmarks.egress.targets import Running
from benchmarks.egress.witness import Audit, totals_of
from benchmarks.egress.workload import Kind, Request

SHOWN_FAILURES: Final = 5


@dataclass(frozen=True, slots=True)
class Options:
    """How to replay. `speed` None is as fast as possible; `concurrency` bounds requests in flight; a segment has so many requests."""

    speed: float | None = None
    concurrency: int = 16
    bodies: bool = True
    segment: int = 2000


@dataclass(slots=True)
class Counts:
    """Where exchanges are counted at the moment: nowhere while the registry is being filled."""

    totals: Totals | None = None

    def at_registry(self, exchange: Exchange) -> None:
        """Count an exchange of clients with the registry."""
        if self.totals is not None:
            self.totals.at_registry.count(exchange)

    def at_store(self, exchange: Exchange, *, by_client: bool) -> None:
        """Count an exchange of a client, or of the registry, with the store."""
        if self.totals is not None:
            self.totals.at_store.count(exchange, by_client=by_client)


class Replay:
    """One trace through one running registry. Made by `opened`."""

    def __init__(self, plan: Plan, server: Running, client: RegistryClient, counts: Counts, options: Options) -> None:
        self.server = server
        self.failures: list[str] = []
        self._plan = plan
        self._client = client
        self._counts = counts
        self._options = options
        self._revision = 0
        self._pushes: dict[str, set[asyncio.Task[None]]] = defaultdict(set)
        self._audit = Audit(server.audit) if server.audit is not None else None

    async def fill(self, advance: Callable[[], None]) -> None:
        """Push what must be there before the trace begins. What is there already is found again and not sent twice."""
        for blob, repositories in self._plan.blobs_before():
            await self._client.push_blob(repositories[0], blob)
            advance()
            for repository in repositories[1:]:
                await self._client.mount(repository, blob, repositories[0])
                advance()
        for manifest in self._plan.manifests_before():
            await self._push_manifest(manifest)
            advance()

    async def run(self, requests: Iterable[Request], journal: Journal, advance: Callable[[int], None]) -> None:
        """Replay the requests after the journal's position, and note each segment that is done."""
        wanted = islice(filter(is_replayable, requests), journal.position, None)
        self._revision = journal.position
        while segment := self._segment(wanted):
            journal.finished(await self._measured(segment, advance))

    def _segment(self, requests: Iterator[Request]) -> list[Request]:
        return list(islice(requests, self._options.segment))

    async def _measured(self, segment: list[Request], advance: Callable[[int], None]) -> Totals:
        server, totals = self.server, Totals()
        await server.quiet()
        if self._audit is not None:
            await self._audit.added()
        metrics, operations = await totals_of(server.metrics_url), await server.operations()
        cpu, sent, untold = server.cpu_seconds(), server.at_registry.sent, server.untold
        self._counts.totals, began = totals, time.perf_counter()
        await self._dispatch(segment, totals, advance)
        totals.seconds = time.perf_counter() - began
        await server.quiet()
        self._counts.totals = None
        totals.cpu_seconds = server.cpu_seconds() - cpu
        totals.socket_sent = server.at_registry.sent - sent
        totals.untold = server.untold - untold
        if self._audit is not None:
            totals.audited = await self._audit.added()
        after, later = await totals_of(server.metrics_url), await server.operations()
        totals.metrics = {name: value - metrics.get(name, 0.0) for name, value in after.items()}
        if operations is not None and later is not None:
            totals.store_says = {name: count - operations.get(name, 0) for name, count in later.items()}
        return totals

    async def _dispatch(self, segment: list[Request], totals: Totals, advance: Callable[[int], None]) -> None:
        """Send each request when it is due; the schedule begins anew with each segment, so that taking stock delays nobody."""
        places = asyncio.Semaphore(self._options.concurrency)
        loop = asyncio.get_running_loop()
        began, first, speed = loop.time(), segment[0].time, self._options.speed
        async with asyncio.TaskGroup() as group:
            for request in segment:
                due = loop.time() if speed is None else began + max(0.0, request.time - first) / speed
                if (ahead := due - loop.time()) > 0:
                    await asyncio.sleep(ahead)
                await places.acquire()
                # Without a speed nothing is due: a request's time begins when there is a place for it.
                due = loop.time() if speed is None else due
                totals.behind_seconds = max(totals.behind_seconds, loop.time() - due)
                self._revision += 1
                earlier = tuple(self._pushes[request.repository])
                task = group.create_task(self._one(request, self._revision, earlier, due, totals))
                if request.kind.is_push:
                    self._pushes[request.repository].add(task)
                    task.add_done_callback(self._pushes[request.repository].discard)
                task.add_done_callback(partial(_over, places, advance))
        self._pushes.clear()

    async def _one(
        self, request: Request, revision: int, earlier: tuple[asyncio.Task[None], ...], due: float, totals: Totals
    ) -> None:
        """Replay one request, after the pushes to its repository that came before it."""
        if earlier:
            await asyncio.wait(earlier)
        loop = asyncio.get_running_loop()
        due = max(due, loop.time()) if earlier else due
        try:
            got = await self._perform(request, revision)
        except (Failed, aiohttp.ClientError, TimeoutError, OSError) as error:
            totals.failed += 1
            if len(self.failures) < SHOWN_FAILURES:
                self.failures.append(f"{request.kind} {request.repository} {request.reference[:80]}: {error}")
        else:
            totals.latencies.setdefault(request.kind.value, Latencies()).add(loop.time() - due)
            totals.asked_of_registry += got.from_registry
            totals.asked_of_store += got.from_store
            totals.unfetched_bytes += got.unfetched
            totals.unfetched_requests += bool(got.unfetched)
        finally:
            totals.replayed += 1

    async def _perform(self, request: Request, revision: int) -> Got:
        repository, reference = request.repository, request.reference
        match request.kind:
            case Kind.PULL_BLOB:
                return await self._client.pull_blob(repository, self._plan.blob(reference))
            case Kind.LOOK_BLOB:
                return await self._client.look(repository, "blobs", self._plan.blob(reference).digest)
            case Kind.PULL_MANIFEST:
                return await self._client.pull_manifest(repository, self._asked(repository, reference))
            case Kind.LOOK_MANIFEST:
                return await self._client.look(repository, "manifests", self._asked(repository, reference))
            case Kind.PUSH_BLOB:
                blob = self._plan.blob(reference)
                await self._client.push_blob(repository, blob)
                self._plan.there(repository, blob)
            case Kind.PUSH_MANIFEST:
                await self._push_manifest(self._plan.manifest(repository, reference), revision)
        return Got()

    def _asked(self, repository: str, reference: str) -> str:
        """Give what to ask for: a tag as it is, a digest of the trace as that of the bytes that stand for it."""
        return self._plan.manifest(repository, reference).digest if reference.startswith("sha256:") else reference

    async def _push_manifest(self, manifest: Manifest, revision: int = 0) -> None:
        self._plan.set_digest(manifest, await self._client.push_manifest(manifest, manifest.content(revision)))


@asynccontextmanager
async def opened(plan: Plan, server: Running, counts: Counts, options: Options) -> AsyncIterator[Replay]:
    """Open a client of a running registry, ready to replay."""
    async with session(options.concurrency) as http:
        yield Replay(plan, server, RegistryClient(server.url, http, bodies=options.bodies), counts, options)


def _over(places: asyncio.Semaphore, advance: Callable[[int], None], _: asyncio.Task[None]) -> None:
    places.release()
    advance(1)
