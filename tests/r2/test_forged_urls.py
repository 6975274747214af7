"""One table of requests that are not what was signed, against the double and against versitygw, which we did not write.

Each row says what both answer. Where versitygw differs from R2 the row says so: R2's answer is the double's.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from unittest import mock

import aiohttp
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from yarl import URL

from edgeproxy.storage.presign import Credentials, QuerySigner
from edgeproxy.storage.s3 import open_s3
from tests.r2.app import ACCESS_KEY, SECRET_KEY
from tests.r2.backends import BUCKET, CREDENTIALS, Server, s3_servers

CONTENT = b"what only the holder of a URL may read"
KEY = "blobs/an-object"
NEW_KEY = "blobs/a-new-object"


@dataclass(frozen=True)
class Sent:
    """A request as it goes over the wire."""

    method: str
    url: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None

    def but(self, old: str, new: str) -> Sent:
        assert old in self.url
        return replace(self, url=self.url.replace(old, new, 1))

    def with_headers(self, **headers: str) -> Sent:
        return replace(self, headers=self.headers | {name.replace("_", "-"): value for name, value in headers.items()})


@dataclass(frozen=True)
class Row:
    """A request made out of a good one, and its answers."""

    name: str
    make: Callable[[Server], Sent]
    r2: int
    versitygw: int | None = None
    """None: as R2."""

    def expected(self, server: Server) -> int:
        return self.versitygw if server.name == "versitygw" and self.versitygw is not None else self.r2


def presigned(
    server: Server,
    key: str = KEY,
    *,
    at: float = 0,
    seconds: int = 60,
    credentials: Credentials = CREDENTIALS,
    region: str = "",
) -> Sent:
    signer = QuerySigner(server.endpoint, BUCKET, region or server.region, credentials)
    return Sent("GET", signer.sign(key, time.time() + at, seconds).url)


def signed_put(
    server: Server,
    *,
    at: float = 0,
    secret: str = SECRET_KEY,
    key_id: str = ACCESS_KEY,
    region: str = "",
    headers: dict[str, str] | None = None,
) -> Sent:
    """A PUT signed in its headers by the SDK's signer."""
    request = AWSRequest("PUT", f"{server.endpoint}/{BUCKET}/{NEW_KEY}", headers or {}, CONTENT)
    request.context["client_config"] = None
    now = datetime.fromtimestamp(time.time() + at, UTC)
    with mock.patch("botocore.auth.get_current_datetime", return_value=now):
        S3SigV4Auth(ReadOnlyCredentials(key_id, secret, None), "s3", region or server.region).add_auth(request)
    return Sent("PUT", request.url, dict(request.headers.items()), CONTENT)


def flipped(sent: Sent) -> Sent:
    """The same with the last digit of its signature changed."""
    return replace(sent, url=sent.url[:-1] + ("0" if sent.url[-1] != "0" else "1"))


def without(sent: Sent, parameter: str) -> Sent:
    base, _, query = sent.url.partition("?")
    kept = [pair for pair in query.split("&") if not pair.startswith(f"{parameter}=")]
    return replace(sent, url=f"{base}?{'&'.join(kept)}")


OTHER_SECRET = Credentials(ACCESS_KEY, "another-secret")
OTHER_KEY = Credentials("another-key", SECRET_KEY)
WITH_TOKEN = Credentials(ACCESS_KEY, SECRET_KEY, "a-token-nobody-issued")

