"""Hostile tokens against the whole registry: each is shown at every door, is refused at each for its reason, and costs nothing.

Beside each stands its twin, one step away, which every door accepts.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from edgeproxy.access import jws
from edgeproxy.access.bearers import Bearers
from edgeproxy.access.decisions import Identity
from edgeproxy.access.refusals import TokenReason
from edgeproxy.access.signing import new_key, retire
from edgeproxy.oci.names import Repository
from tests.hostile.harness import CHALLENGE, CI, EXCHANGE, HOST, POLICY, PUBLIC_URL, World, basic, hmac_signed
from tests.issuer import NOW, Key, encoded, rsa_key, sign

R = TokenReason
TARGET = "/v2/acme/app/manifests/latest"
CI_URL = "https://ci.example"
DOORS = ("bearer", "basic", "GET", "password", "refresh_token", EXCHANGE)

LOADED = 2
"""Documents that are fetched to know an issuer's keys: discovery and keys."""
LOOKED_UP = 4
"""The same, and once more for a key that is not among them, however often it is shown."""

Mint = Callable[[World], str]


@dataclass(frozen=True)
class Row:
    """A hostile token, why it is refused, and its twin."""

    token: Mint
    reason: TokenReason
    twin: Mint
    asks: int = 0
    """How many documents of the issuer may be fetched because of the hostile one, by an issuer whose keys are not known yet."""


def says(**claims: Any) -> Mint:
    """A build's token with other claims."""
    return lambda world: world.build(claims)


def lacks(*names: str) -> Mint:
    """A build's token without some claims."""
    return lambda world: world.build(without=names)


def headed(**header: Any) -> Mint:
    """A build's token with other header fields, signed all the same."""
    return lambda world: world.build(header=header)


def by(key: Key) -> Mint:
    """A build's token, signed with another key."""
    return lambda world: world.build(key=key)


def staff(**claims: Any) -> Mint:
    """The token of somebody who may read."""
    return lambda world: world.person("readers", **claims)


def written(header: str, payload: str) -> Mint:
    """A build's token of these very bytes, rightly signed."""
    return lambda world: sign(world.ci.keys[0], header, payload)


def publishes(**members: Any) -> Mint:
    """A build's token, where the issuer publishes its key otherwise."""

    def mint(world: World) -> str:
        (key,) = world.ci.keys
        world.ci.keys = (replace(key, jwk=members),)
        return world.build()

    return mint


def publishes_only(*keys: Key, signer: Key) -> Mint:
    """A build's token, where the issuer publishes these keys."""

    def mint(world: World) -> str:
        world.ci.keys = keys
        return world.build(key=signer)

    return mint


def symmetric(secret: Callable[[World], bytes]) -> Mint:
    """A build's token, signed as HS256 does with what anyone knows."""
    claims = {"iss": CI_URL, "sub": "x", "aud": HOST, "exp": NOW + 300, **CI}
    return lambda world: hmac_signed({"alg": "HS256", "kid": "ci-1", "typ": "JWT"}, claims, secret(world))


def pem(world: World) -> bytes:
    public = world.ci.keys[0].private.public_key()
    text: bytes = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return text


def unsigned(algorithm: str) -> Mint:
    return lambda world: f"{encoded({'alg': algorithm, 'kid': 'ci-1'})}.{world.build().split('.')[1]}.AA"


def altered(part: int, change: Callable[[str], str]) -> Mint:
    def mint(world: World) -> str:
        segments = world.build().split(".")
        segments[part] = change(segments[part])
        return ".".join(segments)

    return mint


def flipped(segment: str) -> str:
    return ("A" if segment[0] != "A" else "B") + segment[1:]


GOOD = says()
READER = staff()
FORGER = Key.make("ci-1", "RS256", 7)
SMALL = Key("ci-1", "RS256", rsa_key(8, 1024))
OTHER = Key.make("ci-2", "RS256", 3)
HEADER = '{"alg":"RS256","kid":"ci-1"}'
PAYLOAD = (
    f'{{"iss":"{CI_URL}","sub":"x","aud":"{HOST}","exp":{int(NOW) + 300},"repository_id":"74","ref":"refs/heads/main"}}'
)

