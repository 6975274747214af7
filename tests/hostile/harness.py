"""The whole registry in the process of a test, with nothing left out of its access control: tokens of local issuers are verified for real.

Two issuers are listed, `ci` and `staff`; a third one, `stranger`, is not. Time, randomness and the network are given.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import itertools
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote, urlencode

from edgeproxy.access.bearers import Bearers
from edgeproxy.access.credentials import Credentials
from edgeproxy.access.issuers import FetchFailed, IssuerKeys
from edgeproxy.access.policy import Policy, load_policy
from edgeproxy.access.signing import SigningKeys, new_key
from edgeproxy.access.tokens import Verifier
from edgeproxy.audit import AuditLog
from edgeproxy.counters import Counters
from edgeproxy.exposition import counted, printed
from edgeproxy.metrics import Samples
from edgeproxy.readings import of_registry
from edgeproxy.registry.service import Registry, make_registry
from edgeproxy.storage import Store
from edgeproxy.storage.file_presign import FilePresigner
from edgeproxy.storage.filesystem import FilesystemStore
from edgeproxy.web.blobs import Delivery
from edgeproxy.web.front import Front, routed
from edgeproxy.web.gate import Gate
from edgeproxy.web.operations import Probes
from edgeproxy.web.records import Record
from edgeproxy.web.registry import RegistryEndpoint
from edgeproxy.web.token import TokenService, token_routes
from tests.http.harness import Clock, Lines, Reply, call, digest_of, image
from tests.issuer import NOW, Key, LocalIssuer, encoded

HOST = "registry.example"
PUBLIC_URL = f"https://{HOST}"
STORE_URL = "https://store.example.net"
CHALLENGE = f'Bearer realm="{PUBLIC_URL}/token",service="{HOST}"'
IMAGE = "application/vnd.oci.image.manifest.v1+json"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
JWT_TYPE = "urn:ietf:params:oauth:token-type:jwt"

POLICY = f"""\
version: 1
issuers:
  ci:
    url: https://ci.example
    audiences: [{HOST}, second.example]
    algorithms: [RS256]
  staff:
    url: https://staff.example/realm
    audiences: [{HOST}]
    max_token_age: 1h
rules:
  - name: builds
    issuer: ci
    match: {{repository_id: "74", ref: refs/heads/main}}
    allow: [{{repositories: [acme/app, "acme/app/**"], actions: [pull, push]}}]
  - name: keeps
    issuer: ci
    match: {{repository_id: "74", role: keeper}}
    allow: [{{repositories: [acme/app], actions: [pull, push, delete]}}]
  - name: reads
    issuer: staff
    match: {{groups: [readers]}}
    allow: [{{repositories: ["acme/**"], actions: [pull, catalog]}}]
  - name: rules-all
    issuer: staff
    match: {{groups: [admins]}}
    allow: [{{repositories: ["**"], actions: [pull, push, delete, catalog]}}]
public:
  - {{repositories: ["public/**"], actions: [pull, catalog]}}
"""

CI = {"repository_id": "74", "ref": "refs/heads/main"}
"""The claims of a build that rule `builds` names."""
LAYER = b"the bytes of a layer"
MANIFEST = image(LAYER)


class Counted:
    """A store that counts what is asked of it, by method and by the beginning of the key."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.calls: Counter[str] = Counter()
        self.failing: Exception | None = None
        """Raised in place of every answer, where there is one."""

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        def called(*arguments: Any, **options: Any) -> Any:
            self.calls[name] += 1
            if self.failing is not None:
                raise self.failing
            return method(*arguments, **options)

        return called

    @property
    def total(self) -> int:
        return self.calls.total()


