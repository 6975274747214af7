"""How much memory does the registry need while many push at once?

Starts `edgeproxy serve` over versitygw and pushes large random blobs to it concurrently, half of them in the shape of
containerd (POST, PUT), half in that of docker (POST, PATCH of unknown length, PUT). Prints the peak resident memory of the
server and the seconds. With `--limit-mib`, ends with 1 if the peak is above.

    python -m benchmarks.push_memory --pushes 32 --mib 64 --limit-mib 300
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from random import Random

from tests.pushing import OCTETS, Client, client, with_digest
from tests.running import Registry, serving

MIB = 1024 * 1024
PIECE = 256 * 1024


def pieces(seed: int, mib: int) -> Iterator[bytes]:
    """Give the bytes of one blob, which are never held whole; the same seed gives the same again."""
    block = Random(seed).randbytes(MIB)
    for number in range(mib):
        yield number.to_bytes(8) + block[8:]


async def sending(seed: int, mib: int) -> AsyncIterator[bytes]:
    """Give them as a body, in the pieces that clients write."""
    for large in pieces(seed, mib):
        for begin in range(0, MIB, PIECE):
            yield large[begin : begin + PIECE]


def digest_of(seed: int, mib: int) -> str:
    """Hash one blob."""
    digest = hashlib.sha256()
    for large in pieces(seed, mib):
        digest.update(large)
    return f"sha256:{digest.hexdigest()}"


async def push(to: Client, seed: int, mib: int, digest: str) -> None:
    """Push one blob."""
    location = await to.start(f"memory/{seed}")
    if seed % 2:
        patched = await to.ask("PATCH", location, data=sending(seed, mib), headers=OCTETS)
        await to.finish(patched.expect(202).header("location"), digest)
    else:
        headers = OCTETS | {"Content-Length": str(mib * MIB)}
        put = await to.ask("PUT", with_digest(location, digest), data=sending(seed, mib), headers=headers)
        put.expect(201)


def peak_mib(registry: Registry) -> float:
    """Read the peak resident memory of the server from the kernel."""
    status = Path(f"/proc/{registry.pid}/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


async def measure(pushes: int, mib: int) -> dict[str, float]:
    """Run it once."""
    digests = [await asyncio.to_thread(digest_of, seed, mib) for seed in range(pushes)]
    async with serving("versitygw") as registry, client(registry.url, seconds=600) as to:
        idle = peak_mib(registry)
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for seed, digest in enumerate(digests):
                group.create_task(push(to, seed, mib, digest))
        seconds = time.perf_counter() - began
        for seed, digest in enumerate(digests):
            held = (await to.ask("HEAD", f"/v2/memory/{seed}/blobs/{digest}")).expect(200)
            assert int(held.header("content-length")) == mib * MIB
        return {
            "pushes": pushes,
            "mib_each": mib,
            "idle_mib": round(idle, 1),
            "peak_mib": round(peak_mib(registry), 1),
            "seconds": round(seconds, 1),
            "mib_per_second": round(pushes * mib / seconds, 1),
        }


def main() -> int:
    """Read the arguments, print one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pushes", type=int, default=32, help="how many at once")
    parser.add_argument("--mib", type=int, default=64, help="size of each, in MiB")
    parser.add_argument("--limit-mib", type=float, help="end with 1 if the peak is above")
    arguments = parser.parse_args()
    figures = asyncio.run(measure(arguments.pushes, arguments.mib))
    print(json.dumps(figures))
    if arguments.limit_mib is not None and figures["peak_mib"] > arguments.limit_mib:
        print(f"the peak is above {arguments.limit_mib} MiB", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
