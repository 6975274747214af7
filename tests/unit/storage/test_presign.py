"""Our signer against the SDK's: byte for byte, for whatever is in a key, a region, a token or an endpoint."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from unittest import mock
from urllib.parse import parse_qs, urlsplit

import botocore.session
import pytest
from botocore.config import Config
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeproxy.storage import StoreUnavailable
from edgeproxy.storage.presign import MAX_SECONDS, Credentials, QuerySigner, signed_host

NOW = 1_800_000_000
KEY = "blobs/sha256/" + "ab" * 32
PLAIN = Credentials("AKIDEXAMPLE", "secret/with+odd=characters")


@lru_cache(maxsize=256)
def sdk_client(endpoint: str, region: str, credentials: Credentials) -> Any:
    return botocore.session.Session().create_client(
        "s3",
        region_name=region,
        endpoint_url=endpoint,
        aws_access_key_id=credentials.access_key,
        aws_secret_access_key=credentials.secret_key,
        aws_session_token=credentials.token,
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )


def by_the_sdk(endpoint: str, region: str, credentials: Credentials, key: str, *, now: int, seconds: int) -> str:
    with mock.patch("botocore.auth.get_current_datetime", return_value=datetime.fromtimestamp(now, UTC)):
        url: str = sdk_client(endpoint, region, credentials).generate_presigned_url(
            "get_object", Params={"Bucket": "a-bucket", "Key": key}, ExpiresIn=seconds
        )
    return url


def by_us(endpoint: str, region: str, credentials: Credentials, key: str, *, now: float, seconds: int) -> str:
    return QuerySigner(endpoint, "a-bucket", region, credentials).sign(key, now, seconds).url


# Any character an object's key may have, but a `/` at its beginning, which ours never have.
keys = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=60).filter(
    lambda key: key[0] != "/"
)


@settings(deadline=None, max_examples=150)
@given(key=keys, now=st.integers(0, 4_000_000_000), seconds=st.integers(1, MAX_SECONDS))
def test_a_url_is_the_sdk_s_for_every_key_and_time(key: str, now: int, seconds: int) -> None:
    endpoint = "https://account.r2.cloudflarestorage.com"
    ours = by_us(endpoint, "auto", PLAIN, key, now=now, seconds=seconds)
    assert ours == by_the_sdk(endpoint, "auto", PLAIN, key, now=now, seconds=seconds)


@pytest.mark.parametrize("token", [None, "tok/en+with=odd&characters", "x" * 900])
@pytest.mark.parametrize("region", ["auto", "us-east-1", "eu-central-1"])
@pytest.mark.parametrize(
    "endpoint",
    [
        "https://account.eu.r2.cloudflarestorage.com",
        "https://s3.example.com:443",
        "https://s3.example.com:9443",
        "http://s3.example.com:80",
        "http://127.0.0.1:9000",
        "http://[::1]:9000",
        "https://s3.example.com/below/a/path",
        "https://S3.Example.com",
    ],
)
def test_a_url_is_the_sdk_s_for_every_endpoint_region_and_token(endpoint: str, region: str, token: str | None) -> None:
    credentials = Credentials("AKIDEXAMPLE", "secret", token)
    key = "repos/a b+c/%2F~ü?&=#.."
    ours = by_us(endpoint, region, credentials, key, now=NOW, seconds=300)
    assert ours == by_the_sdk(endpoint, region, credentials, key, now=NOW, seconds=300)


def test_a_signer_goes_on_signing_rightly_past_midnight() -> None:
    signer = QuerySigner("https://s3.example.com", "a-bucket", "auto", PLAIN)
    midnight = NOW - NOW % 86_400 + 86_400
    for now in (midnight - 1, midnight, midnight - 1, midnight + 1):
        expected = by_the_sdk("https://s3.example.com", "auto", PLAIN, KEY, now=now, seconds=60)
        assert signer.sign(KEY, now, 60).url == expected


def test_the_prefix_is_part_of_the_key() -> None:
    signer = QuerySigner("https://s3.example.com", "a-bucket", "auto", PLAIN, prefix="some pre/fix/")
    expected = by_the_sdk("https://s3.example.com", "auto", PLAIN, "some pre/fix/" + KEY, now=NOW, seconds=60)
    assert signer.sign(KEY, NOW, 60).url == expected


def test_a_url_ends_with_the_credential_that_signs_it() -> None:
    credentials = Credentials("AKIDEXAMPLE", "secret", "token", expires=NOW + 100.9)
    signer = QuerySigner("https://s3.example.com", "a-bucket", "auto", credentials)
    longer = signer.sign(KEY, NOW, 300)
    assert (longer.seconds, parse_qs(urlsplit(longer.url).query)["X-Amz-Expires"]) == (100, ["100"])
    assert signer.sign(KEY, NOW, 60).seconds == 60


def test_a_credential_at_its_end_signs_nothing_and_a_second_before_still_does() -> None:
    signer = QuerySigner("https://s3.example.com", "a-bucket", "auto", Credentials("A", "s", "t", expires=NOW + 10.0))
    assert signer.sign(KEY, NOW + 9, 300).seconds == 1
    with pytest.raises(StoreUnavailable, match="expired"):
        signer.sign(KEY, NOW + 9.5, 300)


@pytest.mark.parametrize("seconds", [0, -1, MAX_SECONDS + 1])
def test_a_life_outside_the_specification_is_refused(seconds: int) -> None:
    signer = QuerySigner("https://s3.example.com", "a-bucket", "auto", PLAIN)
    with pytest.raises(StoreUnavailable, match="604800"):
        signer.sign(KEY, NOW, seconds)
    assert signer.sign(KEY, NOW, MAX_SECONDS).seconds == MAX_SECONDS


@pytest.mark.parametrize(
    ("endpoint", "host"),
    [
        ("https://S3.Example.com:443", "s3.example.com"),
        ("https://s3.example.com:80", "s3.example.com:80"),
        ("http://s3.example.com:80", "s3.example.com"),
        ("http://[::1]:9000", "[::1]:9000"),
    ],
)
def test_the_signed_host_is_what_clients_send(endpoint: str, host: str) -> None:
    assert signed_host(endpoint) == host


def test_nothing_that_opens_an_object_is_shown() -> None:
    credentials = Credentials("AKIDEXAMPLE", "the-secret", "the-token")
    url = QuerySigner("https://s3.example.com", "a-bucket", "auto", credentials).sign(KEY, NOW, 60)
    shown = repr(credentials) + repr(url)
    assert "AKIDEXAMPLE" in shown
    assert not any(word in shown for word in ("the-secret", "the-token", "X-Amz-Signature"))
