"""Objects in a bucket of S3 or R2, through aiobotocore.

R2's rules bind everything here: path style, no checksum trailers, equal parts, one write a second a key (429 is waited
for). Cloudflare R2 documentation, "S3 API compatibility"; Amazon S3 API reference.
"""

from __future__ import annotations

import asyncio
import base64
import random as randomness
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, Final

from aiobotocore.session import AioSession

from edgeproxy.storage import (
    OCTETS,
    Condition,
    IfAbsent,
    IfMatch,
    NotFound,
    ObjectInfo,
    PreconditionFailed,
    Presigner,
    StoreUnavailable,
    keys,
)
from edgeproxy.storage.presign import Credentials
from edgeproxy.storage.s3_answers import described, etag_of, listed, modified_of
from edgeproxy.storage.s3_body import prepare
from edgeproxy.storage.s3_calls import ERRORS, Calls, Limits, OnCall
from edgeproxy.storage.s3_credentials import CredentialSource, S3Presigner
from edgeproxy.storage.s3_errors import InvalidRange, no_bucket
from edgeproxy.storage.s3_followed import follow_files
from edgeproxy.storage.s3_models import read_models_fast
from edgeproxy.storage.s3_multipart import COPY_SPEED, S3Multipart, begin, copy_in_parts
from edgeproxy.storage.s3_permissions import lacking_permissions
from edgeproxy.storage.s3_reads import Reads

_PIECE: Final = 1024 * 1024
_PAGE: Final = 1000


