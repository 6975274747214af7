"""Hostile headers, scopes and forms: each is a clear refusal without effect, and its twin one step away is accepted."""

from __future__ import annotations

import asyncio
import base64
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import quote

import pytest

from tests.hostile.harness import (
    CHALLENGE,
    EXCHANGE,
    HOST,
    JWT_TYPE,
    LAYER,
    MANIFEST,
    POLICY,
    PUBLIC_URL,
    STORE_URL,
    World,
    basic,
)
from tests.http.harness import Reply, digest_of, listening

TARGET = "/v2/acme/app/manifests/latest"
DIGEST = digest_of(LAYER)


def encoded(text: bytes) -> str:
    return "Basic " + base64.b64encode(text).decode()


# What stands in `Authorization`; {token} is a token that is accepted.
HEADERS: dict[str, tuple[Callable[[str], str], Callable[[str], str]]] = {
    "no credential": (lambda _: "Bearer", lambda token: f"Bearer {token}"),
    "blanks for a credential": (lambda _: "Bearer    ", lambda token: f"Bearer    {token}"),
    "no scheme": (lambda token: token, lambda token: f"bearer {token}"),
    "another scheme": (lambda token: f"Token {token}", lambda token: f"BEARER {token}"),
    "a scheme that challenges": (lambda _: "Negotiate YIIB", lambda token: f"Bearer {token} "),
    "two credentials in one": (lambda token: f"Bearer {token}, Bearer {token}", lambda token: f"Bearer {token}"),
    "a credential and more": (lambda token: f"Bearer {token} x", lambda token: f"Bearer {token}"),
    "a tab for a blank": (lambda token: f"Bearer\t{token}", lambda token: f"Bearer {token}"),
    "letters outside ASCII": (lambda token: f"Bearer {token}\u00e9", lambda token: f"Bearer {token}"),
    "a NUL": (lambda token: f"Bearer {token}\0", lambda token: f"Bearer {token}"),
    "Basic that is not base64": (lambda _: "Basic %%%", lambda token: basic("x", token)),
    "Basic in url-safe base64": (
        lambda token: "Basic " + base64.urlsafe_b64encode(f"~~~???:{token}".encode()).decode(),
        lambda token: basic("~~~???", token),
    ),
    "Basic without its padding": (lambda token: basic("xy", token + "a" * 4).rstrip("=") + "A", lambda token: basic("x", token)),
    "Basic without a colon": (lambda token: encoded(token.encode()), lambda token: encoded(b":" + token.encode())),
    "Basic with an empty password": (lambda _: basic("oidc", ""), lambda token: basic("", token)),
    "Basic with the token as the user": (lambda token: basic(token, ""), lambda token: basic(token, token)),
    "Basic with two colons": (lambda token: basic("user:name", token), lambda token: basic("user-name", token)),
    "Basic with a NUL": (lambda token: encoded(b"x:" + token.encode() + b"\0"), lambda token: encoded(b"x\0:" + token.encode())),
    "Basic with a newline": (lambda token: basic("x", token + "\n"), lambda token: basic("x\n", token)),
    "Basic with other letters": (lambda token: encoded(f"x:{token}\u00e9".encode()), lambda token: basic("x", token)),
    "Basic with bytes that are no text": (lambda _: encoded(b"x:\xff\xfe"), lambda token: basic("x", token)),
    "Basic with a password": (lambda _: basic("admin", "hunter2-hunter2-hunter2"), lambda token: basic("admin", token)),
    "Basic with a huge password": (lambda _: basic("x", "a" * 60_000), lambda token: basic("x" * 60_000, token)),
    "a huge bearer": (lambda token: f"Bearer {token}{'A' * 60_000}", lambda token: f"Bearer {token}"),
}  # fmt: skip


@pytest.mark.parametrize(("hostile", "twin"), HEADERS.values(), ids=HEADERS)
async def test_a_malformed_credential_is_refused_and_never_taken_for_none(
    world: World, hostile: Callable[[str], str], twin: Callable[[str], str]
) -> None:
    header, good = hostile(world.build()), twin(world.build())
    # Also where an anonymous caller would be served.
    for target in (TARGET, "/v2/public/app/manifests/latest", "/v2/", "/v2/_catalog"):
        refused = await world.ask("GET", target, headers={"authorization": header})
        assert refused.error == (401, "UNAUTHORIZED"), target
        assert refused.header("www-authenticate").startswith(CHALLENGE)
        assert 'error="invalid_token"' in refused.header("www-authenticate")
        assert "hunter2" not in str(refused)
    (await world.ask("GET", TARGET, headers={"authorization": good})).expect(200)


