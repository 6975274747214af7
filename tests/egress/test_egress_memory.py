"""However long a workload is, no more than a bounded part of it is held: counted in requests read ahead and in bytes allocated."""

from __future__ import annotations

import io
import json
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.egress import estimate, ibm, logs
from benchmarks.egress.journal import Journal
from benchmarks.egress.plan import Plan
from benchmarks.egress.replay import Counts, Options, opened
from benchmarks.egress.targets import StoreServer, Target, running
from benchmarks.egress.workload import Kind, Reading, Request

MIB = 1024**2
SHORT, LONG = 15_000, 60_000


def workload(length: int) -> Iterator[Request]:
    """Pulls and pushes of blobs that never come twice, by a client that never pushes a manifest."""
    for number in range(length):
        kind = Kind.PUSH_BLOB if number % 2 else Kind.PULL_BLOB
        yield Request(float(number), kind, "acme/app", f"sha256:{number:064x}", 1000, "client")


async def peak_of(work: Callable[[], Awaitable[None]]) -> int:
    """Give the most bytes that Python held for some work at a time."""
    tracemalloc.start()
    try:
        await work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


async def test_planning_a_trace_four_times_as_long_takes_no_more_memory(tmp_path: Path) -> None:
    async def planned(length: int) -> int:
        with closing(Plan(tmp_path / f"{length}.sqlite")) as plan:
            peak = await peak_of(lambda: plan.learn(workload(length), 1, lambda _: None))
            assert plan.fact("requests") == str(length)
            assert sum(1 for _ in plan.blobs_before()) == length // 2
            return peak

    assert await planned(LONG) < await planned(SHORT) + MIB / 2


async def test_estimating_from_a_log_four_times_as_long_takes_no_more_memory() -> None:
    async def estimated(length: int) -> int:
        async def work() -> None:
            assert estimate.observe(workload(length), None).stored == length * 1000

        return await peak_of(work)

    assert await estimated(LONG) < await estimated(SHORT) + MIB / 2


class Repeated(io.RawIOBase):
    """A file that holds a piece many times over, of which no more than the piece is in memory."""

    def __init__(self, piece: bytes, times: int) -> None:
        self._piece = piece
        self._left = times * len(piece)

    def readable(self) -> bool:
        """See `io.RawIOBase`."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """See `io.RawIOBase`."""
        begin = -self._left % len(self._piece)
        given = self._piece[begin : begin + min(len(buffer), self._left)]
        buffer[: len(given)] = given
        self._left -= len(given)
        return len(given)


@pytest.mark.parametrize(
    ("form", "short", "long"),
    [("one array on one line", 700, 1400), ("lines", 50, 400), ("one line without an end", 200, 2000)],
)
async def test_reading_a_file_that_is_far_longer_takes_no_more_memory(form: str, short: int, long: int) -> None:
    entry = json.dumps(
        {
            "http.request.method": "GET", "http.request.remoteaddr": "c", "http.request.uri": "v2/u/r/blobs/5e6f",
            "http.response.status": 200, "http.response.written": 1, "timestamp": "2017-06-20T02:39:15.250Z",
        }
    )  # fmt: skip
    combined = '10.0.0.7 - - [24/Nov/2026:03:32:18 +0000] "GET /v2/a/blobs/5e6f HTTP/1.1" 200 5 "-" "-"\n'
    piece = {"one array on one line": f"{entry},", "lines": combined, "one line without an end": "x" * 100}[form]

    async def read(times: int) -> int:
        async def work() -> None:
            reading = Reading()
            stream = io.BufferedReader(Repeated((piece * 30).encode(), times), 64 * 1024)
            if form == "one array on one line":
                found = sum(1 for _ in ibm.requests(stream, reading, "long"))
            else:
                found = sum(1 for _ in logs.requests(stream, reading, "long", logs.parse_combined))
            assert found == (0 if "without" in form else 30 * times)

        return await peak_of(work)

    assert await read(long) < await read(short) + MIB / 2


@pytest.mark.timeout(300)
async def test_a_replay_reads_one_segment_ahead_and_holds_no_finished_one(tmp_path: Path) -> None:
    segment = 25
    plan = Plan(tmp_path / "plan.sqlite")
    known = [Request(0.0, Kind.PULL_BLOB, "acme/app", f"sha256:{number:064x}", 100, "client") for number in range(3)]
    await plan.learn(known, 1, lambda _: None)
    await plan.name_blobs(lambda _: None)
    done, ahead = 0, 0

    def endless(length: int) -> Iterator[Request]:
        nonlocal ahead
        for number in range(length):
            ahead = max(ahead, number + 1 - done)
            yield known[number % 3]

    def replayed(by: int) -> None:
        nonlocal done
        done += by

    counts, options = Counts(), Options(concurrency=4, segment=segment)
    target, store = Target.EDGEPROXY_REDIRECT, StoreServer.DOUBLE
    with closing(plan):
        async with (
            running(target, store, tmp_path, counts.at_registry, counts.at_store) as server,
            opened(plan, server, counts, options) as one,
        ):
            await one.fill(lambda: None)

            async def replay(length: int) -> int:
                nonlocal done, ahead
                done = ahead = 0
                journal = Journal.open(tmp_path / f"{length}.jsonl", "of this test", resume=False, persistent=False)
                peak = await peak_of(lambda: one.run(endless(length), journal, replayed))
                assert (journal.totals.replayed, journal.totals.failed, done) == (length, 0, length)
                assert journal.segments == length / segment
                assert ahead == segment
                return peak

            await replay(2 * segment)  # so that all there is to import and to connect is there
            short = await replay(4 * segment)
            assert await replay(16 * segment) < short + MIB / 2