READS = [
    Row("as it was signed", presigned, 200),
    Row("with a range, which is not signed", lambda s: presigned(s).with_headers(Range="bytes=0-3"), 206),
    Row("a digit of the signature changed", lambda s: flipped(presigned(s)), 403),
    Row("another key", lambda s: presigned(s, "blobs/other").but("blobs/other", KEY), 403),
    Row("used for HEAD", lambda s: replace(presigned(s), method="HEAD"), 403),
    Row("a longer life", lambda s: presigned(s).but("X-Amz-Expires=60", "X-Amz-Expires=600"), 403),
    Row("another date", lambda s: presigned(s, at=-30).but("Z&X-Amz-Expires", "0Z&X-Amz-Expires"), 403, 400),
    Row("a parameter added", lambda s: presigned(s).but("&X-Amz-Signature", "&versionId=null&X-Amz-Signature"), 403),
    Row("another host", lambda s: presigned(s).with_headers(Host="elsewhere.example.com"), 403),
    Row("expired", lambda s: presigned(s, at=-3600), 400, 403),
    Row("expired two seconds ago", lambda s: presigned(s, at=-62), 400, 403),
    Row("not valid for another hour: versitygw does not mind", lambda s: presigned(s, at=3600), 403, 200),
    Row("a life of eight days", lambda s: presigned(s).but("Expires=60", "Expires=691200"), 400),
    Row("a life of no time", lambda s: presigned(s).but("Expires=60", "Expires=0"), 400, 403),
    Row("a negative life", lambda s: presigned(s).but("Expires=60", "Expires=-1"), 400),
    Row("no signature", lambda s: without(presigned(s), "X-Amz-Signature"), 400),
    Row("no life", lambda s: without(presigned(s), "X-Amz-Expires"), 400),
    Row("no signed headers", lambda s: without(presigned(s), "X-Amz-SignedHeaders"), 400),
    Row("no query at all", lambda s: replace(presigned(s), url=presigned(s).url.partition("?")[0]), 403),
    Row("signed with another secret", lambda s: presigned(s, credentials=OTHER_SECRET), 403),
    Row("signed by a key that versitygw says is not there", lambda s: presigned(s, credentials=OTHER_KEY), 403, 404),
    Row("with a session token nobody issued", lambda s: presigned(s, credentials=WITH_TOKEN), 400),
    Row("signed for another region", lambda s: presigned(s, region="mars-1"), 400),
    Row("signed for another service", lambda s: presigned(s).but("%2Fs3%2F", "%2Fec2%2F"), 400),
    Row(
        "with an Authorization header beside it: R2 takes one way of authentication only, versitygw reads the query first",
        lambda s: presigned(s).with_headers(Authorization="Bearer of-the-registry"),
        400,
        200,
    ),
]

WRITES = [
    Row("as it was signed", signed_put, 200),
    Row("another body", lambda s: replace(signed_put(s), body=CONTENT[::-1]), 400),
    Row("another key", lambda s: signed_put(s).but(NEW_KEY, "blobs/other"), 403),
    Row("signed with another secret", lambda s: signed_put(s, secret="another-secret"), 403),
    Row("signed by a key that versitygw says is not there", lambda s: signed_put(s, key_id="another-key"), 403, 404),
    Row("signed sixteen minutes ago", lambda s: signed_put(s, at=-16 * 60), 403),
    Row("signed for another region", lambda s: signed_put(s, region="mars-1"), 400),
    Row(
        "a signed header changed",
        lambda s: signed_put(s, headers={"x-amz-meta-a": "1"}).with_headers(x_amz_meta_a="2"),
        403,
    ),
    Row("an x-amz header that is not signed", lambda s: signed_put(s).with_headers(x_amz_meta_a="1"), 403),
    Row("not signed", lambda s: replace(signed_put(s), headers={}), 403),
    Row("a GET's URL used for PUT", lambda s: replace(presigned(s, NEW_KEY), method="PUT", body=CONTENT), 403),
    Row("a GET's URL used for DELETE", lambda s: replace(presigned(s), method="DELETE"), 403),
]


@pytest.fixture(params=sorted(s3_servers))
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Server]:
    async with s3_servers[request.param](tmp_path) as running:
        options = {"region": running.region, "endpoint": running.endpoint, "credentials": CREDENTIALS}
        async with open_s3(BUCKET, **options) as store:
            await store.put(KEY, CONTENT)
        yield running


async def answered(sent: Sent) -> tuple[int, bytes]:
    """Send a request exactly as it is."""
    async with (
        aiohttp.ClientSession(auto_decompress=False) as client,
        client.request(sent.method, URL(sent.url, encoded=True), headers=sent.headers, data=sent.body) as response,
    ):
        return response.status, await response.read()


async def holds(server: Server, key: str) -> bytes | None:
    """What the bucket holds under a key, asked with a good signature."""
    status, content = await answered(presigned(server, key))
    return content if status == 200 else None


async def test_a_presigned_url_opens_its_object_and_nothing_else(server: Server) -> None:
    for row in READS:
        status, content = await answered(row.make(server))
        assert (row.name, status) == (row.name, row.expected(server))
        assert status in (200, 206) or CONTENT not in content, row.name


async def test_a_signed_write_is_the_write_that_was_signed(server: Server) -> None:
    for row in reversed(WRITES):
        status, _ = await answered(row.make(server))
        assert (row.name, status) == (row.name, row.expected(server))
        assert await holds(server, NEW_KEY) == (CONTENT if status == 200 else None), row.name
        assert await holds(server, KEY) == CONTENT, row.name
