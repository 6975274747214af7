"""Credentials of the SDK's chain: found, renewed while running, and never outlived by what they signed."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
from aiobotocore.credentials import AioRefreshableCredentials
from aiobotocore.session import AioSession
from yarl import URL

from edgeproxy.storage import StoreUnavailable
from edgeproxy.storage.s3 import S3Store
from tests.r2.app import ACCESS_KEY, SECRET_KEY
from tests.r2.running import running_double
from tests.r2.sigv4 import Secret
from tests.r2.stores import watched, watched_double

ENDPOINT = "https://store.example.com"


class Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Issuer:
    """A source of temporary credentials that the SDK renews from; each lives an hour by the clock given."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.issued = 0
        self.broken = False

    async def issue(self) -> dict[str, str]:
        if self.broken:
            raise OSError("the issuer cannot be reached")
        self.issued += 1
        expires = datetime.fromtimestamp(self.clock.now + 3600, UTC).isoformat()
        return {
            "access_key": f"key-{self.issued}",
            "secret_key": f"secret-{self.issued}",
            "token": f"token-{self.issued}",
            "expiry_time": expires,
        }

    async def session(self) -> AioSession:
        session = AioSession()
        session._credentials = AioRefreshableCredentials.create_from_metadata(
            await self.issue(), self.issue, "test", advisory_timeout=900, mandatory_timeout=600
        )
        session._credentials._time_fetcher = lambda: datetime.fromtimestamp(self.clock.now, UTC)
        return session


def query(url: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


async def presigner(issuer: Issuer) -> Any:
    return S3Store("bucket", region="auto", session=await issuer.session(), clock=issuer.clock).presigner(ENDPOINT)


async def test_a_url_is_signed_with_the_session_token_and_ends_with_it() -> None:
    issuer = Issuer(Clock(1_800_000_000.0))
    signing = await presigner(issuer)
    assert (await signing.presign("a", 300)).seconds == 300
    issuer.broken = True
    issuer.clock.now += 3500
    last = await signing.presign("a", 300)
    assert (last.seconds, query(last.url)["X-Amz-Expires"]) == (100, "100")
    assert query(last.url)["X-Amz-Security-Token"] == "token-1"
    issuer.clock.now += 100
    with pytest.raises(StoreUnavailable, match="renewing them failed"):
        await signing.presign("a", 300)
    issuer.broken = False
    assert query((await signing.presign("a", 300)).url)["X-Amz-Security-Token"] == "token-2"


class IssuerWithoutTokens(Issuer):
    """Some that give temporary keys give them without a session token."""

    async def issue(self) -> dict[str, str]:
        return {**await super().issue(), "token": ""}


async def test_an_empty_session_token_is_none_as_a_store_refuses_a_url_that_carries_it() -> None:
    signing = await presigner(IssuerWithoutTokens(Clock(1_800_000_000.0)))

    assert "X-Amz-Security-Token" not in (await signing.presign("a", 300)).url


async def test_credentials_are_renewed_before_their_end_and_urls_are_signed_with_the_new_ones() -> None:
    issuer = Issuer(Clock(1_800_000_000.0))
    signing = await presigner(issuer)
    first = query((await signing.presign("a", 60)).url)
    issuer.clock.now += 3600 - 800
    second = query((await signing.presign("a", 60)).url)
    assert (first["X-Amz-Security-Token"], second["X-Amz-Security-Token"]) == ("token-1", "token-2")
    assert second["X-Amz-Credential"].startswith("key-2/")
    assert issuer.issued == 2


async def test_many_requests_at_once_renew_once() -> None:
    issuer = Issuer(Clock(1_800_000_000.0))
    signing = await presigner(issuer)
    issuer.clock.now += 3600 - 60
    urls = await asyncio.gather(*(signing.presign(f"{number}", 60) for number in range(50)))
    assert {query(url.url)["X-Amz-Security-Token"] for url in urls} == {"token-2"}
    assert issuer.issued == 2


async def test_the_sdk_is_not_asked_for_every_url() -> None:
    class Counting(AioSession):  # type: ignore[misc]  # aiobotocore ships no types
        asked = 0

        async def get_credentials(self) -> Any:
            Counting.asked += 1
            return await super().get_credentials()

    session = Counting()
    session.set_credentials(ACCESS_KEY, SECRET_KEY)
    clock = Clock(1_800_000_000.0)
    signing = S3Store("bucket", region="auto", session=session, clock=clock).presigner(ENDPOINT)
    for _ in range(100):
        await signing.presign("a", 60)
    assert Counting.asked == 1
    clock.now += 6
    await signing.presign("a", 60)
    assert Counting.asked == 2


async def test_calls_and_urls_go_on_with_renewed_credentials() -> None:
    issuer = Issuer(Clock(time.time()))
    secrets = {"key-1": Secret("secret-1", "token-1")}
    async with (
        running_double(write_interval=None, secrets=secrets) as running,
        watched(running, session=await issuer.session(), clock=issuer.clock) as s3,
    ):
        await s3.store.put("a", b"x")
        # The old one ends at the store.
        secrets.clear()
        secrets["key-2"] = Secret("secret-2", "token-2")
        with pytest.raises(StoreUnavailable, match="InvalidAccessKeyId"):
            await s3.store.put("a", b"y")
        issuer.clock.now += 3000
        running.double.clock = issuer.clock
        signed = await s3.store.presigner().presign("a", 60)
        async with aiohttp.ClientSession() as http, http.get(URL(signed.url, encoded=True)) as response:
            assert (response.status, await response.read()) == (200, b"x")
        running.double.clock = time.time
        await s3.store.put("a", b"z")


async def test_the_environment_is_read_and_its_absence_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "AWS_PROFILE",
        "AWS_SESSION_TOKEN",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent/config")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent/credentials")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    async with watched_double(credentials=None) as s3:
        await s3.store.put("a", b"x")
        assert (await s3.store.presigner().presign("a", 60)).seconds == 60
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    async with watched_double(credentials=None) as s3:
        with pytest.raises(StoreUnavailable, match="AWS_ACCESS_KEY_ID"):
            await s3.store.put("a", b"x")
        with pytest.raises(StoreUnavailable, match="AWS_ACCESS_KEY_ID"):
            await s3.store.presigner().presign("a", 60)


async def test_urls_carry_the_public_endpoint_and_the_prefix() -> None:
    async with watched_double() as s3:
        own = await s3.store.presigner().presign("a/b", 60)
        public = await s3.store.presigner("https://objects.example.com").presign("a/b", 60)
    assert own.url.startswith(f"{s3.running.endpoint}/registry/pre/a/b?")
    assert public.url.startswith("https://objects.example.com/registry/pre/a/b?")
