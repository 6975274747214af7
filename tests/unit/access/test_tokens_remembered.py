"""What is remembered of tokens: how it is counted, what it weighs; and whose token was refused."""

from __future__ import annotations

import pytest

from edgeproxy.access.decisions import Identity
from edgeproxy.access.issuers import IssuerKeys
from edgeproxy.access.policy import Policy, load_policy
from edgeproxy.access.refusals import TokenRefused
from edgeproxy.access.tokens import ENTRY_BYTES, TokenCache, Verifier, weigh_identity
from edgeproxy.bounded import bytes_of
from tests.issuer import NOW, LocalIssuer

WORDS = "team-of-" + "x" * 992


def policy(url: str = "https://issuer.example") -> Policy:
    text = f"version: 1\nissuers:\n  main: {{url: {url}, audiences: [registry.example]}}\n"
    return load_policy(text.encode(), source="policy.yaml", loopback=False, now=NOW)


POLICY = policy()


def remembered(weight: int, limit: int = 100 * ENTRY_BYTES) -> TokenCache[str]:
    cache: TokenCache[str] = TokenCache(lambda _: weight, limit=limit)
    cache.put(b"a", POLICY, "a", NOW + 9, NOW)
    return cache


def test_hits_and_misses_are_counted_one_by_one() -> None:
    cache = remembered(0)
    counted = [(cache.hits, cache.misses)]
    for name in (b"a", b"b", b"a", b"b"):
        cache.get(name, POLICY, NOW)
        counted.append((cache.hits, cache.misses))
    assert counted == [(0, 0), (1, 0), (1, 1), (2, 1), (2, 2)]


def test_who_asks_again_afterwards_has_missed_nothing_yet() -> None:
    cache = remembered(0)
    assert cache.fresh(b"b", POLICY, NOW) is None
    assert cache.fresh(b"a", POLICY, NOW) == "a"
    assert (cache.hits, cache.misses) == (1, 0)


def test_an_entry_weighs_what_is_in_it_and_what_it_takes_by_itself() -> None:
    assert remembered(7).weight == ENTRY_BYTES + 7
    assert len(remembered(7, limit=ENTRY_BYTES + 7)) == 1
    assert len(remembered(8, limit=ENTRY_BYTES + 7)) == 0


def test_an_identity_weighs_its_subject_and_its_claims() -> None:
    small = weigh_identity(Identity("main", "", {}, NOW))
    assert small > bytes_of("") + bytes_of({})
    for larger in (Identity("main", WORDS, {}, NOW), Identity("main", "", {"team": [WORDS]}, NOW)):
        assert small + 1000 <= weigh_identity(larger) <= small + 1500


async def test_a_refusal_names_the_issuer_that_the_token_is_of_once_that_is_known() -> None:
    issuer = LocalIssuer()
    verifier = Verifier(IssuerKeys(issuer.fetch, lambda: NOW))
    token = issuer.mint({"aud": "another.example"})
    with pytest.raises(TokenRefused) as caught:
        await verifier.verify(token, POLICY, NOW)
    assert caught.value.issuer == "main"
    with pytest.raises(TokenRefused) as caught:
        await verifier.verify(token, policy("https://elsewhere.example"), NOW)
    assert caught.value.issuer == ""