class S3Store:
    """A bucket, or the part of it under `prefix`. Implements `Store`; `open` comes before the first call.

    `endpoint` is the store's URL (None: AWS itself). Credentials come from the SDK's chain and are refreshed while
    running, unless a `session` (an `aiobotocore.session.AioSession`) or fixed `credentials` are given. `clock` gives
    seconds since the epoch, `random` numbers from 0 to 1, `sleep` waits between attempts.
    """

    def __init__(
        self,
        bucket: str,
        *,
        region: str,
        endpoint: str | None = None,
        prefix: str = "",
        credentials: Credentials | None = None,
        session: AioSession | None = None,
        limits: Limits | None = None,
        on_call: OnCall | None = None,
        clock: Callable[[], float] = time.time,
        random: Callable[[], float] = randomness.random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._own = session is None and credentials is None
        if session is None:
            session = AioSession()
            read_models_fast(session)
        if credentials is not None:
            session.set_credentials(credentials.access_key, credentials.secret_key, credentials.token)
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._region = region
        self._clock = clock
        self._session = session
        self._source = CredentialSource(session, clock)
        self._calls = Calls(
            session, bucket, endpoint, region, limits or Limits(), on_call=on_call, random=random, sleep=sleep
        )
        self._reads = Reads(
            self._calls,
            self._source,
            region=region,
            prefix=self._prefix,
            ca_bundle=session.get_config_variable("ca_bundle"),
            clock=clock,
        )

    async def open(self) -> None:
        """Make ready; sends nothing to the store."""
        if self._own:
            await follow_files(self._session, self._clock)
        await self._calls.open()
        await self._reads.open()

    async def close(self) -> None:
        """Give back connections."""
        await self._reads.close()
        await self._calls.close()

    def presigner(self, public_endpoint: str | None = None) -> Presigner:
        """Make the presigner of this bucket for clients that reach it under `public_endpoint` (default: as we do)."""
        endpoint = public_endpoint or self._calls.endpoint
        return S3Presigner(
            self._source,
            endpoint=endpoint,
            bucket=self._calls.bucket,
            region=self._region,
            prefix=self._prefix,
            clock=self._clock,
        )

    async def head(self, key: str) -> ObjectInfo:
        """Describe an object; see `Store.head`."""
        return await self._reads.head(key)

    async def read(self, key: str, limit: int) -> tuple[ObjectInfo, bytes]:
        """Read a small object; see `Store.read`."""
        return await self._reads.read(key, limit)

    def stream(
        self, key: str, start: int = 0, length: int | None = None
    ) -> AbstractAsyncContextManager[tuple[ObjectInfo, AsyncIterator[bytes]]]:
        """Open an object for reading; see `Store.stream`."""
        return self._stream(key, start, length)

    @asynccontextmanager
    async def _stream(
        self, key: str, start: int, length: int | None
    ) -> AsyncIterator[tuple[ObjectInfo, AsyncIterator[bytes]]]:
        ranged: dict[str, Any] = {}
        if start or length is not None:
            ranged["Range"] = f"bytes={start}-" if length is None else f"bytes={start}-{start + length - 1}"
        if length == 0:
            yield await self.head(key), _nothing()
            return
        try:
            answer = await self._calls.call("GetObject", self._prefix + key, **ranged)
        except InvalidRange:
            yield await self.head(key), _nothing()
            return
        body = answer["Body"]
        try:
            yield described(key, answer), _pieces(key, body, self._calls.limits.read)
        finally:
            # Ends the connection if bytes are left on it; one that was read to its end is in the pool again already.
            body.close()

    async def put(
        self,
        key: str,
        data: bytes | bytearray | memoryview,
        *,
        content_type: str = OCTETS,
        metadata: Mapping[str, str] | None = None,
        sha256: bytes | None = None,
        condition: Condition = None,
    ) -> ObjectInfo:
        """Write an object; see `Store.put`."""
        size = memoryview(data).nbytes
        parameters: dict[str, Any] = {"ContentType": content_type, "Metadata": dict(metadata or {})}
        if sha256 is not None:
            parameters["ChecksumSHA256"] = base64.b64encode(sha256).decode()
        match condition:
            case IfAbsent():
                parameters["IfNoneMatch"] = "*"
            case IfMatch(etag):
                parameters["IfMatch"] = f'"{etag}"'
            case None:
                pass
        body = await prepare(data, sign=self._calls.signs_payload, sha256=sha256)
        try:
            answer = await self._calls.call("PutObject", self._prefix + key, moves=size, Body=body, **parameters)
        except NotFound as absent:
            # What S3 says to `If-Match` on a key that has no object; R2 says 412.
            raise PreconditionFailed(str(absent)) from None
        return ObjectInfo(key, size, etag_of(answer), modified_of(answer), content_type, dict(metadata or {}))

    async def begin(self, key: str, part_size: int, *, content_type: str = OCTETS) -> S3Multipart:
        """Begin an object in parts; see `Store.begin`."""
        return await begin(self._calls, self._prefix + key, key, part_size, content_type)

    async def copy(self, source: str, target: str) -> None:
        """Copy an object; see `Store.copy`."""
        source_key, target_key = self._prefix + source, self._prefix + target
        size = (await self.head(source)).size
        if size > self._calls.limits.copy_whole:
            await copy_in_parts(self._calls, source_key, target_key, size, OCTETS)
            return
        await self._calls.call(
            "CopyObject",
            target_key,
            moves=size // COPY_SPEED,
            CopySource={"Bucket": self._calls.bucket, "Key": source_key},
            MetadataDirective="REPLACE",
            ContentType=OCTETS,
        )

    async def delete(self, key: str) -> None:
        """Remove an object; see `Store.delete`."""
        with suppress(NotFound):
            await self._calls.call("DeleteObject", self._prefix + key)

    async def list(self, prefix: str, *, after: str = "", limit: int | None = None) -> AsyncIterator[ObjectInfo]:
        """List objects; see `Store.list`."""
        left = limit
        page: dict[str, Any] = {"StartAfter": self._prefix + after} if after else {}
        while left is None or left > 0:
            size = _PAGE if left is None else min(left, _PAGE)
            answer = await self._calls.call("ListObjectsV2", Prefix=self._prefix + prefix, MaxKeys=size, **page)
            entries = answer.get("Contents", [])
            for entry in entries if left is None else entries[:left]:
                yield listed(entry["Key"].removeprefix(self._prefix), entry)
            if not answer.get("IsTruncated"):
                return
            left = None if left is None else left - len(entries)
            page = {"ContinuationToken": answer["NextContinuationToken"]}

    async def check(self) -> None:
        """Prove that the bucket answers; see `Store.check`."""
        try:
            await self._calls.call("HeadBucket")
        except NotFound:
            # The answer to a HEAD has no body, so the store could not say which of the two is missing.
            raise no_bucket() from None

    async def lacking(self) -> tuple[str, ...]:
        """Find what is not permitted; see `Store.lacking`."""
        return await lacking_permissions(self._calls, f"{self._prefix}{keys.UPLOADS}check-permissions")


@asynccontextmanager
async def open_s3(bucket: str, **options: Any) -> AsyncIterator[S3Store]:
    """Open an `S3Store` for the length of a block; options as its constructor has them."""
    store = S3Store(bucket, **options)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def _pieces(key: str, body: Any, seconds: float) -> AsyncIterator[bytes]:
    """Read on, each piece within its own time."""
    while True:
        try:
            async with asyncio.timeout(seconds):
                piece = await body.read(_PIECE)
        except ERRORS as error:
            raise StoreUnavailable(f"GetObject {key}: the connection broke ({type(error).__name__})") from None
        if not piece:
            return
        yield piece


async def _nothing() -> AsyncIterator[bytes]:
    nothing: tuple[bytes, ...] = ()
    for piece in nothing:
        yield piece
