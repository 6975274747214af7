from __future__ import annotations

import pytest

from edgeproxy.access.decisions import Claim, Grant, Identity
from edgeproxy.access.policy import Policy, load_policy
from edgeproxy.oci.names import Repository
from edgeproxy.oci.operations import Access, Action

PULL = Access(Repository.parse("acme/app"), Action.PULL)


def policy(form: str) -> Policy:
    text = f"""
version: 1
issuers: {{ci: {{url: "https://ci.example.com", audiences: [r]}}}}
rules:
  - {{name: a, issuer: ci, {form}, allow: [{{repositories: ["**"], actions: [pull]}}]}}
"""
    return load_policy(text.encode(), source="p", loopback=False, now=0)


def allowed(form: str, claims: dict[str, Claim]) -> bool:
    return isinstance(policy(form).decide(Identity("ci", "s", claims, 10), PULL, 0), Grant)


def became(form: str) -> list[tuple[str, str]]:
    return [(condition.claim, condition.wanted) for condition in policy(form).rules[0].conditions]


# A token of GitHub Actions in its documented shape, before and after `sub` carries ids.
GITHUB: dict[str, Claim] = {
    "jti": "c0ffee",
    "sub": "repo:acme/app:ref:refs/heads/main",
    "aud": "registry.example.com",
    "iss": "https://token.actions.githubusercontent.com",
    "ref": "refs/heads/main",
    "sha": "0123456789abcdef0123456789abcdef01234567",
    "repository": "acme/app",
    "repository_id": "81234567",
    "repository_owner": "acme",
    "repository_owner_id": "4242",
    "repository_visibility": "private",
    "run_id": "12345",
    "run_number": "10",
    "run_attempt": "1",
    "runner_environment": "github-hosted",
    "actor": "octocat",
    "actor_id": "12",
    "workflow": "release",
    "workflow_ref": "acme/app/.github/workflows/release.yml@refs/heads/main",
    "job_workflow_ref": "acme/app/.github/workflows/release.yml@refs/heads/main",
    "event_name": "push",
    "ref_type": "branch",
    "environment": "prod",
}
WITH_IDS = GITHUB | {"sub": "repo:acme@4242/app@81234567:ref:refs/heads/main"}


@pytest.mark.parametrize("token", [GITHUB, WITH_IDS], ids=["names in sub", "ids in sub"])
@pytest.mark.parametrize(
    ("yes", "no"),
    [
        ('repository_id: "81234567"', 'repository_id: "8123456"'),
        ("repository_id: 81234567", "repository_id: 81234568"),
        ("repository_id: [1, 81234567]", "repository_id: [1, 2]"),
        ("owner_id: 4242", "owner_id: 4243"),
        ("owner_id: 4242, ref: refs/heads/main", "owner_id: 4242, ref: refs/heads/mai"),
        ('owner_id: 4242, ref: {glob: "refs/heads/*"}', 'owner_id: 4242, ref: {glob: "refs/tags/*"}'),
        (
            'owner_id: 4242, workflow_ref: {glob: "acme/app/.github/workflows/release.yml@**"}',
            'owner_id: 4242, workflow_ref: {glob: "acme/app/.github/workflows/other.yml@**"}',
        ),
        ("owner_id: 4242, environment: prod", "owner_id: 4242, environment: dev"),
        ("owner_id: 4242, events: [push, release]", "owner_id: 4242, events: [release]"),
        ("owner_id: 4242, events: push", "owner_id: 4242, events: pull_request"),
    ],
)
def test_the_github_form_matches_tokens_of_both_shapes(token: dict[str, Claim], yes: str, no: str) -> None:
    assert allowed(f"github: {{{yes}}}", token)
    assert not allowed(f"github: {{{no}}}", token)


def test_the_github_form_shows_what_it_became() -> None:
    form = "github: {repository_id: 81, owner_id: [1, 2], ref: refs/heads/main, workflow_ref: w, environment: e, events: [push]}"

    assert became(form) == [
        ("repository_id", '"81"'),
        ("repository_owner_id", 'any of "1", "2"'),
        ("ref", '"refs/heads/main"'),
        ("workflow_ref", '"w"'),
        ("environment", '"e"'),
        ("event_name", '"push"'),
    ]
    assert policy(form).rules[0].form == "github"


