"""What a decision carries beside yes or no: delivery, claims, audited rules, and how much an explanation may cost."""

from __future__ import annotations

from typing import Any

import pytest

from edgeproxy.access.decisions import Caller, Decision, Denial, Grant, Identity, Reason
from edgeproxy.access.index import RuleIndex
from edgeproxy.access.policy import MAX_NEAR_RULES, Policy, load_policy
from edgeproxy.oci.names import Repository
from edgeproxy.oci.operations import Access, Action

NOW = 1_800_000_000.0


def policy(*rules: str, public: str = "") -> Policy:
    text = f"""
version: 1
issuers: {{main: {{url: "https://issuer.example", audiences: [a]}}}}
rules:
{"".join(f"  - {{{rule}}}{chr(10)}" for rule in rules)}
{public}
"""
    return load_policy(text.encode(), source="policy.yaml", loopback=False, now=NOW)


def rule(name: str, match: str, more: str = "", repositories: str = "acme/app") -> str:
    return f"name: {name}, issuer: main, match: {{{match}}}, allow: [{{repositories: [{repositories}], actions: [pull]}}]{more}"


def caller(ends: float = NOW + 60, **claims: Any) -> Identity:
    return Identity("main", "someone", claims, ends)


def decide(policy: Policy, who: Caller, name: str = "acme/app") -> Decision:
    return policy.decide(who, Access(Repository(name), Action.PULL), NOW)


@pytest.mark.parametrize(
    ("more", "delivery"), [("", None), (", deliver: redirect", "redirect"), (", deliver: proxy", "proxy")]
)
def test_a_rule_that_says_nothing_about_delivery_leaves_it_to_the_settings(more: str, delivery: str | None) -> None:
    decision = decide(policy(rule("r", "team: a", more)), caller(team="a"))
    assert isinstance(decision, Grant)
    assert decision.deliver == delivery


def test_what_is_public_is_granted_by_no_claim() -> None:
    public = 'public: [{repositories: ["**"], actions: [pull]}]'
    for who in (None, caller(team="x")):
        decision = decide(policy(rule("r", "team: a"), public=public), who)
        assert isinstance(decision, Grant)
        assert (decision.rule, decision.claims) == ("public", {})


def test_an_ended_token_does_not_hide_which_audited_rules_it_met() -> None:
    rules = rule("short", "team: a"), rule("tried", "team: a", ", mode: audit, token_seconds: 600")
    decision = decide(policy(*rules), caller(ends=NOW - 1, team="a"))
    assert isinstance(decision, Denial)
    assert (decision.reason, decision.audit_only) == (Reason.EXPIRED, ("tried",))


def test_the_rule_with_the_fewest_differences_is_the_nearest_of_those_that_meet_as_much() -> None:
    rules = rule("asks-for-much", "team: a, ref: x, env: y"), rule("b-asks-for-little", "team: a, ref: x")
    decision = decide(policy(*rules), caller(team="a"))
    assert isinstance(decision, Denial)
    assert decision.rule == "b-asks-for-little"


def test_an_explanation_compares_a_bounded_number_of_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []
    near = RuleIndex.near

    def counting(self: RuleIndex, *arguments: Any) -> Any:
        found = list(near(self, *arguments))
        compared.append(len(found))
        return found

    monkeypatch.setattr(RuleIndex, "near", counting)
    decision = decide(policy(*(rule(f"r{n}", f"team: t{n}") for n in range(3 * MAX_NEAR_RULES))), caller(team="x"))
    assert isinstance(decision, Denial)
    assert decision.mismatch is not None
    assert compared == [MAX_NEAR_RULES]
