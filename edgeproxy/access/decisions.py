"""The values of an access decision: who asks, and what was decided and why. Pure.

A decision is a value, never an exception: `web` turns a `Denial` into an answer for the caller and a line for the operator.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

Claim = str | int | float | bool | None | list["Claim"] | dict[str, "Claim"]
"""A JSON value of a token, of the type that the issuer gave it: `true` is not `"true"`."""

Delivery = Literal["redirect", "proxy"]


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller whose token was verified. Only `access.tokens` makes one.

    `issuer` is the issuer's name in the policy, `claims` the verified claims that a policy may refer to, `ends` (seconds since the epoch)
    the end of the token that was shown to us first.
    """

    issuer: str
    subject: str
    claims: Mapping[str, Claim] = field(repr=False)
    ends: float


Caller = Identity | None
"""Who asks; None is an anonymous caller."""


class Reason(StrEnum):
    """Why a request was denied by policy."""

    NO_RULE = "no_rule"
    DENY_RULE = "deny_rule"
    ANONYMOUS = "anonymous"
    EXPIRED = "expired"
    """Rules match, but not past the end of the token that was shown: a fresh token would succeed."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The first condition of a rule that did not hold. `got` and `wanted` are for operators only, never for callers."""

    rule: str
    claim: str
    got: str
    wanted: str


@dataclass(frozen=True, slots=True)
class Grant:
    """Yes. `rule` is the name of a rule, or `public`; `claims` are the claims that matched, for the audit line."""

    rule: str
    rules: tuple[str, ...]
    claims: Mapping[str, Claim]
    deliver: Delivery | None
    token_seconds: int | None
    until: float
    """Seconds since the epoch at which this decision may change by itself (`expires` of a rule, end of the token); `inf` if never."""
    audit_only: tuple[str, ...] = ()
    """Rules in `mode: audit` that matched; they decided nothing."""


@dataclass(frozen=True, slots=True)
class Denial:
    """No, with the whole explanation. `rule` is the deny rule, or the rule that came nearest, or ""."""

    reason: Reason
    rule: str
    mismatch: Mismatch | None
    hidden: bool
    """Refusals for this repository answer 404."""
    until: float
    audit_only: tuple[str, ...] = ()


Decision = Grant | Denial
