"""Clients that push and pull one image after the other until they are told to stop, retry nothing, and remember everything that failed."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import aiohttp

from tests.programs import clean_environment, program
from tests.pushing import SHAPES, Client, Reply, manifest_of

SIZES = (0, 700, 65_536, 300_000)
PUSHERS, PULLERS, TAGS = 3, 3, 20
REPOSITORY = "load"


class Strict(Client):
    """A client that asks for a bearer before each image, as docker does, and shows it; a connection that breaks is a failure."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        super().__init__(url, session)
        # It would hide a request that met a closed connection, by sending it once more.
        session._retry_connection = False
        self._bearer = ""

    async def sign_in(self) -> None:
        """Get a bearer for what comes next."""
        scope = f"/token?scope=repository:{REPOSITORY}:pull,push"
        self._bearer = json.loads((await super().ask("GET", scope)).expect(200).body)["token"]

    async def ask(self, method: str, path: str, *, headers: dict[str, str] | None = None, **options: Any) -> Reply:
        """Send one request; the bearer goes to the registry alone."""
        ours = path.startswith(("/", self.url))
        own = {"Authorization": f"Bearer {self._bearer}"} if ours and self._bearer else {}
        return await super().ask(method, path, headers={**(headers or {}), **own}, **options)


class Load:
    """What clients did, and what they could not do."""

    def __init__(self) -> None:
        self.done: Counter[str] = Counter()
        self.failures: list[str] = []
        self.tags: dict[str, bytes] = {}
        self._times: Counter[int] = Counter()
        self._clients = count()
        self._stopping = False

    async def repeat(self, what: str, work: Callable[[], Awaitable[None]]) -> None:
        """Do it until the end; each time counts as done or as failed."""
        own = next(self._clients)
        self._times[own] = 0
        while not self._stopping:
            try:
                await work()
            except (aiohttp.ClientError, OSError, TimeoutError, AssertionError) as error:
                self.failures.append(f"{what}: {type(error).__name__}: {error}"[:500])
                await asyncio.sleep(0.05)
            else:
                self.done[what] += 1
            self._times[own] += 1

    def stop(self) -> None:
        """Begin nothing more."""
        self._stopping = True

    async def progress(self) -> None:
        """Wait until every client has begun and ended something since now."""
        await asyncio.sleep(0)
        aims = {own: times + 2 for own, times in self._times.items()}
        while any(self._times[own] < aim for own, aim in aims.items()):  # noqa: ASYNC110 - clients tell nobody of each step
            await asyncio.sleep(0.02)

    def __str__(self) -> str:
        return f"load: {', '.join(f'{count} {what}' for what, count in sorted(self.done.items()))}, {len(self.failures)} failed"


async def _push(to: Strict, load: Load, name: str, chance: Random) -> None:
    await to.sign_in()
    layers = [chance.randbytes(chance.choice(SIZES)) for _ in range(2)]
    config = json.dumps({"architecture": "amd64", "os": "linux", "nonce": chance.random()}).encode()
    for content in (config, *layers):
        await chance.choice(SHAPES)(to, REPOSITORY, content)
    manifest = manifest_of(config, *layers)
    (await to.push_manifest(REPOSITORY, name, manifest)).expect(201)
    load.tags[name] = manifest


async def _pull(to: Strict, load: Load, chance: Random) -> None:
    await to.sign_in()
    name = chance.choice(sorted(load.tags))
    digest, _ = await to.whole(REPOSITORY, name)
    await to.manifest(REPOSITORY, digest)


async def _crane(folder: Path, host: str, number: int) -> None:
    """Pull into a folder and push from there into a repository that is new, as a mirror does."""
    copy = folder / f"crane-{number}"
    await run_crane(folder, "pull", "--format=oci", "--insecure", f"{host}/{REPOSITORY}:first", str(copy))
    await run_crane(folder, "push", "--insecure", str(copy), f"{host}/crane/{number}:v1")


async def run_crane(folder: Path, *arguments: str) -> str:
    """Run crane with `folder` as its home; give what it printed.

    Raises:
        AssertionError: it failed; with its output.

    """
    process = await asyncio.create_subprocess_exec(
        program("crane"),
        *arguments,
        env=clean_environment(folder),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    printed = (await process.communicate())[0].decode(errors="replace")
    assert process.returncode == 0, printed
    return printed


async def _mirror(url: str, load: Load, folder: Path) -> None:
    host, numbers = url.partition("://")[2], count()
    await load.repeat("crane", lambda: _crane(folder, host, next(numbers)))


@asynccontextmanager
async def strict(url: str, *, keep_alive: bool) -> AsyncIterator[Strict]:
    """Open a client; with `keep_alive` it stays with the replica that it met first, else each request meets the next one."""
    connector = aiohttp.TCPConnector(limit=0, force_close=not keep_alive)
    timeout = aiohttp.ClientTimeout(total=120)
    async with aiohttp.ClientSession(
        timeout=timeout, connector=connector, requote_redirect_url=False, auto_decompress=False
    ) as session:
        yield Strict(url, session)


async def _pusher(url: str, load: Load, index: int, chance: Random) -> None:
    number = 0
    async with strict(url, keep_alive=index % 2 == 0) as to:

        async def work() -> None:
            nonlocal number
            number += 1
            await _push(to, load, f"t{index}-{number % TAGS}", chance)

        await load.repeat("pushes", work)


async def _puller(url: str, load: Load, index: int, chance: Random) -> None:
    async with strict(url, keep_alive=index % 2 == 0) as to:
        await load.repeat("pulls", lambda: _pull(to, load, chance))


@asynccontextmanager
async def loaded(url: str, chance: Random, *, crane_in: Path | None = None) -> AsyncIterator[Load]:
    """Put a registry under load for as long as the context lasts; with a folder, by crane as well."""
    load = Load()
    async with strict(url, keep_alive=True) as one:
        await _push(one, load, "first", Random(chance.random()))
    async with asyncio.TaskGroup() as group:
        for index in range(PUSHERS):
            group.create_task(_pusher(url, load, index, Random(chance.random())))
        for index in range(PULLERS):
            group.create_task(_puller(url, load, index, Random(chance.random())))
        if crane_in is not None:
            group.create_task(_mirror(url, load, crane_in))
        try:
            yield load
        finally:
            load.stop()
