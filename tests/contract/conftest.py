"""The stores that the contract suites run against. To add one, add its factory to `BACKENDS`."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from hypercorn.asyncio import serve
from hypercorn.config import Config

from edgeproxy.storage import Store
from edgeproxy.storage.file_presign import FilePresigner, url_signing_key
from edgeproxy.storage.filesystem import FilesystemStore
from edgeproxy.storage.served import served_app
from tests.contract.backend import Backend
from tests.r2.backends import s3_backends

Factory = Callable[[Path], AbstractAsyncContextManager[Backend]]


@asynccontextmanager
async def filesystem(path: Path) -> AsyncIterator[Backend]:
    store = await FilesystemStore.open(path / "store")
    key = url_signing_key(path / "store")
    listener = socket.create_server(("127.0.0.1", 0))
    endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.graceful_timeout = 1
    stop = asyncio.Event()
    server = asyncio.create_task(serve(served_app(store, key, time.time), config, shutdown_trigger=stop.wait))  # type: ignore[arg-type]
    presigner = FilePresigner(endpoint, key, time.time)
    past = FilePresigner(endpoint, key, lambda: time.time() - 3600)
    try:
        yield Backend("filesystem", store, presigner, past)
    finally:
        stop.set()
        await server
        await store.close()


BACKENDS: dict[str, Factory] = {"filesystem": filesystem, **s3_backends}


@pytest.fixture(params=sorted(BACKENDS))
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Backend]:
    # The factory skips, or fails where programs are required, if a program it needs is missing.
    async with BACKENDS[request.param](tmp_path) as running:
        yield running


@pytest.fixture
async def store(backend: Backend) -> Store:
    return backend.store


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    """A plain HTTP client that knows nothing of stores; it must not spell URLs its own way."""
    async with aiohttp.ClientSession(requote_redirect_url=False, auto_decompress=False) as session:
        yield session
