"""How the S3 store calls: attempts, waits, deadlines, errors, connections. What it does for its users is in the contract suite."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from edgeproxy.storage import Corrupt, IfAbsent, NotFound, PreconditionFailed, StoreError, StoreUnavailable
from edgeproxy.storage.presign import Credentials
from edgeproxy.storage.s3 import S3Store
from edgeproxy.storage.s3_calls import Limits
from tests.r2.app import ACCESS_KEY
from tests.r2.certificates import loopback_tls
from tests.r2.running import running_double
from tests.r2.stores import Watched, watched, watched_double

MIB = 1024 * 1024


@pytest.fixture
async def s3() -> AsyncIterator[Watched]:
    async with watched_double() as found:
        yield found


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (500, "InternalError"),
        (503, "ServiceUnavailable"),
        (400, "RequestTimeout"),
        (409, "ExistingObjectIsDirectory"),  # versitygw, while a neighbour is deleted
    ],
)
async def test_trouble_that_passes_is_tried_again(s3: Watched, status: int, code: str) -> None:
    s3.double.faults.add("error", times=3, status=status, code=code)
    await s3.store.put("a", b"x")
    assert s3.outcomes("PutObject") == [code, code, code, "ok"]
    assert len(s3.waits) == 3
    assert all(0 < wait <= 2 for wait in s3.waits)


async def test_waits_grow_and_vary() -> None:
    for share, expected in ((0.0, [2 / 30, 4 / 30, 8 / 30]), (1.0, [0.1, 0.2, 0.4])):
        async with watched_double(random=lambda share=share: share) as s3:
            s3.double.faults.add("error", times=3)
            await s3.store.put("a", b"x")
            assert s3.waits == pytest.approx(expected)


async def test_a_store_that_stays_broken_is_unavailable_after_the_last_attempt() -> None:
    async with watched_double(limits=Limits(attempts=4)) as s3:
        s3.double.faults.add("error", times=None)
        with pytest.raises(StoreUnavailable, match="PutObject pre/a: the store answered 500 InternalError"):
            await s3.store.put("a", b"x")
        assert s3.double.counters.operations["PutObject"] == 4
        s3.double.faults.clear()
        await s3.store.put("a", b"x")


async def test_a_second_write_of_a_key_waits_about_a_second() -> None:
    async with running_double() as running:
        real = running.double.clock
        passed = 0.0
        running.double.clock = lambda: real() + passed

        async def sleep(seconds: float) -> None:
            nonlocal passed
            passed += seconds

        async with watched(running, sleep=sleep) as s3:
            await s3.store.put("a", b"1")
            await s3.store.put("a", b"2")
            assert s3.outcomes("PutObject") == ["ok", "TooManyRequests", "ok"]
            assert 1.0 <= passed <= 1.5


async def test_the_next_wait_is_not_begun_if_the_deadline_would_pass() -> None:
    async with watched_double(limits=Limits(deadline=0.9, slow_down=1.0)) as s3:
        s3.double.faults.add("error", times=None, status=429, code="TooManyRequests")
        with pytest.raises(StoreUnavailable, match="429 TooManyRequests"):
            await s3.store.delete("a")
        assert (s3.outcomes("DeleteObject"), s3.waits) == (["TooManyRequests"], [])


async def test_a_store_that_hangs_is_given_up_at_the_deadline() -> None:
    async with watched_double(limits=Limits(deadline=0.1)) as s3:
        s3.double.faults.add("latency", seconds=3600)
        with pytest.raises(StoreUnavailable, match="HeadObject pre/a: not done within the deadline"):
            await s3.store.head("a")
        assert s3.outcomes("HeadObject") == ["cancelled"]


async def test_an_attempt_that_hangs_is_followed_by_another(s3: Watched) -> None:
    async with watched(s3.running, limits=Limits(read=1.0)) as hasty:
        hasty.double.faults.add("latency", seconds=3600)
        await hasty.store.put("a", b"")
        assert hasty.outcomes("PutObject") == ["TimeoutError", "ok"]


async def test_a_connection_cut_before_the_write_is_no_failure(s3: Watched) -> None:
    s3.double.faults.add("cut-before", operation="PutObject")
    await s3.store.put("a", b"x", condition=IfAbsent())
    assert s3.double.counters.operations["PutObject"] == 2


async def test_a_conditional_write_whose_answer_was_lost_finds_its_own_object(s3: Watched) -> None:
    s3.double.faults.add("cut-after", operation="PutObject")
    with pytest.raises(PreconditionFailed):
        await s3.store.put("a", b"mine", condition=IfAbsent())
    assert (await s3.store.read("a", 10))[1] == b"mine"
    assert s3.double.counters.operations["PutObject"] == 2


async def test_a_conflict_of_conditional_writes_is_tried_again(s3: Watched) -> None:
    s3.double.faults.add("error", status=409, code="ConditionalRequestConflict")
    await s3.store.put("a", b"x", condition=IfAbsent())
    s3.double.faults.add("error", times=None, status=409, code="ConditionalRequestConflict")
    with pytest.raises(PreconditionFailed):
        await s3.store.put("b", b"x", condition=IfAbsent())


async def test_a_store_that_is_not_there_is_unavailable() -> None:
    async with running_double() as running:
        endpoint = running.endpoint
    async with watched(running, endpoint=endpoint, limits=Limits(attempts=2)) as s3:
        with pytest.raises(StoreUnavailable, match="EDGEPROXY_STORE"):
            await s3.store.check()
        assert len(s3.outcomes("HeadBucket")) == 2


@pytest.mark.parametrize(
    ("status", "code", "advice"),
    [
        (403, "AccessDenied", "Object Read & Write"),
        (403, "SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY"),
        (403, "InvalidAccessKeyId", "AWS_ACCESS_KEY_ID"),
        (400, "ExpiredToken", "session token has expired"),
        (403, "RequestTimeTooSkewed", "clocks"),
        (404, "NoSuchBucket", "the bucket does not exist"),
        (400, "AuthorizationHeaderMalformed", "region"),
        (501, "NotImplemented", "does not implement"),
    ],
)
async def test_a_refusal_is_final_and_says_what_to_look_at(s3: Watched, status: int, code: str, advice: str) -> None:
    s3.double.faults.add("error", times=None, status=status, code=code)
    with pytest.raises(StoreUnavailable, match=advice) as error:
        await s3.store.put("a", b"x")
    assert f"PutObject pre/a: the store answered {status} {code}" in str(error.value)
    assert s3.outcomes("PutObject") == [code]


async def test_a_missing_bucket_is_not_a_missing_object(s3: Watched) -> None:
    await s3.store.check()
    async with watched(s3.running) as other:
        other.double.name = "another"
        with pytest.raises(StoreUnavailable, match="bucket does not exist"):
            await other.store.check()
        with pytest.raises(StoreUnavailable, match="bucket does not exist"):
            await other.store.read("a", 1)


async def test_secrets_are_in_no_error_and_no_repr(s3: Watched, caplog: pytest.LogCaptureFixture) -> None:
    wrong = Credentials(ACCESS_KEY, "a-wrong-secret", "a-session-token")
    calls: list[Callable[[S3Store], Any]] = [
        lambda store: store.head("a"),
        lambda store: store.put("a", b"x"),
        lambda store: store.read("a", 1),
        lambda store: store.check(),
        lambda store: store.copy("a", "b"),
    ]
    async with watched(s3.running, credentials=wrong) as forger:
        for call in calls:
            with pytest.raises(StoreError) as error:
                await call(forger.store)
            shown = f"{error.value} {error.value!r} {caplog.text} {forger.store!r} {wrong!r}"
            assert not any(secret in shown for secret in ("a-wrong-secret", "a-session-token", "Signature="))
            # The library's exception, which knows more, is not shown with ours.
            assert error.value.__cause__ is None


async def test_a_cancelled_call_leaves_the_store_usable(s3: Watched) -> None:
    fault = s3.double.faults.add("latency", seconds=3600)
    call = asyncio.create_task(s3.store.put("a", bytes(3 * MIB)))
    await fault.struck.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await s3.store.put("a", b"x")
    assert s3.outcomes("PutObject") == ["cancelled", "ok"]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda data: memoryview(data).cast("I")])
@pytest.mark.parametrize("size", [0, 4, 3 * MIB])
async def test_every_kind_of_bytes_is_sent_whole(s3: Watched, kind: Callable[[bytes], Any], size: int) -> None:
    data = (bytes(range(256)) * (size // 256 + 1))[:size]
    stored = await s3.store.put("a", kind(data), sha256=hashlib.sha256(data).digest())
    assert (stored.size, s3.double.bucket.get("pre/a").content()) == (size, data)


async def test_large_bodies_are_sent_again_from_their_beginning(s3: Watched) -> None:
    data = bytes(range(256)) * (4 * 4096)
    s3.double.faults.add("cut-after", operation="PutObject", times=2)
    await s3.store.put("a", bytearray(data))
    assert s3.double.bucket.get("pre/a").content() == data


async def test_no_checksum_trailer_is_ever_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Only over https does the SDK send any.
    context, trusted = loopback_tls(tmp_path)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(trusted))
    limits = Limits(copy_whole=6 * MIB, copy_part=5 * MIB)
    async with running_double(tls=context, write_interval=None) as running, watched(running, limits=limits) as s3:
        data = bytes(2 * MIB)
        await s3.store.put("a", data, sha256=hashlib.sha256(data).digest(), condition=IfAbsent())
        with pytest.raises(Corrupt):
            await s3.store.put("b", data, sha256=hashlib.sha256(b"").digest())
        upload = await s3.store.begin("big", 5 * MIB)
        await upload.write(1, memoryview(bytes(5 * MIB)))
        await upload.write(2, bytearray(5 * MIB))
        await upload.complete(IfAbsent())
        await s3.store.copy("a", "c")
        await s3.store.copy("big", "d")
        assert (await s3.store.read("c", 2 * MIB))[1] == data
        assert [info.key async for info in s3.store.list("")] == ["a", "big", "c", "d"]
        await s3.store.delete("a")
        counters = running.double.counters
        assert (counters.trailers, dict(counters.refused)) == (0, {"BadDigest": 1})
        assert {"PutObject", "UploadPart", "CopyObject", "UploadPartCopy"} <= set(counters.operations)


async def test_the_store_itself_compares_the_hash_of_a_put(s3: Watched) -> None:
    with pytest.raises(Corrupt):
        await s3.store.put("a", b"x", sha256=hashlib.sha256(b"y").digest())
    assert s3.double.bucket.objects == {}
    await s3.store.put("a", b"x", sha256=hashlib.sha256(b"x").digest())


async def test_a_stream_read_to_its_end_gives_its_connection_back(s3: Watched) -> None:
    await s3.store.put("a", bytes(3 * MIB))
    for _ in range(5):
        async with s3.store.stream("a") as (_, pieces):
            assert sum([len(piece) async for piece in pieces]) == 3 * MIB
    assert s3.running.connections.opened == 1


async def test_a_stream_left_early_holds_no_connection(s3: Watched) -> None:
    await s3.store.put("a", bytes(20 * MIB))
    for _ in range(5):
        async with s3.store.stream("a") as (_, pieces):
            assert await anext(pieces)
    with pytest.raises(RuntimeError, match="of the reader"):
        async with s3.store.stream("a"):
            raise RuntimeError("of the reader")
    await s3.double.idle.wait()
    assert s3.running.connections.open <= 1


async def test_a_stream_that_is_cut_is_unavailable(s3: Watched) -> None:
    await s3.store.put("a", bytes(3 * MIB))
    s3.double.faults.add("cut-body", operation="GetObject")
    async with s3.store.stream("a") as (_, pieces):
        with pytest.raises(StoreUnavailable, match="the connection broke"):
            async for _ in pieces:
                pass
    assert s3.double.counters.operations["GetObject"] == 1


async def test_a_small_read_that_is_cut_is_tried_again(s3: Watched) -> None:
    await s3.store.put("a", b"0123456789" * 10_000)
    s3.double.faults.add("cut-body", operation="GetObject")
    assert len((await s3.store.read("a", MIB))[1]) == 100_000
    assert s3.double.counters.operations["GetObject"] == 2


async def test_a_listing_asks_for_pages_of_what_is_wanted(s3: Watched) -> None:
    keys = [f"k/{number:04d} +%2F" for number in range(2100)]
    for key in keys:
        s3.double.bucket.put(f"pre/{key}", s3.double.bucket.objects.get("none") or _stored())
    assert [info.key async for info in s3.store.list("k/")] == keys
    assert s3.double.counters.operations["ListObjectsV2"] == 3
    s3.double.counters.reset()
    assert [info.key async for info in s3.store.list("k/", after=keys[9], limit=5)] == keys[10:15]
    assert [info.key async for info in s3.store.list("k/", limit=0)] == []
    assert s3.double.counters.operations["ListObjectsV2"] == 1


def _stored() -> Any:
    from tests.r2.objects import Stored

    return Stored((), "0" * 32, 1_800_000_000.0)


async def test_one_object_costs_one_call(s3: Watched) -> None:
    await s3.store.put("a", b"x")
    await s3.store.head("a")
    await s3.store.read("a", 1)
    await s3.store.delete("a")
    with pytest.raises(NotFound):
        await s3.store.head("a")
    assert s3.attempts == [
        ("PutObject", "ok"),
        ("HeadObject", "ok"),
        ("GetObject", "ok"),
        ("DeleteObject", "ok"),
        ("HeadObject", "404"),
    ]
