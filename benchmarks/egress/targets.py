"""Registries that a trace is replayed through, each over an S3 server of its own, with counting proxies before registry and store."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

import aiohttp

from benchmarks import processes
from benchmarks.egress.counting import CountingProxy, counting
from benchmarks.egress.http1 import Exchange
from benchmarks.egress.operations import is_presigned
from benchmarks.egress.usage import Delivery
from tests.programs import PATH, bound_to_us, clean_environment
from tests.running import ACCESS_KEY, BUCKET, SECRET_KEY, Bucket, answering, end, free_ports, registry, s3_bucket

_DISTRIBUTION: Final = """\
version: 0.1
log: {{level: warn, accesslog: {{disabled: true}}}}
storage:
  s3:
    {{accesskey: {access}, secretkey: {secret}, region: us-east-1, regionendpoint: "{endpoint}", bucket: {bucket},
    forcepathstyle: true, secure: false}}
  redirect: {{disable: {disable}}}
  cache: {{blobdescriptor: inmemory}}
  delete: {{enabled: true}}
http: {{addr: "127.0.0.1:{port}", secret: of-the-egress-harness}}
"""

_FILES_ARE_OURS: Final = "distribution is compared over an S3 server, as its own directory has no redirects"


class CannotRun(RuntimeError):
    """A program that is needed is missing, or does not start. The message says which and what to do."""


class Target(StrEnum):
    """What a trace can be replayed through."""

    EDGEPROXY_REDIRECT = "edgeproxy-redirect"
    EDGEPROXY_PROXY = "edgeproxy-proxy"
    DISTRIBUTION_REDIRECT = "distribution-redirect"
    DISTRIBUTION_PROXY = "distribution-proxy"

    @property
    def delivery(self) -> Delivery:
        """Say how blobs reach clients."""
        return "redirect" if self.value.endswith("redirect") else "proxy"

    @property
    def is_edgeproxy(self) -> bool:
        """Tell our own registry from its peer."""
        return self.value.startswith("edgeproxy")


class StoreServer(StrEnum):
    """What lies below. The double counts for itself but forgets all when it stops, and does not take distribution's listings.

    A directory is edgeproxy's own store: its process serves clients on a port of its own, and no socket shows what the registry does there.
    """

    VERSITYGW = "versitygw"
    DOUBLE = "r2-double"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class Running:
    """A registry with its store, both behind counting proxies. Where there is no audit, metrics or control, it is None or empty.

    edgeproxy is given another address of the store than its clients are, so that each has a proxy of its own. distribution has one
    address for both: its redirects are told from its own calls by where the credential is.
    """

    pid: int
    url: str
    at_registry: CountingProxy
    at_store: tuple[CountingProxy, ...]
    data: Path | None
    audit: Path | None
    metrics_url: str | None
    control: str

    @property
    def untold(self) -> int:
        """Count the connections that could not be followed."""
        return sum(proxy.untold for proxy in (self.at_registry, *self.at_store))

    async def quiet(self) -> None:
        """Wait until every request is answered, by registry and store."""
        for proxy in (self.at_registry, *self.at_store):
            await proxy.quiet()

    async def stored(self) -> int:
        """Count the bytes of all objects in the bucket."""
        if self.data is not None:
            return await asyncio.to_thread(_tree_bytes, self.data)
        sizes: dict[str, int] = await self._controlled("keys")
        return sum(sizes.values())

    async def operations(self) -> dict[str, int] | None:
        """Ask the store what it counted itself; None where it does not count."""
        if not self.control:
            return None
        counted: dict[str, int] = (await self._controlled("counters"))["operations"]
        return counted

    def cpu_seconds(self) -> float:
        """Give the CPU time of the registry, workers included, so far."""
        return processes.cpu_seconds(self.pid)

    def peak_bytes(self) -> int:
        """Give the peak of the registry's resident memory, workers included."""
        return processes.peak_bytes(self.pid)

    async def _controlled(self, what: str) -> Any:
        async with aiohttp.ClientSession() as session, session.get(f"{self.control}/{what}") as answer:
            return await answer.json(content_type=None)


Count = Callable[[Exchange], None]


class CountAtStore(Protocol):
    """Counts an exchange with the store."""

    def __call__(self, exchange: Exchange, *, by_client: bool) -> None:
        """Count one of a client, or of the registry."""


@dataclass(frozen=True, slots=True)
class _Proxies:
    registry: CountingProxy
    store: CountingProxy
    store_of_clients: CountingProxy


@asynccontextmanager
async def running(
    target: Target, store: StoreServer, folder: Path, at_registry: Count, at_store: CountAtStore
) -> AsyncIterator[Running]:
    """Run a registry over a store whose data lie in `folder`, and are found again there.

    Raises:
        CannotRun: a program is missing or does not start.

    """
    if store is not StoreServer.VERSITYGW and not target.is_edgeproxy:
        why = "the R2 double does not take distribution's listings" if store is StoreServer.DOUBLE else _FILES_ARE_OURS
        raise CannotRun(f"{why}: use --store versitygw")
    async with AsyncExitStack() as stack:
        try:
            bucket, control = await stack.enter_async_context(_store(store, folder))

            def by_registry(exchange: Exchange) -> None:
                at_store(exchange, by_client=not target.is_edgeproxy and is_presigned(exchange.target))

            proxies = _Proxies(
                await stack.enter_async_context(counting(0, at_registry)),
                await stack.enter_async_context(counting(bucket.port, by_registry)),
                await stack.enter_async_context(counting(bucket.port, partial(at_store, by_client=True))),
            )
            start = _edgeproxy if target.is_edgeproxy else _distribution
            running_one = await stack.enter_async_context(start(target, bucket, folder, proxies))
        except AssertionError as error:  # from `answering`: the program ended, with its log
            raise CannotRun(str(error)) from None
        yield replace(running_one, control=control, data=None if store is StoreServer.DOUBLE else bucket.folder)


