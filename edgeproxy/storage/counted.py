"""A store whose calls are observed, for stores that do not observe them themselves. Named as S3 names them, so that figures compare."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager

from edgeproxy.storage import OCTETS, Condition, IfAbsent, Multipart, ObjectInfo, Store

OnCall = Callable[[str, float, str], None]
"""Observer of every call: operation, seconds, outcome (`ok`, or the kind of error)."""


class _Observed:
    def __init__(self, on_call: OnCall) -> None:
        self._on_call = on_call

    @contextmanager
    def call(self, operation: str) -> Iterator[None]:
        started, outcome = time.perf_counter(), "ok"
        try:
            yield
        except GeneratorExit:
            raise  # Who lists has seen enough.
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        except Exception as error:
            outcome = type(error).__name__
            raise
        finally:
            self._on_call(operation, time.perf_counter() - started, outcome)


class CountedStore:
    """Implements `Store` by another one, and tells `on_call` of each call."""

    def __init__(self, store: Store, on_call: OnCall) -> None:
        self._store = store
        self._observed = _Observed(on_call)

    async def head(self, key: str) -> ObjectInfo:
        """Describe an object; see `Store.head`."""
        with self._observed.call("HeadObject"):
            return await self._store.head(key)

    async def read(self, key: str, limit: int) -> tuple[ObjectInfo, bytes]:
        """Read a small object; see `Store.read`."""
        with self._observed.call("GetObject"):
            return await self._store.read(key, limit)

    def stream(
        self, key: str, start: int = 0, length: int | None = None
    ) -> AbstractAsyncContextManager[tuple[ObjectInfo, AsyncIterator[bytes]]]:
        """Open an object for reading; see `Store.stream`."""
        return self._stream(key, start, length)

    @asynccontextmanager
    async def _stream(
        self, key: str, start: int, length: int | None
    ) -> AsyncIterator[tuple[ObjectInfo, AsyncIterator[bytes]]]:
        async with AsyncExitStack() as stack:
            with self._observed.call("GetObject"):
                opened = await stack.enter_async_context(self._store.stream(key, start, length))
            yield opened

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
        with self._observed.call("PutObject"):
            return await self._store.put(
                key, data, content_type=content_type, metadata=metadata, sha256=sha256, condition=condition
            )

    async def begin(self, key: str, part_size: int, *, content_type: str = OCTETS) -> Multipart:
        """Begin an object in parts; see `Store.begin`."""
        with self._observed.call("CreateMultipartUpload"):
            upload = await self._store.begin(key, part_size, content_type=content_type)
        return _CountedMultipart(upload, self._observed)

    async def copy(self, source: str, target: str) -> None:
        """Copy an object; see `Store.copy`."""
        with self._observed.call("CopyObject"):
            await self._store.copy(source, target)

    async def delete(self, key: str) -> None:
        """Remove an object; see `Store.delete`."""
        with self._observed.call("DeleteObject"):
            await self._store.delete(key)

    async def list(self, prefix: str, *, after: str = "", limit: int | None = None) -> AsyncIterator[ObjectInfo]:
        """List objects; see `Store.list`. One call, however many pages a bucket would have made of it."""
        with self._observed.call("ListObjectsV2"):
            async for info in self._store.list(prefix, after=after, limit=limit):
                yield info

    async def check(self) -> None:
        """Prove that the store answers; see `Store.check`."""
        with self._observed.call("HeadBucket"):
            await self._store.check()

    async def lacking(self) -> tuple[str, ...]:
        """Find what may not be done here; see `Store.lacking`."""
        return await self._store.lacking()

    async def close(self) -> None:
        """Give back connections."""
        await self._store.close()


class _CountedMultipart:
    def __init__(self, upload: Multipart, observed: _Observed) -> None:
        self._upload = upload
        self._observed = observed

    async def write(self, number: int, data: bytes | bytearray | memoryview) -> None:
        with self._observed.call("UploadPart"):
            await self._upload.write(number, data)

    async def complete(self, condition: IfAbsent | None = None) -> ObjectInfo:
        with self._observed.call("CompleteMultipartUpload"):
            return await self._upload.complete(condition)

    async def abort(self) -> None:
        with self._observed.call("AbortMultipartUpload"):
            await self._upload.abort()
