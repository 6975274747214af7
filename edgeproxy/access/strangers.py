"""What a stranger can have in a token of each kind of issuer, so what a rule must demand to be about someone. Pure.

At an issuer that serves everyone (GitHub, GitLab) a stranger chooses every claim but the numeric ids: names are free
for whoever registers them next. Elsewhere a stranger is anyone with an account there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, Literal
from urllib.parse import urlsplit

from edgeproxy.access.matching import Condition
from edgeproxy.access.rules import Issuer, Rule

Kind = Literal["github", "gitlab", "ci", "other"]

NOT_IDENTIFYING: Final = frozenset(
    (
        "iss",
        "aud",
        "exp",
        "nbf",
        "iat",
        "jti",
        "auth_time",
        "nonce",
        "typ",
        "azp",
        "scope",
        "acr",
        "amr",
        "at_hash",
        "sid",
        "session_state",
        "email_verified",
        "ref",
        "ref_type",
        "ref_path",
        "ref_protected",
        "base_ref",
        "head_ref",
        "sha",
        "workflow",
        "workflow_sha",
        "job_workflow_sha",
        "actor",
        "event_name",
        "environment",
        "environment_protected",
        "deployment_tier",
        "run_id",
        "run_number",
        "run_attempt",
        "runner_environment",
        "repository_visibility",
        "project_visibility",
        "pipeline_source",
        "pipeline_id",
        "job_id",
        "build_branch",
        "check_run_id",
    )
)
"""Claims that say when, where or how a token was made, but not whose it is."""

IDS: Final = {
    "github": ("repository_id", "repository_owner_id", "enterprise_id"),
    "gitlab": ("project_id", "namespace_id", "user_id"),
}
NAMES: Final = {
    "github": ("repository", "repository_owner", "workflow_ref", "job_workflow_ref", "enterprise", "sub"),
    "gitlab": ("project_path", "namespace_path", "user_login", "user_email", "ci_config_ref_uri", "sub"),
}
PULL_REQUEST_EVENTS: Final = (
    "pull_request",
    "pull_request_target",
    "pull_request_review",
    "pull_request_review_comment",
    "pull_request_comment",
)

STRANGERS: Final = (
    "stranger",
    "0",
    "99999999999",
    "stranger/stranger",
    "stranger@example.com",
    "repo:stranger/app:ref:refs/heads/main",
    "repo:stranger@99999999999/app@99999999998:ref:refs/heads/main",
    "project_path:stranger/app:ref_type:branch:ref:main",
    "system:serviceaccount:stranger:default",
    "spiffe://stranger.example/app",
    "https://stranger.example/a/b?c",
    "7f3a1c9e-0000-4000-8000-5d6e7f8a9b0c",
)
"""Values that an identifying claim of a stranger could have; a pattern that takes one of them identifies nobody."""

_NUMBERED_SUBJECT: Final = re.compile(r"repo:[^/*@:]+@[0-9]+/")
_CI_HOSTS: Final = ("agent.buildkite.com", "oidc.circleci.com", "api.bitbucket.org")


def kind_of(issuer: Issuer, rules: Iterable[Rule]) -> Kind:
    """Tell what kind of issuer this is, by its URL or by how its rules are written."""
    parts = urlsplit(issuer.url)
    forms = {rule.form for rule in rules}
    claims = {condition.claim for rule in rules for condition in rule.conditions}
    if parts.hostname == "token.actions.githubusercontent.com" or parts.path.endswith("/_services/token"):
        return "github"
    if "github" in forms or claims & {"repository_id", "repository_owner_id", "job_workflow_ref"}:
        return "github"
    if parts.hostname == "gitlab.com" or "gitlab" in forms or claims & {"project_id", "namespace_id", "project_path"}:
        return "gitlab"
    return "ci" if parts.hostname in _CI_HOSTS else "other"


def identifies(condition: Condition, kind: Kind) -> bool:
    """Tell whether no stranger can meet this condition."""
    if kind in IDS:
        return (
            _is_exact_text(condition)
            if condition.claim in IDS[kind]
            else condition.claim == "sub" and kind == "github" and _is_numbered(condition)
        )
    return names_someone(condition)


def names_someone(condition: Condition) -> bool:
    """Tell whether this condition is about a name or id at all, however easily taken over."""
    if condition.claim in NOT_IDENTIFYING or any(isinstance(value, bool) for value in condition.values):
        return False
    return not any(pattern.matches(stranger) for pattern in condition.patterns for stranger in STRANGERS)


def _is_exact_text(condition: Condition) -> bool:
    return not condition.patterns and all(isinstance(value, str) for value in condition.values)


def _is_numbered(condition: Condition) -> bool:
    """Every alternative of a GitHub `sub` is of the form with ids, and fixes the owner's."""
    texts = [pattern.text for pattern in condition.patterns if pattern.kind == "glob"] + list(condition.values)
    complete = len(texts) == len(condition.patterns) + len(condition.values)
    return complete and all(isinstance(text, str) and _NUMBERED_SUBJECT.match(text) for text in texts)
