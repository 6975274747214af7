"""Tokens, keys and presigned queries reach no log, no audit line, no error body, no metric and no `repr`, whatever goes wrong."""

from __future__ import annotations

import base64
import json
import logging
import re
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from edgeproxy.access.bearers import Minted
from edgeproxy.access.credentials import Authenticated
from edgeproxy.access.exchange import read_form, read_query
from edgeproxy.access.jws import read
from edgeproxy.logs import JSONLines
from edgeproxy.storage import PresignedURL, StoreUnavailable
from edgeproxy.storage.presign import Credentials
from edgeproxy.web.heads import Head
from tests.hostile.harness import EXCHANGE, JWT_TYPE, World, basic
from tests.images import digest_of
from tests.issuer import Key, LocalIssuer
from tests.pushing import Client, Reply, client, manifest_of
from tests.r2.app import ACCESS_KEY, SECRET_KEY
from tests.r2.running import RunningDouble, running_double
from tests.running import Registry, StoreKind, bucket, registry, s3_bucket, temporary_folder

PATTERNS = {
    "a JSON Web Token": r"eyJ[A-Za-z0-9_-]{17,}",
    "a presigned query of S3": r"X-Amz-(?:Signature|Credential|Security-Token)=",
    "a signature of the filesystem's URLs": r"signature=[A-Za-z0-9_-]{10,}",
    "a PEM body": r"-----BEGIN|MIG[A-Za-z0-9+/]{17,}",
    "an Authorization value": r"(?i)(?:bearer|basic) +[A-Za-z0-9+/=._-]{20,}",
    "a signed request of S3": r"AWS4-HMAC-SHA256",
}
"""What secrets look like, whosoever they are."""

POLICY = """\
version: 1
issuers:
  ci: {{url: "{url}", audiences: [registry.example]}}
rules:
  - name: builds
    issuer: ci
    match: {{team: a}}
    allow: [{{repositories: ["acme/**"], actions: [pull, push, delete, catalog]}}]
"""


def segments(secret: str) -> list[str]:
    """Take a secret apart: a part of at least twenty characters is as bad as the whole."""
    return [part for part in re.split(r"[^A-Za-z0-9_-]+", secret) if len(part) >= 20]


def leaks(text: str, secrets: Iterable[str]) -> list[str]:
    """Say what of all this stands in a text."""
    found = [name for name, pattern in PATTERNS.items() if re.search(pattern, text)]
    return found + [f"a part of {secret[:6]}..." for secret in secrets for part in segments(secret) if part in text]


SESSION = base64.urlsafe_b64encode(bytes(range(60))).decode()
CANARIES = {
    "a token in a log line": 'refused {"authorization": "Bearer eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0abc.x"}',
    "the payload of a token alone": "eyJzdWIiOiIxMjM0NTY3ODkwIn0",
    "a Basic credential": f"Authorization: {basic('oidc', 'x' * 20)}",
    "a presigned URL": "https://store.example/blobs/x?X-Amz-Algorithm=y&X-Amz-Signature=0011",
    "a URL of the filesystem's": "http://store.example/blobs/x?expires=1&signature=abcdefghijklmnop",
    "a signing key": "-----BEGIN PRIVATE KEY-----",
    "the body of a signing key": "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0w",
    "a part of a session": f"PATCH /v2/acme/app/blobs/uploads/{SESSION[:30]} failed",
}


@pytest.mark.parametrize("text", CANARIES.values(), ids=CANARIES)
def test_the_scanner_finds(text: str) -> None:
    planted = [SESSION[:30]]
    assert leaks(text, planted)
    assert not leaks("GET /v2/acme/app/blobs/sha256:00 307 redirect, the token expired 5 minutes ago", planted)


