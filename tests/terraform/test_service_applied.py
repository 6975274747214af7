"""The examples, applied for real: the service to a stand-in for the control plane of AWS, its bucket to an S3 server.

Then the task definition that was applied is read back, and its container's command runs here, with the environment and the secrets that ECS
would give it, against the applied bucket.
"""

from __future__ import annotations

import asyncio
import fnmatch
import json
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.images import digest_of
from tests.issuer import Key, LocalIssuer
from tests.programs import EDGEPROXY, bound_to_us, clean_environment, program, run
from tests.pushing import OCTETS, Client, Reply, client, manifest_of, with_digest
from tests.running import ACCESS_KEY, SECRET_KEY, answering, end, free_ports, versitygw
from tests.terraform.applying import (
    Cloud,
    Container,
    apply,
    container_of,
    control_plane,
    outputs,
    own_copy,
    provider_of,
)
from tests.terraform.conftest import Terraform

pytestmark = pytest.mark.timeout(900)

HOST = "registry.example.com"
BUCKET = "acme-registry"
POLICY_KEY = "config/policy.yaml"


def signing_key() -> str:
    """Make what the signing keys' secret holds."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def policy(issuer: LocalIssuer, repository: str = "acme/app") -> str:
    """Write a policy whose one rule lets tokens of one job push and pull; the issuer's keys are in it, so nothing is fetched."""
    return json.dumps(
        {
            "version": 1,
            "issuers": {
                "jobs": {
                    "url": issuer.url,
                    "audiences": [HOST],
                    "keys": {"inline": {"keys": [key.published() for key in issuer.keys]}},
                }
            },
            "rules": [
                {
                    "name": "job-pushes",
                    "issuer": "jobs",
                    "match": {"job": "release"},
                    "allow": [{"repositories": [repository], "actions": ["pull", "push"]}],
                    "token_seconds": 3600,
                }
            ],
        }
    )


def token(issuer: LocalIssuer, job: str = "release") -> str:
    now = time.time()
    return issuer.mint({"aud": HOST, "iat": now - 1, "exp": now + 600, "job": job})


class SignedIn(Client):
    """A client that shows a token to the registry, and to nobody else."""

    token = ""

    async def ask(
        self, method: str, path: str, *, data: Any = None, headers: dict[str, str] | None = None, follow: bool = False
    ) -> Reply:
        ours = {"Authorization": f"Bearer {self.token}"} if not path.startswith("http") and self.token else {}
        return await super().ask(method, path, data=data, headers={**ours, **(headers or {})}, follow=follow)


@asynccontextmanager
async def signed_in(url: str, shown: str) -> AsyncIterator[Client]:
    async with client(url, kind=SignedIn) as caller:
        assert isinstance(caller, SignedIn)
        caller.token = shown
        yield caller


def local(container: Container, folder: Path) -> dict[str, str]:
    """Give a container's environment as it is, but for the address: on this machine nobody else is to reach it."""
    environment = {**container.environment}
    assert environment["EDGEPROXY_BIND"].startswith("0.0.0.0:")
    environment["EDGEPROXY_BIND"] = environment["EDGEPROXY_BIND"].replace("0.0.0.0", "127.0.0.1")
    return clean_environment(folder, {"AWS_EC2_METADATA_DISABLED": "true", **environment})


def matching(patterns: Mapping[str, str], log: Path) -> list[str]:
    """Name the metric filters that match lines of a log, in its order, as CloudWatch reads such patterns."""
    found = []
    for line in log.read_text().splitlines():
        record = json.loads(line)
        for name, pattern in patterns.items():
            terms = re.findall(r'\$\.(\w+) = "([^"]*)"', pattern)
            assert len(terms) == pattern.count("$.") > 0
            if all(fnmatch.fnmatchcase(str(record.get(field)), wanted) for field, wanted in terms):
                found.append(name)
    return found