@dataclass
class World:
    """The registry, its issuers and what it tells of itself."""

    clock: Clock
    ci: LocalIssuer
    staff: LocalIssuer
    stranger: LocalIssuer
    folder: Path
    store: Counted
    keys: SigningKeys
    policy: Policy
    lines: Lines = field(default_factory=Lines)
    fetched: list[str] = field(default_factory=list)
    audit: AuditLog = field(init=False)
    registry: Registry = field(init=False)
    gate: Gate = field(init=False)
    bearers: Bearers = field(init=False)
    app: Front = field(init=False)
    counters: Counters = field(default_factory=Counters)
    _markers: itertools.count[int] = field(default_factory=itertools.count)

    def build(self, claims: Mapping[str, Any] | None = None, **how: Any) -> str:
        """Mint the token of a build on the main branch."""
        return self.ci.mint({**CI, **(claims or {})}, **how)

    def person(self, *groups: str, **claims: Any) -> str:
        """Mint the token of somebody in these groups."""
        return self.staff.mint({"groups": list(groups), **claims})

    def numbers(self) -> Samples:
        """Give what /metrics would tell."""
        return counted(self.counters) | of_registry(self.registry)

    def set_policy(self, text: str) -> None:
        self.policy = policy_of(text)

    async def ask(
        self,
        method: str,
        target: str,
        *,
        token: str = "",
        headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
    ) -> Reply:
        """Send one request, with `token` as `Bearer`."""
        fields = list(headers.items()) if isinstance(headers, Mapping) else list(headers)
        if token:
            fields.append(("authorization", f"Bearer {token}"))
        if body is not None and not any(name.lower() == "content-length" for name, _ in fields):
            fields.append(("content-length", str(len(body))))
        return await call(self.app, method, target, fields, body)

    async def sign_in(self, token: str | None, scope: str = "", grant: str = "basic") -> Reply:
        """Ask for a bearer, in one of the ways that clients have."""
        if grant == "basic":
            headers = {} if token is None else {"authorization": basic("oidc", token)}
            return await self.ask("GET", f"/token?service=x&scope={quote(scope)}", headers=headers)
        assert token is not None
        form = {"grant_type": grant, "scope": scope, "service": "x", GRANTS[grant]: token}
        if grant == EXCHANGE:
            form["subject_token_type"] = JWT_TYPE
        return await self.post(form)

    async def post(self, form: Mapping[str, str] | Sequence[tuple[str, str]]) -> Reply:
        """Send a form to /token."""
        headers = {"content-type": "application/x-www-form-urlencoded"}
        return await self.ask("POST", "/token", headers=headers, body=urlencode(form).encode())

    async def bearer(self, token: str | None, *repositories: str) -> str:
        """Get a bearer for these repositories."""
        scope = " ".join(f"repository:{name}:pull" for name in repositories)
        return str((await self.sign_in(token, scope)).expect(200).json["token"])

    async def told(self) -> list[dict[str, Any]]:
        """Give the audit events since this was asked last."""
        marker = {"marker": next(self._markers)}
        self.audit.emit(marker)
        events: list[dict[str, Any]] = []
        while (event := await asyncio.to_thread(self.lines.queue.get)) != marker:
            events.append(event)
        return events

    async def push(self, repository: str, tag: str, *layers: bytes, token: str = "") -> bytes:
        """Push an image, as somebody who may."""
        token = token or self.person("admins")
        for blob in (b"{}", *layers):
            await self.push_blob(repository, blob, token=token)
        manifest = image(*layers)
        (await self.put(repository, tag, manifest, token=token)).expect(201)
        return manifest

    async def push_blob(self, repository: str, content: bytes, *, token: str) -> Reply:
        target = f"/v2/{repository}/blobs/uploads/?digest={digest_of(content)}"
        return (await self.ask("POST", target, token=token, body=content)).expect(201)

    async def put(self, repository: str, reference: str, manifest: bytes, *, token: str) -> Reply:
        target = f"/v2/{repository}/manifests/{reference}"
        return await self.ask("PUT", target, token=token, headers={"content-type": IMAGE}, body=manifest)


GRANTS = {"password": "password", "refresh_token": "refresh_token", EXCHANGE: "subject_token"}
"""Where each grant has its token."""


