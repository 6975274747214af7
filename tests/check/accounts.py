"""versitygw with an account that is not its owner: what the account may do is what the bucket's policy grants, and nothing else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeproxy.storage import Store
from edgeproxy.storage.presign import Credentials
from edgeproxy.storage.s3 import S3Store, open_s3
from tests.docs.pages import ROOT, Page
from tests.programs import bound_to_us, clean_environment, program, run
from tests.running import ACCESS_KEY, SECRET_KEY, Bucket, answering, end, free_ports

BUCKET = "my-registry"
ACCOUNT, ACCOUNT_SECRET = "AKIDSERVICE", "secret-of-the-service"
REGION = "us-east-1"


def policy_of_the_page() -> list[dict[str, Any]]:
    """Give the statements of the IAM policy that docs/deployment.md tells to use."""
    (fence,) = (fence for fence in Page.read(ROOT / "docs" / "deployment.md").fences if fence.use == "iam-policy")
    statements: list[dict[str, Any]] = json.loads(fence.text)["Statement"]
    return statements


def actions_of(statement: Mapping[str, Any]) -> list[str]:
    """Give the actions of a statement, which may be one or a list."""
    actions = statement["Action"]
    return [actions] if isinstance(actions, str) else list(actions)


ACTIONS = [action for statement in policy_of_the_page() for action in actions_of(statement)]


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running versitygw and its owner."""

    port: int
    folder: Path
    owner: S3Store

    async def grant(self, actions: Sequence[str]) -> None:
        """Let the account do these of the page's actions, each on the resource that the page names, and nothing else.

        The page's policy belongs to an identity; that of a bucket says in addition for whom it is.
        """
        statements = [
            {**statement, "Action": kept, "Principal": [ACCOUNT]}
            for statement in policy_of_the_page()
            if (kept := [action for action in actions_of(statement) if action in actions])
        ]
        policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
        await self.owner._calls.call("PutBucketPolicy", Policy=policy)

    def bucket(self, name: str = BUCKET, region: str = REGION, **keys: str) -> Bucket:
        """Name the bucket as the account reaches it, or as `keys` would have it."""
        location = f"s3://{name}?endpoint=http://127.0.0.1:{self.port}&region={region}"
        environment = {"AWS_ACCESS_KEY_ID": ACCOUNT, "AWS_SECRET_ACCESS_KEY": ACCOUNT_SECRET, **keys}
        kept = {name: value for name, value in environment.items() if value}
        return Bucket("versitygw", location, self.port, self.folder, kept, region)

    async def keys(self) -> list[str]:
        """List what is in the bucket."""
        store: Store = self.owner
        return [info.key async for info in store.list("")]


@asynccontextmanager
async def gateway(folder: Path) -> AsyncIterator[Gateway]:
    """Run versitygw with accounts, make the bucket and the account; it may do nothing yet."""
    binary = program("versitygw")
    data, accounts, log = folder / "data", folder / "accounts", folder / "versitygw.log"
    data.mkdir()
    accounts.mkdir()
    (port,) = free_ports(1)
    environment = clean_environment(folder, {"ROOT_ACCESS_KEY": ACCESS_KEY, "ROOT_SECRET_KEY": SECRET_KEY})
    command = ("--port", f"127.0.0.1:{port}", "--health", "/health", "--quiet", "--iam-dir", str(accounts))
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *bound_to_us(binary, *command, "posix", str(data)),
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    endpoint = f"http://127.0.0.1:{port}"
    try:
        await answering(f"{endpoint}/health", process, log)
        admin = ("admin", "--access", ACCESS_KEY, "--secret", SECRET_KEY, "--endpoint-url", endpoint)
        user = ("create-user", "--access", ACCOUNT, "--secret", ACCOUNT_SECRET, "--role", "user")
        await run(binary, *admin, *user, environment=environment)
        owner = Credentials(ACCESS_KEY, SECRET_KEY)
        async with open_s3(BUCKET, region=REGION, endpoint=endpoint, credentials=owner) as store:
            await store._calls.call("CreateBucket")
            yield Gateway(port, folder, store)
    finally:
        await end(process, 10)
