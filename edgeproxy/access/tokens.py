"""Verification of the tokens of identity providers. Nobody else makes an `Identity`, but for our own bearer of one.

The order, in which nothing is asked of the network before the policy has said that it believes the issuer: size and
shape; header; `iss` against the policy; algorithm; key; signature; then what the signed claims say: audience, times,
subject (RFC 8725, section 3).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Final, Generic, TypeVar

from edgeproxy.access import jws
from edgeproxy.access.decisions import Claim, Identity
from edgeproxy.access.issuers import IssuerKeys
from edgeproxy.access.jws import Unverified
from edgeproxy.access.policy import Policy
from edgeproxy.access.refusals import TokenReason, TokenRefused, quoted
from edgeproxy.access.rules import Issuer
from edgeproxy.bounded import Bounded, bytes_of

LEEWAY_SECONDS: Final = 30
"""By how much clocks may differ."""
CACHE_SECONDS: Final = 60.0
CACHE_BYTES: Final = 16 * 1024 * 1024
"""Memory for what tokens were found to be, in each of the two places that remember it."""
ENTRY_BYTES: Final = 400
"""What an entry takes by itself."""
MAX_TIME: Final = 10**11
"""Times beyond it (the year 5138) are no seconds since the epoch; milliseconds are a usual mistake."""
FOREIGN_TYPES: Final = frozenset({"jwt", "application/jwt", "at+jwt", "application/at+jwt", "jose"})
"""What `typ` may say, besides nothing. Others are made for other purposes: logout, security events, proofs of keys."""
REFUSED_HEADERS: Final = ("crit", "b64", "zip", "enc")
"""Header fields that change how a token is to be read. Fields that offer keys (`jwk`, `jku`, `x5c`, `x5u`) are not looked at."""

T = TypeVar("T")


class TokenCache(Generic[T]):
    """Remembers what a token was found to be, by its hash and the policy, for at most a minute.

    Bounded in bytes, as tokens of some organisations name hundreds of groups.
    """

    def __init__(self, weigh: Callable[[T], int], limit: int = CACHE_BYTES) -> None:
        self.hits = 0
        self.misses = 0
        self._found: Bounded[tuple[bytes, str], tuple[T, float]] = Bounded(
            limit, lambda _, found: ENTRY_BYTES + weigh(found[0])
        )

    @property
    def weight(self) -> int:
        """Bytes of all that is remembered, by estimate."""
        return self._found.weight

    def fresh(self, token: bytes, policy: Policy, now: float) -> T | None:
        """Give what is remembered, for who then asks again with `get`: only a hit counts."""
        found = self._found.get((token, policy.version))
        if found is None or now >= found[1]:
            return None
        self.hits += 1
        return found[0]

    def get(self, token: bytes, policy: Policy, now: float) -> T | None:
        """Give what is remembered of a token under this policy."""
        found = self.fresh(token, policy, now)
        self.misses += found is None
        return found

    def __len__(self) -> int:
        return len(self._found)

    def put(self, token: bytes, policy: Policy, value: T, until: float, now: float) -> None:
        """Remember it until then, or for a minute."""
        self._found.put((token, policy.version), (value, min(until, now + CACHE_SECONDS)))


def weigh_identity(identity: Identity) -> int:
    """Estimate the memory of an identity in bytes."""
    return 100 + bytes_of(identity.subject) + bytes_of(identity.claims)


def token_hash(token: str) -> bytes:
    """Give what stands for a token in caches: its SHA-256."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


@dataclass(frozen=True, slots=True)
class Verified:
    """An identity, and until when it may be believed without looking at its token again."""

    identity: Identity
    until: float


class Verifier:
    """Verifies tokens of the issuers that a policy lists."""

    def __init__(self, keys: IssuerKeys) -> None:
        self._keys = keys
        self.cache: TokenCache[Verified] = TokenCache(lambda found: weigh_identity(found.identity))

    async def verify(self, token: str, policy: Policy, now: float) -> Verified:
        """Verify a token.

        Its identity holds `iss`, `sub` and the claims that the policy refers to for this issuer, with their JSON types.

        Raises:
            TokenRefused: it is not believed. No other error leaves here, whatever the token holds.

        """
        try:
            hashed = token_hash(token)
            verified = self.cache.get(hashed, policy, now)
            if verified is None:
                verified = await self._verified(token, policy, now)
                self.cache.put(hashed, policy, verified, verified.until, now)
        except TokenRefused:
            raise
        except Exception as error:  # noqa: BLE001
            # A token is a hostile document that passes through two JSON parsers and a cryptography library. What none of
            # the checks foresaw must still end as a refusal, never as an answer 500 that a traceback goes with.
            raise TokenRefused(
                TokenReason.INTERNAL, "this token cannot be verified", detail=type(error).__name__
            ) from None
        return verified

    async def _verified(self, token: str, policy: Policy, now: float) -> Verified:
        unverified = jws.read(token)
        _check_header(unverified.header)
        issuer = _issuer(unverified.claims, policy)
        try:
            return await self._verified_of(issuer, unverified, policy, now)
        except TokenRefused as refused:
            refused.issuer = issuer.name
            raise

    async def _verified_of(self, issuer: Issuer, unverified: Unverified, policy: Policy, now: float) -> Verified:
        await self._check_signature(unverified, issuer)
        claims = unverified.claims
        _check_audience(claims, issuer)
        ends = _check_times(claims, issuer, now)
        if now >= ends:
            # Believed by the leeway alone; then the leeway must hold for what follows too, or it would open nothing.
            ends += LEEWAY_SECONDS
        names = policy.claims_of(issuer.name) | {"iss", "sub"}
        kept = {name: value for name, value in claims.items() if name in names}
        identity = Identity(issuer.name, _subject(claims), kept, ends)
        return Verified(identity, min(ends, _too_old(claims, issuer), issuer.keys.not_after or inf))

    async def _check_signature(self, token: Unverified, issuer: Issuer) -> None:
        algorithm, kid = token.header.get("alg"), token.header.get("kid")
        if not isinstance(algorithm, str) or algorithm not in issuer.algorithms:
            raise TokenRefused(
                TokenReason.ALGORITHM,
                "the token is signed with an algorithm that this registry does not accept",
                detail=f"issuer {issuer.name}, alg {quoted(algorithm)}",
            )
        if kid is not None and not isinstance(kid, str):
            raise TokenRefused(TokenReason.MALFORMED, "this is not a well-formed token: its kid is not a string")
        keys = await self._keys.find(issuer, kid, algorithm)
        if not any(jws.is_signed_by(token, key) for key in keys):
            raise TokenRefused(
                TokenReason.SIGNATURE,
                "the token's signature is wrong: it was altered, cut off or signed with another key",
                detail=f"issuer {issuer.name}, kid {quoted(kid)}",
            )


