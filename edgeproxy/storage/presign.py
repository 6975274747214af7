"""Presigned URLs of S3 and R2: AWS Signature Version 4 in the query string. Pure; for `s3`, on the hottest path.

Byte for byte what the AWS SDK makes for `get_object` with path addressing: only `host` is signed, the payload is not.
What does not change from one URL to the next (the signing key of the day, the scope, the canonical form around the key)
is computed once.
Specification: Amazon S3 API reference, "Authenticating Requests: Using Query Parameters".
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote, urlsplit

from edgeproxy.storage import PresignedURL, StoreUnavailable

MAX_SECONDS: Final = 604_800
"""Longest life of a presigned URL that S3 and R2 accept: seven days."""

_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_PLAIN_KEY: Final = re.compile(r"[A-Za-z0-9/_.~-]*", re.ASCII)
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a request to the store is signed with.

    `expires` is seconds since the epoch, None for credentials that do not end. `repr` shows the key's id and the end only.
    """

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)
    expires: float | None = None


def signing_key(secret_key: str, date: str, region: str, service: str = "s3") -> bytes:
    """Derive the key that signs for one day (`YYYYMMDD`), region and service."""
    key = f"AWS4{secret_key}".encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def signed_host(endpoint: str) -> str:
    """Give the `Host` that a client sends to an endpoint: lower case, the port only if it is not the scheme's own."""
    parts = urlsplit(endpoint)
    host = parts.hostname or ""
    if ":" in host:
        host = f"[{host}]"
    if parts.port is not None and parts.port != _DEFAULT_PORTS.get(parts.scheme):
        host = f"{host}:{parts.port}"
    return host


@dataclass(frozen=True, slots=True)
class _Second:
    """Everything of a URL that is the same for all URLs of one second and one life."""

    query: str
    canonical_end: str
    inner: bytes
    """The key's inner pad and the string to sign up to the hash of the request: what the inner hash of the HMAC begins with."""
    outer: bytes
    """The key's outer pad."""


class QuerySigner:
    """Signs GETs of the objects of one bucket with one credential. Not for use by several threads at once.

    `endpoint` is the store's URL as clients reach it (scheme, host, optional port and path). `prefix` is put before
    every key, `method` what the URL is good for.
    """

    __slots__ = ("_base", "_cached", "_cached_for", "_canonical_head", "_day", "_host", "_region", "credentials")

    def __init__(
        self,
        endpoint: str,
        bucket: str,
        region: str,
        credentials: Credentials,
        *,
        prefix: str = "",
        method: str = "GET",
    ) -> None:
        parts = urlsplit(endpoint)
        self.credentials = credentials
        self._day: tuple[str, bytes] = ("", b"")
        self._region = region
        path = f"{parts.path.rstrip('/')}/{bucket}/{_quoted(prefix)}"
        self._base = f"{parts.scheme}://{parts.netloc}{path}"
        self._canonical_head = f"{method}\n{path}"
        self._host = signed_host(endpoint)
        self._cached_for = (-1, -1)
        self._cached: _Second | None = None

    def sign(self, key: str, now: float, seconds: int) -> PresignedURL:
        """Sign a GET of `key` that begins `now` (seconds since the epoch).

        It ends after `seconds`, or with the credential if that is sooner.

        Raises:
            StoreUnavailable: the credential has ended, or the life asked for is not within 1 and `MAX_SECONDS`.

        """
        expires = self.credentials.expires
        if expires is not None and expires - now < seconds:
            seconds = int(expires - now)
        second = int(now)
        if self._cached is None or self._cached_for != (second, seconds):
            self._cached = self._prepare(second, seconds)
            self._cached_for = (second, seconds)
        same = self._cached
        if _PLAIN_KEY.fullmatch(key) is None:
            key = _quoted(key)
        canonical = hashlib.sha256(f"{self._canonical_head}{key}{same.canonical_end}".encode()).hexdigest()
        inner = hashlib.sha256(same.inner + canonical.encode()).digest()
        signature = hashlib.sha256(same.outer + inner).hexdigest()
        return PresignedURL(f"{self._base}{key}{same.query}{signature}", seconds)

    def _prepare(self, second: int, seconds: int) -> _Second:
        if not 1 <= seconds <= MAX_SECONDS:
            if seconds < 1 and self.credentials.expires is not None:
                raise StoreUnavailable("presigning: the store's credential has expired and was not renewed")
            raise StoreUnavailable(f"presigning: a URL lives 1 to {MAX_SECONDS} seconds, not {seconds}")
        timestamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))
        date = timestamp[:8]
        if self._day[0] != date:
            self._day = (date, signing_key(self.credentials.secret_key, date, self._region))
        scope = f"{date}/{self._region}/s3/aws4_request"
        credential = quote(f"{self.credentials.access_key}/{scope}", safe="-_.~")
        head = (
            f"X-Amz-Algorithm={_ALGORITHM}&X-Amz-Credential={credential}&X-Amz-Date={timestamp}&X-Amz-Expires={seconds}"
        )
        signed = "&X-Amz-SignedHeaders=host"
        inner, outer = _pads(self._day[1])
        token = self.credentials.token
        session = "" if token is None else f"&X-Amz-Security-Token={quote(token, safe='-_.~')}"
        return _Second(
            # The URL keeps the SDK's order; the canonical query is sorted by name.
            query=f"?{head}{signed}{session}&X-Amz-Signature=",
            canonical_end=f"\n{head}{session}{signed}\nhost:{self._host}\n\nhost\nUNSIGNED-PAYLOAD",
            inner=inner + f"{_ALGORITHM}\n{timestamp}\n{scope}\n".encode(),
            outer=outer,
        )


def _pads(key: bytes) -> tuple[bytes, bytes]:
    """Give the two pads of HMAC-SHA-256 (RFC 2104, 2) for a key of 32 bytes.

    The HMAC is then two plain hashes, at half the price of the library's call, which looks up its algorithm each time.
    """
    padded = key.ljust(64, b"\0")
    return bytes(byte ^ 0x36 for byte in padded), bytes(byte ^ 0x5C for byte in padded)


def _quoted(key: str) -> str:
    return quote(key, safe="/-_.~")
