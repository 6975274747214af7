"""The registry as its users run it: an `edgeproxy serve` process on loopback, over a directory or over versitygw, a real S3 server.

The registry is `127.0.0.1` and the store `localhost`: two host names, as clients keep their token where only the port changes.
"""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import aiohttp
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edgeproxy.storage import Store
from edgeproxy.storage.filesystem import FilesystemStore
from edgeproxy.storage.presign import Credentials
from edgeproxy.storage.s3 import open_s3
from tests.forwarding import Forwarder, forwarding
from tests.programs import EDGEPROXY, bound_to_us, clean_environment, program, run

StoreKind = Literal["filesystem", "versitygw", "r2"]
STORES: tuple[StoreKind, ...] = ("filesystem", "versitygw")
"""The stores that every ring runs on; `r2` is the double, for trouble on purpose."""

BUCKET = "registry"
ACCESS_KEY, SECRET_KEY = "AKIDTESTS", "secret-of-the-tests"
OPEN_POLICY = """\
version: 1
public:
  - {repositories: ["**"], actions: [pull, push, delete]}
"""
START_SECONDS = 60

T = TypeVar("T")


def free_ports(number: int) -> list[int]:
    """Find ports that nobody listens on, below those that the system gives to outgoing connections."""
    probes: list[socket.socket] = []
    try:
        while len(probes) < number:
            probe = socket.socket()
            try:
                probe.bind(("127.0.0.1", random.randrange(10_000, 32_000)))
            except OSError:
                probe.close()
                continue
            probes.append(probe)
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


_folders: set[Path] = set()
"""Those in use."""


@asynccontextmanager
async def temporary_folder() -> AsyncIterator[Path]:
    """Make a folder with a short name, as paths of Unix sockets are short, and take it away again. Whoever fails in here shows its logs."""
    folder = Path(tempfile.mkdtemp(prefix="ep-"))
    _folders.add(folder)
    try:
        yield folder
    except BaseException:
        print(logs())
        raise
    finally:
        _folders.discard(folder)
        await asyncio.to_thread(_remove, folder)


def logs() -> str:
    """Give the ends of the logs of all that runs now: what a test that fails is explained by, before its folder is gone."""
    found = sorted(file for folder in _folders for file in folder.glob("*.log") if file.name != "audit.log")
    texts = ((file, file.read_text(errors="replace")[-4000:]) for file in found)
    return "\n".join(f"--- {file}\n{text}" for file, text in texts if text)


def _remove(folder: Path) -> None:
    """Remove a folder, and first what a container daemon left mounted there."""
    mounts = Path("/proc/self/mounts")
    if mounts.exists():
        points = [line.split()[1] for line in mounts.read_text().splitlines()]
        for point in reversed([point for point in points if point.startswith(f"{folder}/")]):
            subprocess.run(["umount", "--lazy", point], check=False)
    shutil.rmtree(folder, ignore_errors=True)


async def end(process: asyncio.subprocess.Process, seconds: float = 40) -> int:
    """Ask a process to stop, and kill it if it does not; give its exit status."""
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), seconds)
        except TimeoutError:
            process.kill()
    return await process.wait()


async def once_it_listens(connect: Callable[[], Awaitable[T]]) -> T:
    """Connect to a server of this process, which tells nobody when it listens; its socket may be there before."""
    while True:
        try:
            return await connect()
        except OSError:
            await asyncio.sleep(0.01)


async def answering(url: str, process: asyncio.subprocess.Process, log: Path) -> None:
    """Wait until `url` answers 200. The start of another program can only be polled."""
    async with aiohttp.ClientSession() as session:
        for _ in range(START_SECONDS * 20):
            assert process.returncode is None, f"ended with {process.returncode} while starting:\n{await _said(log)}"
            try:
                async with session.get(url) as answer:
                    if answer.status < 400:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.05)
    raise AssertionError(f"{url} does not answer:\n{await _said(log)}")