def policy_of(text: str) -> Policy:
    return load_policy(text.encode(), source="policy.yaml", loopback=False, now=NOW)


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def hmac_signed(header: Mapping[str, Any], claims: Mapping[str, Any], secret: bytes) -> str:
    """Sign as HS256 does, which no issuer here may use."""
    text = f"{encoded(header)}.{encoded(claims)}"
    return f"{text}.{encoded(hmac.digest(secret, text.encode(), hashlib.sha256))}"


def claims_of(token: str) -> dict[str, Any]:
    """Read the claims of a token."""
    payload = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=="))
    return claims


@asynccontextmanager
async def world_in(folder: Path, policy: str = POLICY) -> AsyncIterator[World]:
    """Run a registry over a directory, with an image in `acme/app`, `acme/other` and `public/app`."""
    clock = Clock(NOW)
    ci = LocalIssuer("https://ci.example", (Key.make("ci-1", "RS256", 1),))
    staff = LocalIssuer("https://staff.example/realm", (Key.make("staff-1", "ES256"), Key.make("staff-2", "EdDSA")))
    stranger = LocalIssuer("https://stranger.example", (Key.make("ci-1", "RS256", 2),))
    new_key(folder / "keys", NOW - 3600)
    store = await FilesystemStore.open(folder / "store")
    counted = Counted(store)
    keys = SigningKeys.load(folder / "keys", clock)
    world = World(clock, ci, staff, stranger, folder, counted, keys, policy_of(policy))
    issuer_keys = _wire(world, FilePresigner(STORE_URL, b"u" * 32, clock))
    try:
        for repository in ("acme/app", "acme/other", "public/app"):
            await world.push(repository, "latest", LAYER)
        await world.told()
        world.fetched.clear()
        store_calls = counted.calls
        store_calls.clear()
        yield world
        await world.registry.uploads.wait_for_commits()
    finally:
        await issuer_keys.close()
        world.audit.close()
        await store.close()


def _wire(world: World, presigner: FilePresigner) -> IssuerKeys:
    issuers = (world.ci, world.staff, world.stranger)

    async def fetch(url: str, ca: bytes | None) -> bytes:
        world.fetched.append(url)
        for issuer in issuers:
            if url.startswith(issuer.url):
                return await issuer.fetch(url, ca)
        raise FetchFailed("nobody is there")

    names = itertools.count()
    issuer_keys = IssuerKeys(fetch, world.clock)
    verifier = Verifier(issuer_keys)
    world.bearers = Bearers(world.keys, PUBLIC_URL, lambda count: next(names).to_bytes(count, "big"))
    credentials = Credentials(verifier, world.bearers)

    world.registry = make_registry(
        cast("Store", world.store),
        clock=world.clock,
        name=lambda: f"{next(names):032x}",
        session_keys=lambda: [secret for _, secret in world.keys.derive("upload sessions")],
        upload_memory_bytes=64 * 1024 * 1024,
        max_blob_bytes=None,
    )
    world.audit = AuditLog([world.lines])
    record = Record(world.audit, world.clock, lambda: world.policy.version, world.counters)
    world.gate = Gate(lambda: world.policy, credentials, world.clock, PUBLIC_URL)
    endpoint = RegistryEndpoint(
        world.registry,
        world.gate,
        presigner,
        Delivery("redirect", 300, may_redirect=True),
        max_manifest_bytes=4 * 1024 * 1024,
        record=record,
        make_id=lambda: "r1",
    )
    tokens = TokenService(
        policy=lambda: world.policy,
        verifier=verifier,
        bearers=world.bearers,
        keys=world.keys,
        public_url=PUBLIC_URL,
        token_seconds=900,
        clock=world.clock,
        make_id=lambda: "r1",
        audit=record.token,
    )
    probes = Probes({}, lambda: printed(world.numbers()))
    world.app = Front(
        endpoint, routed([*token_routes(tokens), *probes.probe_routes]), lambda: "r1", counters=world.counters
    )
    return issuer_keys