@pytest.mark.parametrize("name", [name for name in HEADERS if name.startswith(("Basic", "no", "another", "blanks"))])
async def test_the_token_endpoint_never_takes_a_malformed_credential_for_none(world: World, name: str) -> None:
    hostile, _ = HEADERS[name]
    refused = await world.ask(
        "GET", "/token?scope=repository:public/app:pull", headers={"authorization": hostile(world.build())}
    )
    assert refused.error == (401, "UNAUTHORIZED")
    assert "token" not in refused.json
    (await world.ask("GET", "/token?scope=repository:public/app:pull")).expect(200)


@pytest.mark.parametrize("target", [TARGET, "/v2/", "/v2/public/app/manifests/latest", "/token"])
@pytest.mark.parametrize("second", ["same", "other", "empty", "basic"])
async def test_two_authorization_headers_are_refused(world: World, target: str, second: str) -> None:
    first = basic("x", world.build())
    other = {"same": first, "other": basic("x", world.person("admins")), "empty": "", "basic": "Basic eDo="}[second]
    for pair in ((first, other), (other, first)):
        refused = await world.ask("GET", target, headers=[("authorization", value) for value in pair])
        assert refused.error == (400, "UNSUPPORTED")
    (await world.ask("GET", target, headers={"authorization": first})).expect(200)


# The ceiling of a bearer: repositories that were not asked for stay closed, whatever the policy allows.


@dataclass(frozen=True)
class Beyond:
    """A request beyond the scope of a bearer, and how it is answered to a bearer with the scope."""

    method: str
    target: str
    body: bytes | None
    accepted: int


OTHER = "/v2/acme/other"
BEYOND = {
    "a pull": Beyond("GET", f"{OTHER}/manifests/latest", None, 200),
    "a head": Beyond("HEAD", f"{OTHER}/manifests/latest", None, 200),
    "a blob": Beyond("GET", f"{OTHER}/blobs/{DIGEST}", None, 307),
    "tags": Beyond("GET", f"{OTHER}/tags/list", None, 200),
    "referrers": Beyond("GET", f"{OTHER}/referrers/{DIGEST}", None, 200),
    "an upload": Beyond("POST", f"{OTHER}/blobs/uploads/", b"", 202),
    "a blob in one": Beyond("POST", f"{OTHER}/blobs/uploads/?digest={DIGEST}", LAYER, 201),
    "a mount into it": Beyond("POST", f"{OTHER}/blobs/uploads/?mount={DIGEST}&from=acme/app", b"", 201),
    "a manifest": Beyond("PUT", f"{OTHER}/manifests/x", MANIFEST, 201),
    "a tag that goes": Beyond("DELETE", f"{OTHER}/manifests/latest", None, 202),
    "a blob that goes": Beyond("DELETE", f"{OTHER}/blobs/{DIGEST}", None, 202),
    "a public one": Beyond("GET", "/v2/public/app/manifests/latest", None, 200),
}


@pytest.mark.parametrize("case", BEYOND.values(), ids=BEYOND)
async def test_a_bearer_opens_nothing_beyond_the_repositories_it_was_asked_for(world: World, case: Beyond) -> None:
    headers = {"content-type": "application/vnd.oci.image.manifest.v1+json"}
    narrow = await world.bearer(world.person("admins"), "acme/app")
    refused = await world.ask(case.method, case.target, token=narrow, headers=headers, body=case.body)
    assert refused.status == 401
    challenge = refused.header("www-authenticate")
    assert challenge.startswith(CHALLENGE)
    assert 'error="insufficient_scope"' in challenge
    assert case.method == "HEAD" or refused.error == (401, "UNAUTHORIZED")
    wide = await world.bearer(world.person("admins"), "acme/app", "acme/other", "public/app")
    assert (
        await world.ask(case.method, case.target, token=wide, headers=headers, body=case.body)
    ).status == case.accepted


async def test_a_mount_from_beyond_the_scope_becomes_an_upload(world: World) -> None:
    await world.push("acme/other", "x", b"a layer of the other")
    digest = digest_of(b"a layer of the other")
    target = f"/v2/acme/app/blobs/uploads/?mount={digest}&from=acme/other"
    narrow = await world.bearer(world.person("admins"), "acme/app")
    assert (await world.ask("POST", target, token=narrow, body=b"")).status == 202
    assert (await world.ask("HEAD", f"/v2/acme/app/blobs/{digest}", token=narrow)).status == 404
    wide = await world.bearer(world.person("admins"), "acme/app", "acme/other")
    assert (await world.ask("POST", target, token=wide, body=b"")).status == 201


