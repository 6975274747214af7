"""Tokens of GitHub Actions, GitLab CI and Kubernetes in their documented shapes, shown to a running registry with typed rules.

Each refusal stands one claim away from what is allowed.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from tests.issuer import GITHUB, GITLAB, KUBERNETES, Key, LocalIssuer
from tests.running import Registry, serving
from tests.signing_in import can, refusal

POLICY = """\
version: 1
issuers:
  github: {{url: "{github}", audiences: [registry.example]}}
  gitlab: {{url: "{gitlab}", audiences: [registry.example]}}
  cluster: {{url: "{cluster}", audiences: [registry.example], max_token_age: 1h}}
rules:
  - name: main-branch-pushes
    issuer: github
    github: {{repository_id: 74, owner_id: 65, ref: refs/heads/main, environment: prod, events: [push, workflow_dispatch]}}
    allow: [{{repositories: [octo/app], actions: [pull, push]}}]
    token_seconds: 3600
  - name: release-workflow-pushes
    issuer: github
    github:
      repository_id: "74"
      workflow_ref: {{glob: "octo-org/octo-repo/.github/workflows/release.yml@refs/tags/*"}}
    allow: [{{repositories: [octo/releases], actions: [push]}}]
  - name: protected-branches-push
    issuer: gitlab
    gitlab: {{project_id: 20, namespace_id: 72, ref_protected: true}}
    allow: [{{repositories: [group/app], actions: [push]}}]
  - name: every-branch-pulls
    issuer: gitlab
    gitlab: {{project_id: [20, 21], ref: {{glob: "feature-*"}}}}
    allow: [{{repositories: [group/app], actions: [pull]}}]
  - name: production-pulls
    issuer: cluster
    kubernetes: {{namespace: prod, service_account: puller}}
    allow: [{{repositories: ["**"], actions: [pull]}}]
  - name: staging-pulls
    issuer: cluster
    kubernetes: {{namespace: {{glob: "staging-*"}}}}
    allow: [{{repositories: ["staging/**"], actions: [pull]}}]
