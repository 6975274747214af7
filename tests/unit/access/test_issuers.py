"""Keys of issuers: when they are fetched, when not, and from where."""

from __future__ import annotations

import asyncio
import datetime as dt
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from edgeproxy.access import fetch as fetching
from edgeproxy.access.fetch import fetch
from edgeproxy.access.issuers import (
    COOL_DOWN_SECONDS,
    HARD_REFRESH_SECONDS,
    MAX_KEYS,
    REFRESH_SECONDS,
    RETRY_SECONDS,
    STALE_SECONDS,
    Fetch,
    FetchFailed,
    IssuerKeys,
)
from edgeproxy.access.jws import ALGORITHMS
from edgeproxy.access.refusals import TokenReason, TokenRefused
from edgeproxy.access.rules import Discovery, InlineKeys, Issuer, KeySource, KeysUrl
from tests.issuer import DISCOVERY, JWKS, NOW, Key, LocalIssuer

R = TokenReason


def listed(url: str, keys: KeySource | None = None, ca: bytes | None = None) -> Issuer:
    return Issuer("main", url, ("registry.example",), ALGORITHMS, None, keys or Discovery(), ca, None)


class World:
    """An issuer, its keys as we know them, and a clock that only moves when told to."""

    def __init__(self, issuer: LocalIssuer, keys: KeySource | None = None, fetch: Fetch | None = None) -> None:
        self.now = NOW
        self.issuer = issuer
        self.listed = listed(issuer.url, keys)
        self.keys = IssuerKeys(fetch or issuer.fetch, lambda: self.now)

    async def finds(self, kid: str | None = "one") -> bool:
        """Tell whether the key is known; that none can be had at all is another matter."""
        try:
            return bool(await self.keys.find(self.listed, kid, "ES256"))
        except TokenRefused as refused:
            if refused.reason is not R.KEY:
                raise
            return False

    async def refusal(self, kid: str | None = "one") -> TokenRefused:
        with pytest.raises(TokenRefused) as caught:
            await self.keys.find(self.listed, kid, "ES256")
        return caught.value

    async def settled(self) -> None:
        """Let what goes on in the background come to its end."""
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*others)

    @property
    def fetches(self) -> int:
        return self.issuer.fetches[JWKS]


@pytest.fixture
def world() -> World:
    return World(LocalIssuer())


async def test_keys_are_discovered_once_and_then_remembered(world: World) -> None:
    assert await world.finds()
    world.now += REFRESH_SECONDS - 1
    assert await world.finds()
    assert world.issuer.fetches == {DISCOVERY: 1, JWKS: 1}


async def test_keys_come_from_a_url_without_discovery() -> None:
    issuer = LocalIssuer()
    world = World(issuer, KeysUrl(issuer.url + JWKS, None))
    assert await world.finds()
    assert issuer.fetches == {JWKS: 1}


async def test_keys_in_the_policy_need_no_network() -> None:
    key = Key.make()
    world = World(LocalIssuer(), InlineKeys({"keys": [key.published()]}, None))
    assert await world.finds()
    assert not await world.finds("two")
    assert not world.issuer.fetches


@pytest.mark.parametrize("kind", ["inline", "url", "discovery"])
async def test_keys_are_not_used_from_their_end_on(kind: str) -> None:
    issuer = LocalIssuer()
    sources: dict[str, KeySource] = {
        "inline": InlineKeys({"keys": [issuer.keys[0].published()]}, NOW + 5),
        "url": KeysUrl(issuer.url + JWKS, NOW + 5),
        "discovery": Discovery(NOW + 5),
    }
    world = World(issuer, sources[kind])
    assert await world.finds()
    world.now = NOW + 4.9
    assert await world.finds()
    world.now = NOW + 5
    assert (await world.refusal()).reason is R.KEYS_EXPIRED


async def test_many_callers_share_one_flight(world: World) -> None:
    world.issuer.gate = asyncio.Event()
    waiting = [asyncio.create_task(world.finds()) for _ in range(50)]
    await world.issuer.asked.wait()
    world.issuer.gate.set()
    assert await asyncio.gather(*waiting) == [True] * 50
    assert world.issuer.fetches == {DISCOVERY: 1, JWKS: 1}


async def test_a_caller_who_leaves_does_not_end_the_flight(world: World) -> None:
    world.issuer.gate = asyncio.Event()
    leaving, staying = asyncio.create_task(world.finds()), asyncio.create_task(world.finds())
    await world.issuer.asked.wait()
    leaving.cancel()
    world.issuer.gate.set()
    assert await staying
    assert leaving.cancelled() or leaving.done()
    assert world.fetches == 1


