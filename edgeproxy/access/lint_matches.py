"""The checks of the linter that ask whom a rule is about: EP001 to EP006. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from edgeproxy.access.findings import Finding, Linted
from edgeproxy.access.matching import Condition, TextPattern
from edgeproxy.access.rules import Issuer, Rule
from edgeproxy.access.strangers import IDS, NAMES, PULL_REQUEST_EVENTS, STRANGERS, identifies, names_someone
from edgeproxy.oci.operations import Action

WRITING: Final = frozenset((Action.PUSH, Action.DELETE))
"""Actions that change what others pull."""

_TEXT_CLAIMS: Final = frozenset(
    (
        "iss",
        "sub",
        "aud",
        "jti",
        "repository",
        "repository_id",
        "repository_owner",
        "repository_owner_id",
        "ref",
        "ref_type",
        "ref_protected",
        "workflow_ref",
        "job_workflow_ref",
        "environment",
        "event_name",
        "actor",
        "actor_id",
        "project_id",
        "project_path",
        "namespace_id",
        "namespace_path",
        "user_id",
        "environment_protected",
        "runner_environment",
        "enterprise_id",
    )
)
"""Claims whose tokens carry strings, also where they look like numbers or booleans."""


def _writes(rule: Rule) -> bool:
    return any(permission.actions & WRITING for permission in rule.allow)


def _identity(linted: Linted) -> Iterator[Finding]:
    for path, rule in linted.rules():
        kind = linted.kind(rule.issuer)
        if any(identifies(condition, kind) for condition in rule.conditions):
            continue
        if kind in NAMES and any(
            condition.claim in NAMES[kind] and names_someone(condition) for condition in rule.conditions
        ):
            yield linted.finding(
                "EP002", path,
                f"rule `{rule.name}` trusts names without a numeric id",
                "Whoever registers the name after a rename, a transfer or a deletion gets these rights.",
                f"add {' or '.join(IDS[kind][:2])} with the exact id, or use the `{kind}:` form",
            )  # fmt: skip
            continue
        yield linted.finding(
            "EP001", path,
            f"rule `{rule.name}` has no claim that identifies anyone beyond iss and aud",
            "Everyone who can get a token there, at a public issuer everyone on the internet, gets these rights.",
            f"match an exact {' or '.join(IDS[kind][:2])}" if kind in IDS else "match an exact sub, group or id",
        )  # fmt: skip


def _pull_requests(linted: Linted) -> Iterator[Finding]:
    for path, rule in linted.rules():
        if linted.kind(rule.issuer) == "github" and _writes(rule) and _accepts_pull_requests(rule):
            yield linted.finding(
                "EP003", path,
                f"rule `{rule.name}` lets runs of pull request events push or delete",
                "The author of a pull request runs code that nobody has reviewed, with these rights.",
                "name the events, `event_name: [push]` or `events: [push]` in the github form, or an exact `ref`",
            )  # fmt: skip


def _accepts_pull_requests(rule: Rule) -> bool:
    by_claim = {condition.claim: condition for condition in rule.conditions}
    events, ref, sub = by_claim.get("event_name"), by_claim.get("ref"), by_claim.get("sub")
    if events is not None:
        return any(events.matched({"event_name": event}) is not None for event in PULL_REQUEST_EVENTS)
    if ref is not None:
        return ref.matched({"ref": "refs/pull/1/merge"}) is not None
    if sub is not None and not sub.patterns:
        return any(str(value).endswith(":pull_request") for value in sub.values)
    return True


# An element that takes a separator, and may be repeated: a dot, a negated class without `/`, or a class of Perl's.
_CROSSING: Final = re.compile(r"(?:\.|\[\^[^\]/]*\]|\\[SDW])(?:[*+]|\{)")


def _patterns(linted: Linted) -> Iterator[Finding]:
    for path, rule in linted.rules():
        for condition in rule.conditions:
            where = linted.condition(path, condition.claim)
            for pattern in condition.patterns:
                if reach := _reach(pattern):
                    yield linted.finding(
                        "EP004", where,
                        f"rule `{rule.name}`: {pattern} on `{condition.claim}` matches {reach}",
                        "Whoever chooses one part of the value, such as a branch name, can write the others as well.",
                        "list exact values, or use a glob whose `*` stays within one part, or `[^/:]*`",
                    )  # fmt: skip
                if pattern.kind == "regex" and _has_free_alternatives(pattern.text):
                    yield linted.finding(
                        "EP005", where,
                        f"rule `{rule.name}`: {pattern} on `{condition.claim}` has alternatives outside a group",
                        "A reader may take the text beside `|` to hold for every alternative; it does not.",
                        "put the alternatives in a group, `refs/heads/(main|release)`, or list exact values",
                    )  # fmt: skip


def _reach(pattern: TextPattern) -> str:
    if 2 * sum(pattern.matches(stranger) for stranger in STRANGERS) >= len(STRANGERS):
        return "everything"
    crosses = "**" in pattern.text if pattern.kind == "glob" else _CROSSING.search(pattern.text) is not None
    return "across `/` and `:`" if crosses else ""


def _has_free_alternatives(regex: str) -> bool:
    plain = re.sub(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", "", regex)
    depth = 0
    for character in plain:
        depth += (character == "(") - (character == ")")
        if character == "|" and depth == 0:
            return True
    return False


def _dead(linted: Linted) -> Iterator[Finding]:
    for path, rule in linted.rules():
        for condition in rule.conditions:
            if reason := _never(condition, linted.policy.issuers[rule.issuer]):
                yield linted.finding(
                    "EP006", linted.condition(path, condition.claim),
                    f"rule `{rule.name}` matches no token: {reason}",
                    "Nobody gets what the rule promises.",
                    f"write `{condition.claim}` as the tokens have it, in quotes if it looks like a number or boolean",
                )  # fmt: skip


def _never(condition: Condition, issuer: Issuer) -> str:
    claim = condition.claim
    if claim in _TEXT_CLAIMS and not condition.patterns and not any(isinstance(v, str) for v in condition.values):
        return f"tokens carry `{claim}` as a string, and a number or boolean never equals one"
    if claim == "iss" and condition.matched({"iss": issuer.url}) is None:
        return f"`iss` can only be the URL of issuer `{issuer.name}`"
    if claim == "aud" and condition.matched({"aud": list(issuer.audiences)}) is None:
        return f"`aud` can only be an audience of issuer `{issuer.name}`"
    return ""


MATCH_CHECKS: Final = (_identity, _pull_requests, _patterns, _dead)
