"""What the bucket holds for a repository, or for one of its tags: for the operator, past every cache and policy."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final, TypeVar

from edgeproxy.oci.errors import ManifestUnknown, NameUnknown, RegistryError
from edgeproxy.oci.manifests import Descriptor, Manifest, parse_manifest
from edgeproxy.oci.names import Digest, Repository, Tag
from edgeproxy.registry.manifests import READ_LIMIT
from edgeproxy.registry.tags import Tagged
from edgeproxy.storage import NotFound, ObjectInfo, Store, keys

_CONCURRENCY: Final = 32
_TAG_BYTES: Final = 16 * 1024

_In = TypeVar("_In")
_Out = TypeVar("_Out")


@dataclass(frozen=True, slots=True)
class ManifestEntry:
    """A manifest of a repository; `modified` is seconds since the epoch, `tags` those that point at it."""

    digest: Digest
    media_type: str
    size: int
    modified: float
    tags: tuple[Tag, ...]


@dataclass(frozen=True, slots=True)
class RepositoryReport:
    """What a repository holds. `blob_bytes` counts each blob once, though other repositories may share its bytes."""

    repository: Repository
    manifests: tuple[ManifestEntry, ...]
    tags: tuple[tuple[Tag, Tagged], ...]
    blobs: int
    blob_bytes: int


@dataclass(frozen=True, slots=True)
class PartEntry:
    """Something that a manifest names, and whether the repository holds it."""

    role: str
    descriptor: Descriptor
    held: bool


@dataclass(frozen=True, slots=True)
class TagReport:
    """What a tag points at, and what that is made of; no parts where the manifest's media type is not one that we read."""

    repository: Repository
    tag: Tag
    tagged: Tagged
    parts: tuple[PartEntry, ...]


async def inspect_repository(store: Store, repository: Repository) -> RepositoryReport:
    """Describe a repository.

    Raises:
        NameUnknown: the bucket has nothing of it.

    """
    tags = [entry for entry in await _tags(store, repository) if entry is not None]
    pointing: dict[Digest, list[Tag]] = {}
    for tag, tagged in tags:
        pointing.setdefault(tagged.digest, []).append(tag)
    prefix = keys.manifests(repository)
    found = await _each(store.head, [info.key async for info in store.list(prefix)])
    manifests = []
    for info in filter(None, found):
        digest = Digest.parse(info.key.removeprefix(prefix).replace("/", ":"))
        entry = ManifestEntry(digest, info.content_type, info.size, info.modified, tuple(pointing.get(digest, ())))
        manifests.append(entry)
    links = await _each(store.head, [info.key async for info in store.list(f"{keys.REPOSITORIES}{repository}/_blobs/")])
    sizes = [int(info.metadata.get("size", 0)) for info in links if info is not None]
    if not manifests and not tags and not sizes and not await _has(store, keys.catalog(repository)):
        raise NameUnknown(f"the bucket holds no repository {repository}", detail=repository.name)
    return RepositoryReport(repository, tuple(manifests), tuple(tags), len(sizes), sum(sizes))


async def inspect_tag(store: Store, repository: Repository, tag: Tag) -> TagReport:
    """Describe a tag.

    Raises:
        ManifestUnknown: there is no such tag, or its manifest is gone.

    """
    entry = await _tag(store, repository, tag)
    if entry is None:
        raise ManifestUnknown(f"tag {tag} is not in repository {repository}", detail=tag.name)
    tagged = entry[1]
    try:
        info, content = await store.read(keys.manifest(repository, tagged.digest), READ_LIMIT)
    except NotFound:
        message = f"tag {tag} of {repository} points at {tagged.digest}, which is gone; 'edgeproxy fsck' tells more"
        raise ManifestUnknown(message, detail=tag.name) from None
    parts = _parts(content, info)

    async def held(part: tuple[str, Descriptor]) -> PartEntry:
        role, descriptor = part
        places = [keys.link(repository, descriptor.digest)]
        if role in {"child", "subject"}:
            places.insert(0, keys.manifest(repository, descriptor.digest))
        return PartEntry(role, descriptor, any([await _has(store, place) for place in places]))

    return TagReport(repository, tag, tagged, tuple(filter(None, await _each(held, parts))))


def _parts(content: bytes, info: ObjectInfo) -> list[tuple[str, Descriptor]]:
    try:
        manifest: Manifest = parse_manifest(content, info.content_type)
    except RegistryError:
        return []
    parts = [("config", manifest.config)] if manifest.config else []
    parts += [("layer", layer) for layer in manifest.layers]
    parts += [("child", child) for child in manifest.children]
    return parts + ([("subject", manifest.subject)] if manifest.subject else [])


async def _tags(store: Store, repository: Repository) -> list[tuple[Tag, Tagged] | None]:
    prefix = keys.tags(repository)
    # Empty objects are deleted tags.
    names = [Tag.parse(info.key.removeprefix(prefix)) async for info in store.list(prefix) if info.size]
    return await _each(lambda tag: _tag(store, repository, tag), names)


async def _tag(store: Store, repository: Repository, tag: Tag) -> tuple[Tag, Tagged] | None:
    try:
        _, content = await store.read(keys.tag(repository, tag), _TAG_BYTES)
    except NotFound:
        return None
    return (tag, Tagged.load(content)) if content else None


async def _has(store: Store, key: str) -> bool:
    try:
        await store.head(key)
    except NotFound:
        return False
    return True


async def _each(work: Callable[[_In], Awaitable[_Out]], items: Iterable[_In]) -> list[_Out | None]:
    """Do the same for each, some at a time, in order; None where it has gone meanwhile."""
    slots = asyncio.Semaphore(_CONCURRENCY)

    async def one(item: _In) -> _Out | None:
        async with slots:
            try:
                return await work(item)
            except NotFound:
                return None

    return list(await asyncio.gather(*map(one, items)))