ALGORITHMS = {
    "no algorithm": Row(unsigned("none"), R.ALGORITHM, GOOD),
    "no algorithm, in capitals": Row(unsigned("NONE"), R.ALGORITHM, GOOD),
    "the public key as a shared secret, as PEM": Row(symmetric(pem), R.ALGORITHM, GOOD),
    "the public key as a shared secret, as JSON": Row(
        symmetric(lambda world: str(world.ci.keys[0].published()).encode()), R.ALGORITHM, GOOD
    ),
    "an empty shared secret": Row(symmetric(lambda _: b""), R.ALGORITHM, GOOD),
    "an algorithm in lower case": Row(headed(alg="rs256"), R.ALGORITHM, headed(alg="RS256")),
    "an algorithm that the issuer does not list": Row(
        publishes_only(Key.make("ed", "EdDSA"), signer=Key.make("ed", "EdDSA")), R.ALGORITHM, lambda world: world.person("readers")
    ),
    "another padding of the same key": Row(
        lambda world: world.build(key=Key("ci-1", "PS256", world.ci.keys[0].private)), R.ALGORITHM, GOOD
    ),
    "an algorithm that is not the key's": Row(
        lambda world: world.staff.mint({"groups": ["readers"]}, header={"alg": "ES384"}), R.KEY, READER, asks=LOOKED_UP
    ),
    "an algorithm of the other key": Row(
        lambda world: world.staff.mint({"groups": ["readers"]}, header={"kid": "staff-2"}), R.KEY, READER, asks=LOOKED_UP
    ),
    "a list of algorithms": Row(headed(alg=["RS256"]), R.ALGORITHM, GOOD),
    "no algorithm field": Row(written('{"kid":"ci-1"}', PAYLOAD), R.ALGORITHM, written(HEADER, PAYLOAD)),
}  # fmt: skip

KEYS = {
    "an unknown key": Row(by(OTHER), R.KEY, publishes_only(OTHER, signer=OTHER), asks=LOOKED_UP),
    "the key id in another case": Row(headed(kid="CI-1"), R.KEY, headed(kid="ci-1"), asks=LOOKED_UP),
    "the key id of another issuer": Row(headed(kid="staff-1"), R.KEY, GOOD, asks=LOOKED_UP),
    "a key id that is a path": Row(headed(kid="../../etc/passwd"), R.KEY, GOOD, asks=LOOKED_UP),
    "a key id that is a URL": Row(headed(kid="https://stranger.example/keys#ci-1"), R.KEY, GOOD, asks=LOOKED_UP),
    "a key id that is a number": Row(headed(kid=1), R.MALFORMED, GOOD),
    "another issuer's signature under the same key id": Row(
        lambda world: world.build(key=world.stranger.keys[0]), R.SIGNATURE, GOOD, asks=LOADED
    ),
    "a forged key in `jwk`": Row(
        lambda world: world.build(key=FORGER, header={"jwk": FORGER.published()}), R.SIGNATURE,
        lambda world: world.build(header={"jwk": FORGER.published()}), asks=LOADED,
    ),
    "a forged key in `jwk` without a key id": Row(
        lambda world: world.build(key=replace(FORGER, kid=None), header={"jwk": FORGER.published()}), R.SIGNATURE, GOOD, asks=LOADED
    ),
    "a forged key at `jku`": Row(
        lambda world: world.build(key=FORGER, header={"jku": "https://stranger.example/keys"}), R.SIGNATURE,
        headed(jku="https://stranger.example/keys"), asks=LOADED,
    ),
    "a forged key at `x5u`": Row(
        lambda world: world.build(key=FORGER, header={"x5u": "http://169.254.169.254/"}), R.SIGNATURE,
        headed(x5u="http://169.254.169.254/"), asks=LOADED,
    ),
    "a forged key in `x5c`": Row(
        lambda world: world.build(key=FORGER, header={"x5c": ["MIIB"]}), R.SIGNATURE, headed(x5c=["MIIB"]), asks=LOADED
    ),
    "a published key for encryption": Row(publishes(use="enc"), R.KEY, publishes(use="sig"), asks=LOOKED_UP),
    "a published key that only encrypts": Row(publishes(key_ops=["encrypt"]), R.KEY, publishes(key_ops=["verify"]), asks=LOOKED_UP),
    "a published key that is private": Row(publishes(d="AQAB"), R.KEY, publishes(d=None), asks=LOOKED_UP),
    "a published key for another algorithm": Row(publishes(alg="PS256"), R.KEY, publishes(alg=None), asks=LOOKED_UP),
    "a published key of 1024 bits": Row(publishes_only(SMALL, signer=SMALL), R.KEY, GOOD, asks=LOOKED_UP),
    "a published shared secret": Row(
        publishes(kty="oct", k="c2VjcmV0", n=None, e=None, alg="HS256"), R.KEY, publishes(alg="RS256"), asks=LOOKED_UP
    ),
}  # fmt: skip