async def test_old_keys_are_used_while_fresh_ones_are_fetched_in_the_background(world: World) -> None:
    assert await world.finds()
    world.now += REFRESH_SECONDS
    world.issuer.gate = asyncio.Event()
    world.issuer.keys = (Key.make("two"),)
    assert await world.finds(), "nobody waits for the refresh"
    world.issuer.gate.set()
    await world.settled()
    assert world.fetches == 2
    assert await world.finds("two")
    assert not await world.finds("one"), "a key that the issuer withdrew is gone"


async def test_keys_of_more_than_an_hour_ago_are_read_again_before_they_are_used(world: World) -> None:
    assert await world.finds()
    world.now += HARD_REFRESH_SECONDS
    world.issuer.keys = (Key.make("two"),)
    assert not await world.finds("one")


async def test_a_rotated_key_is_found_at_once_even_right_after_the_first_load(world: World) -> None:
    assert await world.finds()
    world.issuer.keys = (*world.issuer.keys, Key.make("two"))
    assert await world.finds("two"), "the cool-down does not start at the first load"
    assert world.fetches == 2


async def test_a_key_that_is_unknown_right_after_a_load_is_not_looked_up_twice(world: World) -> None:
    assert not await world.finds("unknown")
    assert world.fetches == 1


async def test_a_flood_of_unknown_keys_costs_one_fetch_a_cool_down(world: World) -> None:
    assert await world.finds()
    before = world.fetches
    for number in range(200):
        assert not await world.finds(f"unknown-{number}")
    assert world.fetches == before + 1
    world.now += COOL_DOWN_SECONDS - 0.1
    assert not await world.finds("unknown")
    assert world.fetches == before + 1
    world.now += 0.1
    flood = [world.finds(f"unknown-{number}") for number in range(200)]
    assert not any(await asyncio.gather(*flood))
    assert world.fetches == before + 2
    assert await world.finds("one"), "what is known stays known"


async def test_callers_with_a_new_key_wait_for_the_lookup_that_is_under_way(world: World) -> None:
    assert await world.finds()
    world.issuer.keys = (*world.issuer.keys, Key.make("two"))
    world.issuer.gate = asyncio.Event()
    world.issuer.asked.clear()
    waiting = [asyncio.create_task(world.finds("two")) for _ in range(5)]
    await world.issuer.asked.wait()
    world.issuer.gate.set()
    assert await asyncio.gather(*waiting) == [True] * 5
    assert world.fetches == 2


async def test_the_cool_down_of_one_issuer_does_not_hold_another_up(world: World) -> None:
    other = LocalIssuer()
    second = Issuer("second", other.url, ("a",), ALGORITHMS, None, KeysUrl(other.url + JWKS, None), None, None)
    assert await world.finds()
    assert await world.keys.find(second, "one", "ES256")
    assert not await world.finds("two")
    world.issuer.keys = (*world.issuer.keys, Key.make("three"))
    assert await world.keys.find(second, "three", "ES256")


async def test_keys_stay_while_their_issuer_is_down_and_for_a_day_at_most(world: World) -> None:
    assert await world.finds()
    world.issuer.fault = "down"
    for hours in range(1, 24):
        world.now = NOW + hours * 3600
        assert await world.finds()
        await world.settled()
    assert world.keys.problems() == {"main": "down"}
    world.now = NOW + STALE_SECONDS
    assert (await world.refusal()).reason is R.KEYS_UNAVAILABLE
    world.issuer.fault = ""
    world.now += COOL_DOWN_SECONDS
    assert await world.finds()
    assert world.keys.problems() == {}


async def test_an_issuer_that_is_down_is_not_asked_for_every_caller(world: World) -> None:
    assert await world.finds()
    world.issuer.fault = "down"
    world.now += REFRESH_SECONDS
    for _ in range(20):
        assert await world.finds()
        await world.settled()
    assert world.issuer.fetches[DISCOVERY] == 2
    world.now += COOL_DOWN_SECONDS
    assert await world.finds()
    await world.settled()
    assert world.issuer.fetches[DISCOVERY] == 3


