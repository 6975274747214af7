"""What every client is put through, whatever its commands are: push, mount, pull, pull again. Bytes are compared, not exit codes alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.forwarding import Traffic
from tests.images import LARGE, Image
from tests.pushing import client
from tests.running import Observed

FEW = 100 * 1024
"""Bytes that suffice for requests, manifests and redirects, but not for a layer."""

Step = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Bytes:
    """What a step moved: between the client and the registry, the client and the store, the registry and the store."""

    registry: Traffic
    store: Traffic
    behind: Traffic | None


async def watched(place: Observed, step: Step) -> Bytes:
    """Do a step and tell what it moved."""
    before = _so_far(place)
    await step()
    after = _so_far(place)
    behind = after.behind - before.behind if after.behind is not None and before.behind is not None else None
    return Bytes(after.registry - before.registry, after.store - before.store, behind)


def _so_far(place: Observed) -> Bytes:
    behind = place.registry_to_store
    return Bytes(place.clients.traffic, place.clients_to_store.traffic, behind.traffic if behind is not None else None)


async def pushes(place: Observed, step: Step, repository: str, tag: str) -> dict[str, bytes]:
    """Let the client push an image with a large layer; give the blobs that the registry holds afterwards, each with its digest proven."""
    moved = await watched(place, step)

    assert moved.registry.to_server > LARGE
    async with client(place.registry.url) as reader:
        _, blobs = await reader.whole(repository, tag)
    return blobs


async def pushes_as_it_is(place: Observed, step: Step, repository: str, tag: str, image: Image) -> None:
    """Let the client push an image that it must not change."""
    blobs = await pushes(place, step, repository, tag)

    assert blobs == {blob.digest: blob.content for blob in image.blobs}
    async with client(place.registry.url) as reader:
        assert await reader.manifest(repository, tag) == image.manifest


async def mounts(place: Observed, step: Step, source: str, target: str, tag: str) -> None:
    """Let the client push what another repository holds: it must not send the large layer again."""
    moved = await watched(place, step)

    assert moved.registry.to_server < FEW
    assert moved.store.to_client < FEW
    async with client(place.registry.url) as reader:
        held, mounted = await reader.whole(source, tag), await reader.whole(target, tag)
    assert held[1] == mounted[1]


async def pulls(place: Observed, step: Step) -> None:
    """Let the client pull: the layers come from the store's address, and not through the registry's process."""
    moved = await watched(place, step)

    assert moved.store.to_client > LARGE
    assert moved.registry.to_client < FEW
    assert moved.behind is None or moved.behind.to_client < FEW


async def pulls_nothing_new(place: Observed, step: Step) -> None:
    """Let the client pull what it has: no layer moves."""
    moved = await watched(place, step)

    assert moved.store.to_client < FEW
    assert moved.registry.to_client < FEW


async def digest_at(place: Observed, repository: str, tag: str) -> str:
    """Give the digest of what a tag names."""
    async with client(place.registry.url) as reader:
        return (await reader.whole(repository, tag))[0]
