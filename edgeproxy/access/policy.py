"""The policy: one document, compiled once, that decides every request. Pure.

How a decision is made:

1. A denial that covers the access and holds for the caller refuses it, whatever else is written.
2. A rule allows it if the caller comes from the rule's issuer, the rule covers the access, every claim of its match is
   met, and it has not expired. Past the end of the token that was shown, only rules with `token_seconds` count. The
   rules that match add up.
3. `public` allows it to everyone.
4. Nothing else does.

The order of a document decides nothing: rules and denials are taken by name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Final

from edgeproxy.access import compilation
from edgeproxy.access.compilation import Files
from edgeproxy.access.decisions import Caller, Decision, Denial, Grant, Identity, Mismatch, Reason
from edgeproxy.access.document import PUBLIC
from edgeproxy.access.index import GlobIndex, RuleIndex
from edgeproxy.access.matching import NameGlob, Scalar, shown
from edgeproxy.access.parsing import parse
from edgeproxy.access.rules import Deny, Expectation, ImmutableTags, Issuer, Permission, Rule, matched
from edgeproxy.access.source import PolicyError, Problem
from edgeproxy.oci.names import Repository, Tag
from edgeproxy.oci.operations import Access

__all__ = ["Policy", "PolicyError", "Problem", "load_policy"]

MAX_NEAR_RULES: Final = 16
"""How many rules the explanation of a refusal compares, so that being refused stays cheap under any document."""


def load_policy(text: bytes, *, source: str, loopback: bool, now: float, files: Files | None = None) -> Policy:  # noqa: ARG001
    """Read and compile a policy document.

    `source` names it in problems. `loopback`: bind address and public URL are both loopback, so `public` may carry push
    and delete. `now` is not asked: what has expired still loads. `files` reads what the document names (`ca_file`,
    `keys.file`), relative to it.

    Raises:
        PolicyError: with every problem of the document.

    """
    parsed = parse(text, source=source, loopback=loopback)
    return Policy(
        version=hashlib.sha256(text).hexdigest(),
        issuers=compilation.issuers(parsed, files),
        rules=compilation.rules(parsed),
        denials=compilation.denials(parsed),
        public=compilation.public(parsed),
        hide=compilation.globs(parsed.document.hide),
        tags=compilation.immutable_tags(parsed),
        tests=compilation.expectations(parsed),
    )


@dataclass(frozen=True, slots=True)
class Policy:
    """A compiled document, from `load_policy`. `version` is the SHA-256 of its bytes, in hex."""

    version: str
    issuers: Mapping[str, Issuer]
    rules: tuple[Rule, ...] = field(repr=False)
    denials: tuple[Deny, ...] = field(repr=False)
    public: tuple[Permission, ...] = field(repr=False)
    hide: tuple[NameGlob, ...] = field(repr=False)
    tags: tuple[ImmutableTags, ...] = field(repr=False)
    tests: tuple[Expectation, ...] = field(repr=False)
    _rules: Mapping[str, RuleIndex] = field(init=False, repr=False, compare=False)
    _denials: GlobIndex[Deny] = field(init=False, repr=False, compare=False)
    _public: GlobIndex[Permission] = field(init=False, repr=False, compare=False)
    _hidden: GlobIndex[NameGlob] = field(init=False, repr=False, compare=False)
    _immutable: GlobIndex[ImmutableTags] = field(init=False, repr=False, compare=False)
    _claims: Mapping[str, frozenset[str]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        indexes = {
            "_rules": {
                name: RuleIndex(tuple(rule for rule in self.rules if rule.issuer == name)) for name in self.issuers
            },
            "_denials": GlobIndex((glob, deny) for deny in self.denials for glob in deny.permission.repositories),
            "_public": GlobIndex((glob, entry) for entry in self.public for glob in entry.repositories),
            "_hidden": GlobIndex((glob, glob) for glob in self.hide),
            "_immutable": GlobIndex((glob, entry) for entry in self.tags for glob in entry.repositories),
            "_claims": compilation.claims_by_issuer(iter(self.issuers), self.rules, self.denials),
        }
        for name, value in indexes.items():
            object.__setattr__(self, name, value)

    def decide(self, caller: Caller, access: Access, now: float) -> Decision:
        """Decide one access of one caller at one moment (seconds since the epoch)."""
        deny = self._denying(caller, access)
        if deny is not None:
            return Denial(Reason.DENY_RULE, deny.name, None, self._hides(access), inf)
        name = access.repository.name
        public = any(
            access.action in entry.actions and not entry.excepts(name) for entry in self._public.matching(name)
        )
        if caller is not None:
            return self._decided(caller, access, now, public=public)
        if public:
            return Grant(PUBLIC, (PUBLIC,), {}, None, None, inf)
        return Denial(Reason.ANONYMOUS, "", None, self._hides(access), inf)

    def _denying(self, caller: Caller, access: Access) -> Deny | None:
        covering = self._denials.matching(access.repository.name)
        holding = [deny for deny in covering if access.action in deny.permission.actions and deny.holds_for(caller)]
        return min(holding, key=lambda deny: deny.name, default=None)

    def _decided(self, caller: Identity, access: Access, now: float, *, public: bool) -> Decision:
        matching = self._matching(caller, access)
        unexpired = {rule: claims for rule, claims in matching.items() if now < rule.expires}
        counting = {rule: claims for rule, claims in unexpired.items() if rule.counts(caller, now)}
        granting = [rule for rule in counting if rule.enforced]
        audit_only = tuple(rule.name for rule in counting if not rule.enforced)
        until = min((_changes(rule, caller) for rule in counting), default=inf)
        if granting or public:
            return _grant(granting, counting, public=public, until=until, audit_only=audit_only)
        outlived = [rule for rule in unexpired if rule.enforced]
        if outlived:
            until = min(until, *(rule.expires for rule in outlived))
            return Denial(Reason.EXPIRED, outlived[0].name, None, self._hides(access), until, audit_only)
        mismatch = self._nearest(caller, access)
        rule = mismatch.rule if mismatch else ""
        return Denial(Reason.NO_RULE, rule, mismatch, self._hides(access), until, audit_only)

    def _matching(self, caller: Identity, access: Access) -> dict[Rule, dict[str, Scalar]]:
        """Every rule whose issuer, allow and claims fit, with the claims that matched; time is not asked yet."""
        index = self._rules.get(caller.issuer)
        if index is None:
            return {}
        candidates = index.candidates(caller.claims, access)
        matching = ((rule, matched(rule.conditions, caller.claims)) for _, rule in sorted(candidates.items()))
        return {rule: claims for rule, claims in matching if claims is not None}

    def _nearest(self, caller: Identity, access: Access) -> Mismatch | None:
        """The enforced rule that came nearest to allowing it, and the first condition in which it differs."""
        index = self._rules.get(caller.issuer)
        if index is None:
            return None
        near = index.near(caller.claims, access, MAX_NEAR_RULES)
        rule = min(near, key=lambda rule: (*_distance(rule, caller), rule.name), default=None)
        return None if rule is None else _mismatch(rule, caller, access)

    def _hides(self, access: Access) -> bool:
        return any(True for _ in self._hidden.matching(access.repository.name))

    def immutable(self, repository: Repository, tag: Tag) -> bool:
        """Tell whether a tag, once created, may never be moved or deleted."""
        entries = self._immutable.matching(repository.name)
        return any(glob.matches(tag.name) for entry in entries for glob in entry.tags)

    def token_seconds_for(self, identity: Identity, repositories: Collection[Repository], now: float) -> int | None:
        """Give the life of a bearer for someone whose token was just verified, or None if no rule says any.

        It is the largest `token_seconds` of the rules that match and, where repositories are asked for, allow something
        on one of them.
        """
        lives = [
            rule.token_seconds
            for rule in self.rules
            if rule.token_seconds is not None
            and rule.enforced
            and rule.issuer == identity.issuer
            and now < rule.expires
            and (not repositories or any(rule.concerns(repository.name) for repository in repositories))
            and matched(rule.conditions, identity.claims) is not None
        ]
        return max(lives, default=None)

    @property
    def lists_issuers(self) -> bool:
        """The policy names an issuer, so there is something to sign in with."""
        return bool(self.issuers)

    @property
    def challenges(self) -> bool:
        """Anonymous callers of `/v2/` are asked for a credential: the policy names an issuer that wants it."""
        return any(issuer.challenge for issuer in self.issuers.values())

    @property
    def claim_names(self) -> frozenset[str]:
        """Every claim that the policy refers to, whoever the issuer."""
        matches = [entry.conditions for entry in self.rules] + [entry.conditions for entry in self.denials]
        return frozenset(condition.claim for conditions in matches for condition in conditions)

    def claims_of(self, issuer: str) -> frozenset[str]:
        """Name the claims that decide about this issuer's callers; empty for one that the policy does not list."""
        return self._claims.get(issuer, frozenset())


