"""What each operation of the double does to its bucket."""

from __future__ import annotations

import base64
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from time import gmtime, strftime
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from tests.r2.objects import Incoming, Piece, Stored, cut, multipart_etag
from tests.r2.rules import S3Error, check_conditions, check_parts

if TYPE_CHECKING:
    from tests.r2.app import Double

_XML = {"content-type": "application/xml"}
_NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"


@dataclass(frozen=True, slots=True)
class Call:
    """An accepted request."""

    operation: str
    key: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Incoming


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: bytes at hand, or pieces to read."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    pieces: tuple[Piece, ...] = ()

    @property
    def size(self) -> int:
        """Give the length of the body."""
        return len(self.body) + sum(piece.size for piece in self.pieces)

    def blocks(self) -> Iterator[bytes]:
        """Give the body in blocks."""
        if self.body:
            yield self.body
        for piece in self.pieces:
            yield from piece.read(0, piece.size)


def _metadata(call: Call) -> dict[str, str]:
    return {name[11:]: value for name, value in call.headers.items() if name.startswith("x-amz-meta-")}


def _described(stored: Stored) -> dict[str, str]:
    headers = {
        "etag": f'"{stored.etag}"',
        "last-modified": formatdate(stored.modified, usegmt=True),
        "content-type": stored.content_type,
        "accept-ranges": "bytes",
    }
    return headers | {f"x-amz-meta-{name}": value for name, value in stored.metadata.items()}


def _existing(double: Double, key: str) -> str | None:
    stored = double.bucket.objects.get(key)
    return stored.etag if stored else None


def _check_digests(call: Call) -> None:
    claims = (("x-amz-checksum-sha256", call.body.sha256), ("content-md5", call.body.md5))
    for name, actual in claims:
        claimed = call.headers.get(name)
        if claimed is not None and base64.b64encode(actual.digest()).decode() != claimed:
            raise S3Error(400, "BadDigest", f"{name} does not match the body")


def head_bucket(double: Double, call: Call) -> Reply:
    """HeadBucket."""
    return Reply(200, {"x-amz-bucket-region": "auto"})


def put_object(double: Double, call: Call) -> Reply:
    """PutObject."""
    _check_digests(call)
    check_conditions(call.headers, _existing(double, call.key))
    double.pace(call.key)
    content_type = call.headers.get("content-type", "application/octet-stream")
    etag = call.body.md5.hexdigest()
    double.bucket.put(call.key, Stored(call.body.close(), etag, double.clock(), content_type, _metadata(call)))
    return Reply(200, {"etag": f'"{etag}"'})


def head_object(double: Double, call: Call) -> Reply:
    """HeadObject: the double says the length by the size of a body that it does not send."""
    stored = double.bucket.get(call.key)
    return Reply(200, _described(stored), pieces=stored.pieces)


def get_object(double: Double, call: Call) -> Reply:
    """GetObject, one range at most; `response-*` is ignored."""
    stored = double.bucket.get(call.key)
    asked = re.fullmatch(r"bytes=(\d*)-(\d*)", call.headers.get("range", ""))
    if asked is None or asked.group(1) == asked.group(2) == "":
        return Reply(200, _described(stored), pieces=stored.pieces)
    first, last = asked.groups()
    start = int(first) if first else max(0, stored.size - int(last))
    end = min(int(last), stored.size - 1) if first and last else stored.size - 1
    if start >= stored.size or end < start:
        raise S3Error(416, "InvalidRange", "The requested range is not satisfiable")
    headers = _described(stored) | {"content-range": f"bytes {start}-{end}/{stored.size}"}
    return Reply(206, headers, pieces=cut(stored.pieces, start, end - start + 1))


def delete_object(double: Double, call: Call) -> Reply:
    """DeleteObject; conditions are ignored, as R2 has none here."""
    double.bucket.delete(call.key)
    return Reply(204)