@asynccontextmanager
async def _edgeproxy(target: Target, bucket: Bucket, folder: Path, proxies: _Proxies) -> AsyncIterator[Running]:
    settings = {
        "public_url": f"http://127.0.0.1:{proxies.registry.port}",
        "store_public_endpoint": f"http://localhost:{proxies.store_of_clients.port}",
        "deliver": target.delivery,
    }
    behind = replace(bucket, location=bucket.location.replace(f":{bucket.port}", f":{proxies.store.port}"))
    server = registry(behind if bucket.port else bucket, folder, **settings)
    proxies.registry.target, proxies.store_of_clients.target = server.port, server.store_port
    await server.start()
    try:
        yield Running(
            server.pid,
            f"http://127.0.0.1:{proxies.registry.port}",
            proxies.registry,
            (proxies.store, proxies.store_of_clients),
            None,
            folder / "audit.log",
            f"{server.operations_url}/metrics",
            "",
        )
    finally:
        await server.stop()


@asynccontextmanager
async def _distribution(target: Target, _: Bucket, folder: Path, proxies: _Proxies) -> AsyncIterator[Running]:
    binary = _program("registry", "go install github.com/distribution/distribution/v3/cmd/registry@latest")
    (port,) = free_ports(1)
    configuration, log = folder / "distribution.yml", folder / "distribution.log"
    text = _DISTRIBUTION.format(
        access=ACCESS_KEY,
        secret=SECRET_KEY,
        endpoint=f"http://localhost:{proxies.store.port}",
        bucket=BUCKET,
        disable=str(target.delivery == "proxy").lower(),
        port=port,
    )
    await asyncio.to_thread(configuration.write_text, text)
    environment = clean_environment(folder, {"OTEL_TRACES_EXPORTER": "none", "GOMAXPROCS": str(os.cpu_count() or 1)})
    proxies.registry.target = port
    async with _process([binary, "serve", str(configuration)], environment, log) as process:
        await answering(f"http://127.0.0.1:{port}/v2/", process, log)
        url = f"http://127.0.0.1:{proxies.registry.port}"
        yield Running(process.pid, url, proxies.registry, (proxies.store,), None, None, None, "")


@asynccontextmanager
async def _store(kind: StoreServer, folder: Path) -> AsyncIterator[tuple[Bucket, str]]:
    log = folder / f"{kind}.log"
    if kind is StoreServer.FILE:
        yield Bucket("filesystem", f"file://{(folder / 'store').resolve()}", 0, folder / "store"), ""
        return
    if kind is StoreServer.DOUBLE:
        # The limit of one write a second a key would slow the filling down, which is no part of what is counted.
        command = [sys.executable, "-m", "tests.r2", "--bucket", BUCKET, "--no-write-limit"]
        async with _process(command, dict(os.environ), log) as process:
            about = await _first_line(log, process)
            port = int(about["endpoint"].rpartition(":")[2])
            bucket = s3_bucket("r2", port, folder, "auto", about["access_key"], about["secret_key"])
            yield bucket, about["control"]
        return
    binary = _program(
        "versitygw", "go install github.com/versity/versitygw/cmd/versitygw@latest, or use --store r2-double"
    )
    data = folder / "store"
    (data / BUCKET).mkdir(parents=True, exist_ok=True)
    (port,) = free_ports(1)
    environment = clean_environment(folder, {"ROOT_ACCESS_KEY": ACCESS_KEY, "ROOT_SECRET_KEY": SECRET_KEY})
    command = [binary, "--port", f"127.0.0.1:{port}", "--health", "/health", "--quiet", "posix", str(data)]
    async with _process(command, environment, log) as process:
        await answering(f"http://127.0.0.1:{port}/health", process, log)
        yield s3_bucket("versitygw", port, data / BUCKET, "us-east-1", ACCESS_KEY, SECRET_KEY), ""


@asynccontextmanager
async def _process(
    command: list[str], environment: dict[str, str], log: Path
) -> AsyncIterator[asyncio.subprocess.Process]:
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *bound_to_us(*command), env=environment, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        yield process
    finally:
        await end(process, 10)


async def _first_line(log: Path, process: asyncio.subprocess.Process) -> dict[str, str]:
    for _ in range(600):
        text = await asyncio.to_thread(log.read_text)
        if text.startswith("{") and "\n" in text:
            found: dict[str, str] = json.loads(text.partition("\n")[0])
            return found
        if process.returncode is not None:
            break
        await asyncio.sleep(0.05)
    raise CannotRun(f"the R2 double does not start:\n{await asyncio.to_thread(log.read_text)}")


def _program(name: str, how: str) -> str:
    found = shutil.which(name, path=PATH)
    if found is None:
        raise CannotRun(f"{name} is not on PATH nor in EDGEPROXY_TEST_PROGRAMS: {how}")
    return found


def _tree_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
