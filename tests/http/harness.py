"""A whole registry in the process of a test: the ASGI application that the server runs, over a real store, with time and callers given."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import queue
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.applications import Starlette

from edgeproxy.access.credentials import Authenticated
from edgeproxy.access.decisions import Claim, Identity
from edgeproxy.access.policy import Policy, load_policy
from edgeproxy.access.refusals import TokenReason, TokenRefused
from edgeproxy.audit import AuditLog
from edgeproxy.counters import Counters
from edgeproxy.exposition import counted, printed
from edgeproxy.metrics import Samples
from edgeproxy.readings import caches_of, of_audit, of_caches, of_registry
from edgeproxy.registry.service import Registry, make_registry
from edgeproxy.serving import Site, serve_sites
from edgeproxy.storage import Presigner, Store
from edgeproxy.storage.counted import CountedStore
from edgeproxy.storage.file_presign import FilePresigner
from edgeproxy.storage.filesystem import FilesystemStore
from edgeproxy.web.answers import Send
from edgeproxy.web.blobs import Delivery
from edgeproxy.web.bodies import Receive
from edgeproxy.web.front import Front
from edgeproxy.web.gate import Gate
from edgeproxy.web.operations import Probes
from edgeproxy.web.records import Record
from edgeproxy.web.registry import RegistryEndpoint
from tests.r2.stores import Watched, watched_double

NOW = 1_800_000_000.0
PUBLIC_URL = "http://registry.example"
STORE_URL = "http://store.example"

OPEN = """\
version: 1
public:
  - {repositories: ["**"], actions: [pull, push, delete, catalog]}
tags:
  - {repositories: ["**"], tags: ["v*"], immutable: true}
"""

IMAGE = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
OCTETS = "application/octet-stream"

Headers = Mapping[str, str] | Sequence[tuple[str, str]]


def digest_of(content: bytes, algorithm: str = "sha256") -> str:
    """Give the digest of bytes as the specification writes it."""
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


class HangUp(Exception):
    """Raised by a body: the client goes away here."""


class NoAnswer(Exception):
    """The application ended without an answer, as it does for a client that has gone."""


class Clock:
    """Time that passes when it is told to."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, read whole. `complete` is False where the application ended before its body did."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    complete: bool

    def header(self, name: str) -> str:
        """Give a header that comes exactly once."""
        values = self.every(name)
        assert len(values) == 1, (name, self.headers)
        return values[0]

    def every(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name.lower()]

    def has(self, name: str) -> bool:
        return bool(self.every(name))

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> tuple[int, str]:
        """Status and code of a refusal."""
        return self.status, self.json["errors"][0]["code"]

    @property
    def message(self) -> str:
        return str(self.json["errors"][0]["message"])

    def expect(self, status: int) -> Reply:
        assert self.status == status, (self.status, self.body[:1000])
        return self


class Lines:
    """A sink that keeps what is written to it."""

    def __init__(self) -> None:
        self.queue: queue.Queue[dict[str, Any]] = queue.Queue()

    def write(self, lines: bytes) -> None:
        for line in lines.splitlines():
            self.queue.put(json.loads(line))

    def reopen(self) -> None: ...

    def close(self) -> None: ...


def identity(subject: str = "job", issuer: str = "ci", ends: float = NOW + 3600, /, **claims: Claim) -> Identity:
    """Make a caller whose token was verified."""
    return Identity(issuer, subject, claims, ends)


def bearer(caller: Identity | None, scope: Iterable[str] | None = None, token: bytes = b"") -> Authenticated:
    """Make what a credential tells: a foreign token without `scope`, a bearer of ours with it."""
    claims = None if caller is None else dict(caller.claims)
    hashed = token or hashlib.sha256(repr((caller, claims, scope)).encode()).digest()
    return Authenticated(caller, None if scope is None else frozenset(scope), hashed, presented=True)


