"""R2's rules and the words it refuses with (Cloudflare R2 documentation: limits, error codes, S3 API compatibility)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

MAX_KEY_BYTES: Final = 1024
MAX_METADATA_BYTES: Final = 8192
MAX_PUT_BYTES: Final = 5 * 1024**3 - 5 * 1024**2
MIN_PART_BYTES: Final = 5 * 1024**2
MAX_PARTS: Final = 10_000
REGIONS: Final = frozenset({"auto", "us-east-1", ""})

CLASS_A: Final = frozenset(
    {
        "PutObject",
        "CopyObject",
        "CreateMultipartUpload",
        "CompleteMultipartUpload",
        "UploadPart",
        "UploadPartCopy",
        "ListObjectsV2",
    }
)
CLASS_B: Final = frozenset({"GetObject", "HeadObject", "HeadBucket"})
FREE: Final = frozenset({"DeleteObject", "AbortMultipartUpload"})
"""What R2 bills as what. A failed authentication is not billed, a failed condition is."""


@dataclass
class S3Error(Exception):
    """A refusal in S3's XML."""

    status: int
    code: str
    message: str

    def body(self) -> bytes:
        """Write it."""
        return (
            '<?xml version="1.0" encoding="UTF-8"?>'
            f"<Error><Code>{self.code}</Code><Message>{escape(self.message)}</Message></Error>"
        ).encode()


def operation_of(method: str, key: str, query: Mapping[str, str], headers: Mapping[str, str]) -> str:
    """Name the operation of a request, or refuse it as R2 does what it has not implemented."""
    found = _bucket_operation(method, query) if not key else _object_operation(method, query, headers)
    if found is None:
        raise S3Error(501, "NotImplemented", f"{method} with {sorted(query)} is not implemented")
    return found


def _bucket_operation(method: str, query: Mapping[str, str]) -> str | None:
    known = {
        "list-type",
        "prefix",
        "start-after",
        "continuation-token",
        "max-keys",
        "encoding-type",
        "delimiter",
        "fetch-owner",
    }
    if method == "GET" and query.get("list-type") == "2" and set(query) <= known and "delimiter" not in query:
        return "ListObjectsV2"
    return "HeadBucket" if method == "HEAD" and not query else None


def _object_operation(method: str, query: Mapping[str, str], headers: Mapping[str, str]) -> str | None:
    # The SDK names the operation in `x-id` on some calls; GetObject's response-* are ignored, not honoured.
    names = {name for name in query if name != "x-id" and not (method == "GET" and name.startswith("response-"))}
    if names == {"uploads"}:
        return "CreateMultipartUpload" if method == "POST" else None
    if names == {"uploadId", "partNumber"} and method == "PUT":
        return "UploadPartCopy" if "x-amz-copy-source" in headers else "UploadPart"
    if names == {"uploadId"}:
        return {"POST": "CompleteMultipartUpload", "DELETE": "AbortMultipartUpload"}.get(method)
    if names:
        return None
    if method == "PUT" and "x-amz-copy-source" in headers:
        return "CopyObject"
    return {"GET": "GetObject", "HEAD": "HeadObject", "PUT": "PutObject", "DELETE": "DeleteObject"}.get(method)


def check_request(operation: str, key: str, headers: Mapping[str, str]) -> None:
    """Refuse what R2 refuses whatever the object."""
    if len(key.encode()) > MAX_KEY_BYTES:
        raise S3Error(400, "KeyTooLongError", f"keys have at most {MAX_KEY_BYTES} bytes")
    if "aws-chunked" in headers.get("content-encoding", "") or "x-amz-trailer" in headers:
        raise S3Error(401, "Unauthorized", "aws-chunked bodies and checksum trailers are not accepted")
    for name in headers:
        if name in {"x-amz-acl", "x-amz-tagging"} or name.startswith(("x-amz-grant-", "x-amz-object-lock-")):
            raise S3Error(501, "NotImplemented", f"header {name} is not implemented")
        if operation == "UploadPartCopy" and name.startswith("x-amz-copy-source-if-"):
            raise S3Error(501, "NotImplemented", f"header {name} is not implemented on UploadPartCopy")
    metadata = sum(len(name) - 11 + len(value) for name, value in headers.items() if name.startswith("x-amz-meta-"))
    if metadata > MAX_METADATA_BYTES:
        raise S3Error(400, "MetadataTooLarge", f"metadata has at most {MAX_METADATA_BYTES} bytes")
    if operation in {"PutObject", "UploadPart"}:
        length = headers.get("content-length")
        if length is None:
            raise S3Error(411, "MissingContentLength", "Content-Length is required")
        if int(length) > MAX_PUT_BYTES:
            raise S3Error(400, "EntityTooLarge", "the body is larger than a single write may be")


def check_parts(sizes: list[int]) -> None:
    """Refuse parts that are too small or of different sizes; R2 looks at the completion, not at each part."""
    if not sizes:
        raise S3Error(400, "MalformedXML", "a completion names at least one part")
    if len(sizes) > MAX_PARTS:
        raise S3Error(400, "InvalidArgument", f"an upload has at most {MAX_PARTS} parts")
    if any(size < MIN_PART_BYTES for size in sizes[:-1]):
        raise S3Error(400, "EntityTooSmall", "all parts but the last have at least 5 MiB")
    if len(set(sizes[:-1])) > 1 or (len(sizes) > 1 and sizes[-1] > sizes[0]):
        raise S3Error(400, "InvalidPart", "All non-trailing parts must have the same length.")


def check_conditions(headers: Mapping[str, str], etag: str | None) -> None:
    """Refuse a write whose `If-None-Match` or `If-Match` does not hold for the object that is there (its etag, or None)."""
    unless = headers.get("if-none-match")
    if unless is not None and etag is not None and (unless.strip() == "*" or etag in _etags(unless)):
        raise S3Error(412, "PreconditionFailed", "If-None-Match does not hold")
    only = headers.get("if-match")
    if only is not None and (etag is None or (only.strip() != "*" and etag not in _etags(only))):
        raise S3Error(412, "PreconditionFailed", "If-Match does not hold")


def _etags(header: str) -> set[str]:
    return {part.strip().removeprefix("W/").strip('"') for part in header.split(",")}
