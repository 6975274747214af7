"""Hostile tokens, each one step away from a token that is accepted."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeproxy.access import jws
from edgeproxy.access.issuers import IssuerKeys
from edgeproxy.access.policy import Policy, load_policy
from edgeproxy.access.refusals import TokenReason, TokenRefused
from edgeproxy.access.tokens import ENTRY_BYTES, TokenCache, Verified, Verifier, duration
from tests.issuer import GITHUB, GITLAB, KUBERNETES, NOW, Key, LocalIssuer, encoded, private_key, rsa_key, sign

ALGORITHMS = ("RS256", "PS256", "ES256", "ES384", "EdDSA")

R = TokenReason


def policy(*lines: str, issuer: str = "", url: str = "https://issuer.example") -> Policy:
    text = f"""
version: 1
issuers:
  main:
    url: {url}
    audiences: [registry.example, other.example]
    {issuer}
  ci:
    url: https://ci.example/path
    audiences: [ci-audience]
    algorithms: [ES256]
rules:
  - name: pulls
    issuer: main
    match: {{repository_id: "74", team: [a, b]}}
    allow: [{{repositories: ["acme/**"], actions: [pull]}}]
"""
    return load_policy((text + "\n".join(lines)).encode(), source="policy.yaml", loopback=False, now=NOW)


POLICY = policy()


@dataclass
class World:
    issuer: LocalIssuer
    verifier: Verifier

    async def verify(self, token: str, under: Policy = POLICY, now: float = NOW) -> Verified:
        return await self.verifier.verify(token, under, now)

    async def refusal(self, token: str, under: Policy = POLICY, now: float = NOW) -> TokenRefused:
        with pytest.raises(TokenRefused) as caught:
            await self.verify(token, under, now)
        return caught.value


def make_world(*keys: Key) -> World:
    issuer = LocalIssuer(keys=keys or None)
    return World(issuer, Verifier(IssuerKeys(issuer.fetch, lambda: NOW)))


@pytest.fixture
def world() -> World:
    return make_world()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_a_token_of_every_algorithm_is_verified(algorithm: str) -> None:
    world = make_world(Key.make("k", algorithm))
    verified = await world.verify(world.issuer.mint(GITHUB))
    assert verified.identity.issuer == "main"
    assert verified.identity.subject == GITHUB["sub"]
    assert verified.identity.ends == NOW + 300
    assert verified.identity.claims == {
        "iss": "https://issuer.example",
        "sub": GITHUB["sub"],
        "repository_id": "74",
    }


@pytest.mark.parametrize("claims", [GITHUB, GITLAB, KUBERNETES], ids=["github", "gitlab", "kubernetes"])
async def test_tokens_in_the_shapes_of_the_providers_are_verified(world: World, claims: dict[str, Any]) -> None:
    verified = await world.verify(world.issuer.mint(claims))
    assert verified.identity.subject == claims["sub"]


async def test_claims_keep_their_types(world: World) -> None:
    claims = {"repository_id": 74, "team": ["a", True, None, 1.5, {"x": "1"}]}
    verified = await world.verify(world.issuer.mint(claims))
    assert verified.identity.claims["team"] == ["a", True, None, 1.5, {"x": "1"}]
    assert verified.identity.claims["team"][1] is True
    assert verified.identity.claims["repository_id"] == 74


# Each row: a change of the claims that is refused, the reason, and the nearest change that is accepted.
CLAIMS: dict[str, tuple[dict[str, Any], TokenReason, dict[str, Any]]] = {
    "the issuer differs in case": ({"iss": "https://Issuer.example"}, R.ISSUER, {"iss": "https://issuer.example"}),
    "the issuer has a slash more": ({"iss": "https://issuer.example/"}, R.ISSUER, {}),
    "the issuer has a port more": ({"iss": "https://issuer.example:443"}, R.ISSUER, {}),
    "the issuer has a user name": ({"iss": "https://issuer.example@evil.example"}, R.ISSUER, {}),
    "the issuer is under a listed one": ({"iss": "https://issuer.example.evil.example"}, R.ISSUER, {}),
    "the issuer is a part of a listed one": ({"iss": "https://issuer"}, R.ISSUER, {}),
    "the issuer is written over http": ({"iss": "http://issuer.example"}, R.ISSUER, {}),
    "the issuer holds a look-alike": ({"iss": "https://issuer.ex\u0430mple"}, R.ISSUER, {}),
    "the issuer ends in a newline": ({"iss": "https://issuer.example\n"}, R.ISSUER, {}),
    "the issuer is percent-encoded": ({"iss": "https://issuer%2eexample"}, R.ISSUER, {}),
    "the issuer is a list": ({"iss": ["https://issuer.example"]}, R.ISSUER, {}),
    "the issuer is empty": ({"iss": ""}, R.ISSUER, {}),
    "the issuer is null": ({"iss": None}, R.ISSUER, {}),
    "the issuer is a name of the policy": ({"iss": "main"}, R.ISSUER, {}),
    "the audience is another's": ({"aud": "evil.example"}, R.AUDIENCE, {"aud": "other.example"}),
    "the audience differs in case": ({"aud": "Registry.example"}, R.AUDIENCE, {"aud": "registry.example"}),
    "the audience is a part of ours": ({"aud": "registry"}, R.AUDIENCE, {"aud": ["registry.example"]}),
    "the audience holds ours": ({"aud": "registry.example/x"}, R.AUDIENCE, {}),
    "the audience lists ours in one string": ({"aud": "registry.example account"}, R.AUDIENCE, {}),
    "the audiences are others'": ({"aud": ["account", "x"]}, R.AUDIENCE, {"aud": ["account", "registry.example"]}),
    "the audiences are none": ({"aud": []}, R.AUDIENCE, {"aud": ["registry.example"]}),
    "the audiences hold a number": ({"aud": ["registry.example", 1]}, R.AUDIENCE, {}),
    "the audiences hold a list": ({"aud": [["registry.example"]]}, R.AUDIENCE, {}),
    "the audience is an object": ({"aud": {"registry.example": True}}, R.AUDIENCE, {}),
    "the audience is null": ({"aud": None}, R.AUDIENCE, {}),
    "the audience is true": ({"aud": True}, R.AUDIENCE, {}),
    "the audience is that of another issuer": ({"aud": "ci-audience"}, R.AUDIENCE, {}),
    "it has ended": ({"exp": NOW - 30}, R.EXPIRED, {"exp": NOW - 29}),
    "it ended long ago": ({"exp": 0}, R.EXPIRED, {"exp": NOW}),
    "its end is text": ({"exp": str(int(NOW) + 300)}, R.TIMES, {"exp": int(NOW) + 300}),
    "its end is true": ({"exp": True}, R.TIMES, {"exp": NOW + 0.5}),
    "its end is null": ({"exp": None}, R.TIMES, {}),
    "its end is a list": ({"exp": [NOW + 300]}, R.TIMES, {}),
    "its end is in milliseconds": ({"exp": NOW * 1000}, R.TIMES, {"exp": 10**11 - 1}),
    "its end is just past what a time can be": ({"exp": 10**11}, R.TIMES, {"exp": 10**11 - 0.5}),
    "its end is negative": ({"exp": -1}, R.TIMES, {}),
    "its end is beyond 64 bits": ({"exp": 10**40}, R.TIMES, {}),
    "it has not begun": ({"nbf": NOW + 31}, R.NOT_YET_VALID, {"nbf": NOW + 30}),
    "its beginning is text": ({"nbf": "0"}, R.TIMES, {"nbf": 0}),
    "its beginning is false": ({"nbf": False}, R.TIMES, {"nbf": 1}),
    "its beginning is null": ({"nbf": None}, R.TIMES, {}),
    "it was issued in the future": ({"iat": NOW + 31}, R.NOT_YET_VALID, {"iat": NOW + 30}),
    "its issue is text": ({"iat": "0"}, R.TIMES, {"iat": 0}),
    "its issue is null": ({"iat": None}, R.TIMES, {}),
    "the subject is empty": ({"sub": ""}, R.SUBJECT, {"sub": " "}),
    "the subject is a number": ({"sub": 1}, R.SUBJECT, {"sub": "1"}),
    "the subject is a list": ({"sub": ["someone"]}, R.SUBJECT, {"sub": "someone"}),
    "the subject is null": ({"sub": None}, R.SUBJECT, {}),
}


@pytest.mark.parametrize(("claims", "reason", "twin"), CLAIMS.values(), ids=CLAIMS.keys())
async def test_a_token_is_refused_when(
    world: World, claims: dict[str, Any], reason: TokenReason, twin: dict[str, Any]
) -> None:
    refused = await world.refusal(world.issuer.mint(claims))
    assert refused.reason is reason
    assert (await world.verify(world.issuer.mint(twin))).identity.issuer == "main"


@pytest.mark.parametrize(
    ("missing", "reason"), [("iss", R.ISSUER), ("aud", R.AUDIENCE), ("exp", R.TIMES), ("sub", R.SUBJECT)]
)
async def test_a_claim_that_everything_hangs_on_must_be_there(world: World, missing: str, reason: TokenReason) -> None:
    assert (await world.refusal(world.issuer.mint(without=(missing,)))).reason is reason
    assert await world.verify(world.issuer.mint(without=("iat",)))


# Each row: a change of the header that is refused, the reason, and the nearest change that is accepted.
HEADERS: dict[str, tuple[dict[str, Any], TokenReason, dict[str, Any]]] = {
    "the algorithm is none": ({"alg": "none"}, R.ALGORITHM, {"alg": "ES256"}),
    "the algorithm is None": ({"alg": "None"}, R.ALGORITHM, {}),
    "the algorithm is in lower case": ({"alg": "es256"}, R.ALGORITHM, {}),
    "the algorithm is symmetric": ({"alg": "HS256"}, R.ALGORITHM, {}),
    "the algorithm is a list": ({"alg": ["ES256"]}, R.ALGORITHM, {}),
    "the algorithm is an object": ({"alg": {"ES256": 1}}, R.ALGORITHM, {}),
    "the algorithm is empty": ({"alg": ""}, R.ALGORITHM, {}),
    "the algorithm is one nobody lists": ({"alg": "RS512"}, R.ALGORITHM, {}),
    "the algorithm does not fit the key": ({"alg": "RS256"}, R.KEY, {}),
    "the algorithm is of another curve": ({"alg": "ES384"}, R.KEY, {}),
    "the key is unknown": ({"kid": "two"}, R.KEY, {"kid": "one"}),
    "the key differs in case": ({"kid": "One"}, R.KEY, {}),
    "the key is empty": ({"kid": ""}, R.KEY, {}),
    "the key is a path": ({"kid": "../one"}, R.KEY, {}),
    "the key is a number": ({"kid": 1}, R.MALFORMED, {}),
    "the key is a list": ({"kid": ["one"]}, R.MALFORMED, {}),
    "something is critical": ({"crit": ["exp"], "exp": 1}, R.HEADER, {"exp": 1}),
    "nothing is critical": ({"crit": []}, R.HEADER, {}),
    "the payload is not encoded": ({"b64": False}, R.HEADER, {}),
    "the payload is said to be encoded": ({"b64": True}, R.HEADER, {}),
    "it is compressed": ({"zip": "DEF"}, R.HEADER, {"cty": "DEF"}),
    "it is encrypted": ({"enc": "A256GCM"}, R.HEADER, {}),
    "it is our own bearer": ({"typ": "edgeproxy+jwt"}, R.TYPE, {"typ": "JWT"}),
    "it is for logout": ({"typ": "logout+jwt"}, R.TYPE, {"typ": "at+jwt"}),
    "it is a security event": ({"typ": "secevent+jwt"}, R.TYPE, {"typ": "jwt"}),
    "it is a proof of possession": ({"typ": "dpop+jwt"}, R.TYPE, {"typ": "application/at+jwt"}),
    "its kind is empty": ({"typ": ""}, R.TYPE, {"typ": "JOSE"}),
    "its kind is a list": ({"typ": ["JWT"]}, R.TYPE, {"typ": "application/JWT"}),
}


@pytest.mark.parametrize(("header", "reason", "twin"), HEADERS.values(), ids=HEADERS.keys())
async def test_a_header_is_refused_when(
    world: World, header: dict[str, Any], reason: TokenReason, twin: dict[str, Any]
) -> None:
    assert (await world.refusal(world.issuer.mint(header=header))).reason is reason
    assert await world.verify(world.issuer.mint(header=twin))


async def test_a_null_type_is_refused_and_an_absent_one_is_not(world: World) -> None:
    key = world.issuer.keys[0]
    claims = {"iss": world.issuer.url, "sub": "s", "aud": "registry.example", "exp": NOW + 9}
    refused = await world.refusal(sign(key, {"alg": "ES256", "kid": "one", "typ": None}, claims))
    assert refused.reason is R.TYPE
    assert await world.verify(sign(key, {"alg": "ES256", "kid": "one"}, claims))


async def test_a_header_without_an_algorithm_is_refused(world: World) -> None:
    token = sign(world.issuer.keys[0], {"kid": "one"}, {"iss": world.issuer.url})
    assert (await world.refusal(token)).reason is R.ALGORITHM


@pytest.mark.parametrize("name", ["jwk", "jku", "x5u", "x5c", "x5t"])
async def test_a_key_that_a_token_offers_is_not_looked_at(world: World, name: str) -> None:
    """The offer of its own key does not help a forger, nor does it hurt the issuer who always makes one."""
    forger = Key.make("one", "ES256")
    offer = {name: forger.published() if name == "jwk" else "https://evil.example/keys"}
    assert (await world.refusal(world.issuer.mint(header=offer, key=forger))).reason is R.SIGNATURE
    assert await world.verify(world.issuer.mint(header=offer))
    assert set(world.issuer.fetches) == {"/.well-known/openid-configuration", "/keys"}


async def test_a_token_signed_with_the_public_key_as_a_shared_secret_is_refused() -> None:
    key = Key.make("one", "RS256")
    world = make_world(key)
    import hashlib
    import hmac

    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    pem = key.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    good = world.issuer.mint()
    text = f"{encoded({'alg': 'HS256', 'kid': 'one'})}.{good.split('.')[1]}"
    forged = f"{text}.{encoded(hmac.digest(pem, text.encode(), hashlib.sha256))}"
    assert (await world.refusal(forged)).reason is R.ALGORITHM
    assert await world.verify(good)


async def test_a_token_of_one_issuer_signed_by_another_is_refused() -> None:
    world = make_world()
    stranger = Key.make("one", "ES256")
    assert (await world.refusal(world.issuer.mint(key=stranger))).reason is R.SIGNATURE


async def test_an_algorithm_must_be_one_that_the_issuer_lists() -> None:
    world = make_world(Key.make("one", "RS256"), Key.make("two", "ES256"))
    narrow = policy(issuer="algorithms: [ES256]")
    assert (await world.refusal(world.issuer.mint(), narrow)).reason is R.ALGORITHM
    assert await world.verify(world.issuer.mint(key=world.issuer.keys[1]), narrow)


async def test_a_key_verifies_no_other_algorithm_than_it_says() -> None:
    key = Key.make("one", "RS256")
    world = make_world(key)
    other = Key("one", "PS256", key.private)
    assert (await world.refusal(world.issuer.mint(key=other))).reason is R.KEY
    silent = make_world(Key("one", "PS256", key.private, {"alg": None}))
    assert await silent.verify(silent.issuer.mint())
    assert await silent.verify(silent.issuer.mint(key=key))


async def test_a_token_without_kid_is_tried_with_the_keys_that_fit() -> None:
    keys = tuple(Key.make(f"k{number}", "ES256") for number in range(11))
    world = make_world(Key.make("r", "RS256"), *keys)
    assert await world.verify(world.issuer.mint(key=Key(None, "ES256", keys[9].private)))
    refused = await world.refusal(world.issuer.mint(key=Key(None, "ES256", keys[10].private)))
    assert refused.reason is R.SIGNATURE, "the eleventh key is one too many to try"
    assert await world.verify(world.issuer.mint(key=keys[10]))


def _resigned(world: World, header: bytes | str, payload: bytes | str) -> str:
    return sign(world.issuer.keys[0], header, payload)


HEADER = '{"alg":"ES256","kid":"one"}'
PAYLOAD = f'{{"iss":"https://issuer.example","sub":"s","aud":"registry.example","exp":{NOW + 300}}}'

MALFORMED: dict[str, tuple[bytes | str, bytes | str]] = {
    "a duplicate key in the header": ('{"alg":"ES256","alg":"ES256","kid":"one"}', PAYLOAD),
    "a duplicate key in the payload": (HEADER, PAYLOAD.replace("{", '{"sub":"admin",', 1)),
    "a duplicate key spelled otherwise": (HEADER, PAYLOAD.replace("{", '{"\\u0073ub":"admin",', 1)),
    "a duplicate key further down": (HEADER, PAYLOAD.replace("{", '{"x":[{"a":1,"a":1}],', 1)),
    "a byte order mark": (HEADER, b"\xef\xbb\xbf" + PAYLOAD.encode()),
    "bytes that are not UTF-8": (HEADER, PAYLOAD.encode().replace(b'"s"', b'"\xff"')),
    "half of a surrogate pair": (HEADER, PAYLOAD.replace('"s"', '"\\ud800"')),
    "NaN": (HEADER, PAYLOAD.replace("{", '{"x":NaN,', 1)),
    "infinity": (HEADER, PAYLOAD.replace("{", '{"x":Infinity,', 1)),
    "a number beyond all floats": (HEADER, PAYLOAD.replace("{", '{"x":1e999,', 1)),
    "a number with more digits than are parsed": (HEADER, PAYLOAD.replace("{", '{"x":' + "1" * 5000 + ",", 1)),
    "a list for a payload": (HEADER, f"[{PAYLOAD}]"),
    "a list for a header": (f"[{HEADER}]", PAYLOAD),
    "text for a payload": (HEADER, '"text"'),
    "null for a payload": (HEADER, "null"),
    "something after the payload": (HEADER, PAYLOAD + "{}"),
    "a comment": (HEADER, PAYLOAD + "//"),
    "a single quote": (HEADER, PAYLOAD.replace('"', "'")),
    "a comma too many": (HEADER, PAYLOAD.replace("}", ",}")),
    "deep nesting": (HEADER, PAYLOAD.replace("{", '{"x":' + "[" * 2000 + "]" * 2000 + ",", 1)),
    "nesting deeper than a stack": (HEADER, PAYLOAD.replace("{", '{"x":' + '{"a":' * 1000 + "1" + "}" * 1000 + ",", 1)),
}


@pytest.mark.parametrize(("header", "payload"), MALFORMED.values(), ids=MALFORMED.keys())
async def test_a_signed_token_is_malformed_with(world: World, header: bytes | str, payload: bytes | str) -> None:
    assert (await world.refusal(_resigned(world, header, payload))).reason is R.MALFORMED
    assert not world.issuer.fetches
    assert await world.verify(_resigned(world, HEADER, PAYLOAD))


SHAPES: dict[str, tuple[Callable[[str], str], TokenReason]] = {
    "nothing": (lambda _: "", R.MALFORMED),
    "two segments": (lambda token: token.rpartition(".")[0], R.MALFORMED),
    "four segments": (lambda token: token + ".e30", R.MALFORMED),
    "five segments": (lambda token: token + ".e30.e30", R.MALFORMED),
    "no signature": (lambda token: token.rpartition(".")[0] + ".", R.MALFORMED),
    "no payload": (lambda token: f"{token.split('.')[0]}..{token.split('.')[2]}", R.MALFORMED),
    "a newline at the end": (lambda token: token + "\n", R.MALFORMED),
    "a space in front": (lambda token: " " + token, R.MALFORMED),
    "padding": (lambda token: token + "=", R.MALFORMED),
    "the other alphabet": (lambda token: token[:-1] + "+", R.MALFORMED),
    "a letter outside ASCII": (lambda token: token[:-1] + "\u00e9", R.MALFORMED),
    "half of a surrogate pair": (lambda token: token[:-1] + "\ud800", R.MALFORMED),
    "a letter too many in the header": (lambda token: token.replace(".", "A.", 1), R.MALFORMED),
    "a signature cut off": (lambda token: token[:-6], R.SIGNATURE),
    "a signature of zeros": (lambda token: token.rpartition(".")[0] + "." + encoded(b"\0" * 64), R.SIGNATURE),
    "the DER form of a signature": (
        lambda token: token.rpartition(".")[0] + "." + encoded(b"0\6\2\1\1\2\1\1"),
        R.SIGNATURE,
    ),
    "the JSON form of a token": (lambda token: json.dumps({"payload": token.split(".")[1]}), R.MALFORMED),
}


@pytest.mark.parametrize(("change", "reason"), SHAPES.values(), ids=SHAPES.keys())
async def test_a_text_is_no_token_with(world: World, change: Callable[[str], str], reason: TokenReason) -> None:
    token = world.issuer.mint()
    assert (await world.refusal(change(token))).reason is reason
    assert await world.verify(token)


async def test_another_spelling_of_the_same_bytes_is_refused(world: World) -> None:
    """The last letter of 64 bytes has four unused bits; a token with other ones would be a second name of this one."""
    token = world.issuer.mint()
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other = token[:-1] + alphabet[alphabet.index(token[-1]) ^ 1]
    assert (await world.refusal(other)).reason is R.MALFORMED
    assert await world.verify(token)


def _padded(world: World, size: int) -> str:
    """Mint a token of just that size: base64 has no text of every length, so the header helps."""
    rough = (size - len(world.issuer.mint({"pad": ""}))) * 3 // 4
    for pads in itertools.product(range(rough - 12, rough + 3), range(4)):
        token = world.issuer.mint({"pad": "x" * pads[0]}, header={"pad": "x" * pads[1]})
        if len(token) == size:
            return token
    raise AssertionError


async def test_the_size_of_a_token_is_limited(world: World) -> None:
    at_limit, above = _padded(world, jws.MAX_TOKEN_BYTES), _padded(world, jws.MAX_TOKEN_BYTES + 1)
    assert await world.verify(at_limit)
    assert (await world.refusal(above)).reason is R.TOO_LARGE


async def test_the_size_of_a_header_is_limited(world: World) -> None:
    assert await world.verify(world.issuer.mint(header={"x5c": "A" * 2900}))
    refused = await world.refusal(world.issuer.mint(header={"x5c": "A" * 3100}))
    assert refused.reason is R.TOO_LARGE


@pytest.mark.parametrize(
    "change", [{"iss": "https://evil.example"}, {"iss": "https://issuer.example/x"}, {"iss": 1}, {"iss": None}]
)
async def test_an_issuer_that_nobody_listed_costs_no_network_call(world: World, change: dict[str, Any]) -> None:
    assert (await world.refusal(world.issuer.mint(change))).reason is R.ISSUER
    assert not world.issuer.fetches


@pytest.mark.parametrize(
    "header", [{"alg": "none"}, {"alg": "HS256"}, {"typ": "logout+jwt"}, {"crit": ["x"]}, {"kid": 7}, {"b64": False}]
)
async def test_a_header_that_is_refused_costs_no_network_call(world: World, header: dict[str, Any]) -> None:
    await world.refusal(world.issuer.mint(header=header))
    assert not world.issuer.fetches


async def test_a_maximum_age_makes_the_time_of_issue_mandatory(world: World) -> None:
    aged = policy(issuer="max_token_age: 1h")
    assert (await world.refusal(world.issuer.mint(without=("iat",)), aged)).reason is R.TIMES
    assert await world.verify(world.issuer.mint(without=("iat",)))
    assert (await world.refusal(world.issuer.mint({"iat": NOW - 3630}), aged)).reason is R.TOO_OLD
    assert await world.verify(world.issuer.mint({"iat": NOW - 3629}), aged)


async def test_a_policy_without_issuers_believes_nobody(world: World) -> None:
    nobody = load_policy(b"version: 1", source="policy.yaml", loopback=False, now=NOW)
    assert (await world.refusal(world.issuer.mint(), nobody)).reason is R.ISSUER
    assert await world.verify(world.issuer.mint())


async def test_only_claims_that_the_policy_refers_to_are_kept_for_each_issuer(world: World) -> None:
    denying = policy('deny: [{name: d, match: {banned: "yes"}, repositories: ["**"], actions: [pull]}]')
    token = world.issuer.mint({"banned": "yes", "email": "a@b.example", "team": "a"})
    assert set((await world.verify(token, denying)).identity.claims) == {"iss", "sub", "banned", "team"}
    assert set((await world.verify(token)).identity.claims) == {"iss", "sub", "team"}


async def test_a_verified_token_is_remembered_until_it_ends(world: World) -> None:
    token = world.issuer.mint({"exp": NOW + 20})
    first = await world.verify(token)
    assert first.until == NOW + 20
    assert await world.verify(token, now=NOW + 19) is first
    assert await world.verify(token, now=NOW + 20) is not first
    assert (await world.refusal(token, now=NOW + 50)).reason is R.EXPIRED


async def test_a_verified_token_is_remembered_for_a_minute_at_most(world: World) -> None:
    token = world.issuer.mint()
    first = await world.verify(token)
    assert await world.verify(token, now=NOW + 59.5) is first
    assert await world.verify(token, now=NOW + 60) is not first


async def test_a_verified_token_is_not_remembered_past_its_greatest_age(world: World) -> None:
    aged = policy(issuer="max_token_age: 1h")
    verified = await world.verify(world.issuer.mint({"iat": NOW - 3600}), aged)
    assert verified.until == NOW + 30


async def test_a_verified_token_is_not_remembered_past_the_end_of_its_keys() -> None:
    key = Key.make()
    world = make_world(key)
    inline = json.dumps({"inline": {"keys": [key.published()]}, "not_after": "2027-01-15T08:00:10Z"})
    bounded = policy(issuer=f"keys: {inline}")
    assert (await world.verify(world.issuer.mint(), bounded)).until == NOW + 10
    assert not world.issuer.fetches


async def test_a_token_is_not_remembered_across_a_change_of_the_policy(world: World) -> None:
    token = world.issuer.mint()
    assert await world.verify(token)
    elsewhere = policy(url="https://elsewhere.example")
    assert (await world.refusal(token, elsewhere)).reason is R.ISSUER


async def test_a_refusal_is_not_remembered(world: World) -> None:
    token = world.issuer.mint({"nbf": NOW + 60})
    assert (await world.refusal(token)).reason is R.NOT_YET_VALID
    assert await world.verify(token, now=NOW + 30)


def test_the_cache_forgets_the_oldest_beyond_its_size() -> None:
    cache: TokenCache[str] = TokenCache(lambda _: 0, limit=2 * ENTRY_BYTES)
    for name in (b"a", b"b", b"c"):
        cache.put(name, POLICY, name.decode(), NOW + 9, NOW)
    assert [cache.get(name, POLICY, NOW) for name in (b"a", b"b", b"c")] == [None, "b", "c"]
    for name in (b"b", b"d"):
        cache.put(name, POLICY, name.decode(), NOW + 9, NOW)
    assert [cache.get(name, POLICY, NOW) for name in (b"b", b"c", b"d")] == ["b", None, "d"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 seconds"), (59.9, "59 seconds"), (60, "1 minute"), (3599, "59 minutes"), (3600, "1 hour"), (7200, "2 hours"),
     (86399, "23 hours"), (86400, "1 day"), (200000, "2 days")],
)  # fmt: skip
def test_durations_are_told_in_words(seconds: float, text: str) -> None:
    assert duration(seconds) == text


# What callers and operators are told: the callers nothing that the policy expects, the operators both sides.
TOLD: dict[TokenReason, tuple[dict[str, Any], dict[str, Any], str, str]] = {
    R.ALGORITHM: (
        {},
        {"alg": "HS256"},
        "the token is signed with an algorithm that this registry does not accept",
        "issuer main, alg 'HS256'",
    ),
    R.KEY: (
        {},
        {"kid": "two"},
        "the token is signed with a key that its issuer does not publish for this; get a fresh token",
        "issuer main has no key 'two' for ES256",
    ),
    R.MALFORMED: ({}, {"kid": 1}, "this is not a well-formed token: its kid is not a string", ""),
    R.HEADER: ({}, {"zip": "DEF"}, "the token has a header field that this registry does not support: zip", ""),
    R.TYPE: (
        {},
        {"typ": "logout+jwt"},
        "this kind of token is not for signing in; show an ID token or access token of your identity provider",
        "typ 'logout+jwt'",
    ),
    R.ISSUER: (
        {"iss": "https://evil.example"},
        {},
        "this registry does not accept tokens of this issuer; use an identity provider that its operator has listed",
        "iss 'https://evil.example'",
    ),
    R.AUDIENCE: (
        {"aud": "evil.example"},
        {},
        "the token's audience is not this registry; request a token whose audience is this registry's",
        "issuer main, aud 'evil.example', wanted one of ['registry.example', 'other.example']",
    ),
    R.EXPIRED: (
        {"exp": NOW - 720},
        {},
        "the token expired 12 minutes ago; get a fresh token and try again",
        "",
    ),
    R.NOT_YET_VALID: (
        {"nbf": NOW + 90, "iat": NOW + 40},
        {},
        "the token is not valid yet (nbf or iat); check the clock of the machine that issued it",
        "issuer main, 1 minute too early",
    ),
    R.TIMES: ({"nbf": "0"}, {}, "the token's nbf claim is not a number of seconds", "nbf '0'"),
    R.SUBJECT: ({"sub": ""}, {}, "the token's sub claim is not a non-empty string", "sub ''"),
    R.TOO_OLD: ({"iat": NOW - 7200}, {}, "the token was issued too long ago; get a fresh token and try again", ""),
}


@pytest.mark.parametrize(("reason", "row"), TOLD.items(), ids=[str(reason) for reason in TOLD])
async def test_a_refusal_says_what_is_wrong_and_what_to_do(
    world: World, reason: TokenReason, row: tuple[dict[str, Any], dict[str, Any], str, str]
) -> None:
    claims, header, message, detail = row
    refused = await world.refusal(world.issuer.mint(claims, header=header), policy(issuer="max_token_age: 1h"))
    assert (refused.reason, refused.message, refused.detail) == (reason, message, detail)


async def test_a_refusal_says_which_time_is_missing(world: World) -> None:
    refused = await world.refusal(world.issuer.mint(without=("exp",)))
    assert refused.message == "the token has no exp claim: a token must end"
    refused = await world.refusal(world.issuer.mint(without=("iat",)), policy(issuer="max_token_age: 1h"))
    assert refused.message == "the token has no iat claim, which this registry needs of its issuer"


async def test_a_wrong_signature_says_what_may_have_happened(world: World) -> None:
    refused = await world.refusal(world.issuer.mint(key=Key.make("one")))
    assert refused.message == "the token's signature is wrong: it was altered, cut off or signed with another key"
    assert refused.detail == "issuer main, kid 'one'"


async def test_a_token_that_is_not_valid_yet_is_told_by_its_later_time(world: World) -> None:
    refused = await world.refusal(world.issuer.mint({"nbf": NOW + 40, "iat": NOW + 7200}))
    assert refused.detail == "issuer main, 2 hours too early"


async def test_whatever_breaks_inside_is_a_refusal() -> None:
    async def broken(url: str, ca: bytes | None) -> bytes:
        raise ZeroDivisionError

    verifier = Verifier(IssuerKeys(broken, lambda: NOW))
    with pytest.raises(TokenRefused) as caught:
        await verifier.verify(LocalIssuer().mint(), POLICY, NOW)
    assert (caught.value.reason, caught.value.detail) == (R.INTERNAL, "ZeroDivisionError")
    assert caught.value.message == "this token cannot be verified"


async def test_no_refusal_shows_a_token_or_a_part_of_one(world: World) -> None:
    changes = [claims for claims, _, _ in CLAIMS.values()]
    tokens = [world.issuer.mint(change) for change in changes]
    tokens += [world.issuer.mint(header=header) for header, _, _ in HEADERS.values()]
    tokens += [change(tokens[0]) for change, _ in SHAPES.values()]
    for token in tokens:
        refused = await world.refusal(token)
        told = f"{refused!r} {refused.message} {refused.detail} {refused.__cause__!r}"
        assert not any(len(part) > 12 and part[:12] in told for part in token.split("."))
        assert refused.message.isascii()
        assert not set(refused.message) & set('"\\\r\n')


def test_no_value_shows_claims_or_tokens() -> None:
    issuer = LocalIssuer()
    unverified = jws.read(issuer.mint({"email": "secret@person.example"}))
    assert "secret@person.example" not in repr(unverified)
    assert unverified.compact[:12] not in repr(unverified)


FLIPPING = make_world(Key.make("one", "ES256"))
FLIPPED = FLIPPING.issuer.mint(GITHUB)
BITS = len(FLIPPED) * 7


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(bit=st.integers(0, BITS - 1))
async def test_a_token_with_one_bit_flipped_is_never_verified(bit: int) -> None:
    position, shift = divmod(bit, 7)
    changed = FLIPPED[:position] + chr(ord(FLIPPED[position]) ^ (1 << shift)) + FLIPPED[position + 1 :]
    await FLIPPING.refusal(changed)
    assert await FLIPPING.verify(FLIPPED)


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=200) | st.text(alphabet='eyJ0._-{}"', max_size=60))
async def test_no_text_makes_the_verifier_fail_in_another_way(text: str) -> None:
    await FLIPPING.refusal(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None)
@given(name=st.sampled_from(["iss", "aud", "sub", "exp", "nbf", "iat", "repository_id"]), value=JSON)
async def test_no_claim_of_any_kind_makes_the_verifier_fail_in_another_way(name: str, value: Any) -> None:
    token = FLIPPING.issuer.mint({name: value})
    reason = None
    try:
        await FLIPPING.verify(token)
    except TokenRefused as refused:
        reason = refused.reason
    assert reason is not R.INTERNAL


def test_keys_that_are_too_small_or_too_large_are_of_no_use() -> None:
    def usable(bits: int) -> bool:
        return bool(jws.public_keys(Key("k", "RS256", rsa_key(0, bits)).published(), ALGORITHMS))

    assert [usable(bits) for bits in (1024, 2048)] == [False, True]
    huge = Key.make("k", "RS256").published() | {"n": encoded(b"\xff" * 1025)}
    assert not jws.public_keys(huge, ALGORITHMS)


USELESS: dict[str, dict[str, Any]] = {
    "for encryption": {"use": "enc"},
    "for another operation": {"key_ops": ["encrypt"]},
    "of a shared kind": {"kty": "oct", "k": "AAAA"},
    "of an unknown kind": {"kty": "PQ"},
    "of an unknown curve": {"crv": "P-521"},
    "of no kind": {"kty": None},
    "of a list for a kind": {"kty": ["EC"]},
    "private": {"d": "AAAA"},
    "of another algorithm": {"alg": "ES384"},
    "for key agreement": {"alg": "ECDH-ES"},
    "without a point": {"x": None},
    "with a short point": {"x": "AAAA"},
    "with a point that is no text": {"x": 7},
    "with a point off the curve": {"x": encoded(b"\1" * 32)},
    "of a list for an algorithm": {"alg": ["ES256"]},
}


@pytest.mark.parametrize("change", USELESS.values(), ids=USELESS.keys())
def test_a_key_is_of_no_use(change: dict[str, Any]) -> None:
    private = private_key("ES256")
    assert jws.public_keys(Key("k", "ES256", private).published(), ALGORITHMS)
    assert jws.public_keys(
        Key("k", "ES256", private, {"use": None, "alg": None, "key_ops": ["verify"]}).published(), ALGORITHMS
    )
    assert not jws.public_keys(Key("k", "ES256", private, change).published(), ALGORITHMS)


def test_the_new_name_of_the_edwards_algorithm_is_known_in_keys() -> None:
    key = Key.make("k", "EdDSA", alg="Ed25519")
    assert list(jws.public_keys(key.published(), ALGORITHMS)) == ["EdDSA"]