ISSUERS = {
    "the issuer in another case": Row(says(iss="https://CI.example"), R.ISSUER, says(iss=CI_URL)),
    "the issuer with a slash": Row(says(iss=f"{CI_URL}/"), R.ISSUER, GOOD),
    "the issuer without its path": Row(staff(iss="https://staff.example"), R.ISSUER, READER),
    "the issuer with a path more": Row(staff(iss="https://staff.example/realm/x"), R.ISSUER, READER),
    "the issuer with a dot segment": Row(staff(iss="https://staff.example/./realm"), R.ISSUER, READER),
    "the issuer with a user name": Row(says(iss="https://ci.example@stranger.example"), R.ISSUER, GOOD),
    "the issuer with its port": Row(says(iss=f"{CI_URL}:443"), R.ISSUER, GOOD),
    "the issuer with a query": Row(says(iss=f"{CI_URL}?"), R.ISSUER, GOOD),
    "the issuer with a fragment": Row(says(iss=f"{CI_URL}#"), R.ISSUER, GOOD),
    "the issuer over http": Row(says(iss="http://ci.example"), R.ISSUER, GOOD),
    "the beginning of an issuer": Row(says(iss="https://ci.exampl"), R.ISSUER, GOOD),
    "the issuer as the beginning of a host": Row(says(iss=f"{CI_URL}.stranger.example"), R.ISSUER, GOOD),
    "the issuer with a look-alike": Row(says(iss="https://\u0441i.example"), R.ISSUER, GOOD),
    "the issuer with a full-width dot": Row(says(iss="https://ci\uff0eexample"), R.ISSUER, GOOD),
    "the issuer with a newline": Row(says(iss=f"{CI_URL}\n"), R.ISSUER, GOOD),
    "the issuer with a NUL": Row(says(iss=f"{CI_URL}\0"), R.ISSUER, GOOD),
    "the issuer in a list": Row(says(iss=[CI_URL]), R.ISSUER, GOOD),
    "the issuer's name in the policy": Row(says(iss="ci"), R.ISSUER, GOOD),
    "no issuer": Row(lacks("iss"), R.ISSUER, GOOD),
    "an issuer nobody lists": Row(lambda world: world.stranger.mint(CI), R.ISSUER, GOOD),
    "this registry as the issuer": Row(says(iss=PUBLIC_URL), R.ISSUER, GOOD),
    "another listed issuer": Row(says(iss="https://staff.example/realm"), R.KEY, GOOD, asks=LOOKED_UP),
}  # fmt: skip

AUDIENCES = {
    "no audience": Row(lacks("aud"), R.AUDIENCE, GOOD, asks=LOADED),
    "another audience": Row(says(aud="elsewhere.example"), R.AUDIENCE, says(aud="second.example"), asks=LOADED),
    "other audiences": Row(says(aud=["elsewhere.example", "account"]), R.AUDIENCE, says(aud=["account", HOST]), asks=LOADED),
    "an audience in another case": Row(says(aud=HOST.upper()), R.AUDIENCE, says(aud=HOST), asks=LOADED),
    "an audience as a URL": Row(says(aud=PUBLIC_URL), R.AUDIENCE, GOOD, asks=LOADED),
    "the audience of the other issuer": Row(staff(aud="second.example"), R.AUDIENCE, staff(aud=[HOST, "second.example"]), asks=LOADED),
    "a numeric audience": Row(says(aud=[HOST, 7]), R.AUDIENCE, says(aud=[HOST, "7"]), asks=LOADED),
    "an audience in a nested list": Row(says(aud=[[HOST]]), R.AUDIENCE, says(aud=[HOST]), asks=LOADED),
    "no audiences": Row(says(aud=[]), R.AUDIENCE, GOOD, asks=LOADED),
    "audiences in one string": Row(says(aud=f"account {HOST}"), R.AUDIENCE, GOOD, asks=LOADED),
}  # fmt: skip

