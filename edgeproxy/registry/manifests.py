"""Manifests as they are stored: read, remembered, written once. What a push or a delete does around them is in `push` and `deletion`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from edgeproxy.oci.errors import RegistryError
from edgeproxy.oci.manifests import Descriptor, parse_manifest
from edgeproxy.oci.names import Digest, Repository
from edgeproxy.registry.blobs import Blobs
from edgeproxy.registry.cache import FRESH_SECONDS, PATIENCE_SECONDS, Memory
from edgeproxy.registry.tags import manifest_unknown
from edgeproxy.storage import IfAbsent, IfMatch, NotFound, PreconditionFailed, Store, StoreUnavailable, keys

READ_LIMIT: Final = 64 * 1024 * 1024
"""Larger than any manifest that a setting may ever have let in."""

CACHE_BYTES: Final = 32 * 1024 * 1024
_ROUNDS: Final = 5


@dataclass(frozen=True, slots=True)
class StoredManifest:
    """A manifest of a repository: its bytes, media type, when it was pushed by the store's clock, and the blobs it vouches for."""

    digest: Digest
    content: bytes
    media_type: str
    pushed: float
    vouched: tuple[Descriptor, ...]


ManifestKey = tuple[str, Digest]


class Manifests:
    """Reads and writes manifests by digest."""

    def __init__(self, store: Store, blobs: Blobs, clock: Callable[[], float]) -> None:
        self._store = store
        self._blobs = blobs
        self._clock = clock
        self.memory: Memory[ManifestKey, StoredManifest] = Memory(CACHE_BYTES, _weigh)

    def remembered(self, repository: Repository, digest: Digest) -> StoredManifest | None:
        """Give what `get` would give without asking the store; None where it would have to ask."""
        return self.memory.fresh((repository.name, digest), self._clock())

    async def get(self, repository: Repository, digest: Digest) -> StoredManifest:
        """Read a manifest; no store call if it was read or confirmed within 60 s.

        Raises:
            ManifestUnknown: the repository does not hold it.

        """
        key = (repository.name, digest)
        now = self._clock()
        remembered = self.memory.get(key, now)
        if remembered is not None and remembered.is_fresh(now):
            return remembered.value
        epoch = self.memory.epoch
        servable = remembered is not None and remembered.is_servable(now)
        try:
            async with asyncio.timeout(PATIENCE_SECONDS if servable else None):
                manifest = await self._renewed(repository, digest, remembered.value if remembered else None)
        except NotFound:
            self.memory.forget(key)
            raise manifest_unknown(repository, digest) from None
        except (StoreUnavailable, TimeoutError):
            if remembered is not None and servable:
                return remembered.value
            raise
        fresh_until = self._clock() + FRESH_SECONDS
        self.memory.put(key, manifest, fresh_until, epoch)
        for descriptor in manifest.vouched:
            self._blobs.vouch(repository, descriptor.digest, descriptor.size, manifest.pushed, fresh_until)
        return manifest

    async def exists(self, repository: Repository, digest: Digest) -> int | None:
        """Ask the store how large a manifest is; None if the repository does not hold it. Never from memory: for writers."""
        try:
            return (await self._store.head(keys.manifest(repository, digest))).size
        except NotFound:
            return None

    async def write(self, repository: Repository, digest: Digest, content: bytes, media_type: str) -> None:
        """Write a manifest whose digest is verified."""
        key = keys.manifest(repository, digest)
        sha256 = bytes.fromhex(digest.hex) if digest.algorithm == "sha256" else None
        try:
            for _ in range(_ROUNDS):
                try:
                    await self._store.put(key, content, content_type=media_type, sha256=sha256, condition=IfAbsent())
                except PreconditionFailed:
                    if await self._retype(key, content, media_type):
                        return
                else:
                    return
        finally:
            self.memory.forget((repository.name, digest))
        raise StoreUnavailable(f"put {key}: it is written and deleted again and again")

    async def delete(self, repository: Repository, digest: Digest) -> None:
        """Remove a manifest."""
        try:
            await self._store.delete(keys.manifest(repository, digest))
        finally:
            self.memory.forget((repository.name, digest))

    async def _renewed(self, repository: Repository, digest: Digest, known: StoredManifest | None) -> StoredManifest:
        """Read a manifest, or confirm that the one we know is still there and still the same."""
        if known is not None:
            info = await self._store.head(keys.manifest(repository, digest))
            if (info.content_type, info.modified) == (known.media_type, known.pushed):
                return known
        return await self._read(repository, digest)

    async def _retype(self, key: str, content: bytes, media_type: str) -> bool:
        """Let the last push decide the media type of bytes that do not state one themselves; False if they have just gone or changed."""
        try:
            info = await self._store.head(key)
            if info.content_type != media_type:
                await self._store.put(key, content, content_type=media_type, condition=IfMatch(info.etag))
        except (NotFound, PreconditionFailed):
            return False
        return True

    async def _read(self, repository: Repository, digest: Digest) -> StoredManifest:
        info, content = await self._store.read(keys.manifest(repository, digest), READ_LIMIT)
        if Digest.of(content, digest.algorithm) != digest:
            raise StoreUnavailable(f"{info.key} does not have the bytes of its digest; run 'edgeproxy fsck --bytes'")
        try:
            vouched = parse_manifest(content, info.content_type).vouched
        except RegistryError:
            # Let in by an earlier or a laxer release: served as it is, but it vouches for nothing.
            vouched = ()
        return StoredManifest(digest, content, info.content_type, info.modified, vouched)


def _weigh(_: ManifestKey, manifest: StoredManifest) -> int:
    """Estimate the memory of an entry: its bytes, and about as many again for what was parsed."""
    return 1024 + len(manifest.content) + 400 * len(manifest.vouched)
