"""Objects in parts: uploads and server-side copies. R2's rule: all parts but the last have the same size."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

from edgeproxy.storage import (
    MAX_PARTS,
    MIN_PART_BYTES,
    IfAbsent,
    ObjectInfo,
    PreconditionFailed,
    StoreError,
)
from edgeproxy.storage.s3_answers import etag_of, modified_of
from edgeproxy.storage.s3_body import prepare
from edgeproxy.storage.s3_calls import Answer, Calls

COPY_SPEED: Final = 64
"""How much faster the store is expected to copy on its own than bytes travel to it."""


class S3Multipart:
    """One multipart upload, on a key that has its prefix. Implements `Multipart`.

    `visible_key` is the key as the store's users know it, `expected_etag` what `complete` is known by afterwards.
    """

    def __init__(self, calls: Calls, key: str, visible_key: str, upload: str, content_type: str) -> None:
        self._calls = calls
        self._key = key
        self._visible_key = visible_key
        self._upload = upload
        self._content_type = content_type
        self._etags: dict[int, str] = {}
        self._sizes: dict[int, int] = {}

    async def write(self, number: int, data: bytes | bytearray | memoryview) -> None:
        """Write one part; see `Multipart.write`."""
        if not 1 <= number <= MAX_PARTS:
            raise ValueError(f"part number {number} is not within 1 and {MAX_PARTS}")
        size = memoryview(data).nbytes
        body = await prepare(data, sign=self._calls.signs_payload)
        answer = await self._calls.call(
            "UploadPart", self._key, moves=size, UploadId=self._upload, PartNumber=number, Body=body
        )
        self._etags[number], self._sizes[number] = etag_of(answer), size

    async def copy(self, number: int, source: str, start: int, size: int) -> None:
        """Write one part from the bytes of another object of the bucket (a key that has its prefix)."""
        answer = await self._calls.call(
            "UploadPartCopy",
            self._key,
            moves=size // COPY_SPEED,
            UploadId=self._upload,
            PartNumber=number,
            CopySource={"Bucket": self._calls.bucket, "Key": source},
            CopySourceRange=f"bytes={start}-{start + size - 1}",
        )
        self._etags[number], self._sizes[number] = etag_of(answer["CopyPartResult"]), size

    async def complete(self, condition: IfAbsent | None = None) -> ObjectInfo:
        """Make the object visible; see `Multipart.complete`."""
        parts = [{"PartNumber": number, "ETag": f'"{etag}"'} for number, etag in sorted(self._etags.items())]
        conditions: dict[str, Any] = {} if condition is None else {"IfNoneMatch": "*"}

        async def settle() -> Answer | None:
            return await self._settle(condition)

        try:
            answer = await self._calls.call(
                "CompleteMultipartUpload",
                self._key,
                settle=settle,
                UploadId=self._upload,
                MultipartUpload={"Parts": parts},
                **conditions,
            )
        except PreconditionFailed:
            # R2 has ended the upload; other stores keep it until it is aborted.
            await self.abort()
            raise
        return ObjectInfo(
            self._visible_key, sum(self._sizes.values()), etag_of(answer), modified_of(answer), self._content_type
        )

    async def _settle(self, condition: IfAbsent | None) -> Answer | None:
        """Find out whether an earlier completion took effect.

        The etag of an object in parts is made of those of its parts.
        """
        answer = await self._calls.call("HeadObject", self._key)
        digests = b"".join(bytes.fromhex(etag) for _, etag in sorted(self._etags.items()) if _is_md5(etag))
        expected = f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(self._etags)}"
        if etag_of(answer) == expected:
            return answer
        if condition is not None:
            raise PreconditionFailed(f"CompleteMultipartUpload {self._key}")
        return None

    async def abort(self) -> None:
        """Drop the parts; best effort, as the store's own rule drops what is left of abandoned uploads."""
        with suppress(StoreError):
            await self._calls.call("AbortMultipartUpload", self._key, UploadId=self._upload)


async def begin(calls: Calls, key: str, visible_key: str, part_size: int, content_type: str) -> S3Multipart:
    """Begin a multipart upload.

    Raises:
        ValueError: the parts are too small.
        StoreUnavailable: after all retries.

    """
    if part_size < MIN_PART_BYTES:
        raise ValueError(f"parts have at least {MIN_PART_BYTES} bytes, not {part_size}")
    answer = await calls.call("CreateMultipartUpload", key, ContentType=content_type)
    return S3Multipart(calls, key, visible_key, answer["UploadId"], content_type)


def enough_for(size: int, part: int) -> int:
    """Double the size of parts until `MAX_PARTS` of them hold `size` bytes."""
    while part * MAX_PARTS < size:
        part *= 2
    return part


async def copy_in_parts(calls: Calls, source: str, target: str, size: int, content_type: str) -> None:
    """Copy a large object in equal parts, several at a time; on failure or cancellation nothing is left.

    Keys have their prefix.

    Raises:
        NotFound: the source is gone.
        StoreUnavailable: a part or the completion failed after its retries.

    """
    part = enough_for(size, calls.limits.copy_part)
    upload = await begin(calls, target, target, part, content_type)
    try:
        await _in_parallel(
            [
                lambda number=number, start=start: upload.copy(number, source, start, min(part, size - start))  # type: ignore[misc]
                for number, start in enumerate(range(0, size, part), start=1)
            ],
            calls.limits.copy_parallel,
        )
        await upload.complete()
    except BaseException:
        # Cancelled or failed: the caller must not wait for the store again, but the parts must go.
        await asyncio.shield(upload.abort())
        raise


async def _in_parallel(jobs: list[Callable[[], Awaitable[None]]], width: int) -> None:
    """Run jobs, `width` at a time, until all are done or one fails; then raise what that one raised."""
    waiting = iter(jobs)

    async def work() -> None:
        for job in waiting:
            await job()

    workers = [asyncio.ensure_future(work()) for _ in range(min(width, len(jobs)))]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


def _is_md5(etag: str) -> bool:
    return len(etag) == 32 and all(character in "0123456789abcdef" for character in etag)
