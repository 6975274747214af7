"""Holding a bucket against its rules, on the `Store` protocol alone and in bounded memory. Nothing is changed.

1. The bucket is listed into an `Index`.
2. Every link, manifest, referrer and tag is looked at, against that listing.
3. What seems broken is looked at again, against the store itself: what was pushed or deleted meanwhile is not reported.

Damage is a broken promise: something that a client was told is there, and is not, or is not what it says. Garbage is what nobody
needs: it costs storage, and no more.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from edgeproxy.oci.names import Repository
from edgeproxy.registry.fsck_checks import Checks, Finding, Look
from edgeproxy.registry.fsck_index import Index
from edgeproxy.registry.fsck_places import (
    BlobPlace,
    CatalogPlace,
    LinkPlace,
    ManifestPlace,
    TaggedPlace,
    Unknown,
    place_of,
)
from edgeproxy.storage import NotFound, ObjectInfo, Store, keys

__all__ = ["Finding", "Found", "Progress", "fsck"]

CONCURRENCY: Final = 32
LEFTOVER_SECONDS: Final = 24 * 3600
"""An upload session lives so long; what is older belongs to none."""

_BATCH: Final = 1000

Progress = Callable[[str, int, int | None], None]
"""Is told what goes on, how many objects are done, and of how many (None: not known yet)."""


@dataclass(frozen=True, slots=True)
class Found:
    """A finding and which of the two it is."""

    of: Literal["damage", "garbage"]
    finding: Finding


async def fsck(store: Store, *, now: float, rehash: bool, progress: Progress) -> AsyncIterator[Found]:
    """Walk a bucket and give what is wrong with it, damage first.

    `now` is seconds since the epoch by the store's clock; `rehash` reads every blob.

    Raises:
        StoreUnavailable: the store stopped answering; what was given until then is true.

    """
    with Index() as index:
        walk = _Walk(store, index, rehash=rehash, progress=progress)
        await walk.survey()
        await walk.look()
        async for finding in walk.confirm():
            yield Found("damage", finding)
        for finding in walk.garbage():
            yield Found("garbage", finding)
        async for finding in _leftovers(store, now):
            yield Found("garbage", finding)


class _Walk:
    """One run over one bucket."""

    def __init__(self, store: Store, index: Index, *, rehash: bool, progress: Progress) -> None:
        self._store = store
        self._index = index
        self._rehash = rehash
        self._progress = progress

    async def survey(self) -> None:
        """Take the listing. Blobs come first: a link that is listed has a blob that was listed, unless it is newer than that."""
        done = 0
        for prefix in (keys.BLOBS, keys.REPOSITORIES, keys.CATALOG):
            async for batch in _batches(self._store.list(prefix)):
                self._note(batch)
                done += len(batch)
                self._progress("listing", done, None)

    def _note(self, batch: list[ObjectInfo]) -> None:
        self._index.add((info.key, info.size) for info in batch)
        places = [place_of(info.key) for info in batch]
        self._index.use(keys.blob(place.digest) for place in places if isinstance(place, LinkPlace))
        self._index.hold(place.repository.name for place in places if isinstance(place, ManifestPlace))

    async def look(self) -> None:
        """Look at everything once, against the listing."""

        async def listed(key: str) -> int | None:
            return self._index.size(key)

        checks = self._checks(listed)
        prefixes = [keys.BLOBS, keys.REPOSITORIES] if self._rehash else [keys.REPOSITORIES]
        total = sum(map(self._index.count, prefixes))
        found = (key for prefix in prefixes for key, _ in self._index.objects(prefix))
        done = 0

        async def look_on() -> None:
            nonlocal done
            # All workers draw from the one generator, so that one large blob does not keep the others waiting.
            for key in found:
                if await checks.check(key, place_of(key)):
                    self._index.suspect(key)
                done += 1
                if done % CONCURRENCY == 0 or done == total:
                    self._progress("checking", done, total)

        await _in_parallel(look_on, CONCURRENCY)
        for name in self._index.repositories():
            if self._index.size(keys.catalog(Repository(name))) is None:
                self._index.suspect(keys.catalog(Repository(name)))

    async def confirm(self) -> AsyncIterator[Finding]:
        """Look again at what seems broken, against the store."""
        checks = self._checks(self._stored)
        for key in self._index.suspects():
            place = place_of(key)
            if isinstance(place, CatalogPlace):
                if await self._is_unlisted(place.repository):
                    message = (
                        f"is missing, so repository {place.repository} is not in the catalog: push any manifest to it"
                    )
                    yield Finding("catalog-missing", key, message)
                continue
            for finding in await checks.check(key, place):
                yield finding

    def garbage(self) -> Iterator[Finding]:
        """Give what nobody needs, by the listing."""
        for prefix in (keys.BLOBS, keys.CATALOG, keys.REPOSITORIES):
            for key, size in self._index.objects(prefix):
                match place_of(key):
                    case BlobPlace() if not self._index.is_used(key):
                        yield Finding("blob-unlinked", key, f"{size} bytes that no repository holds")
                    case TaggedPlace(_, digest, tag) if not self._index.is_used(key):
                        yield Finding("tagged-stale", key, f"says that tag {tag} points at {digest}, which it does not")
                    case CatalogPlace(repository) if not self._has_content(repository):
                        yield Finding("catalog-empty", key, f"repository {repository} holds no blob and no manifest")
                    case Unknown():
                        yield Finding("unknown-key", key, "is no key of this layout")

    def _has_content(self, repository: Repository) -> bool:
        return any(
            self._index.has_below(f"{keys.REPOSITORIES}{repository}/{kind}/") for kind in ("_blobs", "_manifests")
        )

    async def _is_unlisted(self, repository: Repository) -> bool:
        if await self._stored(keys.catalog(repository)) is not None:
            return False
        return [info async for info in self._store.list(keys.manifests(repository), limit=1)] != []

    async def _stored(self, key: str) -> int | None:
        try:
            return (await self._store.head(key)).size
        except NotFound:
            return None

    def _checks(self, look: Look) -> Checks:
        return Checks(self._store, look, rehash=self._rehash, on_tag=lambda key: self._index.use([key]))


async def _leftovers(store: Store, now: float) -> AsyncIterator[Finding]:
    """Give upload sessions of which nothing was written for a day."""
    session, count, size, newest = "", 0, 0, 0.0
    async for info in store.list(keys.UPLOADS):
        of = keys.session(info.key.removeprefix(keys.UPLOADS).partition("/")[0])
        if of != session:
            if count and newest < now - LEFTOVER_SECONDS:
                yield _leftover(session, count, size)
            session, count, size, newest = of, 0, 0, 0.0
        count, size, newest = count + 1, size + info.size, max(newest, info.modified)
    if count and newest < now - LEFTOVER_SECONDS:
        yield _leftover(session, count, size)


def _leftover(session: str, count: int, size: int) -> Finding:
    return Finding(
        "upload-leftover", session, f"{count} objects, {size} bytes of an upload that ended more than a day ago"
    )


async def _batches(found: AsyncIterator[ObjectInfo]) -> AsyncIterator[list[ObjectInfo]]:
    batch: list[ObjectInfo] = []
    async for info in found:
        batch.append(info)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


async def _in_parallel(work: Callable[[], Awaitable[None]], count: int) -> None:
    """Run `count` of the same worker; the first error ends all."""
    tasks = [asyncio.ensure_future(work()) for _ in range(count)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
