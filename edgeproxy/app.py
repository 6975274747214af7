"""The composition root: reads like the deployed thing. The only module, with the command line, that names concrete classes."""

from __future__ import annotations

import asyncio
import functools
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import astuple, dataclass
from typing import Any, Final

import uvloop

from edgeproxy import readings
from edgeproxy.access.bearers import Bearers
from edgeproxy.access.credentials import Credentials
from edgeproxy.access.issuers import IssuerKeys
from edgeproxy.access.policy import PolicyError
from edgeproxy.access.signing import SigningKeyError, SigningKeys
from edgeproxy.access.tokens import Verifier
from edgeproxy.addresses import FileStore
from edgeproxy.audit import AuditLog, sinks_of
from edgeproxy.board import Board, Shared
from edgeproxy.certificates import fetch_document, store_expired_text
from edgeproxy.counters import Counters
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
from edgeproxy.serving import Site, Stop, leaving, on_signals, serve_sites, settle_memory
from edgeproxy.settings import Settings
from edgeproxy.sockets import claim
from edgeproxy.storage import CertificateExpired, Presigner, Store, StoreError
from edgeproxy.storage.counted import CountedStore, OnCall
from edgeproxy.storage.startup import startup_problems
from edgeproxy.web.blobs import Delivery
from edgeproxy.web.exchanges import RequestIds, current_request
from edgeproxy.web.front import Front, routed
from edgeproxy.web.gate import Gate
from edgeproxy.web.operations import Probes, Readiness
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
async def open_backend(settings: Settings, on_call: OnCall | None = None) -> AsyncIterator[Backend]:
    """Open the store that the settings name; `on_call` is told of each call."""
    # Imported late: the SDK of the one kind costs more than half of a start that uses the other.
    if isinstance(settings.store, FileStore):
        from edgeproxy.storage.file_presign import FilePresigner, url_signing_key  # noqa: PLC0415
        from edgeproxy.storage.filesystem import FilesystemStore  # noqa: PLC0415
        from edgeproxy.storage.served import served_app  # noqa: PLC0415

        files = await FilesystemStore.open(settings.store.path)
        key = await asyncio.to_thread(url_signing_key, settings.store.path)
        presigner = FilePresigner(settings.store_public_endpoint, key, time.time)
        try:
            store = CountedStore(files, on_call) if on_call is not None else files
            yield Backend(store, presigner, served_app(files, key, time.time))
        finally:
            await files.close()
    else:
        from edgeproxy.storage.s3 import S3Store  # noqa: PLC0415

        location = settings.store
        bucket = S3Store(
            location.bucket,
            region=location.region,
            endpoint=location.endpoint,
            prefix=location.prefix,
            on_call=on_call,
        )
        await bucket.open()
        try:
            yield Backend(bucket, bucket.presigner(settings.store_public_endpoint), None)
        finally:
            await bucket.close()


def serve(settings: Settings, beside: Site | None = None) -> int:
    """Serve until told to stop; the exit code of the process. `beside` is served as well, and has no part in the registry.

    Raises:
        StartError: something that the settings name is not usable; the text says what to do.
        OSError: it cannot listen there.

    """
    set_up_logs(settings.log_level, settings.log_format, current_request.get)
    binds = Binds(
        settings.bind_addresses,
        settings.store_bind_addresses,
        settings.operations_bind_addresses,
        beside.binds if beside is not None else (),
    )

    claim(address for group in astuple(binds) for address in group)
    board = Board(settings.workers) if settings.workers > 1 and binds.operations else None

    def work(binds: Binds, place: int) -> None:
        besides = [Site(beside.app, binds.beside)] if beside is not None else []
        uvloop.run(_run(settings, binds, besides, board, place))

    if settings.workers == 1:
        work(binds, 0)
        return 0
    # Granian binds by itself, in each process, with SO_REUSEPORT.
    return run_workers(settings.workers, binds, work, StartError, bind=settings.server == "hypercorn")


