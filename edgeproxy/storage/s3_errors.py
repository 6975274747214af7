"""What S3 and R2 answer when they do not do what was asked, and what that means for us.

Codes: Amazon S3 API reference, "Error responses"; Cloudflare R2 documentation, "Error codes". The store's own message is
never shown: it may repeat a key id or the string that was signed.
"""

from __future__ import annotations

import enum
import re
import ssl
from dataclasses import dataclass
from typing import Any, Final

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    IncompleteReadError,
)
from botocore.exceptions import ConnectionError as UnreachableError

from edgeproxy.storage import (
    CertificateExpired,
    Corrupt,
    CredentialDenied,
    NotFound,
    PreconditionFailed,
    StoreError,
    StoreUnavailable,
)


class NoSuchUpload(StoreUnavailable):
    """The multipart upload has ended: completed, aborted, or by a condition that did not hold."""


class InvalidRange(StoreUnavailable):
    """No byte of the object lies in the range."""


class Refused(Exception):
    """The store did not do what a request of our own asked; `code` and `region` are "" where its answer names none."""

    def __init__(self, status: int, code: str, region: str) -> None:
        super().__init__(f"{status} {code}")
        self.region = region
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
_AGAIN: Final = frozenset(
    {"RequestTimeout", "OperationAborted", "InternalError", "IncompleteBody", "ExistingObjectIsDirectory"}
)
"""The last one is versitygw's, when a deletion removes the folder, empty, that an object is about to go into: one write in fifty."""

_CREDENTIAL_ERRORS: Final = frozenset(
    {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "MetadataRetrievalError"}
)
_EXPIRED: Final = 10
"""X509_V_ERR_CERT_HAS_EXPIRED of OpenSSL."""
_NETWORK: Final = (HTTPClientError, UnreachableError, IncompleteReadError)

_KEYS: Final = (
    "look at AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, or the profile or role in their place"
)
_ON_BUCKET: Final = "the bucket itself"
_ON_OBJECTS: Final = "the bucket's objects"
PERMISSIONS: Final = {
    "HeadBucket": ("s3:ListBucket", _ON_BUCKET),
    "ListObjectsV2": ("s3:ListBucket", _ON_BUCKET),
    "GetObject": ("s3:GetObject", _ON_OBJECTS),
    "HeadObject": ("s3:GetObject", _ON_OBJECTS),
    "PutObject": ("s3:PutObject", _ON_OBJECTS),
    "CopyObject": ("s3:PutObject or s3:GetObject", _ON_OBJECTS),
    "CreateMultipartUpload": ("s3:PutObject", _ON_OBJECTS),
    "UploadPart": ("s3:PutObject", _ON_OBJECTS),
    "UploadPartCopy": ("s3:PutObject or s3:GetObject", _ON_OBJECTS),
    "CompleteMultipartUpload": ("s3:PutObject", _ON_OBJECTS),
    "AbortMultipartUpload": ("s3:AbortMultipartUpload", _ON_OBJECTS),
    "DeleteObject": ("s3:DeleteObject", _ON_OBJECTS),
}
"""What S3 calls the permission for each call that we make, and what it has to be granted on."""

