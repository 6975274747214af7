"""Trying a store out: what `edgeproxy check` does against the real one. The little that `serve` asks is in `startup`.

Everything is written under `uploads/check-<random>/` and removed again; what a lost connection leaves there counts as the leftover of an
upload.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from edgeproxy.storage import (
    MIN_PART_BYTES,
    Corrupt,
    IfAbsent,
    IfMatch,
    NotFound,
    PreconditionFailed,
    Presigner,
    Store,
    StoreError,
    keys,
)
from edgeproxy.storage.startup import NO_CONDITIONS

_SMALL: Final = b"edgeproxy check\n"
_TYPE: Final = "application/vnd.edgeproxy.check"
_REFUSALS: Final = frozenset({400, 401, 403})
_EXPIRY_TRIES: Final = 5

_FORGED: Final = (
    "anyone could read every blob: this is no store to redirect clients to; set EDGEPROXY_DELIVER=proxy or use another"
)


class Unreachable(Exception):
    """A GET got no answer; the text says why, without the URL's query."""


Get = Callable[[str], Awaitable[tuple[int, bytes]]]
"""A plain GET without any credential: status and body of the answer. Raises `Unreachable`."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The outcome of one step. `problem` is "" or one line that says what to do."""

    name: str
    problem: str


class _Problem(Exception):
    """A step did not go as it must."""