def list_objects(double: Double, call: Call) -> Reply:
    """ListObjectsV2."""
    limit = min(int(call.query.get("max-keys", "1000")), 1000)
    after = call.query.get("continuation-token") or call.query.get("start-after", "")
    after = unquote(after.removeprefix("after:"))
    keys, truncated = double.bucket.list(call.query.get("prefix", ""), after, limit)
    encoded = call.query.get("encoding-type") == "url"

    def shown(text: str) -> str:
        return quote(text, safe="/-_.~*").replace("%20", "+") if encoded else escape(text)

    entries = []
    for key in keys:
        stored = double.bucket.get(key)
        modified = strftime("%Y-%m-%dT%H:%M:%S.000Z", gmtime(stored.modified))
        entries.append(
            f"<Contents><Key>{shown(key)}</Key><LastModified>{modified}</LastModified><ETag>&quot;{stored.etag}&quot;</ETag>"
            f"<Size>{stored.size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
        )
    more = f"<NextContinuationToken>after:{quote(keys[-1], safe='')}</NextContinuationToken>" if truncated else ""
    body = (
        f'<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="{_NAMESPACE[1:-1]}"><Name>{double.name}</Name>'
        f"<Prefix>{shown(call.query.get('prefix', ''))}</Prefix><MaxKeys>{limit}</MaxKeys><KeyCount>{len(keys)}</KeyCount>"
        f"{'<EncodingType>url</EncodingType>' if encoded else ''}<IsTruncated>{str(truncated).lower()}</IsTruncated>"
        f"{more}{''.join(entries)}</ListBucketResult>"
    )
    return Reply(200, _XML, body.encode())


def create_upload(double: Double, call: Call) -> Reply:
    """CreateMultipartUpload."""
    content_type = call.headers.get("content-type", "application/octet-stream")
    upload = double.bucket.begin(call.key, content_type, _metadata(call))
    body = (
        f'<InitiateMultipartUploadResult xmlns="{_NAMESPACE[1:-1]}"><Bucket>{double.name}</Bucket>'
        f"<Key>{escape(call.key)}</Key><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>"
    )
    return Reply(200, _XML, body.encode())


def _part_number(call: Call) -> int:
    number = call.query["partNumber"]
    if not number.isdigit() or not 1 <= int(number) <= 10_000:
        raise S3Error(400, "InvalidArgument", "part numbers are from 1 to 10000")
    return int(number)


def upload_part(double: Double, call: Call) -> Reply:
    """UploadPart."""
    upload = double.bucket.upload(call.query["uploadId"], call.key)
    _check_digests(call)
    etag = call.body.md5.hexdigest()
    upload.parts[_part_number(call)] = Stored(call.body.close(), etag, double.clock())
    return Reply(200, {"etag": f'"{etag}"'})


def _source(double: Double, call: Call) -> Stored:
    bucket, _, key = unquote(call.headers["x-amz-copy-source"]).removeprefix("/").partition("/")
    if bucket != double.name:
        raise S3Error(404, "NoSuchBucket", "The specified bucket does not exist.")
    return double.bucket.get(key)


def _copied(tag: str, stored: Stored) -> Reply:
    modified = strftime("%Y-%m-%dT%H:%M:%S.000Z", gmtime(stored.modified))
    body = f'<{tag} xmlns="{_NAMESPACE[1:-1]}"><LastModified>{modified}</LastModified><ETag>&quot;{stored.etag}&quot;</ETag></{tag}>'
    return Reply(200, _XML, body.encode())


def upload_part_copy(double: Double, call: Call) -> Reply:
    """UploadPartCopy, whole or a range."""
    upload = double.bucket.upload(call.query["uploadId"], call.key)
    source = _source(double, call)
    start, size = 0, source.size
    asked = call.headers.get("x-amz-copy-source-range")
    if asked is not None:
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", asked)
        if found is None or not int(found.group(1)) <= int(found.group(2)) < source.size:
            raise S3Error(400, "InvalidArgument", "the range to copy is not within the source")
        start, size = int(found.group(1)), int(found.group(2)) - int(found.group(1)) + 1
    pieces = cut(source.pieces, start, size)
    # Hashing what was copied would need its bytes; an etag has only to be unique and to look like one.
    part = Stored(pieces, uuid.uuid4().hex, double.clock())
    upload.parts[_part_number(call)] = part
    return _copied("CopyPartResult", part)


