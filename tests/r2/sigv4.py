"""Verification of AWS Signature Version 4, in `Authorization` and in the query, written from the specification alone.

It shares no line with the signer that it judges. Amazon S3 API reference, "Authenticating Requests (AWS Signature Version 4)".
"""

from __future__ import annotations

import hashlib
import hmac
import re
from calendar import timegm
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import strptime
from typing import Final
from urllib.parse import quote, unquote

from tests.r2.rules import REGIONS, S3Error

SKEW: Final = 15 * 60
WEEK: Final = 7 * 24 * 3600
UNSIGNED: Final = "UNSIGNED-PAYLOAD"
_QUERY_NAMES: Final = (
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-SignedHeaders",
    "X-Amz-Signature",
)
_HEX: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Secret:
    """What belongs to an access key: its secret, and the session token that must come along, if it is a temporary one."""

    secret_key: str
    token: str | None = None


@dataclass(frozen=True, slots=True)
class Signed:
    """A request as it came over the wire: nothing decoded."""

    method: str
    raw_path: str
    raw_query: str
    headers: list[tuple[str, str]] = field(default_factory=list)

    def pairs(self) -> list[tuple[str, str]]:
        """Split the query, decoded."""
        parts = [part.partition("=") for part in self.raw_query.split("&") if part]
        return [(unquote(name), unquote(value)) for name, _, value in parts]

    def header(self, name: str) -> str | None:
        """Give a header, several lines joined."""
        values = [value for known, value in self.headers if known == name]
        return ",".join(values) if values else None


@dataclass(frozen=True, slots=True)
class _Claim:
    """What a request says about its own signature."""

    access_key: str
    scope: str
    timestamp: str
    signed_headers: str
    signature: str
    token: str | None


def verify(request: Signed, secrets: Mapping[str, Secret], now: float, *, expired_status: int) -> str:
    """Check a request's signature; give the payload hash it promised, or `UNSIGNED`.

    Raises:
        S3Error: it is not signed, wrongly signed, or not valid now.

    """
    query = dict(request.pairs())
    in_query = "X-Amz-Signature" in query or "X-Amz-Algorithm" in query
    authorization = request.header("authorization")
    if in_query and authorization is not None:
        raise S3Error(400, "InvalidRequest", "only one way of authentication is allowed")
    if in_query:
        claim, payload = _query_claim(request, query), UNSIGNED
    elif authorization is not None:
        claim, payload = _header_claim(request, authorization)
    else:
        raise S3Error(403, "AccessDenied", "the request is not signed")
    secret = secrets.get(claim.access_key)
    if secret is None:
        raise S3Error(403, "InvalidAccessKeyId", "no such access key")
    signed = claim.signed_headers.split(";")
    _check_signed_headers(request, signed)
    expected = _signature(request, claim, signed, payload, secret.secret_key)
    if not hmac.compare_digest(expected, claim.signature):
        raise S3Error(403, "SignatureDoesNotMatch", "the signature does not match")
    if claim.token != secret.token:
        raise S3Error(400, "InvalidToken", "the session token is missing or wrong")
    _check_time(claim, query.get("X-Amz-Expires"), now, expired_status)
    return payload


def _query_claim(request: Signed, query: Mapping[str, str]) -> _Claim:
    names = [name for name, _ in request.pairs()]
    missing = [name for name in _QUERY_NAMES if names.count(name) != 1]
    if missing:
        raise S3Error(400, "AuthorizationQueryParametersError", f"exactly one {missing[0]} is required")
    expires = query["X-Amz-Expires"]
    if not (expires.isascii() and expires.isdigit() and 1 <= int(expires) <= WEEK):
        raise S3Error(400, "AuthorizationQueryParametersError", "X-Amz-Expires is from 1 to 604800")
    if query["X-Amz-Algorithm"] != "AWS4-HMAC-SHA256":
        raise S3Error(400, "AuthorizationQueryParametersError", "X-Amz-Algorithm only supports AWS4-HMAC-SHA256")
    access_key, _, scope = query["X-Amz-Credential"].partition("/")
    return _Claim(
        access_key,
        _checked_scope(scope, query["X-Amz-Date"]),
        query["X-Amz-Date"],
        query["X-Amz-SignedHeaders"],
        query["X-Amz-Signature"],
        query.get("X-Amz-Security-Token"),
    )