def _whole() -> bytes:
    """Make the object of three parts. Not a constant: every process that serves would hold its ten MiB."""
    part = bytes(range(256)) * (MIN_PART_BYTES // 256)
    return part + part[::-1] + b"the last and smaller part"


async def probe(
    store: Store,
    copying: Store,
    presigner: Presigner,
    get: Get,
    *,
    name: str,
    sleep: Callable[[float], Awaitable[object]],
) -> AsyncIterator[CheckResult]:
    """Try everything that a registry needs of its store, once `Store.lacking` finds nothing; to be read to the end.

    `copying` is the same store, set to copy in parts whatever the size. `name` is a random, URL-safe name.
    """
    trial = _Trial(store, copying, presigner, get, f"{keys.UPLOADS}check-{name}/", sleep)
    try:
        for step, work, needed in trial.steps():
            result = await _outcome(step, work)
            yield result
            if result.problem and needed:
                return
    finally:
        with suppress(StoreError):
            await trial.clean_up()


async def _outcome(step: str, work: Callable[[], Awaitable[None]]) -> CheckResult:
    try:
        await work()
    except (_Problem, Unreachable) as problem:
        return CheckResult(step, str(problem))
    except StoreError as error:
        return CheckResult(step, str(error) or type(error).__name__)
    return CheckResult(step, "")


class _Trial:
    """One run against one store; each step is one method."""

    def __init__(
        self,
        store: Store,
        copying: Store,
        presigner: Presigner,
        get: Get,
        prefix: str,
        sleep: Callable[[float], Awaitable[object]],
    ) -> None:
        self._store = store
        self._copying = copying
        self._presigner = presigner
        self._get = get
        self._prefix = prefix
        self._sleep = sleep

    def steps(self) -> tuple[tuple[str, Callable[[], Awaitable[None]], bool], ...]:
        """List the steps in order: name, work, and whether all others need it."""
        return (
            ("write and read", self._write, True),
            ("checksum on write", self._checksum, False),
            ("conditional create", self._create, False),
            ("conditional replace", self._replace, False),
            ("multipart with equal parts", self._multipart, False),
            ("conditional completion", self._complete, False),
            ("part copy", self._copy, False),
            ("presigned GET", self._presigned, True),
            ("refused forged GET", self._forged, False),
            ("refused expired GET", self._expired, False),
            ("list", self._list, False),
            ("delete", self._delete, False),
        )

    async def clean_up(self) -> None:
        """Remove what the steps wrote."""
        for key in [info.key async for info in self._store.list(self._prefix)]:
            await self._store.delete(key)

    def _key(self, name: str) -> str:
        return self._prefix + name

    async def _write(self) -> None:
        await self._store.put(self._key("small"), _SMALL, content_type=_TYPE, metadata={"size": "16"})
        info, data = await self._store.read(self._key("small"), len(_SMALL))
        if data != _SMALL or info.content_type != _TYPE or info.metadata.get("size") != "16":
            raise _Problem("what was written comes back changed: is a proxy or cache between edgeproxy and the store?")

    async def _checksum(self) -> None:
        try:
            await self._store.put(self._key("corrupt"), _SMALL, sha256=hashlib.sha256(b"else").digest())
        except Corrupt:
            return
        raise _Problem("the store took bytes that do not have the SHA-256 that was sent with them: use another store")

    async def _create(self) -> None:
        key = self._key("created")
        await self._store.put(key, _SMALL, condition=IfAbsent())
        try:
            await self._store.put(key, b"second", condition=IfAbsent())
        except PreconditionFailed:
            return
        raise _Problem(f"the store overwrote an object in spite of If-None-Match: {NO_CONDITIONS}")

    async def _replace(self) -> None:
        key = self._key("replaced")
        old = await self._store.put(key, _SMALL)
        try:
            await self._store.put(key, b"second", condition=IfMatch(old.etag))
        except PreconditionFailed:
            raise _Problem(f"the store refuses an If-Match that holds: {NO_CONDITIONS}") from None
        try:
            await self._store.put(key, b"third", condition=IfMatch(old.etag))
        except PreconditionFailed:
            return
        raise _Problem(f"the store overwrote an object in spite of If-Match: {NO_CONDITIONS}")

    async def _multipart(self) -> None:
        await self._write_parts(self._key("parts"))
        await self._compare(self._store, self._key("parts"))

    async def _complete(self) -> None:
        try:
            await self._write_parts(self._key("small"))
        except PreconditionFailed:
            return
        raise _Problem(
            f"the store completed a multipart upload onto an object in spite of If-None-Match: {NO_CONDITIONS}"
        )

    async def _copy(self) -> None:
        await self._copying.copy(self._key("parts"), self._key("copied"))
        await self._compare(self._copying, self._key("copied"))

    async def _presigned(self) -> None:
        await self._store.put(self._key("fetched"), _SMALL)
        status, body = await self._get((await self._presigner.presign(self._key("fetched"), 60)).url)
        if status != 200 or body != _SMALL:
            raise _Problem(
                f"a presigned URL answers {status}, not the object: look at EDGEPROXY_STORE_PUBLIC_ENDPOINT and the region, "
                "and whether the credential may read objects"
            )

    async def _forged(self) -> None:
        url = (await self._presigner.presign(self._key("fetched"), 60)).url
        # The last character of a signature in base64 has spare bits; the one before it has none.
        altered = f"{url[:-2]}{'0' if url[-2] != '0' else '1'}{url[-1]}"
        other = url.replace("/fetched?", "/replaced?", 1)
        for forged, what in (
            (altered, "an altered signature"),
            (other, "another object's name"),
            (url.partition("?")[0], "no signature"),
        ):
            status, _ = await self._get(forged)
            if status not in _REFUSALS:
                raise _Problem(f"a URL with {what} is answered with {status} instead of 403, so {_FORGED}")

    async def _expired(self) -> None:
        url = (await self._presigner.presign(self._key("fetched"), 1)).url
        status = 0
        for _ in range(_EXPIRY_TRIES):
            await self._sleep(2)
            status, _ = await self._get(url)
            if status in _REFUSALS:
                return
        raise _Problem(
            f"a URL that has expired is answered with {status}: compare the clocks of this machine and the store"
        )

    async def _list(self) -> None:
        names = sorted(
            (self._key(f"list/{name}") for name in ("a!b", "a-b", "a.b", "a/b", "a0", "aB", "a_b")), key=str.encode
        )
        for key in names:
            await self._store.put(key, b"")
        found = [info.key async for info in self._store.list(self._key("list/"))]
        rest = [info.key async for info in self._store.list(self._key("list/"), after=names[2], limit=2)]
        if found != names or rest != names[3:5]:
            raise _Problem("listings are not complete and in byte order, as S3 has them: use another store")

    async def _delete(self) -> None:
        await self._store.delete(self._key("created"))
        try:
            await self._store.head(self._key("created"))
        except NotFound:
            return
        raise _Problem("a deleted object is still there: look for a bucket lock or versioning, and switch it off")

    async def _write_parts(self, key: str) -> None:
        upload = await self._store.begin(key, MIN_PART_BYTES)
        try:
            whole = _whole()
            for number, start in enumerate(range(0, len(whole), MIN_PART_BYTES), 1):
                await upload.write(number, whole[start : start + MIN_PART_BYTES])
            await upload.complete(IfAbsent())
        except BaseException:
            await upload.abort()
            raise

    async def _compare(self, store: Store, key: str) -> None:
        running = hashlib.sha256()
        async with store.stream(key) as (_, pieces):
            async for piece in pieces:
                running.update(piece)
        if running.digest() != hashlib.sha256(_whole()).digest():
            raise _Problem("an object made of parts comes back changed: use another store")
