"""The policies that `github-oidc` and `kubernetes-oidc` render, read by the program that enforces them: right claims are accepted, wrong ones refused."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.issuer import LocalIssuer
from tests.programs import EDGEPROXY, clean_environment
from tests.terraform.conftest import Terraform

pytestmark = pytest.mark.timeout(300)

HOST = "registry.example.com"
MAIN = """\
variable "github" { type = any }
variable "cluster" { type = any }
module "github" {
  source   = "../modules/github-oidc"
  audience = "registry.example.com"
  trusts   = var.github
}
module "cluster" {
  source   = "../modules/kubernetes-oidc"
  audience = "registry.example.com"
  url      = var.cluster.url
  keys     = { inline = var.cluster.keys, not_after = "2099-01-01" }
  trusts   = var.cluster.trusts
}
locals {
  parts = [module.github.policy, module.cluster.policy]
}
output "both" {
  value = yamlencode({
    version = 1
    issuers = merge(local.parts[*].issuers...)
    rules   = flatten(local.parts[*].rules)
    tests   = flatten(local.parts[*].tests)
  })
}
output "github" { value = module.github.policy_yaml }
output "cluster" { value = module.cluster.policy_yaml }
output "workflows" { value = module.github.workflows }
output "pods" { value = module.cluster.pods }
"""
GITHUB: list[dict[str, Any]] = [
    {
        "name": "main-pushes-app",
        "repository_id": "81234567",
        "owner_id": "99",
        "ref": "refs/heads/main",
        "push": ["acme/app", "acme/app/**"],
        "pull": ["acme/base"],
    },
    {"name": "releases-push", "repository_id": "81234567", "ref": "refs/tags/v*", "push": ["acme/released"]},
    {"name": "production", "repository_id": "81234568", "environment": "production", "push": ["acme/web"]},
]
CLUSTER: list[dict[str, Any]] = [
    {"name": "pulls", "namespace": "prod-*", "service_accounts": ["deployer", "mirror"], "pull": ["acme/**"], "deliver": "proxy"},
    {"name": "builds", "namespace": "build", "service_accounts": ["*"], "push": ["acme/built/*"]},
]  # fmt: skip
APP = {"repository_id": "81234567", "repository_owner_id": "99", "ref": "refs/heads/main"}
WEB = {"repository_id": "81234568", "environment": "production", "event_name": "push"}


@dataclass(frozen=True, slots=True)
class Rendered:
    """What Terraform gave."""

    folder: Path
    outputs: dict[str, Any]

    def policy(self, name: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `edgeproxy policy WORD FILE ...` on one of the documents."""
        document = self.folder / f"{name}.yaml"
        document.write_text(self.outputs[name])
        return subprocess.run(
            (EDGEPROXY, "policy", words[0], str(document), *words[1:]),
            env=clean_environment(self.folder), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip

    def allows(self, issuer: str, claims: dict[str, str], repository: str, action: str) -> bool:
        """Ask the merged document about a caller."""
        urls = {"github": "https://token.actions.githubusercontent.com", "cluster": "https://kubernetes.default.svc"}
        whole = json.dumps({"iss": urls[issuer], **claims})
        told = self.policy("both", "explain", repository, action, "--claims", whole)
        assert told.stdout.startswith(("allowed", "denied")), told
        return told.returncode == 0


@pytest.fixture
async def rendered(terraform: Terraform, tmp_path: Path) -> Rendered:
    folder = terraform.tree / "oidc-policies"
    folder.mkdir(exist_ok=True)
    (folder / "main.tf").write_text(MAIN)
    keys = json.dumps(LocalIssuer().document("/keys"))
    cluster = {"url": "https://kubernetes.default.svc", "keys": keys, "trusts": CLUSTER}
    (folder / "terraform.tfvars.json").write_text(json.dumps({"github": GITHUB, "cluster": cluster}))
    await terraform.ready(folder)
    await terraform(folder, "apply", "-auto-approve", "-input=false", "-no-color")
    outputs = json.loads(await terraform(folder, "output", "-json"))
    return Rendered(tmp_path, {name: output["value"] for name, output in outputs.items()})


async def test_each_document_is_safe_and_passes_its_own_tests(rendered: Rendered) -> None:
    for name, tests in (("github", 6), ("cluster", 4), ("both", 10)):
        found = rendered.policy(name, "lint")
        passed = rendered.policy(name, "test")

        assert (found.returncode, found.stdout) == (0, ""), name
        assert (passed.returncode, passed.stdout) == (0, f"{tests} passed, 0 failed\n"), name


async def test_github_right_claims_are_allowed_and_each_wrong_one_is_not(rendered: Rendered) -> None:
    def pushes(claims: dict[str, str], repository: str = "acme/app") -> bool:
        return rendered.allows("github", claims, repository, "push")

    assert pushes(APP)
    assert pushes(APP, "acme/app/web")
    assert not pushes({**APP, "repository_id": "81234568"})
    assert not pushes({**APP, "repository_owner_id": "98"})
    assert not pushes({**APP, "ref": "refs/heads/feature"})
    assert not pushes({name: APP[name] for name in ("repository_id", "repository_owner_id")})
    assert not pushes(APP, "acme/other")

    assert rendered.allows("github", APP, "acme/base", "pull")
    assert not pushes(APP, "acme/base")

    assert pushes({**APP, "ref": "refs/tags/v1.2"}, "acme/released")
    assert not pushes({**APP, "ref": "refs/tags/v1/x"}, "acme/released")
    assert not pushes({**APP, "ref": "refs/tags/x1"}, "acme/released")

    assert pushes(WEB, "acme/web")
    assert not pushes({**WEB, "event_name": "pull_request"}, "acme/web")
    assert not pushes({**WEB, "environment": "staging"}, "acme/web")


async def test_kubernetes_right_service_accounts_are_allowed_and_each_wrong_one_is_not(rendered: Rendered) -> None:
    def allows(account: str, repository: str = "acme/app", action: str = "pull") -> bool:
        return rendered.allows("cluster", {"sub": f"system:serviceaccount:{account}"}, repository, action)

    assert allows("prod-eu:deployer")
    assert allows("prod-eu:mirror")
    assert not allows("prod-eu:default")
    assert not allows("test:deployer")
    assert not allows("prod-eu:deployer", action="push")
    assert not allows("prod-eu:deployer", "other/app")

    assert allows("build:anyone", "acme/built/app", "push")
    assert not allows("build:anyone", "acme/app", "push")
    assert not allows("prod-eu:anyone", "acme/built/app", "push")


async def test_the_claims_of_one_issuer_mean_nothing_from_another(rendered: Rendered) -> None:
    assert rendered.allows("github", APP, "acme/app", "push")
    assert not rendered.allows("cluster", APP, "acme/app", "push")


async def test_a_workflow_asks_for_the_audience_and_pushes_where_it_may(rendered: Rendered) -> None:
    job = yaml.safe_load(rendered.outputs["workflows"]["production"])["jobs"]["push"]

    assert job["permissions"] == {"contents": "read", "id-token": "write"}
    assert job["environment"] == "production"
    assert f"audience={HOST}" in job["steps"][-1]["run"]
    assert f"docker push {HOST}/acme/web:" in job["steps"][-1]["run"]
    assert "environment" not in yaml.safe_load(rendered.outputs["workflows"]["main-pushes-app"])["jobs"]["push"]


async def test_a_pod_shows_a_token_for_the_audience(rendered: Rendered) -> None:
    pod = yaml.safe_load(rendered.outputs["pods"]["builds"])
    (source,) = pod["spec"]["volumes"][0]["projected"]["sources"]

    assert pod["metadata"]["namespace"] == "build"
    assert source["serviceAccountToken"] == {"audience": HOST, "path": "token", "expirationSeconds": 3600}
