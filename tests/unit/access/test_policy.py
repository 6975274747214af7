from __future__ import annotations

from math import inf

import pytest

from edgeproxy.access.decisions import Caller, Claim, Denial, Grant, Identity, Mismatch, Reason
from edgeproxy.access.policy import MAX_NEAR_RULES, Policy, load_policy
from edgeproxy.oci.names import Repository, Tag
from edgeproxy.oci.operations import Access, Action

NOW = 1_800_000_000.0
HEAD = """
version: 1
issuers:
  ci: {url: "https://ci.example.com", audiences: [r]}
  staff: {url: "https://staff.example.com", audiences: [r]}
"""
DOCUMENT = HEAD + """
rules:
  - {name: app-push, issuer: ci, match: {repository_id: "81", ref: refs/heads/main}, allow: [{repositories: [acme/app, "acme/app/**"], actions: [pull, push]}]}
  - {name: app-pull, issuer: ci, match: {repository_id: "81"}, allow: [{repositories: [acme/app], actions: [pull]}, {repositories: [acme/base], actions: [pull, catalog]}], token_seconds: 600, deliver: redirect}
  - {name: oncall, issuer: staff, match: {groups: [oncall, admins]}, allow: [{repositories: ["**"], actions: [pull, push, delete]}], deliver: proxy, token_seconds: 3600}
  - {name: temporary, issuer: ci, match: {repository_id: "82"}, allow: [{repositories: [acme/app], actions: [pull]}], expires: "2027-01-16T00:00:00Z"}
  - {name: trial, issuer: ci, match: {repository_id: "83"}, allow: [{repositories: [acme/app], actions: [pull]}], mode: audit}
deny:
  - {name: nobody-deletes, repositories: ["acme/releases/**"], actions: [delete]}
  - {name: no-forks, issuer: ci, match: {event_name: pull_request}, repositories: ["**"], actions: [push]}
  - {name: no-contractors, match: {type: contractor}, repositories: ["acme/secret/**"], actions: [pull, push]}
  - {name: no-ci-here, issuer: ci, repositories: ["staff/**", "public/staff/**"], actions: [pull]}
hide: ["acme/secret/**"]
public:
  - {repositories: ["public/**"], actions: [pull]}
tags:
  - {repositories: ["acme/**"], tags: ["v*", stable], immutable: true}
"""  # fmt: skip
EXPIRES = 1_800_057_600.0  # 2027-01-16T00:00:00Z


def load(text: str) -> Policy:
    return load_policy(text.encode(), source="p", loopback=False, now=NOW)


POLICY = load(DOCUMENT)


def access(repository: str, action: str = "pull") -> Access:
    return Access(Repository.parse(repository), Action(action))


def ci(ends: float = NOW + 300, /, **claims: Claim) -> Identity:
    return Identity("ci", "job", claims, ends)


def staff(ends: float = NOW + 300, /, **claims: Claim) -> Identity:
    return Identity("staff", "person", claims, ends)


MAIN: dict[str, Claim] = {"repository_id": "81", "ref": "refs/heads/main"}


@pytest.mark.parametrize(
    ("caller", "asked", "rule"),
    [
        (ci(**MAIN), access("acme/app", "push"), "app-push"),
        (ci(**MAIN), access("acme/app/web", "pull"), "app-push"),
        (ci(repository_id="81"), access("acme/app"), "app-pull"),
        (ci(repository_id="81"), access("acme/base", "catalog"), "app-pull"),
        (staff(groups=["all", "oncall"]), access("acme/app", "delete"), "oncall"),
        (staff(groups="admins"), access("any/thing", "push"), "oncall"),
        (ci(repository_id="82"), access("acme/app"), "temporary"),
        (None, access("public/app"), "public"),
        (ci(), access("public/a/b"), "public"),
        (Identity("gone", "s", {}, inf), access("public/app"), "public"),
    ],
)
def test_an_access_is_granted_by_its_rule(caller: Caller, asked: Access, rule: str) -> None:
    decision = POLICY.decide(caller, asked, NOW)

    assert isinstance(decision, Grant)
    assert decision.rule == rule


