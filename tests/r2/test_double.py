"""The double refuses what R2 refuses, each rule beside what it allows one step away, and does the harm it is asked to do."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore.exceptions import BotoCoreError, ClientError

from tests.r2.app import ACCESS_KEY, SECRET_KEY
from tests.r2.certificates import loopback_tls
from tests.r2.objects import Piece, cut
from tests.r2.rules import MIN_PART_BYTES
from tests.r2.running import RunningDouble, running_double

BUCKET = "registry"


class Clock:
    """A clock that is moved by hand; signatures need one near the real time."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def sdk(running: RunningDouble, verify: str | None = None, **config: Any) -> AsyncIterator[Any]:
    """The SDK's client as it is, with checksums as given: by default the ones that R2 takes."""
    checksums = {"request_checksum_calculation": "when_required", "response_checksum_validation": "when_required"}
    options = AioConfig(
        signature_version="s3v4",
        retries={"total_max_attempts": 1},
        s3={"addressing_style": "path"},
        **(checksums | config),
    )
    async with AioSession().create_client(
        "s3",
        endpoint_url=running.endpoint,
        region_name="auto",
        verify=verify,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        config=options,
    ) as client:
        yield client


@pytest.fixture
async def running() -> AsyncIterator[RunningDouble]:
    async with running_double(bucket=BUCKET, write_interval=None) as found:
        yield found


@pytest.fixture
async def client(running: RunningDouble) -> AsyncIterator[Any]:
    async with sdk(running) as found:
        yield found


@contextmanager
def refused(status: int, code: str) -> Iterator[None]:
    with pytest.raises(ClientError) as error:
        yield
    response = error.value.response
    assert (response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]) == (status, code)


async def put(client: Any, key: str = "k", body: Any = b"x", **options: Any) -> Any:
    return await client.put_object(Bucket=BUCKET, Key=key, Body=body, **options)


async def upload(client: Any, *sizes: int, key: str = "big", **condition: str) -> Any:
    """Upload parts of these sizes and complete."""
    identifier = (await client.create_multipart_upload(Bucket=BUCKET, Key=key))["UploadId"]
    parts = []
    for number, size in enumerate(sizes, start=1):
        answer = await client.upload_part(
            Bucket=BUCKET, Key=key, UploadId=identifier, PartNumber=number, Body=bytes([number]) * size
        )
        parts.append({"PartNumber": number, "ETag": answer["ETag"]})
    return await client.complete_multipart_upload(
        Bucket=BUCKET, Key=key, UploadId=identifier, MultipartUpload={"Parts": parts}, **condition
    )


async def test_parts_are_equal_but_for_a_last_one_that_is_not_larger(client: Any, running: RunningDouble) -> None:
    six = 6 * 1024 * 1024
    with refused(400, "InvalidPart"):
        await upload(client, six, MIN_PART_BYTES, 10)
    with refused(400, "InvalidPart"):
        await upload(client, MIN_PART_BYTES, six)
    assert "big" not in running.double.bucket.objects
    await upload(client, six, six, 10)
    assert running.double.bucket.get("big").size == 2 * six + 10


async def test_parts_but_the_last_have_five_mebibytes(client: Any) -> None:
    with refused(400, "EntityTooSmall"):
        await upload(client, MIN_PART_BYTES - 1, 10)
    await upload(client, MIN_PART_BYTES, 10)


async def test_copied_parts_are_equal_too(client: Any, running: RunningDouble) -> None:
    await upload(client, MIN_PART_BYTES, MIN_PART_BYTES, MIN_PART_BYTES, key="source")

    async def copied(*ranges: tuple[int, int]) -> None:
        identifier = (await client.create_multipart_upload(Bucket=BUCKET, Key="target"))["UploadId"]
        parts = []
        for number, (start, end) in enumerate(ranges, start=1):
            answer = await client.upload_part_copy(
                Bucket=BUCKET,
                Key="target",
                UploadId=identifier,
                PartNumber=number,
                CopySource={"Bucket": BUCKET, "Key": "source"},
                CopySourceRange=f"bytes={start}-{end}",
            )
            parts.append({"PartNumber": number, "ETag": answer["CopyPartResult"]["ETag"]})
        await client.complete_multipart_upload(
            Bucket=BUCKET, Key="target", UploadId=identifier, MultipartUpload={"Parts": parts}
        )

    part, total = MIN_PART_BYTES, 3 * MIN_PART_BYTES
    with refused(400, "InvalidPart"):
        await copied((0, part), (part + 1, 2 * part), (2 * part + 1, total - 1))
    await copied((0, part - 1), (part, 2 * part - 1), (2 * part, total - 1))
    bucket = running.double.bucket
    assert bucket.get("target").content() == bucket.get("source").content()
    with refused(400, "InvalidArgument"):
        await copied((0, total))


