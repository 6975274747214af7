"""The composition root: reads like the deployed thing. The only module, with the command line, that names concrete classes."""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import uvloop

from edgeproxy.access.bearers import Bearers
from edgeproxy.access.credentials import Authenticated, Credentials
from edgeproxy.access.issuers import IssuerKeys
from edgeproxy.access.policy import Policy, PolicyError
from edgeproxy.access.signing import SigningKeyError, SigningKeys
from edgeproxy.access.tokens import Verifier
from edgeproxy.audit import AuditLog, sinks_of
from edgeproxy.config import FileStore, Settings
from edgeproxy.health import probes_of
from edgeproxy.logs import set_up_logs
from edgeproxy.registry.service import Registry, make_registry
from edgeproxy.reload import (
    CurrentPolicy,
    DocumentUnreadable,
    compile_policy,
    files_beside,
    policy_document,
    watch_keys,
)
from edgeproxy.serving import Site, on_signals, serve_sites
from edgeproxy.storage import Presigner, Store
from edgeproxy.storage.probe import startup_problems
from edgeproxy.web.blobs import Delivery
from edgeproxy.web.front import Front, routed
from edgeproxy.web.gate import Gate
from edgeproxy.web.heads import Head
from edgeproxy.web.operations import Probes
from edgeproxy.web.records import Record
from edgeproxy.web.registry import RegistryEndpoint
from edgeproxy.web.token import TokenService, token_routes
from edgeproxy.workers import run_workers

_log = logging.getLogger(__name__)

WARM_AFTER_SECONDS: Final = 1.0


class StartError(Exception):
    """Something that the settings name is not usable; each line names the setting and says what to do."""


@dataclass(frozen=True, slots=True)
class Binds:
    """Where each site listens."""

    registry: tuple[str, ...]
    store: tuple[str, ...]
    operations: tuple[str, ...]
    beside: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Backend:
    """The store, what signs its URLs, and the application that serves them where we do that ourselves."""

    store: Store
    presigner: Presigner
    served: Any


@asynccontextmanager
async def open_backend(settings: Settings) -> AsyncIterator[Backend]:
    """Open the store that the settings name."""
    # Imported late: the SDK of the one kind costs more than half of a start that uses the other.
    if isinstance(settings.store, FileStore):
        from edgeproxy.storage.file_presign import FilePresigner, url_signing_key  # noqa: PLC0415
        from edgeproxy.storage.filesystem import FilesystemStore  # noqa: PLC0415
        from edgeproxy.storage.served import served_app  # noqa: PLC0415

        files = await FilesystemStore.open(settings.store.path)
        key = await asyncio.to_thread(url_signing_key, settings.store.path)
        presigner = FilePresigner(settings.store_public_endpoint, key, time.time)
        try:
            yield Backend(files, presigner, served_app(files, key, time.time))
        finally:
            await files.close()
    else:
        from edgeproxy.storage.s3 import S3Store  # noqa: PLC0415

        location = settings.store
        bucket = S3Store(location.bucket, region=location.region, endpoint=location.endpoint, prefix=location.prefix)
        await bucket.open()
        try:
            yield Backend(bucket, bucket.presigner(settings.store_public_endpoint), None)
        finally:
            await bucket.close()


def serve(settings: Settings, beside: Site | None = None) -> int:
    """Serve until told to stop; the exit code of the process. `beside` is served as well, and has no part in the registry.

    Raises:
        StartError: something that the settings name is not usable; the text says what to do.

    """
    set_up_logs(settings.log_level, settings.log_format)
    binds = Binds(
        settings.bind_addresses,
        settings.store_bind_addresses,
        settings.operations_bind_addresses,
        beside.binds if beside is not None else (),
    )

    def work(binds: Binds) -> None:
        besides = [Site(beside.app, binds.beside)] if beside is not None else []
        uvloop.run(_run(settings, binds, besides))

    if settings.workers == 1:
        work(binds)
        return 0
    # Granian binds by itself, in each process, with SO_REUSEPORT.
    return run_workers(settings.workers, binds, work, StartError, bind=settings.server == "hypercorn")


