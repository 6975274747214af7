"""Fetches the documents of issuers over HTTP. The only module of `access` that opens connections."""

from __future__ import annotations

import asyncio
import ssl
from typing import Final

import aiohttp

from edgeproxy.access.issuers import FetchFailed, ServerCertificateExpired

FETCH_SECONDS: Final = 5.0
MAX_DOCUMENT_BYTES: Final = 1024 * 1024
_EXPIRED: Final = 10
"""X509_V_ERR_CERT_HAS_EXPIRED of OpenSSL."""


async def fetch(url: str, ca: bytes | None) -> bytes:
    """Fetch a small document: status 200, no redirects, no compression, at most 1 MiB within 5 seconds.

    `ca` is the PEM of the only certificate authorities to trust, in place of the system's.

    Raises:
        FetchFailed: it cannot be had so.

    """
    try:
        tls = ssl.create_default_context(cadata=ca.decode("ascii")) if ca is not None else True
    except (ssl.SSLError, ValueError):
        raise FetchFailed("the `ca_file` of the policy is not a PEM certificate") from None
    try:
        async with asyncio.timeout(FETCH_SECONDS):
            return await _fetched(url, tls)
    except TimeoutError:
        raise FetchFailed(f"no answer within {FETCH_SECONDS:.0f} s") from None
    except aiohttp.ClientError as error:
        if _has_expired(error):
            raise ServerCertificateExpired(url) from None
        raise FetchFailed(_reason(error)) from None
    except ValueError:
        raise FetchFailed("the URL cannot be asked for") from None


async def _fetched(url: str, tls: ssl.SSLContext | bool) -> bytes:
    # A session for each document: they are rare, and nothing of one request, no cookie and no connection, reaches another.
    async with (
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=tls), cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False
        ) as session,
        session.get(
            url, allow_redirects=False, headers={"Accept": "application/json", "Accept-Encoding": "identity"}
        ) as response,
    ):
        if response.status != 200:
            raise FetchFailed(
                f"the answer has status {response.status} where 200 is needed; redirects are not followed"
            )
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise FetchFailed("the answer is compressed, which was not asked for")
        content = bytearray()
        async for piece in response.content.iter_any():
            content += piece
            if len(content) > MAX_DOCUMENT_BYTES:
                raise FetchFailed(f"the answer is larger than {MAX_DOCUMENT_BYTES} bytes")
        return bytes(content)


def _has_expired(error: aiohttp.ClientError) -> bool:
    refused = getattr(error, "certificate_error", None)
    return isinstance(refused, ssl.SSLCertVerificationError) and refused.verify_code == _EXPIRED


def _reason(error: aiohttp.ClientError) -> str:
    """Say what went wrong; the text of the library's errors may hold the URL."""
    cause = error.os_error if isinstance(error, aiohttp.ClientOSError) and hasattr(error, "os_error") else error
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        cause = error.certificate_error
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the certificate of the issuer's server is refused: {cause.verify_message}"
    return f"{type(error).__name__}: {getattr(cause, 'strerror', None) or type(cause).__name__}"