async def test_a_source_condition_is_for_whole_copies_only(client: Any) -> None:
    await put(client, "source")
    source = {"Bucket": BUCKET, "Key": "source"}
    identifier = (await client.create_multipart_upload(Bucket=BUCKET, Key="t"))["UploadId"]
    with refused(501, "NotImplemented"):
        await client.upload_part_copy(
            Bucket=BUCKET, Key="t", UploadId=identifier, PartNumber=1, CopySource=source, CopySourceIfMatch="x"
        )
    with refused(412, "PreconditionFailed"):
        await client.copy_object(Bucket=BUCKET, Key="t", CopySource=source, CopySourceIfMatch="x")
    await client.copy_object(Bucket=BUCKET, Key="t", CopySource=source)


async def test_a_completion_whose_condition_fails_ends_the_upload(client: Any, running: RunningDouble) -> None:
    await put(client, "big", b"before")
    with refused(412, "PreconditionFailed"):
        await upload(client, 10, IfNoneMatch="*")
    assert running.double.bucket.uploads == {}
    assert running.double.bucket.get("big").content() == b"before"
    await client.delete_object(Bucket=BUCKET, Key="big")
    await upload(client, 10, IfNoneMatch="*")


async def test_conditional_writes_compare_with_what_is_there(client: Any) -> None:
    etag = (await put(client, IfNoneMatch="*"))["ETag"]
    with refused(412, "PreconditionFailed"):
        await put(client, body=b"y", IfNoneMatch="*")
    with refused(412, "PreconditionFailed"):
        await put(client, body=b"y", IfMatch='"another"')
    await put(client, body=b"y", IfMatch=etag)
    with refused(412, "PreconditionFailed"):
        await put(client, "absent", IfMatch=etag)


async def test_a_key_takes_one_write_a_second() -> None:
    clock = Clock(time.time())
    async with running_double(bucket=BUCKET, clock=clock) as running, sdk(running) as client:
        await put(client)
        clock.now += 0.9
        with refused(429, "TooManyRequests"):
            await put(client)
        await put(client, "another")
        clock.now += 0.1
        await put(client)


async def test_the_sdk_s_own_checksum_trailers_are_refused(tmp_path: Path) -> None:
    # Over http the SDK sends no trailers, whatever it is told.
    context, trusted = loopback_tls(tmp_path)
    async with running_double(bucket=BUCKET, tls=context) as running:
        counters = running.double.counters
        async with sdk(running, str(trusted), request_checksum_calculation="when_supported") as client:
            with refused(401, "Unauthorized"):
                await put(client, body=io.BytesIO(b"x"))
        assert counters.trailers == 1
        async with sdk(running, str(trusted)) as client:
            await put(client, body=io.BytesIO(b"x"))
        assert counters.trailers == 1


async def test_a_checksum_is_compared_with_the_body(client: Any, running: RunningDouble) -> None:
    right = base64.b64encode(hashlib.sha256(b"x").digest()).decode()
    with refused(400, "BadDigest"):
        await put(client, body=b"y", ChecksumSHA256=right)
    assert running.double.bucket.objects == {}
    await put(client, body=b"x", ChecksumSHA256=right)


async def test_keys_and_metadata_have_their_limits(client: Any) -> None:
    with refused(400, "KeyTooLongError"):
        await put(client, "k" * 1025)
    await put(client, "k" * 1024)
    with refused(400, "MetadataTooLarge"):
        await put(client, Metadata={"a": "x" * 4095, "b": "x" * 4096})
    # Each header line is as long as clients read.
    most = {"a": "x" * 4095, "b": "x" * 4095}
    await put(client, Metadata=most)
    assert (await client.head_object(Bucket=BUCKET, Key="k"))["Metadata"] == most


async def test_what_r2_has_not_is_not_implemented(client: Any) -> None:
    await put(client)
    with refused(501, "NotImplemented"):
        await client.get_object_acl(Bucket=BUCKET, Key="k")
    with refused(501, "NotImplemented"):
        await client.get_object_tagging(Bucket=BUCKET, Key="k")
    with refused(501, "NotImplemented"):
        await client.list_object_versions(Bucket=BUCKET)
    with refused(501, "NotImplemented"):
        await put(client, ACL="public-read")


async def test_response_overrides_are_ignored(client: Any) -> None:
    await put(client, ContentType="text/plain")
    answer = await client.get_object(Bucket=BUCKET, Key="k", ResponseContentType="text/html")
    assert (answer["ContentType"], await answer["Body"].read()) == ("text/plain", b"x")


async def test_another_bucket_is_not_there(client: Any) -> None:
    with refused(404, "NoSuchBucket"):
        await client.list_objects_v2(Bucket="another")
    assert (await client.list_objects_v2(Bucket=BUCKET))["KeyCount"] == 0


@pytest.mark.parametrize("status", [400, 403])
async def test_the_status_of_an_expired_url_is_configurable(status: int) -> None:
    async with running_double(bucket=BUCKET, expired_status=status) as running, sdk(running) as client:
        url = await client.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": "k"}, ExpiresIn=60)
        await put(client)
        async with aiohttp.ClientSession() as http:
            assert (await http.get(url)).status == 200
            running.double.clock = Clock(running.double.clock() + 61)
            assert (await http.get(url)).status == status


