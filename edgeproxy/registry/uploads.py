"""Uploads: sessions, segments, commits.

Digest known before the bytes (POST or PUT with `digest`): straight onto the final key, visible only once verified.
Digest unknown (PATCH, then PUT): every PATCH *attempt* writes an object of its own, then the state object of the next sequence number is
created if absent and names it. Exactly one attempt wins a number, and nothing that was hashed can be overwritten afterwards. The commit
copies the one segment inside the store, its hash being known, or streams several through once and hashes them again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Final

from edgeproxy.oci.errors import (
    BlobUploadInvalid,
    BlobUploadUnknown,
    DigestInvalid,
    RegistryError,
)
from edgeproxy.oci.names import Digest, Repository
from edgeproxy.registry.blobs import Blobs
from edgeproxy.registry.sessions import SESSION_SECONDS, Session
from edgeproxy.registry.states import Segment, SessionStates, session_unknown
from edgeproxy.registry.streams import Body, Received, Receiver
from edgeproxy.storage import IfAbsent, NotFound, Store, keys

MAX_SEGMENTS: Final = 10_000

_Commit = tuple[str, Digest]


class Uploads:
    """The upload operations of one registry process; any other continues what this one began."""

    def __init__(
        self, store: Store, blobs: Blobs, receiver: Receiver, clock: Callable[[], float], name: Callable[[], str]
    ) -> None:
        """Keep `name`, which makes random names for sessions and segments."""
        self._store = store
        self._blobs = blobs
        self._states = SessionStates(store)
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
            raise session_unknown()
        if (start is not None and start != session.offset) or (
            session.sequence and await self._states.is_behind(session)
        ):
            raise OutOfOrder(await self.standing(session))
        if session.sequence >= MAX_SEGMENTS:
            raise BlobUploadInvalid(f"an upload has at most {MAX_SEGMENTS} chunks; send larger ones")
        self._receiver.check_length(body, before=session.offset)
        if body.length == 0:
            return session
        if not session.sequence:
            # It stays when this attempt fails: a rival, or the same client again after a lost connection, may count on it.
            await self._states.open(session.upload)
        name = self._name()
        key = keys.segment(session.upload, name)
        received = await self._receiver.receive(key, body, session.algorithm, _accept, before=session.offset)
        if not received.size:
            await self._store.delete(key)
            return session
        segment = Segment(name, session.offset, received.size, received.digest)
        try:
            if await self._states.win(session, segment):
                return replace(session, sequence=session.sequence + 1, offset=segment.end)
        except BlobUploadUnknown:
            await self._store.delete(key)
            raise
        await self._store.delete(key)
        raise OutOfOrder(await self.standing(session))

    async def standing(self, session: Session) -> Session:
        """Say where an upload truly stands, whatever the token says.

        Raises:
            BlobUploadUnknown: the session was finished or cancelled.

        """
        if session.upload in self._cancelled:
            raise session_unknown()
        sequence = await self._states.newest(session)
        if sequence is None and session.sequence:
            raise session_unknown()
        if not sequence:
            return session
        segment = await self._states.segment(session.upload, sequence)
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
            raise session_unknown()
        if body is None:
            last = await self._last_state(repository, session, digest)
            if last is None:
                return
            session = last
        elif (start is not None and start != session.offset) or (
            session.sequence and await self._states.is_behind(session)
        ):
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
        await self._states.clean(session.upload)

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
                raise session_unknown() from None
            return None

    async def _commit(self, repository: Repository, session: Session, digest: Digest, body: Body | None) -> None:
        segments = await self._states.segments(session)
        try:
            size = await self._place(session, segments, digest, body)
        except DigestInvalid:
            await self._states.clean(session.upload)
            raise
        await self._blobs.link(repository, digest, size)
        await self._states.clean(session.upload)

    async def _place(self, session: Session, segments: list[Segment], digest: Digest, body: Body | None) -> int:
        if len(segments) == 1 and body is None and segments[0].digest.algorithm == digest.algorithm:
            only = segments[0]
            _verify(digest, Received(only.size, only.digest))
            if await self._blobs.stored(digest) is None:
                try:
                    await self._store.copy(keys.segment(session.upload, only.name), keys.blob(digest))
                except NotFound:
                    raise session_unknown() from None
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
                raise session_unknown() from None
        if body is not None:
            async for piece in body.chunks:
                yield piece

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
