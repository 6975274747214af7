"""When the certificate of a server that TLS refused has ended: of the store, or of an issuer.

Diagnosis only: nothing that is read this way is trusted.
"""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

from cryptography import x509

from edgeproxy.access.issuers import FetchFailed, ServerCertificateExpired
from edgeproxy.addresses import S3StoreLocation
from edgeproxy.settings import Settings

_SECONDS: Final = 5.0


async def fetch_document(url: str, ca: bytes | None) -> bytes:
    """Fetch a document of an issuer, as `IssuerKeys` needs it."""
    # Imported late: it costs a quarter of a start, and a policy without issuers never needs it.
    from edgeproxy.access.fetch import fetch  # noqa: PLC0415

    try:
        return await fetch(url, ca)
    except ServerCertificateExpired as error:
        raise FetchFailed(await _expired_text(error.url)) from None


async def store_expired_text(settings: Settings) -> str:
    """Say when the certificate of the store's endpoint expired, if the settings name one."""
    place = settings.store
    endpoint = place.endpoint if isinstance(place, S3StoreLocation) and place.endpoint else ""
    return await _expired_text(endpoint or settings.store_public_endpoint)


async def _expired_text(url: str) -> str:
    """Say of an `https` URL whose certificate is known to have expired when that was and what to do."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 443
    ended = await _ended(host, port)
    return (
        f"the certificate of {parts.netloc} expired{f' on {ended:%Y-%m-%d %H:%M} UTC' if ended else ''}: renew it there"
    )


async def _ended(host: str, port: int) -> datetime | None:
    """Read the end of a server's own certificate; None where it cannot be had, or where it is another of the chain that has ended."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        async with asyncio.timeout(_SECONDS):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except (OSError, TimeoutError):
        return None
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    try:
        ended = x509.load_der_x509_certificate(shown).not_valid_after_utc
    except ValueError:
        return None
    return ended if ended < datetime.now(UTC) else None
