"""What holds for every document: generated ones are decided for generated callers, and compared with their neighbours."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from math import inf
from typing import Any

import orjson
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edgeproxy.access.decisions import Caller, Claim, Denial, Grant, Identity, Reason
from edgeproxy.access.explain import explain
from edgeproxy.access.lint import lint
from edgeproxy.access.policy import Policy, load_policy
from edgeproxy.access.strangers import NOT_IDENTIFYING, STRANGERS
from edgeproxy.oci.names import Repository
from edgeproxy.oci.operations import Access, Action

Document = dict[str, Any]

ISSUERS = {
    "ci": {"url": "https://ci.example.com", "audiences": ["r"]},
    "staff": {"url": "https://staff.example.com", "audiences": ["r"]},
}
NAMES = ("a", "a/b", "a/b/c", "a/bc", "b", "b/a", "ab")
GLOBS = (*NAMES, "*", "**", "a/*", "a/**", "a*", "a/b*", "**/c", "*/b", "a**")
CLAIMS = ("c", "d", "e")
TEXTS = ("x", "y", "x/y", "x:y", "xy", "true", "1")
DATES = ("2020-01-01", "2027-01-01", "2030-01-01")
MOMENTS = (1_577_836_799.0, 1_577_836_800.0, 1_700_000_000.0, 1_798_761_600.0, 1_800_000_000.0, 1_893_456_000.0)

scalars: st.SearchStrategy[Any] = st.sampled_from([*TEXTS, 1, 1.5, True, False])
patterns = st.one_of(
    scalars,
    st.sampled_from([{"glob": text} for text in ("*", "**", "x*", "x/*", "*y")]),
    st.sampled_from([{"regex": text} for text in (".*", "x.?y", "(x|y)", "x|y", "xy?", "[a-z]+")]),
)
conditions = st.one_of(patterns, st.lists(patterns, min_size=1, max_size=3))
matches = st.dictionaries(st.sampled_from(CLAIMS), conditions, min_size=1, max_size=3)
allows = st.fixed_dictionaries(
    {
        "repositories": st.lists(st.sampled_from(GLOBS), min_size=1, max_size=2),
        "actions": st.lists(st.sampled_from(["pull", "push", "delete"]), min_size=1, max_size=2),
    }
)
public = allows.map(lambda allow: allow | {"actions": ["pull"]})


def rules(match: st.SearchStrategy[Any], issuers: Iterable[str]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries(
        {"issuer": st.sampled_from(list(issuers)), "match": match, "allow": st.lists(allows, min_size=1, max_size=2)},
        optional={
            "token_seconds": st.sampled_from([60, 3600]),
            "expires": st.sampled_from(DATES),
            "mode": st.sampled_from(["audit", "enforce"]),
            "deliver": st.sampled_from(["proxy", "redirect"]),
        },
    )


denials = allows.flatmap(
    lambda allow: st.fixed_dictionaries(
        {"repositories": st.just(allow["repositories"]), "actions": st.just(allow["actions"])},
        optional={"issuer": st.sampled_from(list(ISSUERS)), "match": matches},
    )
)


def named(entries: list[Document], prefix: str) -> list[Document]:
    return [entry | {"name": f"{prefix}{index}"} for index, entry in enumerate(entries)]


documents = st.builds(
    lambda rules, deny, public, hide: {
        "version": 1, "issuers": ISSUERS, "rules": named(rules, "r"), "deny": named(deny, "d"), "public": public, "hide": hide,
    },
    st.lists(rules(matches, ISSUERS), max_size=6), st.lists(denials, max_size=2), st.lists(public, max_size=1), st.lists(st.sampled_from(GLOBS), max_size=1),
)  # fmt: skip
values: st.SearchStrategy[Claim] = st.one_of(scalars, st.lists(scalars, max_size=3), st.none(), st.just(""))
callers: st.SearchStrategy[Caller] = st.one_of(
    st.none(),
    st.builds(
        Identity,
        st.sampled_from([*ISSUERS, "gone"]),
        st.just("subject"),
        st.dictionaries(st.sampled_from(CLAIMS), values, max_size=3),
        st.sampled_from([*MOMENTS, inf]),
    ),
)
accesses = st.builds(Access, st.sampled_from(NAMES).map(Repository.parse), st.sampled_from(list(Action)))
moments = st.sampled_from(MOMENTS)


def load(document: Document) -> Policy:
    return load_policy(orjson.dumps(document), source="p", loopback=False, now=0)


def allowed(policy: Policy, caller: Caller, access: Access, now: float) -> bool:
    return isinstance(policy.decide(caller, access, now), Grant)


@given(documents, denials, callers, accesses, moments)
def test_adding_a_denial_never_widens(
    document: Document, denial: Document, caller: Caller, access: Access, now: float
) -> None:
    more = document | {"deny": [*document["deny"], denial | {"name": "added"}]}

    assert allowed(load(document), caller, access, now) >= allowed(load(more), caller, access, now)


@given(documents, st.data(), callers, accesses, moments)
def test_removing_a_rule_never_widens(
    document: Document, data: st.DataObject, caller: Caller, access: Access, now: float
) -> None:
    assume(len(document["rules"]) > 0)
    removed = data.draw(st.sampled_from(document["rules"]))
    less = document | {"rules": [rule for rule in document["rules"] if rule is not removed]}

    assert allowed(load(document), caller, access, now) >= allowed(load(less), caller, access, now)


@given(documents, st.data(), callers, accesses, moments)
def test_the_order_of_a_document_does_not_matter(
    document: Document, data: st.DataObject, caller: Caller, access: Access, now: float
) -> None:
    shuffled = document | {name: data.draw(st.permutations(document[name])) for name in ("rules", "deny", "public")}

    assert load(document).decide(caller, access, now) == load(shuffled).decide(caller, access, now)


@settings(max_examples=400)
@given(documents, callers, accesses, moments)
def test_explain_agrees_with_decide(document: Document, caller: Caller, access: Access, now: float) -> None:
    policy = load(document)
    decision = policy.decide(caller, access, now)
    explanation = explain(policy, caller, access, now)
    by_verdict = {
        verdict: tuple(report.rule for report in explanation.rules if report.verdict == verdict)
        for verdict in ("allows", "audit", "outlived", "claim")
    }

    assert explanation.decision == decision
    if isinstance(decision, Grant):
        assert tuple(name for name in decision.rules if name != "public") == by_verdict["allows"]
        assert decision.audit_only == by_verdict["audit"]
    elif decision.reason is Reason.NO_RULE:
        assert by_verdict["allows"] == ()
        assert decision.audit_only == by_verdict["audit"]
        enforced = {rule.name for rule in policy.rules if rule.enforced}
        assert enforced.isdisjoint(by_verdict["outlived"])
        assert not set(by_verdict["claim"]) & enforced or decision.mismatch is not None
    elif decision.reason is Reason.EXPIRED:
        assert by_verdict["allows"] == ()
        assert decision.rule in by_verdict["outlived"]


@given(documents, callers, accesses, moments, moments)
def test_a_decision_holds_until_the_moment_it_names(
    document: Document, caller: Caller, access: Access, now: float, later: float
) -> None:
    policy = load(document)
    decision = policy.decide(caller, access, now)
    assume(now <= later < decision.until)
    again = policy.decide(caller, access, later)

    assert replace(decision, until=0) == replace(again, until=0)


@given(documents, callers, accesses, moments)
def test_a_denial_for_everyone_tells_anonymous_callers_no_rule_of_others(
    document: Document, caller: Caller, access: Access, now: float
) -> None:
    decision = load(document).decide(None, access, now)

    if isinstance(decision, Denial):
        everyone = {denial["name"] for denial in document["deny"] if "issuer" not in denial and "match" not in denial}
        assert decision.mismatch is None
        assert decision.rule in everyone | {""}
        assert (decision.reason is Reason.DENY_RULE) == (decision.rule != "")


# Strangers: who can get a token from the issuer, but is nobody that the policy knows.

PROVIDERS = {
    "github": {"url": "https://token.actions.githubusercontent.com", "audiences": ["r"]},
    "gitlab": {"url": "https://gitlab.com", "audiences": ["r"]},
    "staff": {"url": "https://staff.example.com", "audiences": ["r"]},
}
# What a stranger may choose: refs, events and environments freely, and any name, as names are free again some day.
CHOSEN = {
    "github": (
        "ref",
        "event_name",
        "environment",
        "repository",
        "repository_owner",
        "job_workflow_ref",
        "actor",
        "sub",
        "aud",
    ),
    "gitlab": ("ref", "ref_protected", "environment", "project_path", "namespace_path", "user_login", "sub", "aud"),
    "staff": ("email_verified", "acr", "aud", "azp"),
}
FIXED = {
    "github": ("repository_id", "repository_owner_id"),
    "gitlab": ("project_id", "namespace_id"),
    "staff": ("sub", "groups", "email"),
}
NUMBERED = "repo:acme@42/app@81:ref:refs/heads/main"
wanted = st.one_of(
    st.sampled_from([NUMBERED, "main", "81", "acme", "acme/app", "repo:acme/app:ref:refs/heads/main", True, 81]),
    st.sampled_from([{"glob": glob} for glob in ("*", "**", "8*", "acme/*", "repo:acme/*:*", "*@example.com", "system:serviceaccount:*:*")]),
    st.sampled_from([{"regex": regex} for regex in (".*", ".+", "[0-9]+", "8[0-9]", "acme.*", "[a-z]+", "[^x]*")]),
)  # fmt: skip


@st.composite
def linted(draw: st.DrawFn) -> tuple[Document, str]:
    provider = draw(st.sampled_from(list(PROVIDERS)))
    claims = st.sampled_from([*CHOSEN[provider], *FIXED[provider]])
    match = st.dictionaries(claims, st.one_of(wanted, st.lists(wanted, min_size=1, max_size=2)), min_size=1, max_size=3)
    entries = draw(st.lists(rules(match, [provider]), min_size=1, max_size=2))
    return {"version": 1, "issuers": {provider: PROVIDERS[provider]}, "rules": named(entries, "r")}, provider


@settings(max_examples=400)
@given(linted(), st.sampled_from(STRANGERS), accesses, moments)
def test_a_document_without_findings_has_no_rule_that_a_stranger_satisfies(
    generated: tuple[Document, str], stranger: str, access: Access, now: float
) -> None:
    document, provider = generated
    # Every value that some rule wants of a claim that is a stranger's to choose; patterns are met by what they came from.
    chosen: dict[str, Claim] = {claim: answers(document, claim) for claim in CHOSEN[provider]}
    fixed: dict[str, Claim] = dict.fromkeys(FIXED[provider], stranger)
    if provider == "staff":
        assert set(CHOSEN[provider]) <= NOT_IDENTIFYING
    caller = Identity(provider, "stranger", chosen | fixed, inf)

    findings = {finding.code for finding in lint(orjson.dumps(document), source="p", now=now)}

    assert findings & {"EP001", "EP002"} or not allowed(load(document), caller, access, now)


def answers(document: Document, claim: str) -> list[Claim]:
    found: list[Claim] = ["main", "acme", "acme/app", "repo:acme/app:ref:refs/heads/main", "81", "8", "a@example.com"]
    for rule in document["rules"]:
        value = rule["match"].get(claim)
        found += [item for item in (value if isinstance(value, list) else [value]) if not isinstance(item, dict)]
    return [value for value in found if value != NUMBERED]  # the ids in it are not a stranger's to choose


@given(linted())
def test_a_rule_about_an_exact_id_has_no_finding_about_strangers(generated: tuple[Document, str]) -> None:
    document, provider = generated
    pinned = document | {
        "rules": [rule | {"match": rule["match"] | {FIXED[provider][0]: "81"}} for rule in document["rules"]]
    }

    assert {"EP001", "EP002"}.isdisjoint(finding.code for finding in lint(orjson.dumps(pinned), source="p", now=0))