async def test_a_scope_is_never_a_grant(world: World) -> None:
    for scope in ("repository:acme/other:*", "repository:acme/other:pull,push,delete", "repository:acme/other:pull"):
        reply = await world.sign_in(world.build(), scope, "password")
        assert reply.expect(200).json["scope"] == ""
        assert (await world.ask("GET", f"{OTHER}/manifests/latest", token=reply.json["token"])).error == (403, "DENIED")
    mine = (await world.sign_in(world.build(), "repository:acme/app:pull", "password")).json["token"]
    (await world.ask("GET", TARGET, token=mine)).expect(200)


async def test_a_bearer_without_scope_opens_what_is_about_its_caller_and_no_repository(world: World) -> None:
    bare = await world.bearer(world.build())
    (await world.ask("GET", "/v2/", token=bare)).expect(200)
    assert (await world.ask("GET", "/v2/_edgeproxy/whoami", token=bare)).json["issuer"] == "ci"
    assert (await world.ask("GET", TARGET, token=bare)).error == (401, "UNAUTHORIZED")
    (await world.ask("GET", TARGET, token=await world.bearer(world.build(), "acme/app"))).expect(200)


SCOPES = [
    "repository:acme/app/../other:pull",
    "repository:acme%2Fother:pull",
    "repository:acme/*:pull",
    "repository:**:pull",
    "repository:ACME/OTHER:pull",
    "repository:acme/other\n:pull",
    "repository:acme/other\0:pull",
    "repository:localhost:5000/acme/other:pull",
    "repository: acme/other:pull",
    "registry:catalog:*",
    "repository:acme/other",
    "aws:acme/other:pull",
    ":acme/other:pull",
]


@pytest.mark.parametrize("scope", SCOPES)
async def test_a_scope_that_is_none_asks_for_nothing(world: World, scope: str) -> None:
    reply = await world.sign_in(world.person("admins"), scope)
    bearer = reply.expect(200).json["token"]
    assert (await world.ask("GET", f"{OTHER}/manifests/latest", token=bearer)).error == (401, "UNAUTHORIZED")
    twin = (
        (await world.sign_in(world.person("admins"), f"{scope} repository:acme/other:pull")).expect(200).json["token"]
    )
    (await world.ask("GET", f"{OTHER}/manifests/latest", token=twin)).expect(200)


async def test_a_scope_of_many_repositories_is_refused_before_the_policy_is_asked(world: World) -> None:
    """Two thousand short names fit into a form; each would be three decisions."""
    names = [f"{first}{second}" for first in "abcdefghij" for second in "abcdefghijk"]
    decided: list[object] = []
    policy_type = type(world.policy)
    original = policy_type.decide

    def counting(self: object, *arguments: object) -> object:
        decided.append(arguments)
        return original(self, *arguments)  # type: ignore[arg-type]

    policy_type.decide = counting  # type: ignore[method-assign, assignment]
    try:
        scope = " ".join(f"repository:{name}:pull" for name in names)
        assert (await world.sign_in(world.build(), scope, "password")).error == (400, "UNSUPPORTED")
        assert not decided
        few = " ".join(f"repository:{name}:pull" for name in names[:100])
        (await world.sign_in(world.build(), few)).expect(200)
        assert not decided, "GET does not tell what is granted, so nobody need find out"
        (await world.sign_in(world.build(), few, "password")).expect(200)
        assert len(decided) == 300
    finally:
        policy_type.decide = original  # type: ignore[method-assign]


# Forms.

Fields = Sequence[tuple[str, str]]


def grant(token: str, *more: tuple[str, str]) -> Fields:
    return [("grant_type", "password"), ("password", token), *more]


