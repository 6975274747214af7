"""What the bucket knows of upload sessions: one object for each PATCH that won its place.

`uploads/<uuid>/00000000` says that the session is open, and is written by the first PATCH; the n-th PATCH adds number n, which names its
bytes. Each number is created if absent, so exactly one attempt wins it; and an attempt counts only if the number before is still there
afterwards: a rival that is slower than the commit finds its session gone.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

import orjson

from edgeproxy.oci.errors import BlobUploadUnknown
from edgeproxy.oci.names import Digest
from edgeproxy.registry.sessions import Session
from edgeproxy.storage import IfAbsent, NotFound, PreconditionFailed, Store, keys

_CONCURRENCY: Final = 16
_STATE_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Segment:
    """The bytes of one PATCH that won its place: from `start`, `size` bytes, under `name`."""

    name: str
    start: int
    size: int
    digest: Digest

    @property
    def end(self) -> int:
        """The offset after the last byte."""
        return self.start + self.size

    def dump(self) -> bytes:
        """Print as the body of a state object."""
        return orjson.dumps({"segment": self.name, "start": self.start, "size": self.size, "digest": str(self.digest)})

    @classmethod
    def load(cls, data: bytes) -> Segment:
        """Read the body of a state object."""
        state = orjson.loads(data)
        return cls(state["segment"], state["start"], state["size"], Digest.parse(state["digest"]))


class SessionStates:
    """Reads and writes the states of upload sessions."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def open(self, upload: str) -> None:
        """Note that a session is open, unless that is noted already."""
        try:
            await self._store.put(keys.state(upload, 0), b"", condition=IfAbsent())
        except PreconditionFailed:
            pass  # A rival began before us.

    async def win(self, session: Session, segment: Segment) -> bool:
        """Try to become the next state; False if another PATCH was first.

        Raises:
            BlobUploadUnknown: the session was finished or cancelled meanwhile.

        """
        key = keys.state(session.upload, session.sequence + 1)
        try:
            await self._store.put(key, segment.dump(), condition=IfAbsent())
        except PreconditionFailed:
            # A write that was retried after its answer was lost finds itself.
            if (await self.segment(session.upload, session.sequence + 1)).name != segment.name:
                return False
        try:
            await self._store.head(keys.state(session.upload, session.sequence))
        except NotFound:
            await self._store.delete(key)
            raise session_unknown() from None
        return True

    async def is_behind(self, session: Session) -> bool:
        """Say whether a session has moved on since its token was made.

        Raises:
            BlobUploadUnknown: it was finished or cancelled.

        """
        try:
            await self._store.head(keys.state(session.upload, session.sequence + 1))
        except NotFound:
            await self.segment(session.upload, session.sequence)
            return False
        return True

    async def newest(self, session: Session) -> int | None:
        """Find the number of the newest state; None if there is none, of those not older than the token."""
        newest = None
        after = keys.state(session.upload, session.sequence - 1) if session.sequence else ""
        async for info in self._store.list(keys.states(session.upload), after=after):
            newest = int(info.key.rpartition("/")[2])
        return newest

    async def segments(self, session: Session) -> list[Segment]:
        """Read all segments of a session in their order.

        Raises:
            BlobUploadUnknown: it was finished or cancelled.

        """
        slots = asyncio.Semaphore(_CONCURRENCY)

        async def one(sequence: int) -> Segment:
            async with slots:
                return await self.segment(session.upload, sequence)

        return list(await asyncio.gather(*(one(number) for number in range(1, session.sequence + 1))))

    async def segment(self, upload: str, sequence: int) -> Segment:
        """Read what the n-th PATCH brought.

        Raises:
            BlobUploadUnknown: it is not there: the session was finished or cancelled.

        """
        try:
            _, data = await self._store.read(keys.state(upload, sequence), _STATE_BYTES)
        except NotFound:
            raise session_unknown() from None
        return Segment.load(data)

    async def clean(self, upload: str) -> None:
        """Delete everything of a session, states first: a state never names bytes that are gone."""
        found = [info.key async for info in self._store.list(keys.session(upload))]
        states = [key for key in found if key.startswith(keys.states(upload))]
        slots = asyncio.Semaphore(_CONCURRENCY)

        async def one(key: str) -> None:
            async with slots:
                await self._store.delete(key)

        await asyncio.gather(*map(one, states))
        await asyncio.gather(*(one(key) for key in found if key not in states))


def session_unknown() -> BlobUploadUnknown:
    """Say that a session is over, in the same words whatever the reason."""
    return BlobUploadUnknown("this upload session was finished or cancelled; start the upload again")
