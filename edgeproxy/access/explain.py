"""Why a policy decides as it does, rule by rule, for those who write it: `edgeproxy policy explain` and `test`. Pure.

Every rule is looked at in plain order here, without the index that makes `Policy.decide` fast.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Any, Literal

from edgeproxy.access.decisions import Caller, Claim, Decision, Grant, Identity, Reason
from edgeproxy.access.matching import shown
from edgeproxy.access.policy import Policy
from edgeproxy.access.rules import Expectation, Rule
from edgeproxy.oci.operations import Access

Verdict = Literal["allows", "audit", "expired", "outlived", "claim", "repository", "action", "issuer"]
"""What became of a rule: it allows; it would, but is in `mode: audit`; its `expires` has passed; the token shown has
ended; or the first thing in which it differs."""


@dataclass(frozen=True, slots=True)
class RuleReport:
    """What one rule says to one access. `detail` says what was got and wanted where something differs."""

    rule: str
    verdict: Verdict
    detail: str
    conditions: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision with everything that led to it; `str` is for people, `as_json` for programs."""

    caller: Caller
    access: Access
    decision: Decision
    rules: tuple[RuleReport, ...]

    @property
    def allowed(self) -> bool:
        """The access is allowed."""
        return isinstance(self.decision, Grant)

    def __str__(self) -> str:
        return "\n".join(_lines(self))

    def as_json(self) -> dict[str, Any]:
        """Give the same as plain values."""
        decision = self.decision
        plain: dict[str, Any] = {
            "allowed": self.allowed,
            "repository": self.access.repository.name,
            "action": self.access.action.value,
            "rule": decision.rule,
            "audit_only": list(decision.audit_only),
            "until": None if decision.until == inf else decision.until,
        }
        if isinstance(decision, Grant):
            plain |= {"rules": list(decision.rules), "claims": dict(decision.claims)}
        else:
            nearest = decision.mismatch
            plain |= {"reason": decision.reason.value, "hidden": decision.hidden}
            if nearest is not None:
                plain["nearest"] = {
                    "rule": nearest.rule, "claim": nearest.claim, "got": nearest.got, "wanted": nearest.wanted,
                }  # fmt: skip
        plain["considered"] = [
            {"rule": report.rule, "verdict": report.verdict, "detail": report.detail} for report in self.rules
        ]
        return plain


@dataclass(frozen=True, slots=True)
class TestResult:
    """One expectation of the document and what the policy decided."""

    __test__ = False

    expectation: Expectation
    explanation: Explanation

    @property
    def passed(self) -> bool:
        """The policy decided as expected."""
        return self.expectation.allowed == self.explanation.allowed


def explain(policy: Policy, caller: Caller, access: Access, now: float) -> Explanation:
    """Decide, and say what every rule has to do with it."""
    reports = tuple(_report(rule, caller, access, now) for rule in policy.rules)
    return Explanation(caller, access, policy.decide(caller, access, now), reports)


def caller_of(issuer: str | None, claims: Mapping[str, Claim]) -> Caller:
    """Make the caller of an expectation or a question: as if a token with these claims had just been verified."""
    if issuer is None:
        return None
    subject = claims.get("sub")
    return Identity(issuer, subject if isinstance(subject, str) else "", claims, inf)


def run_tests(policy: Policy, now: float) -> tuple[TestResult, ...]:
    """Run the expectations of the document, in its order."""
    return tuple(
        TestResult(test, explain(policy, caller_of(test.issuer, test.claims), test.access, now))
        for test in policy.tests
    )


def _report(rule: Rule, caller: Caller, access: Access, now: float) -> RuleReport:
    conditions = ", ".join(f"{condition.claim}: {condition.wanted}" for condition in rule.conditions)
    verdict, detail = _verdict(rule, caller, access, now)
    return RuleReport(rule.name, verdict, detail, conditions if rule.form == "match" else f"{rule.form} = {conditions}")


def _verdict(rule: Rule, caller: Caller, access: Access, now: float) -> tuple[Verdict, str]:
    if caller is None or caller.issuer != rule.issuer:
        return "issuer", f"got {caller.issuer if caller else 'nobody'}, wanted {rule.issuer}"
    return _coverage(rule, access) or _difference(rule, caller) or _timeliness(rule, caller, now)


def _coverage(rule: Rule, access: Access) -> tuple[Verdict, str] | None:
    name = access.repository.name
    if not rule.concerns(name):
        return "repository", f"got {name}"
    if not any(permission.concerns(name) and access.action in permission.actions for permission in rule.allow):
        return "action", f"got {access.action.value}"
    return None


def _difference(rule: Rule, caller: Identity) -> tuple[Verdict, str] | None:
    for condition in rule.conditions:
        if condition.matched(caller.claims) is None:
            got = shown(caller.claims[condition.claim]) if condition.claim in caller.claims else "nothing"
            return "claim", f"{condition.claim}: got {got}, wanted {condition.wanted}"
    return None


def _timeliness(rule: Rule, caller: Identity, now: float) -> tuple[Verdict, str]:
    if now >= rule.expires:
        return "expired", "its `expires` has passed"
    if not rule.counts(caller, now):
        return "outlived", "the token that was shown has ended, and the rule has no token_seconds"
    return ("allows", "") if rule.enforced else ("audit", "mode: audit decides nothing")


def _lines(explanation: Explanation) -> list[str]:
    decision, access = explanation.decision, explanation.access
    asked = f"{access.action.value} {access.repository.name}"
    if isinstance(decision, Grant):
        lines = [f"allowed: {asked}", f"  rule: {', '.join(decision.rules)}"]
        lines += [f"  matched: {claim} = {shown(value)}" for claim, value in decision.claims.items()]
    else:
        lines = [f"denied: {asked}", f"  {_REASONS[decision.reason]}{': ' + decision.rule if decision.rule else ''}"]
        if decision.mismatch is not None:
            nearest = decision.mismatch
            lines.append(f"  first difference: {nearest.claim}: got {nearest.got}, wanted {nearest.wanted}")
        if decision.hidden:
            lines.append("  hidden: the caller is answered 404")
    lines += [f"  audit only: {name} matched and decided nothing" for name in decision.audit_only]
    lines += [
        f"  - {report.rule}: {report.verdict}{f' ({report.detail})' if report.detail else ''} [{report.conditions}]"
        for report in explanation.rules
        if report.verdict != "issuer"
    ]
    return lines


_REASONS = {
    Reason.NO_RULE: "no rule matches; nearest",
    Reason.DENY_RULE: "refused by denial",
    Reason.ANONYMOUS: "anonymous callers are given only what is public",
    Reason.EXPIRED: "the token that was shown has ended; a fresh one would match rule",
}