@pytest.mark.parametrize(
    ("caller", "asked", "reason", "rule"),
    [
        (ci(repository_id="81", ref="refs/heads/main-evil"), access("acme/app", "push"), Reason.NO_RULE, "app-push"),
        (ci(ref="refs/heads/main"), access("acme/app", "push"), Reason.NO_RULE, "app-push"),
        (ci(repository_id=81), access("acme/app"), Reason.NO_RULE, "app-pull"),
        (ci(**MAIN), access("acme/app", "delete"), Reason.NO_RULE, "app-push"),
        (ci(**MAIN), access("acme/application"), Reason.NO_RULE, "app-push"),
        (ci(groups=["oncall"]), access("acme/app", "delete"), Reason.NO_RULE, "app-pull"),
        (staff(groups=["on", "call"]), access("acme/app"), Reason.NO_RULE, "oncall"),
        (staff(**MAIN), access("acme/app"), Reason.NO_RULE, "oncall"),
        (Identity("gone", "s", dict(MAIN), inf), access("acme/app"), Reason.NO_RULE, ""),
        (None, access("acme/app"), Reason.ANONYMOUS, ""),
        (None, access("public/app", "push"), Reason.ANONYMOUS, ""),
        (None, access("public"), Reason.ANONYMOUS, ""),
        (None, access("acme/releases/a", "delete"), Reason.DENY_RULE, "nobody-deletes"),
        (staff(groups="oncall"), access("acme/releases/a", "delete"), Reason.DENY_RULE, "nobody-deletes"),
        (ci(**MAIN, event_name="pull_request"), access("acme/app", "push"), Reason.DENY_RULE, "no-forks"),
        (staff(groups="oncall", type="contractor"), access("acme/secret/x"), Reason.DENY_RULE, "no-contractors"),
        (ci(**MAIN), access("public/staff/x"), Reason.DENY_RULE, "no-ci-here"),
        (ci(repository_id="83"), access("acme/app"), Reason.NO_RULE, "app-pull"),
    ],
)  # fmt: skip
def test_an_access_is_denied_with_its_reason(caller: Caller, asked: Access, reason: Reason, rule: str) -> None:
    decision = POLICY.decide(caller, asked, NOW)

    assert isinstance(decision, Denial)
    assert (decision.reason, decision.rule) == (reason, rule)


def test_a_denial_holds_only_for_whom_it_is_about() -> None:
    assert isinstance(POLICY.decide(staff(groups="oncall"), access("acme/releases/a", "push"), NOW), Grant)
    assert isinstance(POLICY.decide(ci(**MAIN, event_name="push"), access("acme/app", "push"), NOW), Grant)
    assert isinstance(POLICY.decide(staff(groups="oncall", type="employee"), access("acme/secret/x"), NOW), Grant)
    assert isinstance(POLICY.decide(staff(), access("public/staff/x"), NOW), Grant)
    assert isinstance(POLICY.decide(None, access("public/staff/x"), NOW), Grant)


def test_matching_rules_add_up() -> None:
    decision = POLICY.decide(ci(**MAIN), access("acme/app"), NOW)

    assert isinstance(decision, Grant)
    assert decision.rules == ("app-pull", "app-push")
    assert decision.claims == MAIN
    assert (decision.deliver, decision.token_seconds, decision.until) == ("redirect", 600, NOW + 300)


def test_proxy_beats_redirect_and_the_longest_life_counts() -> None:
    rule = "- {{name: {0}, issuer: ci, match: {{a: b}}, allow: [{{repositories: [x], actions: [pull]}}], deliver: {1}, token_seconds: {2}}}\n"
    policy = load(HEAD + "rules:\n" + rule.format("a", "proxy", 60) + rule.format("b", "redirect", 3600))

    decision = policy.decide(ci(a="b"), access("x"), NOW)

    assert isinstance(decision, Grant)
    assert (decision.deliver, decision.token_seconds, decision.until) == ("proxy", 3600, inf)


def test_only_the_claims_that_matched_are_told() -> None:
    decision = POLICY.decide(staff(groups=["all", "admins"], email="a@example.com"), access("x"), NOW)

    assert isinstance(decision, Grant)
    assert decision.claims == {"groups": "admins"}


def test_an_expired_rule_matches_nothing() -> None:
    caller = ci(inf, repository_id="82")
    before = POLICY.decide(caller, access("acme/app"), EXPIRES - 1)
    after = POLICY.decide(caller, access("acme/app"), EXPIRES)

    assert isinstance(before, Grant)
    assert before.until == EXPIRES
    assert isinstance(after, Denial)
    assert after.mismatch == Mismatch("temporary", "expires", "a time after it", "a time before it")