def _grant(
    granting: list[Rule],
    matching: Mapping[Rule, Mapping[str, Scalar]],
    *,
    public: bool,
    until: float,
    audit_only: tuple[str, ...],
) -> Grant:
    names = (*(rule.name for rule in granting), *((PUBLIC,) if public else ()))
    deliveries = {rule.deliver for rule in granting}
    return Grant(
        rule=names[0],
        rules=names,
        claims={claim: value for rule in granting for claim, value in matching[rule].items()},
        deliver="proxy" if "proxy" in deliveries else "redirect" if "redirect" in deliveries else None,
        token_seconds=max((rule.token_seconds for rule in granting if rule.token_seconds is not None), default=None),
        until=until,
        audit_only=audit_only,
    )


def _changes(rule: Rule, caller: Identity) -> float:
    """The moment at which a rule that counts now ceases to."""
    return min(rule.expires, caller.ends) if rule.token_seconds is None else rule.expires


def _distance(rule: Rule, caller: Identity) -> tuple[int, int]:
    met = sum(condition.matched(caller.claims) is not None for condition in rule.conditions)
    return -met, len(rule.conditions) - met


def _mismatch(rule: Rule, caller: Identity, access: Access) -> Mismatch:
    for condition in rule.conditions:
        if condition.matched(caller.claims) is None:
            got = shown(caller.claims[condition.claim]) if condition.claim in caller.claims else "nothing"
            return Mismatch(rule.name, condition.claim, got, condition.wanted)
    repository = access.repository.name
    if not rule.concerns(repository):
        globs = (str(glob) for permission in rule.allow for glob in permission.repositories)
        return Mismatch(rule.name, "repository", repository, ", ".join(globs))
    actions = sorted(
        action for permission in rule.allow if permission.concerns(repository) for action in permission.actions
    )
    if access.action not in actions:
        return Mismatch(rule.name, "action", access.action.value, ", ".join(actions))
    return Mismatch(rule.name, "expires", "a time after it", "a time before it")
