"""The bucket module, applied for real to an S3 server that knows no more of S3 than R2 does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests.running import ACCESS_KEY, SECRET_KEY, versitygw
from tests.terraform.applying import Cloud, apply, outputs, own_copy, provider_of
from tests.terraform.as_r2 import as_r2
from tests.terraform.conftest import Terraform

pytestmark = pytest.mark.timeout(600)

POLICY = "version: 1\npublic:\n  - {repositories: [a], actions: [pull]}\n"


def written(folder: Path, cloud: Cloud, **words: str) -> None:
    """Write a configuration that uses the module."""
    arguments = "\n".join(f"  {name} = {json.dumps(value)}" for name, value in words.items())
    folder.mkdir(exist_ok=True)
    (folder / "main.tf").write_text(
        provider_of(cloud, "elsewhere").replace("endpoints", "skip_credentials_validation = true\n  skip_requesting_account_id = true\n  endpoints")
        + f'module "bucket" {{\n  source = "../modules/bucket"\n  providers = {{ aws = aws.elsewhere }}\n{arguments}\n}}\n'
        + "".join(f'output "{name}" {{\n  value = module.bucket.{name}\n}}\n' for name in ("store", "arn", "lifecycle_command", "policy_key"))
    )  # fmt: skip


async def test_a_bucket_elsewhere_is_made_kept_and_never_destroyed_with_objects(
    terraform: Terraform, tmp_path: Path
) -> None:
    async with versitygw(tmp_path) as server, as_r2(server.port) as endpoint:
        cloud = Cloud(endpoint, ACCESS_KEY, SECRET_KEY, "us-east-1")
        mine = own_copy(terraform, tmp_path)
        folder = mine.tree / "applied"
        written(folder, cloud, name="acme-registry", store="other", endpoint=endpoint, prefix="prod", policy=POLICY)
        await apply(mine, folder)

        told = await outputs(mine, folder)
        assert told["store"] == f"s3://acme-registry/prod?endpoint={endpoint}&region=us-east-1"
        assert "arn" not in told
        assert (await cloud.read("acme-registry", "prod/config/policy.yaml")).decode() == POLICY

        # Terraform stops at the plan.
        refused = await mine(folder, "destroy", "-auto-approve", "-no-color", "-refresh=false", status=1)
        assert "prevent_destroy" in refused

        # Were it told to, the store would not.
        module = mine.tree / "modules" / "bucket" / "main.tf"
        module.write_text(module.read_text().replace("prevent_destroy = true", "prevent_destroy = false"))
        await cloud.ask("s3", "put_object", Bucket="acme-registry", Key="prod/blobs/sha256/aa", Body=b"kept")
        refused = await mine(folder, "destroy", "-auto-approve", "-no-color", status=1)
        assert "BucketNotEmpty" in refused
        assert await cloud.read("acme-registry", "prod/blobs/sha256/aa") == b"kept"

        # The accepting twin: an empty bucket goes.
        await cloud.ask("s3", "delete_object", Bucket="acme-registry", Key="prod/blobs/sha256/aa")
        await mine(folder, "destroy", "-auto-approve", "-no-color")
        with pytest.raises(ClientError, match="404"):
            await cloud.ask("s3", "head_bucket", Bucket="acme-registry")