@dataclass
class Gathered:
    """What a scenario knew that must stay secret, and what it was told."""

    secrets: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def keep(self, reply: Reply) -> Reply:
        """Note what an answer holds: a refusal tells, a Location is a secret."""
        headers = {name.lower(): value for name, value in reply.headers.items()}
        location = headers.get("location", "")
        if "/blobs/uploads/" in location:
            self.secrets.append(location.rpartition("/")[2])
        if "?" in location:
            self.secrets.append(location.partition("?")[2].rpartition("=")[2])
        if reply.status >= 400:
            self.told.append(reply.body.decode() + json.dumps(headers))
        return reply


@dataclass(frozen=True, slots=True)
class Place:
    """A registry as it is served, its issuer, and the store where it is the double."""

    registry: Registry
    issuer: LocalIssuer
    double: RunningDouble | None


@asynccontextmanager
async def place(kind: StoreKind) -> AsyncIterator[Place]:
    async with AsyncExitStack() as stack:
        folder = await stack.enter_async_context(temporary_folder())
        issuer = await stack.enter_async_context(LocalIssuer(keys=(Key.make("k", "RS256", 1),)).serving())
        double = None
        if kind == "r2":
            double = await stack.enter_async_context(running_double(write_interval=None))
            port = int(double.endpoint.rpartition(":")[2])
            store = s3_bucket("r2", port, folder, "auto", ACCESS_KEY, SECRET_KEY)
        else:
            store = await stack.enter_async_context(bucket(kind, folder))
        serving = registry(store, folder, policy=POLICY.format(url=issuer.url), log_level="debug")
        await serving.start()
        stack.push_async_callback(serving.stop)
        yield Place(serving, issuer, double)


def token(issuer: LocalIssuer, **claims: Any) -> str:
    now = time.time()
    return issuer.mint({"team": "a", "iat": now - 1, "exp": now + 300, **claims})


async def sign_in(ask: Client, shown: str, seen: Gathered) -> str:
    """Get a bearer by every way there is; give the last."""
    seen.secrets += [shown, basic("oidc", shown)]
    scope = "repository:acme/app:pull,push"
    replies = [
        seen.keep(await ask.ask("GET", f"/token?scope={scope}", headers={"Authorization": basic("oidc", shown)}))
    ]
    for name, field_name in (("password", "password"), ("refresh_token", "refresh_token"), (EXCHANGE, "subject_token")):
        form = f"grant_type={name}&scope={scope}&{field_name}={shown}&subject_token_type={JWT_TYPE}".encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        replies.append(seen.keep(await ask.ask("POST", "/token", data=form, headers=headers)))
    bearer = ""
    for reply in replies:
        if reply.status == 200:
            bearer = json.loads(reply.body)["token"]
            seen.secrets.append(bearer)
    return bearer


async def push_and_pull(ask: Client, bearer: str, seen: Gathered) -> None:
    held = {"Authorization": f"Bearer {bearer}"}
    octets = {"Content-Type": "application/octet-stream"}
    layer = b"a layer"
    for content in (b"{}", layer):
        reply = seen.keep(await ask.ask("POST", "/v2/acme/app/blobs/uploads/", headers=held)).expect(202)
        location = reply.header("location")
        patched = seen.keep(await ask.ask("PATCH", location, data=content, headers=held | octets)).expect(202)
        finish = f"{patched.header('location')}?digest="
        seen.keep(await ask.ask("PUT", f"{finish}{digest_of(b'x')}", headers=held)).expect(400)
        started = seen.keep(await ask.ask("POST", "/v2/acme/app/blobs/uploads/", headers=held)).header("location")
        seen.keep(await ask.ask("PUT", f"{started}?digest={digest_of(content)}", data=content, headers=held)).expect(
            201
        )
    manifest = manifest_of(b"{}", layer)
    kind = {"Content-Type": "application/vnd.oci.image.manifest.v1+json"}
    (await ask.ask("PUT", "/v2/acme/app/manifests/v1", data=manifest, headers=held | kind)).expect(201)
    (await ask.ask("GET", "/v2/acme/app/manifests/v1", headers=held)).expect(200)
    redirect = seen.keep(await ask.ask("GET", f"/v2/acme/app/blobs/{digest_of(layer)}", headers=held)).expect(307)
    signed = redirect.header("location")
    assert (await ask.ask("GET", signed)).expect(200).body == layer
    # A signed URL that was altered is refused by the store, whose answer is not ours where it is S3's.
    await ask.ask("GET", signed[:-4] + "AAAA")


