"""The JSON of the IBM production registry traces (Anwar et al., FAST '18): arrays of flat objects, read in bounded memory.

Real files hold gigabytes in one array, so they are cut into objects here and only each object is parsed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import IO, Any, Final

import orjson

from benchmarks.egress.workload import Malformed, Reading, Request, classify

CHUNK: Final = 1024 * 1024
MAX_OBJECT: Final = 64 * 1024
"""Objects of these traces have about 400 bytes."""

_OBJECT: Final = re.compile(rb'\{(?:[^{}"]++|"(?:[^"\\\n]|\\.)*+")*+\}')
_BETWEEN: Final = re.compile(rb"[\s,\[\]]*+")
_RESUME: Final = re.compile(rb"[\n{]")


def objects(stream: IO[bytes], reading: Reading, name: str) -> Iterator[tuple[int, bytes]]:
    """Cut a JSON array, or lines of objects, into its objects, each with its line number.

    What is no object is malformed; the reading goes on at the next line, or at the next brace where there is none.
    """
    buffer, line, ended = b"", 1, False
    while not ended:
        piece = stream.read(CHUNK)
        ended = not piece
        buffer += piece
        position = 0
        while True:
            start = _skipped(buffer, position)
            line += buffer.count(b"\n", position, start)
            position = start
            if position == len(buffer) or (not ended and len(buffer) - position < MAX_OBJECT):
                break
            found = _OBJECT.match(buffer, position)
            if found is not None:
                yield line, found.group()
                end = found.end()
            else:
                reading.refuse(f"{name}:{line}", f"not a JSON object: {_shown(buffer[position : position + 40])}")
                resumed = _RESUME.search(buffer, position + 1)
                end = len(buffer) if resumed is None else resumed.start()
            line += buffer.count(b"\n", position, end)
            position = end
        buffer = buffer[position:]


def _skipped(buffer: bytes, position: int) -> int:
    match = _BETWEEN.match(buffer, position)
    return position if match is None else match.end()


def _shown(text: bytes) -> str:
    return repr(text.decode(errors="replace").splitlines()[0])


def requests(stream: IO[bytes], reading: Reading, name: str) -> Iterator[Request]:
    """Read the requests of a trace file."""
    for line, text in objects(stream, reading, name):
        try:
            request = parse(text)
        except Malformed as malformed:
            reading.refuse(f"{name}:{line}", str(malformed))
            continue
        if request is None:
            reading.passed_over += 1
        else:
            reading.taken += 1
            yield request


def parse(text: bytes) -> Request | None:
    """Read one object of a trace; None for what is no request to a registry's content.

    `http.response.written` is the size of what was pulled, and of what was pushed: these traces have no other.

    Raises:
        Malformed: it is not JSON, or lacks a field, or a field is not of its kind.

    """
    try:
        entry: dict[str, Any] = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Malformed(f"not JSON: {error}") from None
    method, uri = _of(entry, "http.request.method", str), _of(entry, "http.request.uri", str)
    status, written = _of(entry, "http.response.status", int), _of(entry, "http.response.written", int)
    client = _of(entry, "http.request.remoteaddr", str)
    time = moment(_of(entry, "timestamp", str))
    if written < 0:
        raise Malformed("http.response.written is negative")
    known = classify(method, uri, status)
    if known is None:
        return None
    kind, repository, reference = known
    redirected = status in {301, 302, 303, 307, 308}
    size: int | None = written
    if not (kind.is_pull or kind.is_push):
        size = 0
    elif redirected:
        size = None
    return Request(time, kind, repository, reference, size, client, redirected)


def moment(text: str) -> float:
    """Read a time stamp of these traces, which is UTC.

    Raises:
        Malformed: it is none.

    """
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise Malformed(f"timestamp {text[:40]!r} is not like 2017-06-20T02:39:15.000Z")
    return time.timestamp()


def _of(entry: Any, key: str, kind: type[Any]) -> Any:
    value = entry.get(key) if isinstance(entry, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise Malformed(f"{key} is missing or no {'text' if kind is str else 'whole number'}")
    return value
