"""What is pulled: an image of six layers under a hot tag, and many tags of manifests of their own; put into every bucket alike."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from benchmarks.peers.contenders import REPOSITORY, Running
from tests.images import MANIFEST, digest_of
from tests.pushing import Client, Reply, client, manifest_of

LAYERS: Final = 6
LAYER_BYTES: Final = 256 * 1024
HOT: Final = "latest"
_AT_ONCE: Final = 8


@dataclass(frozen=True, slots=True)
class Contents:
    """An image and its tags. `tagged` is the manifest of each tag beside the hot one."""

    config: bytes
    layers: tuple[bytes, ...]
    manifest: bytes
    tagged: Mapping[str, bytes]

    @property
    def digest(self) -> str:
        """The digest of the image."""
        return digest_of(self.manifest)


def make(tags: int) -> Contents:
    """Make them; the same in every run."""
    config = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}'
    layers = tuple(Random(seed).randbytes(LAYER_BYTES) for seed in range(LAYERS))
    manifest = manifest_of(config, *layers)
    tagged = {}
    for number in range(tags):
        document = json.loads(manifest) | {"annotations": {"org.opencontainers.image.version": f"1.0.{number}"}}
        tagged[f"1.0.{number}"] = json.dumps(document).encode()
    return Contents(config, layers, manifest, tagged)


class _SignedIn(Client):
    """A client that shows its credential to the registry, and to nobody else."""

    credential: Mapping[str, str] = {}

    async def ask(
        self, method: str, path: str, *, data: Any = None, headers: dict[str, str] | None = None, follow: bool = False
    ) -> Reply:
        """Send one request."""
        ours = not path.startswith("http") or path.startswith(self.url)
        shown = {**self.credential, **(headers or {})} if ours else headers
        return await super().ask(method, path, data=data, headers=shown, follow=follow)


async def fill(server: Running, contents: Contents) -> None:
    """Push everything through a registry."""
    headers = await server.headers()
    async with client(server.url, kind=_SignedIn) as to:
        assert isinstance(to, _SignedIn)
        to.credential = headers
        for blob in (contents.config, *contents.layers):
            await to.post_put(REPOSITORY, blob)
        (await to.push_manifest(REPOSITORY, HOT, contents.manifest)).expect(201)
        gate = asyncio.Semaphore(_AT_ONCE)

        async def push(tag: str, manifest: bytes) -> None:
            async with gate:
                (await to.push_manifest(REPOSITORY, tag, manifest)).expect(201)

        async with asyncio.TaskGroup() as group:
            for tag, manifest in contents.tagged.items():
                group.create_task(push(tag, manifest))


async def pull(server: Running, contents: Contents, headers: Mapping[str, str]) -> None:
    """Pull the image by its tag, with every blob from where the registry sends us; fails unless the bytes are right."""
    async with client(server.url, kind=_SignedIn) as to:
        assert isinstance(to, _SignedIn)
        to.credential = headers
        manifest = await to.manifest(REPOSITORY, HOT)
        assert digest_of(manifest) == contents.digest
        for blob in (contents.config, *contents.layers):
            assert await to.blob(REPOSITORY, digest_of(blob)) == blob


async def ask(server: Running, path: str, headers: Mapping[str, str]) -> Reply:
    """Send one GET, and follow nothing."""
    async with client(server.url) as to:
        return await to.ask("GET", path, headers={"Accept": MANIFEST, **headers})
