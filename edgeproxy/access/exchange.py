"""The rules behind `/token`: what a request asks for, whose token it shows, and how long the bearer lives.

Distribution's token specification (GET) and its OAuth2 variant (POST), and token exchange (RFC 8693).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl

from edgeproxy.access.bearers import Bearers, Minted
from edgeproxy.access.credentials import only, password, split
from edgeproxy.access.decisions import Caller, Grant
from edgeproxy.access.policy import Policy
from edgeproxy.access.refusals import TokenReason, TokenRefused
from edgeproxy.access.tokens import Verifier
from edgeproxy.oci.errors import BadRequest, NameInvalid
from edgeproxy.oci.names import Repository
from edgeproxy.oci.operations import Access, Action

MIN_SECONDS: Final = 60
"""Clients take less for this anyway (token specification, `expires_in`)."""
MAX_FIELDS: Final = 200
MAX_SCOPE_CHARACTERS: Final = 4096
"""All repositories of one bearer, which travels in a header."""
MAX_REPOSITORIES: Final = 100
"""Of one bearer; the policy is asked about each. A push that mounts from everywhere names a dozen."""

TOKEN_EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105
ACCESS_TOKEN_TYPE: Final = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105
_SUBJECT_TYPES: Final = frozenset(
    f"urn:ietf:params:oauth:token-type:{kind}" for kind in ("jwt", "id_token", "access_token")
)
_ISSUED_TYPES: Final = frozenset(f"urn:ietf:params:oauth:token-type:{kind}" for kind in ("jwt", "access_token"))
_CREDENTIALS: Final = {"password": "password", "refresh_token": "refresh_token", TOKEN_EXCHANGE: "subject_token"}
"""The field that holds the OIDC token, for each grant type."""


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """What a request for a bearer says. `token` is None for anonymous callers, `grant` for GET."""

    token: str | None = field(repr=False)
    repositories: frozenset[Repository]
    grant: str | None


@dataclass(frozen=True, slots=True)
class Issued:
    """A bearer, for whom, and what it may be used for at the moment, in the words of a scope; "" for GET, which does not tell."""

    minted: Minted
    caller: Caller
    scope: str


def read_query(query: bytes, authorization: Sequence[bytes]) -> TokenRequest:
    """Read a GET: Basic with any user name and an OIDC token as password, or nothing for anonymous callers.

    Raises:
        BadRequest: the query is no query, or there are two credentials.
        TokenRefused: the credential is malformed.

    """
    fields = _fields(query, "query")
    token = None
    if authorization:
        scheme, value = split(only(authorization))
        if scheme != "basic":
            raise TokenRefused(
                TokenReason.CREDENTIAL, "sign in here with Basic: any user name, and an OIDC token as the password"
            )
        token = password(value)
    return TokenRequest(token, asked(value for name, value in fields if name == "scope"), None)


def read_form(content_type: str, body: bytes) -> TokenRequest:
    """Read a POST: grants `password`, `refresh_token` and token exchange, each with an OIDC token in its field.

    Raises:
        BadRequest: it is no such form, a field is missing or comes twice, or the grant is another.
        TokenRefused: the credential is empty.

    """
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type not in ("application/x-www-form-urlencoded", ""):
        raise BadRequest("the body must be a form (application/x-www-form-urlencoded)")
    fields = _fields(body, "form")
    grant = _single(fields, "grant_type")
    if grant is None or grant not in _CREDENTIALS:
        raise BadRequest(f"grant_type must be one of: {', '.join(_CREDENTIALS)}")
    if grant == TOKEN_EXCHANGE:
        _check_types(fields)
    token = _single(fields, _CREDENTIALS[grant])
    if token is None:
        raise BadRequest(f"the field {_CREDENTIALS[grant]} is missing; it holds an OIDC token")
    if not token:
        raise TokenRefused(TokenReason.CREDENTIAL, f"the field {_CREDENTIALS[grant]} is empty; it holds an OIDC token")
    return TokenRequest(token, asked(value for name, value in fields if name == "scope"), grant)


def asked(scopes: Iterable[str]) -> frozenset[Repository]:
    """Collect the repositories that scopes ask for: `repository(class):NAME:ACTIONS`, several separated by spaces.

    The actions do not matter, as the policy decides each of them. What the grammar does not know is ignored.

    Raises:
        BadRequest: there are more than a bearer can name.

    """
    found = set()
    for entry in " ".join(scopes).split(" "):
        kind, _, rest = entry.partition(":")
        name, colon, _ = rest.rpartition(":")
        if kind.partition("(")[0] != "repository" or not colon:
            continue
        try:
            found.add(Repository.parse(name))
        except NameInvalid:
            continue
    if len(found) > MAX_REPOSITORIES or sum(len(repository.name) for repository in found) > MAX_SCOPE_CHARACTERS:
        raise BadRequest("the scope names too many repositories for one token; ask for several tokens")
    return frozenset(found)


async def exchange(
    request: TokenRequest, *, verifier: Verifier, bearers: Bearers, policy: Policy, token_seconds: int, now: float
) -> Issued:
    """Turn a request into a bearer. Who may do nothing still gets one: the registry refuses, and says why.

    Raises:
        TokenRefused: the token that was shown is not believed.

    """
    caller = None if request.token is None else (await verifier.verify(request.token, policy, now)).identity
    seconds = life(caller, request.repositories, policy, token_seconds, now)
    minted = bearers.mint(caller, policy, request.repositories, seconds, now)
    granted = "" if request.grant is None else _granted(caller, request.repositories, policy, now)
    return Issued(minted, caller, granted)


def life(caller: Caller, repositories: frozenset[Repository], policy: Policy, token_seconds: int, now: float) -> int:
    """Say how many seconds a bearer lives.

    As long as the rules say, or else no longer than the token that was shown and `token_seconds`; at least a minute.
    """
    if caller is None:
        return token_seconds
    ruled = policy.token_seconds_for(caller, repositories, now)
    return max(MIN_SECONDS, ruled if ruled is not None else min(token_seconds, int(caller.ends - now)))


def _granted(caller: Caller, repositories: frozenset[Repository], policy: Policy, now: float) -> str:
    scopes = []
    for repository in sorted(repositories, key=str):
        actions = [
            action.value
            for action in (Action.PULL, Action.PUSH, Action.DELETE)
            if isinstance(policy.decide(caller, Access(repository, action), now), Grant)
        ]
        if actions:
            scopes.append(f"repository:{repository}:{','.join(actions)}")
    return " ".join(scopes)


def _fields(encoded: bytes, where: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(
            encoded.decode("ascii"), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict", separator="&"
        )
    except ValueError:
        raise BadRequest(
            f"the {where} is malformed: expected at most {MAX_FIELDS} fields in UTF-8, percent-encoded"
        ) from None


def _single(fields: list[tuple[str, str]], name: str) -> str | None:
    values = [value for key, value in fields if key == name]
    if len(values) > 1:
        raise BadRequest(f"the field {name} comes more than once")
    return values[0] if values else None


def _check_types(fields: list[tuple[str, str]]) -> None:
    if _single(fields, "subject_token_type") not in _SUBJECT_TYPES:
        raise BadRequest(f"subject_token_type must be one of: {', '.join(sorted(_SUBJECT_TYPES))}")
    if _single(fields, "requested_token_type") not in (None, *_ISSUED_TYPES):
        raise BadRequest(f"requested_token_type must be one of: {', '.join(sorted(_ISSUED_TYPES))}")
