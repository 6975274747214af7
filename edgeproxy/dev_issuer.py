"""The OpenID provider of `edgeproxy dev`: it signs whatever claims somebody at this machine asks for, so that rules can be tried.

The policy document says where it is: under the issuer `dev`. Its keys lie in the data folder, so whoever may read that can sign. Tokens
are verified as those of every other issuer are: by discovery.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from edgeproxy.access.policy import Policy
from edgeproxy.access.signing import ALGORITHM, SigningKeyError, SigningKeys
from edgeproxy.serving import Site

NAME: Final = "dev"
"""What the issuer is called in the policy."""

_URL: Final = re.compile(r"http://127\.0\.0\.1:([0-9]{1,5})", re.ASCII)


class NoDevIssuer(Exception):
    """The policy lists no issuer that `edgeproxy dev` could be; the text says what to write there."""


@dataclass(frozen=True, slots=True)
class DevIssuer:
    """The issuer as the policy lists it: the `iss` of its tokens, which is where it listens, and the audience they need."""

    url: str
    audience: str

    @property
    def port(self) -> int:
        """Its port on 127.0.0.1."""
        return int(self.url.rpartition(":")[2])

    def is_free(self) -> bool:
        """Tell whether nobody listens on its port yet."""
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", self.port))
            except OSError:
                return False
        return True


def listed(policy: Policy) -> DevIssuer:
    """Find the issuer in a policy.

    Raises:
        NoDevIssuer: it is not there, or is somebody else.

    """
    entry = policy.issuers.get(NAME)
    if entry is None:
        raise NoDevIssuer(
            f"the policy lists no issuer `{NAME}`: add it with the url "
            "http://127.0.0.1:5002 (two ports after the registry's) and the audience localhost:5000"
        )
    if _URL.fullmatch(entry.url) is None or not 1 <= int(entry.url.rpartition(":")[2]) <= 65535:
        raise NoDevIssuer(
            f"issuer `{NAME}` of the policy is at {entry.url}; the one that `edgeproxy dev` runs is at http://127.0.0.1:PORT"
        )
    return DevIssuer(entry.url, entry.audiences[0])


def mint(
    issuer: DevIssuer, keys: SigningKeys, claims: Mapping[str, Any], *, subject: str, seconds: int, now: float, jti: str
) -> str:
    """Sign a token that lives so many seconds. A claim that is given wins, so that every refusal can be provoked."""
    usual = {
        "iss": issuer.url,
        "aud": issuer.audience,
        "sub": subject,
        "iat": int(now),
        "exp": int(now) + seconds,
        "jti": jti,
    }
    return keys.signing.sign({**usual, **claims}, "JWT")


def site(issuer: DevIssuer, keys: SigningKeys) -> Site:
    """Give the discovery document and the keys a place to be found. Keys that are added or removed show at once."""

    def configuration(_: Request) -> JSONResponse:
        return JSONResponse(
            {
                "issuer": issuer.url,
                "jwks_uri": f"{issuer.url}/jwks.json",
                "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": [ALGORITHM],
            }
        )

    def jwks(_: Request) -> JSONResponse:
        try:
            keys.reload()
        except SigningKeyError as error:
            return JSONResponse({"error": str(error)}, 500)
        return JSONResponse(keys.jwks())

    routes = [Route("/.well-known/openid-configuration", configuration), Route("/jwks.json", jwks)]
    return Site(Starlette(routes=routes), (f"127.0.0.1:{issuer.port}",))