def _header_claim(request: Signed, authorization: str) -> tuple[_Claim, str]:
    algorithm, _, rest = authorization.partition(" ")
    fields = dict(part.strip().partition("=")[::2] for part in rest.split(","))
    if algorithm != "AWS4-HMAC-SHA256" or set(fields) != {"Credential", "SignedHeaders", "Signature"}:
        raise S3Error(400, "AuthorizationHeaderMalformed", "Authorization is not AWS4-HMAC-SHA256 with three fields")
    timestamp, payload = request.header("x-amz-date"), request.header("x-amz-content-sha256")
    if timestamp is None:
        raise S3Error(403, "AccessDenied", "x-amz-date is required")
    if payload is None:
        raise S3Error(400, "InvalidRequest", "x-amz-content-sha256 is required")
    if payload.startswith("STREAMING-"):
        raise S3Error(401, "Unauthorized", "aws-chunked bodies and checksum trailers are not accepted")
    if payload != UNSIGNED and _HEX.fullmatch(payload) is None:
        raise S3Error(400, "InvalidArgument", "x-amz-content-sha256 is UNSIGNED-PAYLOAD or a lower-case SHA-256")
    access_key, _, scope = fields["Credential"].partition("/")
    claim = _Claim(
        access_key,
        _checked_scope(scope, timestamp),
        timestamp,
        fields["SignedHeaders"],
        fields["Signature"],
        request.header("x-amz-security-token"),
    )
    return claim, payload


def _checked_scope(scope: str, timestamp: str) -> str:
    match scope.split("/"):
        case [date, region, "s3", "aws4_request"] if date == timestamp[:8] and region in REGIONS:
            return scope
        case _:
            raise S3Error(
                400, "AuthorizationHeaderMalformed", "the credential scope is not <date>/auto/s3/aws4_request"
            )


def _check_signed_headers(request: Signed, signed: list[str]) -> None:
    if signed != sorted(set(signed)) or "host" not in signed:
        raise S3Error(403, "AccessDenied", "host is signed, and the signed headers are sorted")
    present = {name for name, _ in request.headers}
    loose = {name for name in present if name.startswith("x-amz-")} - set(signed)
    if loose:
        raise S3Error(403, "AccessDenied", f"there were headers present which were not signed: {sorted(loose)}")
    if not set(signed) <= present:
        raise S3Error(403, "SignatureDoesNotMatch", "a signed header is missing")


def _check_time(claim: _Claim, expires: str | None, now: float, expired_status: int) -> None:
    try:
        signed_at = timegm(strptime(claim.timestamp, "%Y%m%dT%H%M%SZ"))
    except ValueError:
        raise S3Error(400, "AccessDenied", "the date is not YYYYMMDDTHHMMSSZ") from None
    if signed_at > now + SKEW:
        raise S3Error(403, "RequestTimeTooSkewed", "the request is not valid yet")
    if expires is None and signed_at < now - SKEW:
        raise S3Error(403, "RequestTimeTooSkewed", "the clocks differ by more than 15 minutes")
    if expires is not None and now >= signed_at + int(expires):
        raise S3Error(expired_status, "ExpiredRequest", "the URL has expired")


def _signature(request: Signed, claim: _Claim, signed: list[str], payload: str, secret_key: str) -> str:
    canonical_query = "&".join(
        f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}"
        for name, value in sorted(request.pairs())
        if name != "X-Amz-Signature"
    )
    lines = [f"{name}:{' '.join((request.header(name) or '').split())}\n" for name in signed]
    canonical = "\n".join(
        [
            request.method,
            quote(unquote(request.raw_path), safe="/-_.~"),
            canonical_query,
            "".join(lines),
            claim.signed_headers,
            payload,
        ]
    )
    text = f"AWS4-HMAC-SHA256\n{claim.timestamp}\n{claim.scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = b"AWS4" + secret_key.encode()
    for part in claim.scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
