"""How many CPU instructions does one warm redirect cost?

Counts those of many requests to the ASGI application, from the call to the last message of the answer, with a bearer, a policy, and an
audit that is written. Counted and not timed, so that a busy machine gives the same figure as a quiet one: by `perf stat` where it can,
else by valgrind. Two runs of different length are subtracted, so that start and imports drop out.

    python -m benchmarks.instructions           count, and compare with the figure that is kept
    python -m benchmarks.instructions --keep    count, and keep the figure in benchmarks/instructions.json
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

KEPT: Final = Path(__file__).with_name("instructions.json")
ROOT: Final = Path(__file__).parents[1]
FEW, MANY = 200, 2200
"""Requests of the two runs."""
ISSUER_KEYS: Final = (1, 2)
"""The numbers of the RSA keys that the issuers have."""

App = Callable[[Any, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]


class CannotCount(RuntimeError):
    """Counting failed. The message is what the counter said."""


def perf_count(text: str) -> int | None:
    """Read what `perf stat -x,` printed; None where the machine has no such counter."""
    for line in text.splitlines():
        value, _, rest = line.partition(",")
        if "instructions" in rest and value.isdigit():
            return int(value)
    return None


def callgrind_count(text: str) -> int | None:
    """Read what callgrind printed at its end."""
    match = re.search(r"^==\d+== Collected : (\d+)$", text, re.MULTILINE)
    return int(match[1]) if match else None


def counters() -> dict[str, tuple[list[str], Callable[[str], int | None]]]:
    """Give what can count here, the better one first: its name, its command, and how its output is read."""
    found: dict[str, tuple[list[str], Callable[[str], int | None]]] = {}
    if perf := shutil.which("perf"):
        command = [perf, "stat", "-x,", "-e", "instructions:u"]
        told = subprocess.run([*command, sys.executable, "-c", ""], capture_output=True, text=True, check=False)
        if perf_count(told.stderr) is not None:
            found["perf"] = (command, perf_count)
    if valgrind := shutil.which("valgrind"):
        found["callgrind"] = (
            [valgrind, "--tool=callgrind", "--callgrind-out-file=/dev/null", "--dump-instr=no"],
            callgrind_count,
        )
    return found


def counted(counter: str) -> float:
    """Count with one of `counters`, and give the instructions of one request.

    Raises:
        CannotCount: it failed.

    """
    if counter not in counters():
        raise CannotCount("neither perf (with a counter of instructions) nor valgrind is here: install valgrind")
    command, read = counters()[counter]
    with tempfile.TemporaryDirectory() as folder:
        # Looking for primes costs more than thousands of requests, and never twice the same: both runs get the same keys.
        for number in ISSUER_KEYS:
            key = rsa.generate_private_key(65537, 2048)
            pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            (Path(folder) / f"{number}.pem").write_bytes(pem)
        _run([], 1, folder)  # compiles what is not compiled yet
        few, many = (read(_run(command, requests, folder)) for requests in (FEW, MANY))
    if few is None or many is None or many <= few:
        raise CannotCount(f"{command[0]} counted {few} for {FEW} requests and {many} for {MANY}: that cannot be")
    return each(few, many)


def _run(command: list[str], requests: int, keys: str) -> str:
    # What would make two runs differ is fixed: hashes, and where a pool of memory begins.
    environment = {"PATH": "/usr/bin:/bin", "PYTHONHASHSEED": "0", "PYTHONMALLOC": "malloc", "PYTHONPATH": str(ROOT)}
    answering = [sys.executable, "-m", "benchmarks.instructions", "--answer", str(requests), "--keys", keys]
    run = subprocess.run([*command, *answering], capture_output=True, text=True, check=False, env=environment, cwd=ROOT)
    if run.returncode:
        raise CannotCount(f"it failed ({run.returncode}):\n{run.stderr[-3000:]}")
    return run.stderr


def each(few: int, many: int) -> float:
    """Give the instructions of one request."""
    return (many - few) / (MANY - FEW)


async def answer(requests: int, keys: Path | None = None) -> None:
    """Answer so many requests for a warm blob. `keys` holds those of the issuers, which are made where it is None."""
    from edgeproxy.audit import FileSink  # noqa: PLC0415
    from tests import issuer  # noqa: PLC0415
    from tests.hostile.harness import CI, LAYER, world_in  # noqa: PLC0415
    from tests.http.harness import digest_of  # noqa: PLC0415

    if keys is not None:
        loaded = {number: load_pem_private_key((keys / f"{number}.pem").read_bytes(), None) for number in ISSUER_KEYS}
        issuer.rsa_key = lambda number=0, bits=2048: loaded[number]  # type: ignore[assignment]  # noqa: ARG005
    with tempfile.TemporaryDirectory() as folder, closing(FileSink(Path(folder) / "audit.log")) as sink:
        async with world_in(Path(folder)) as world:
            # The sink of the tests reads each line again, which is no part of the work.
            world.lines.write = sink.write  # type: ignore[method-assign]
            bearer = await world.bearer(world.ci.mint(CI), "acme/app")
            scope = _scope(f"/v2/acme/app/blobs/{digest_of(LAYER)}", bearer)
            for _ in range(requests):
                await _redirected(world.app, dict(scope))


async def _redirected(app: App, scope: dict[str, Any]) -> None:
    sent: list[Mapping[str, Any]] = []

    async def receive() -> Mapping[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Mapping[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    assert sent[0]["status"] == 307
    assert not sent[-1].get("more_body")


def _scope(path: str, bearer: str) -> dict[str, Any]:
    """Make the request as a server hands it over, with the fields that a client sends."""
    fields = {
        b"host": b"registry.example",
        b"user-agent": b"containerd/2.1.0",
        b"accept": b"*/*",
        b"accept-encoding": b"gzip",
        b"authorization": b"Bearer " + bearer.encode(),
    }
    return {
        "type": "http",
        "http_version": "1.1",
        "asgi": {"spec_version": "2.1", "version": "3.0"},
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": list(fields.items()),
        "client": ("192.0.2.1", 4711),
        "server": ("registry.example", 80),
        "state": {},
        "extensions": {},
    }


def compared(figure: float, counter: str, kept: Mapping[str, Any] | None) -> str:
    """Say the figure, and its ratio to the one that is kept, if that was counted in the same way."""
    text = f"{figure:,.0f} instructions a warm redirect, by {counter}, Python {platform.python_version()}"
    if kept is None:
        return f"{text}; none is kept yet"
    if (kept["counter"], kept["python"]) != (counter, platform.python_version()):
        return f"{text}; the one kept is by {kept['counter']} and Python {kept['python']}, and not comparable"
    return f"{text}; {figure / kept['instructions']:.3f} of the {kept['instructions']:,.0f} kept on {kept['date']}"


def main() -> int:
    """Read the arguments, print one line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--keep", action="store_true", help=f"write the figure to {KEPT.name}")
    parser.add_argument(
        "--with", dest="counter", choices=("perf", "callgrind"), help="default: the first that works here"
    )
    parser.add_argument("--answer", type=int, metavar="N", help=argparse.SUPPRESS)
    parser.add_argument("--keys", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.answer is not None:
        asyncio.run(answer(arguments.answer, arguments.keys))
        return 0
    name = arguments.counter or next(iter(counters()), "")
    try:
        figure = counted(name)
    except CannotCount as error:
        print(error, file=sys.stderr)
        return 2
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else None
    print(compared(figure, name, kept))
    if arguments.keep:
        told = {
            "date": datetime.now(UTC).date().isoformat(),
            "instructions": round(figure),
            "counter": name,
            "python": platform.python_version(),
            "requests": MANY - FEW,
        }
        KEPT.write_text(json.dumps(told, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