async def _run(settings: Settings, binds: Binds, besides: Sequence[Site]) -> None:
    async with AsyncExitStack() as stack:
        backend = await stack.enter_async_context(open_backend(settings))
        keys = _signing_keys(settings)
        audit = AuditLog(sinks_of(settings.audit))
        stack.callback(audit.close)
        record = Record(audit, time.time, lambda: policy().version)
        beside = files_beside(settings)
        policy = CurrentPolicy(
            policy_document(settings, backend.store, beside),
            functools.partial(compile_policy, settings, beside=beside),
            time.time,
            changed=record.policy_changed,
        )
        await _start(policy, backend.store)
        registry = make_registry(
            backend.store,
            clock=time.time,
            name=lambda: secrets.token_hex(16),
            session_keys=lambda: [secret for _, secret in keys.derive("upload sessions")],
            upload_memory_bytes=settings.upload_memory_bytes,
            max_blob_bytes=settings.max_blob_bytes,
        )
        stack.push_async_callback(registry.uploads.wait_for_commits)
        for forever in (policy.watch(), watch_keys(keys)):
            stack.callback(asyncio.create_task(forever).cancel)
        issuer_keys = IssuerKeys(_fetch, time.time)
        stack.push_async_callback(issuer_keys.close)
        warming = asyncio.create_task(_warm(issuer_keys, policy))
        stack.callback(warming.cancel)
        access = _access(settings, policy, keys, issuer_keys, record)
        stop = asyncio.Event()
        on_signals(stop, audit.reopen, policy.refresh_soon)
        _log.info(
            "serving %s on %s, objects in %s handed out from %s, policy %s",
            settings.public_url,
            ", ".join(settings.bind_addresses),
            settings.store,
            settings.store_public_endpoint,
            policy().version[:12],
        )
        probes = probes_of(registry, policy, keys, audit, time.time)
        sites = [*_sites(settings, binds, backend, registry, access, record, probes), *besides]
        await serve_sites(sites, stop, settings.server)


@dataclass(frozen=True, slots=True)
class AccessControl:
    """The gate of every operation, and the way to a bearer."""

    policy: CurrentPolicy
    gate: Gate
    tokens: TokenService
    make_id: Callable[[], str]


def _access(
    settings: Settings, policy: CurrentPolicy, keys: SigningKeys, issuer_keys: IssuerKeys, record: Record
) -> AccessControl:
    make_id = RequestIds(secrets.token_hex(5))
    verifier = Verifier(issuer_keys)
    bearers = Bearers(keys, settings.public_url, secrets.token_bytes)
    credentials = Credentials(verifier, bearers)

    async def authenticate(head: Head, policy: Policy) -> Authenticated:
        return await credentials.authenticate(head.fields.get(b"authorization", []), policy, time.time())

    tokens = TokenService(
        policy=policy,
        verifier=verifier,
        bearers=bearers,
        keys=keys,
        public_url=settings.public_url,
        token_seconds=settings.token_seconds,
        clock=time.time,
        make_id=make_id,
        audit=record.token,
    )
    return AccessControl(policy, Gate(policy, authenticate, time.time, settings.public_url), tokens, make_id)


def _sites(
    settings: Settings,
    binds: Binds,
    backend: Backend,
    registry: Registry,
    access: AccessControl,
    record: Record,
    probes: Probes,
) -> list[Site]:
    endpoint = RegistryEndpoint(
        registry,
        access.gate,
        backend.presigner,
        Delivery(settings.deliver, settings.redirect_seconds, may_redirect=settings.may_redirect),
        max_manifest_bytes=settings.max_manifest_bytes,
        record=record,
        make_id=access.make_id,
    )
    others = routed([*token_routes(access.tokens), *probes.probe_routes])
    front = Front(endpoint, others, access.make_id, settings.trusted_proxies)
    sites = [Site(front, binds.registry)]
    if backend.served is not None:
        sites.append(Site(backend.served, binds.store))
    if binds.operations:
        sites.append(Site(routed(probes.all_routes), binds.operations))
    return sites


async def _start(policy: CurrentPolicy, store: Store) -> None:
    """Refuse to serve what could not be served rightly."""
    try:
        await policy.start()
    except (DocumentUnreadable, PolicyError) as error:
        raise StartError(f"EDGEPROXY_POLICY: {error}") from None
    problems = await startup_problems(store)
    if problems:
        raise StartError("\n".join(f"EDGEPROXY_STORE: {problem}" for problem in problems))


def _signing_keys(settings: Settings) -> SigningKeys:
    try:
        return SigningKeys.load(settings.signing_keys, pem=settings.signing_keys_pem)
    except SigningKeyError as error:
        raise StartError(f"EDGEPROXY_SIGNING_KEYS{'_PEM' if settings.signing_keys_pem else ''}: {error}") from None


async def _warm(issuer_keys: IssuerKeys, policy: CurrentPolicy) -> None:
    """Read the issuers' keys before the first caller needs them. Nobody waits for it: whether a provider answers says nothing about us."""
    # A provider may start with us, as the one of 'edgeproxy dev' does.
    await asyncio.sleep(WARM_AFTER_SECONDS)
    await issuer_keys.warm(policy().issuers.values())


async def _fetch(url: str, ca: bytes | None) -> bytes:
    # Imported late: it costs a quarter of a start, and a policy without issuers never needs it.
    from edgeproxy.access.fetch import fetch  # noqa: PLC0415

    return await fetch(url, ca)


class RequestIds:
    """Makes request ids: a number after what tells this process from all others. No system call each, as random ones would need."""

    def __init__(self, process: str) -> None:
        self._process = process
        self._numbers = itertools.count(1)

    def __call__(self) -> str:
        """Make an id that no other request has."""
        return f"{self._process}-{next(self._numbers):x}"