async def test_an_issuer_that_was_never_reached_is_asked_again_after_a_few_seconds(world: World) -> None:
    world.issuer.fault = "down"
    for _ in range(20):
        refused = await world.refusal()
        assert (refused.reason, refused.detail) == (R.KEYS_UNAVAILABLE, "issuer main: down")
    assert world.issuer.fetches[DISCOVERY] == 1
    world.issuer.fault = ""
    world.now += RETRY_SECONDS
    assert await world.finds()


async def test_an_unknown_key_while_the_issuer_is_down_leaves_the_known_ones(world: World) -> None:
    assert await world.finds()
    world.issuer.fault = "down"
    assert not await world.finds("two")
    assert await world.finds("one")


async def test_a_policy_that_describes_the_issuer_otherwise_starts_afresh(world: World) -> None:
    assert await world.finds()
    other = LocalIssuer("https://other.example", (Key.make("two"),))
    world.listed = listed(other.url, InlineKeys({"keys": [other.keys[0].published()]}, None))
    assert not await world.finds("one")
    assert await world.finds("two")


async def test_a_policy_that_describes_the_issuer_alike_keeps_its_keys(world: World) -> None:
    assert await world.finds()
    world.listed = listed(world.issuer.url)
    assert await world.finds()
    assert world.fetches == 1


async def test_keys_can_be_loaded_before_the_first_caller(world: World) -> None:
    await world.keys.warm([world.listed])
    await world.keys.warm([world.listed])
    world.issuer.fault = "down"
    assert await world.finds()
    assert world.fetches == 1


async def test_what_is_under_way_ends_with_the_process(world: World) -> None:
    world.issuer.gate = asyncio.Event()
    waiting = asyncio.create_task(world.finds())
    await world.issuer.asked.wait()
    await world.keys.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert asyncio.all_tasks() == {asyncio.current_task()}


# What an issuer may answer with instead, and what the operator is told.
DISCOVERIES: dict[str, tuple[dict[str, Any], str]] = {
    "the issuer is another": ({"issuer": "https://evil.example"}, "character for character"),
    "the issuer has a slash more": ({"issuer": "https://issuer.example/"}, "character for character"),
    "the issuer is missing": ({"issuer": None}, "character for character"),
    "the keys lie at no URL": ({"jwks_uri": None}, "not an https URL"),
    "the keys lie over http": ({"jwks_uri": "http://issuer.example/keys"}, "not an https URL"),
    "the keys lie on this machine": ({"jwks_uri": "http://127.0.0.1:1/keys"}, "not an https URL"),
    "the keys lie in a file": ({"jwks_uri": "file:///etc/passwd"}, "not an https URL"),
    "the keys lie at half a URL": ({"jwks_uri": "https://"}, "not an https URL"),
    "the keys lie at a broken URL": ({"jwks_uri": "https://[::1/keys"}, "not a URL"),
    "the keys lie at a number": ({"jwks_uri": 7}, "not an https URL"),
}


@pytest.mark.parametrize(("change", "told"), DISCOVERIES.values(), ids=DISCOVERIES.keys())
async def test_discovery_is_not_believed_when(world: World, change: dict[str, Any], told: str) -> None:
    world.issuer.discovery = change
    refused = await world.refusal()
    assert refused.reason is R.KEYS_UNAVAILABLE
    assert told in refused.detail
    assert world.fetches == 0
    world.issuer.discovery = {}
    world.now += RETRY_SECONDS
    assert await world.finds()


async def test_keys_may_lie_at_another_host_over_https() -> None:
    issuer = LocalIssuer()
    asked = []

    async def elsewhere(url: str, ca: bytes | None) -> bytes:
        asked.append(url)
        return await issuer.fetch(url.replace("https://keys.example", issuer.url), ca)

    world = World(issuer, fetch=elsewhere)
    issuer.discovery = {"jwks_uri": "https://keys.example/keys"}
    assert await world.finds()
    assert asked == [issuer.url + DISCOVERY, "https://keys.example/keys"]


async def test_a_url_that_ends_in_a_slash_is_discovered_without_doubling_it() -> None:
    issuer = LocalIssuer("https://issuer.example/")
    issuer.discovery = {"jwks_uri": "https://issuer.example/" + JWKS}
    asked = []

    async def fetch(url: str, ca: bytes | None) -> bytes:
        asked.append(url)
        return await issuer.fetch(url.replace("example/.well", "example//.well"), ca)

    assert await World(issuer, fetch=fetch).finds()
    assert asked[0] == "https://issuer.example/.well-known/openid-configuration"