def copy_object(double: Double, call: Call) -> Reply:
    """CopyObject with its directive; at most 5 GiB."""
    source = _source(double, call)
    prefix = "x-amz-copy-source-"
    conditions = {name.removeprefix(prefix): value for name, value in call.headers.items() if name.startswith(prefix)}
    check_conditions(conditions, source.etag)
    if source.size > 5 * 1024**3:
        raise S3Error(400, "InvalidRequest", "the source is larger than a single copy may be")
    replace = call.headers.get("x-amz-metadata-directive", "COPY") == "REPLACE"
    double.pace(call.key)
    stored = Stored(
        source.pieces,
        source.etag,
        double.clock(),
        call.headers.get("content-type", "application/octet-stream") if replace else source.content_type,
        _metadata(call) if replace else source.metadata,
    )
    double.bucket.put(call.key, stored)
    return _copied("CopyObjectResult", stored)


def complete_upload(double: Double, call: Call) -> Reply:
    """CompleteMultipartUpload; a condition that does not hold ends the upload."""
    identifier = call.query["uploadId"]
    upload = double.bucket.upload(identifier, call.key)
    try:
        check_conditions(call.headers, _existing(double, call.key))
    except S3Error:
        del double.bucket.uploads[identifier]
        raise
    chosen = []
    for number, etag in sorted(_named_parts(call.body.in_memory)):
        part = upload.parts.get(number)
        if part is None or part.etag != etag:
            raise S3Error(400, "InvalidPart", f"part {number} is missing or has another etag")
        chosen.append(part)
    check_parts([part.size for part in chosen])
    double.pace(call.key)
    del double.bucket.uploads[identifier]
    stored = Stored(
        tuple(piece for part in chosen for piece in part.pieces),
        multipart_etag(chosen),
        double.clock(),
        upload.content_type,
        upload.metadata,
    )
    double.bucket.put(call.key, stored)
    body = (
        f'<CompleteMultipartUploadResult xmlns="{_NAMESPACE[1:-1]}"><Bucket>{double.name}</Bucket><Key>{escape(call.key)}</Key>'
        f"<ETag>&quot;{stored.etag}&quot;</ETag></CompleteMultipartUploadResult>"
    )
    return Reply(200, _XML, body.encode())


def _named_parts(body: bytes) -> list[tuple[int, str]]:
    try:
        root = ET.fromstring(body)
        return [
            (int(part.findtext(f"{_NAMESPACE}PartNumber") or ""), (part.findtext(f"{_NAMESPACE}ETag") or "").strip('"'))
            for part in root.iter(f"{_NAMESPACE}Part")
        ]
    except (ET.ParseError, ValueError):
        raise S3Error(400, "MalformedXML", "the completion is not well formed") from None


def abort_upload(double: Double, call: Call) -> Reply:
    """AbortMultipartUpload."""
    double.bucket.upload(call.query["uploadId"], call.key)
    del double.bucket.uploads[call.query["uploadId"]]
    return Reply(204)


OPERATIONS: dict[str, Callable[[Double, Call], Reply]] = {
    "HeadBucket": head_bucket,
    "PutObject": put_object,
    "HeadObject": head_object,
    "GetObject": get_object,
    "DeleteObject": delete_object,
    "ListObjectsV2": list_objects,
    "CreateMultipartUpload": create_upload,
    "UploadPart": upload_part,
    "UploadPartCopy": upload_part_copy,
    "CopyObject": copy_object,
    "CompleteMultipartUpload": complete_upload,
    "AbortMultipartUpload": abort_upload,
}
