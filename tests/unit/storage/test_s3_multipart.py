"""Uploads in parts and copies in parts when answers are lost, parts fail and callers give up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from edgeproxy.storage import MIN_PART_BYTES, IfAbsent, NotFound, PreconditionFailed, StoreUnavailable
from edgeproxy.storage.s3_calls import Limits
from edgeproxy.storage.s3_multipart import enough_for
from tests.r2.stores import Watched, watched_double

MIB = 1024 * 1024


@pytest.fixture
async def s3() -> AsyncIterator[Watched]:
    async with watched_double(limits=Limits(copy_whole=10 * MIB, copy_part=5 * MIB)) as found:
        yield found


@pytest.mark.parametrize("condition", [None, IfAbsent()])
async def test_a_completion_whose_answer_was_lost_is_found_out(s3: Watched, condition: IfAbsent | None) -> None:
    upload = await s3.store.begin("a", MIN_PART_BYTES)
    await upload.write(1, bytes(MIN_PART_BYTES))
    await upload.write(2, b"end")
    s3.double.faults.add("cut-after", operation="CompleteMultipartUpload")
    info = await upload.complete(condition)
    assert info == await s3.store.head("a")
    assert s3.outcomes("CompleteMultipartUpload")[-1] == "NoSuchUpload"


@pytest.mark.parametrize(("condition", "error"), [(IfAbsent(), PreconditionFailed), (None, StoreUnavailable)])
async def test_another_s_object_is_not_taken_for_a_lost_completion(
    s3: Watched, condition: IfAbsent | None, error: type[Exception]
) -> None:
    upload = await s3.store.begin("a", MIN_PART_BYTES)
    await upload.write(1, b"mine")
    await s3.store.put("a", b"another's")
    s3.double.bucket.uploads.clear()
    s3.double.faults.add("cut-before", operation="CompleteMultipartUpload")
    with pytest.raises(error):
        await upload.complete(condition)
    assert (await s3.store.read("a", 20))[1] == b"another's"


async def test_an_upload_that_was_ended_cannot_be_completed(s3: Watched) -> None:
    upload = await s3.store.begin("a", MIN_PART_BYTES)
    await upload.write(1, b"x")
    await upload.abort()
    await upload.abort()
    with pytest.raises(StoreUnavailable, match="NoSuchUpload"):
        await upload.complete()
    assert s3.double.bucket.uploads == {}


async def test_each_part_has_its_own_attempts(s3: Watched) -> None:
    upload = await s3.store.begin("a", MIN_PART_BYTES)
    s3.double.faults.add("cut-before", operation="UploadPart", times=2)
    s3.double.faults.add("error", operation="UploadPart", skip=2, times=1)
    parts = [bytes([number]) * MIN_PART_BYTES for number in range(3)]
    await asyncio.gather(*(upload.write(number, part) for number, part in enumerate(parts, start=1)))
    await upload.complete()
    assert s3.double.bucket.get("pre/a").content() == b"".join(parts)
    assert s3.double.counters.operations["UploadPart"] == 6


async def test_parts_of_less_than_the_smallest_size_are_the_caller_s_mistake(s3: Watched) -> None:
    with pytest.raises(ValueError, match="5242880"):
        await s3.store.begin("a", MIN_PART_BYTES - 1)
    upload = await s3.store.begin("a", MIN_PART_BYTES)
    with pytest.raises(ValueError, match="part number 0"):
        await upload.write(0, b"x")
    with pytest.raises(ValueError, match="part number 10001"):
        await upload.write(10_001, b"x")
    await upload.write(10_000, b"x")


async def put_large(s3: Watched, size: int) -> bytes:
    content = bytes(range(251)) * (size // 251 + 1)
    await s3.store.put("source", content[:size], content_type="text/plain", metadata={"a": "b"})
    return content[:size]


async def test_a_large_object_is_copied_in_equal_parts(s3: Watched) -> None:
    content = await put_large(s3, 17 * MIB)
    await s3.store.copy("source", "target")
    assert s3.double.bucket.get("pre/target").content() == content
    assert s3.double.counters.operations["UploadPartCopy"] == 4
    info = await s3.store.head("target")
    assert (info.content_type, dict(info.metadata)) == ("application/octet-stream", {})


async def test_an_object_of_at_most_the_limit_is_copied_in_one_call(s3: Watched) -> None:
    content = await put_large(s3, 10 * MIB)
    await s3.store.copy("source", "target")
    assert s3.double.bucket.get("pre/target").content() == content
    assert (s3.outcomes("CopyObject"), s3.outcomes("UploadPartCopy")) == (["ok"], [])


def test_parts_grow_where_ten_thousand_would_not_do() -> None:
    assert enough_for(10_000 * 5 * MIB, 5 * MIB) == 5 * MIB
    assert enough_for(10_000 * 5 * MIB + 1, 5 * MIB) == 10 * MIB


async def test_a_copy_of_nothing_says_so(s3: Watched) -> None:
    with pytest.raises(NotFound):
        await s3.store.copy("absent", "target")
    assert s3.outcomes("CopyObject") == []


async def test_a_copy_that_fails_leaves_nothing(s3: Watched) -> None:
    await put_large(s3, 17 * MIB)
    s3.double.faults.add("error", operation="UploadPartCopy", skip=2, status=403, code="AccessDenied")
    with pytest.raises(StoreUnavailable, match="AccessDenied"):
        await s3.store.copy("source", "target")
    assert (s3.double.bucket.uploads, sorted(s3.double.bucket.objects)) == ({}, ["pre/source"])


async def test_a_copy_that_is_cancelled_leaves_nothing(s3: Watched) -> None:
    await put_large(s3, 17 * MIB)
    fault = s3.double.faults.add("latency", operation="UploadPartCopy", seconds=3600)
    copying = asyncio.create_task(s3.store.copy("source", "target"))
    await fault.struck.wait()
    copying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await copying
    assert (s3.double.bucket.uploads, sorted(s3.double.bucket.objects)) == ({}, ["pre/source"])
