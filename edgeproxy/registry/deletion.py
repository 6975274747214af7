"""Deleting: tags and manifests. Blobs are deleted by `blobs`; the bytes of a blob only ever by garbage collection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from edgeproxy.oci.errors import Denied, ManifestUnknown, RegistryError, Unavailable
from edgeproxy.oci.manifests import parse_manifest
from edgeproxy.oci.names import Digest, Repository, Tag
from edgeproxy.registry.manifests import Manifests, StoredManifest
from edgeproxy.registry.referrers import Referrers
from edgeproxy.registry.tags import Tags

_ROUNDS: Final = 50
"""A delete outlasts pushes of the same digest, which give up sooner: each of theirs may undo one of ours."""

Immutable = Callable[[Repository, Tag], bool]


class Deletions:
    """Deletes tags, and manifests with everything that points at them."""

    def __init__(self, manifests: Manifests, tags: Tags, referrers: Referrers) -> None:
        self._manifests = manifests
        self._tags = tags
        self._referrers = referrers

    async def delete_tag(self, repository: Repository, tag: Tag, immutable: Immutable) -> None:
        """Delete one tag; its manifest stays.

        Raises:
            Denied: the tag is immutable.
            ManifestUnknown: there is no such tag.

        """
        if immutable(repository, tag):
            # Refused also if it is created only now.
            await self._tags.resolve(repository, tag)
            raise Denied(f"tag {tag} of {repository} is immutable and cannot be deleted", detail="immutable tag")
        if not await self._tags.delete(repository, tag):
            raise ManifestUnknown(f"tag {tag} is not in repository {repository}", detail=tag.name)

    async def delete_manifest(self, repository: Repository, digest: Digest, immutable: Immutable) -> None:
        """Delete a manifest, its tags and its entry among the referrers of its subject.

        Raises:
            Denied: an immutable tag points at it.
            ManifestUnknown: the repository does not hold it.
            Unavailable: pushes of the same digest keep coming; nothing is half done that another delete would not finish.

        """
        # Shielded: what was begun is brought to an end, as a manifest that is removed may have to be restored.
        await asyncio.shield(asyncio.ensure_future(self._delete_manifest(repository, digest, immutable)))

    async def _delete_manifest(self, repository: Repository, digest: Digest, immutable: Immutable) -> None:
        manifest = await self._manifests.get(repository, digest)
        await self._refuse_immutable(repository, digest, immutable)
        await self._untag(repository, digest, immutable)
        for _ in range(_ROUNDS):
            await self._remove(repository, manifest)
            # A push that tagged the digest meanwhile either sees that the manifest is gone and writes it again, or came before us.
            try:
                await self._refuse_immutable(repository, digest, immutable)
            except Denied:
                await self._restore(repository, manifest)
                raise
            if not await self._untag(repository, digest, immutable):
                return
            if await self._manifests.exists(repository, digest) is None:
                return
        raise Unavailable(f"manifest {digest} is being pushed again and again; try the delete later")

    async def _remove(self, repository: Repository, manifest: StoredManifest) -> None:
        referrer = _referrer(manifest)
        if referrer is None:
            await self._manifests.delete(repository, manifest.digest)
            return
        subject, descriptor = referrer
        # Before the manifest, so that nothing points nowhere if we die in between; after it, for a push that had found the manifest.
        await self._referrers.remove(repository, subject, manifest.digest)
        await self._manifests.delete(repository, manifest.digest)
        await self._referrers.remove(repository, subject, manifest.digest)
        if await self._manifests.exists(repository, manifest.digest) is not None:
            # A push wrote the manifest again, and the entry that we have just removed may have been its.
            await self._referrers.add(repository, subject, manifest.digest, descriptor)

    async def _restore(self, repository: Repository, manifest: StoredManifest) -> None:
        """Undo a removal: an immutable tag was created while we deleted, and it must never point nowhere."""
        await self._manifests.write(repository, manifest.digest, manifest.content, manifest.media_type)
        referrer = _referrer(manifest)
        if referrer is not None:
            subject, descriptor = referrer
            await self._referrers.add(repository, subject, manifest.digest, descriptor)

    async def _refuse_immutable(self, repository: Repository, digest: Digest, immutable: Immutable) -> None:
        for tag in await self._tags.of(repository, digest):
            if immutable(repository, tag):
                tagged = (await self._tags.state(repository, tag)).tagged
                if tagged is not None and tagged.digest == digest:
                    raise Denied(
                        f"manifest {digest} cannot be deleted: immutable tag {tag} of {repository} points at it",
                        detail="immutable tag",
                    )

    async def _untag(self, repository: Repository, digest: Digest, immutable: Immutable) -> bool:
        """Delete every mutable tag that points at the digest; True if there was one."""
        deleted = [
            await self._tags.delete(repository, tag, only=digest)
            for tag in await self._tags.of(repository, digest)
            if not immutable(repository, tag)
        ]
        return any(deleted)


def _referrer(manifest: StoredManifest) -> tuple[Digest, bytes] | None:
    """Give the subject of a manifest and its descriptor there, None if it has no subject."""
    try:
        parsed = parse_manifest(manifest.content, manifest.media_type)
    except RegistryError:
        return None  # Let in by an earlier or a laxer release.
    if parsed.subject is None:
        return None
    return parsed.subject.digest, parsed.referrer_descriptor(manifest.digest, len(manifest.content))
