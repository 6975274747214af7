"""HAProxy as operators run it: it speaks HTTP on both sides, asks /readyz, keeps connections to the replicas, and here tries nothing twice."""

from __future__ import annotations

import asyncio
import csv
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tests.programs import bound_to_us, clean_environment, program
from tests.running import end

CONFIGURATION = """\
global
  stats socket {socket} mode 600
defaults
  mode http
  retries 0
  timeout connect 5s
  timeout client 120s
  timeout server 120s
  timeout check 5s
frontend clients
  bind 127.0.0.1:{port}
  default_backend replicas
backend replicas
  balance roundrobin
  option httpchk GET /readyz
  default-server check inter 200ms fall 1 rise 1
{servers}
"""


class Haproxy:
    """A running one. Made by `haproxying`."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    async def sees(self, port: int, *, healthy: bool = True) -> None:
        """Wait until a replica is in, or out."""
        while await self._up(str(port)) != healthy:  # noqa: ASYNC110 - another process is polled
            await asyncio.sleep(0.05)

    async def _up(self, name: str) -> bool:
        try:
            reader, writer = await asyncio.open_unix_connection(str(self._socket))
        except OSError:
            return False
        writer.write(b"show stat\n")
        rows = csv.DictReader((await reader.read()).decode().removeprefix("# ").splitlines())
        writer.close()
        return any(row["svname"] == name and row["status"] == "UP" for row in rows)


@asynccontextmanager
async def haproxying(folder: Path, port: int, targets: Sequence[int]) -> AsyncIterator[Haproxy]:
    """Run it on a port, in front of those of the replicas."""
    binary, socket, file = program("haproxy"), folder / "haproxy.sock", folder / "haproxy.cfg"
    servers = "\n".join(f"  server {target} 127.0.0.1:{target}" for target in targets)
    file.write_text(CONFIGURATION.format(socket=socket, port=port, servers=servers))
    log = folder / "haproxy.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *bound_to_us(binary, "-db", "-f", str(file)),
            env=clean_environment(folder),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        yield Haproxy(socket)
    finally:
        # SIGTERM ends it at once, with the connections it has.
        await end(process, 10)