async def _run(settings: Settings, binds: Binds, besides: Sequence[Site], board: Board | None, place: int) -> None:
    async with AsyncExitStack() as stack:
        counters = Counters()
        try:
            backend = await stack.enter_async_context(open_backend(settings, counters.store_call))
        except StoreError as error:
            raise StartError(f"EDGEPROXY_STORE: {error}") from None
        keys = _signing_keys(settings)
        audit = AuditLog(sinks_of(settings.audit))
        stack.callback(audit.close)
        record = Record(audit, time.time, lambda: policy().version, counters)
        beside = files_beside(settings)
        policy = CurrentPolicy(
            policy_document(settings, backend.store, beside),
            functools.partial(compile_policy, settings, beside=beside),
            time.time,
            changed=record.policy_changed,
        )
        await _start(policy, backend.store, settings)
        registry = make_registry(
            backend.store,
            clock=time.time,
            name=lambda: secrets.token_hex(16),
            session_keys=lambda: [secret for _, secret in keys.derive("upload sessions")],
            upload_memory_bytes=settings.upload_memory_bytes,
            max_blob_bytes=settings.max_blob_bytes,
        )
        stack.push_async_callback(registry.uploads.wait_for_commits)
        issuer_keys = IssuerKeys(fetch_document, time.time)
        stack.push_async_callback(issuer_keys.close)
        for beside_requests in (policy.watch(), watch_keys(keys), _warm(issuer_keys, policy)):
            stack.callback(asyncio.create_task(beside_requests).cancel)
        access = _access(settings, policy, keys, issuer_keys, record)
        stop = Stop(settings.drain_seconds)
        on_signals(stop, audit.reopen, policy.refresh_soon)
        _log.info(
            "serving %s on %s, objects in %s handed out from %s, policy %s",
            settings.public_url,
            ", ".join(settings.bind_addresses),
            settings.store,
            settings.store_public_endpoint,
            policy().version[:12],
        )
        readiness = Readiness()
        numbers = readings.together(
            readings.of_process(settings.server, "file" if backend.served is not None else "s3"),
            readings.of_serving(counters, registry, audit, readiness),
            readings.of_access(policy, keys, issuer_keys, time.time),
            functools.partial(readings.of_caches, {**readings.caches_of(registry, access.gate), **access.caches}),
        )
        if board is not None:
            numbers = shared = Shared(numbers, board, place)
            stack.callback(asyncio.create_task(shared.publish_forever()).cancel)
        probes = probes_of(backend.store, policy, keys, readiness, numbers, stop.begun.is_set)
        sites = [*_sites(settings, binds, backend, registry, access, record, probes), *besides]
        settle_memory()
        await serve_sites(
            [Site(leaving(site.app, stop.begun), site.binds) for site in sites], stop.due, settings.server
        )


@dataclass(frozen=True, slots=True)
class AccessControl:
    """The gate of every operation, the way to a bearer, and what both remember of tokens."""

    policy: CurrentPolicy
    gate: Gate
    tokens: TokenService
    caches: Mapping[str, readings.Cache]
    make_id: Callable[[], str]


def _access(
    settings: Settings, policy: CurrentPolicy, keys: SigningKeys, issuer_keys: IssuerKeys, record: Record
) -> AccessControl:
    make_id = RequestIds(secrets.token_hex(5))
    verifier = Verifier(issuer_keys)
    bearers = Bearers(keys, settings.public_url, secrets.token_bytes)
    credentials = Credentials(verifier, bearers)
    gate = Gate(policy, credentials, time.time, settings.public_url)
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
    return AccessControl(policy, gate, tokens, readings.caches_of_tokens(credentials, verifier), make_id)


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
    front = Front(endpoint, others, access.make_id, settings.trusted_proxies, record.counters)
    sites = [Site(front, binds.registry)]
    if backend.served is not None:
        sites.append(Site(backend.served, binds.store))
    if binds.operations:
        sites.append(Site(routed(probes.all_routes), binds.operations))
    return sites


async def _start(policy: CurrentPolicy, store: Store, settings: Settings) -> None:
    """Refuse to serve what could not be served rightly. The store goes first: the policy may lie in it."""
    try:
        problems = await startup_problems(store)
    except CertificateExpired:
        problems = [await store_expired_text(settings)]
    if not problems:
        try:
            await policy.start()
        except (DocumentUnreadable, PolicyError) as error:
            raise StartError(f"EDGEPROXY_POLICY: {error}") from None
    else:
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
