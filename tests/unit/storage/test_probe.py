"""`check` on stores that do what they must, and on stores with one fault each."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import httpx2
import orjson
import pytest
from yarl import URL

from edgeproxy.storage import (
    OCTETS,
    Condition,
    IfAbsent,
    IfMatch,
    ObjectInfo,
    PreconditionFailed,
    PresignedURL,
    Presigner,
    Store,
    StoreUnavailable,
    keys,
)
from edgeproxy.storage.file_presign import FilePresigner, url_signing_key
from edgeproxy.storage.filesystem import FilesystemStore
from edgeproxy.storage.probe import CheckResult, Get, Unreachable, probe
from edgeproxy.storage.s3 import open_s3
from edgeproxy.storage.s3_calls import Limits
from edgeproxy.storage.served import served_app
from edgeproxy.storage.startup import layout_problem, startup_problems
from tests.r2.running import running_double

STEPS = [
    "write and read",
    "checksum on write",
    "conditional create",
    "conditional replace",
    "multipart with equal parts",
    "conditional completion",
    "part copy",
    "presigned GET",
    "refused forged GET",
    "refused expired GET",
    "list",
    "delete",
]


class Aged:
    """Signs what is to expire at once as if that were long ago, so that nobody has to wait for it."""

    def __init__(self, now: Presigner, past: Presigner) -> None:
        self._now = now
        self._past = past

    async def presign(self, key: str, seconds: int) -> PresignedURL:
        return await (self._past if seconds == 1 else self._now).presign(key, seconds)

    def presign_now(self, key: str, seconds: int) -> PresignedURL | None:
        return (self._past if seconds == 1 else self._now).presign_now(key, seconds)


async def no_sleep(_seconds: float) -> None:
    pass


async def probed(store: Store, presigner: Presigner, get: Get, copying: Store | None = None) -> list[CheckResult]:
    return [result async for result in probe(store, copying or store, presigner, get, name="x", sleep=no_sleep)]


async def problems(
    store: FilesystemStore, root: Path, *, wrong_url: bool = False, open_to_all: bool = False
) -> dict[str, str]:
    """Probe a filesystem store and give the steps that failed."""
    key = url_signing_key(root)
    endpoint = "http://store.test" + ("/elsewhere" if wrong_url else "")
    presigner = Aged(FilePresigner(endpoint, key, time.time), FilePresigner(endpoint, key, lambda: time.time() - 3600))
    transport = httpx2.ASGITransport(app=served_app(store, key, time.time))
    async with httpx2.AsyncClient(transport=transport) as client:

        async def get(url: str) -> tuple[int, bytes]:
            answer = await client.get(url)
            return (200, b"edgeproxy check\n") if open_to_all else (answer.status_code, answer.content)

        results = await probed(store, presigner, get)
    assert [result.name for result in results] == STEPS[: len(results)]
    assert [info.key async for info in FilesystemStore.list(store, keys.UPLOADS)] == []
    return {result.name: result.problem for result in results if result.problem}


async def test_the_filesystem_store_passes_and_is_left_clean(tmp_path: Path) -> None:
    store = await FilesystemStore.open(tmp_path)
    assert await problems(store, tmp_path) == {}
    await store.close()


async def test_the_double_passes_with_a_copy_in_parts_and_is_left_clean() -> None:
    async with running_double(write_interval=None) as running:
        place: dict[str, Any] = {"region": "auto", "endpoint": running.endpoint, "credentials": running.credentials}
        in_parts = Limits(copy_whole=5 << 20, copy_part=5 << 20)
        async with (
            open_s3(running.double.name, **place) as store,
            open_s3(running.double.name, **place, limits=in_parts) as copying,
            open_s3(running.double.name, **place, clock=lambda: time.time() - 3600) as past,
            aiohttp.ClientSession() as session,
        ):

            async def get(url: str) -> tuple[int, bytes]:
                async with session.get(URL(url, encoded=True)) as answer:
                    return answer.status, await answer.read()

            results = await probed(store, Aged(store.presigner(), past.presigner()), get, copying)
            assert results == [CheckResult(step, "") for step in STEPS]
            assert [info.key async for info in store.list("")] == []


class NoConditions(FilesystemStore):
    """Ignores conditions, as some S3 servers do."""

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
        return await super().put(key, data, content_type=content_type, metadata=metadata, sha256=sha256)


class NoIfMatch(NoConditions):
    """Knows `If-None-Match` and takes every `If-Match` for false."""

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
        if isinstance(condition, IfMatch):
            raise PreconditionFailed(key)
        return await FilesystemStore.put(
            self, key, data, content_type=content_type, metadata=metadata, sha256=sha256, condition=condition
        )


class Forgetful(FilesystemStore):
    """Keeps neither content types nor checksums, and no deletes."""

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
        return await super().put(key, data, content_type=content_type, metadata=metadata, condition=condition)

    async def delete(self, key: str) -> None:
        # Only the clean-up, which lists first, gets through.
        if self.listed:
            await super().delete(key)

    listed = False

    async def list(self, prefix: str, *, after: str = "", limit: int | None = None) -> AsyncIterator[ObjectInfo]:
        found = [info async for info in super().list(prefix, after=after, limit=limit)]
        self.listed = prefix.endswith("check-x/")
        for info in reversed(found):
            yield info


class ReadOnly(FilesystemStore):
    """A credential that may not write."""

    async def put(self, key: str, *_: object, **__: object) -> ObjectInfo:
        raise StoreUnavailable(
            f"PutObject {key}: the store answered 403 AccessDenied: the credential needs read and write"
        )


@asynccontextmanager
async def opened(kind: type[FilesystemStore], root: Path) -> AsyncIterator[FilesystemStore]:
    store = await kind.open(root)
    try:
        yield store
    finally:
        await store.close()


async def test_ignored_conditions_are_found(tmp_path: Path) -> None:
    async with opened(NoConditions, tmp_path) as store:
        found = await problems(store, tmp_path)
    assert set(found) == {"conditional create", "conditional replace"}
    assert "in spite of If-None-Match" in found["conditional create"]
    assert "in spite of If-Match" in found["conditional replace"]
    assert all("use a store that supports" in problem for problem in found.values())


async def test_a_refused_if_match_is_found(tmp_path: Path) -> None:
    async with opened(NoIfMatch, tmp_path) as store:
        found = await problems(store, tmp_path)
    assert set(found) == {"conditional replace"}
    assert "refuses an If-Match that holds" in found["conditional replace"]


async def test_checksums_lists_and_deletes_that_do_not_hold_are_found(tmp_path: Path) -> None:
    async with opened(Forgetful, tmp_path) as store:
        found = await problems(store, tmp_path)
    assert set(found) == {"checksum on write", "list", "delete"}


async def test_a_credential_that_may_not_write_ends_the_check_with_what_to_do(tmp_path: Path) -> None:
    async with opened(ReadOnly, tmp_path) as store:
        found = await problems(store, tmp_path)
    assert set(found) == {"write and read"}
    assert "the credential needs read and write" in found["write and read"]


async def test_a_public_endpoint_that_is_not_the_store_is_found(tmp_path: Path) -> None:
    async with opened(FilesystemStore, tmp_path) as store:
        found = await problems(store, tmp_path, wrong_url=True)
    assert set(found) == {"presigned GET"}
    assert "EDGEPROXY_STORE_PUBLIC_ENDPOINT" in found["presigned GET"]


async def test_a_store_that_answers_to_everyone_is_found(tmp_path: Path) -> None:
    async with opened(FilesystemStore, tmp_path) as store:
        found = await problems(store, tmp_path, open_to_all=True)
    assert set(found) == {"refused forged GET", "refused expired GET"}
    assert "anyone could read every blob" in found["refused forged GET"]


async def test_a_store_that_clients_cannot_reach_is_found_and_no_url_is_shown(tmp_path: Path) -> None:
    async def get(url: str) -> tuple[int, bytes]:
        raise Unreachable("nobody answers")

    async with opened(FilesystemStore, tmp_path) as store:
        presigner = FilePresigner("http://store.test", url_signing_key(tmp_path), time.time)
        results = await probed(store, presigner, get)
    assert [result for result in results if result.problem] == [CheckResult("presigned GET", "nobody answers")]


class TestStart:
    async def test_a_new_bucket_gets_its_layout_and_is_taken_again(self, tmp_path: Path) -> None:
        async with opened(FilesystemStore, tmp_path) as store:
            assert await startup_problems(store) == []
            assert orjson.loads((await store.read(keys.LAYOUT, 100))[1]) == {"version": keys.LAYOUT_VERSION}
            assert await startup_problems(store) == []

    async def test_a_bucket_without_conditional_writes_is_refused(self, tmp_path: Path) -> None:
        async with opened(NoConditions, tmp_path) as store:
            for _ in range(2):
                found = await startup_problems(store)
                assert len(found) == 1
                assert "ignores conditional writes" in found[0]

    async def test_a_newer_layout_is_refused_and_left_as_it_is(self, tmp_path: Path) -> None:
        async with opened(FilesystemStore, tmp_path) as store:
            newer = orjson.dumps({"version": keys.LAYOUT_VERSION + 1})
            await store.put(keys.LAYOUT, newer, condition=IfAbsent())
            found = await startup_problems(store)
            assert found == [await layout_problem(store)]
            assert "use the release that wrote it" in found[0]
            assert (await store.read(keys.LAYOUT, 100))[1] == newer

    @pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"version": "1"}', b'{"version": 0}'])
    async def test_a_layout_that_is_not_ours_is_refused(self, tmp_path: Path, content: bytes) -> None:
        async with opened(FilesystemStore, tmp_path) as store:
            await store.put(keys.LAYOUT, content)
            assert "is not edgeproxy's" in (await startup_problems(store))[0]

    async def test_a_store_that_refuses_writes_is_told_with_its_reason(self, tmp_path: Path) -> None:
        async with opened(ReadOnly, tmp_path) as store:
            assert "AccessDenied" in (await startup_problems(store))[0]
