"""Credentials of the SDK's chain as snapshots, and the presigner that signs with them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import aiohttp
from botocore.exceptions import BotoCoreError, ClientError

from edgeproxy.storage import PresignedURL, StoreUnavailable
from edgeproxy.storage.presign import Credentials, QuerySigner

SNAPSHOT_SECONDS: Final = 5.0
"""How long a snapshot is used before the SDK is asked again, which renews minutes before the end."""

# What a refresh may end with: the SDK raises RuntimeError for a renewed credential that has expired already.
_REFRESH_ERRORS: Final = (BotoCoreError, ClientError, aiohttp.ClientError, OSError, RuntimeError, KeyError, ValueError)


class CredentialSource:
    """The current credential of an SDK session: environment, profile, web identity, container or instance role.

    `session` is an `aiobotocore.session.AioSession`; `clock` gives seconds since the epoch.
    """

    def __init__(self, session: Any, clock: Callable[[], float]) -> None:
        self._session = session
        self._clock = clock
        self._snapshot: Credentials | None = None
        self._asked = float("-inf")
        self._lock = asyncio.Lock()

    def fresh(self, now: float) -> Credentials | None:
        """Give the snapshot if it need not be renewed: the way of nearly every request, without an `await`."""
        snapshot = self._snapshot
        if snapshot is None or not 0 <= now - self._asked < SNAPSHOT_SECONDS:
            return None
        return snapshot

    async def current(self) -> Credentials:
        """Give the credential to sign with now.

        While a renewal fails, the one at hand serves until its end.

        Raises:
            StoreUnavailable: there is none.

        """
        async with self._lock:
            now = self._clock()
            snapshot = self.fresh(now)
            if snapshot is not None:
                return snapshot
            try:
                snapshot = await self._ask()
            except _REFRESH_ERRORS as error:
                snapshot = self._snapshot
                if snapshot is None or (snapshot.expires is not None and snapshot.expires <= now):
                    raise StoreUnavailable(f"credentials: renewing them failed ({type(error).__name__})") from None
            self._snapshot, self._asked = snapshot, now
            return snapshot

    async def _ask(self) -> Credentials:
        source = await self._session.get_credentials()
        if source is None:
            raise StoreUnavailable(
                "credentials: none found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or a role"
            )
        frozen = await source.get_frozen_credentials()
        # The SDK offers the end of a refreshable credential under no public name.
        expiry = getattr(source, "_expiry_time", None)
        snapshot = Credentials(
            frozen.access_key, frozen.secret_key, frozen.token or None, None if expiry is None else expiry.timestamp()
        )
        # The same object as long as nothing changed: signers are kept per snapshot.
        return self._snapshot if self._snapshot == snapshot else snapshot


class S3Presigner:
    """Presigned GETs of a bucket, signed with the credential of the moment. Implements `Presigner`."""

    def __init__(
        self,
        source: CredentialSource,
        *,
        endpoint: str,
        bucket: str,
        region: str,
        prefix: str,
        clock: Callable[[], float],
    ) -> None:
        self._source = source
        self._place = (endpoint, bucket, region)
        self._prefix = prefix
        self._clock = clock
        self._signer: QuerySigner | None = None

    async def presign(self, key: str, seconds: int) -> PresignedURL:
        """Sign a GET of `key`; see `Presigner.presign`."""
        now = self._clock()
        credentials = self._source.fresh(now) or await self._source.current()
        return self._sign(key, now, seconds, credentials)

    def presign_now(self, key: str, seconds: int) -> PresignedURL | None:
        """Sign with the credential at hand; see `Presigner.presign_now`."""
        now = self._clock()
        credentials = self._source.fresh(now)
        return None if credentials is None else self._sign(key, now, seconds, credentials)

    def _sign(self, key: str, now: float, seconds: int, credentials: Credentials) -> PresignedURL:
        signer = self._signer
        if signer is None or signer.credentials is not credentials:
            signer = self._signer = QuerySigner(*self._place, credentials, prefix=self._prefix)
        return signer.sign(key, now, seconds)
