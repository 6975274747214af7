"""Opens workloads of any known format, and finds out which it is."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from enum import StrEnum
from pathlib import Path
from typing import IO, Final, cast

import orjson

from benchmarks.egress import ibm, logs
from benchmarks.egress.workload import Reading, Refused, Request

PEEK: Final = 8192


class Format(StrEnum):
    """What a workload may be written in."""

    IBM = "ibm"
    DISTRIBUTION = "distribution"
    COMBINED = "combined"
    AUDIT = "audit"


def read(paths: Iterable[Path], reading: Reading, chosen: Format | None = None) -> Iterator[Request]:
    """Read the requests of files one after the other, in the order of their lines. `.gz` files are unpacked on the way.

    Raises:
        Refused: a file cannot be opened, its format is not known, or it is malformed and the reading is strict.

    """
    for path in paths:
        try:
            with closing(_open(path)) as stream:
                head = stream.read(PEEK)
                stream.seek(0)
                packed = head.lstrip().startswith(b'{"log":')
                form = chosen or detect(_unpacked(head) if packed else head, path)
                yield from _requests(form, stream, reading, path.name, packed=packed)
        except (OSError, EOFError, zlib.error) as error:
            raise Refused(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def detect(head: bytes, path: Path) -> Format:
    """Tell the format by the first bytes.

    Raises:
        Refused: none is known that looks so.

    """
    text = head.lstrip()
    if text.startswith(b"["):
        return Format.IBM
    if text.startswith(b"{"):
        first = text.partition(b"}")[0]
        if b'"http.request.uri"' in first and b'"timestamp"' in first:
            return Format.IBM
        return Format.AUDIT if b'"event"' in text.partition(b"\n")[0] else Format.DISTRIBUTION
    # Not only at the beginning: journals and container runtimes put something before it.
    if b"time=" in text and b" level=" in text:
        return Format.DISTRIBUTION
    if b'] "' in text:
        return Format.COMBINED
    formats = ", ".join(Format)
    raise Refused(f"{path}: this is no workload that is known here; say what it is with --format ({formats})")


def _open(path: Path) -> IO[bytes]:
    if path.suffix == ".gz":
        return cast("IO[bytes]", gzip.GzipFile(path))
    return path.open("rb")


def _unpacked(head: bytes) -> bytes:
    """Give what docker's json-file log driver packed; the last line is cut off and left out."""
    texts: list[str] = []
    for line in head.splitlines()[:-1] or [head]:
        with suppress(orjson.JSONDecodeError, KeyError, TypeError):
            texts.append(orjson.loads(line)["log"])
    return "".join(texts).encode()


def _requests(form: Format, stream: IO[bytes], reading: Reading, name: str, *, packed: bool) -> Iterator[Request]:
    if form is Format.IBM:
        return ibm.requests(stream, reading, name)
    parsers: Mapping[Format, Callable[[str], Request | None]] = {
        Format.DISTRIBUTION: logs.Distribution(),
        Format.COMBINED: logs.parse_combined,
        Format.AUDIT: logs.parse_audit,
    }
    return logs.requests(stream, reading, name, logs.unpacked(parsers[form]) if packed else parsers[form])