def test_past_the_token_only_rules_with_token_seconds_match() -> None:
    caller = ci(NOW, **MAIN)
    pull = POLICY.decide(caller, access("acme/app"), NOW)
    push = POLICY.decide(caller, access("acme/app", "push"), NOW)

    assert isinstance(pull, Grant)
    assert (pull.rules, pull.until) == (("app-pull",), inf)
    assert push == Denial(Reason.EXPIRED, "app-push", None, hidden=False, until=inf)
    assert isinstance(POLICY.decide(ci(NOW + 1, **MAIN), access("acme/app", "push"), NOW), Grant)
    assert isinstance(POLICY.decide(caller, access("public/app"), NOW), Grant)


def test_past_the_token_whoever_never_matched_is_told_so() -> None:
    decision = POLICY.decide(ci(NOW, repository_id="9"), access("acme/app", "push"), NOW)

    assert isinstance(decision, Denial)
    assert decision.reason is Reason.NO_RULE


def test_an_audit_rule_decides_nothing_and_is_told() -> None:
    denied = POLICY.decide(ci(repository_id="83"), access("acme/app"), NOW)
    other = POLICY.decide(ci(repository_id="84"), access("acme/app"), NOW)

    assert isinstance(denied, Denial)
    assert (denied.audit_only, other.audit_only) == (("trial",), ())
    assert denied.until == NOW + 300


@pytest.mark.parametrize(
    ("caller", "asked", "mismatch"),
    [
        (ci(repository_id="81", ref="x"), access("acme/app", "push"), Mismatch("app-push", "ref", '"x"', '"refs/heads/main"')),
        (ci(repository_id="81"), access("acme/app", "push"), Mismatch("app-push", "ref", "nothing", '"refs/heads/main"')),
        (ci(ref="refs/heads/main"), access("acme/app", "push"), Mismatch("app-push", "repository_id", "nothing", '"81"')),
        (ci(repository_id=81), access("acme/app", "push"), Mismatch("app-push", "repository_id", "81", '"81"')),
        (ci(**MAIN), access("acme/app/web", "delete"), Mismatch("app-push", "action", "delete", "pull, push")),
        (ci(**MAIN), access("acme/other", "push"), Mismatch("app-push", "repository", "acme/other", "acme/app, acme/app/**")),
        (staff(groups=["a"]), access("x"), Mismatch("oncall", "groups", '["a"]', 'any of "oncall", "admins"')),
    ],
)  # fmt: skip
def test_the_nearest_rule_is_explained_by_its_first_difference(
    caller: Identity, asked: Access, mismatch: Mismatch
) -> None:
    decision = POLICY.decide(caller, asked, NOW)

    assert isinstance(decision, Denial)
    assert decision.mismatch == mismatch


def test_among_many_rules_the_one_whose_claim_the_caller_has_is_compared_first() -> None:
    rule = '- {{name: r{0:03}, issuer: ci, match: {{repository_id: "{0}", ref: main}}, allow: [{{repositories: ["**"], actions: [push]}}]}}\n'
    policy = load(HEAD + "rules:\n" + "".join(rule.format(n) for n in range(10 * MAX_NEAR_RULES)))

    decision = policy.decide(ci(repository_id=str(9 * MAX_NEAR_RULES), ref="x"), access("a", "push"), NOW)

    assert isinstance(decision, Denial)
    assert decision.rule == f"r{9 * MAX_NEAR_RULES}"


def test_refusals_under_hide_say_so() -> None:
    for caller in (None, ci(), staff(groups="oncall", type="contractor")):
        hidden, shown = (
            POLICY.decide(caller, access("acme/secret/x"), NOW),
            POLICY.decide(caller, access("acme/secret"), NOW),
        )
        assert isinstance(hidden, Denial)
        assert hidden.hidden
        assert not (isinstance(shown, Denial) and shown.hidden)


@pytest.mark.parametrize(
    ("repository", "tag", "immutable"),
    [("acme/app", "v1", True), ("acme/app", "stable", True), ("acme/app", "stable2", False), ("acme/app", "1v", False), ("acme", "v1", False), ("other/app", "v1", False)],
)  # fmt: skip
def test_tags_are_immutable_by_repository_and_name(repository: str, tag: str, immutable: bool) -> None:
    assert POLICY.immutable(Repository.parse(repository), Tag.parse(tag)) is immutable


