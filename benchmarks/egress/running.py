"""The replay as a command runs it: plan, fill, replay, result, with progress bars on a terminal."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import orjson

from benchmarks.egress.journal import RESULT, Journal, fingerprint
from benchmarks.egress.plan import Plan
from benchmarks.egress.progress import Begin, progress
from benchmarks.egress.replay import Counts, Options, Replay, opened
from benchmarks.egress.result import Result
from benchmarks.egress.targets import Running, StoreServer, Target, running
from benchmarks.egress.workload import Reading, Refused
from benchmarks.egress.workloads import Format, read

UNKNOWN_BLOB_BYTES = 1024**2


async def replay(
    traces: Sequence[Path],
    target: Target,
    store: StoreServer,
    folder: Path,
    options: Options,
    *,
    form: Format | None = None,
    strict: bool = False,
    resume: bool = False,
    say: Callable[[str], None],
) -> Result:
    """Replay traces through a target, with everything kept in `folder`; gives the result, which is also written there.

    Raises:
        CannotResume: the folder holds another or an interrupted replay.
        CannotRun: a program is missing or does not start.
        Refused: a trace cannot be read.

    """
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    chosen = asdict(options) | {"target": target, "store": store, "format": form}
    persistent = store is not StoreServer.DOUBLE
    journal = Journal.open(folder / "journal.jsonl", fingerprint(traces, chosen), resume=resume, persistent=persistent)
    with closing(Plan(folder / "plan.sqlite")) as plan, progress() as bars:
        if plan.fact("requests") is None:
            reading = Reading(strict=strict)
            await plan.learn(read(traces, reading, form), UNKNOWN_BLOB_BYTES, bars("reading", None))
            for line in reading.told():
                say(line)
        _tell_what_is_replayed(plan, traces, say)
        hashed = bars("hashing MB", plan.total_bytes() / 1e6)
        await plan.name_blobs(lambda size: hashed(size / 1e6))
        counts = Counts()
        async with running(target, store, folder, counts.at_registry, counts.at_store) as server:
            async with opened(plan, server, counts, options) as one:
                await _replayed(one, plan, journal, traces, form, bars)
                for failure in one.failures:
                    say(f"failed: {failure}")
            result = await _result(target, store, traces, plan, journal, server)
    written = orjson.dumps(result.as_json(), option=orjson.OPT_INDENT_2)
    await asyncio.to_thread((folder / RESULT).write_bytes, written)
    return result


def _tell_what_is_replayed(plan: Plan, traces: Sequence[Path], say: Callable[[str], None]) -> None:
    left_out = int(plan.fact("left_out") or 0)
    if left_out:
        say(f"{left_out} requests have names that no registry takes, and are left out")
    if plan.fact("requests") == "0":
        raise Refused(f"{traces[0]}: no request to replay in it")


async def _replayed(
    one: Replay, plan: Plan, journal: Journal, traces: Sequence[Path], form: Format | None, bars: Begin
) -> None:
    if plan.fact("filled") is None:
        filled = bars("filling", sum(plan.counts()))
        await one.fill(lambda: filled(1))
        plan.note("filled", "yes")
    advance = bars("replaying", int(plan.fact("requests") or 0))
    advance(journal.position)
    await one.run(read(traces, Reading(), form), journal, advance)


async def _result(
    target: Target, store: StoreServer, traces: Sequence[Path], plan: Plan, journal: Journal, server: Running
) -> Result:
    return Result(
        target=target,
        delivery=target.delivery,
        store=store,
        trace=", ".join(path.name for path in traces),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=f"{os.cpu_count()} cores, {os.uname().sysname} {os.uname().machine}",
        span=float(plan.fact("span") or 0),
        error=float(plan.fact("error") or 1),
        storage=await server.stored(),
        peak_bytes=server.peak_bytes(),
        segments=journal.segments,
        resumed=journal.runs - 1,
        totals=journal.totals,
    )