@dataclass
class House:
    """A registry and everything that a test may want to look at or change."""

    store: Store
    clock: Clock
    policy: Policy
    callers: dict[str, Authenticated]
    lines: Lines = field(default_factory=Lines)
    audit: AuditLog = field(init=False)
    counters: Counters = field(default_factory=Counters)
    registry: Registry = field(init=False)
    gate: Gate = field(init=False)
    app: Front = field(init=False)

    async def ask(
        self,
        method: str,
        target: str,
        *,
        headers: Headers = (),
        body: bytes | AsyncIterator[bytes] | None = None,
        as_: str = "",
        http_version: str = "1.1",
    ) -> Reply:
        """Send one request: bytes with their length, an iterator chunked. `as_` names the credential."""
        fields = list(headers.items()) if isinstance(headers, Mapping) else list(headers)
        names = {name.lower() for name, _ in fields}
        if isinstance(body, bytes) and "content-length" not in names:
            fields.append(("content-length", str(len(body))))
        elif body is not None and not isinstance(body, bytes):
            fields.append(("transfer-encoding", "chunked"))
        if as_:
            fields.append(("authorization", f"Bearer {as_}"))
        return await call(self.app, method, target, fields, body, http_version)

    async def event(self) -> dict[str, Any]:
        """Give the next audit event."""
        return await asyncio.to_thread(self.lines.queue.get)

    def numbers(self) -> Samples:
        """Give what /metrics would tell."""
        caches = of_caches(caches_of(self.registry, self.gate))
        return counted(self.counters) | of_registry(self.registry) | caches | of_audit(self.audit)

    def set_policy(self, text: str) -> None:
        self.policy = policy_of(text)

    async def push_blob(self, repository: str, content: bytes, **options: Any) -> str:
        """Push a blob with one request."""
        digest = digest_of(content)
        target = f"/v2/{repository}/blobs/uploads/?digest={digest}"
        (await self.ask("POST", target, body=content, headers={"content-type": OCTETS}, **options)).expect(201)
        return digest

    async def put_manifest(
        self, repository: str, reference: str, content: bytes, media_type: str = IMAGE, **options: Any
    ) -> Reply:
        target = f"/v2/{repository}/manifests/{reference}"
        return await self.ask("PUT", target, body=content, headers={"content-type": media_type}, **options)

    async def push_image(self, repository: str, reference: str, *layers: bytes, **more: Any) -> bytes:
        """Push an image with its blobs; give its manifest."""
        for blob in (b"{}", *layers):
            await self.push_blob(repository, blob)
        manifest = image(*layers, **more)
        (await self.put_manifest(repository, reference, manifest)).expect(201)
        return manifest

    async def start_upload(self, repository: str, **options: Any) -> str:
        """Open an upload session; give its Location."""
        reply = await self.ask("POST", f"/v2/{repository}/blobs/uploads/", body=b"", **options)
        return reply.expect(202).header("location")


class Named:
    """An authenticator for which the name of a caller is its token."""

    def __init__(self, callers: Mapping[str, Authenticated]) -> None:
        self._callers = callers

    def remembered(self, headers: Sequence[bytes], policy: Policy, now: float) -> Authenticated | None:
        return self._callers.get(headers[0].decode().removeprefix("Bearer "))

    async def authenticate(self, headers: Sequence[bytes], policy: Policy, now: float) -> Authenticated:
        who = self.remembered(headers, policy, now)
        if who is None:
            raise TokenRefused(TokenReason.SIGNATURE, "the token is not signed by its issuer", detail="for operators")
        return who


async def call(
    app: Callable[[Any, Receive, Send], Any],
    method: str,
    target: str,
    headers: Sequence[tuple[str, str]],
    body: bytes | AsyncIterator[bytes] | None,
    http_version: str = "1.1",
) -> Reply:
    """Call an ASGI application as a server would, and read its answer."""
    path, _, query = target.partition("?")
    scope = {
        "type": "http",
        "http_version": http_version,
        "asgi": {"spec_version": "2.1", "version": "3.0"},
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode("latin-1"),
        "query_string": query.encode("latin-1"),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers],
        "client": ("192.0.2.1", 4711),
        "server": ("registry.example", 80),
        "state": {},
        "extensions": {},
    }
    sent: list[Any] = []
    ended = asyncio.Event()
    messages = _messages(body, ended)

    async def send(message: Any) -> None:
        sent.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            ended.set()

    async def receive() -> Any:
        return await anext(messages)

    try:
        await app(scope, receive, send)
    finally:
        complete = ended.is_set()
        ended.set()
    if not sent:
        raise NoAnswer
    start, *rest = sent
    assert start["type"] == "http.response.start"
    fields = tuple((name.decode(), value.decode("latin-1")) for name, value in start["headers"])
    return Reply(start["status"], fields, b"".join(message.get("body", b"") for message in rest), complete)


async def _messages(body: bytes | AsyncIterator[bytes] | None, ended: asyncio.Event) -> AsyncIterator[Any]:
    if body is not None and not isinstance(body, bytes):
        try:
            async for piece in body:
                yield {"type": "http.request", "body": piece, "more_body": True}
        except HangUp:
            while True:
                yield {"type": "http.disconnect"}
        body = b""
    yield {"type": "http.request", "body": body or b"", "more_body": False}
    await ended.wait()
    while True:
        yield {"type": "http.disconnect"}


def policy_of(text: str) -> Policy:
    return load_policy(text.encode(), source="policy.yaml", loopback=True, now=NOW)