def _check_header(header: Mapping[str, Claim]) -> None:
    for name in REFUSED_HEADERS:
        if name in header:
            raise TokenRefused(
                TokenReason.HEADER, f"the token has a header field that this registry does not support: {name}"
            )
    if "typ" not in header:
        return
    typ = header["typ"]
    if not isinstance(typ, str) or typ.lower() not in FOREIGN_TYPES:
        raise TokenRefused(
            TokenReason.TYPE,
            "this kind of token is not for signing in; show an ID token or access token of your identity provider",
            detail=f"typ {quoted(typ)}",
        )


def _issuer(claims: Mapping[str, Claim], policy: Policy) -> Issuer:
    iss = claims.get("iss")
    issuer = next((issuer for issuer in policy.issuers.values() if issuer.url == iss), None)
    if issuer is None:
        raise TokenRefused(
            TokenReason.ISSUER,
            "this registry does not accept tokens of this issuer; use an identity provider that its operator has listed",
            detail=f"iss {quoted(iss)}",
        )
    return issuer


def _check_audience(claims: Mapping[str, Claim], issuer: Issuer) -> None:
    aud = claims.get("aud")
    audiences = aud if isinstance(aud, list) else [aud]
    if not all(isinstance(audience, str) for audience in audiences) or not set(issuer.audiences) & {
        *map(str, audiences)
    }:
        raise TokenRefused(
            TokenReason.AUDIENCE,
            "the token's audience is not this registry; request a token whose audience is this registry's",
            detail=f"issuer {issuer.name}, aud {quoted(aud)}, wanted one of {quoted(list(issuer.audiences))}",
        )


def _check_times(claims: Mapping[str, Claim], issuer: Issuer, now: float) -> float:
    """Check `exp`, `nbf`, `iat` and the age of a token, and give the time it ends at."""
    ends, begins = _time(claims, "exp"), _time(claims, "nbf")
    if ends is None:
        raise TokenRefused(TokenReason.TIMES, "the token has no exp claim: a token must end")
    if now >= ends + LEEWAY_SECONDS:
        raise TokenRefused(
            TokenReason.EXPIRED, f"the token expired {duration(now - ends)} ago; get a fresh token and try again"
        )
    issued = _time(claims, "iat")
    if max(begins or 0, issued or 0) > now + LEEWAY_SECONDS:
        raise TokenRefused(
            TokenReason.NOT_YET_VALID,
            "the token is not valid yet (nbf or iat); check the clock of the machine that issued it",
            detail=f"issuer {issuer.name}, {duration(max(begins or 0, issued or 0) - now)} too early",
        )
    if issuer.max_token_age is not None and issued is None:
        raise TokenRefused(TokenReason.TIMES, "the token has no iat claim, which this registry needs of its issuer")
    if now >= _too_old(claims, issuer):
        raise TokenRefused(TokenReason.TOO_OLD, "the token was issued too long ago; get a fresh token and try again")
    return ends


def _too_old(claims: Mapping[str, Claim], issuer: Issuer) -> float:
    """Give the time from which on a token is too old."""
    issued = _time(claims, "iat")
    if issuer.max_token_age is None or issued is None:
        return inf
    return issued + issuer.max_token_age + LEEWAY_SECONDS


def _time(claims: Mapping[str, Claim], name: str) -> float | None:
    """Read a NumericDate (RFC 7519, section 2); neither text nor a boolean is one."""
    if name not in claims:
        return None
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < MAX_TIME:
        raise TokenRefused(
            TokenReason.TIMES, f"the token's {name} claim is not a number of seconds", detail=f"{name} {quoted(value)}"
        )
    return float(value)


def _subject(claims: Mapping[str, Claim]) -> str:
    subject = claims.get("sub")
    if not isinstance(subject, str) or not subject:
        raise TokenRefused(
            TokenReason.SUBJECT, "the token's sub claim is not a non-empty string", detail=f"sub {quoted(subject)}"
        )
    return subject


def duration(seconds: float) -> str:
    """Print a duration for people, rounded down."""
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        count = int(seconds // size)
        if count:
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return f"{int(seconds)} seconds"
