"""/token and /.well-known/ over HTTP: request, status, headers and body."""

from __future__ import annotations

import base64
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest
from starlette.applications import Starlette

from edgeproxy.access.bearers import Bearers
from edgeproxy.access.issuers import IssuerKeys
from edgeproxy.access.policy import load_policy
from edgeproxy.access.signing import SigningKeys, new_key
from edgeproxy.access.tokens import Verifier
from edgeproxy.web.token import MAX_FORM_BYTES, TokenEvent, TokenService, token_routes
from tests.issuer import NOW, Key, LocalIssuer

URL = "https://registry.example"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
JWT_TYPE = "urn:ietf:params:oauth:token-type:jwt"
POLICY = load_policy(
    b"""
version: 1
issuers:
  main: {url: "https://issuer.example", audiences: [registry.example]}
rules:
  - {name: pushes, issuer: main, match: {team: a}, allow: [{repositories: ["acme/**"], actions: [pull, push]}]}
  - {name: long, issuer: main, match: {team: a}, allow: [{repositories: [acme/slow], actions: [delete]}], token_seconds: 7200}
public:
  - {repositories: ["public/**"], actions: [pull]}
""",
    source="policy.yaml",
    loopback=False,
    now=NOW,
)


class World:
    """The endpoints, called in process, with a clock that stands still."""

    def __init__(self, folder: Path) -> None:
        self.now = NOW
        self.issuer = LocalIssuer()
        self.events: list[TokenEvent] = []
        new_key(folder, NOW)
        keys = SigningKeys.load(folder)
        self.bearers = Bearers(keys, URL, os.urandom)
        service = TokenService(
            policy=lambda: POLICY,
            verifier=Verifier(IssuerKeys(self.issuer.fetch, lambda: self.now)),
            bearers=self.bearers,
            keys=keys,
            public_url=URL,
            token_seconds=900,
            clock=lambda: self.now,
            make_id=lambda: "made-id",
            audit=self.events.append,
        )
        transport = httpx2.ASGITransport(app=Starlette(routes=token_routes(service)))
        self.http = httpx2.AsyncClient(transport=transport, base_url=URL)

    def team(self, name: str = "a", **claims: Any) -> str:
        return self.issuer.mint({"team": name, **claims})

    async def get(self, scope: str = "", token: str | None = None, **headers: str) -> httpx2.Response:
        if token is not None:
            headers["Authorization"] = basic("oidc", token)
        return await self.http.get("/token", params={"scope": scope, "service": "x"}, headers=headers)

    async def post(self, **form: str) -> httpx2.Response:
        return await self.http.post("/token", data=form)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    async with world.http:
        yield world


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


async def test_a_token_in_basic_becomes_a_bearer(world: World) -> None:
    answer = await world.get("repository:acme/app:pull", world.team())
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-request-id"] == "made-id"
    body = answer.json()
    assert set(body) == {"token", "access_token", "expires_in"}
    assert body["token"] == body["access_token"]
    assert body["expires_in"] == 300
    assert type(body["expires_in"]) is int
    bearer = world.bearers.verify(body["token"], POLICY, NOW)
    assert bearer.caller is not None
    assert (bearer.caller.subject, bearer.scope) == ("someone", frozenset({"acme/app"}))


async def test_an_anonymous_caller_gets_an_anonymous_bearer(world: World) -> None:
    answer = await world.get("repository:public/app:pull")
    assert answer.status_code == 200
    assert answer.json()["expires_in"] == 900
    bearer = world.bearers.verify(answer.json()["token"], POLICY, NOW)
    assert (bearer.caller, bearer.scope) == (None, frozenset({"public/app"}))


async def test_scopes_may_be_repeated_and_separated_by_spaces(world: World) -> None:
    answer = await world.http.get(
        "/token?scope=repository:acme/a:pull&scope=repository:acme/b:pull%20repository:acme/c:pull,push&x=1"
    )
    bearer = world.bearers.verify(answer.json()["token"], POLICY, NOW)
    assert bearer.scope == {"acme/a", "acme/b", "acme/c"}


async def test_who_may_do_nothing_gets_a_bearer_all_the_same(world: World) -> None:
    answer = await world.post(grant_type="password", password=world.team("b"), scope="repository:acme/app:push")
    assert (answer.status_code, answer.json()["scope"]) == (200, "")