TIMES = {
    "an end that has passed": Row(says(exp=NOW - 31), R.EXPIRED, says(exp=NOW - 29), asks=LOADED),
    "an end in 1970": Row(says(exp=1), R.EXPIRED, GOOD, asks=LOADED),
    "no end": Row(lacks("exp"), R.TIMES, GOOD, asks=LOADED),
    "an end as text": Row(says(exp=str(int(NOW) + 300)), R.TIMES, says(exp=int(NOW) + 300), asks=LOADED),
    "an end that is true": Row(says(exp=True), R.TIMES, GOOD, asks=LOADED),
    "an end beyond all time": Row(says(exp=10**30), R.TIMES, says(exp=NOW + 300.5), asks=LOADED),
    "an end in milliseconds": Row(says(exp=int(NOW * 1000)), R.TIMES, GOOD, asks=LOADED),
    "an end that is null": Row(says(exp=None), R.TIMES, GOOD, asks=LOADED),
    "a beginning in the far future": Row(says(nbf=NOW + 86400), R.NOT_YET_VALID, says(nbf=NOW + 29), asks=LOADED),
    "a beginning as text": Row(says(nbf="0"), R.TIMES, says(nbf=0), asks=LOADED),
    "an issue in the future": Row(says(iat=NOW + 60), R.NOT_YET_VALID, says(iat=NOW + 29), asks=LOADED),
    "no issue, where an age is limited": Row(
        lambda world: world.staff.mint({"groups": ["readers"]}, without=("iat",)), R.TIMES, lacks("iat"), asks=LOADED
    ),
    "an issue too long ago": Row(staff(iat=NOW - 3631), R.TOO_OLD, staff(iat=NOW - 3629), asks=LOADED),
}  # fmt: skip

SHAPES = {
    "a duplicate key in the header": Row(
        written('{"alg":"none","alg":"RS256","kid":"ci-1"}', PAYLOAD), R.MALFORMED, written(HEADER, PAYLOAD)
    ),
    "a duplicate claim": Row(
        written(HEADER, PAYLOAD.replace("{", '{"repository_id":"1",', 1)), R.MALFORMED,
        written(HEADER, PAYLOAD.replace("{", '{"repository_ID":"1",', 1)),
    ),
    "a duplicate claim spelled otherwise": Row(
        written(HEADER, PAYLOAD.replace("{", '{"re\\u0066":"x",', 1)), R.MALFORMED, written(HEADER, PAYLOAD)
    ),
    "a duplicate key in a nested claim": Row(
        written(HEADER, PAYLOAD.replace("{", '{"x":{"a":1,"a":2},', 1)), R.MALFORMED,
        written(HEADER, PAYLOAD.replace("{", '{"x":{"a":1,"b":2},', 1)),
    ),
    "a critical field": Row(headed(crit=["x"], x=1), R.HEADER, headed(x=1)),
    "an unencoded payload": Row(headed(b64=False), R.HEADER, GOOD),
    "compression": Row(headed(zip="DEF"), R.HEADER, GOOD),
    "encryption": Row(headed(enc="A256GCM"), R.HEADER, GOOD),
    "a token for logout": Row(headed(typ="logout+jwt"), R.TYPE, headed(typ="at+jwt")),
    "a subject that is a number": Row(says(sub=1), R.SUBJECT, says(sub="1"), asks=LOADED),
    "an empty subject": Row(says(sub=""), R.SUBJECT, GOOD, asks=LOADED),
    "an altered payload": Row(altered(1, lambda _: encoded(PAYLOAD.replace("74", "75"))), R.SIGNATURE, GOOD, asks=LOADED),
    "an altered signature": Row(altered(2, flipped), R.SIGNATURE, GOOD, asks=LOADED),
    "a signature with padding": Row(altered(2, lambda part: part + "=="), R.MALFORMED, GOOD),
    "four segments": Row(lambda world: world.build() + ".e30", R.MALFORMED, GOOD),
    "no signature": Row(altered(2, lambda _: ""), R.MALFORMED, GOOD),
    "nested lists without end": Row(
        written(HEADER, PAYLOAD.replace("{", '{"x":' + "[" * 3000 + "]" * 3000 + ",", 1)), R.MALFORMED, written(HEADER, PAYLOAD)
    ),
    "a number without end": Row(
        written(HEADER, PAYLOAD.replace("{", '{"x":' + "9" * 6000 + ",", 1)), R.MALFORMED,
        written(HEADER, PAYLOAD.replace("{", '{"x":' + "9" * 60 + ",", 1)),
    ),
    "more than 16 KiB": Row(says(x="x" * 13_000), R.TOO_LARGE, says(x="x" * 11_000)),
    "a header of more than 4 KiB": Row(headed(x="x" * 4000), R.TOO_LARGE, headed(x="x" * 2500)),
}  # fmt: skip

