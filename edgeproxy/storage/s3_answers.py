"""What the registry needs to know out of what the SDK parsed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final

import aiohttp

from edgeproxy.storage import OCTETS, ObjectInfo

_METADATA: Final = "x-amz-meta-"


def etag_of(answer: dict[str, Any]) -> str:
    """Give an etag without its quotes."""
    return str(answer.get("ETag", "")).strip('"')


def modified_of(answer: dict[str, Any]) -> float:
    """Give the store's time of a write, which it says in `Date` only (our own, if it does not)."""
    date = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    try:
        return parsedate_to_datetime(date).timestamp()
    except (TypeError, ValueError):
        return time.time()


def described(key: str, answer: dict[str, Any]) -> ObjectInfo:
    """Read the answer to a HEAD or GET. `key` is the key as the store's users know it."""
    _, slash, total = str(answer.get("ContentRange", "")).partition("/")
    return ObjectInfo(
        key=key,
        size=int(total) if slash else int(answer["ContentLength"]),
        etag=etag_of(answer),
        modified=answer["LastModified"].timestamp(),
        content_type=answer.get("ContentType", OCTETS),
        metadata=answer.get("Metadata", {}),
    )


def described_by(key: str, headers: Mapping[str, str]) -> ObjectInfo:
    """Read the headers of an answer to a HEAD or GET of a whole object.

    Raises:
        aiohttp.ClientPayloadError: they are not those of an object.

    """
    try:
        return ObjectInfo(
            key=key,
            size=int(headers["Content-Length"]),
            etag=headers.get("ETag", "").strip('"'),
            modified=parsedate_to_datetime(headers["Last-Modified"]).timestamp(),
            content_type=headers.get("Content-Type", OCTETS),
            metadata={
                name[len(_METADATA) :].lower(): value
                for name, value in headers.items()
                if name[: len(_METADATA)].lower() == _METADATA
            },
        )
    except (KeyError, ValueError) as error:
        raise aiohttp.ClientPayloadError(f"not the headers of an object ({type(error).__name__})") from None


def listed(key: str, entry: dict[str, Any]) -> ObjectInfo:
    """Read one entry of a listing."""
    return ObjectInfo(key, int(entry["Size"]), etag_of(entry), entry["LastModified"].timestamp(), content_type="")
