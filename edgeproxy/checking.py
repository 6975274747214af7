"""What `edgeproxy check` tries: everything that `serve` needs, policy and keys first, then the store with real requests."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from edgeproxy.access.issuers import IssuerKeys
from edgeproxy.access.policy import PolicyError
from edgeproxy.access.signing import SigningKeyError, SigningKeys
from edgeproxy.addresses import FileStore
from edgeproxy.app import Backend, open_backend
from edgeproxy.certificates import fetch_document, store_expired_text
from edgeproxy.reload import DocumentUnreadable, compile_policy, policy_document
from edgeproxy.serving import Site, serve_sites
from edgeproxy.settings import STORED_POLICY, Settings
from edgeproxy.storage import MIN_PART_BYTES, CertificateExpired, Store, StoreError
from edgeproxy.storage.probe import CheckResult, Unreachable, probe
from edgeproxy.storage.startup import layout_problem

_ANSWER_BYTES: Final = 64 * 1024
_TIMEOUT: Final = aiohttp.ClientTimeout(total=20)
_CONNECTS: Final = 200
_CONNECT_SECONDS: Final = 0.02


async def checks(settings: Settings) -> AsyncIterator[CheckResult]:
    """Give the outcome of each check, in order; to be read to the end."""
    yield _signing_keys(settings)
    try:
        async with open_backend(settings) as backend:
            reached = await _reached(settings, backend.store)
            if not reached.problem or settings.policy != STORED_POLICY:
                async for result in _policy(settings, backend.store):
                    yield result
            yield reached
            if reached.problem:
                return
            yield CheckResult("layout of the bucket", await layout_problem(backend.store))
            async for result in _store(settings, backend):
                yield result
    except StoreError as error:
        yield CheckResult("store", f"EDGEPROXY_STORE: {error}")


def _signing_keys(settings: Settings) -> CheckResult:
    try:
        SigningKeys.load(settings.signing_keys, pem=settings.signing_keys_pem)
    except SigningKeyError as error:
        return CheckResult(
            "signing keys", f"EDGEPROXY_SIGNING_KEYS{'_PEM' if settings.signing_keys_pem else ''}: {error}"
        )
    return CheckResult("signing keys", "")


async def _reached(settings: Settings, store: Store) -> CheckResult:
    try:
        problems = await store.lacking()
    except CertificateExpired:
        problems = (await store_expired_text(settings),)
    except StoreError as error:
        problems = (str(error),)
    return CheckResult("reach the bucket", f"EDGEPROXY_STORE: {'; '.join(problems)}" if problems else "")


async def _policy(settings: Settings, store: Store) -> AsyncIterator[CheckResult]:
    try:
        policy = compile_policy(settings, await policy_document(settings, store).read())
    except (DocumentUnreadable, PolicyError) as error:
        yield CheckResult("policy", f"EDGEPROXY_POLICY: {'; '.join(str(error).splitlines())}")
        return
    yield CheckResult("policy", "")
    keys = IssuerKeys(fetch_document, time.time)
    try:
        await keys.warm(policy.issuers.values())
    finally:
        await keys.close()
    problems = keys.problems()
    for name in policy.issuers:
        why = problems.get(name)
        yield CheckResult(f"keys of issuer {name}", f"EDGEPROXY_POLICY: issuer {name}: {why}" if why else "")


async def _store(settings: Settings, backend: Backend) -> AsyncIterator[CheckResult]:
    async with (
        _served(settings, backend),
        _copying(settings, backend.store) as copying,
        aiohttp.ClientSession(timeout=_TIMEOUT, trust_env=True) as session,
    ):

        async def get(url: str) -> tuple[int, bytes]:
            try:
                async with session.get(URL(url, encoded=True), allow_redirects=False) as answer:
                    return answer.status, await answer.content.read(_ANSWER_BYTES)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise Unreachable(
                    f"{settings.store_public_endpoint} does not answer from here ({type(error).__name__}): clients are sent "
                    "there, so look at EDGEPROXY_STORE_PUBLIC_ENDPOINT, DNS and firewalls"
                ) from None

        async for result in probe(
            backend.store, copying, backend.presigner, get, name=secrets.token_hex(8), sleep=asyncio.sleep
        ):
            yield result


@asynccontextmanager
async def _copying(settings: Settings, store: Store) -> AsyncIterator[Store]:
    """Open the store once more, so that it copies in parts whatever the size."""
    if isinstance(settings.store, FileStore):
        yield store
        return
    from edgeproxy.storage.s3 import S3Store  # noqa: PLC0415 - costs more than half of a start that does not need it
    from edgeproxy.storage.s3_calls import Limits  # noqa: PLC0415

    place = settings.store
    limits = Limits(copy_whole=MIN_PART_BYTES, copy_part=MIN_PART_BYTES)
    bucket = S3Store(place.bucket, region=place.region, endpoint=place.endpoint, prefix=place.prefix, limits=limits)
    await bucket.open()
    try:
        yield bucket
    finally:
        await bucket.close()


@asynccontextmanager
async def _served(settings: Settings, backend: Backend) -> AsyncIterator[None]:
    """Serve a `file:` store for as long as the context lasts, unless a running registry does that already."""
    if backend.served is None or await _answers(settings.store_public_endpoint):
        yield
        return
    stop = asyncio.Event()
    server = asyncio.ensure_future(
        serve_sites([Site(backend.served, settings.store_bind_addresses)], stop, settings.server)
    )
    try:
        # A server's own start can only be polled; whether it answers is what is checked next.
        for _ in range(_CONNECTS):
            if server.done() or await _answers(settings.store_public_endpoint):
                break
            await asyncio.sleep(_CONNECT_SECONDS)
        yield
    finally:
        stop.set()
        await asyncio.gather(server, return_exceptions=True)


async def _answers(endpoint: str) -> bool:
    parts = urlsplit(endpoint)
    try:
        _, writer = await asyncio.open_connection(
            parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
        )
    except OSError:
        return False
    writer.close()
    return True
