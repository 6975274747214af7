"""A policy that changes while a credential is looked at must not decide about what it does not know."""

from __future__ import annotations

from edgeproxy.access.credentials import ANONYMOUS, Authenticated
from edgeproxy.access.decisions import Identity
from edgeproxy.access.policy import Policy, load_policy


def policy(*, url: str = "https://ci.example", claim: str = "repository", denied: str = "") -> Policy:
    text = f"""
version: 1
issuers: {{ci: {{url: "{url}", audiences: [registry.example]}}}}
rules:
  - {{name: push, issuer: ci, match: {{{claim}: acme/app}}, allow: [{{repositories: ["acme/**"], actions: [push]}}]}}
{denied}
"""
    return load_policy(text.encode(), source="policy.yaml", loopback=False, now=0.0)


def caller(found_under: Policy) -> Authenticated:
    identity = Identity("ci", "job", {"repository": "acme/app"}, ends=1000.0)
    return Authenticated(
        identity,
        None,
        b"hash",
        presented=True,
        names=found_under.claims_of("ci"),
        issuer_url=found_under.issuers["ci"].url,
    )


def test_the_policy_that_found_a_caller_may_decide_about_it() -> None:
    assert caller(policy()).is_known_to(policy())


def test_a_policy_that_refers_to_another_claim_may_not() -> None:
    deny = 'deny: [{name: no-forks, issuer: ci, match: {fork: true}, repositories: ["**"], actions: [push]}]'

    assert not caller(policy()).is_known_to(policy(denied=deny))


def test_a_policy_that_gives_the_name_to_another_issuer_may_not() -> None:
    assert not caller(policy()).is_known_to(policy(url="https://other.example"))


def test_any_policy_may_decide_about_anonymous_callers() -> None:
    assert ANONYMOUS.is_known_to(policy(url="https://other.example"))