@pytest.mark.parametrize(
    "content", [b"", b"<html>", b"[]", b"null", b"{}", b'{"keys": {}}', b'{"keys": null}', b"\xff"]
)
async def test_what_is_no_key_set_leaves_the_old_one(content: bytes) -> None:
    issuer = LocalIssuer()
    answers = [b""]

    async def fetch(url: str, ca: bytes | None) -> bytes:
        return answers[0] or await issuer.fetch(url, ca)

    world = World(issuer, KeysUrl(issuer.url + JWKS, None), fetch)
    assert await world.finds()
    answers[0] = content or b" "
    assert not await world.finds("two")
    assert world.keys.problems()
    assert await world.finds("one")


async def test_the_number_of_keys_is_limited() -> None:
    shared = Key.make("one")
    keys = [Key(f"k{number}", "ES256", shared.private) for number in range(MAX_KEYS - 1)]
    world = World(LocalIssuer(keys=(*keys, shared)))
    assert await world.finds()
    above = World(LocalIssuer(keys=(*keys, shared, shared)))
    assert "at most 100" in (await above.refusal()).detail


async def test_inline_keys_are_limited_too() -> None:
    key = Key.make().published()
    world = World(LocalIssuer(), InlineKeys({"keys": [key] * (MAX_KEYS + 1)}, None))
    assert not await world.finds()
    assert "at most 100" in world.keys.problems()["main"]


async def test_keys_of_no_use_are_passed_over() -> None:
    """Keycloak publishes a key for encryption beside the one that signs."""
    encryption = Key.make("enc", "RS256", use="enc", alg="RSA-OAEP")
    issuer = LocalIssuer(keys=(encryption, Key.make("one")))
    world = World(issuer)
    assert await world.finds("one")
    with pytest.raises(TokenRefused):
        await world.keys.find(world.listed, "enc", "RS256")


async def test_a_document_is_fetched_over_http_from_loopback() -> None:
    async with LocalIssuer().serving() as issuer:
        world = World(issuer, fetch=fetch)
        assert await world.finds()
        assert issuer.fetches == {DISCOVERY: 1, JWKS: 1}


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("down", "status 503"),
        ("redirect", "status 302"),
        ("huge", "larger than 1048576"),
        ("compressed", "compressed"),
        ("close", "Disconnected"),
    ],
)
async def test_a_document_is_not_taken_when_the_server_answers_with(fault: str, told: str) -> None:
    async with LocalIssuer().serving() as issuer:
        assert await fetch(issuer.url + JWKS, None)
        issuer.fault = fault
        with pytest.raises(FetchFailed, match=told):
            await fetch(issuer.url + JWKS, None)
        assert set(issuer.fetches) == {JWKS}, "a redirect is not followed"


async def test_a_server_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "FETCH_SECONDS", 0.05)
    async with LocalIssuer().serving() as issuer:
        issuer.gate = asyncio.Event()
        with pytest.raises(FetchFailed, match="no answer within"):
            await fetch(issuer.url + JWKS, None)
        issuer.gate.set()


async def test_a_server_that_is_not_there_is_told_without_its_url() -> None:
    async with LocalIssuer().serving() as issuer:
        gone = issuer.url
    with pytest.raises(FetchFailed) as caught:
        await fetch(gone + "/secret-path", None)
    assert "secret-path" not in str(caught.value)


@pytest.mark.parametrize("url", ["", "file:///etc/passwd", "ftp://127.0.0.1/", "http://", "http://127.0.0.1:99999/"])
async def test_what_is_no_web_address_is_not_fetched(url: str) -> None:
    with pytest.raises(FetchFailed):
        await fetch(url, None)


def _certificate(folder: Path) -> tuple[bytes, ssl.SSLContext]:
    """Make an authority that is its own server on 127.0.0.1."""
    import ipaddress

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test authority")])
    today = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - dt.timedelta(days=1))
        .not_valid_after(today + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(Encoding.PEM)
    (folder / "server.pem").write_bytes(pem + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return pem, context


async def test_a_private_authority_is_trusted_for_the_issuer_that_names_it(tmp_path: Path) -> None:
    pem, context = _certificate(tmp_path)
    async with LocalIssuer().serving(context) as issuer:
        assert await fetch(issuer.url + JWKS, pem)
        with pytest.raises(FetchFailed, match=r"[Cc]ertificate"):
            await fetch(issuer.url + JWKS, None)


async def test_an_authority_that_is_no_certificate_is_told() -> None:
    with pytest.raises(FetchFailed, match="ca_file"):
        await fetch("https://127.0.0.1:1/", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
