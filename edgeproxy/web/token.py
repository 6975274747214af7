"""HTTP of `/token`, where an OIDC token becomes a bearer of ours, and of `/.well-known/`, which describes that bearer.

Clients print what stands here when a login fails, so that a refusal says what is wrong with the token and what to do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from edgeproxy.access.bearers import Bearers
from edgeproxy.access.decisions import Caller
from edgeproxy.access.exchange import (
    ACCESS_TOKEN_TYPE,
    TOKEN_EXCHANGE,
    Issued,
    TokenRequest,
    exchange,
    read_form,
    read_query,
)
from edgeproxy.access.policy import Policy
from edgeproxy.access.refusals import TokenRefused
from edgeproxy.access.signing import ALGORITHM, SigningKeys
from edgeproxy.access.tokens import Verifier
from edgeproxy.oci.errors import BadRequest, RegistryError, RequestTimeout, Unauthorized
from edgeproxy.web.exchanges import current_request, request_id
from edgeproxy.web.heads import Head

MAX_FORM_BYTES: Final = 64 * 1024
ANSWER_SECONDS: Final = 15.0
"""Clients wait no longer for a token."""
_JSON: Final = "application/json"


class FormTooLarge(BadRequest):
    """A form above the limit."""

    status = 413


@dataclass(frozen=True, slots=True)
class TokenEvent:
    """What the audit tells of one request for a bearer. `reason` and `detail` are empty where it was issued."""

    request_id: str
    allowed: bool
    status: int
    caller: Caller
    policy: str
    grant: str
    repositories: tuple[str, ...]
    expires_in: int | None
    reason: str
    detail: str
    address: str
    user_agent: str
    issuer: str = ""
    """The policy's issuer that a refused token says it is of."""


@dataclass(frozen=True, slots=True)
class TokenService:
    """What `/token` works with. `token_seconds` is the life of a bearer where no rule says another."""

    policy: Callable[[], Policy]
    verifier: Verifier
    bearers: Bearers
    keys: SigningKeys
    public_url: str
    token_seconds: int
    clock: Callable[[], float]
    make_id: Callable[[], str]
    audit: Callable[[TokenEvent], None] = field(repr=False)


def token_routes(service: TokenService) -> list[Route]:
    """Give the routes of `/token` and `/.well-known/`."""
    endpoints = _Endpoints(service)
    return [
        Route("/token", endpoints.token, methods=["GET", "POST"]),
        Route("/.well-known/openid-configuration", endpoints.configuration, methods=["GET"]),
        Route("/.well-known/jwks.json", endpoints.jwks, methods=["GET"]),
    ]


class _Endpoints:
    def __init__(self, service: TokenService) -> None:
        self._service = service

    async def token(self, request: Request) -> Response:
        head = Head.read(request.scope)
        told = _Told(request_id(head, self._service.make_id), head, self._service.policy())
        current_request.set(told.id)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self._issued(request, told)
        except TokenRefused as refused:
            unauthorized = Unauthorized(f"{refused.message} (request {told.id})")
            return self._refusal(told, unauthorized, refused.reason, refused.detail, refused.issuer)
        except RegistryError as error:
            return self._refusal(told, error, "bad_request", error.message)
        except TimeoutError:
            late = RequestTimeout("the request took too long; try again")
            return self._refusal(told, late, "timeout", late.message)
        except ClientDisconnect:
            return Response(status_code=400)

    async def _issued(self, request: Request, told: _Told) -> Response:
        service, head = self._service, told.head
        if head.method == "POST":
            content_type = head.first(b"content-type") or ""
            told.request = read_form(content_type, await _body(request))
        else:
            told.request = read_query(head.query, head.fields.get(b"authorization", ()))
        issued = await exchange(
            told.request,
            verifier=service.verifier,
            bearers=service.bearers,
            policy=told.policy,
            token_seconds=service.token_seconds,
            now=service.clock(),
        )
        service.audit(told.event(200, issued=issued))
        return _json(_answer(issued, told.request.grant), headers={"X-Request-Id": told.id})

    def _refusal(self, told: _Told, error: RegistryError, reason: str, detail: str, issuer: str = "") -> Response:
        self._service.audit(told.event(error.status, reason=reason, detail=detail, issuer=issuer))
        item = {"code": error.code, "message": error.message}
        body: dict[str, Any] = {"errors": [item]}
        if told.head.method == "POST":
            # What speaks OAuth2 (RFC 6749, 5.2) looks for these.
            oauth = "invalid_grant" if error.status == 401 else "invalid_request"
            body |= {"error": oauth, "error_description": error.message}
        return _json(body, error.status, {"X-Request-Id": told.id})

    async def configuration(self, request: Request) -> Response:
        url = self._service.public_url
        document = {
            "issuer": url,
            "jwks_uri": f"{url}/.well-known/jwks.json",
            "token_endpoint": f"{url}/token",
            "grant_types_supported": ["password", "refresh_token", TOKEN_EXCHANGE],
            "token_endpoint_auth_methods_supported": ["none"],
            "response_types_supported": ["token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [ALGORITHM],
        }
        return self._published(request, document)

    async def jwks(self, request: Request) -> Response:
        return self._published(request, self._service.keys.jwks())

    def _published(self, request: Request, document: Mapping[str, Any]) -> Response:
        identifier = request_id(Head.read(request.scope), self._service.make_id)
        return _json(document, headers={"Cache-Control": "public, max-age=300", "X-Request-Id": identifier})


@dataclass(slots=True)
class _Told:
    """One request as far as it is known, for the audit."""

    id: str
    head: Head
    policy: Policy
    request: TokenRequest | None = None

    def event(
        self, status: int, *, issued: Issued | None = None, reason: str = "", detail: str = "", issuer: str = ""
    ) -> TokenEvent:
        repositories = () if self.request is None else tuple(sorted(map(str, self.request.repositories)))
        return TokenEvent(
            request_id=self.id,
            allowed=issued is not None,
            status=status,
            caller=issued.caller if issued is not None else None,
            policy=self.policy.version,
            grant=(self.request.grant or "basic") if self.request is not None else "",
            repositories=repositories,
            expires_in=issued.minted.expires_in if issued is not None else None,
            reason=reason,
            detail=detail,
            address=self.head.peer,
            user_agent=self.head.first(b"user-agent") or "",
            issuer=issuer,
        )


async def _body(request: Request) -> bytes:
    """Read a form, with or without a length."""
    content = bytearray()
    async for piece in request.stream():
        content += piece
        if len(content) > MAX_FORM_BYTES:
            raise FormTooLarge(f"the form is larger than {MAX_FORM_BYTES} bytes")
    return bytes(content)


def _answer(issued: Issued, grant: str | None) -> dict[str, Any]:
    """Answer with the bearer under both names that clients look for.

    There is no `issued_at`, as clients with another time would then misjudge its life, and no `refresh_token`: the OIDC
    token is the credential.
    """
    token, seconds = issued.minted.token, issued.minted.expires_in
    answer: dict[str, Any] = {"token": token, "access_token": token, "expires_in": seconds}
    if grant is not None:
        answer |= {"scope": issued.scope, "token_type": "Bearer"}
    if grant == TOKEN_EXCHANGE:
        answer["issued_token_type"] = ACCESS_TOKEN_TYPE
    return answer


def _json(value: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(value), status, {"Cache-Control": "no-store", **(headers or {})}, _JSON)
