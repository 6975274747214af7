"""Our own bearer: a short ES256 token that carries an identity which was verified once, from `/token` to every replica.

It grants nothing. The policy in force decides each request by the claims in it; the repositories it was asked for are a
ceiling. Its `typ` is private, so that neither kind of token can be taken for the other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from edgeproxy.access import jws
from edgeproxy.access.decisions import Caller, Claim, Identity
from edgeproxy.access.jws import Unverified
from edgeproxy.access.policy import Policy
from edgeproxy.access.refusals import TokenReason, TokenRefused, quoted
from edgeproxy.access.signing import SigningKeys
from edgeproxy.access.tokens import LEEWAY_SECONDS, duration
from edgeproxy.oci.names import Repository

BEARER_TYPE: Final = "edgeproxy+jwt"
MAX_BEARER_BYTES: Final = 8 * 1024
"""A bearer travels with every request, through proxies that allow so much for all headers. Usual ones have less than 1 KiB."""


@dataclass(frozen=True, slots=True)
class Bearer:
    """A verified bearer. `scope` is the ceiling of repositories; `ends` when it ceases to be valid, leeway included."""

    caller: Caller
    scope: frozenset[str]
    ends: float


@dataclass(frozen=True, slots=True)
class Minted:
    """A new bearer, for the answer of `/token`."""

    token: str = field(repr=False)
    expires_in: int


class Bearers:
    """Mints and verifies the bearers of one registry. `public_url` is their issuer and their audience."""

    def __init__(self, keys: SigningKeys, public_url: str, random: Callable[[int], bytes]) -> None:
        self._keys = keys
        self._url = public_url
        self._random = random

    def mint(self, caller: Caller, policy: Policy, scope: Collection[Repository], seconds: int, now: float) -> Minted:
        """Make a bearer for a caller who was verified under this policy, for these repositories.

        Raises:
            TokenRefused: `TOO_MANY_CLAIMS`, if the claims that the policy refers to do not fit into a header.

        """
        claims: dict[str, Any] = {
            "iss": self._url,
            "aud": self._url,
            "iat": int(now),
            "exp": int(now) + seconds,
            "jti": self._random(12).hex(),
            "scope": sorted(repository.name for repository in scope),
        }
        if caller is not None:
            claims |= {
                "sub": caller.subject,
                "idp": caller.issuer,
                "idp_url": policy.issuers[caller.issuer].url,
                "ends": caller.ends,
                "claims": dict(caller.claims),
                "names": sorted(policy.claims_of(caller.issuer)),
            }
        token = self._keys.signing.sign(claims, BEARER_TYPE)
        if len(token) > MAX_BEARER_BYTES:
            raise TokenRefused(
                TokenReason.TOO_MANY_CLAIMS,
                "the claims of this token that the registry's policy refers to do not fit into a bearer; "
                "have the identity provider send fewer groups",
                detail=f"the bearer would have {len(token)} bytes, more than {MAX_BEARER_BYTES}",
            )
        return Minted(token, seconds)

    def verify(self, token: str, policy: Policy, now: float) -> Bearer:
        """Verify a bearer under the policy in force.

        Raises:
            TokenRefused: it is not one of ours, has ended, or lacks what this policy needs to know.

        """
        unverified = jws.read(token)
        self._check_signature(unverified)
        try:
            return self._read(unverified.claims, policy, now)
        except (KeyError, TypeError) as error:
            raise TokenRefused(
                TokenReason.OUTDATED,
                "this token was made by another version of this registry; get another",
                detail=type(error).__name__,
            ) from None

    def _read(self, claims: Mapping[str, Any], policy: Policy, now: float) -> Bearer:
        if claims["iss"] != self._url or claims["aud"] != self._url:
            raise TokenRefused(
                TokenReason.AUDIENCE, "this token is for another registry; sign in here", detail=quoted(claims["iss"])
            )
        if now >= claims["exp"] + LEEWAY_SECONDS:
            raise TokenRefused(
                TokenReason.EXPIRED, f"this token expired {duration(now - claims['exp'])} ago; get another"
            )
        if claims["iat"] > now + LEEWAY_SECONDS:
            raise TokenRefused(TokenReason.NOT_YET_VALID, "this token is not valid yet: the clocks of replicas differ")
        caller = _caller(claims, policy) if "idp" in claims else None
        return Bearer(caller, frozenset(claims["scope"]), claims["exp"] + LEEWAY_SECONDS)

    def _check_signature(self, token: Unverified) -> None:
        """Check that we made this token; from here on its claims are what `mint` wrote."""
        header = token.header
        if header.get("typ") != BEARER_TYPE or header.get("alg") != "ES256" or "crit" in header:
            raise TokenRefused(TokenReason.TYPE, "this is not a token of this registry", detail=quoted(dict(header)))
        kid = header.get("kid")
        key = self._keys.verifying(kid) if isinstance(kid, str) else None
        if key is None:
            raise TokenRefused(
                TokenReason.KEY, "the key that signed this token is not in use here; get another", detail=quoted(kid)
            )
        if not jws.is_signed_by(token, key.public):
            raise TokenRefused(TokenReason.SIGNATURE, "the signature of this token is wrong; get another")


def is_bearer(header: Mapping[str, Claim]) -> bool:
    """Tell whether a token presents itself as a bearer of ours."""
    return header.get("typ") == BEARER_TYPE


def _caller(claims: Mapping[str, Any], policy: Policy) -> Identity:
    issuer = policy.issuers.get(claims["idp"])
    if issuer is None or issuer.url != claims["idp_url"]:
        raise TokenRefused(
            TokenReason.OUTDATED, "this registry does not accept the issuer behind this token any more; sign in again"
        )
    missing = policy.claims_of(issuer.name) - set(claims["names"])
    if missing:
        raise TokenRefused(
            TokenReason.OUTDATED,
            "the policy of this registry has changed since this token was made; get another",
            detail=f"issuer {issuer.name}, claims {quoted(sorted(missing))}",
        )
    return Identity(issuer.name, claims["sub"], claims["claims"], claims["ends"])
