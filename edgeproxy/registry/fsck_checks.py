"""What must hold for each kind of object in a bucket, one object at a time.

A `Look` is asked whether other objects are there: the listing of the bucket at first, then, for what seems broken, the store itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import orjson

from edgeproxy.oci.errors import RegistryError
from edgeproxy.oci.manifests import Descriptor, parse_manifest
from edgeproxy.oci.names import Digest, Repository
from edgeproxy.registry.fsck_places import BlobPlace, LinkPlace, ManifestPlace, Place, ReferrerPlace, TagPlace
from edgeproxy.registry.manifests import READ_LIMIT
from edgeproxy.registry.tags import Tagged
from edgeproxy.storage import NotFound, Store, StoreUnavailable, keys

_SMALL: Final = 16 * 1024
_DESCRIPTOR_BYTES: Final = 8 * 1024 * 1024

Look = Callable[[str], Awaitable[int | None]]
"""Gives the size of the object under a key, or None if there is none."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found. `kind` is a short name for programs, `message` says what it means and what to do."""

    kind: str
    key: str
    message: str


class Checks:
    """Looks at single objects. An object that has gone is no finding."""

    def __init__(self, store: Store, look: Look, *, rehash: bool, on_tag: Callable[[str], None]) -> None:
        """Take what says whether other objects are there. `on_tag` is told the key of each tag's hint."""
        self._store = store
        self._look = look
        self._rehash = rehash
        self._on_tag = on_tag

    async def check(self, key: str, place: Place) -> list[Finding]:
        """Find what is broken about one object.

        Raises:
            StoreUnavailable: the store as a whole does not answer; an object that alone cannot be read is a finding.

        """
        try:
            return await self._check(key, place)
        except NotFound:
            return []
        except StoreUnavailable as error:
            await self._store.check()
            return [Finding("unreadable", key, f"cannot be read ({error}): restore it from a copy, or push it again")]

    async def _check(self, key: str, place: Place) -> list[Finding]:
        match place:
            case BlobPlace(digest) if self._rehash:
                return await self._blob(key, digest)
            case LinkPlace(_, digest):
                return await self._link(key, digest)
            case ManifestPlace(repository, digest):
                return await self._manifest(key, repository, digest)
            case ReferrerPlace(repository, _, digest):
                return await self._referrer(key, repository, digest)
            case TagPlace():
                return await self._tag(key, place)
        return []

    async def _blob(self, key: str, digest: Digest) -> list[Finding]:
        running = hashlib.new(digest.algorithm)
        async with self._store.stream(key) as (_, pieces):
            async for piece in pieces:
                running.update(piece)
        if running.hexdigest() == digest.hex:
            return []
        message = f"its bytes have the digest {digest.algorithm}:{running.hexdigest()}: delete this object and push the blob again"
        return [Finding("blob-digest", key, message)]

    async def _link(self, key: str, digest: Digest) -> list[Finding]:
        stated = (await self._store.head(key)).metadata.get("size", "")
        size = await self._look(keys.blob(digest))
        if size is None:
            return [
                Finding(
                    "link-without-blob", key, f"names blob {digest}, whose bytes are not in the bucket: push it again"
                )
            ]
        if stated != str(size):
            message = f"says that blob {digest} has {stated or 'no'} bytes, the bucket has {size}: delete both and push it again"
            return [Finding("blob-size", key, message)]
        return []

    async def _manifest(self, key: str, repository: Repository, digest: Digest) -> list[Finding]:
        info, content = await self._store.read(key, READ_LIMIT)
        computed = Digest.of(content, digest.algorithm)
        if computed != digest:
            return [
                Finding("manifest-digest", key, f"its bytes have the digest {computed}: delete it and push it again")
            ]
        try:
            manifest = parse_manifest(content, info.content_type)
        except RegistryError:
            return []  # Let in by an earlier or a laxer release: its bytes are right, and it names nothing that we read.
        findings = [await self._part(key, repository, part, child=False) for part in manifest.required_blobs]
        findings += [await self._part(key, repository, part, child=True) for part in manifest.required_children]
        return [finding for finding in findings if finding is not None]

    async def _part(self, key: str, repository: Repository, part: Descriptor, *, child: bool) -> Finding | None:
        size = await self._look(keys.manifest(repository, part.digest)) if child else None
        if size is None and await self._look(keys.link(repository, part.digest)) is not None:
            size = await self._look(keys.blob(part.digest))
            if size is None:
                return None  # The link is what is broken, and is reported.
        if size is None:
            message = (
                f"names {part.digest}, which repository {repository} does not hold: push the image again, or delete it"
            )
            return Finding("manifest-part-missing", key, message)
        if size != part.size:
            message = f"says that {part.digest} has {part.size} bytes, the bucket has {size}: push the image again, or delete it"
            return Finding("manifest-part-size", key, message)
        return None

    async def _referrer(self, key: str, repository: Repository, digest: Digest) -> list[Finding]:
        _, content = await self._store.read(key, _DESCRIPTOR_BYTES)
        if await self._look(keys.manifest(repository, digest)) is None:
            message = f"names manifest {digest}, which repository {repository} does not hold: push it again, or delete this object"
            return [Finding("referrer-without-manifest", key, message)]
        try:
            readable = orjson.loads(content)["digest"] == str(digest)
        except (orjson.JSONDecodeError, KeyError, TypeError, IndexError):
            readable = False
        if readable:
            return []
        return [
            Finding("referrer-unreadable", key, f"is not the descriptor of {digest}: delete it and push {digest} again")
        ]

    async def _tag(self, key: str, place: TagPlace) -> list[Finding]:
        _, content = await self._store.read(key, _SMALL)
        if not content:
            return []  # A deleted tag.
        try:
            digest = Tagged.load(content).digest
        except (ValueError, KeyError, TypeError, AttributeError, RegistryError):
            return [Finding("tag-unreadable", key, "is not the JSON of a tag: push the tag again")]
        self._on_tag(keys.tagged(place.repository, digest, place.tag))
        if await self._look(keys.manifest(place.repository, digest)) is None:
            message = f"points at manifest {digest}, which repository {place.repository} does not hold: push the tag again, or delete it"
            return [Finding("tag-without-manifest", key, message)]
        return []