async def wait_for(log: Path, text: str) -> None:
    """Wait for a line of a log: a changed policy is looked for every two seconds."""
    for _ in range(600):
        if text in await asyncio.to_thread(log.read_text):
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"{text!r} is not in the log:\n{await asyncio.to_thread(log.read_text)}")


async def push_and_pull(url: str, issuer: LocalIssuer) -> None:
    """Push in two shapes, pull by redirects, and be refused one claim away."""
    config, layer = b"{}", b"a layer" * 100_000
    async with signed_in(url, token(issuer)) as caller:
        await caller.patch_put("acme/app", layer)
        await caller.post_put("acme/app", config)
        (await caller.push_manifest("acme/app", "v1", manifest_of(config, layer))).expect(201)
        _, blobs = await caller.whole("acme/app", "v1")
        assert set(blobs) == {digest_of(config), digest_of(layer)}
        (await caller.ask("POST", "/v2/acme/other/blobs/uploads/")).expect(403)
    async with signed_in(url, token(issuer, "test")) as caller:
        (await caller.ask("GET", "/v2/acme/app/manifests/v1")).expect(403)
    async with signed_in(url, "") as caller:
        (await caller.ask("GET", "/v2/")).expect(401)


async def drained(url: str, issuer: LocalIssuer, process: asyncio.subprocess.Process, stop_timeout: int) -> None:
    """Stop the process in the middle of a push, as ECS does: the push ends well, and the process before it would be killed."""
    parts, going, go_on = [b"first half, ", b"second half"], asyncio.Event(), asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield parts[0]
        going.set()
        await go_on.wait()
        yield parts[1]

    async with signed_in(url, token(issuer)) as caller:
        location = await caller.start("acme/app")
        target = with_digest(location, digest_of(b"".join(parts)))
        pushing = asyncio.create_task(caller.ask("PUT", target, data=body(), headers=OCTETS))
        await going.wait()
        await asyncio.sleep(2)  # let the first half arrive; nothing tells the client when it has
        process.terminate()
        await asyncio.sleep(0.5)
        go_on.set()
        (await pushing).expect(201)
    assert await asyncio.wait_for(process.wait(), stop_timeout) == 0


async def test_what_is_applied_on_fargate_serves_the_applied_bucket(terraform: Terraform, tmp_path: Path) -> None:
    issuer = LocalIssuer("https://jobs.example", (Key.make(),))
    (port,) = free_ports(1)
    async with versitygw(tmp_path) as server, control_plane(tmp_path) as cloud:
        store = Cloud(f"http://127.0.0.1:{server.port}", ACCESS_KEY, SECRET_KEY, "us-east-1")
        credential = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
        await cloud.ask("secretsmanager", "create_secret", Name="edgeproxy/store", SecretString=json.dumps(credential))
        await cloud.ask("secretsmanager", "create_secret", Name="edgeproxy/signing-keys", SecretString=signing_key())
        certificate = (await cloud.ask("acm", "request_certificate", DomainName=HOST))["CertificateArn"]
        mine = own_copy(terraform, tmp_path, cloud)
        folder = mine.tree / "examples" / "r2-fargate"
        (folder / "policy.yaml").write_text(policy(issuer))
        (folder / "override.tf").write_text(
            provider_of(cloud)
            + provider_of(store, "r2")
            + f'module "bucket" {{\n  store = "other"\n  account_id = null\n  endpoint = "{store.url}"\n}}\n'
            + f'module "registry" {{\n  certificate_arn = "{certificate}"\n  port = {port}\n  store_port = {server.port}\n}}\n'
        )
        await apply(mine, folder)

        container = await container_of(cloud, "edgeproxy")
        environment = local(container, tmp_path)
        assert container.command == ["edgeproxy", "serve"]
        assert SECRET_KEY not in (folder / "terraform.tfstate").read_text()
        assert "PRIVATE KEY" not in (folder / "terraform.tfstate").read_text()
        checked = await run(EDGEPROXY, "check", environment=environment)
        assert checked.count("ok ") == len(checked.splitlines()) > 10

        url, log = f"http://127.0.0.1:{port}", tmp_path / "log"
        with log.open("wb") as operator, (tmp_path / "audit").open("wb") as audit:
            process = await asyncio.create_subprocess_exec(
                *bound_to_us(EDGEPROXY, *container.command[1:]), env=environment, stdout=audit, stderr=operator, cwd=tmp_path
            )  # fmt: skip
        try:
            await answering(f"{url}/healthz", process, log)
            await push_and_pull(url, issuer)

            # A policy that is applied is in force; one that cannot be used begins the alarm, and the old one back ends it.
            (folder / "policy.yaml").write_text(policy(issuer, "acme/*"))
            await mine(folder, "apply", "-auto-approve", "-input=false", "-no-color", "-target=module.bucket")
            await wait_for(log, '"message":"policy ')
            async with signed_in(url, token(issuer)) as caller:
                await caller.post_only("acme/other", b"allowed now")
            good = await store.read(BUCKET, POLICY_KEY)
            await store.ask("s3", "put_object", Bucket=BUCKET, Key=POLICY_KEY, Body=b"version: 2\n")
            await wait_for(log, "the changed policy is not usable")
            await store.ask("s3", "put_object", Bucket=BUCKET, Key=POLICY_KEY, Body=good)
            await wait_for(log, "not usable")
            for _ in range(100):
                filters = await filters_of(cloud)
                if matching(filters, log)[-1] == "policy-mended":
                    break
                await asyncio.sleep(0.2)
            assert matching(filters, log) == ["policy-at-start", "policy-mended", "policy-broken", "policy-mended"]

            await drained(url, issuer, process, container.stop_timeout)
        finally:
            await end(process)
        assert (tmp_path / "audit").read_bytes().count(b'"event":"push"') >= 4


