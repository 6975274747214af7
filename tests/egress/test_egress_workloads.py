"""Workloads are read from every format, in bounded memory, and malformed entries are told."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import IO, Any, cast

import pytest

from benchmarks.egress import ibm
from benchmarks.egress.workload import Kind, Reading, Refused, Request
from benchmarks.egress.workloads import Format, read

DIGEST = f"sha256:{'a' * 64}"


def entry(**changes: Any) -> dict[str, Any]:
    return {
        "host": "7dd1b8a7",
        "http.request.duration": 0.1,
        "http.request.method": "GET",
        "http.request.remoteaddr": "c0ffee",
        "http.request.uri": "v2/1a2b/3c4d/blobs/5e6f",
        "http.request.useragent": "docker/17",
        "http.response.status": 200,
        "http.response.written": 1234,
        "id": "77",
        "timestamp": "2017-06-20T02:39:15.250Z",
    } | changes


def read_text(
    tmp_path: Path, text: str, *, form: Format | None = None, strict: bool = False
) -> tuple[list[Request], Reading]:
    path = tmp_path / "workload"
    path.write_text(text)
    reading = Reading(strict=strict)
    return list(read([path], reading, form)), reading


def test_an_entry_of_the_ibm_traces_becomes_a_request(tmp_path: Path) -> None:
    (request,), reading = read_text(tmp_path, json.dumps([entry()]))

    assert request == Request(1497926355.25, Kind.PULL_BLOB, "1a2b/3c4d", "5e6f", 1234, "c0ffee")
    assert (reading.taken, reading.malformed) == (1, 0)


@pytest.mark.parametrize(
    ("changes", "kind", "reference", "size"),
    [
        pytest.param({"http.request.uri": "v2/u/r/manifests/v1"}, Kind.PULL_MANIFEST, "v1", 1234, id="a manifest"),
        pytest.param({"http.request.method": "HEAD"}, Kind.LOOK_BLOB, "5e6f", 0, id="a HEAD moves nothing"),
        pytest.param({"http.response.status": 304}, Kind.LOOK_BLOB, "5e6f", 0, id="nothing has changed"),
        pytest.param({"http.response.status": 307}, Kind.PULL_BLOB, "5e6f", None, id="a redirect tells no size"),
        pytest.param({"http.response.status": 404}, Kind.MISS_BLOB, "5e6f", 0, id="a blob that is not there"),
        pytest.param(
            {"http.response.status": 404, "http.request.method": "HEAD", "http.request.uri": "v2/u/r/manifests/v1"},
            Kind.MISS_MANIFEST, "v1", 0, id="a manifest that is not there",
        ),
        pytest.param({"http.response.status": 403}, Kind.OTHER, "", 0, id="denied"),
        pytest.param({"http.request.uri": "v2/"}, Kind.OTHER, "", 0, id="a ping"),
        pytest.param(
            {"http.request.method": "PUT", "http.request.uri": "v2/u/r/blobs/uploads/99", "http.response.status": 201},
            Kind.PUSH_BLOB, "99", 1234, id="an anonymised push",
        ),
        pytest.param(
            {"http.request.method": "PUT", "http.request.uri": f"v2/u/r/blobs/uploads/99?_state=x&digest={DIGEST}"},
            Kind.PUSH_BLOB, DIGEST, 1234, id="a push that tells the digest",
        ),
        pytest.param(
            {"http.request.method": "PATCH", "http.request.uri": "v2/u/r/blobs/uploads/99", "http.response.status": 202},
            Kind.UPLOAD, "", 0, id="a part of an upload",
        ),
    ],
)  # fmt: skip
def test_the_kind_of_a_request_is_told_by_its_line(
    tmp_path: Path, changes: dict[str, Any], kind: Kind, reference: str, size: int | None
) -> None:
    (request,), _ = read_text(tmp_path, json.dumps([entry(**changes)]))

    assert (request.kind, request.reference, request.size) == (kind, reference, size)


@pytest.mark.parametrize("layout", ["one line", "a line each", "indented", "without an array"])
def test_a_trace_is_read_however_it_is_laid_out(tmp_path: Path, layout: str) -> None:
    entries = [entry(**{"http.response.written": number}) for number in range(3)]
    text = {
        "one line": json.dumps(entries),
        "a line each": "[" + ",\n".join(map(json.dumps, entries)) + "]\n",
        "indented": json.dumps(entries, indent=2),
        "without an array": "\n".join(map(json.dumps, entries)),
    }[layout]

    requests, reading = read_text(tmp_path, text)

    assert [request.size for request in requests] == [0, 1, 2]
    assert reading.malformed == 0


def test_a_long_array_is_read_piece_by_piece() -> None:
    class Counting(io.RawIOBase):
        """A file of one long line."""

        left = 200

        def read(self, size: int = -1) -> bytes:
            assert size > 0, "the whole file was asked for"
            self.left -= 1
            return (json.dumps(entry()) + ",").encode() * 500 if self.left >= 0 else b""

    reading = Reading()

    stream = cast("IO[bytes]", Counting())
    for _ in ibm.requests(stream, reading, "long"):
        pass

    assert (reading.taken, reading.malformed) == (100_000, 0)


def test_malformed_entries_are_counted_and_the_first_five_are_shown_with_their_lines(tmp_path: Path) -> None:
    good = json.dumps(entry())
    bad = [
        "nonsense",
        json.dumps(entry(timestamp="yesterday")),
        json.dumps({key: value for key, value in entry().items() if key != "http.request.uri"}),
        '{"half": "a string',
        json.dumps(entry(**{"http.response.written": -1})),
        json.dumps(entry(**{"http.response.status": "200"})),
        "{]}",
    ]
    text = "[\n" + ",\n".join([good, *bad, good]) + "\n]"

    requests, reading = read_text(tmp_path, text)

    assert len(requests) == 2
    assert reading.malformed == len(bad)
    assert [place.partition(": ")[0] for place in reading.places] == [f"workload:{line}" for line in (3, 4, 5, 6, 7)]
    told = list(reading.told())
    assert len(told) == 6
    assert told[-1] == "skipped 2 more malformed entries; --strict refuses them"


def test_a_strict_reading_refuses_what_a_lenient_one_skips(tmp_path: Path) -> None:
    text = "[\n" + json.dumps(entry()) + ",\nnonsense\n]"

    assert len(read_text(tmp_path, text)[0]) == 1
    with pytest.raises(Refused, match="workload:3: not a JSON object"):
        read_text(tmp_path, text, strict=True)


COMBINED = '10.0.0.7 - - [24/Nov/2026:03:32:18 +0000] "{line} HTTP/1.1" {status} {size} "-" "docker/29.0"\n'


def test_the_combined_format_of_nginx_is_read(tmp_path: Path) -> None:
    text = (
        COMBINED.format(line=f"GET /v2/acme/app/blobs/{DIGEST}", status=200, size=5000)
        + COMBINED.format(line=f"GET /v2/acme/app/blobs/{DIGEST}", status=307, size=88)
        + COMBINED.format(line=f"PUT /v2/acme/app/blobs/uploads/9?digest={DIGEST}", status=201, size=0)
        + COMBINED.format(line="GET /favicon.ico", status=200, size=0)
    )

    requests, reading = read_text(tmp_path, text)

    assert [(request.kind, request.size) for request in requests] == [
        (Kind.PULL_BLOB, 5000),
        (Kind.PULL_BLOB, None),
        (Kind.PUSH_BLOB, None),
    ]
    assert requests[0].time == 1795491138
    assert requests[0].client == "10.0.0.7"
    assert reading.passed_over == 1


DISTRIBUTION = (
    'time="2026-11-24T03:32:16.967927003Z" level=info msg="redis not configured" go.version=go1.26.8\n'
    'time="2026-11-24T03:32:18.924214708Z" level=info msg="response completed" go.version=go1.26.8 http.request.host="127.0.0.1:15999"'
    ' http.request.method=GET http.request.remoteaddr="10.0.0.7:47548" http.request.uri=/v2/acme/app/manifests/v1'
    ' http.response.duration="624.269µs" http.response.status=200 http.response.written=1500\n'
)


def test_the_log_of_distribution_is_read_as_text(tmp_path: Path) -> None:
    (request,), reading = read_text(tmp_path, DISTRIBUTION)

    assert (request.kind, request.repository, request.size) == (Kind.PULL_MANIFEST, "acme/app", 1500)
    assert request.client == "10.0.0.7"
    assert (reading.passed_over, reading.malformed) == (1, 0)


def test_the_log_of_distribution_is_read_as_json(tmp_path: Path) -> None:
    line = {
        "http.request.method": "GET",
        "http.request.remoteaddr": "10.0.0.7:1",
        "http.request.uri": f"/v2/acme/app/blobs/{DIGEST}",
        "http.response.status": 200,
        "http.response.written": 9,
        "level": "info",
        "time": "2026-11-24T03:32:22.405591307Z",
    }

    (request,), _ = read_text(tmp_path, json.dumps(line) + "\n")

    assert (request.kind, request.size) == (Kind.PULL_BLOB, 9)


def test_audit_lines_are_read_and_tell_what_a_redirect_led_to(tmp_path: Path) -> None:
    def line(**facts: Any) -> str:
        event = {"time": 1795489641.7, "event": "pull", "outcome": "allowed", "client": {"address": "10.0.0.7"}}
        return json.dumps(event | {"repository": "acme/app", "digest": DIGEST} | facts) + "\n"

    text = (
        line(bytes=5000, delivery="redirect")
        + line(bytes=1000, media_type="x", tag="v1")
        + line(media_type="x", tag="v1")
        + line(event="push", media_type="x", tag="v1")
        + line(event="denied", outcome="denied")
        + line(event="upload")
        + line(event="upload", bytes=700)
        + line(outcome="failed", status=404, reason="BLOB_UNKNOWN: blob unknown to registry")
        + line(outcome="failed", status=404, reason="MANIFEST_UNKNOWN: manifest unknown")
    )

    requests, _ = read_text(tmp_path, text)

    assert [(request.kind, request.reference, request.size) for request in requests] == [
        (Kind.PULL_BLOB, DIGEST, 5000),
        (Kind.PULL_MANIFEST, "v1", 1000),
        (Kind.LOOK_MANIFEST, "v1", 0),
        (Kind.PUSH_MANIFEST, "v1", None),
        (Kind.OTHER, "", 0),
        (Kind.OTHER, "", 0),
        (Kind.UPLOAD, "", 700),
        (Kind.MISS_BLOB, "", 0),
        (Kind.MISS_MANIFEST, "", 0),
    ]
    assert requests[0].redirected


OWN = (
    'time="2026-11-24T03:32:{second:02d}.9Z" level={level} msg="{msg}" http.request.method={method} http.request.remoteaddr="10.0.0.7:1"'
    ' http.request.uri="{uri}" http.response.status={status} http.response.written={size}\n'
)
BOTH = [
    # what both of distribution's logs tell of: method, target, status, bytes
    ("HEAD", "/v2/acme/app/manifests/v1", 404, 96),
    ("GET", "/v2/acme/app/manifests/v1", 200, 1500),
    ("GET", f"/v2/acme/app/blobs/{DIGEST}", 200, 5000),
    ("HEAD", "/v2/acme/app/manifests/v2", 404, 96),
]


def distribution_says(*, own: bool, access: bool, least: str = "info") -> str:
    """What distribution writes to its standard output, in its order: its own line of a request, then the access log's."""
    lines = ['time="2026-11-24T03:32:16Z" level=info msg="listening on [::]:5000"\n'] if own else []
    for second, (method, uri, status, size) in enumerate(BOTH):
        level, msg = ("info", "response completed") if status < 400 else ("error", "response completed with error")
        if own and (level == "error" or least == "info"):
            facts = {"method": method, "uri": uri, "status": status, "size": size, "second": second}
            lines.append(OWN.format(level=level, msg=msg, **facts))
        if access:
            lines.append(COMBINED.format(line=f"{method} {uri}", status=status, size=size))
    return "".join(lines)