@pytest.mark.parametrize("grant", ["password", "refresh_token", EXCHANGE])
async def test_each_grant_of_a_form_becomes_a_bearer(world: World, grant: str) -> None:
    token, scope = world.team(), "repository:public/x:pull repository:acme/slow:pull repository:acme/slow:push"
    form = {"password": {"password": token, "username": "u"}, "refresh_token": {"refresh_token": token}}.get(
        grant, {"subject_token": token, "subject_token_type": JWT_TYPE}
    )
    answer = await world.post(grant_type=grant, scope=scope, service="elsewhere", client_id="c", **form)
    body = answer.json()
    assert answer.status_code == 200
    assert body["access_token"] == body["token"]
    assert body["expires_in"] == 7200
    assert body["scope"] == "repository:acme/slow:pull,push,delete repository:public/x:pull"
    assert body["token_type"] == "Bearer"
    assert body.get("issued_token_type") == (
        "urn:ietf:params:oauth:token-type:access_token" if grant == EXCHANGE else None
    )
    assert not {"issued_at", "refresh_token"} & set(body)


async def test_a_form_may_come_in_pieces_of_unknown_number(world: World) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"grant_type=refresh_tok"
        yield b"en&refresh_token="
        yield world.team().encode()

    answer = await world.http.post(
        "/token",
        content=pieces(),
        headers={"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"},
    )
    assert answer.status_code == 200


async def test_a_form_has_a_greatest_size(world: World) -> None:
    start = f"grant_type=password&password={world.team()}&x="
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    largest = start + "x" * (MAX_FORM_BYTES - len(start))
    assert (await world.http.post("/token", content=largest, headers=headers)).status_code == 200
    answer = await world.http.post("/token", content=largest + "x", headers=headers)
    assert answer.status_code == 413
    assert answer.json()["errors"][0]["message"] == "the form is larger than 65536 bytes"


async def test_an_expired_token_is_told_what_to_do(world: World) -> None:
    answer = await world.get("repository:acme/app:pull", world.team(exp=NOW - 720))
    assert answer.status_code == 401
    assert answer.json() == {
        "errors": [
            {
                "code": "UNAUTHORIZED",
                "message": "the token expired 12 minutes ago; get a fresh token and try again (request made-id)",
            }
        ]
    }
    assert answer.headers["cache-control"] == "no-store"


async def test_a_refused_form_speaks_oauth_too(world: World) -> None:
    answer = await world.post(grant_type="password", password=world.team(aud="elsewhere"))
    body = answer.json()
    assert answer.status_code == 401
    assert body["error"] == "invalid_grant"
    assert body["error_description"] == body["errors"][0]["message"]
    assert "registry.example" not in answer.text


@pytest.mark.parametrize(
    ("claims", "told"),
    [
        ({"aud": "elsewhere"}, "the token's audience is not this registry"),
        ({"iss": "https://evil.example"}, "does not accept tokens of this issuer"),
        ({"nbf": NOW + 90}, "not valid yet"),
        ({"sub": ""}, "sub claim"),
    ],
)
async def test_a_refused_token_is_told_why(world: World, claims: dict[str, Any], told: str) -> None:
    answer = await world.get(token=world.team(**claims))
    assert answer.status_code == 401
    assert told in answer.json()["errors"][0]["message"]
    assert (await world.get(token=world.team())).status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        "Basic",
        "Basic %%%",
        "Basic " + base64.b64encode(b"nocolon").decode(),
        basic("user", ""),
        basic("user", "hunter2"),
        "Bearer x",
        "Negotiate x",
    ],
)
async def test_a_malformed_credential_is_never_taken_for_none(world: World, header: str) -> None:
    answer = await world.get("repository:public/app:pull", Authorization=header)
    assert answer.status_code == 401
    assert answer.json()["errors"][0]["code"] == "UNAUTHORIZED"
    assert "hunter2" not in answer.text + repr(world.events)
    assert (await world.get("repository:public/app:pull")).status_code == 200


async def test_two_credentials_are_a_bad_request(world: World) -> None:
    headers = [("Authorization", basic("a", world.team())), ("Authorization", basic("b", world.team()))]
    answer = await world.http.get("/token", headers=headers)
    assert answer.status_code == 400
    assert (await world.http.get("/token", headers=headers[:1])).status_code == 200


