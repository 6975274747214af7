"""Secrets, keys, regions, buckets and certificates that are wrong: `check` and the start of `serve` say what to mend, and the twin passes."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.check.accounts import ACCOUNT_SECRET, ACTIONS, BUCKET, Gateway, gateway
from tests.check.telling import Told, refused, told
from tests.issuer import LocalIssuer
from tests.r2.certificates import loopback_tls
from tests.r2.running import running_double
from tests.running import Bucket, Registry, registry, temporary_folder

pytestmark = pytest.mark.timeout(400)
EXPIRED = timedelta(days=-3, minutes=-7)


@pytest.fixture
async def folder() -> AsyncIterator[Path]:
    async with temporary_folder() as made:
        yield made


@pytest.fixture
async def versitygw(folder: Path) -> AsyncIterator[Gateway]:
    async with gateway(folder) as running:
        await running.grant(ACTIONS)
        yield running


def directory(folder: Path, **settings: str) -> Registry:
    """Make a registry over a directory: what needs no other program."""
    return registry(Bucket("filesystem", f"file://{folder / 'store'}", 0, folder / "store"), folder, **settings)


def unprivileged() -> tuple[str, ...]:
    """Give the command line before one that is to obey the modes of files, as root does not."""
    if os.geteuid() != 0:
        return ()
    binary = shutil.which("setpriv")
    if binary is None:
        pytest.skip("setpriv is not installed, and root may read everything")
    return (binary, "--bounding-set", "-dac_override,-dac_read_search")


async def test_what_is_wrong_with_bucket_and_credential_is_told_and_the_right_ones_pass(versitygw: Gateway) -> None:
    keys = "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN"
    wrong = {
        "region": (versitygw.bucket(region="eu-central-1"), "write region=us-east-1 in EDGEPROXY_STORE"),
        "bucket": (versitygw.bucket("no-registry"), "NoSuchBucket: the bucket does not exist: look at the bucket, endpoint"),
        "secret": (versitygw.bucket(AWS_SECRET_ACCESS_KEY="another"), f"not this access key's: look at {keys}"),
        "key id": (versitygw.bucket(AWS_ACCESS_KEY_ID="AKIDOTHER"), f"does not know this access key: look at {keys}"),
        "no credential": (
            versitygw.bucket(AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY=""),
            f"no usable credential (NoCredentialsError): look at {keys}",
        ),
        "half a credential": (
            versitygw.bucket(AWS_SECRET_ACCESS_KEY=""),
            f"no usable credential (PartialCredentialsError): look at {keys}",
        ),
    }  # fmt: skip
    for what, (bucket, said) in wrong.items():
        text = await refused(registry(bucket, versitygw.folder))
        assert text.startswith("EDGEPROXY_STORE: "), what
        assert said in text, what
        assert ACCOUNT_SECRET not in text, what
    assert await versitygw.keys() == []
    right = await told(registry(versitygw.bucket(), versitygw.folder), "check")
    assert (right.status, right.text) == (0, "")


@pytest.mark.parametrize("life", [timedelta(hours=-1), timedelta(hours=1)], ids=["expired", "in time"])
async def test_a_source_of_credentials_that_gives_expired_ones_is_told(versitygw: Gateway, life: timedelta) -> None:
    document = (
        f'{{"Version": 1, "AccessKeyId": "AKIDSERVICE", "SecretAccessKey": "{ACCOUNT_SECRET}", '
        f'"Expiration": "{datetime.now(UTC) + life:%Y-%m-%dT%H:%M:%SZ}"}}'
    )
    (versitygw.folder / "given.json").write_text(document)
    profile = f"[default]\ncredential_process = cat {versitygw.folder / 'given.json'}\n"
    (versitygw.folder / "config").write_text(profile)
    running = registry(versitygw.bucket(AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY=""), versitygw.folder)
    changed = {"AWS_CONFIG_FILE": str(versitygw.folder / "config")}
    if life < timedelta():
        text = await refused(running, changed=changed)
        assert text.startswith("EDGEPROXY_STORE: ")
        assert "the credential has expired" in text
        assert ACCOUNT_SECRET not in text
    else:
        checked = await told(running, "check", changed=changed)
        assert (checked.status, checked.text) == (0, "")


async def test_an_expired_session_token_is_told(folder: Path) -> None:
    async with running_double(write_interval=None) as running:
        place = at_double(running.endpoint, running.double.name, running.credentials)
        running.double.faults.add("error", times=None, status=400, code="ExpiredToken")
        text = await refused(registry(place, folder))
        assert text.startswith("EDGEPROXY_STORE: ")
        assert "the session token has expired: renew AWS_SESSION_TOKEN" in text
        running.double.faults.clear()
        checked = await told(registry(place, folder), "check")
        assert (checked.status, checked.text) == (0, "")


def at_double(endpoint: str, name: str, credentials: Any) -> Bucket:
    """Name the bucket of the double of R2."""
    keys = {"AWS_ACCESS_KEY_ID": credentials.access_key, "AWS_SECRET_ACCESS_KEY": credentials.secret_key}
    port = int(endpoint.rpartition(":")[2])
    return Bucket("r2", f"s3://{name}?endpoint={endpoint}&region=auto", port, Path(), keys, "auto")


@pytest.mark.parametrize("lasts", [EXPIRED, timedelta(days=1)], ids=["expired", "in time"])
async def test_an_expired_certificate_of_the_store_is_told_with_its_date(folder: Path, lasts: timedelta) -> None:
    context, trusted = loopback_tls(folder, lasts=lasts)
    async with running_double(tls=context, write_interval=None) as running:
        place = at_double(running.endpoint, running.double.name, running.credentials)
        found = registry(place, folder, store_public_endpoint=running.endpoint, public_url="http://localhost:1")
        trust = {"AWS_CA_BUNDLE": str(trusted), "SSL_CERT_FILE": str(trusted)}
        if lasts < timedelta():
            text = await refused(found, changed=trust)
            ended = f"{datetime.now(UTC) + lasts:%Y-%m-%d}"
            host = running.endpoint.removeprefix("https://")
            assert re.fullmatch(
                rf"EDGEPROXY_STORE: the certificate of {host} expired on {ended} \d\d:\d\d UTC: renew it there", text
            )
        else:
            checked = await told(found, "check", changed=trust)
            assert (checked.status, checked.text) == (0, "")
            text = await refused(found)
            assert "AWS_CA_BUNDLE" in text


@pytest.mark.parametrize("lasts", [EXPIRED, timedelta(days=1)], ids=["expired", "in time"])
async def test_an_expired_certificate_of_an_issuer_stops_check_but_not_serve(folder: Path, lasts: timedelta) -> None:
    context, trusted = loopback_tls(folder, lasts=lasts)
    async with LocalIssuer().serving(context) as issuer:
        policy = (
            "version: 1\nissuers:\n  ci:\n"
            f"    url: {issuer.url}\n    audiences: [registry.example]\n    ca_file: {trusted.name}\n"
            "public:\n  - {repositories: ['**'], actions: [pull]}\n"
        )
        found = registry(Bucket("filesystem", f"file://{folder / 'store'}", 0, folder / "store"), folder, policy=policy)
        checked = await told(found, "check")
        if lasts < timedelta():
            assert (checked.status, len(checked.lines)) == (1, 1), checked.text
            ended = f"{datetime.now(UTC) + lasts:%Y-%m-%d}"
            where = f"EDGEPROXY_POLICY: issuer ci: the certificate of {issuer.url.removeprefix('https://')}"
            assert f"{where} expired on {ended}" in checked.text
            await found.start()  # a provider's trouble keeps no replica from starting
            assert await found.stop() == 0
        else:
            assert (checked.status, checked.text) == (0, "")


def _garbage(folder: Path) -> None:
    (folder / "keys" / "one.pem").write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")


def _none(folder: Path) -> None:
    for file in (folder / "keys").iterdir():
        file.unlink()


def _modes(mode: int) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for file in (folder / "keys").iterdir():
            file.chmod(mode)

    return change


def _closed(folder: Path) -> None:
    (folder / "keys").chmod(0)


def _rsa(folder: Path) -> None:
    key = rsa.generate_private_key(65537, 2048)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "keys" / "one.pem").write_bytes(key.private_bytes(*form))


KEYS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "gone": (lambda folder: shutil.rmtree(folder / "keys"), "No such file or directory; make a key with `edgeproxy keys new"),
    "none": (_none, "holds no key (KID.pem); make one with"),
    "unreadable": (_modes(0), "Permission denied"),
    "a folder that may not be entered": (_closed, "Permission denied"),
    "no PEM": (_garbage, "one.pem is not a private key in PEM form; make one with `edgeproxy keys new`"),
    "RSA": (_rsa, "one.pem is not an ES256 key (EC, P-256); make one with `edgeproxy keys new`"),
    "for everyone": (_modes(0o604), "chmod o-rw"),
}  # fmt: skip


async def test_a_signing_key_of_its_user_alone_passes(folder: Path) -> None:
    right: Told = await told(directory(folder), "check", under=unprivileged())
    assert (right.status, right.text) == (0, "")


@pytest.mark.parametrize(("spoil", "said"), KEYS.values(), ids=KEYS)
async def test_a_signing_key_that_cannot_be_used_is_told_with_its_file(
    folder: Path, spoil: Callable[[Path], Any], said: str
) -> None:
    found = directory(folder)
    (next((folder / "keys").iterdir())).rename(folder / "keys" / "one.pem")
    spoil(folder)
    text = await refused(found, under=unprivileged())
    assert text.startswith(f"EDGEPROXY_SIGNING_KEYS: {folder / 'keys'}")
    assert said in text


@pytest.mark.parametrize("name", ["policy.yaml", "store"])
async def test_a_policy_or_directory_that_may_not_be_read_is_told(folder: Path, name: str) -> None:
    found = directory(folder)
    right: Told = await told(found, "check", under=unprivileged())
    assert (right.status, right.text) == (0, "")
    path = folder / name
    path.chmod(0o500 if path.is_dir() else 0)
    for below in path.rglob("*") if path.is_dir() else ():
        if below.is_dir():
            below.chmod(0o500)
    text = await refused(found, under=unprivileged())
    assert text.startswith(f"EDGEPROXY_{'POLICY' if name == 'policy.yaml' else 'STORE'}: ")
    assert "ermission denied" in text
    assert str(path) in text


def test_the_bucket_of_these_tests_is_the_one_of_the_page() -> None:
    assert BUCKET == "my-registry"