@pytest.mark.parametrize(
    "written",
    [
        pytest.param({"own": True, "access": True}, id="both logs"),
        pytest.param({"own": False, "access": True}, id="the access log"),
        pytest.param({"own": True, "access": True, "least": "warn"}, id="both logs, warnings only"),
    ],
)
def test_each_request_that_distribution_logs_twice_counts_once(tmp_path: Path, written: dict[str, Any]) -> None:
    requests, reading = read_text(tmp_path, distribution_says(**written), strict=True)

    assert [(request.kind, request.size) for request in requests] == [
        (Kind.MISS_MANIFEST, 0),
        (Kind.PULL_MANIFEST, 1500),
        (Kind.PULL_BLOB, 5000),
        (Kind.MISS_MANIFEST, 0),
    ]
    assert reading.malformed == 0


def test_the_log_of_distribution_is_read_behind_what_a_journal_puts_before_it(tmp_path: Path) -> None:
    text = "".join(f"Nov 24 03:32:18 host registry[7]: {line}\n" for line in DISTRIBUTION.splitlines())

    (request,), _ = read_text(tmp_path, text)

    assert (request.kind, request.size, request.client) == (Kind.PULL_MANIFEST, 1500, "10.0.0.7")


@pytest.mark.parametrize("inside", ["distribution", "combined", "audit"])
def test_what_docker_packed_into_its_own_json_is_unpacked(tmp_path: Path, inside: str) -> None:
    text = {
        "distribution": distribution_says(own=True, access=True),
        "combined": distribution_says(own=False, access=True),
        "audit": json.dumps({"time": 1.5, "event": "pull", "outcome": "allowed", "bytes": 5, "digest": DIGEST}) + "\n",
    }[inside]
    packed = "".join(
        json.dumps({"log": line, "stream": "stdout", "time": "2026-11-24T03:32:16Z"}) + "\n"
        for line in text.splitlines(keepends=True)
    )

    requests, reading = read_text(tmp_path, packed)
    plain, _ = read_text(tmp_path, text)

    assert requests == plain != []
    assert reading.malformed == 0