async def filters_of(cloud: Cloud) -> dict[str, str]:
    """Read the metric filters back."""
    answer = await cloud.ask("logs", "describe_metric_filters", logGroupName="/edgeproxy/edgeproxy")
    return {each["filterName"]: each["filterPattern"] for each in answer["metricFilters"]}


async def test_on_s3_the_bucket_is_guarded_and_the_role_is_exactly_what_the_program_needs(
    terraform: Terraform, tmp_path: Path
) -> None:
    async with control_plane(tmp_path) as cloud:
        await cloud.ask("secretsmanager", "create_secret", Name="edgeproxy/signing-keys", SecretString=signing_key())
        await cloud.ask("route53", "create_hosted_zone", Name="example.com", CallerReference="1")
        mine = own_copy(terraform, tmp_path, cloud)
        folder = mine.tree / "examples" / "s3-fargate"
        (folder / "override.tf").write_text(provider_of(cloud))
        await apply(mine, folder)

        assert (await outputs(mine, folder))["url"] == f"https://{HOST}"
        rules = (await cloud.ask("s3", "get_bucket_lifecycle_configuration", Bucket=BUCKET))["Rules"]
        found = {rule["Filter"]["Prefix"]: rule for rule in rules}
        assert found.keys() == {"", "uploads/"}
        assert found[""]["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}
        assert "Expiration" not in found[""]
        assert found["uploads/"]["Expiration"]["Days"] == 2
        blocked = (await cloud.ask("s3", "get_public_access_block", Bucket=BUCKET))["PublicAccessBlockConfiguration"]
        assert len(blocked) == 4
        assert all(blocked.values())

        held = await cloud.ask("iam", "get_role_policy", RoleName="edgeproxy-task", PolicyName="bucket")
        await is_enough_and_no_more(held["PolicyDocument"]["Statement"], tmp_path)

        refused = await mine(folder, "destroy", "-auto-approve", "-no-color", "-refresh=false", status=1)
        assert "prevent_destroy" in refused

        # As the example's README takes it down: everything goes but the bucket.
        with (folder / "override.tf").open("a") as override:
            override.write('module "registry" {\n  deletion_protection = false\n}\n')
        await mine(folder, "apply", "-auto-approve", "-input=false", "-no-color")
        await mine(folder, "state", "rm", "module.bucket")
        await mine(folder, "destroy", "-auto-approve", "-no-color")
        assert [role["RoleName"] for role in (await cloud.ask("iam", "list_roles"))["Roles"]] == []
        assert await cloud.read(BUCKET, POLICY_KEY)


async def is_enough_and_no_more(statements: list[dict[str, Any]], folder: Path) -> None:
    """Give an account of an S3 server these permissions: the program's own check passes, and fails as soon as one is taken away."""
    actions = [action for statement in statements for action in statement["Action"]]
    assert len(actions) == 5
    async with accounts(folder) as owner:

        async def checked(number: int, without: str) -> tuple[str, int]:
            bucket = f"bucket-{number}"
            allowed = [
                {
                    **statement,
                    "Principal": ["service"],
                    "Action": kept,
                    "Resource": [each.replace(BUCKET, bucket) for each in statement["Resource"]],
                }
                for statement in statements
                if (kept := [action for action in statement["Action"] if action != without])
            ]
            document = json.dumps({"Version": "2012-10-17", "Statement": allowed})
            await owner.ask("s3", "create_bucket", Bucket=bucket)
            await owner.ask("s3", "put_bucket_policy", Bucket=bucket, Policy=document)
            place = folder / bucket
            place.mkdir()
            (place / "key.pem").touch(mode=0o600)
            (place / "key.pem").write_text(signing_key())
            (place / "policy.yaml").write_text("version: 1\npublic:\n  - {repositories: [a], actions: [pull]}\n")
            environment = {
                "AWS_ACCESS_KEY_ID": "service",
                "AWS_SECRET_ACCESS_KEY": "secret-of-the-service",
                "EDGEPROXY_POLICY": str(place / "policy.yaml"),
                "EDGEPROXY_PUBLIC_URL": f"https://{HOST}",
                "EDGEPROXY_SIGNING_KEYS": str(place / "key.pem"),
                "EDGEPROXY_STORE": f"s3://{bucket}?endpoint={owner.url}&region={owner.region}",
            }
            told = await run(EDGEPROXY, "check", environment=clean_environment(place, environment), status=None)
            return without, told.count("PROBLEM")

        results = dict(await asyncio.gather(*(checked(number, each) for number, each in enumerate(["", *actions]))))
    assert results.pop("") == 0
    # Of parts that cannot be aborted a check need not speak: they only stay, and are paid for.
    assert {action for action, problems in results.items() if not problems} <= {"s3:AbortMultipartUpload"}


@asynccontextmanager
async def accounts(folder: Path) -> AsyncIterator[Cloud]:
    """Run an S3 server with an account that may do only what the policy of a bucket grants; give it as its owner sees it."""
    binary, log = program("versitygw"), folder / "accounts.log"
    for name in ("accounts", "objects"):
        (folder / name).mkdir()
    (port,) = free_ports(1)
    owner = Cloud(f"http://127.0.0.1:{port}", ACCESS_KEY, SECRET_KEY, "us-east-1")
    environment = clean_environment(folder, {"ROOT_ACCESS_KEY": ACCESS_KEY, "ROOT_SECRET_KEY": SECRET_KEY})
    listen = ("--port", f"127.0.0.1:{port}", "--health", "/health", "--quiet", "--iam-dir", str(folder / "accounts"))
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *bound_to_us(binary, *listen, "posix", str(folder / "objects")), env=environment, stdout=output, stderr=output
        )  # fmt: skip
    try:
        await answering(f"{owner.url}/health", process, log)
        admin = ("admin", "--access", ACCESS_KEY, "--secret", SECRET_KEY, "--endpoint-url", owner.url)
        user = ("create-user", "--access", "service", "--secret", "secret-of-the-service", "--role", "user")
        await run(binary, *admin, *user, environment=environment)
        yield owner
    finally:
        await end(process, 10)
