"""What modules are applied to: a copy of terraform/ of the test's own, an S3 server, a stand-in for the control plane of AWS."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession

from tests.programs import REQUIRED, bound_to_us, clean_environment
from tests.running import answering, end, free_ports
from tests.terraform import module_docs
from tests.terraform.conftest import Terraform

CLOUDS = module_docs.ROOT.parent / ".venv-clouds" / "bin" / "python"
REGION = "eu-central-1"

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Cloud:
    """An endpoint that speaks some of AWS, with the credential for it."""

    url: str
    access_key: str
    secret_key: str
    region: str

    @asynccontextmanager
    async def client(self, service: str) -> AsyncIterator[Any]:
        """Open a client of one service."""
        made = AioSession().create_client(
            service,
            endpoint_url=self.url,
            region_name=self.region,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=AioConfig(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
        )
        async with made as client:
            yield client

    async def ask(self, service: str, operation: str, **words: Any) -> Json:
        """Make one call."""
        async with self.client(service) as client:
            answer: Json = await getattr(client, operation)(**words)
            return answer

    async def read(self, bucket: str, key: str) -> bytes:
        """Read an object."""
        async with self.client("s3") as client:
            answer = await client.get_object(Bucket=bucket, Key=key)
            async with answer["Body"] as body:
                content: bytes = await body.read()
                return content


@asynccontextmanager
async def control_plane(folder: Path) -> AsyncIterator[Cloud]:
    """Run the stand-in for AWS."""
    if not CLOUDS.exists():
        text = "the environment .venv-clouds is not there: make clouds"
        if REQUIRED:
            pytest.fail(text, pytrace=False)
        pytest.skip(text)
    (port,) = free_ports(1)
    log = folder / "control-plane.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *bound_to_us(str(CLOUDS), str(Path(__file__).with_name("control_plane.py")), "-H", "127.0.0.1", "-p", str(port)),
            env=clean_environment(folder, {"MOTO_ACM_VALIDATION_WAIT": "1", "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )  # fmt: skip
    try:
        await answering(f"http://127.0.0.1:{port}/moto-api/", process, log)
        yield Cloud(f"http://127.0.0.1:{port}", "AKIDTESTS", "secret-of-the-tests", REGION)
    finally:
        await end(process, 10)


def own_copy(terraform: Terraform, folder: Path, cloud: Cloud | None = None) -> Terraform:
    """Copy the tree, so that a test may write into it; `cloud` is where the provider goes that is told of no other endpoint."""
    tree = folder / "terraform"
    shutil.copytree(module_docs.ROOT, tree, ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*"))
    goes_to = {"AWS_ENDPOINT_URL": cloud.url} if cloud is not None else {}
    environment = {**terraform.environment, "AWS_EC2_METADATA_DISABLED": "true", "AWS_MAX_ATTEMPTS": "3", **goes_to}
    return replace(terraform, tree=tree, environment=environment)


def provider_of(cloud: Cloud, alias: str = "") -> str:
    """Write the provider that goes to a cloud, to be read after the one of an example."""
    named = f'alias = "{alias}"\n  profile = null\n  ' if alias else ""
    return (
        f'provider "aws" {{\n  {named}region = "{cloud.region}"\n  access_key = "{cloud.access_key}"\n'
        f'  secret_key = "{cloud.secret_key}"\n  s3_use_path_style = true\n'
        + (f'  endpoints {{\n    s3 = "{cloud.url}"\n  }}\n' if alias else "")
        + "}\n"
    )


FORGOTTEN = {
    "aws_ecs_service": {"availability_zone_rebalancing", "health_check_grace_period_seconds"},
    "aws_vpc_security_group_egress_rule": {"description"},
    "aws_vpc_security_group_ingress_rule": {"description"},
}
"""What the stand-in for AWS takes and does not keep, so that a plan wants to write it again."""


async def apply(terraform: Terraform, folder: Path) -> None:
    """Apply, and hold that a second time would change nothing."""
    await terraform.ready(folder)
    await terraform(folder, "apply", "-auto-approve", "-input=false", "-no-color", seconds=400)
    assert await changes(terraform, folder) == {}


async def changes(terraform: Terraform, folder: Path) -> dict[str, set[str]]:
    """Plan, and give the attributes that an apply would change, by the address of their resource."""
    told = await terraform(folder, "plan", "-detailed-exitcode", "-input=false", "-no-color", "-out=again", status=None)
    if "No changes." in told:
        return {}
    assert "Plan:" in told, told
    found = {}
    for each in json.loads(await terraform(folder, "show", "-json", "again")).get("resource_changes", []):
        before, after = each["change"]["before"] or {}, each["change"]["after"] or {}
        differ = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
        if left := differ - FORGOTTEN.get(each["type"], set()):
            found[each["address"]] = left
    return found


async def outputs(terraform: Terraform, folder: Path) -> Json:
    """Read the outputs of what was applied."""
    told = json.loads(await terraform(folder, "output", "-json"))
    return {name: each["value"] for name, each in told.items()}


@dataclass(frozen=True, slots=True)
class Container:
    """The one container of a task definition as AWS has it, with its secrets resolved as ECS does."""

    command: list[str]
    environment: Mapping[str, str]
    stop_timeout: int


async def container_of(cloud: Cloud, family: str) -> Container:
    """Read back what was applied."""
    answer = await cloud.ask("ecs", "describe_task_definition", taskDefinition=family)
    (definition,) = answer["taskDefinition"]["containerDefinitions"]
    environment = {each["name"]: each["value"] for each in definition["environment"]}
    for each in definition["secrets"]:
        words: list[str] = each["valueFrom"].split(":")
        name, key = ":".join(words[:7]), "".join(words[7:8])
        value = (await cloud.ask("secretsmanager", "get_secret_value", SecretId=name))["SecretString"]
        environment[each["name"]] = json.loads(value)[key] if key else value
    return Container([*definition["entryPoint"], *definition["command"]], environment, definition["stopTimeout"])