FORMS: dict[str, tuple[Callable[[str], Fields], int]] = {
    "no grant type": (lambda token: [("password", token)], 400),
    "an unknown grant type": (lambda token: [("grant_type", "client_credentials"), ("client_secret", token)], 400),
    "a grant type in capitals": (lambda token: [("grant_type", "PASSWORD"), ("password", token)], 400),
    "two grant types": (lambda token: grant(token, ("grant_type", "refresh_token")), 400),
    "two passwords": (lambda token: grant(token, ("password", token)), 400),
    "a password in the wrong field": (lambda token: [("grant_type", "password"), ("refresh_token", token)], 400),
    "no password": (lambda _: [("grant_type", "password"), ("username", "x")], 400),
    "an empty password": (lambda _: [("grant_type", "password"), ("password", "")], 401),
    "a password that is no token": (lambda _: grant("hunter2"), 401),
    "a blank before the token": (lambda token: grant(" " + token), 401),
    "a newline after the token": (lambda token: grant(token + "\n"), 401),
    "a NUL in the token": (lambda token: grant(token + "\0"), 401),
    "other letters in the token": (lambda token: grant(token + "\u00e9"), 401),
    "an exchange without its type": (lambda token: [("grant_type", EXCHANGE), ("subject_token", token)], 400),
    "an exchange of another type": (
        lambda token: [("grant_type", EXCHANGE), ("subject_token", token), ("subject_token_type", "urn:ietf:params:oauth:token-type:saml2")], 400
    ),
    "an exchange for another type": (
        lambda token: [("grant_type", EXCHANGE), ("subject_token", token), ("subject_token_type", JWT_TYPE),
                       ("requested_token_type", "urn:ietf:params:oauth:token-type:refresh_token")], 400
    ),
    "more fields than are read": (lambda token: grant(token, *[("x", "y")] * 200), 400),
}  # fmt: skip


@pytest.mark.parametrize(("form", "status"), FORMS.values(), ids=FORMS)
async def test_a_hostile_form_gets_no_bearer(world: World, form: Callable[[str], Fields], status: int) -> None:
    refused = await world.post(form(world.build()))
    assert refused.status == status
    assert refused.json["error"] == ("invalid_grant" if status == 401 else "invalid_request")
    assert not {"token", "access_token"} & set(refused.json)
    assert world.build()[:40] not in str(refused)
    (await world.post(grant(world.build(), ("username", "x"), ("scope", "repository:acme/app:pull")))).expect(200)


BODIES = {
    "JSON": ("application/json", b'{"grant_type":"password"}', 400),
    "parts": ("multipart/form-data; boundary=x", b"--x--", 400),
    "half an escape": ("application/x-www-form-urlencoded", b"grant_type=password&password=%4", 401),
    "bytes that are no text": ("application/x-www-form-urlencoded", b"grant_type=password&password=%ff", 400),
    "letters outside ASCII": ("application/x-www-form-urlencoded", "grant_type=pass\u00e9".encode(), 400),
    "nothing": ("application/x-www-form-urlencoded", b"", 400),
    "64 KiB and one byte": ("application/x-www-form-urlencoded", b"x" * 65537, 413),
}


@pytest.mark.parametrize(("content_type", "body", "status"), BODIES.values(), ids=BODIES)
async def test_a_body_that_is_no_form_gets_no_bearer(world: World, content_type: str, body: bytes, status: int) -> None:
    refused = await world.ask("POST", "/token", headers={"content-type": content_type}, body=body)
    assert refused.status == status
    assert not {"token", "access_token"} & set(refused.json)
    form = f"grant_type=password&password={quote(world.build())}".encode()
    good = {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}
    (await world.ask("POST", "/token", headers=good, body=form)).expect(200)


# Names of hosts: what the caller says of them is never believed.

GAMES: dict[str, dict[str, str]] = {
    "another host": {"host": "evil.example"},
    "a host with a path": {"host": "evil.example/v2/public?"},
    "a host with a user": {"host": f"{HOST}@evil.example"},
    "a host with a blank": {"host": "a b"},
    "no host": {},
    "an empty host": {"host": ""},
    "a forwarded host": {"host": HOST, "x-forwarded-host": "evil.example"},
    "a forwarded scheme": {"host": HOST, "x-forwarded-proto": "http", "x-forwarded-port": "1"},
    "a forwarded prefix": {"host": HOST, "x-forwarded-prefix": "/evil", "x-script-name": "/evil"},
    "Forwarded": {"host": HOST, "forwarded": "host=evil.example;proto=http"},
    "a rewritten path": {"host": HOST, "x-original-url": "/v2/public/app/tags/list", "x-rewrite-url": "/healthz"},
    "another method": {"host": HOST, "x-http-method-override": "DELETE"},
}


