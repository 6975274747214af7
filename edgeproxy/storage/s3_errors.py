"""What S3 and R2 answer when they do not do what was asked, and what that means for us.

Codes: Amazon S3 API reference, "Error responses"; Cloudflare R2 documentation, "Error codes". The store's own message is
never shown: it may repeat a key id or the string that was signed.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    IncompleteReadError,
)
from botocore.exceptions import ConnectionError as UnreachableError

from edgeproxy.storage import Corrupt, NotFound, PreconditionFailed, StoreError, StoreUnavailable


class NoSuchUpload(StoreUnavailable):
    """The multipart upload has ended: completed, aborted, or by a condition that did not hold."""


class InvalidRange(StoreUnavailable):
    """No byte of the object lies in the range."""


class Refused(Exception):
    """The store did not do what a request of our own asked; `code` is "" where its answer names none."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(f"{status} {code}")
        self.status = status
        self.code = code


class Verdict(enum.Enum):
    """What to do about a failed attempt."""

    GIVE_UP = enum.auto()
    RETRY = enum.auto()
    RETRY_SLOWLY = enum.auto()
    """The store asks for less: one write a second a key on R2, or its rate limits."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed attempt: the store's code (or the kind of network error), what to do, what to raise in the end."""

    code: str
    verdict: Verdict
    error: StoreError


_OUTRIGHT: Final[dict[str, type[StoreError]]] = {
    "NoSuchKey": NotFound,
    "NotFound": NotFound,
    "404": NotFound,
    "PreconditionFailed": PreconditionFailed,
    "412": PreconditionFailed,
    "BadDigest": Corrupt,
    "InvalidDigest": Corrupt,
    "XAmzContentSHA256Mismatch": Corrupt,
    "XAmzContentChecksumMismatch": Corrupt,
    "NoSuchUpload": NoSuchUpload,
    "InvalidRange": InvalidRange,
    "416": InvalidRange,
}
_SLOW_DOWN: Final = frozenset({"429", "TooManyRequests", "SlowDown", "RequestLimitExceeded", "Throttling"})
_AGAIN: Final = frozenset({"RequestTimeout", "OperationAborted", "InternalError", "IncompleteBody"})

_CREDENTIAL_ERRORS: Final = frozenset(
    {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "MetadataRetrievalError"}
)
_NETWORK: Final = (HTTPClientError, UnreachableError, IncompleteReadError)

_KEYS: Final = (
    "look at AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, or the profile or role in their place"
)
_PERMISSION: Final = "the credential needs read and write on this bucket (R2: 'Object Read & Write')"
_ADVICE: Final = {
    "AccessDenied": _PERMISSION,
    "403": f"{_PERMISSION}, and must be this store's: {_KEYS}",
    "Forbidden": _PERMISSION,
    "Unauthorized": _KEYS,
    "401": _KEYS,
    "InvalidAccessKeyId": _KEYS,
    "SignatureDoesNotMatch": f"the secret key is not this access key's: {_KEYS}",
    "InvalidToken": _KEYS,
    "ExpiredToken": "the session token has expired: renew it, or use a source that the SDK can refresh",
    "RequestTimeTooSkewed": "the clocks of this machine and the store differ by more than 15 minutes",
    "NoSuchBucket": "the bucket does not exist: look at the bucket, endpoint, account and jurisdiction in EDGEPROXY_STORE",
    "AuthorizationHeaderMalformed": "look at the region in EDGEPROXY_STORE (R2: auto)",
    "PermanentRedirect": "the bucket is in another region: look at region and endpoint in EDGEPROXY_STORE",
    "301": "the bucket is in another region: look at region and endpoint in EDGEPROXY_STORE",
    "ObjectLockedByBucketPolicy": "a bucket lock holds this object",
    "NotImplemented": "the store does not implement what was asked of it",
    "501": "the store does not implement what was asked of it",
}


def no_bucket() -> StoreUnavailable:
    """Say that there is no such bucket."""
    return StoreUnavailable(f"HeadBucket: {_ADVICE['NoSuchBucket']}")


def failure(operation: str, key: str, error: Exception) -> Failure:
    """Judge an exception that an attempt ended with."""
    if isinstance(error, ClientError):
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        return _answered(operation, key, status, code)
    if isinstance(error, Refused):
        return _answered(operation, key, error.status, error.code)
    what = f"{operation} {key}".rstrip()
    kind = type(error).__name__
    if kind in _CREDENTIAL_ERRORS:
        return Failure(kind, Verdict.GIVE_UP, StoreUnavailable(f"{what}: no usable credential ({kind}): {_KEYS}"))
    if isinstance(error, BotoCoreError | RuntimeError) and not isinstance(error, _NETWORK):
        return Failure(kind, Verdict.GIVE_UP, StoreUnavailable(f"{what}: the request could not be made ({kind})"))
    text = f"{what}: the store did not answer ({kind}): look at the endpoint in EDGEPROXY_STORE and the network"
    return Failure(kind, Verdict.RETRY, StoreUnavailable(text))


def _answered(operation: str, key: str, status: int, code: str) -> Failure:
    code = code or str(status)
    what = f"{operation} {key}".rstrip()
    outright = _OUTRIGHT.get(code)
    if outright is not None:
        return Failure(code, Verdict.GIVE_UP, outright(f"{what}: the store answered {status} {code}"))
    if code == "ConditionalRequestConflict":
        return Failure(code, Verdict.RETRY, PreconditionFailed(f"{what}: the store answered {status} {code}"))
    advice = _ADVICE.get(code)
    text = f"{what}: the store answered {status} {code}" + (f": {advice}" if advice else "")
    verdict = Verdict.GIVE_UP
    if code in _SLOW_DOWN or status == 429:
        verdict = Verdict.RETRY_SLOWLY
    elif advice is None and (code in _AGAIN or status >= 500 or status == 408):
        verdict = Verdict.RETRY
    return Failure(code, verdict, StoreUnavailable(text))
