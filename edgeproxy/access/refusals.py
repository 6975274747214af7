"""Why a credential was not believed. Every way to fail has its own reason, and all of them end as 401. Pure."""

from __future__ import annotations

from enum import StrEnum


class TokenReason(StrEnum):
    """One value for each way in which a token fails, for the audit line and for metrics."""

    CREDENTIAL = "credential"
    """The request shows something that is no token: a malformed header, an empty password, another scheme."""
    TOO_LARGE = "too_large"
    MALFORMED = "malformed"
    """Not three segments of base64url that hold JSON objects without duplicate keys."""
    HEADER = "header"
    """A header field that changes what the token is: `crit`, `b64`, `zip`, `enc`."""
    TYPE = "type"
    """A kind of token that is not for signing in, by `typ`; our own bearer where a foreign token belongs, or the reverse."""
    ALGORITHM = "algorithm"
    ISSUER = "issuer"
    KEYS_UNAVAILABLE = "keys_unavailable"
    KEYS_EXPIRED = "keys_expired"
    """The keys were given with a `not_after`, which has passed."""
    KEY = "key"
    """The issuer has no such key, or not for this algorithm."""
    SIGNATURE = "signature"
    AUDIENCE = "audience"
    TIMES = "times"
    """`exp`, `nbf` or `iat` is missing where it is needed, or is no number."""
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    TOO_OLD = "too_old"
    SUBJECT = "subject"
    TOO_MANY_CLAIMS = "too_many_claims"
    """What the policy refers to is too much for a bearer."""
    OUTDATED = "outdated"
    """A bearer of ours from before a change of the policy that it cannot serve: get another one."""
    INTERNAL = "internal"


class TokenRefused(Exception):
    """A credential that is not believed; always answered with 401.

    `message` is for the caller: ASCII without quotes, so that it also fits into a header, and without any value that the
    policy expects. `detail` is for operators only. Neither holds a token or a part of one. `issuer` is the name of the policy's
    issuer that the token says it is of, "" where there is none: it is not proven.
    """

    def __init__(self, reason: TokenReason, message: str, *, detail: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.detail = detail
        self.issuer = ""


def quoted(value: object) -> str:
    """Quote what a token says, shortened and in ASCII, for the detail of a refusal."""
    text = ascii(value)
    return text if len(text) <= 120 else text[:117] + "..."