@pytest.mark.parametrize("form", [{}, {"grant_type": "password"}, {"grant_type": "client_credentials"}])
async def test_a_form_that_asks_for_something_else_is_a_bad_request(world: World, form: dict[str, str]) -> None:
    answer = await world.post(**form, unknown="x")
    assert answer.status_code == 400
    assert answer.json()["error"] == "invalid_request"
    assert (await world.post(grant_type="password", password=world.team(), unknown="x")).status_code == 200


async def test_a_bearer_of_ours_buys_no_other(world: World) -> None:
    bearer = (await world.get("repository:acme/app:pull", world.team())).json()["token"]
    assert (await world.get("repository:acme/other:pull", bearer)).status_code == 401
    answer = await world.post(grant_type=EXCHANGE, subject_token=bearer, subject_token_type=JWT_TYPE)
    assert answer.status_code == 401
    answer = await world.post(grant_type=EXCHANGE, subject_token=world.team(), subject_token_type=JWT_TYPE)
    assert answer.status_code == 200


async def test_a_stranger_costs_no_network_call(world: World) -> None:
    stranger = LocalIssuer("https://evil.example", (Key.make("evil"),))
    assert (await world.get(token=stranger.mint())).status_code == 401
    assert not world.issuer.fetches


async def test_an_issuer_that_is_down_is_told_as_such(world: World) -> None:
    world.issuer.fault = "down"
    answer = await world.get(token=world.team())
    assert answer.status_code == 401
    assert "cannot be read at the moment" in answer.text
    assert (await world.get("repository:public/app:pull")).status_code == 200


async def test_other_methods_are_not_answered(world: World) -> None:
    assert (await world.http.put("/token")).status_code == 405
    assert (await world.http.delete("/token")).status_code == 405


@pytest.mark.parametrize(("given", "kept"), [("abc-1", "abc-1"), ("x" * 200, "made-id"), ("a b", "made-id")])
async def test_a_sane_request_id_is_kept(world: World, given: str, kept: str) -> None:
    for path in ("/token", "/.well-known/jwks.json", "/.well-known/openid-configuration"):
        answer = await world.http.get(path, headers={"X-Request-Id": given})
        assert answer.headers["x-request-id"] == kept


async def test_each_answer_leaves_an_event(world: World) -> None:
    await world.get("repository:acme/b:pull repository:acme/a:pull", world.team(), **{"User-Agent": "docker/1"})
    await world.post(grant_type="password", password=world.team(aud="elsewhere"), scope="repository:acme/a:pull")
    await world.post(grant_type="nonsense")
    issued, refused, bad = world.events
    assert issued.allowed
    assert issued.caller is not None
    assert (issued.caller.subject, issued.status, issued.grant, issued.expires_in) == ("someone", 200, "basic", 300)
    assert issued.repositories == ("acme/a", "acme/b")
    assert (issued.policy, issued.user_agent, issued.request_id) == (POLICY.version, "docker/1", "made-id")
    assert not refused.allowed
    assert (refused.caller, refused.status, refused.grant, refused.reason) == (None, 401, "password", "audience")
    assert "elsewhere" in refused.detail
    assert refused.repositories == ("acme/a",)
    assert (bad.status, bad.reason, bad.grant) == (400, "bad_request", "")


async def test_no_answer_and_no_event_shows_the_token_that_was_sent(world: World) -> None:
    for token in (world.team(), world.team(aud="elsewhere"), world.team(exp=1), world.team() + "x"):
        answers = [await world.get(token=token), await world.post(grant_type="password", password=token)]
        shown = "".join(answer.text for answer in answers) + repr(world.events)
        assert not any(part in shown for part in token.split("."))


async def test_our_bearer_can_be_verified_by_what_we_publish(world: World) -> None:
    configuration = (await world.http.get("/.well-known/openid-configuration")).json()
    assert configuration["issuer"] == URL
    assert configuration["token_endpoint"] == f"{URL}/token"
    assert EXCHANGE in configuration["grant_types_supported"]
    published = await world.http.get(configuration["jwks_uri"])
    assert published.headers["cache-control"] == "public, max-age=300"
    token = (await world.get(token=world.team())).json()["token"]
    key = jwt.PyJWKSet.from_dict(published.json())[jwt.get_unverified_header(token)["kid"]]
    options: Any = {"verify_exp": False, "verify_iat": False}
    claims = jwt.decode(token, key, algorithms=["ES256"], audience=URL, issuer=URL, options=options)
    assert claims["sub"] == "someone"
    assert "d" not in published.json()["keys"][0]
