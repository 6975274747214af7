"""Tags: small objects that name a digest, last writer wins, unless the policy says a tag is immutable.

Deleting a tag writes an empty object on the condition that it still is what was read: a plain delete could remove a tag that has just
moved.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import orjson

from edgeproxy.oci.errors import ManifestUnknown, NameUnknown
from edgeproxy.oci.names import Digest, Reference, Repository, Tag
from edgeproxy.registry.cache import Conflated
from edgeproxy.storage import IfAbsent, IfMatch, NotFound, PreconditionFailed, Store, keys

PAGE: Final = 1000
"""Most entries of one page of tags or repositories."""

_TAG_BYTES: Final = 16 * 1024


@dataclass(frozen=True, slots=True)
class Tagged:
    """What a tag points at. `created` is seconds since the epoch, `by` the subject who set it, "" for an anonymous caller."""

    digest: Digest
    media_type: str
    size: int
    created: float
    by: str

    def dump(self) -> bytes:
        """Print as the body of a tag object."""
        return orjson.dumps(
            {
                "digest": str(self.digest),
                "media_type": self.media_type,
                "size": self.size,
                "created": self.created,
                "by": self.by,
            }
        )

    @classmethod
    def load(cls, data: bytes) -> Tagged:
        """Read the body of a tag object."""
        tag = orjson.loads(data)
        return cls(Digest.parse(tag["digest"]), tag["media_type"], tag["size"], tag["created"], tag["by"])


@dataclass(frozen=True, slots=True)
class TagState:
    """A tag's object as it was read: `tagged` is None for a deleted tag, `etag` "" where there is no object at all."""

    tagged: Tagged | None
    etag: str


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list; `more` says that another follows after `names[-1]`."""

    names: list[str]
    more: bool


class TagMoved(Exception):
    """An immutable tag points at another digest already."""

    def __init__(self, tag: Tag, digest: Digest) -> None:
        super().__init__(f"tag {tag} points at {digest}")
        self.tag = tag
        self.digest = digest


class Tags:
    """The tags of all repositories."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        # A hot tag costs one read at a time however many ask, and nobody gets an answer older than the question.
        self.reads = Conflated(self._read_once)

    async def resolve(self, repository: Repository, tag: Tag) -> Tagged:
        """Say what a tag points at now.

        Raises:
            ManifestUnknown: there is no such tag.

        """
        state = await self.state(repository, tag)
        if state.tagged is None:
            raise manifest_unknown(repository, tag)
        return state.tagged

    async def state(self, repository: Repository, tag: Tag) -> TagState:
        """Read a tag's object."""
        return await self.reads(keys.tag(repository, tag))

    async def set(self, repository: Repository, tag: Tag, tagged: Tagged) -> None:
        """Point a mutable tag at a manifest."""
        # The way back first: a delete of the digest must find every tag that may point at it.
        await self._store.put(keys.tagged(repository, tagged.digest, tag), b"")
        await self._store.put(keys.tag(repository, tag), tagged.dump(), content_type="application/json")

    async def create(self, repository: Repository, tag: Tag, tagged: Tagged) -> None:
        """Point an immutable tag at a manifest, once and for ever.

        Raises:
            TagMoved: it points at another digest.

        """
        state = await self.state(repository, tag)
        while state.tagged is None:
            condition = IfMatch(state.etag) if state.etag else IfAbsent()
            await self._store.put(keys.tagged(repository, tagged.digest, tag), b"")
            try:
                await self._store.put(
                    keys.tag(repository, tag), tagged.dump(), content_type="application/json", condition=condition
                )
            except PreconditionFailed:
                # Somebody was first, or our own write that was sent twice: what is there decides.
                state = await self.state(repository, tag)
            else:
                return
        if state.tagged.digest != tagged.digest:
            raise TagMoved(tag, state.tagged.digest)

    async def delete(self, repository: Repository, tag: Tag, only: Digest | None = None) -> bool:
        """Delete a tag, or only if it points at the digest `only`; False if there was nothing to delete."""
        while True:
            state = await self.state(repository, tag)
            if state.tagged is None or (only is not None and state.tagged.digest != only):
                return False
            try:
                await self._store.put(keys.tag(repository, tag), b"", condition=IfMatch(state.etag))
            except PreconditionFailed:
                continue  # It has just moved; look again.
            # The way back stays: a push that sets the tag again right now has perhaps written it already.
            return True

    async def of(self, repository: Repository, digest: Digest) -> list[Tag]:
        """List the tags that may point at a digest; each tag itself decides."""
        prefix = keys.tagged_with(repository, digest)
        return [Tag(info.key.removeprefix(prefix)) async for info in self._store.list(prefix)]

    async def list(self, repository: Repository, n: int | None, last: str) -> Page:
        """List tags in byte order, those after `last`; `n` None: a full page.

        Raises:
            NameUnknown: there is no such repository.

        """
        prefix = keys.tags(repository)
        wanted = PAGE if n is None else min(n, PAGE)
        names: list[str] = []
        more = False
        if wanted:
            async for info in self._store.list(prefix, after=prefix + last if last else "", limit=None):
                if not info.size:
                    continue  # A deleted tag.
                if len(names) == wanted:
                    more = True
                    break
                names.append(info.key.removeprefix(prefix))
        if not names and not await self._exists(repository):
            raise NameUnknown(f"repository {repository} is not known to this registry", detail=repository.name)
        return Page(names, more)

    async def _exists(self, repository: Repository) -> bool:
        try:
            await self._store.head(keys.catalog(repository))
        except NotFound:
            return False
        return True

    async def _read_once(self, key: str) -> TagState:
        try:
            info, data = await self._store.read(key, _TAG_BYTES)
        except NotFound:
            return TagState(None, "")
        return TagState(Tagged.load(data) if data else None, info.etag)


def manifest_unknown(repository: Repository, reference: Reference) -> ManifestUnknown:
    """Say that a repository does not hold a manifest or a tag, in the same words whatever the reason."""
    kind = "tag" if isinstance(reference, Tag) else "manifest"
    return ManifestUnknown(f"{kind} {reference} is not in repository {repository}", detail=str(reference))