"""


@dataclass(frozen=True, slots=True)
class Place:
    """A registry and the three issuers that it believes."""

    registry: Registry
    issuers: Mapping[str, LocalIssuer]

    def token(self, issuer: str, claims: Mapping[str, Any], **options: Any) -> str:
        now = time.time()
        return self.issuers[issuer].mint({"iat": now, "nbf": now, "exp": now + 300, **claims}, **options)

    async def can(self, issuer: str, claims: Mapping[str, Any], action: str, repository: str) -> bool:
        return await can(self.registry.url, self.token(issuer, claims), action, repository)


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    async with AsyncExitStack() as stack:
        issuers = {
            # As these providers sign: RS256, and a kid in each header.
            name: await stack.enter_async_context(LocalIssuer(keys=(Key.make(name, "RS256"),)).serving())
            for name in ("github", "gitlab", "cluster")
        }
        urls = {name: issuer.url for name, issuer in issuers.items()}
        registry = await stack.enter_async_context(serving("filesystem", policy=POLICY.format(**urls)))
        yield Place(registry, issuers)


async def test_a_github_job_pushes_whichever_form_its_sub_has(place: Place) -> None:
    for sub in ("repo:octo-org@65/octo-repo@74:environment:prod", "repo:octo-org/octo-repo:environment:prod"):
        claims = {**GITHUB, "sub": sub}
        assert await place.can("github", claims, "push", "octo/app")
        assert not await place.can("github", claims, "delete", "octo/app")
        assert not await place.can("github", claims, "push", "octo/other")


@pytest.mark.timeout(120)
async def test_a_github_job_that_differs_in_one_claim_does_not(place: Place) -> None:
    for differing in (
        {"repository_id": "75"},
        {"repository_id": 74},
        {"repository_owner_id": "66"},
        {"ref": "refs/heads/main2"},
        {"ref": "refs/heads/main\n"},
        {"environment": "staging"},
        {"event_name": "pull_request_target"},
    ):
        assert not await place.can("github", {**GITHUB, **differing}, "push", "octo/app"), differing
    without = {name: value for name, value in GITHUB.items() if name != "environment"}
    assert not await place.can("github", without, "push", "octo/app")


async def test_a_github_workflow_is_told_by_its_path_and_ref(place: Place) -> None:
    release = "octo-org/octo-repo/.github/workflows/release.yml@refs/tags/v1"
    assert await place.can("github", {**GITHUB, "workflow_ref": release}, "push", "octo/releases")
    for other in (
        release.replace("tags/v1", "heads/main"),
        release.replace("release.yml", "other.yml"),
        f"x/{release}",
    ):
        assert not await place.can("github", {**GITHUB, "workflow_ref": other}, "push", "octo/releases"), other


async def test_a_gitlab_job_pushes_from_protected_refs_only(place: Place) -> None:
    assert await place.can("gitlab", {**GITLAB, "ref_protected": "true"}, "push", "group/app")
    assert not await place.can("gitlab", GITLAB, "push", "group/app")
    assert not await place.can("gitlab", {**GITLAB, "ref_protected": True}, "push", "group/app")
    assert not await place.can("gitlab", {**GITLAB, "ref_protected": "true", "namespace_id": "73"}, "push", "group/app")


async def test_a_gitlab_job_pulls_from_its_branches(place: Place) -> None:
    assert await place.can("gitlab", GITLAB, "pull", "group/app")
    assert await place.can("gitlab", {**GITLAB, "project_id": "21"}, "pull", "group/app")
    assert not await place.can("gitlab", {**GITLAB, "project_id": "22"}, "pull", "group/app")
    assert not await place.can("gitlab", {**GITLAB, "ref": "main"}, "pull", "group/app")
    assert not await place.can("gitlab", {**GITLAB, "ref": "feature-a/b"}, "pull", "group/app")


async def test_a_kubernetes_workload_pulls_as_its_service_account(place: Place) -> None:
    assert await place.can("cluster", KUBERNETES, "pull", "any/app")
    assert not await place.can("cluster", KUBERNETES, "push", "any/app")
    for sub in (
        "system:serviceaccount:prod:other",
        "system:serviceaccount:prod2:puller",
        "system:serviceaccount:prod:puller:x",
        "x:system:serviceaccount:prod:puller",
        "system:node:prod:puller",
    ):
        assert not await place.can("cluster", {**KUBERNETES, "sub": sub}, "pull", "any/app"), sub


async def test_a_namespace_glob_takes_every_service_account_of_such_namespaces_and_no_more(place: Place) -> None:
    for sub, expected in (
        ("system:serviceaccount:staging-eu:default", True),
        ("system:serviceaccount:staging:default", False),
        ("system:serviceaccount:staging-eu:a:b", False),
    ):
        assert await place.can("cluster", {**KUBERNETES, "sub": sub}, "pull", "staging/app") is expected, sub


async def test_an_issuer_cannot_speak_for_another_one(place: Place) -> None:
    """The same claims, signed by somebody else who is believed too."""
    assert await place.can("github", GITHUB, "push", "octo/app")
    assert not await place.can("gitlab", GITHUB, "push", "octo/app")
    borrowed = place.token("gitlab", {**GITHUB, "iss": place.issuers["github"].url})
    assert "signed with a key that its issuer does not publish" in await refusal(place.registry.url, borrowed)


async def test_a_token_for_another_audience_or_out_of_its_time_is_refused_with_the_reason(place: Place) -> None:
    now = time.time()
    for claims, said in (
        ({**KUBERNETES, "aud": ["https://kubernetes.default.svc"]}, "audience"),
        ({**GITHUB, "aud": "https://github.com/octo-org"}, "audience"),
        ({**GITHUB, "iat": now - 600, "nbf": now - 600, "exp": now - 300}, "expired"),
        ({**KUBERNETES, "iat": now - 7200, "nbf": now - 7200}, "issued"),
    ):
        issuer = "cluster" if "kubernetes.io" in claims else "github"
        assert said in await refusal(place.registry.url, place.token(issuer, claims)), claims
    assert await place.can("cluster", {**KUBERNETES, "aud": ["other", "registry.example"]}, "pull", "any/app")
