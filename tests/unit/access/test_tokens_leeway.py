"""The leeway on the end of a token: who is let in by it alone is let in for as long as it lasts."""

from __future__ import annotations

import pytest

from edgeproxy.access.issuers import IssuerKeys
from edgeproxy.access.policy import load_policy
from edgeproxy.access.tokens import LEEWAY_SECONDS, Verifier
from tests.issuer import NOW, LocalIssuer

POLICY = load_policy(
    b'version: 1\nissuers: {main: {url: "https://issuer.example", audiences: [registry.example]}}\n',
    source="policy.yaml",
    loopback=False,
    now=NOW,
)


@pytest.mark.parametrize(
    ("exp", "ends"),
    [
        (NOW + 1, NOW + 1),
        (NOW + 0.5, NOW + 0.5),
        (NOW, NOW + LEEWAY_SECONDS),
        (NOW - 1, NOW - 1 + LEEWAY_SECONDS),
        (NOW - 29, NOW - 29 + LEEWAY_SECONDS),
    ],
)
async def test_an_identity_ends_with_its_token_or_with_the_leeway_that_let_it_in(exp: float, ends: float) -> None:
    issuer = LocalIssuer()
    verifier = Verifier(IssuerKeys(issuer.fetch, lambda: NOW))
    verified = await verifier.verify(issuer.mint({"exp": exp}), POLICY, NOW)
    assert (verified.identity.ends, verified.until) == (ends, ends)
