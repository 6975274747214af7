"""Replicas of one registry behind a balancer, on one bucket."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.continuity.balancer import Balancing, balancing
from tests.continuity.haproxy import haproxying
from tests.issuer import LocalIssuer
from tests.running import OPEN_POLICY, Bucket, Registry, free_ports, registry, temporary_folder, versitygw

SIGNING_IN = OPEN_POLICY.replace(
    "version: 1\n", 'version: 1\nissuers:\n  ci: {url: "ISSUER", audiences: [registry.example]}\n'
)
"""Everyone may do everything, but has to fetch a bearer first, as `/v2/` asks for one."""


@dataclass(frozen=True, slots=True)
class Replicas:
    """`url` is what clients type: the balancer's. The folder holds policy, keys and audit."""

    url: str
    folder: Path
    bucket: Bucket
    registries: tuple[Registry, ...]
    balancer: Balancing

    async def restart_one_after_the_other(self) -> None:
        """Restart each as a rolling upgrade does: the next one once the balancer trusts the one before."""
        for one in self.registries:
            assert await one.stop() == 0
            await self.balancer.sees(one.port, healthy=False)
            await one.start()
            await self.balancer.sees(one.port)


async def eventually(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait until it holds. Another process tells nobody when it has read a file, so that can only be polled."""
    while not await holds():  # noqa: ASYNC110
        await asyncio.sleep(0.1)


def keys_of(one: Registry) -> Path:
    """Where a replica has its signing keys: each in a folder of its own, as what is shared reaches one after the other."""
    return one.folder / f"keys-{one.port}"


@asynccontextmanager
async def replicated(
    number: int = 2,
    *,
    by: str = "plain",
    users: Callable[[Bucket, Path], Awaitable[None]] | None = None,
    **settings: str,
) -> AsyncIterator[Replicas]:
    """Run replicas over versitygw, behind a balancer: a plain one of ours, or `haproxy`.

    `users` makes users of the store, and writes the credential of one where the SDK finds it: in files below the folder, which is their home.
    """
    async with AsyncExitStack() as stack:
        folder = await stack.enter_async_context(temporary_folder())
        (folder / "iam").mkdir()
        iam = () if users is None else ("--iam-dir", str(folder / "iam"), "--iam-cache-disable")
        bucket = await stack.enter_async_context(versitygw(folder, *iam))
        if users is not None:
            await users(bucket, folder)
        issuer = await stack.enter_async_context(LocalIssuer().serving())
        (port,) = free_ports(1)
        url = f"http://127.0.0.1:{port}"
        policy = SIGNING_IN.replace("ISSUER", issuer.url)
        settings = {"public_url": url, "drain_seconds": "2", "log_level": "info", **settings}
        registries = tuple(registry(bucket, folder, policy=policy, **settings) for _ in range(number))
        for one in registries:
            shutil.copytree(folder / "keys", keys_of(one))
            one.environment["EDGEPROXY_SIGNING_KEYS"] = str(keys_of(one))
            if users is not None:
                one.environment = {key: text for key, text in one.environment.items() if key not in bucket.environment}
            await one.start()
            stack.push_async_callback(one.stop)
        targets = [one.port for one in registries]
        ours: AbstractAsyncContextManager[Balancing] = (
            haproxying(folder, port, targets) if by == "haproxy" else balancing(port, targets)
        )
        balancer = await stack.enter_async_context(ours)
        for one in registries:
            await balancer.sees(one.port)
        yield Replicas(url, folder, bucket, registries, balancer)
