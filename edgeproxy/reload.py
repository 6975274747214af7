"""The policy and the signing keys while they serve: read at the start, and again whenever they change, with no signal needed.

A broken new document keeps the old one and raises an alarm (log, /readyz, /metrics). A narrowed policy binds tokens that are out already,
as every request asks the current policy.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from edgeproxy.access.policy import Policy, PolicyError, load_policy
from edgeproxy.access.signing import SigningKeyError, SigningKeys
from edgeproxy.forever import every
from edgeproxy.settings import STORED_POLICY, Settings
from edgeproxy.storage import NotFound, Store, StoreError, keys

POLL_SECONDS: Final = 2.0
KEYS_POLL_SECONDS: Final = 5.0
MAX_DOCUMENT_BYTES: Final = 1024 * 1024

_log = logging.getLogger(__name__)


class DocumentUnreadable(Exception):
    """The policy document cannot be read; the text says which and why."""


class Document(Protocol):
    """Where a policy document lies."""

    name: str

    async def mark(self) -> str:
        """Give something that changes whenever the document does.

        Raises:
            DocumentUnreadable: it is not there or cannot be read.

        """

    async def read(self) -> bytes:
        """Read the document.

        Raises:
            DocumentUnreadable: as for `mark`.

        """


class FilesBeside:
    """The files that a document names (`keys.file`, `ca_file`), relative to a folder: read, and watched from then on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: set[str] = set()

    def __call__(self, name: str) -> bytes:
        """Read a file."""
        self._names.add(name)
        return (self._folder / name).read_bytes()

    def mark(self) -> str:
        """Give something that changes whenever one of them does."""
        return "".join(f"|{name} {_state(self._folder / name)}" for name in sorted(self._names))


class FileDocument:
    """A document in a file, and the files beside it that it names."""

    def __init__(self, path: Path, beside: FilesBeside | None = None) -> None:
        self._path = path
        self._beside = beside
        self.name = str(path)

    async def mark(self) -> str:
        """Give inode, time and size: an editor's rename and a mounted ConfigMap's switch both change them."""
        try:
            info = await asyncio.to_thread(self._path.stat)
        except OSError as error:
            raise _unreadable(self.name, error) from None
        beside = await asyncio.to_thread(self._beside.mark) if self._beside is not None else ""
        return f"{_mark(info)}{beside}"

    async def read(self) -> bytes:
        """Read the file."""
        try:
            return await asyncio.to_thread(self._path.read_bytes)
        except OSError as error:
            raise _unreadable(self.name, error) from None


class StoredDocument:
    """The document that is kept in the bucket."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.name = f"store:{keys.POLICY}"

    async def mark(self) -> str:
        """Give the object's etag."""
        try:
            return (await self._store.head(keys.POLICY)).etag
        except NotFound:
            raise DocumentUnreadable(f"{self.name}: there is no such object in the bucket") from None
        except StoreError as error:
            raise DocumentUnreadable(f"{self.name}: {error}") from None

    async def read(self) -> bytes:
        """Read the object."""
        try:
            return (await self._store.read(keys.POLICY, MAX_DOCUMENT_BYTES))[1]
        except NotFound:
            raise DocumentUnreadable(f"{self.name}: there is no such object in the bucket") from None
        except StoreError as error:
            raise DocumentUnreadable(f"{self.name}: {error}") from None


def policy_document(settings: Settings, store: Store, beside: FilesBeside | None = None) -> Document:
    """Find the document that the settings name."""
    if settings.policy == STORED_POLICY:
        return StoredDocument(store)
    return FileDocument(Path(settings.policy), beside)


def files_beside(settings: Settings) -> FilesBeside:
    """Find where the files lie that a document names: beside it; for one in the bucket, where we were started."""
    return FilesBeside(Path() if settings.policy == STORED_POLICY else Path(settings.policy).parent)


def compile_policy(settings: Settings, text: bytes, beside: FilesBeside | None = None) -> Policy:
    """Compile a document as this registry would put it in force.

    Raises:
        PolicyError: with every problem of the document.

    """
    return load_policy(
        text,
        source=settings.policy,
        loopback=settings.loopback,
        now=time.time(),
        files=beside or files_beside(settings),
    )


