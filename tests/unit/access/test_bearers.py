"""Our own bearer: what it carries, and what is not accepted in its place."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from edgeproxy.access import jws
from edgeproxy.access.bearers import BEARER_TYPE, MAX_BEARER_BYTES, Bearers
from edgeproxy.access.credentials import ANONYMOUS, Credentials
from edgeproxy.access.decisions import Identity
from edgeproxy.access.issuers import IssuerKeys
from edgeproxy.access.policy import Policy, load_policy
from edgeproxy.access.refusals import TokenReason, TokenRefused
from edgeproxy.access.signing import SigningKeys, new_key, retire
from edgeproxy.access.tokens import LEEWAY_SECONDS, Verifier
from edgeproxy.oci.errors import BadRequest
from edgeproxy.oci.names import Repository
from tests.issuer import GITHUB, NOW, Key, LocalIssuer, sign

R = TokenReason
URL = "https://registry.example"
APP = Repository.parse("acme/app")

ISSUERS = """
version: 1
issuers:
  main: {url: "https://issuer.example", audiences: [registry.example]}
  other: {url: "https://other.example", audiences: [registry.example]}
"""
RULES = """
rules:
  - {name: pulls, issuer: main, match: {repository_id: "74", ref: refs/heads/main}, allow: [{repositories: [acme/app], actions: [pull]}]}
