"""Referrers: one object per subject and referrer with the descriptor inside, so that the list is a listing."""

from __future__ import annotations

import asyncio
from collections.abc import MutableSequence, Sequence
from dataclasses import dataclass
from typing import Final

import orjson

from edgeproxy.oci.names import Digest, Repository
from edgeproxy.storage import IfAbsent, NotFound, PreconditionFailed, Store, keys

PAGE: Final = 200
"""Most entries of one page; clients may count on 100."""

PAGE_BYTES: Final = 8 * 1024 * 1024
"""A page ends early after so many bytes: annotations may be as large as a manifest."""

_DESCRIPTOR_BYTES: Final = 8 * 1024 * 1024
_CONCURRENCY: Final = 16


@dataclass(frozen=True, slots=True)
class ReferrersPage:
    """Descriptors of one page, as JSON, and the marker after which the next one begins, or ""."""

    descriptors: list[bytes]
    next: str


class Referrers:
    """Who refers to what."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def add(self, repository: Repository, subject: Digest, digest: Digest, descriptor: bytes) -> None:
        """Note that a manifest refers to a subject, which may not exist (yet)."""
        key = keys.referrer(repository, subject, digest)
        try:
            await self._store.put(key, descriptor, content_type="application/json", condition=IfAbsent())
        except PreconditionFailed:
            pass  # Named after its content: it is the same.

    async def remove(self, repository: Repository, subject: Digest, digest: Digest) -> None:
        """Forget that a manifest refers to a subject."""
        await self._store.delete(keys.referrer(repository, subject, digest))

    async def list(
        self, repository: Repository, subject: Digest, artifact_type: str | None, last: str
    ) -> ReferrersPage:
        """List the referrers of a subject, of one artifact type if asked, those after the marker `last`."""
        prefix = keys.referrers(repository, subject)
        found: list[bytes] = []
        size = 0
        batch: list[str] = []
        async for info in self._store.list(prefix, after=prefix + last if last else ""):
            batch.append(info.key)
            if len(batch) < _CONCURRENCY:
                continue
            size += await self._read(batch, artifact_type, found)
            if len(found) + _CONCURRENCY > PAGE or size > PAGE_BYTES:
                return ReferrersPage(found, batch[-1].removeprefix(prefix))
            batch.clear()
        await self._read(batch, artifact_type, found)
        return ReferrersPage(found, "")

    async def _read(self, batch: Sequence[str], artifact_type: str | None, found: MutableSequence[bytes]) -> int:
        """Read descriptors side by side; add those that fit to `found` and answer how many bytes they have."""
        descriptors = await asyncio.gather(*map(self._descriptor, batch))
        fitting = [
            descriptor
            for descriptor in descriptors
            if descriptor is not None
            and (artifact_type is None or orjson.loads(descriptor).get("artifactType") == artifact_type)
        ]
        found.extend(fitting)
        return sum(map(len, fitting))

    async def _descriptor(self, key: str) -> bytes | None:
        try:
            return (await self._store.read(key, _DESCRIPTOR_BYTES))[1]
        except NotFound:
            return None  # Deleted since it was listed.
