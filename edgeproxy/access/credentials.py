"""Who sends a request under /v2/, by its `Authorization` header: a bearer of ours, or a token of an identity provider itself."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from edgeproxy.access import jws
from edgeproxy.access.bearers import Bearers, is_bearer
from edgeproxy.access.decisions import Caller
from edgeproxy.access.policy import Policy
from edgeproxy.access.refusals import TokenReason, TokenRefused
from edgeproxy.access.tokens import TokenCache, Verifier, token_hash, weigh_identity
from edgeproxy.bounded import bytes_of
from edgeproxy.oci.errors import BadRequest


@dataclass(frozen=True, slots=True)
class Authenticated:
    """A caller as the request's credential tells it.

    `scope` is the ceiling of repositories that a bearer of ours was asked for, None where there is none. `token` identifies the
    credential in caches (a hash, empty without one), `presented` says that there was one. `names` are the claims that the
    policy referred to when the caller was found out, None where nothing can be missing.
    """

    caller: Caller
    scope: frozenset[str] | None
    token: bytes
    presented: bool
    names: frozenset[str] | None = field(default=None, repr=False)
    issuer_url: str = ""

    def is_known_to(self, policy: Policy) -> bool:
        """Tell whether a policy may decide about the caller.

        The policy may have changed while the credential was looked at. If it now refers to other claims, these may be in
        the token without being in the caller, and a new deny would miss them; if it gives the issuer's name to another
        issuer, its rules do not mean this caller. Then find out again who it is.
        """
        if self.caller is None or self.names is None:
            return True
        issuer = policy.issuers.get(self.caller.issuer)
        same = issuer is not None and issuer.url == self.issuer_url
        return same and policy.claims_of(self.caller.issuer) <= self.names


ANONYMOUS: Final = Authenticated(None, None, b"", presented=False)


class Credentials:
    """Reads the credentials of requests."""

    def __init__(self, verifier: Verifier, bearers: Bearers) -> None:
        self._verifier = verifier
        self._bearers = bearers
        self.cache: TokenCache[Authenticated] = TokenCache(_weigh)

    def remembered(self, headers: Sequence[bytes], policy: Policy, now: float) -> Authenticated | None:
        """Give the caller behind a credential that was believed under this policy within the last minute."""
        if len(headers) != 1:
            return None
        return self.cache.fresh(hashlib.sha256(headers[0]).digest(), policy, now)

    async def authenticate(self, headers: Sequence[bytes], policy: Policy, now: float) -> Authenticated:
        """Find out who sends these values of `Authorization`; without any, it is an anonymous caller.

        Accepted are `Bearer` with a bearer of ours or a token of a listed issuer, and `Basic` with any user name and such
        a token as password.

        Raises:
            BadRequest: there are two.
            TokenRefused: the credential is not believed.

        """
        if not headers:
            return ANONYMOUS
        header = only(headers)
        hashed = hashlib.sha256(header).digest()
        remembered = self.cache.get(hashed, policy, now)
        if remembered is not None:
            return remembered
        found, until = await self._authenticated(header, policy, now)
        self.cache.put(hashed, policy, found, until, now)
        return found

    async def _authenticated(self, header: bytes, policy: Policy, now: float) -> tuple[Authenticated, float]:
        scheme, value = split(header)
        if scheme == "bearer" and is_bearer(jws.read(value).header):
            bearer = self._bearers.verify(value, policy, now)
            return _authenticated(bearer.caller, bearer.scope, value, policy), bearer.ends
        if scheme not in ("bearer", "basic"):
            raise TokenRefused(
                TokenReason.CREDENTIAL, "the Authorization header has an unknown scheme; send a Bearer token"
            )
        token = value if scheme == "bearer" else password(value)
        verified = await self._verifier.verify(token, policy, now)
        return _authenticated(verified.identity, None, token, policy), verified.until


def _authenticated(caller: Caller, scope: frozenset[str] | None, token: str, policy: Policy) -> Authenticated:
    hashed = token_hash(token)
    if caller is None:
        return Authenticated(None, scope, hashed, presented=True)
    names, url = policy.claims_of(caller.issuer), policy.issuers[caller.issuer].url
    return Authenticated(caller, scope, hashed, presented=True, names=names, issuer_url=url)


def _weigh(who: Authenticated) -> int:
    known = weigh_identity(who.caller) if who.caller is not None else 0
    return 200 + known + bytes_of(who.scope or frozenset())


def only(headers: Sequence[bytes]) -> bytes:
    """Give the one `Authorization` header.

    Raises:
        BadRequest: there are several, of which different readers could take different ones.

    """
    if len(headers) != 1:
        raise BadRequest("the request has more than one Authorization header; send one")
    return headers[0]


def split(header: bytes) -> tuple[str, str]:
    """Split a header into its scheme, in lower case, and what follows (RFC 9110, 11.4).

    Raises:
        TokenRefused: it is not ASCII, or nothing follows.

    """
    try:
        scheme, _, value = header.decode("ascii").strip().partition(" ")
    except UnicodeDecodeError:
        raise TokenRefused(TokenReason.CREDENTIAL, "the Authorization header has characters outside ASCII") from None
    if not value.strip():
        raise TokenRefused(
            TokenReason.CREDENTIAL, "the Authorization header is malformed; it is a scheme, a space and a credential"
        )
    return scheme.lower(), value.strip()


def password(credential: str) -> str:
    """Give the password of a Basic credential (RFC 7617), where the token is; the user name says nothing.

    Raises:
        TokenRefused: it is malformed, or the password is empty.

    """
    try:
        _, colon, secret = base64.b64decode(credential, validate=True).decode("ascii").partition(":")
    except ValueError:
        raise _basic("it is not the base64 of ASCII text") from None
    if not colon:
        raise _basic("there is no colon between user name and password")
    if not secret:
        raise _basic("the password is empty")
    return secret


def _basic(what: str) -> TokenRefused:
    return TokenRefused(
        TokenReason.CREDENTIAL,
        f"the Basic credential is not usable: {what}; give an OIDC token as the password, with any user name",
    )