def test_lines_of_requests_that_a_server_could_not_read_are_no_fault_of_the_log(tmp_path: Path) -> None:
    good = COMBINED.format(line="GET /v2/", status=200, size=2)
    unread = [
        '10.0.0.7 - - [24/Nov/2026:03:32:18 +0000] "\\x16\\x03\\x01\\x02 \\x22" 400 157 "-" "-"\n',
        '10.0.0.7 - - [24/Nov/2026:03:32:18 +0000] "" 400 0 "-" "-"\n',
    ]

    requests, reading = read_text(tmp_path, good + "".join(unread), strict=True)

    assert (len(requests), reading.passed_over) == (1, 2)
    with pytest.raises(Refused, match="workload:2: not a line in the combined format"):
        read_text(tmp_path, good + '10.0.0.7 - - [24/Nov/2026:03:32:18 +0000] "GET /v2/\n', strict=True)


def test_a_packed_file_that_is_cut_off_or_damaged_is_refused(tmp_path: Path) -> None:
    whole = gzip.compress(json.dumps([entry()] * 1000).encode())
    for damaged in (whole[:-20], whole[:40] + b"xxxx" + whole[44:], b"no gzip"):
        path = tmp_path / "trace.json.gz"
        path.write_bytes(damaged)
        with pytest.raises(Refused, match=r"trace\.json\.gz: "):
            list(read([path], Reading()))


def test_packed_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "trace.json.gz"
    path.write_bytes(gzip.compress(json.dumps([entry()]).encode()))

    assert len(list(read([path], Reading()))) == 1


def test_what_is_no_workload_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="say what it is with --format"):
        read_text(tmp_path, "hello\n")
    with pytest.raises(Refused, match="No such file"):
        list(read([tmp_path / "missing"], Reading()))
