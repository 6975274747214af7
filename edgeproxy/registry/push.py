"""Pushing a manifest: everything it names is there, then manifest, referrer, way back, and the tag last, which is the commit point."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from edgeproxy.oci.errors import (
    BlobUnknown,
    Denied,
    DigestInvalid,
    ManifestBlobUnknown,
    RegistryError,
    SizeInvalid,
    Unavailable,
)
from edgeproxy.oci.manifests import Descriptor, Manifest, parse_manifest
from edgeproxy.oci.names import Digest, Repository, Tag
from edgeproxy.oci.operations import PutManifest
from edgeproxy.registry.blobs import Blobs, LastDeletion
from edgeproxy.registry.catalog import Catalog
from edgeproxy.registry.manifests import Manifests
from edgeproxy.registry.referrers import Referrers
from edgeproxy.registry.tags import Tagged, TagMoved, Tags

_CONCURRENCY: Final = 16
_NAMED_IN_MESSAGES: Final = 20
_ROUNDS: Final = 5


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push of a manifest made."""

    digest: Digest
    media_type: str
    size: int
    subject: Digest | None
    tags: tuple[Tag, ...]


@dataclass(frozen=True, slots=True)
class Push:
    """One manifest as a caller sent it. `by` is the caller's subject, `immutable` says which tags may never move."""

    operation: PutManifest
    content: bytes
    content_type: str | None
    by: str
    immutable: Callable[[Repository, Tag], bool]


class Pushes:
    """Pushes manifests."""

    def __init__(
        self,
        blobs: Blobs,
        manifests: Manifests,
        tags: Tags,
        referrers: Referrers,
        catalog: Catalog,
        clock: Callable[[], float],
    ) -> None:
        self._blobs = blobs
        self._manifests = manifests
        self._tags = tags
        self._referrers = referrers
        self._catalog = catalog
        self._clock = clock

    async def push(self, push: Push) -> Pushed:
        """Store a manifest and its tags.

        Raises:
            ManifestInvalid, DigestInvalid: the manifest or its digest is not what it should be.
            ManifestBlobUnknown, SizeInvalid: names each part that is missing or has another size; nothing was written.
            Denied: a tag is immutable and points elsewhere.

        """
        repository = push.operation.repository
        digest = _digest(push)
        manifest = parse_manifest(push.content, push.content_type)
        tags = push.operation.tags
        if isinstance(push.operation.reference, Tag):
            tags = (push.operation.reference,)
        immutable = [tag for tag in tags if push.immutable(repository, tag)]
        # All tags before any write: a push is refused whole.
        for tag in immutable:
            await self._refuse_move(repository, tag, digest)
        await self._check_parts(repository, manifest)
        await self._catalog.add(repository)
        await self._write(repository, digest, push.content, manifest)
        tagged = Tagged(digest, manifest.media_type, len(push.content), self._clock(), push.by)
        for tag in tags:
            await self._point(repository, tag, tagged, immutable=tag in immutable)
        rounds = 0
        # A delete of this digest may take it between our write and our tag. Nobody was told of the push yet, so it can still win.
        while (tags or manifest.subject) and await self._manifests.exists(repository, digest) is None:
            rounds += 1
            if rounds > _ROUNDS:
                raise Unavailable(f"manifest {digest} is being deleted again and again; try the push later")
            await self._write(repository, digest, push.content, manifest)
            for tag in tags:
                if (await self._tags.state(repository, tag)).tagged is None:
                    await self._point(repository, tag, tagged, immutable=tag in immutable)
        subject = manifest.subject.digest if manifest.subject else None
        return Pushed(digest, manifest.media_type, len(push.content), subject, tags)

    async def _write(self, repository: Repository, digest: Digest, content: bytes, manifest: Manifest) -> None:
        await self._manifests.write(repository, digest, content, manifest.media_type)
        if manifest.subject is not None:
            descriptor = manifest.referrer_descriptor(digest, len(content))
            await self._referrers.add(repository, manifest.subject.digest, digest, descriptor)

    async def _point(self, repository: Repository, tag: Tag, tagged: Tagged, *, immutable: bool) -> None:
        if not immutable:
            await self._tags.set(repository, tag, tagged)
            return
        try:
            await self._tags.create(repository, tag, tagged)
        except TagMoved as moved:
            raise _immutable(repository, moved.tag) from None

    async def _refuse_move(self, repository: Repository, tag: Tag, digest: Digest) -> None:
        state = await self._tags.state(repository, tag)
        if state.tagged is not None and state.tagged.digest != digest:
            raise _immutable(repository, tag)

    async def _check_parts(self, repository: Repository, manifest: Manifest) -> None:
        parts = [(part, False) for part in manifest.required_blobs] + [
            (part, True) for part in manifest.required_children
        ]
        if not parts:
            return
        deletion = await self._blobs.last_deletion(repository)
        slots = asyncio.Semaphore(_CONCURRENCY)

        async def size(part: Descriptor, child: bool) -> int | None:
            async with slots:
                return await self._size(repository, part.digest, deletion, child)

        sizes = await asyncio.gather(*(size(part, child) for part, child in parts))
        missing = [part.digest for (part, _), found in zip(parts, sizes, strict=True) if found is None]
        if missing:
            raise ManifestBlobUnknown(
                f"the manifest names content that is not in repository {repository}: {_listed(missing)}; push it first",
                detail=_listed(missing),
            )
        wrong = [
            f"{part.digest} has {found} bytes, not {part.size}"
            for (part, _), found in zip(parts, sizes, strict=True)
            if found != part.size
        ]
        if wrong:
            raise SizeInvalid(f"the manifest states sizes that are not true: {_listed(wrong)}", detail=_listed(wrong))

    async def _size(self, repository: Repository, digest: Digest, deletion: LastDeletion, child: bool) -> int | None:
        """Say how large a part is. A child of an index is a manifest or, in build caches, a blob."""
        if child:
            size = await self._manifests.exists(repository, digest)
            if size is not None:
                return size
        try:
            return await self._blobs.linked_since(repository, digest, deletion)
        except BlobUnknown:
            return None


def _digest(push: Push) -> Digest:
    """Compute the digest, with the algorithm that the reference asks for."""
    reference = push.operation.reference
    if isinstance(reference, Tag):
        return Digest.of(push.content)
    computed = Digest.of(push.content, reference.algorithm)
    if computed != reference:
        raise DigestInvalid(
            f"the manifest has digest {computed}, not {reference} as stated",
            detail=f"stated {reference}, computed {computed}",
        )
    return computed


def _immutable(repository: Repository, tag: Tag) -> RegistryError:
    return Denied(
        f"tag {tag} of {repository} is immutable and points at another manifest; push under a new tag",
        detail="immutable tag",
    )


def _listed(items: Iterable[object]) -> str:
    texts = [str(item) for item in items]
    shown = ", ".join(texts[:_NAMED_IN_MESSAGES])
    return shown if len(texts) <= _NAMED_IN_MESSAGES else f"{shown} and {len(texts) - _NAMED_IN_MESSAGES} more"
