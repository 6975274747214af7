"""Trying out what pages show: a running `edgeproxy dev`, and a shell beside it."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import socket
import tarfile
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from tests.docs.pages import Fence
from tests.programs import EDGEPROXY, bound_to_us, clean_environment
from tests.running import answering, end, free_ports, temporary_folder


def stripped(text: str, port: int) -> str:
    """Take out of a text what differs from run to run."""
    return re.sub(r"\(request [0-9a-f-]+\)", "(request ID)", text).replace(f"localhost:{port}", "localhost:5000")


@dataclass(frozen=True, slots=True)
class Dev:
    """A running `edgeproxy dev` in a folder of its own, and the environment in which README's commands run there."""

    port: int
    folder: Path
    environment: Mapping[str, str]

    async def try_out(self, fence: Fence, shown: str | None) -> None:
        """Run a fence as a person would type it; check how it ends, and that it prints `shown` if that is given."""
        # No hub can be asked where tests run: what is pulled from it lies ready.
        lines = [line for line in fence.text.splitlines() if not re.fullmatch(r"docker pull [a-z]+", line)]
        script = "\n".join(["set -e", *lines]).replace("localhost:5000", f"localhost:{self.port}")
        status, printed = await self._shell(script)
        where = f"README.md:{fence.line}: exit {status}\n{printed}"
        assert (status == 0) == (fence.use != "refused"), where
        if shown is not None:
            expected = stripped(shown, self.port).strip()
            assert expected in stripped(printed, self.port), where
        if "policy.yaml" in fence.text and "sed " in fence.text:
            await self._signs_callers_in()

    async def _signs_callers_in(self) -> None:
        """Wait until the changed policy is in force: from then on `/v2/` asks for a credential. Another process can only be polled."""
        async with aiohttp.ClientSession() as session:
            for _ in range(200):
                async with session.get(f"http://localhost:{self.port}/v2/") as answer:
                    if answer.status == 401:
                        return
                await asyncio.sleep(0.05)
        raise AssertionError("the changed policy is not in force after ten seconds")

    async def _shell(self, script: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            "/bin/sh",
            "-c",
            script,
            cwd=self.folder,
            env=dict(self.environment),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, output.decode()

    def last_audit_line(self) -> dict[str, Any]:
        """Read the newest line of the audit."""
        line: dict[str, Any] = json.loads((self.folder / ".edgeproxy" / "audit.jsonl").read_text().splitlines()[-1])
        return line


def three_ports() -> int:
    """Find a port that is free with the two after it: registry, store, issuer."""
    for _ in range(100):
        (first,) = free_ports(1)
        with ExitStack() as probes:
            try:
                for port in range(first, first + 3):
                    probes.enter_context(socket.create_server(("127.0.0.1", port)))
            except OSError:
                continue
            return first
    raise AssertionError("no three free ports in a row")


@asynccontextmanager
async def dev(extra: Mapping[str, str] | None = None) -> AsyncIterator[Dev]:
    """Run `edgeproxy dev` as `make run` does, with its data where README says that it is."""
    async with temporary_folder() as folder:
        port, log = three_ports(), folder / "dev.log"
        environment = clean_environment(folder, extra)
        environment["PATH"] = os.pathsep.join((str(Path(EDGEPROXY).parent), environment["PATH"]))
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *bound_to_us(EDGEPROXY, "dev", "--port", str(port)),
                cwd=folder,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            await answering(f"http://localhost:{port}/readyz", process, log)
            yield Dev(port, folder, environment)
        finally:
            await end(process)


def write_alpine(path: Path, busybox: Path) -> Path:
    """Write the files of an image that has a shell and `echo`, as the one that README pulls has."""
    with tarfile.open(path, "w") as archive:
        content = busybox.read_bytes()
        entry = tarfile.TarInfo("bin/busybox")
        entry.size, entry.mode = len(content), 0o755
        archive.addfile(entry, io.BytesIO(content))
        for name in ("sh", "echo"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)
    return path
