"""Blobs of a repository: the bytes once under `blobs/`, and a link in each repository that holds them.

A blob exists for a repository only through its link; the digest alone opens nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from edgeproxy.oci.errors import BlobUnknown
from edgeproxy.oci.names import Digest, Repository
from edgeproxy.registry.cache import FRESH_SECONDS, PATIENCE_SECONDS, Conflated, Memory
from edgeproxy.storage import IfAbsent, NotFound, ObjectInfo, PreconditionFailed, Store, StoreUnavailable, keys

LINK_BYTES: Final = 32 * 1024 * 1024
"""Memory for links, each of which takes about 800 bytes."""
DELETION_BYTES: Final = 8 * 1024 * 1024
MAX_REPOSITORIES: Final = 20_000

DELETE_SECONDS: Final = 60.0
"""A deletion notes itself first, then removes the link; requests end sooner than this, so by then the link is gone."""


@dataclass(frozen=True, slots=True)
class Link:
    """A repository holds a blob of `size` bytes.

    `vouched` is None if the link itself was seen; else it is when a manifest that names the blob was pushed (the store's clock): the link
    was there then, and is still there unless a blob was deleted in the repository since.
    """

    size: int
    vouched: float | None = None
    seen: float = 0.0
    """When the store was asked for it, by our clock."""


@dataclass(frozen=True, slots=True)
class LastDeletion:
    """The newest deletion of a blob in a repository: an opaque mark and the store's time; "" and 0 if there was none."""

    etag: str
    modified: float


NO_DELETION: Final = LastDeletion("", 0.0)

LinkKey = tuple[str, Digest]


class Blobs:
    """Asks and tells which repository holds which blob."""

    def __init__(self, store: Store, clock: Callable[[], float], mark: Callable[[], bytes]) -> None:
        """Keep `mark`, which makes bytes that never come twice: the content of a deletion's note."""
        self._store = store
        self._clock = clock
        self._mark = mark
        self.links: Memory[LinkKey, Link] = Memory(LINK_BYTES, lambda key, _: 800 + len(key[0]))
        self.deletions: Memory[str, LastDeletion] = Memory(DELETION_BYTES, lambda name, _: 400 + len(name))
        self._note = Conflated(self._note_deletion)
        # Repositories in which a blob was deleted, with the time when that must be over: links seen earlier are uncertain for writers.
        self._unsure: dict[str, float] = {}
        self._all_unsure = 0.0

    def remembered(self, repository: Repository, digest: Digest) -> int | None:
        """Say what `size` would say without asking the store; None where it would have to ask."""
        now = self._clock()
        link = self.links.fresh((repository.name, digest), now)
        if link is None or link.vouched is None:
            return None if link is None else link.size
        deletion = self.deletions.fresh(repository.name, now)
        if deletion is not None and _was_over(deletion, link.vouched):
            return link.size
        self.links.hits -= 1  # `size` looks it up again, and counts it.
        return None

    async def size(self, repository: Repository, digest: Digest) -> int:
        """Say how large a blob of the repository is: no store call when it was asked within 60 s, else at most one as a rule.

        Raises:
            BlobUnknown: the repository does not hold it.
            StoreUnavailable: the store cannot say, and nothing is remembered.

        """
        key = (repository.name, digest)
        now = self._clock()
        remembered = self.links.get(key, now)
        if remembered is not None and remembered.is_fresh(now):
            link = remembered.value
            if link.vouched is None or await self._none_deleted_since(repository, link.vouched):
                return link.size
        if remembered is None or not remembered.is_servable(now):
            return (await self._ask(repository, digest)).size
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return (await self._ask(repository, digest)).size
        except (StoreUnavailable, TimeoutError):
            return remembered.value.size

    async def linked_since(self, repository: Repository, digest: Digest, deletion: LastDeletion) -> int:
        """Say how large a blob is that the repository holds for certain, given its newest deletion: for writers.

        A remembered link counts only if nothing was deleted since it was seen; one that a manifest vouches for never does.

        Raises:
            BlobUnknown, StoreUnavailable: as for `size`.

        """
        now = self._clock()
        remembered = self.links.get((repository.name, digest), now)
        if remembered is not None and remembered.is_fresh(now) and remembered.value.vouched is None:
            certain = remembered.value.seen >= max(self._all_unsure, self._unsure.get(repository.name, 0.0))
            known = self.deletions.get(repository.name, now)
            if certain and known is not None and known.value == deletion:
                return remembered.value.size
        return (await self._ask(repository, digest)).size

    async def last_deletion(self, repository: Repository) -> LastDeletion:
        """Ask the store for the newest deletion of a blob in the repository."""
        epoch = self.deletions.epoch
        try:
            info = await self._store.head(keys.deletions(repository))
        except NotFound:
            last = NO_DELETION
        else:
            last = LastDeletion(info.etag, info.modified)
        before = self.deletions.peek(repository.name)
        if last != (NO_DELETION if before is None else before.value):
            self._become_unsure(repository.name)
        self.deletions.put(repository.name, last, self._clock() + FRESH_SECONDS, epoch)
        return last

    async def stored(self, digest: Digest) -> ObjectInfo | None:
        """Describe the bytes of a blob if the bucket has them, for any repository."""
        try:
            return await self._store.head(keys.blob(digest))
        except NotFound:
            return None

    async def link(self, repository: Repository, digest: Digest, size: int) -> None:
        """Write that the repository holds a blob whose bytes are in the bucket."""
        epoch, asked = self.links.epoch, self._clock()
        try:
            await self._store.put(
                keys.link(repository, digest), b"", metadata={"size": str(size)}, condition=IfAbsent()
            )
        except PreconditionFailed:
            pass  # It holds it already.
        self._remember(repository, digest, Link(size, seen=asked), epoch)

    def vouch(self, repository: Repository, digest: Digest, size: int, pushed: float, fresh_until: float) -> None:
        """Note that a manifest pushed at `pushed` names this blob, whose link and size were checked then."""
        key = (repository.name, digest)
        remembered = self.links.peek(key)
        if remembered is None or not remembered.is_fresh(self._clock()):
            self.links.put(key, Link(size, pushed), fresh_until, self.links.epoch)

    async def delete(self, repository: Repository, digest: Digest) -> None:
        """Take a blob out of the repository. The bytes stay in the bucket until garbage collection.

        Raises:
            BlobUnknown: the repository does not hold it.

        """
        key = keys.link(repository, digest)
        try:
            await self._store.head(key)
        except NotFound:
            raise blob_unknown(repository, digest) from None
        # Noted before it happens: from here on no manifest pushed earlier vouches for any blob of this repository.
        await self._note(repository.name)
        try:
            await self._store.delete(key)
        finally:
            self.links.forget((repository.name, digest))

    async def _ask(self, repository: Repository, digest: Digest) -> Link:
        epoch, asked = self.links.epoch, self._clock()
        try:
            info = await self._store.head(keys.link(repository, digest))
        except NotFound:
            self.links.forget((repository.name, digest))
            raise blob_unknown(repository, digest) from None
        link = Link(int(info.metadata["size"]), seen=asked)
        self._remember(repository, digest, link, epoch)
        return link

    async def _none_deleted_since(self, repository: Repository, pushed: float) -> bool:
        now = self._clock()
        remembered = self.deletions.get(repository.name, now)
        if remembered is not None and remembered.is_fresh(now):
            return _was_over(remembered.value, pushed)
        try:
            return _was_over(await self.last_deletion(repository), pushed)
        except StoreUnavailable:
            return remembered is not None and remembered.is_servable(now) and _was_over(remembered.value, pushed)

    async def _note_deletion(self, name: str) -> None:
        repository = Repository(name)
        info = await self._store.put(keys.deletions(repository), self._mark())
        # Ours may have replaced another replica's note that we have not seen.
        self._become_unsure(name)
        self.deletions.forget(name)
        self.deletions.put(
            name, LastDeletion(info.etag, info.modified), self._clock() + FRESH_SECONDS, self.deletions.epoch
        )

    def _become_unsure(self, name: str) -> None:
        over = self._clock() + DELETE_SECONDS
        if len(self._unsure) >= MAX_REPOSITORIES:
            # Too many to tell apart.
            self._unsure.clear()
            self._all_unsure = over
        self._unsure[name] = over

    def _remember(self, repository: Repository, digest: Digest, link: Link, epoch: int) -> None:
        self.links.put((repository.name, digest), link, self._clock() + FRESH_SECONDS, epoch)


def _was_over(deletion: LastDeletion, pushed: float) -> bool:
    """Say whether a deletion was over when a manifest was pushed, so that the push saw what was left."""
    return deletion == NO_DELETION or deletion.modified + DELETE_SECONDS < pushed


def blob_unknown(repository: Repository, digest: Digest) -> BlobUnknown:
    """Say that a repository does not hold a blob, in the same words whatever the reason."""
    return BlobUnknown(f"blob {digest} is not in repository {repository}", detail=str(digest))