"""


def policy(text: str = ISSUERS + RULES) -> Policy:
    return load_policy(text.encode(), source="policy.yaml", loopback=False, now=NOW)


POLICY = policy()
CALLER = Identity("main", "someone", {"sub": "someone", "repository_id": "74", "flag": True}, NOW + 300)


class World:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        new_key(folder, NOW - 9000)
        self.keys = SigningKeys.load(folder)
        self.bearers = Bearers(self.keys, URL, lambda size: b"\1" * size)
        self.issuer = LocalIssuer()
        self.verifier = Verifier(IssuerKeys(self.issuer.fetch, lambda: NOW))
        self.credentials = Credentials(self.verifier, self.bearers)

    def mint(self, caller: Identity | None = CALLER, scope: Sequence[Repository] = (APP,), seconds: int = 600) -> str:
        return self.bearers.mint(caller, POLICY, scope, seconds, NOW).token

    def refusal(self, token: str, under: Policy = POLICY, now: float = NOW) -> TokenRefused:
        with pytest.raises(TokenRefused) as caught:
            self.bearers.verify(token, under, now)
        return caught.value

    async def unauthenticated(self, header: bytes, under: Policy = POLICY, now: float = NOW) -> TokenRefused:
        with pytest.raises(TokenRefused) as caught:
            await self.credentials.authenticate([header], under, now)
        return caught.value


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_bearer_carries_the_caller_the_scope_and_the_end_of_the_token_shown(world: World) -> None:
    bearer = world.bearers.verify(world.mint(), POLICY, NOW)
    assert bearer.caller == CALLER
    assert bearer.scope == {"acme/app"}
    assert bearer.ends == NOW + 600 + LEEWAY_SECONDS


def test_an_anonymous_bearer_has_no_caller(world: World) -> None:
    bearer = world.bearers.verify(world.mint(None, ()), POLICY, NOW)
    assert (bearer.caller, bearer.scope) == (None, frozenset())


def test_what_a_bearer_says(world: World) -> None:
    token = jws.read(world.mint())
    assert token.header == {"alg": "ES256", "kid": world.keys.signing.kid, "typ": "edgeproxy+jwt"}
    assert token.claims == {
        "iss": URL,
        "aud": URL,
        "iat": NOW,
        "exp": NOW + 600,
        "jti": "01" * 12,
        "scope": ["acme/app"],
        "sub": "someone",
        "idp": "main",
        "idp_url": "https://issuer.example",
        "ends": NOW + 300,
        "claims": dict(CALLER.claims),
        "names": ["ref", "repository_id"],
    }


def test_a_bearer_is_accepted_until_its_end_and_the_leeway(world: World) -> None:
    token = world.mint()
    assert world.bearers.verify(token, POLICY, NOW + 629)
    refused = world.refusal(token, now=NOW + 630)
    assert (refused.reason, refused.message) == (R.EXPIRED, "this token expired 30 seconds ago; get another")
    assert world.bearers.verify(token, POLICY, NOW - 30)
    assert world.refusal(token, now=NOW - 31).reason is R.NOT_YET_VALID


def test_a_bearer_lives_on_under_a_policy_that_asks_for_the_same_claims(world: World) -> None:
    fewer = policy(ISSUERS + RULES.replace(", ref: refs/heads/main", "").replace("acme/app", "acme/other"))
    assert world.bearers.verify(world.mint(), fewer, NOW).caller == CALLER


@pytest.mark.parametrize(
    "entry",
    [
        'deny: [{name: d, match: {actor: x}, repositories: ["**"], actions: [pull]}]',
        'deny: [{name: d, issuer: main, match: {actor: x}, repositories: ["**"], actions: [pull]}]',
    ],
)
def test_a_bearer_that_lacks_a_claim_the_policy_now_names_is_outdated(world: World, entry: str) -> None:
    """A new deny must not miss a claim that is simply not there."""
    refused = world.refusal(world.mint(), policy(ISSUERS + RULES + entry))
    assert (refused.reason, refused.detail) == (R.OUTDATED, "issuer main, claims ['actor']")
    elsewhere = entry.replace("match", "issuer: other, match").replace("issuer: main, ", "")
    assert world.bearers.verify(world.mint(), policy(ISSUERS + RULES + elsewhere), NOW)


def test_a_bearer_of_an_issuer_that_is_listed_no_more_is_outdated(world: World) -> None:
    gone = policy('version: 1\nissuers: {other: {url: "https://other.example", audiences: [a]}}')
    assert world.refusal(world.mint(), gone).reason is R.OUTDATED
    assert world.bearers.verify(world.mint(None), gone, NOW)


def test_a_bearer_of_another_issuer_under_the_same_name_is_outdated(world: World) -> None:
    moved = policy((ISSUERS + RULES).replace("https://issuer.example", "https://issuer.example/"))
    assert world.refusal(world.mint(), moved).reason is R.OUTDATED


def test_a_bearer_of_a_retired_key_is_refused(world: World) -> None:
    token = world.mint()
    old = world.keys.signing.kid
    new_key(world.folder, NOW)
    world.keys.reload()
    assert world.bearers.verify(token, POLICY, NOW)
    retire(world.folder, old)
    world.keys.reload()
    assert world.refusal(token).reason is R.KEY
    assert world.bearers.verify(world.mint(), POLICY, NOW)


def test_a_bearer_of_another_registry_with_the_same_keys_is_refused(world: World) -> None:
    other = Bearers(world.keys, "https://other.example", lambda size: b"\1" * size)
    assert world.refusal(other.mint(None, POLICY, (), 600, NOW).token).reason is R.AUDIENCE


def forged(world: World, header: dict[str, Any], claims: dict[str, Any] | None = None, key: Key | None = None) -> str:
    """Sign what `mint` would not write, with our own key or another."""
    own = Key(world.keys.signing.kid, "ES256", world.keys.signing._private)
    real = jws.read(world.mint())
    whole = {name: value for name, value in {**real.header, **header}.items() if value is not None}
    return sign(key or own, whole, {**real.claims, **(claims or {})})


HEADERS: dict[str, tuple[dict[str, Any], TokenReason]] = {
    "the type of a foreign token": ({"typ": "JWT"}, R.TYPE),
    "our type in capitals": ({"typ": "EDGEPROXY+JWT"}, R.TYPE),
    "no type": ({"typ": None}, R.TYPE),
    "the algorithm none": ({"alg": "none"}, R.TYPE),
    "a shared algorithm": ({"alg": "HS256"}, R.TYPE),
    "another algorithm": ({"alg": "RS256"}, R.TYPE),
    "something critical": ({"crit": ["exp"]}, R.TYPE),
    "no key": ({"kid": None}, R.KEY),
    "an unknown key": ({"kid": "other"}, R.KEY),
    "a list of keys": ({"kid": ["other"]}, R.KEY),
}


@pytest.mark.parametrize(("header", "reason"), HEADERS.values(), ids=HEADERS.keys())
def test_a_bearer_is_refused_with(world: World, header: dict[str, Any], reason: TokenReason) -> None:
    assert world.refusal(forged(world, header)).reason is reason
    assert world.bearers.verify(forged(world, {}), POLICY, NOW).caller == CALLER


def test_a_bearer_signed_with_another_key_is_refused(world: World) -> None:
    assert world.refusal(forged(world, {}, key=Key.make("x"))).reason is R.SIGNATURE


def test_a_bearer_of_another_version_of_edgeproxy_is_outdated(world: World) -> None:
    assert world.refusal(forged(world, {}, {"names": None})).reason is R.OUTDATED
    assert world.refusal(forged(world, {}, {"exp": "never"})).reason is R.OUTDATED


async def test_a_bearer_is_no_subject_token_even_of_a_policy_that_lists_us(world: World) -> None:
    listed = policy(f'version: 1\nissuers: {{us: {{url: "{URL}", audiences: ["{URL}"]}}}}')
    with pytest.raises(TokenRefused) as caught:
        await world.verifier.verify(world.mint(), listed, NOW)
    assert caught.value.reason is R.TYPE


def test_a_foreign_token_is_no_bearer(world: World) -> None:
    assert world.refusal(world.issuer.mint()).reason is R.TYPE
    claims = dict(jws.read(world.mint()).claims)
    dressed = world.issuer.mint(claims, header={"typ": BEARER_TYPE, "kid": world.keys.signing.kid})
    assert world.refusal(dressed).reason is R.SIGNATURE


def test_a_usual_bearer_is_small(world: World) -> None:
    everything = Identity("main", str(GITHUB["sub"]), {**GITHUB}, NOW + 300)
    scope = [Repository.parse(f"acme/{number}") for number in range(10)]
    assert len(world.mint(everything, scope)) < 4096


def test_a_bearer_that_no_header_holds_is_not_made(world: World) -> None:
    def member(groups: int) -> Identity:
        return Identity("main", "s", {"groups": [f"{number:036}" for number in range(groups)]}, NOW + 300)

    assert len(world.mint(member(130))) <= MAX_BEARER_BYTES
    with pytest.raises(TokenRefused) as caught:
        world.mint(member(200))
    assert caught.value.reason is R.TOO_MANY_CLAIMS


def test_a_new_bearer_does_not_show_itself(world: World) -> None:
    minted = world.bearers.mint(CALLER, POLICY, (), 60, NOW)
    assert minted.token[:20] not in repr(minted)
    assert minted.expires_in == 60


def basic(user: str, secret: str) -> bytes:
    return b"Basic " + base64.b64encode(f"{user}:{secret}".encode())


async def test_a_request_without_a_credential_is_anonymous(world: World) -> None:
    assert await world.credentials.authenticate([], POLICY, NOW) is ANONYMOUS


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER  "])
async def test_a_bearer_authenticates_within_its_scope(world: World, scheme: str) -> None:
    found = await world.credentials.authenticate([scheme.encode() + world.mint().encode()], POLICY, NOW)
    assert (found.caller, found.scope, found.presented) == (CALLER, frozenset({"acme/app"}), True)


async def test_an_anonymous_bearer_authenticates_nobody(world: World) -> None:
    found = await world.credentials.authenticate([b"Bearer " + world.mint(None).encode()], POLICY, NOW)
    assert (found.caller, found.scope, found.presented) == (None, frozenset({"acme/app"}), True)


@pytest.mark.parametrize("form", ["bearer", "basic"])
async def test_an_oidc_token_authenticates_without_a_ceiling(world: World, form: str) -> None:
    token = world.issuer.mint(GITHUB)
    header = b"Bearer " + token.encode() if form == "bearer" else basic("any", token)
    found = await world.credentials.authenticate([header], POLICY, NOW)
    assert found.caller is not None
    assert found.caller.subject == GITHUB["sub"]
    assert found.scope is None


async def test_the_hash_of_a_token_is_the_same_in_both_forms_and_no_other(world: World) -> None:
    token, other = world.issuer.mint(GITHUB), world.issuer.mint()
    headers = [b"Bearer " + token.encode(), basic("a", token), basic("b", token), basic("a", other)]
    hashes = [(await world.credentials.authenticate([header], POLICY, NOW)).token for header in headers]
    assert len(set(hashes)) == 2
    assert hashes[0] == hashes[1] == hashes[2] != hashes[3]
    assert {len(hashed) for hashed in hashes} == {32}


async def test_two_credentials_are_a_bad_request(world: World) -> None:
    header = b"Bearer " + world.mint().encode()
    for second in (header, b"Basic eDp5", b""):
        with pytest.raises(BadRequest):
            await world.credentials.authenticate([header, second], POLICY, NOW)
    assert await world.credentials.authenticate([header], POLICY, NOW)


REFUSED: dict[str, tuple[bytes, TokenReason]] = {
    "empty": (b"", R.CREDENTIAL),
    "a scheme alone": (b"Bearer", R.CREDENTIAL),
    "a scheme and a space": (b"Bearer ", R.CREDENTIAL),
    "an unknown scheme": (b"Digest x", R.CREDENTIAL),
    "bytes outside ASCII": (b"Bearer \xff", R.CREDENTIAL),
    "no token": (b"Bearer token", R.MALFORMED),
    "Basic that is no base64": (b"Basic !!!!", R.CREDENTIAL),
    "Basic with a newline inside": (b"Basic eDp5\neDp5", R.CREDENTIAL),
    "Basic without a colon": (b"Basic " + base64.b64encode(b"user"), R.CREDENTIAL),
    "Basic with an empty password": (basic("user", ""), R.CREDENTIAL),
    "Basic with a password": (basic("user", "hunter2"), R.MALFORMED),
    "Basic with bytes outside ASCII": (b"Basic " + base64.b64encode(b"user:\xff"), R.CREDENTIAL),
}


@pytest.mark.parametrize(("header", "reason"), REFUSED.values(), ids=REFUSED.keys())
async def test_a_credential_is_refused_that_is(world: World, header: bytes, reason: TokenReason) -> None:
    refused = await world.unauthenticated(header)
    assert refused.reason is reason
    assert "hunter2" not in refused.message + refused.detail
    assert await world.credentials.authenticate([basic("user", world.issuer.mint())], POLICY, NOW)


async def test_a_bearer_is_no_password(world: World) -> None:
    assert (await world.unauthenticated(basic("user", world.mint()))).reason is R.TYPE
    assert await world.credentials.authenticate([b"Bearer " + world.mint().encode()], POLICY, NOW)


async def test_a_credential_is_remembered_but_not_across_policies_nor_past_its_end(world: World) -> None:
    header = b"Bearer " + world.mint(seconds=60).encode()
    first = await world.credentials.authenticate([header], POLICY, NOW)
    assert await world.credentials.authenticate([header], POLICY, NOW + 59) is first
    assert await world.credentials.authenticate([header], POLICY, NOW + 60) is not first
    assert (await world.unauthenticated(header, now=NOW + 90)).reason is R.EXPIRED
    denying = policy(ISSUERS + RULES + 'deny: [{name: d, match: {actor: x}, repositories: ["**"], actions: [pull]}]')
    assert (await world.unauthenticated(header, denying)).reason is R.OUTDATED


@pytest.mark.parametrize("kind", ["bearer", "oidc"])
async def test_a_caller_is_unknown_to_a_policy_that_refers_to_other_claims(world: World, kind: str) -> None:
    """The policy may change between finding out who asks and deciding what they may do."""
    token = world.mint() if kind == "bearer" else world.issuer.mint(GITHUB)
    found = await world.credentials.authenticate([b"Bearer " + token.encode()], POLICY, NOW)
    denying = policy(ISSUERS + RULES + 'deny: [{name: d, match: {actor: x}, repositories: ["**"], actions: [pull]}]')
    assert found.is_known_to(POLICY)
    assert found.is_known_to(policy(ISSUERS))
    assert not found.is_known_to(denying)
    assert ANONYMOUS.is_known_to(denying)
    anonymous = await world.credentials.authenticate([b"Bearer " + world.mint(None).encode()], POLICY, NOW)
    assert anonymous.is_known_to(denying)


async def test_a_caller_shows_no_claims_and_no_token(world: World) -> None:
    token = world.mint()
    found = await world.credentials.authenticate([b"Bearer " + token.encode()], POLICY, NOW)
    assert "repository_id" not in repr(found)
    assert token[:20] not in repr(found)