_DENIED: Final = frozenset({"AccessDenied", "Forbidden", "403"})
_REGION_CODES: Final = frozenset(
    {"301", "400", "AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException"}
)
_REGION: Final = re.compile(r"[a-z0-9-]{1,40}", re.ASCII)
_ADVICE: Final = {
    "Unauthorized": _KEYS,
    "401": _KEYS,
    "InvalidAccessKeyId": f"the store does not know this access key: {_KEYS}",
    "SignatureDoesNotMatch": f"the secret key is not this access key's: {_KEYS}",
    "InvalidToken": f"the session token is not this access key's: {_KEYS}",
    "ExpiredToken": "the session token has expired: renew AWS_SESSION_TOKEN with its keys, or use a source that the SDK can refresh",
    "RequestTimeTooSkewed": "the clocks of this machine and the store differ by more than 15 minutes",
    "NoSuchBucket": "the bucket does not exist: look at the bucket, endpoint, account and jurisdiction in EDGEPROXY_STORE",
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
        headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        region = error.response.get("Error", {}).get("Region") or headers.get("x-amz-bucket-region") or ""
        return _answered(operation, key, status, code, str(region))
    if isinstance(error, Refused):
        return _answered(operation, key, error.status, error.code, error.region)
    what = f"{operation} {key}".rstrip()
    kind = type(error).__name__
    if kind in _CREDENTIAL_ERRORS:
        return Failure(kind, Verdict.GIVE_UP, StoreUnavailable(f"{what}: no usable credential ({kind}): {_KEYS}"))
    if isinstance(error, RuntimeError) and "expired" in str(error):
        # The SDK has renewed the credential, and what it got had ended before it began.
        text = f"{what}: the credential has expired, and its source gives no newer one: renew it there ({_KEYS})"
        return Failure("ExpiredCredential", Verdict.GIVE_UP, StoreUnavailable(text))
    if isinstance(error, BotoCoreError | RuntimeError) and not isinstance(error, _NETWORK):
        return Failure(kind, Verdict.GIVE_UP, StoreUnavailable(f"{what}: the request could not be made ({kind})"))
    if (refused := _certificate_error(error)) is not None:
        return _certificate_refused(what, refused)
    text = f"{what}: the store did not answer ({kind}): look at the endpoint in EDGEPROXY_STORE and the network"
    return Failure(kind, Verdict.RETRY, StoreUnavailable(text))


def _certificate_error(error: BaseException) -> ssl.SSLCertVerificationError | None:
    """Find what TLS said, below what the SDK made of it."""
    seen: list[Any] = [error]
    for each in seen:
        # aiohttp's own error is one of these too, by inheritance, but without what OpenSSL said.
        if isinstance(each, ssl.SSLCertVerificationError) and hasattr(each, "verify_code"):
            return each
        below = (getattr(each, "kwargs", {}).get("error"), getattr(each, "certificate_error", None), each.__cause__)
        seen += [item for item in below if isinstance(item, BaseException) and item not in seen]
    return None


def _certificate_refused(what: str, error: ssl.SSLCertVerificationError) -> Failure:
    text = f"{what}: the store's certificate is refused ({error.verify_message})"
    if error.verify_code == _EXPIRED:
        return Failure("CertificateExpired", Verdict.GIVE_UP, CertificateExpired(text))
    advice = "look at the endpoint in EDGEPROXY_STORE, or name the authority that signed it in AWS_CA_BUNDLE"
    return Failure("CertificateRefused", Verdict.GIVE_UP, StoreUnavailable(f"{text}: {advice}"))


def _answered(operation: str, key: str, status: int, code: str, found: str) -> Failure:
    code = code or str(status)
    text = f"{f'{operation} {key}'.rstrip()}: the store answered {status} {code}"
    outright = _OUTRIGHT.get(code)
    if outright is not None:
        return Failure(code, Verdict.GIVE_UP, outright(text))
    if code == "ConditionalRequestConflict":
        return Failure(code, Verdict.RETRY, PreconditionFailed(text))
    if code in _DENIED:
        return Failure(code, Verdict.GIVE_UP, CredentialDenied(f"{text}: {_permission(operation, code)}"))
    region = _region_advice(found) if code in _REGION_CODES or status == 301 else ""
    advice = _ADVICE.get(code) or region
    verdict = Verdict.GIVE_UP
    if code in _SLOW_DOWN or status == 429:
        verdict = Verdict.RETRY_SLOWLY
    elif not advice and (code in _AGAIN or status >= 500 or status == 408):
        verdict = Verdict.RETRY
    return Failure(code, verdict, StoreUnavailable(f"{text}: {advice}" if advice else text))


def _permission(operation: str, code: str) -> str:
    name, place = PERMISSIONS.get(operation, ("a permission", _ON_OBJECTS))
    lacking = f"the credential lacks {name} on {place} (R2: give its token 'Object Read & Write')"
    # The answer to a HEAD has no body, so the store could not say which of the two is wrong.
    return f"{lacking}, or is not this store's: {_KEYS}" if code == "403" and operation.startswith("Head") else lacking


def _region_advice(found: str) -> str:
    """Say what to write for the region, if the store names the right one; it stands in the answer's body or in a header."""
    if _REGION.fullmatch(found) is None:
        return "is the bucket in another region? look at region= and endpoint= in EDGEPROXY_STORE (R2: auto)"
    return f"the bucket is in the region {found}: write region={found} in EDGEPROXY_STORE"
