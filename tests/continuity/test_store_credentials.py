"""The credential of the store is exchanged while serving: what the chain finds anew is in use before the old one is taken away."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from urllib.parse import parse_qs, urlsplit

import pytest

from edgeproxy.storage import StoreError
from edgeproxy.storage.presign import Credentials
from edgeproxy.storage.s3 import open_s3
from tests.continuity.load import REPOSITORY, loaded
from tests.continuity.replicas import eventually, replicated
from tests.programs import clean_environment, program, run
from tests.pushing import client
from tests.running import ACCESS_KEY, BUCKET, SECRET_KEY, Bucket, Registry

pytestmark = pytest.mark.timeout(300)

Write = Callable[[Path, str, str], None]


def write_profile(folder: Path, access: str, secret: str) -> None:
    """Write the keys into the profile that the SDK reads."""
    (folder / ".aws").mkdir(exist_ok=True)
    written = folder / ".aws" / "credentials.new"
    written.write_text(f"[default]\naws_access_key_id = {access}\naws_secret_access_key = {secret}\n")
    written.rename(folder / ".aws" / "credentials")


def write_process(folder: Path, access: str, secret: str) -> None:
    """Write a process that gives the keys, and that they end soon, so that the SDK asks it again and again."""
    (folder / ".aws").mkdir(exist_ok=True)
    ends = (datetime.now(UTC) + timedelta(minutes=12)).isoformat()
    given = {"Version": 1, "AccessKeyId": access, "SecretAccessKey": secret, "SessionToken": None, "Expiration": ends}
    (folder / "given.new").write_text(json.dumps({key: value for key, value in given.items() if value}))
    (folder / "given.new").rename(folder / "given")
    config = folder / ".aws" / "config"
    if not config.exists():
        config.write_text(f"[default]\ncredential_process = cat {folder / 'given'}\n")


async def admin(bucket: Bucket, folder: Path, *arguments: str) -> str:
    """Change the users of a versitygw."""
    endpoint = ("--access", ACCESS_KEY, "--secret", SECRET_KEY, "--endpoint-url", f"http://127.0.0.1:{bucket.port}")
    return await run(program("versitygw"), "admin", *endpoint, *arguments, environment=clean_environment(folder))


async def add_user(bucket: Bucket, folder: Path, access: str) -> None:
    """Make a user who may use every bucket."""
    await admin(bucket, folder, "create-user", "--access", access, "--secret", f"secret-of-{access}", "--role", "admin")


async def works(bucket: Bucket, access: str) -> bool:
    """Whether the store takes the keys of a user."""
    keys = Credentials(access, f"secret-of-{access}")
    endpoint = f"http://127.0.0.1:{bucket.port}"
    try:
        async with open_s3(BUCKET, region="us-east-1", endpoint=endpoint, credentials=keys) as store:
            await store.check()
    except StoreError:
        return False
    return True


async def signs_as(one: Registry, digest: str) -> str:
    """Tell whose keys sign the URLs of a replica."""
    async with client(one.url) as to:
        location = (await to.ask("GET", f"/v2/{REPOSITORY}/blobs/{digest}")).expect(307).header("location")
    return parse_qs(urlsplit(location).query)["X-Amz-Credential"][0].partition("/")[0]


async def signs_at_last_as(one: Registry, digest: str, access: str) -> None:
    """Wait until the keys of a user sign the URLs of a replica."""

    async def does() -> bool:
        return await signs_as(one, digest) == access

    await eventually(does)


@pytest.mark.parametrize("write", [write_profile, write_process], ids=["profile", "process"])
async def test_a_rotation_of_the_stores_credential_fails_no_push_and_no_pull(write: Write, chance: Random) -> None:
    async def with_users(bucket: Bucket, folder: Path) -> None:
        for access in ("old", "new"):
            await add_user(bucket, folder, access)
        write(folder, "old", "secret-of-old")

    async with replicated(users=with_users) as replicas:
        async with loaded(replicas.url, chance) as load:
            await load.progress()
            digest = json.loads(load.tags["first"])["config"]["digest"]
            assert {await signs_as(one, digest) for one in replicas.registries} == {"old"}
            write(replicas.folder, "new", "secret-of-new")
            for one in replicas.registries:
                await signs_at_last_as(one, digest, "new")
            # Every URL that the old one signed is out of use: here, once each client has fetched another.
            await load.progress()
            await admin(replicas.bucket, replicas.folder, "delete-user", "--access", "old")
            assert not await works(replicas.bucket, "old")
            assert await works(replicas.bucket, "new")
            await load.progress()
        print(f"rotation of the store's credential: {load}")

        assert load.failures == []
