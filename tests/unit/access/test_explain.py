from __future__ import annotations

import json

import pytest

from edgeproxy.access.decisions import Caller, Identity
from edgeproxy.access.explain import Explanation, caller_of, explain, run_tests
from edgeproxy.access.policy import Policy, load_policy
from edgeproxy.oci.names import Repository
from edgeproxy.oci.operations import Access, Action

NOW = 1_800_000_000.0
HEAD = """
version: 1
issuers: {ci: {url: "https://ci.example.com", audiences: [r]}, other: {url: "https://other.example.com", audiences: [r]}}
rules:
  - {name: push, issuer: ci, match: {id: "81", ref: main}, allow: [{repositories: [acme/app], actions: [push]}]}
  - {name: pull, issuer: ci, github: {repository_id: 81}, allow: [{repositories: [acme/app], actions: [pull]}], expires: 2020-01-01}
  - {name: trial, issuer: ci, match: {id: "81"}, allow: [{repositories: [acme/app], actions: [push]}], mode: audit}
  - {name: elsewhere, issuer: other, match: {id: "81"}, allow: [{repositories: [acme/app], actions: [push]}]}
deny: [{name: frozen, repositories: [acme/frozen], actions: [push]}]
hide: [acme/hidden]
public: [{repositories: [acme/public], actions: [pull]}]
"""  # fmt: skip


def load(more: str = "") -> Policy:
    return load_policy((HEAD + more).encode(), source="p", loopback=False, now=NOW)


def asked(caller: Caller, repository: str = "acme/app", action: str = "push") -> Explanation:
    return explain(load(), caller, Access(Repository.parse(repository), Action(action)), NOW)


JOB = Identity("ci", "s", {"id": "81", "ref": "main"}, NOW + 60)


def test_a_grant_is_explained_by_rule_and_claims() -> None:
    text = str(asked(JOB)).splitlines()

    assert text[:4] == ["allowed: push acme/app", "  rule: push", '  matched: id = "81"', '  matched: ref = "main"']
    assert "  audit only: trial matched and decided nothing" in text
    assert '  - push: allows [id: "81", ref: "main"]' in text


def test_a_refusal_is_explained_by_the_nearest_rule_and_its_first_difference() -> None:
    text = str(asked(Identity("ci", "s", {"id": "81", "ref": "mainly"}, NOW + 60))).splitlines()

    assert text[:3] == [
        "denied: push acme/app",
        "  no rule matches; nearest: push",
        '  first difference: ref: got "mainly", wanted "main"',
    ]


@pytest.mark.parametrize(
    ("caller", "repository", "action", "line"),
    [
        (JOB, "acme/frozen", "push", "  refused by denial: frozen"),
        (None, "acme/app", "pull", "  anonymous callers are given only what is public"),
        (None, "acme/hidden", "pull", "  hidden: the caller is answered 404"),
        (Identity("ci", "s", JOB.claims, NOW), "acme/app", "push", "  the token that was shown has ended; a fresh one would match rule: push"),
        (JOB, "acme/public", "pull", "  rule: public"),
        (Identity("ci", "s", {"repository_id": "81"}, NOW), "acme/app", "pull", '  - pull: expired (its `expires` has passed) [github = repository_id: "81"]'),
        (Identity("ci", "s", JOB.claims, NOW), "acme/app", "push", '  - push: outlived (the token that was shown has ended, and the rule has no token_seconds) [id: "81", ref: "main"]'),
        (JOB, "acme/app", "delete", '  - push: action (got delete) [id: "81", ref: "main"]'),
        (JOB, "acme/other", "pull", '  - pull: repository (got acme/other) [github = repository_id: "81"]'),
        (JOB, "acme/app", "pull", '  - pull: claim (repository_id: got nothing, wanted "81") [github = repository_id: "81"]'),
    ],
)  # fmt: skip
def test_every_way_to_decide_has_its_words(caller: Caller, repository: str, action: str, line: str) -> None:
    assert line in str(asked(caller, repository, action)).splitlines()


def test_rules_of_other_issuers_are_left_out_of_the_text() -> None:
    explanation = asked(JOB)

    assert "elsewhere" not in str(explanation)
    assert [(report.rule, report.verdict) for report in explanation.rules if report.rule == "elsewhere"] == [
        ("elsewhere", "issuer")
    ]
    assert {report.verdict for report in asked(None).rules} == {"issuer"}


def test_an_explanation_is_plain_json_too() -> None:
    granted = json.loads(json.dumps(asked(JOB).as_json()))
    refused = json.loads(json.dumps(asked(Identity("ci", "s", {"id": "81"}, NOW + 60)).as_json()))
    anonymous = json.loads(json.dumps(asked(None).as_json()))

    assert (granted["allowed"], granted["rules"], granted["claims"]) == (True, ["push"], {"id": "81", "ref": "main"})
    assert (granted["until"], granted["audit_only"]) == (NOW + 60, ["trial"])
    assert (refused["allowed"], refused["reason"]) == (False, "no_rule")
    assert refused["nearest"] == {"rule": "push", "claim": "ref", "got": "nothing", "wanted": '"main"'}
    assert (anonymous["reason"], anonymous["until"], "nearest" in anonymous) == ("anonymous", None, False)


def test_the_expectations_of_a_document_are_run() -> None:
    policy = load(
        "tests:\n"
        '  - {issuer: ci, claims: {id: "81", ref: main}, repository: acme/app, action: push, expect: allow}\n'
        '  - {issuer: ci, claims: {id: "81", ref: x}, repository: acme/app, action: push, expect: deny}\n'
        "  - {issuer: ci, claims: {id: 81, ref: main}, repository: acme/app, action: push, expect: allow}\n"
        "  - {repository: acme/public, action: pull, expect: allow}\n"
        "  - {repository: acme/public, action: pull, expect: deny}\n"
    )
    results = run_tests(policy, NOW)

    assert [result.passed for result in results] == [True, True, False, True, False]
    assert [result.expectation.line for result in results] == [13, 14, 15, 16, 17]
    assert 'id: got 81, wanted "81"' in str(results[2].explanation)


def test_a_caller_for_a_question_is_as_fresh_as_can_be() -> None:
    caller = caller_of("ci", {"sub": "me"})

    assert caller == Identity("ci", "me", {"sub": "me"}, float("inf"))
    assert caller_of(None, {}) is None