GITLAB: dict[str, Claim] = {
    "sub": "project_path:acme/app:ref_type:branch:ref:main",
    "project_id": "22",
    "namespace_id": "72",
    "project_path": "acme/app",
    "ref": "main",
    "ref_type": "branch",
    "ref_protected": "true",
    "environment": "prod",
}


@pytest.mark.parametrize(
    ("yes", "no"),
    [
        ("project_id: 22", "project_id: 23"),
        ('namespace_id: "72"', 'namespace_id: "7"'),
        ("project_id: 22, ref: main", "project_id: 22, ref: maine"),
        ("project_id: 22, ref_protected: true", "project_id: 22, ref_protected: false"),
        ('project_id: 22, ref_protected: "true"', 'project_id: 22, ref_protected: "false"'),
        ("project_id: 22, environment: prod", "project_id: 22, environment: [dev, test]"),
    ],
)
def test_the_gitlab_form_matches_by_id(yes: str, no: str) -> None:
    assert allowed(f"gitlab: {{{yes}}}", GITLAB)
    assert not allowed(f"gitlab: {{{no}}}", GITLAB)


def test_the_gitlab_form_shows_what_it_became() -> None:
    assert became("gitlab: {project_id: 22, namespace_id: 72, ref: main, ref_protected: true, environment: e}") == [
        ("project_id", '"22"'),
        ("namespace_id", '"72"'),
        ("ref", '"main"'),
        ("ref_protected", '"true"'),
        ("environment", '"e"'),
    ]


KUBERNETES: dict[str, Claim] = {
    "sub": "system:serviceaccount:prod-a:puller",
    "aud": ["registry.example.com"],
    "kubernetes.io": {"namespace": "prod-a", "serviceaccount": {"name": "puller", "uid": "7f3a"}},
}


@pytest.mark.parametrize(
    ("yes", "no"),
    [
        ("namespace: prod-a", "namespace: prod"),
        ("namespace: prod-a, service_account: puller", "namespace: prod-a, service_account: pusher"),
        ("namespace: [dev, prod-a]", "namespace: [dev, prod]"),
        ('namespace: {glob: "prod-*"}', 'namespace: {glob: "dev-*"}'),
        ('namespace: {glob: "*"}, service_account: puller', 'namespace: {glob: "*"}, service_account: pull'),
        ('namespace: prod-a, service_account: {glob: "pull*"}', 'namespace: prod-a, service_account: {glob: "push*"}'),
    ],
)
def test_the_kubernetes_form_matches_the_service_account(yes: str, no: str) -> None:
    assert allowed(f"kubernetes: {{{yes}}}", KUBERNETES)
    assert not allowed(f"kubernetes: {{{no}}}", KUBERNETES)


def test_a_namespace_cannot_stretch_over_the_name_of_a_service_account() -> None:
    form = 'kubernetes: {namespace: {glob: "prod*"}, service_account: puller}'

    assert allowed(form, {"sub": "system:serviceaccount:prod:puller"})
    assert not allowed(form, {"sub": "system:serviceaccount:prod:evil:puller"})


def test_the_kubernetes_form_shows_what_it_became() -> None:
    assert became("kubernetes: {namespace: [a, b], service_account: x}") == [
        ("sub", 'any of "system:serviceaccount:a:x", "system:serviceaccount:b:x"')
    ]
    assert became("kubernetes: {namespace: a}") == [("sub", 'glob "system:serviceaccount:a:*"')]


def test_a_denial_takes_a_typed_form_too() -> None:
    text = b"""
version: 1
issuers: {ci: {url: "https://ci.example.com", audiences: [r]}}
deny: [{name: d, github: {owner_id: 4242}, repositories: ["**"], actions: [pull]}]
public: [{repositories: ["**"], actions: [pull]}]
"""
    denying = load_policy(text, source="p", loopback=False, now=0)

    assert not isinstance(denying.decide(Identity("ci", "s", GITHUB, 10), PULL, 0), Grant)
    assert isinstance(denying.decide(Identity("ci", "s", GITLAB, 10), PULL, 0), Grant)
