"""Uploads: sessions, segments, commits.

Digest known before the bytes (POST or PUT with `digest`): straight onto the final key, visible only once verified.
Digest unknown (PATCH, then PUT): every PATCH *attempt* writes an object of its own, then the state object of the next sequence number is
created if absent and names it. Exactly one attempt wins a number, and nothing that was hashed can be overwritten afterwards. The commit
copies the one segment inside the store, its hash being known, or streams several through once and hashes them again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import Final

import orjson

from edgeproxy.oci.errors import (
    BlobUploadInvalid,
    BlobUploadUnknown,
    DigestInvalid,
    RegistryError,
)
from edgeproxy.oci.names import Digest, Repository
from edgeproxy.registry.blobs import Blobs
from edgeproxy.registry.sessions import SESSION_SECONDS, Session
from edgeproxy.registry.streams import Body, Received, Receiver
from edgeproxy.storage import IfAbsent, NotFound, PreconditionFailed, Store, keys

MAX_SEGMENTS: Final = 10_000
_CONCURRENCY: Final = 16
_STATE_BYTES: Final = 4096

_Commit = tuple[str, Digest]


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


class Uploads:
    """The upload operations of one registry process; any other continues what this one began."""

    def __init__(
        self, store: Store, blobs: Blobs, receiver: Receiver, clock: Callable[[], float], name: Callable[[], str]
    ) -> None:
        """Keep `name`, which makes random names for sessions and segments."""
        self._store = store
        self._blobs = blobs
        self._receiver = receiver
        self._clock = clock
        self._name = name
        self._commits: dict[_Commit, asyncio.Task[None]] = {}
        # Sessions cancelled here before anything was written; the bucket knows nothing of them.
        self._cancelled: dict[str, None] = {}

    def start(self, algorithm: str | None = None) -> Session:
        """Open a session. Nothing is written yet."""
        return Session(self._name(), 0, 0, algorithm or "sha256", int(self._clock()) + SESSION_SECONDS)

    async def mount(self, repository: Repository, digest: Digest, source: Repository) -> bool:
        """Let the repository hold a blob that the source holds; False if the source does not."""
        deletion = await self._blobs.last_deletion(source)
        try:
            size = await self._blobs.linked_since(source, digest, deletion)
        except RegistryError:
            return False
        await self._blobs.link(repository, digest, size)
        return True

    async def store_whole(self, repository: Repository, digest: Digest, body: Body) -> None:
        """Take in a blob whose digest is known before its bytes.

        Raises:
            DigestInvalid: the bytes have another digest; nothing is left of them.
            StoreUnavailable: nothing is visible; the client may try again.

        """

        def verify(received: Received) -> None:
            _verify(digest, received)

        stored = await self._blobs.stored(digest)
        if stored is not None:
            # The bytes are there already. That opens nothing: the sender still has to prove that it has them.
            received = await self._receiver.discard(body, digest.algorithm)
            verify(received)
        else:
            received = await self._receiver.receive(keys.blob(digest), body, digest.algorithm, verify, IfAbsent())
        await self._blobs.link(repository, digest, received.size)

    async def append(self, session: Session, body: Body, start: int | None) -> Session:
        """Take in one PATCH: a chunk that begins at `start`, or whatever comes next.

        Raises:
            RangeNotSatisfiable: it does not begin where the upload stands, or another PATCH was first; `standing` says where it stands.
            BlobUploadUnknown: the session was finished or cancelled.

        """
        if session.upload in self._cancelled:
            raise _unknown()
        if (start is not None and start != session.offset) or (session.sequence and await self._is_behind(session)):
            raise OutOfOrder(await self.standing(session))
        if session.sequence >= MAX_SEGMENTS:
            raise BlobUploadInvalid(f"an upload has at most {MAX_SEGMENTS} chunks; send larger ones")
        name = self._name()
        key = keys.segment(session.upload, name)
        received = await self._receiver.receive(key, body, session.algorithm, _accept, before=session.offset)
        if not received.size:
            await self._store.delete(key)
            return session
        segment = Segment(name, session.offset, received.size, received.digest)
        if not await self._win(session, segment):
            await self._store.delete(key)
            raise OutOfOrder(await self.standing(session))
        return replace(session, sequence=session.sequence + 1, offset=segment.end)

    async def standing(self, session: Session) -> Session:
        """Say where an upload truly stands, whatever the token says.

        Raises:
            BlobUploadUnknown: the session was finished or cancelled.

        """
        if session.upload in self._cancelled:
            raise _unknown()
        newest = ""
        after = keys.state(session.upload, session.sequence - 1) if session.sequence else ""
        async for info in self._store.list(keys.states(session.upload), after=after):
            newest = info.key
        if not newest:
            if session.sequence:
                raise _unknown()
            return session
        sequence = int(newest.rpartition("/")[2])
        segment = await self._segment(session.upload, sequence)
        return replace(session, sequence=sequence, offset=segment.end)

    async def finish(
        self, repository: Repository, session: Session, digest: Digest, body: Body | None, start: int | None
    ) -> None:
        """Commit an upload, with or without last bytes in `body`, which begin at `start` if the sender says so.

        A caller that stops waiting does not stop the commit: asking again finds it running or done.

        Raises:
            DigestInvalid: the bytes have another digest; nothing is left of the session.
            OutOfOrder: the last bytes do not continue the upload.
            BlobUploadUnknown: the session was finished or cancelled.

        """
        if session.upload in self._cancelled:
            raise _unknown()
        if body is None:
            last = await self._last_state(repository, session, digest)
            if last is None:
                return
            session = last
        elif (start is not None and start != session.offset) or (session.sequence and await self._is_behind(session)):
            raise OutOfOrder(await self.standing(session))
        elif session.sequence == 0:
            await self.store_whole(repository, digest, body)
            return
        # Only the same commit is joined: another digest of the same session has its own answer.
        key = (session.upload, digest)
        commit = self._commits.get(key)
        if commit is None:
            commit = asyncio.create_task(self._commit(repository, session, digest, body))
            self._commits[key] = commit
            commit.add_done_callback(lambda done: self._forget_commit(key, done))
        await asyncio.wait([commit])
        commit.result()

    async def cancel(self, session: Session) -> None:
        """Drop an upload and everything it holds."""
        await self.standing(session)
        if len(self._cancelled) >= 10_000:
            del self._cancelled[next(iter(self._cancelled))]
        self._cancelled[session.upload] = None
        await self._clean(session.upload)

    async def wait_for_commits(self) -> None:
        """Let commits that outlive their request end; for a graceful stop."""
        if self._commits:
            await asyncio.wait(list(self._commits.values()))

    async def _last_state(self, repository: Repository, session: Session, digest: Digest) -> Session | None:
        """Find what a PUT without a body commits; None if it was committed before and only the answer was lost."""
        try:
            return await self.standing(session)
        except BlobUploadUnknown:
            if session.upload in self._cancelled:
                raise
            try:
                await self._blobs.size(repository, digest)
            except RegistryError:
                raise _unknown() from None
            return None

    async def _commit(self, repository: Repository, session: Session, digest: Digest, body: Body | None) -> None:
        segments = await self._segments(session)
        try:
            size = await self._place(session, segments, digest, body)
        except DigestInvalid:
            await self._clean(session.upload)
            raise
        await self._blobs.link(repository, digest, size)
        await self._clean(session.upload)

    async def _place(self, session: Session, segments: list[Segment], digest: Digest, body: Body | None) -> int:
        if len(segments) == 1 and body is None and segments[0].digest.algorithm == digest.algorithm:
            only = segments[0]
            _verify(digest, Received(only.size, only.digest))
            if await self._blobs.stored(digest) is None:
                try:
                    await self._store.copy(keys.segment(session.upload, only.name), keys.blob(digest))
                except NotFound:
                    raise _unknown() from None
            return only.size
        length = sum(segment.size for segment in segments)
        whole: int | None = length
        if body is not None:
            whole = None if body.length is None else length + body.length
        joined = Body(self._joined(session.upload, segments, body), whole)

        def verify(received: Received) -> None:
            _verify(digest, received)

        received = await self._receiver.receive(keys.blob(digest), joined, digest.algorithm, verify, IfAbsent())
        return received.size

    async def _joined(self, upload: str, segments: list[Segment], body: Body | None) -> AsyncIterator[bytes]:
        for segment in segments:
            try:
                async with self._store.stream(keys.segment(upload, segment.name)) as (_, pieces):
                    async for piece in pieces:
                        yield piece
            except NotFound:
                raise _unknown() from None
        if body is not None:
            async for piece in body.chunks:
                yield piece

    async def _win(self, session: Session, segment: Segment) -> bool:
        """Try to become the next state; False if another PATCH was first."""
        key = keys.state(session.upload, session.sequence + 1)
        try:
            await self._store.put(key, segment.dump(), condition=IfAbsent())
        except PreconditionFailed:
            # A write that was retried after its answer was lost finds itself.
            try:
                winner = await self._segment(session.upload, session.sequence + 1)
            except BlobUploadUnknown:
                return False
            return winner.name == segment.name
        return True

    async def _is_behind(self, session: Session) -> bool:
        try:
            await self._store.head(keys.state(session.upload, session.sequence + 1))
        except NotFound:
            # The session may be gone altogether: its last state must still be there.
            await self._segment(session.upload, session.sequence)
            return False
        return True

    async def _segments(self, session: Session) -> list[Segment]:
        slots = asyncio.Semaphore(_CONCURRENCY)

        async def one(sequence: int) -> Segment:
            async with slots:
                return await self._segment(session.upload, sequence)

        return list(await asyncio.gather(*(one(number) for number in range(1, session.sequence + 1))))

    async def _segment(self, upload: str, sequence: int) -> Segment:
        try:
            _, data = await self._store.read(keys.state(upload, sequence), _STATE_BYTES)
        except NotFound:
            raise _unknown() from None
        return Segment.load(data)

    async def _clean(self, upload: str) -> None:
        """Delete everything of a session, states first: a state never names bytes that are gone."""
        found = [info.key async for info in self._store.list(keys.session(upload))]
        states = [key for key in found if key.startswith(keys.states(upload))]
        slots = asyncio.Semaphore(_CONCURRENCY)

        async def one(key: str) -> None:
            async with slots:
                await self._store.delete(key)

        await asyncio.gather(*map(one, states))
        await asyncio.gather(*(one(key) for key in found if key not in states))

    def _forget_commit(self, key: _Commit, done: asyncio.Task[None]) -> None:
        self._commits.pop(key, None)
        if not done.cancelled():
            done.exception()


class OutOfOrder(Exception):
    """A chunk that does not continue the upload; `standing` is where it stands."""

    def __init__(self, standing: Session) -> None:
        super().__init__("the chunk does not continue the upload")
        self.standing = standing


def _accept(_: Received) -> None:
    """Accept any bytes: what they are is decided at the commit."""


def _verify(digest: Digest, received: Received) -> None:
    if received.digest != digest:
        raise DigestInvalid(
            f"the uploaded bytes have digest {received.digest}, not {digest} as stated ({received.size} bytes)",
            detail=f"stated {digest}, computed {received.digest}",
        )


def _unknown() -> BlobUploadUnknown:
    return BlobUploadUnknown("this upload session was finished or cancelled; start the upload again")