@dataclass(frozen=True, slots=True)
class Loaded:
    """A policy in force, since when, and from which state of the document."""

    policy: Policy
    since: float
    mark: str


class CurrentPolicy:
    """The policy in force. `problem` is "" or says why the newest document is not it."""

    def __init__(
        self,
        document: Document,
        load: Callable[[bytes], Policy],
        clock: Callable[[], float],
        changed: Callable[[Policy, Policy], None] = lambda _old, _new: None,
    ) -> None:
        self._document = document
        self._load = load
        self._clock = clock
        self._changed = changed
        self._loaded: Loaded | None = None
        self._tried = ""
        self._refreshing = asyncio.Lock()
        self._soon: set[asyncio.Task[None]] = set()
        self.problem = ""

    async def start(self) -> None:
        """Load the document for the first time.

        Raises:
            DocumentUnreadable, PolicyError: there is no usable policy, so nothing may be served.

        """
        mark = await self._document.mark()
        policy = self._load(await self._document.read())
        self._loaded, self._tried = Loaded(policy, self._clock(), mark), mark

    def __call__(self) -> Policy:
        """Give the policy in force."""
        assert self._loaded is not None
        return self._loaded.policy

    @property
    def since(self) -> float:
        """Say since when the policy is in force."""
        assert self._loaded is not None
        return self._loaded.since

    async def watch(self, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep) -> None:
        """Look for a changed document every two seconds, for ever."""
        await every(POLL_SECONDS, self.refresh, self._surprised, sleep)

    async def refresh(self) -> None:
        """Take a changed document into force, or keep the old one and say why."""
        # Of two at a time, the one that read an older document could be the last to put it into force.
        async with self._refreshing:
            await self._refresh()

    def refresh_soon(self) -> None:
        """Do the same without a wait; for a signal."""
        task = asyncio.create_task(self.refresh())
        self._soon.add(task)
        task.add_done_callback(self._soon.discard)

    async def _refresh(self) -> None:
        try:
            mark = await self._document.mark()
            if mark == self._tried:
                return
            # The mark is older than what is read, so a change in between is seen the next time.
            policy = self._load(await self._document.read())
        except DocumentUnreadable as error:
            # Once it can be read again it is, be it the same: the alarm ends then.
            self._tried = ""
            self._alarm(str(error))
            return
        except PolicyError as error:
            self._tried = mark
            self._alarm(str(error))
            return
        before = self()
        since = self._clock() if policy.version != before.version else self.since
        mended = bool(self.problem)
        self._loaded, self._tried, self.problem = Loaded(policy, since, mark), mark, ""
        # Also where the old document came back: an alarm that a line of the log raised ends by this one.
        if mended or policy.version != before.version:
            _log.info("policy %s is in force", policy.version[:12])
        if policy.version != before.version:
            self._changed(before, policy)

    def _surprised(self, error: Exception) -> None:
        problem = f"it could not be looked at ({type(error).__name__}); the log has the traceback"
        if problem != self.problem:
            _log.error("unexpected, while the policy was looked at", exc_info=error)
        self._tried = ""
        self._alarm(problem)

    def _alarm(self, problem: str) -> None:
        if problem != self.problem:
            _log.error("the changed policy is not usable, the old one stays in force: %s", problem)
        self.problem = problem


async def watch_keys(keys: SigningKeys, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep) -> None:
    """Take new signing keys into use, and let retired ones go, with no signal needed."""

    async def refresh() -> None:
        try:
            if await asyncio.to_thread(keys.reload):
                _log.info("signing keys: %s", ", ".join(key.kid for key in keys.listing()))
        except SigningKeyError as error:
            _log.error("the changed signing keys are not usable, the old ones stay in force: %s", error)

    def surprised(error: Exception) -> None:
        _log.error("unexpected, while the signing keys were looked at; the old ones stay in force", exc_info=error)

    await every(KEYS_POLL_SECONDS, refresh, surprised, sleep)


def _state(path: Path) -> str:
    try:
        return _mark(path.stat())
    except OSError:
        return "unreadable"


def _mark(info: os.stat_result) -> str:
    return f"{info.st_dev}-{info.st_ino}-{info.st_mtime_ns}-{info.st_size}"


def _unreadable(name: str, error: OSError) -> DocumentUnreadable:
    return DocumentUnreadable(f"{name}: {error.strerror or error}")