def test_the_claims_that_decide_are_named_by_issuer() -> None:
    assert POLICY.claims_of("ci") == {"repository_id", "ref", "event_name", "type"}
    assert POLICY.claims_of("staff") == {"groups", "type"}
    assert POLICY.claims_of("gone") == frozenset()
    assert POLICY.claim_names == {"repository_id", "ref", "event_name", "type", "groups"}


@pytest.mark.parametrize(
    ("caller", "repositories", "seconds"),
    [
        (staff(groups="oncall"), [], 3600),
        (staff(groups="oncall"), ["a", "b"], 3600),
        (staff(groups="other"), [], None),
        (ci(**MAIN), [], 600),
        (ci(**MAIN), ["acme/base"], 600),
        (ci(**MAIN), ["acme/app/web"], None),
        (ci(**MAIN), ["acme/app/web", "acme/app"], 600),
        (ci(repository_id="82"), [], None),
        (ci(groups="oncall"), [], None),
    ],
)
def test_a_bearer_lives_as_long_as_the_rules_for_what_it_is_asked_for_say(
    caller: Identity, repositories: list[str], seconds: int | None
) -> None:
    asked = [Repository.parse(name) for name in repositories]

    assert POLICY.token_seconds_for(caller, asked, NOW) == seconds


def test_neither_expired_nor_audited_rules_give_a_bearer_its_life() -> None:
    rule = "- {{name: a, issuer: ci, match: {{a: b}}, allow: [{{repositories: [x], actions: [pull]}}], token_seconds: 90, {0}}}"

    assert load(HEAD + "rules:\n" + rule.format("mode: enforce")).token_seconds_for(ci(a="b"), [], NOW) == 90
    assert load(HEAD + "rules:\n" + rule.format("mode: audit")).token_seconds_for(ci(a="b"), [], NOW) is None
    assert load(HEAD + "rules:\n" + rule.format("expires: 2020-01-01")).token_seconds_for(ci(a="b"), [], NOW) is None


def test_a_document_without_rules_grants_nothing() -> None:
    policy = load("version: 1")

    assert policy.decide(None, access("a"), NOW) == Denial(Reason.ANONYMOUS, "", None, hidden=False, until=inf)
    assert isinstance(policy.decide(ci(**MAIN), access("a"), NOW), Denial)


def test_a_policy_shows_no_values_of_the_document() -> None:
    assert "refs/heads/main" not in repr(POLICY)
    assert "81" not in repr(POLICY).replace(POLICY.version, "")


def test_of_several_denials_the_first_by_name_is_told() -> None:
    denial = "  - {{name: {0}, repositories: [x], actions: [pull]}}\n"
    policy = load(HEAD + "deny:\n" + denial.format("b") + denial.format("a"))

    assert policy.decide(None, access("x"), NOW) == Denial(Reason.DENY_RULE, "a", None, hidden=False, until=inf)


def test_a_refusal_for_an_ended_token_holds_until_the_first_of_its_rules_expires() -> None:
    rule = "  - {{name: {0}, issuer: ci, match: {{a: b}}, allow: [{{repositories: [x], actions: [pull]}}], expires: {1}}}\n"
    policy = load(HEAD + "rules:\n" + rule.format("b", "2030-01-01") + rule.format("a", "2031-01-01"))

    assert policy.decide(ci(NOW, a="b"), access("x"), NOW) == Denial(
        Reason.EXPIRED, "a", None, hidden=False, until=1_893_456_000.0
    )


def test_the_longest_life_counts_and_ends_with_its_rule() -> None:
    rule = "  - {{name: {0}, issuer: ci, match: {{a: b}}, allow: [{{repositories: [x], actions: [pull]}}], token_seconds: {1}{2}}}\n"
    policy = load(
        HEAD + "rules:\n" + rule.format("a", 60, "") + rule.format("b", 3600, ', expires: "2027-01-16T00:00:00Z"')
    )

    assert policy.token_seconds_for(ci(a="b"), [], EXPIRES - 1) == 3600
    assert policy.token_seconds_for(ci(a="b"), [], EXPIRES) == 60
