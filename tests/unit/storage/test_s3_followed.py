"""A changed profile is in use with no restart; a broken one leaves what was there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Self
from urllib.parse import parse_qs, urlsplit

import pytest

from edgeproxy.storage.s3 import S3Store
from edgeproxy.storage.s3_followed import FOLLOW_SECONDS
from tests.unit.storage.test_s3_credentials import Clock

Write = Callable[[str, str], None]

PROFILE = "[default]\naws_access_key_id = {0}\naws_secret_access_key = secret-of-{0}\n"
PROCESS = "[default]\ncredential_process = cat {0}\n"
OUTPUT = '{{"Version": 1, "AccessKeyId": "{0}", "SecretAccessKey": "secret-of-{0}"}}'


@pytest.fixture
def write(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Write:
    """Give what writes one of the SDK's files; its environment names no credential."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))

    def to(name: str, text: str) -> None:
        (tmp_path / name).write_text(text)

    return to


class Signing:
    """A bucket of which only URLs are signed: no request leaves."""

    def __init__(self) -> None:
        self.clock = Clock(1_800_000_000.0)
        self._store = S3Store("bucket", region="auto", endpoint="https://store.example.com", clock=self.clock)

    async def __aenter__(self) -> Self:
        await self._store.open()
        self._presigner = self._store.presigner()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._store.close()

    async def key(self, *, later: float = 0) -> str:
        """Tell which access key signs."""
        self.clock.now += later
        query = parse_qs(urlsplit((await self._presigner.presign("a", 60)).url).query)
        return query["X-Amz-Credential"][0].partition("/")[0]


async def test_the_keys_of_a_changed_profile_sign_within_seconds(write: Write) -> None:
    write("credentials", PROFILE.format("one"))
    async with Signing() as signing:
        assert await signing.key() == "one"
        write("credentials", PROFILE.format("another"))
        assert await signing.key() == "one"
        assert await signing.key(later=FOLLOW_SECONDS) == "another"


async def test_a_file_that_did_not_change_is_not_read_again(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write("credentials", PROFILE.format("one"))
    async with Signing() as signing:
        assert await signing.key() == "one"
        monkeypatch.setattr("edgeproxy.storage.s3_followed.AioSession", None)
        assert await signing.key(later=FOLLOW_SECONDS) == "one"


@pytest.mark.parametrize("broken", ["", "[default]\naws_access_key_id = half\n", "no file of profiles"])
async def test_a_broken_file_leaves_the_old_keys_until_it_is_mended(
    write: Write, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    write("credentials", PROFILE.format("one"))
    async with Signing() as signing:
        assert await signing.key() == "one"
        write("credentials", broken)
        assert await signing.key(later=FOLLOW_SECONDS) == "one"
        assert "the old ones stay" in caplog.text
        assert "secret-of" not in caplog.text
        write("credentials", PROFILE.format("mended"))
        assert await signing.key(later=FOLLOW_SECONDS) == "mended"


async def test_a_process_that_names_no_end_runs_again_when_the_file_is_touched(write: Write, tmp_path: Path) -> None:
    write("output", OUTPUT.format("one"))
    write("config", PROCESS.format(tmp_path / "output"))
    async with Signing() as signing:
        assert await signing.key() == "one"
        write("output", OUTPUT.format("another"))
        assert await signing.key(later=FOLLOW_SECONDS) == "one"
        (tmp_path / "config").touch()
        assert await signing.key(later=FOLLOW_SECONDS) == "another"


async def test_keys_of_the_environment_stay_whatever_the_files_say(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "from-the-environment")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    write("credentials", PROFILE.format("one"))
    async with Signing() as signing:
        assert await signing.key() == "from-the-environment"
        write("credentials", PROFILE.format("another"))
        assert await signing.key(later=FOLLOW_SECONDS) == "from-the-environment"
