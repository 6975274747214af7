"""Opens workloads of any known format, and finds out which it is."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator
from contextlib import closing
from enum import StrEnum
from pathlib import Path
from typing import IO, Final, cast

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
                form = chosen or detect(stream, path)
                yield from _requests(form, stream, reading, path.name)
        except (OSError, EOFError) as error:
            raise Refused(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def detect(stream: IO[bytes], path: Path) -> Format:
    """Tell the format by the first lines, and go back to the beginning.

    Raises:
        Refused: none is known that looks so.

    """
    head = stream.read(PEEK)
    stream.seek(0)
    text = head.lstrip()
    if text.startswith(b"["):
        return Format.IBM
    if text.startswith(b"{"):
        first = text.partition(b"}")[0]
        if b'"http.request.uri"' in first and b'"timestamp"' in first:
            return Format.IBM
        return Format.AUDIT if b'"event"' in text.partition(b"\n")[0] else Format.DISTRIBUTION
    if text.startswith(b"time="):
        return Format.DISTRIBUTION
    if b'] "' in text:
        return Format.COMBINED
    formats = ", ".join(Format)
    raise Refused(f"{path}: this is no workload that is known here; say what it is with --format ({formats})")


def _open(path: Path) -> IO[bytes]:
    if path.suffix == ".gz":
        return cast("IO[bytes]", gzip.GzipFile(path))
    return path.open("rb")


def _requests(form: Format, stream: IO[bytes], reading: Reading, name: str) -> Iterator[Request]:
    match form:
        case Format.IBM:
            return ibm.requests(stream, reading, name)
        case Format.DISTRIBUTION:
            return logs.requests(stream, reading, name, logs.parse_distribution)
        case Format.COMBINED:
            return logs.requests(stream, reading, name, logs.parse_combined)
        case Format.AUDIT:
            return logs.requests(stream, reading, name, logs.parse_audit)
