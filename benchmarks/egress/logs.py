"""Access logs: distribution's lines (text and JSON), the combined format of nginx and Apache, and edgeproxy's own audit lines."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from typing import IO, Any, Final

import orjson

from benchmarks.egress.workload import Kind, Malformed, Reading, Request, classify

MAX_LINE: Final = 256 * 1024

_COMBINED: Final = re.compile(
    r"(?P<client>\S+) \S+ .*?\[(?P<time>[^\]]+)\] "
    r'"(?P<method>[A-Z]+) (?P<target>\S+) HTTP/[0-9.]+" (?P<status>[0-9]{3}) (?P<bytes>[0-9]+|-)'
)
_NO_REQUEST: Final = re.compile(r'\S+ \S+ .*?\[[^\]]+\] "(?:[^"\\]|\\.)*" [0-9]{3} ')
"""What servers log where no request could be read: a TLS handshake on a plain port, or nothing at all."""
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
    if match is None and _NO_REQUEST.match(line):
        return None
    if match is None:
        raise Malformed("not a line in the combined format")
    try:
        time = _moment(match["time"])
    except ValueError:
        raise Malformed(f"{match['time'][:40]!r} is not like 24/Nov/2026:03:32:18 +0000") from None
    written = 0 if match["bytes"] == "-" else int(match["bytes"])
    return _logged(time, match["method"], match["target"], int(match["status"]), written, match["client"])


class Distribution:
    """Reads distribution's output line by line. It holds two logs: its own, as text or JSON, and an access log in the combined format.

    Where both tell of a request, the first does: it comes before the other. An error is told there whatever the level of the log is,
    so it counts only once a request without one was told there too.
    """

    def __init__(self) -> None:
        self._tells = False

    def __call__(self, line: str) -> Request | None:
        """Read a line; None for the many that tell of no request, and for what was told already.

        Raises:
            Malformed: it is none.

        """
        if not line.startswith("{") and "level=" not in line and (_COMBINED.match(line) or _NO_REQUEST.match(line)):
            return None if self._tells else parse_combined(line)
        fields = _json(line) if line.startswith("{") else _logfmt(line)
        if "http.response.status" not in fields:
            return None
        self._tells = self._tells or fields.get("msg", "response completed") == "response completed"
        return _response(fields) if self._tells else None


def unpacked(parse: Callable[[str], Request | None]) -> Callable[[str], Request | None]:
    """Read lines that docker's json-file log driver packed into objects."""

    def packed(line: str) -> Request | None:
        text = _json(line).get("log")
        if not isinstance(text, str):
            raise Malformed("not a line of docker's json-file driver: no log")
        return parse(text) if text.strip() else None

    return packed


def _response(fields: Mapping[str, Any]) -> Request | None:
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
    address, size = event.get("client"), event.get("bytes")
    client = str(address.get("address", "")) if isinstance(address, dict) else ""
    repository, digest = str(event.get("repository", "")), str(event.get("digest", ""))
    if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 0):
        raise Malformed("bytes is no number")
    if event.get("outcome") != "allowed" or kind_of_event not in {"pull", "push"}:
        return _beside(event, time, repository, size, client) if "outcome" in event else None
    is_manifest = "media_type" in event
    if kind_of_event == "push":
        kind = Kind.PUSH_MANIFEST if is_manifest else Kind.PUSH_BLOB
    elif size is None:
        kind, size = Kind.LOOK_MANIFEST if is_manifest else Kind.LOOK_BLOB, 0
    else:
        kind = Kind.PULL_MANIFEST if is_manifest else Kind.PULL_BLOB
    # The tag is what was asked for; the digest is what it stood for.
    reference = str(event.get("tag") or digest)
    return Request(time, kind, repository, reference, size, client, event.get("delivery") == "redirect")


def _beside(event: Mapping[str, Any], time: float, repository: str, size: int | None, client: str) -> Request:
    """Tell what neither pulled nor pushed: parts of an upload have bytes, and what was not there is told by its status."""
    kind = Kind.OTHER
    if event["event"] == "upload" and event["outcome"] == "allowed" and size is not None:
        kind = Kind.UPLOAD
    elif event["event"] == "pull" and event.get("status") == 404:
        kind = Kind.MISS_BLOB if str(event.get("reason", "")).startswith("BLOB") else Kind.MISS_MANIFEST
    return Request(time, kind, repository, "", size or 0, client)


@lru_cache(maxsize=1024)
def _moment(text: str) -> float:
    """Read the time of a line in the combined format. Busy logs have many lines a second, and reading it is the dearest part of a line."""
    return datetime.strptime(text, "%d/%b/%Y:%H:%M:%S %z").timestamp()


def _logged(time: float, method: str, target: str, status: int, written: int, client: str) -> Request | None:
    known = classify(method, target, status)
    if known is None:
        return None
    kind, repository, reference = known
    redirected = status in _REDIRECTS
    size: int | None = 0
    if kind.is_pull:
        size = None if redirected else written
    elif kind.is_push:
        size = None
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
