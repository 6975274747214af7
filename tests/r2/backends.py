"""The S3 servers that the contract suite and the suite of forged requests run on: the double, and versitygw, which we did not write."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeproxy.storage.presign import Credentials
from edgeproxy.storage.s3 import S3Store, open_s3
from edgeproxy.storage.s3_calls import Limits
from tests.contract.backend import Backend
from tests.programs import program
from tests.r2.app import ACCESS_KEY, SECRET_KEY
from tests.r2.running import running_double
from tests.running import free_ports

WRITE_INTERVAL = 0.02
"""R2's second between two writes of a key, shortened, and with it the wait of the store: the rule is met many times in the suite."""

CREDENTIALS = Credentials(ACCESS_KEY, SECRET_KEY)
BUCKET = "registry"


@dataclass(frozen=True, slots=True)
class Server:
    """An S3 server and how to reach it. `one_mechanism`: it refuses a presigned URL with an `Authorization` header beside it."""

    name: str
    endpoint: str
    region: str
    one_mechanism: bool = True


@asynccontextmanager
async def r2_server(folder: Path) -> AsyncIterator[Server]:
    """Run the double."""
    async with running_double(bucket=BUCKET, write_interval=WRITE_INTERVAL) as running:
        yield Server("r2", running.endpoint, "auto")


@asynccontextmanager
async def versitygw_server(folder: Path) -> AsyncIterator[Server]:
    """Run versitygw on a folder."""
    binary = program("versitygw")
    (folder / "data" / BUCKET).mkdir(parents=True)
    (port,) = free_ports(1)
    environment = {"ROOT_ACCESS_KEY": ACCESS_KEY, "ROOT_SECRET_KEY": SECRET_KEY, "PATH": os.environ.get("PATH", "")}
    process = await asyncio.create_subprocess_exec(
        binary,
        "--port",
        f"127.0.0.1:{port}",
        "--quiet",
        "posix",
        str(folder / "data"),
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        await _listening(port, process)
        yield Server("versitygw", f"http://127.0.0.1:{port}", "us-east-1", one_mechanism=False)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _listening(port: int, process: asyncio.subprocess.Process) -> None:
    # Another program's start can only be polled.
    for _ in range(500):
        assert process.returncode is None, "versitygw ended while starting"
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.02)
            continue
        writer.close()
        await writer.wait_closed()
        return
    raise AssertionError("versitygw does not listen")


def _backend(
    server: Callable[[Path], AbstractAsyncContextManager[Server]],
) -> Callable[[Path], AbstractAsyncContextManager[Backend]]:
    @asynccontextmanager
    async def opened(folder: Path) -> AsyncIterator[Backend]:
        async with server(folder) as running:
            place: dict[str, Any] = {
                "region": running.region,
                "endpoint": running.endpoint,
                "prefix": "some/prefix",
                "credentials": CREDENTIALS,
                "limits": Limits(slow_down=WRITE_INTERVAL),
            }
            past = S3Store(BUCKET, **place, clock=lambda: time.time() - 3600)
            async with open_s3(BUCKET, **place) as store:
                yield Backend(
                    running.name,
                    store,
                    store.presigner(),
                    past.presigner(running.endpoint),
                    one_mechanism=running.one_mechanism,
                )

    return opened


s3_servers: dict[str, Callable[[Path], AbstractAsyncContextManager[Server]]] = {
    "r2": r2_server,
    "versitygw": versitygw_server,
}

s3_backends: dict[str, Callable[[Path], AbstractAsyncContextManager[Backend]]] = {
    name: _backend(server) for name, server in s3_servers.items()
}
