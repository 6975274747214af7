"""When one entry of a policy makes another one superfluous. Pure, and careful: "no" also where it cannot be told."""

from __future__ import annotations

from collections.abc import Iterable

from edgeproxy.access.matching import Condition, NameGlob
from edgeproxy.access.rules import Deny, Permission, Rule


def glob_covers(wide: NameGlob, narrow: NameGlob) -> bool:
    """Tell whether every name that `narrow` matches is matched by `wide`."""
    if wide.text == narrow.text:
        return True
    if narrow.is_literal:
        return wide.matches(narrow.text)
    start = wide.text.removesuffix("**")
    return wide.text.endswith("**") and "*" not in start and narrow.text.partition("*")[0].startswith(start)


def permissions_cover(wide: Iterable[Permission], narrow: Iterable[Permission]) -> bool:
    """Tell whether everything that `narrow` is about is something that `wide` is about."""
    wide = tuple(wide)
    return all(
        any(
            action in entry.actions and not entry.excepted and glob_covers(other, glob)
            for entry in wide
            for other in entry.repositories
        )
        for permission in narrow
        for glob in permission.repositories
        for action in permission.actions
    )


def conditions_cover(wide: tuple[Condition, ...], narrow: tuple[Condition, ...]) -> bool:
    """Tell whether every caller that meets `narrow` meets `wide`."""
    by_claim = {condition.claim: condition for condition in narrow}
    return all(
        condition.claim in by_claim and _condition_covers(condition, by_claim[condition.claim]) for condition in wide
    )


def _condition_covers(wide: Condition, narrow: Condition) -> bool:
    values = all(wide.matched({wide.claim: value}) is not None for value in narrow.values)
    return values and set(narrow.patterns) <= set(wide.patterns)


def rule_covers(wide: Rule, narrow: Rule) -> bool:
    """Tell whether `narrow` could be removed and nothing would change."""
    return (
        wide.enforced
        and wide.issuer == narrow.issuer
        and wide.expires >= narrow.expires
        and (wide.token_seconds or 0) >= (narrow.token_seconds or 0)
        and (narrow.deliver is None or wide.deliver in (narrow.deliver, "proxy"))
        and conditions_cover(wide.conditions, narrow.conditions)
        and permissions_cover(wide.allow, narrow.allow)
    )


def denial_hides(denial: Deny, rule: Rule) -> bool:
    """Tell whether a denial refuses everything that a rule allows."""
    return (
        denial.issuer in (None, rule.issuer)
        and conditions_cover(denial.conditions, rule.conditions)
        and permissions_cover((denial.permission,), rule.allow)
    )