async def be_refused(ask: Client, issuer: LocalIssuer, good: str, bearer: str, seen: Gathered) -> None:
    now = time.time()
    hostile = [
        token(issuer, exp=now - 4000),
        token(issuer, aud="elsewhere"),
        token(issuer, iss="https://stranger.example"),
        token(issuer, team="b"),
        good[:-8] + "AAAAAAAA",
        bearer[:-8] + "AAAAAAAA",
        issuer.mint({"team": "a"}, header={"kid": "unknown"}),
        "hunter2" * 6,
    ]
    paths = ("/v2/acme/app/manifests/v1", "/v2/other/app/manifests/v1", "/v2/", f"/v2/acme/app/blobs/{digest_of(b'?')}")
    for shown in hostile:
        await sign_in(ask, shown, seen)
        for header in (f"Bearer {shown}", basic("x", shown), f"Token {shown}", f"Bearer {shown} {shown}"):
            for path in paths:
                seen.keep(await ask.ask("GET", path, headers={"Authorization": header}))
    for path in ("/v2/acme/app/manifests/none", "/v2/other/app/tags/list", "/v2/acme/app/tags/list?n=x"):
        seen.keep(await ask.ask("GET", path, headers={"Authorization": f"Bearer {bearer}"}))


@pytest.mark.parametrize("kind", ["filesystem", "r2"])
@pytest.mark.timeout(180)
async def test_no_secret_reaches_what_is_told(kind: StoreKind) -> None:
    seen = Gathered()
    async with place(kind) as at:
        async with client(at.registry.url) as ask:
            good = token(at.issuer)
            bearer = await sign_in(ask, good, seen)
            await push_and_pull(ask, bearer, seen)
            await be_refused(ask, at.issuer, good, bearer, seen)
            if at.double is not None:
                at.double.double.faults.add("error", times=None, status=403, code="AccessDenied")
                at.double.double.faults.add("cut-body", operation="GetObject", times=None)
                for path in (
                    "manifests/v1",
                    f"manifests/{digest_of(b'cold')}",
                    f"blobs/{digest_of(b'cold')}",
                    "tags/list",
                ):
                    reply = await ask.ask("GET", f"/v2/acme/app/{path}", headers={"Authorization": f"Bearer {bearer}"})
                    seen.keep(reply)
                assert any('"UNAVAILABLE"' in text for text in seen.told)
                at.double.double.faults.clear()
        async with client(at.registry.operations_url) as operator:
            seen.told.append((await operator.ask("GET", "/metrics")).expect(200).body.decode())
            seen.told.append((await operator.ask("GET", "/readyz")).body.decode())
        await at.registry.stop()
        for pem in (at.registry.folder / "keys").iterdir():
            seen.secrets += [line for line in pem.read_text().splitlines() if "-----" not in line]
        log, audit = at.registry.log.read_text(), (at.registry.folder / "audit.log").read_text()
    seen.secrets += [SECRET_KEY]
    assert len(seen.secrets) > 30
    assert len(seen.told) > 100
    assert audit.count('"event":"token"') > 20
    assert '"event":"push"' in audit
    assert '"delivery":"redirect"' in audit
    assert '"level":"info"' in log
    assert kind != "r2" or "the store cannot answer" in log
    for text in (log, audit, *seen.told):
        assert not leaks(text, seen.secrets), text[:3000]


CRASHES = [
    RuntimeError("a bug"),
    StoreUnavailable("GetObject: AccessDenied"),
    TimeoutError(),
    KeyError("x"),
    RecursionError(),
]


