"""The compiled parts of a policy: issuers, rules, denials, immutable tags. `policy` decides with them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgeproxy.access.decisions import Claim, Delivery, Identity
from edgeproxy.access.matching import Condition, NameGlob, Scalar
from edgeproxy.oci.operations import Access, Action


@dataclass(frozen=True, slots=True)
class Discovery:
    """Keys are found through the issuer's discovery document."""

    not_after: float | None = None


@dataclass(frozen=True, slots=True)
class KeysUrl:
    """Keys are found at this URL."""

    url: str
    not_after: float | None


@dataclass(frozen=True, slots=True)
class InlineKeys:
    """Keys that came with the document, inline or by file: a JWKS as parsed JSON."""

    jwks: Mapping[str, Any] = field(repr=False)
    not_after: float | None


KeySource = Discovery | KeysUrl | InlineKeys
"""Where an issuer's keys come from. `not_after`: seconds since the epoch from which on they are not used."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """Someone whose tokens are believed. `ca` is PEM, `login` the client id people sign in with.

    `challenge` says whether `/v2/` asks anonymous callers to sign in because this issuer is listed.
    """

    name: str
    url: str
    audiences: tuple[str, ...]
    algorithms: tuple[str, ...]
    max_token_age: int | None
    keys: KeySource
    ca: bytes | None = field(repr=False)
    login: str | None
    challenge: bool = True


@dataclass(frozen=True, slots=True)
class Permission:
    """Actions on the repositories that any of the globs matches, and none of `excepted` does (only `public` has those)."""

    repositories: tuple[NameGlob, ...]
    actions: frozenset[Action]
    excepted: tuple[NameGlob, ...] = ()

    def excepts(self, repository: str) -> bool:
        """Tell whether that repository is not meant, whatever the globs say."""
        return any(glob.matches(repository) for glob in self.excepted)

    def concerns(self, repository: str) -> bool:
        """Tell whether this is about that repository, whatever the action."""
        return any(glob.matches(repository) for glob in self.repositories) and not self.excepts(repository)


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """One compiled rule. `form` is the field its conditions were written in; `expires` is `inf` where none is given."""

    name: str
    issuer: str
    form: str
    conditions: tuple[Condition, ...]
    allow: tuple[Permission, ...]
    deliver: Delivery | None
    token_seconds: int | None
    expires: float
    enforced: bool

    def concerns(self, repository: str) -> bool:
        """Tell whether the rule allows anything there, to whom it matches."""
        return any(permission.concerns(repository) for permission in self.allow)

    def counts(self, caller: Identity, now: float) -> bool:
        """Tell whether the rule may decide for a caller that it matches: also past the end of the token, or not yet."""
        return now < caller.ends or self.token_seconds is not None


@dataclass(frozen=True, slots=True, eq=False)
class Deny:
    """One compiled refusal. No issuer and no conditions: it holds for everyone."""

    name: str
    issuer: str | None
    conditions: tuple[Condition, ...]
    permission: Permission

    def holds_for(self, caller: Identity | None) -> bool:
        """Tell whether this caller is among those it refuses."""
        if self.issuer is None and not self.conditions:
            return True
        if caller is None or self.issuer not in (None, caller.issuer):
            return False
        return matched(self.conditions, caller.claims) is not None


@dataclass(frozen=True, slots=True)
class ImmutableTags:
    """Tags that may be created, and never moved or deleted."""

    repositories: tuple[NameGlob, ...]
    tags: tuple[NameGlob, ...]


@dataclass(frozen=True, slots=True)
class Expectation:
    """One entry of `tests:`. `issuer` None: an anonymous caller. `line` is where it stands."""

    issuer: str | None
    claims: Mapping[str, Claim]
    access: Access
    allowed: bool
    line: int


def matched(conditions: tuple[Condition, ...], claims: Mapping[str, Claim]) -> dict[str, Scalar] | None:
    """Match every condition: the value that met each, or None at the first that none meets."""
    values: dict[str, Scalar] = {}
    for condition in conditions:
        value = condition.matched(claims)
        if value is None:
            return None
        values[condition.claim] = value
    return values