ROWS = ALGORITHMS | KEYS | ISSUERS | AUDIENCES | TIMES | SHAPES


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
async def test_a_hostile_token_is_refused_at_every_door_for_its_reason(world: World, row: Row) -> None:
    token = row.token(world)
    for door in DOORS:
        reply = await show(world, door, token)
        (event,) = await world.told()
        assert reply.status == 401, (door, reply.body)
        assert reply.json["errors"][0]["code"] == "UNAUTHORIZED"
        assert (event["outcome"], event["reason"]) == ("denied", str(row.reason)), door
        if door in ("bearer", "basic"):
            assert reply.header("www-authenticate").startswith(f"{CHALLENGE},scope=")
            assert 'error="invalid_token"' in reply.header("www-authenticate")
        for segment in filter(lambda part: len(part) >= 20, token.split(".")):
            assert segment not in f"{reply}{event}"
    assert len(world.fetched) <= row.asks, world.fetched
    assert not world.store.total


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
async def test_the_twin_of_a_hostile_token_is_accepted_at_every_door(world: World, row: Row) -> None:
    token = row.twin(world)
    for door in DOORS:
        (await show(world, door, token)).expect(200)


async def show(world: World, door: str, token: str) -> Any:
    """Show a token at one of the places that take one."""
    if door == "bearer":
        return await world.ask("GET", TARGET, token=token)
    if door == "basic":
        return await world.ask("GET", TARGET, headers={"authorization": basic("anybody", token)})
    return await world.sign_in(token, "repository:acme/app:pull", "basic" if door == "GET" else door)


# Our own bearers are tokens too. Each row: what a request shows, and why it is refused.


async def test_our_bearer_buys_no_other_in_any_grant(world: World) -> None:
    token = world.build()
    bearer = await world.bearer(token, "acme/app")
    for door in DOORS[2:]:
        assert (await show(world, door, bearer)).status == 401, door
        (await show(world, door, token)).expect(200)
    assert (await world.ask("GET", TARGET, headers={"authorization": basic("x", bearer)})).status == 401
    (await world.ask("GET", TARGET, token=bearer)).expect(200)


async def test_our_bearer_buys_no_other_even_where_the_policy_lists_this_registry_as_an_issuer(world: World) -> None:
    keys = f"inline: {world.keys.jwks()}".replace("'", '"')
    ours = f"issuers:\n  ours: {{url: {PUBLIC_URL}, audiences: ['{PUBLIC_URL}'], keys: {{{keys}}}}}"
    world.set_policy(POLICY.replace("issuers:", ours, 1))
    bearer = await world.bearer(world.build(), "acme/app")
    for door in DOORS[2:]:
        assert (await show(world, door, bearer)).status == 401, door
    (await world.ask("GET", TARGET, token=bearer)).expect(200)