@pytest.mark.parametrize("crash", CRASHES, ids=lambda crash: type(crash).__name__)
async def test_a_crash_tells_the_operator_where_and_nobody_a_secret(
    world: World, crash: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    shown = world.person("admins")
    bearer = await world.bearer(shown, "acme/app")
    started = await world.ask("POST", "/v2/acme/app/blobs/uploads/", token=shown, body=b"")
    location = started.header("location")
    (await world.ask("GET", location, token=shown)).expect(204)
    world.store.failing = crash
    told = []
    for credential in (shown, bearer):
        for method, target, body in (
            ("GET", "/v2/acme/app/manifests/latest", None),
            ("PUT", "/v2/acme/app/manifests/x", b"{}"),
            ("GET", "/v2/acme/app/tags/list", None),
            ("PATCH", location, b"x"),
            ("GET", location, None),
            ("DELETE", f"/v2/acme/app/blobs/{digest_of(b'x')}", None),
        ):
            headers = {"content-type": "application/vnd.oci.image.manifest.v1+json"} if method == "PUT" else {}
            reply = await world.ask(method, target, token=credential, headers=headers, body=body)
            assert reply.status in (400, 500, 503), (method, target)
            told.append(reply.body.decode())
    told += [json.dumps(event, default=str) for event in await world.told()]
    formatter = JSONLines()
    logged = [formatter.format(record) for record in caplog.records if record.name.startswith("edgeproxy")]
    assert logged
    assert not isinstance(crash, RuntimeError) or any("traceback" in line for line in logged)
    secrets = [shown, bearer, location.rpartition("/")[2], *map(str, derived(world))]
    for text in (*told, *logged):
        assert not leaks(text, secrets), text
    world.store.failing = None
    (await world.ask("GET", "/v2/acme/app/manifests/latest", token=bearer)).expect(200)


def derived(world: World) -> list[str]:
    """Give every spelling of the keys that are derived from the signing keys."""
    raw = [secret for _, secret in world.keys.derive("upload sessions")]
    return [text for secret in raw for text in (secret.hex(), base64.urlsafe_b64encode(secret).decode(), repr(secret))]


async def test_no_repr_shows_a_secret(world: World) -> None:
    shown = world.build()
    bearer = await world.bearer(shown, "acme/app")
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "raw_path": b"/token",
        "query_string": f"x={shown}".encode(),
        "headers": [(b"authorization", f"Bearer {shown}".encode())],
    }
    who = Authenticated(None, None, b"\x01" * 32, presented=True)
    form = f"grant_type=password&password={shown}".encode()
    values: list[object] = [
        read(shown),
        Head.read(scope),
        read_query(b"", [basic("x", shown).encode()]),
        read_form("", form),
        Minted(bearer, 60),
        world.bearers.verify(bearer, world.policy, world.clock()),
        PresignedURL("https://store.example/x?X-Amz-Signature=00", 300),
        Credentials(ACCESS_KEY, SECRET_KEY, "session-token-of-the-tests"),
        world.keys,
        world.keys.signing,
        world.policy,
        who,
    ]
    secrets = [shown, bearer, SECRET_KEY, "session-token-of-the-tests", *derived(world)]
    for value in values:
        assert not leaks(f"{value!r}{value}", secrets), type(value)


@pytest.mark.parametrize("tail", ["/x", "%20", ".", "/", "//", "/../x", "?digest=x", "\u00e9"])
async def test_a_location_that_was_damaged_on_its_way_is_not_repeated(world: World, tail: str) -> None:
    shown = world.build()
    location = (await world.ask("POST", "/v2/acme/app/blobs/uploads/", token=shown, body=b"")).header("location")
    await world.told()
    for method in ("GET", "PUT", "PATCH"):
        reply = await world.ask(method, location + tail, token=shown, body=b"x" if method != "GET" else None)
        told = f"{await world.told()}{reply.body.decode()}"
        session = location.rpartition("/")[2]
        if reply.status >= 400:
            assert not leaks(told, [session[:20], session[:40], session[-20:], session])
    (await world.ask("GET", location, token=shown)).expect(204)