async def _said(log: Path) -> str:
    return (await asyncio.to_thread(log.read_text))[-10_000:]


@dataclass(frozen=True, slots=True)
class Bucket:
    """A store that edgeproxy can be pointed at: its location, what clients reach, and the credentials for it."""

    kind: StoreKind
    location: str
    port: int
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    region: str = ""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Store]:
        """Open it ourselves, to look at what is there."""
        if self.kind == "filesystem":
            files = await FilesystemStore.open(self.folder)
            try:
                yield files
            finally:
                await files.close()
        else:
            endpoint = f"http://127.0.0.1:{self.port}"
            keys = Credentials(self.environment["AWS_ACCESS_KEY_ID"], self.environment["AWS_SECRET_ACCESS_KEY"])
            async with open_s3(BUCKET, region=self.region, endpoint=endpoint, credentials=keys) as store:
                yield store


def s3_bucket(kind: StoreKind, port: int, folder: Path, region: str, access_key: str, secret_key: str) -> Bucket:
    """Name a bucket of an S3 server on loopback."""
    location = f"s3://{BUCKET}?endpoint=http://127.0.0.1:{port}&region={region}"
    keys = {"AWS_ACCESS_KEY_ID": access_key, "AWS_SECRET_ACCESS_KEY": secret_key}
    return Bucket(kind, location, port, folder, keys, region)


@asynccontextmanager
async def versitygw(folder: Path, *options: str) -> AsyncIterator[Bucket]:
    """Run versitygw on a folder of its own."""
    binary = program("versitygw")
    data, log = folder / "versitygw", folder / "versitygw.log"
    (data / BUCKET).mkdir(parents=True)
    (port,) = free_ports(1)
    environment = clean_environment(folder, {"ROOT_ACCESS_KEY": ACCESS_KEY, "ROOT_SECRET_KEY": SECRET_KEY})
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *bound_to_us(
                binary, "--port", f"127.0.0.1:{port}", "--health", "/health", "--quiet", *options, "posix", str(data)
            ),
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        await answering(f"http://127.0.0.1:{port}/health", process, log)
        yield s3_bucket("versitygw", port, data / BUCKET, "us-east-1", ACCESS_KEY, SECRET_KEY)
    finally:
        await end(process, 10)


@asynccontextmanager
async def bucket(kind: StoreKind, folder: Path) -> AsyncIterator[Bucket]:
    """Make an empty store of that kind."""
    if kind == "versitygw":
        async with versitygw(folder) as running:
            yield running
    else:
        yield Bucket("filesystem", f"file://{folder / 'store'}", 0, folder / "store")