@pytest.mark.parametrize("headers", GAMES.values(), ids=GAMES)
async def test_neither_realm_nor_location_nor_link_follows_what_a_request_says_of_hosts(
    world: World, headers: dict[str, str]
) -> None:
    token = world.person("admins")
    refused = await world.ask("GET", TARGET, headers=headers)
    assert refused.header("www-authenticate").startswith(CHALLENGE + ",scope=")
    pulled = await world.ask("GET", f"/v2/acme/app/blobs/{DIGEST}", headers=headers, token=token)
    assert pulled.expect(307).header("location").startswith(f"{STORE_URL}/blobs/sha256/")
    started = await world.ask("POST", "/v2/acme/app/blobs/uploads/", headers=headers, token=token, body=b"")
    assert started.expect(202).header("location").startswith("/v2/acme/app/blobs/uploads/")
    page = await world.ask("GET", "/v2/_catalog?n=1", headers=headers, token=token)
    assert page.expect(200).header("link") == '</v2/_catalog?n=1&last=acme%2Fapp>; rel="next"'
    configuration = (await world.ask("GET", "/.well-known/openid-configuration", headers=headers)).expect(200).json
    assert all(value.startswith(PUBLIC_URL) for name, value in configuration.items() if isinstance(value, str))
    for path in ("/token/", "/healthz/", "/.well-known/jwks.json/", "//evil.example/token/"):
        reply = await world.ask("GET", path, headers=headers)
        assert (reply.status, reply.has("location")) == (404, False), path
    assert "evil" not in str([refused, pulled, started, page, configuration])


async def test_an_address_in_a_header_is_not_the_address_of_the_audit(world: World) -> None:
    await world.ask("GET", TARGET, headers={"x-forwarded-for": "203.0.113.9", "x-real-ip": "203.0.113.9"})
    (event,) = await world.told()
    assert event["client"]["address"] == "192.0.2.1"


# Where the framing itself is hostile, the request goes over TCP to the server that serves.

FRAMING = {
    "two lengths": b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "a length and chunks": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a chunk of no size": b"Transfer-Encoding: chunked\r\n\r\nxyz\r\nhello\r\n0\r\n\r\n",
    "a negative length": b"Content-Length: -5\r\n\r\nhello",
    "a length with a sign": b"Content-Length: +5\r\n\r\nhello",
    "a folded header": b"X: a\r\n b: c\r\nContent-Length: 5x\r\n\r\nhello",
    "a name with a blank": b"Content-Length : 5\r\n\r\nhello",
}


@pytest.mark.parametrize("server", ["hypercorn", "granian"])
@pytest.mark.parametrize("rest", FRAMING.values(), ids=FRAMING)
async def test_a_request_framed_in_two_ways_is_refused_and_nothing_behind_it_is_read(
    world: World, rest: bytes, server: str
) -> None:
    smuggled = b"GET /v2/public/app/manifests/latest HTTP/1.1\r\nHost: x\r\nX-Request-Id: smuggled\r\n\r\n"
    async with listening(world.app, server) as (host, port):

        async def send(text: bytes) -> bytes:
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(text)
            answer = await asyncio.wait_for(reader.read(), 30)
            writer.close()
            return answer

        answer = await send(b"POST /v2/acme/app/blobs/uploads/ HTTP/1.1\r\nHost: x\r\n" + rest + smuggled)
        assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 401")), answer[:100]
        assert b"smuggled" not in answer
        twin = b"POST /v2/acme/app/blobs/uploads/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello"
        assert (await send(twin)).startswith(b"HTTP/1.1 401")


async def test_hostile_requests_keep_no_memory(world: World) -> None:
    async def flood(start: int) -> Reply:
        for number in range(start, start + 300):
            await world.ask("GET", f"/token?scope={quote(f'repository:x{number}:pull ' * 150)}")
            reply = await world.ask(
                "GET", f"/v2/acme/n{number}/tags/list", headers={"authorization": f"Basic {'A' * 8000}"}
            )
        await world.told()
        return reply

    await flood(0)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        reply = await flood(300)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert reply.status == 401
    assert after - before < 512 * 1024


async def test_anonymous_callers_learn_of_no_rule(world: World) -> None:
    bearer = await world.bearer(None, "acme/app")
    refused = await world.ask("GET", TARGET, token=bearer)
    assert refused.error == (403, "DENIED")
    assert "rule" not in refused.message
    named = await world.ask("GET", TARGET, token=await world.bearer(world.build({"ref": "x"}), "acme/app"))
    assert "rule 'builds' comes nearest, but 'ref' differs" in named.message
    assert "refs/heads/main" not in str(named)
    assert POLICY.count("builds") == 1