@pytest.mark.parametrize("change", ["typ", "typ and audience", "typ, audience and issuer"])
async def test_a_foreign_token_that_calls_itself_ours_is_refused(world: World, change: str) -> None:
    kid = world.keys.signing.kid
    claims: dict[str, Any] = {"exp": NOW + 300, "iat": NOW, "scope": ["acme/app"], **CI}
    if "audience" in change:
        claims["aud"] = PUBLIC_URL
    if "issuer" in change:
        claims |= {
            "iss": PUBLIC_URL,
            "idp": "ci",
            "idp_url": CI_URL,
            "claims": CI,
            "names": list(CI),
            "ends": NOW + 300,
        }
    forger = Key.make(kid, "ES256")
    forged = world.ci.mint(claims, header={"typ": "edgeproxy+jwt", "kid": kid}, key=forger)
    assert (await world.ask("GET", TARGET, token=forged)).error == (401, "UNAUTHORIZED")
    assert (await world.told())[-1]["reason"] == "signature"
    assert not world.fetched
    (await world.ask("GET", TARGET, token=await world.bearer(world.build(), "acme/app"))).expect(200)


async def test_a_bearer_of_another_registry_with_the_same_keys_is_refused(world: World) -> None:
    caller = Identity("ci", "x", {"iss": CI_URL, "sub": "x", **CI}, NOW + 300)
    scope = [Repository("acme/app")]
    for url, status in (("https://other.example", 401), (PUBLIC_URL, 200)):
        minted = Bearers(world.keys, url, bytes).mint(caller, world.policy, scope, 300, NOW)
        assert (await world.ask("GET", TARGET, token=minted.token)).status == status


async def test_a_bearer_of_a_retired_key_is_refused_and_that_of_the_new_key_is_not(world: World) -> None:
    old = await world.bearer(world.build(), "acme/app")
    kid = world.keys.signing.kid
    new_key(world.folder / "keys", NOW)
    world.keys.reload()
    (await world.ask("GET", TARGET, token=old)).expect(200)
    retire(world.folder / "keys", kid)
    world.keys.reload()
    # A minute at most: as long as a verified token is remembered.
    world.clock.advance(61)
    refused = await world.ask("GET", TARGET, token=old)
    assert refused.error == (401, "UNAUTHORIZED")
    assert 'error="invalid_token"' in refused.header("www-authenticate")
    (await world.ask("GET", TARGET, token=await world.bearer(world.build(), "acme/app"))).expect(200)


async def test_an_expired_bearer_says_that_it_expired(world: World) -> None:
    bearer = await world.bearer(world.build(), "acme/app")
    (await world.ask("GET", TARGET, token=bearer)).expect(200)
    world.clock.advance(331)
    refused = await world.ask("GET", TARGET, token=bearer)
    assert refused.error == (401, "UNAUTHORIZED")
    assert "this token expired 31 seconds ago; get another" in refused.header("www-authenticate")


# What hostile tokens cost.


async def test_a_flood_of_unknown_keys_costs_one_lookup(world: World) -> None:
    (await world.ask("GET", TARGET, token=world.build())).expect(200)
    world.fetched.clear()
    for number in range(200):
        token = f"{encoded({'alg': 'RS256', 'kid': f'k{number}'})}.{encoded(PAYLOAD)}.{encoded(bytes(256))}"
        assert (await world.ask("GET", TARGET, token=token)).status == 401
    assert len(world.fetched) <= 2
    (await world.ask("GET", TARGET, token=world.build())).expect(200)


async def test_a_flood_of_hostile_tokens_keeps_no_memory(world: World) -> None:
    async def flood() -> None:
        for number in range(300):
            payload = PAYLOAD.replace("{", '{"n":"' + f"{number}" + "x" * 9000 + '",', 1)
            await world.ask("GET", TARGET, token=f"{encoded(HEADER)}.{encoded(payload)}.AAAA")
        await world.told()

    await flood()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        await flood()
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 256 * 1024
    assert peak - before < 2 * 1024 * 1024


class Watching(str):
    """A string that counts how often it is compared."""

    compared = 0
    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        Watching.compared += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


def test_duplicate_keys_are_found_with_a_bounded_number_of_comparisons() -> None:
    pairs = [(Watching(f"key{number}"), 1) for number in range(2000)]
    Watching.compared = 0
    with pytest.raises(ValueError, match="duplicate"):
        jws._unique([*pairs, (Watching("key1999"), 2)])
    assert Watching.compared < 4000
    assert jws._unique(list(pairs)) is None  # type: ignore[func-returns-value]