class Registry:
    """An `edgeproxy serve` with its settings: it can be started, stopped, killed and started again."""

    def __init__(self, store: Bucket, folder: Path, settings: Mapping[str, str]) -> None:
        self.store = store
        self.folder = folder
        self.port, self.operations_port, store_port = free_ports(3)
        self.log = folder / f"edgeproxy-{self.port}.log"
        own = {"EDGEPROXY_STORE_BIND": f"127.0.0.1:{store_port}"} if store.kind == "filesystem" else {}
        self.store_port = store_port if own else store.port
        self.environment = clean_environment(folder) | {
            **store.environment,
            **own,
            "AWS_EC2_METADATA_DISABLED": "true",
            "EDGEPROXY_BIND": f"127.0.0.1:{self.port}",
            "EDGEPROXY_OPERATIONS_BIND": f"127.0.0.1:{self.operations_port}",
            "EDGEPROXY_STORE": store.location,
            "EDGEPROXY_STORE_PUBLIC_ENDPOINT": f"http://localhost:{self.store_port}",
            "EDGEPROXY_POLICY": str(folder / "policy.yaml"),
            "EDGEPROXY_SIGNING_KEYS": str(folder / "keys"),
            "EDGEPROXY_LOG_LEVEL": "warning",
            "EDGEPROXY_LOG_FORMAT": "json",
            "EDGEPROXY_AUDIT": f"file:{folder / 'audit.log'}",
            **settings,
        }
        self.host = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.host}"
        self.operations_url = f"http://127.0.0.1:{self.operations_port}"
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """The process that serves."""
        assert self._process is not None
        return self._process.pid

    async def start(self, ready: str = "") -> None:
        """Start it and wait until it is ready; `ready` is a URL that says so, where it does not listen on its port."""
        with self.log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *bound_to_us(EDGEPROXY, "serve"),
                env=self.environment,
                cwd=self.folder,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            await answering(ready or f"{self.url}/readyz", self._process, self.log)
        except BaseException:
            await self.kill()
            raise

    async def stop(self) -> int:
        """Stop it gracefully; give its exit status."""
        assert self._process is not None
        return await end(self._process)

    async def kill(self) -> None:
        """Kill it without a word."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    async def fsck(self, *options: str) -> dict[str, Any]:
        """Let `edgeproxy fsck --json` look through the bucket."""
        output = self.folder / "fsck.json"
        command = f'exec "{EDGEPROXY}" fsck --json {" ".join(options)} > "{output}"'
        text = await run("/bin/sh", "-c", command, environment=self.environment, status=None)
        report: dict[str, Any] = json.loads(output.read_text() or "null") or {"damage": [f"fsck failed: {text}"]}
        return report


def _write_signing_key(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = folder / f"20260101T000000Z-{secrets.token_hex(4)}.pem"  # older than whatever `keys new` makes
    path.touch(mode=0o600)
    path.write_bytes(pem)


def registry(store: Bucket, folder: Path, *, policy: str = OPEN_POLICY, **settings: str) -> Registry:
    """Make a registry over a store, not yet started; `settings` by their names without the prefix, in lower case."""
    if not (folder / "keys").exists():
        _write_signing_key(folder / "keys")
    (folder / "policy.yaml").write_text(policy)
    return Registry(store, folder, {f"EDGEPROXY_{name.upper()}": value for name, value in settings.items()})


@asynccontextmanager
async def serving(kind: StoreKind, *, policy: str = OPEN_POLICY, **settings: str) -> AsyncIterator[Registry]:
    """Run a registry over an empty store of that kind."""
    async with temporary_folder() as folder, bucket(kind, folder) as store:
        running = registry(store, folder, policy=policy, **settings)
        await running.start()
        try:
            yield running
        finally:
            await running.stop()


@dataclass(frozen=True, slots=True)
class Observed:
    """A registry seen through forwarders: what clients exchange with it, what they exchange with its store, and what it does itself.

    `host` is what clients type. `registry_to_store` is None where the registry needs no connection to reach its store.
    """

    registry: Registry
    clients: Forwarder
    clients_to_store: Forwarder
    registry_to_store: Forwarder | None
    host: str


@asynccontextmanager
async def observed(kind: StoreKind, **settings: str) -> AsyncIterator[Observed]:
    """Run a registry behind counting forwarders; `settings` as `registry` has them."""
    async with AsyncExitStack() as stack:
        folder = await stack.enter_async_context(temporary_folder())
        store = await stack.enter_async_context(bucket(kind, folder))
        clients = await stack.enter_async_context(forwarding())
        to_store = await stack.enter_async_context(forwarding())
        host = f"127.0.0.1:{clients.port}"
        own_urls = {"public_url": f"http://{host}", "store_public_endpoint": f"http://localhost:{to_store.port}"}
        own: Forwarder | None = None
        if kind == "versitygw":
            own = await stack.enter_async_context(forwarding(store.port))
            store = replace(store, location=store.location.replace(f":{store.port}", f":{own.port}"))
        running = registry(store, folder, **settings, **own_urls)
        clients.target, to_store.target = running.port, running.store_port
        await running.start()
        stack.push_async_callback(running.stop)
        yield Observed(running, clients, to_store, own, host)