def build(
    store: Store,
    presigner: Presigner,
    *,
    policy: str = OPEN,
    clock: Clock | None = None,
    counters: Counters | None = None,
    callers: Mapping[str, Authenticated] | None = None,
    redirect: bool = True,
    max_manifest_bytes: int = 4 * 1024 * 1024,
    max_blob_bytes: int | None = None,
    upload_memory_bytes: int = 128 * 1024 * 1024,
    session_keys: Sequence[bytes] = (b"k" * 32,),
) -> House:
    """Wire a registry as it is served."""
    clock = clock or Clock()
    house = House(store, clock, policy_of(policy), dict(callers or {}), counters=counters or Counters())
    names = itertools.count(1)

    house.registry = make_registry(
        store,
        clock=clock,
        name=lambda: f"{id(house):016x}{next(names):016x}",
        session_keys=lambda: session_keys,
        upload_memory_bytes=upload_memory_bytes,
        max_blob_bytes=max_blob_bytes,
    )
    house.audit = AuditLog([house.lines])
    house.gate = Gate(lambda: house.policy, Named(house.callers), clock, PUBLIC_URL)
    endpoint = RegistryEndpoint(
        house.registry,
        house.gate,
        presigner,
        Delivery("redirect" if redirect else "proxy", 300, may_redirect=True),
        max_manifest_bytes=max_manifest_bytes,
        record=Record(house.audit, clock, lambda: house.policy.version, house.counters),
        make_id=lambda: "r1",
    )
    probes = Probes({}, lambda: printed(house.numbers()))
    house.app = Front(endpoint, Starlette(routes=probes.all_routes), lambda: "r1", counters=house.counters)
    return house


@asynccontextmanager
async def on_directory(folder: Path, **options: Any) -> AsyncIterator[House]:
    """Run a registry over a directory; `options` as `build` has them, and `wrap` to put something between it and its store."""
    clock = options.setdefault("clock", Clock())
    wrap = options.pop("wrap", lambda store: store)
    store = await FilesystemStore.open(folder)
    try:
        counters = Counters()
        store_seen = CountedStore(wrap(store), counters.store_call)
        house = build(store_seen, FilePresigner(STORE_URL, b"u" * 32, clock), counters=counters, **options)
        yield house
        await house.registry.uploads.wait_for_commits()
        house.audit.close()
    finally:
        await store.close()


@asynccontextmanager
async def on_double(**options: Any) -> AsyncIterator[tuple[House, Watched]]:
    """Run a registry over the strict double of R2, which counts what is asked of it."""
    async with watched_double() as watched:
        house = build(watched.store, watched.store.presigner(), counters=watched.counters, **options)
        yield house, watched
        await house.registry.uploads.wait_for_commits()
        house.audit.close()


@asynccontextmanager
async def listening(app: Any, server: str = "hypercorn") -> AsyncIterator[tuple[str, int]]:
    """Serve an application as the program does, on a port that the system chooses."""
    listener = socket.create_server(("127.0.0.1", 0))
    host, port = listener.getsockname()
    bind = f"fd://{listener.detach()}"
    if server == "granian":  # binds by itself
        socket.socket(fileno=int(bind.removeprefix("fd://"))).close()
        bind = f"{host}:{port}"
    stop = asyncio.Event()
    serving = asyncio.create_task(serve_sites([Site(app, (bind,))], stop, server))
    try:
        if server == "granian":
            await _listens(host, port)
        yield host, port
    finally:
        stop.set()
        await serving


async def _listens(host: str, port: int) -> None:
    """Wait until somebody listens; a server that binds by itself does not say when it has."""
    for _ in range(500):
        try:
            _, writer = await asyncio.open_connection(host, port)
        except OSError:
            await asyncio.sleep(0.02)
        else:
            writer.close()
            return
    raise AssertionError(f"nobody listens on port {port}")


def descriptor(content: bytes, media_type: str, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content), **more}


def image(*layers: bytes, config: bytes = b"{}", config_type: str = CONFIG, **more: Any) -> bytes:
    """Make the manifest of an image; `more` are fields of its own."""
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": IMAGE,
            "config": descriptor(config, config_type),
            "layers": [descriptor(layer, LAYER) for layer in layers],
            **more,
        }
    ).encode()


def index(*manifests: bytes, **more: Any) -> bytes:
    """Make an index of images."""
    children = [descriptor(manifest, IMAGE) for manifest in manifests]
    return json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": children, **more}).encode()


async def pieces(content: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    """Give bytes as a body of unknown length."""
    for begin in range(0, len(content), size):
        yield content[begin : begin + size]


def in_session(location: str, digest: str) -> str:
    """Add the digest to a Location, as clients do."""
    return f"{location}{'&' if '?' in location else '?'}digest={digest}"