async def test_a_listing_is_in_byte_order_and_pages_hold_what_they_are_asked_for(client: Any) -> None:
    keys = ["a", "a b+c", "a!", "a-b/c", "a/b", "aB", "ab", "ü%/&<"]
    for key in reversed(keys):
        await put(client, key)
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, PaginationConfig={"PageSize": 3})
    found = [[entry["Key"] for entry in page["Contents"]] async for page in pages]
    expected = sorted(keys, key=str.encode)
    assert found == [expected[:3], expected[3:6], expected[6:]]
    after = await client.list_objects_v2(Bucket=BUCKET, Prefix="a", StartAfter="a-b")
    assert [entry["Key"] for entry in after["Contents"]] == ["a-b/c", "a/b", "aB", "ab"]


async def test_operations_are_counted_by_class_and_bytes_by_direction(client: Any, running: RunningDouble) -> None:
    await put(client, body=b"12345")
    await (await client.get_object(Bucket=BUCKET, Key="k"))["Body"].read()
    await client.head_object(Bucket=BUCKET, Key="k")
    with refused(412, "PreconditionFailed"):
        await put(client, IfNoneMatch="*")
    await client.list_objects_v2(Bucket=BUCKET)
    await client.delete_object(Bucket=BUCKET, Key="k")
    counters = running.double.counters
    assert counters.billed() == {"A": 3, "B": 2, "free": 1}
    assert counters.operations["PutObject"] == 2
    assert counters.received == 6
    assert counters.refused == {"PreconditionFailed": 1}
    counters.reset()
    assert (counters.total, counters.sent) == (0, 0)


async def test_a_fault_hits_the_call_it_is_planned_for(client: Any, running: RunningDouble) -> None:
    running.double.faults.add("error", operation="PutObject", key="hit/*", skip=1, status=503, code="SlowDown")
    await put(client, "other")
    await put(client, "hit/1")
    with refused(503, "SlowDown"):
        await put(client, "hit/2")
    await put(client, "hit/3")
    assert "hit/2" not in running.double.bucket.objects


async def test_a_seed_repeats_a_run_of_faults() -> None:
    async def run(seed: int) -> list[bool]:
        async with running_double(bucket=BUCKET, write_interval=None, seed=seed) as running:
            faults = running.double.faults
            faults.add("error", times=None, probability=0.5)
            return [bool(faults.strike("PutObject", "k")) for _ in range(40)]

    assert await run(1) == await run(1) != await run(2)


@pytest.mark.parametrize(("effect", "written"), [("cut-before", False), ("cut-after", True)])
async def test_a_connection_is_cut_before_or_after_the_write(
    client: Any, running: RunningDouble, effect: Any, written: bool
) -> None:
    running.double.faults.add(effect, operation="CompleteMultipartUpload")
    with pytest.raises(BotoCoreError):
        await upload(client, 10)
    assert ("big" in running.double.bucket.objects) is written


async def test_a_body_is_cut_in_the_middle(client: Any, running: RunningDouble) -> None:
    await put(client, body=b"x" * 100_000)
    running.double.faults.add("cut-body", operation="GetObject")
    answer = await client.get_object(Bucket=BUCKET, Key="k")
    async with answer["Body"] as body:
        with pytest.raises((aiohttp.ClientError, BotoCoreError)):
            await body.read()
    assert len(await (await client.get_object(Bucket=BUCKET, Key="k"))["Body"].read()) == 100_000


def test_pieces_are_cut_without_copying() -> None:
    pieces = (Piece(b"abcde", 0, 5), Piece(b"fghij", 1, 4))
    for start in range(9):
        for size in range(10 - start):
            found = b"".join(block for piece in cut(pieces, start, size) for block in piece.read(0, piece.size))
            assert found == b"abcdeghij"[start : start + size]


async def test_large_bodies_leave_no_file_behind(client: Any, running: RunningDouble) -> None:
    def files() -> int:
        return len(list(running.double._folder.iterdir()))

    await put(client, body=b"x" * 1_000_000)
    assert files() == 1
    await client.delete_object(Bucket=BUCKET, Key="k")
    assert files() == 0


async def test_as_a_process_it_is_told_what_to_do_over_its_control_endpoint() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.r2", "--bucket", "b", stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        about = json.loads(await process.stdout.readline())
        async with aiohttp.ClientSession() as http:
            fault = {"effect": "error", "operation": "HeadBucket", "status": 500}
            assert (await http.post(f"{about['control']}/faults", json=fault)).status == 200
            assert (await http.post(f"{about['control']}/faults", json={"effect": "error", "no": 1})).status == 400
            assert (await http.get(about["endpoint"] + "/b/k")).status == 403
            counted = await (await http.get(f"{about['control']}/counters")).json()
            assert counted["refused"] == {"AccessDenied": 1}
            planned = await (await http.get(f"{about['control']}/faults")).json()
            assert [fault["operation"] for fault in planned] == ["HeadBucket"]
    finally:
        process.terminate()
        assert await process.wait() == 0
