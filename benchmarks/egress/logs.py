"""Access logs: distribution's lines (text and JSON), the combined format of nginx and Apache, and edgeproxy's own audit lines."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import IO, Any, Final

import orjson

from benchmarks.egress.workload import Kind, Malformed, Reading, Request, classify

MAX_LINE: Final = 256 * 1024

_COMBINED: Final = re.compile(
    r"(?P<client>\S+) \S+ .*?\[(?P<time>[^\]]+)\] "
    r'"(?P<method>[A-Z]+) (?P<target>\S+) HTTP/[0-9.]+" (?P<status>[0-9]{3}) (?P<bytes>[0-9]+|-)'
)
_LOGFMT: Final = re.compile(r'([A-Za-z0-9_.]+)=("(?:[^"\\]|\\.)*"|\S*)')
_REDIRECTS: Final = {301, 302, 303, 307, 308}


def lines(stream: IO[bytes]) -> Iterator[bytes | None]:
    """Yield lines; None for one that is too long, which is passed over without being held."""
    while line := stream.readline(MAX_LINE):
        if line.endswith(b"\n") or len(line) < MAX_LINE:
            yield line
            continue
        while (rest := stream.readline(MAX_LINE)) and not rest.endswith(b"\n"):
            pass
        yield None


def requests(
    stream: IO[bytes], reading: Reading, name: str, parse: Callable[[str], Request | None]
) -> Iterator[Request]:
    """Read the requests of a log line by line."""
    for number, line in enumerate(lines(stream), 1):
        if line is not None and not line.strip():
            continue
        if line is None:
            reading.refuse(f"{name}:{number}", f"the line is longer than {MAX_LINE} bytes")
            continue
        try:
            request = parse(line.decode())
        except UnicodeDecodeError:
            reading.refuse(f"{name}:{number}", "the line is not UTF-8")
        except Malformed as malformed:
            reading.refuse(f"{name}:{number}", str(malformed))
        else:
            if request is None:
                reading.passed_over += 1
            else:
                reading.taken += 1
                yield request


def parse_combined(line: str) -> Request | None:
    """Read a line in the combined (or common) format. It does not tell how much was pushed, or where a redirect led.

    Raises:
        Malformed: it is not one.

    """
    match = _COMBINED.match(line)
    if match is None:
        raise Malformed("not a line in the combined format")
    try:
        time = datetime.strptime(match["time"], "%d/%b/%Y:%H:%M:%S %z").timestamp()
    except ValueError:
        raise Malformed(f"{match['time'][:40]!r} is not like 24/Nov/2026:03:32:18 +0000") from None
    written = 0 if match["bytes"] == "-" else int(match["bytes"])
    return _logged(time, match["method"], match["target"], int(match["status"]), written, match["client"])


def parse_distribution(line: str) -> Request | None:
    """Read a line of distribution's log, as text or JSON; None for the many that tell of no request.

    Raises:
        Malformed: it is not one.

    """
    fields = _json(line) if line.startswith("{") else _logfmt(line)
    if "http.response.status" not in fields:
        return None
    try:
        time = datetime.fromisoformat(str(fields["time"])).timestamp()
        status, written = int(fields["http.response.status"]), int(fields["http.response.written"])
        method, target = str(fields["http.request.method"]), str(fields["http.request.uri"])
        client = str(fields["http.request.remoteaddr"]).rpartition(":")[0]
    except (KeyError, ValueError) as error:
        raise Malformed(f"a response without its parts: {error}") from None
    return _logged(time, method, target, status, written, client)


def parse_audit(line: str) -> Request | None:
    """Read a line of edgeproxy's audit; None for events that move nothing.

    Raises:
        Malformed: it is not one.

    """
    event = _json(line)
    kind_of_event, time = event.get("event"), event.get("time")
    if not isinstance(kind_of_event, str) or not isinstance(time, int | float):
        raise Malformed("not an audit line: no event or no time")
    address = event.get("client")
    client = str(address.get("address", "")) if isinstance(address, dict) else ""
    repository, digest = str(event.get("repository", "")), str(event.get("digest", ""))
    if event.get("outcome") != "allowed" or kind_of_event not in {"pull", "push"}:
        return Request(time, Kind.OTHER, repository, "", 0, client) if "outcome" in event else None
    is_manifest, size = "media_type" in event, event.get("bytes")
    if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 0):
        raise Malformed("bytes is no number")
    if kind_of_event == "push":
        kind = Kind.PUSH_MANIFEST if is_manifest else Kind.PUSH_BLOB
    elif size is None:
        kind, size = Kind.LOOK_MANIFEST if is_manifest else Kind.LOOK_BLOB, 0
    else:
        kind = Kind.PULL_MANIFEST if is_manifest else Kind.PULL_BLOB
    # The tag is what was asked for; the digest is what it stood for.
    reference = str(event.get("tag") or digest)
    return Request(time, kind, repository, reference, size, client, event.get("delivery") == "redirect")


def _logged(time: float, method: str, target: str, status: int, written: int, client: str) -> Request | None:
    known = classify(method, target, status)
    if known is None:
        return None
    kind, repository, reference = known
    redirected = status in _REDIRECTS
    size: int | None
    if kind in {Kind.PULL_MANIFEST, Kind.PULL_BLOB}:
        size = None if redirected else written
    elif kind.is_push:
        size = None
    else:
        size = 0
    return Request(time, kind, repository, reference, size, client, redirected)


def _json(line: str) -> dict[str, Any]:
    try:
        entry = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise Malformed(f"not JSON: {error}") from None
    if not isinstance(entry, dict):
        raise Malformed("not a JSON object")
    return entry


def _logfmt(line: str) -> Mapping[str, str]:
    fields = {key: value.strip('"').replace('\\"', '"') for key, value in _LOGFMT.findall(line)}
    if "time" not in fields or "level" not in fields:
        raise Malformed("not a line of distribution's log: no time= or no level=")
    return fields
