"""Byte ranges: `Range` of a pull (RFC 9110, 14) and `Content-Range` of a chunk (distribution-spec, "Pushing a blob in chunks")."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from edgeproxy.oci.errors import BlobUploadInvalid, RangeInvalid
from edgeproxy.oci.names import shown

MAX_RANGES: Final = 64
_SPEC: Final = re.compile(r"([0-9]{0,18})-([0-9]{0,18})", re.ASCII)
_CONTENT_RANGE: Final = re.compile(r"(?:bytes )?([0-9]{1,18})-([0-9]{1,18})(?:/([0-9]{1,18}|\*))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Range:
    """One satisfiable range of bytes, both ends included, within the content."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class MultiRange:
    """Several well-formed ranges; `ranges` are those that are satisfiable, at least one.

    A redirect lets the store answer; whoever serves the bytes may answer with the whole content.
    """

    ranges: tuple[Range, ...]


def parse_range(header: str | None, size: int) -> Range | MultiRange | None:
    """Read a `Range` header for content of `size` bytes; None: serve it whole (no header, or a unit that is not bytes).

    Raises:
        RangeInvalid: a byte range that is malformed, reversed or beyond the content; its headers have `Content-Range: bytes */<size>`.
            The standard lets a server ignore some of these; the conformance suite wants 416. No range of an empty blob is satisfiable.

    """
    if header is None:
        return None
    unit, equals, specs = header.partition("=")
    if not equals or unit.strip(" \t").lower() != "bytes":
        return None
    items = specs.split(",")
    if len(items) > MAX_RANGES:
        raise _invalid(header, size)
    found = [_satisfiable(item.strip(" \t"), header, size) for item in items]
    ranges = tuple(item for item in found if item is not None)
    if not ranges:
        raise _invalid(header, size)
    return ranges[0] if len(items) == 1 else MultiRange(ranges)


def parse_content_range(header: str) -> tuple[int, int]:
    """Read where a chunk begins and ends, both included. The specification writes `0-99`; `bytes 0-99/*` is understood too.

    Raises:
        BlobUploadInvalid: it is neither, reversed, or ends beyond its own total.

    """
    match = _CONTENT_RANGE.fullmatch(header.strip(" \t"))
    if match is None:
        raise _no_content_range(header)
    start, end = int(match[1]), int(match[2])
    if end < start or (match[3] not in {None, "*"} and end >= int(match[3])):
        raise _no_content_range(header)
    return start, end


def upload_range(size: int) -> str:
    """Print how much of an upload has arrived. An empty one is `0-0`, as there is no other way to write it."""
    return f"0-{max(size - 1, 0)}"


def _satisfiable(spec: str, header: str, size: int) -> Range | None:
    match = _SPEC.fullmatch(spec)
    if match is None or spec == "-":
        raise _invalid(header, size)
    first, last = match.groups()
    if not first:
        # The last so many bytes.
        start, end = max(size - int(last), 0), size - 1
    else:
        start, end = int(first), int(last) if last else size - 1
        if last and end < start:
            raise _invalid(header, size)
    return Range(start, min(end, size - 1)) if start < size else None


def _invalid(header: str, size: int) -> RangeInvalid:
    return RangeInvalid(
        f"Range {shown(header)} cannot be satisfied: the blob has {size} bytes",
        headers={"Content-Range": f"bytes */{size}"},
    )


def _no_content_range(header: str) -> BlobUploadInvalid:
    return BlobUploadInvalid(f"Content-Range {shown(header)} is not valid; send <first>-<last>, such as 0-1023")
