"""Where programs are, which cores they get, and how they are started and ended."""

from __future__ import annotations

import asyncio
import os
import platform
import re
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.programs import PATH, bound_to_us
from tests.running import end

HOW: Final = {
    "wrk": "Debian's package wrk",
    "versitygw": "benchmarks/peers/install",
    "registry": "benchmarks/peers/install",
    "zot": "benchmarks/peers/install tries to build it; else put a binary named zot on PATH",
    "taskset": "Debian's package util-linux",
}


class CannotRun(RuntimeError):
    """Something that is needed is missing, or does not start. The message says which and what to do."""


def found(name: str) -> str | None:
    """Look a program up in EDGEPROXY_TEST_PROGRAMS and on PATH."""
    return shutil.which(name, path=PATH)


def program(name: str) -> str:
    """Find a program.

    Raises:
        CannotRun: it is not there.

    """
    binary = found(name)
    if binary is None:
        raise CannotRun(f"{name} is not on PATH nor in a folder of --programs; get it: {HOW[name]}")
    return binary


@dataclass(frozen=True, slots=True)
class Cores:
    """Who runs where. `load` has the load generator, the store and ourselves."""

    server: int
    load: int

    @classmethod
    def of_this_machine(cls) -> Cores:
        """Take the first core for the server, and the last for everything else.

        Raises:
            CannotRun: there is one core only.

        """
        usable = sorted(os.sched_getaffinity(0))
        if len(usable) < 2:
            raise CannotRun("one core is not enough: server and load would take it from each other; run on two or more")
        return cls(usable[0], usable[-1])

    def for_server(self, workers: int) -> list[str]:
        """Pin a server: one core a worker. On two cores the second worker shares the core of the load."""
        usable = sorted({*os.sched_getaffinity(0), self.server})
        second = next((core for core in usable if core not in (self.server, self.load)), self.load)
        cores = str(self.server) if workers == 1 else f"{self.server},{second}"
        return [program("taskset"), "-c", cores]

    def for_load(self) -> list[str]:
        """Pin what is not measured."""
        return [program("taskset"), "-c", str(self.load)]


@asynccontextmanager
async def started(
    command: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a program, which ends with us; its output goes to `log`."""
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *bound_to_us(*command),
            env=dict(environment),
            cwd=folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        yield process
    finally:
        await end(process, 40)


def described() -> dict[str, object]:
    """Describe this machine for whoever reads the figures."""
    cpus = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    model = next((line.partition(":")[2].strip() for line in cpus if line.startswith("model name")), platform.machine())
    memory = next(
        int(line.split()[1])
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        if "MemTotal" in line
    )
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": model,
        "memory_gib": round(memory / 1024**2, 1),
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": platform.python_version(),
    }


async def versions() -> dict[str, str]:
    """Ask the programs what they are; those that are missing are left out."""
    told = {}
    for name, command in (("distribution", "registry"), ("zot", "zot"), ("versitygw", "versitygw"), ("wrk", "wrk")):
        binary = found(command)
        if binary is not None:
            told[name] = await _version(binary)
    return told


async def _version(binary: str) -> str:
    go = found("go")
    if go is not None:
        # What was built by `go install` often does not know its own version, but the file does.
        for line in (await _said(go, "version", "-m", binary)).splitlines():
            words = line.split()
            if words[:1] == ["mod"]:
                return words[2]
    numbers = re.search(r"v?\d+\.\d[\w.-]*", await _said(binary, "--version"))
    return numbers[0] if numbers else "of unknown version"


async def _said(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return output.decode(errors="replace")
