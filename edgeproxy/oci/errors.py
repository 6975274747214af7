"""The error table of the distribution specification ("Error codes"), each code with its status, as exceptions.

`RegistryError` is the one root of everything that may become an answer; `web.answers` is the one place that turns it into bytes.
`UNKNOWN` and `UNAVAILABLE` are not in that table, which has no word for what is the server's own fault; registries use both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar


class RegistryError(Exception):
    """A refusal that the caller is told about.

    `message` is shown to people by every client, so it says what is wrong and what to do; `detail` is a short string or
    nothing (docker prints strings, crane prints maps as Go values); `headers` go onto the answer.
    """

    code: ClassVar[str] = "UNKNOWN"
    status: ClassVar[int] = 500

    def __init__(self, message: str, *, detail: str | None = None, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail
        self.headers: Mapping[str, str] = headers or {}


class BlobUnknown(RegistryError):
    """The blob is not in this repository."""

    code = "BLOB_UNKNOWN"
    status = 404


class BlobUploadInvalid(RegistryError):
    """The upload cannot go on as asked."""

    code = "BLOB_UPLOAD_INVALID"
    status = 400


class RangeNotSatisfiable(BlobUploadInvalid):
    """A chunk that does not continue the upload; `Range` and `Location` in the headers say where it stands."""

    status = 416


class BlobUploadUnknown(RegistryError):
    """No such upload session, or not this caller's."""

    code = "BLOB_UPLOAD_UNKNOWN"
    status = 404


class DigestInvalid(RegistryError):
    """A digest that is malformed, or that the content does not have."""

    code = "DIGEST_INVALID"
    status = 400


class ManifestBlobUnknown(RegistryError):
    """A manifest names content that is not in the repository."""

    code = "MANIFEST_BLOB_UNKNOWN"
    status = 404


class ManifestInvalid(RegistryError):
    """A manifest, or a reference to one, that is malformed."""

    code = "MANIFEST_INVALID"
    status = 400


class ManifestTooLarge(ManifestInvalid):
    """A manifest above the limit."""

    status = 413


class TooManyTags(ManifestInvalid):
    """A manifest pushed with more tag parameters than one request may have."""

    status = 414


class ManifestUnknown(RegistryError):
    """No manifest under this reference."""

    code = "MANIFEST_UNKNOWN"
    status = 404


class NameInvalid(RegistryError):
    """A repository name outside the grammar."""

    code = "NAME_INVALID"
    status = 400


class NameUnknown(RegistryError):
    """No such repository, as far as this caller may know."""

    code = "NAME_UNKNOWN"
    status = 404


class SizeInvalid(RegistryError):
    """A size that differs from the content's."""

    code = "SIZE_INVALID"
    status = 400


class BlobTooLarge(SizeInvalid):
    """A blob above the limit."""

    status = 413


class Unauthorized(RegistryError):
    """The caller has to show (another) credential."""

    code = "UNAUTHORIZED"
    status = 401


class Denied(RegistryError):
    """The policy says no."""

    code = "DENIED"
    status = 403


class Unsupported(RegistryError):
    """An operation or a form of it that does not exist here."""

    code = "UNSUPPORTED"
    status = 405


class BadRequest(Unsupported):
    """A request that is malformed in a way the specification has no code for."""

    status = 400


class NotFound(Unsupported):
    """A path that is no endpoint."""

    status = 404


class UriTooLong(Unsupported):
    """A query that is longer than one request may send."""

    status = 414


class RangeInvalid(Unsupported):
    """A `Range` that a blob cannot satisfy."""

    status = 416


class RequestTimeout(Unsupported):
    """A body that arrives too slowly."""

    status = 408


class TooManyRequests(RegistryError):
    """The caller should come back later."""

    code = "TOOMANYREQUESTS"
    status = 429


class Unavailable(RegistryError):
    """The store or the server cannot answer now; always answered with `Retry-After`."""

    code = "UNAVAILABLE"
    status = 503
