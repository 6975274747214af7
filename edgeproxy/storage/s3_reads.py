"""Reads of whole small objects, signed by ourselves: tags, manifests and links, which a cold pull waits for.

The SDK takes four times the CPU for the same GET. Signed in the query as for clients, by the signer that is proven against the SDK's; sent
over connections of their own; tried again as every other call is.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable
from typing import Any, Final
from urllib.request import getproxies

import aiohttp
from botocore.httpsession import get_cert_path
from yarl import URL

from edgeproxy.storage import ObjectInfo, StoreUnavailable
from edgeproxy.storage.presign import Credentials, QuerySigner
from edgeproxy.storage.s3_answers import described_by
from edgeproxy.storage.s3_calls import Calls
from edgeproxy.storage.s3_credentials import CredentialSource
from edgeproxy.storage.s3_errors import Refused

SIGNED_SECONDS: Final = 900
"""As far as the clocks of this machine and the store may differ for any signed request."""

_ERROR_BYTES: Final = 64 * 1024
_CODE: Final = re.compile(rb"<Code>([A-Za-z0-9]{1,100})</Code>")
_REGION: Final = re.compile(rb"<Region>([a-z0-9-]{1,100})</Region>")
# Nothing on the way may compress what is read: its length is compared.
_HEADERS: Final = {"Accept-Encoding": "identity"}


class Reads:
    """GETs and HEADs of one bucket. `open` comes before the first."""

    def __init__(
        self,
        calls: Calls,
        source: CredentialSource,
        *,
        region: str,
        prefix: str,
        ca_bundle: str | None,
        clock: Callable[[], float],
    ) -> None:
        """Keep `ca_bundle`, a file of certificates that the store's is checked with in place of the usual ones."""
        self._calls = calls
        self._source = source
        self._region = region
        self._prefix = prefix
        self._ca_bundle = ca_bundle
        self._clock = clock
        self._signers: dict[str, QuerySigner] = {}
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make the pool of connections; none is opened yet."""
        limits = self._calls.limits
        secure = self._calls.endpoint.startswith("https:")
        trust: Any = await asyncio.to_thread(self._trust) if secure else True
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=limits.connections, ssl=trust),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=limits.connect),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            # Looking for a proxy costs as much as a signature, so only where there is one.
            trust_env=bool(getproxies()),
        )

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def head(self, key: str) -> ObjectInfo:
        """Describe an object; see `Store.head`."""

        async def send() -> ObjectInfo:
            async with await self._request("HEAD", key) as answer:
                return described_by(key, answer.headers)

        return await self._calls.until_done("HeadObject", self._prefix + key, send)

    async def read(self, key: str, limit: int) -> tuple[ObjectInfo, bytes]:
        """Read a small object; see `Store.read`."""

        async def send() -> tuple[ObjectInfo, bytes]:
            async with await self._request("GET", key) as answer:
                info = described_by(key, answer.headers)
                return info, await answer.read() if info.size <= limit else b""

        info, content = await self._calls.until_done("GetObject", self._prefix + key, send, moves=limit)
        if info.size > limit:
            raise StoreUnavailable(f"GetObject {key}: {info.size} bytes where at most {limit} are expected")
        return info, content

    async def _request(self, method: str, key: str) -> aiohttp.ClientResponse:
        assert self._session is not None
        now = self._clock()
        credentials = self._source.fresh(now) or await self._source.current()
        url = self._signer(method, credentials).sign(key, now, SIGNED_SECONDS).url
        # A redirect to another region's host is not signed for it.
        answer = await self._session.request(method, URL(url, encoded=True), allow_redirects=False, headers=_HEADERS)
        if answer.status == 200:
            return answer
        async with answer:
            body = await answer.content.read(_ERROR_BYTES)
        region = _said(_REGION, body) or answer.headers.get("x-amz-bucket-region", "")
        raise Refused(answer.status, _said(_CODE, body), region)

    def _signer(self, method: str, credentials: Credentials) -> QuerySigner:
        signer = self._signers.get(method)
        if signer is None or signer.credentials is not credentials:
            signer = QuerySigner(
                self._calls.endpoint, self._calls.bucket, self._region, credentials, prefix=self._prefix, method=method
            )
            self._signers[method] = signer
        return signer

    def _trust(self) -> ssl.SSLContext:
        """Trust whom the SDK trusts: its own bundle, or the one that `AWS_CA_BUNDLE` names."""
        return ssl.create_default_context(cafile=self._ca_bundle or get_cert_path(True))


def _said(pattern: re.Pattern[bytes], body: bytes) -> str:
    found = pattern.search(body)
    return found[1].decode() if found is not None else ""
