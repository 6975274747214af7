"""Names the operations of the S3 API by their requests, as bills know them, and says what part of a registry an object is. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl, unquote

FAILED_UNBILLED: Final = frozenset({401, 403})
"""R2 and S3 bill no request whose credential failed; nobody bills what the server itself failed at (5xx)."""

_PARTS: Final = (
    ("blob bytes", re.compile(r"(^|/)blobs/sha256/[0-9a-f]+($|/.*/data$|/[0-9a-f]+/data$)")),
    ("tag", re.compile(r"/_tags/|/_manifests/tags/")),
    ("manifest", re.compile(r"/_manifests/")),
    ("link", re.compile(r"/_blobs/|/_layers/")),
    ("upload", re.compile(r"(^|/)_?uploads/")),
)


def operation_of(method: str, target: str, fields: Mapping[str, str]) -> tuple[str, str]:
    """Give the operation and the key of a path-style request (`/bucket/key?query`); an unknown one is named by its method."""
    path, _, query = target.partition("?")
    bucket, _, key = unquote(path).lstrip("/").partition("/")
    names = {name for name, _ in parse_qsl(query, keep_blank_values=True)}
    if not key:
        return _bucket_operation(method, names, bucket), ""
    return _object_operation(method, names, fields), key


def _bucket_operation(method: str, names: set[str], bucket: str) -> str:
    match method:
        case "GET" if not bucket:
            return "ListBuckets"
        case "GET" if "uploads" in names:
            return "ListMultipartUploads"
        case "GET":
            return "ListObjectsV2" if "list-type" in names else "ListObjects"
        case "HEAD":
            return "HeadBucket"
        case "POST" if "delete" in names:
            return "DeleteObjects"
    return f"{method} bucket"


def _object_operation(method: str, names: set[str], fields: Mapping[str, str]) -> str:
    copies = "x-amz-copy-source" in fields
    match method:
        case "GET":
            return "ListParts" if "uploadId" in names else "GetObject"
        case "HEAD":
            return "HeadObject"
        case "PUT" if "partNumber" in names:
            return "UploadPartCopy" if copies else "UploadPart"
        case "PUT":
            return "CopyObject" if copies else "PutObject"
        case "POST" if "uploads" in names:
            return "CreateMultipartUpload"
        case "POST" if "uploadId" in names:
            return "CompleteMultipartUpload"
        case "DELETE":
            return "AbortMultipartUpload" if "uploadId" in names else "DeleteObject"
    return f"{method} object"


def is_presigned(target: str) -> bool:
    """Tell a request whose credential is in its query from one that has it in a header."""
    return "X-Amz-Signature=" in target


def part_of(key: str) -> str:
    """Say what part of a registry an object is, in the layouts of edgeproxy and of distribution."""
    return next((name for name, pattern in _PARTS if pattern.search(key)), "other")
