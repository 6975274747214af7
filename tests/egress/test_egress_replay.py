"""Replays of a tiny trace whose every operation and byte of content is worked out here by hand, over the R2 double, which counts too."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from benchmarks.egress import estimate, result, witness
from benchmarks.egress.cli import main
from benchmarks.egress.http1 import Exchange
from benchmarks.egress.journal import CannotResume, Journal
from benchmarks.egress.replay import Options
from benchmarks.egress.running import replay
from benchmarks.egress.tallies import AtRegistry, AtStore
from benchmarks.egress.targets import StoreServer, Target
from benchmarks.egress.workload import Kind, Reading
from benchmarks.egress.workloads import read
from tests.http.harness import digest_of, in_session, on_double
from tests.programs import program

A, B, C = (f"sha256:{letter * 64}" for letter in "abc")
SIZES = {A: 1000, B: 300_000, C: 5000}

# What each request costs the store, by hand. Two clients pull v1 one after the other, then a build pushes v2, and one pulls that.
# A tag is read each time; a manifest the first time; a blob that a manifest named needs no look at its link; its bytes are one read.
# A pushed blob: is it there, its bytes, its link. A pushed manifest: was a blob deleted, is the manifest still there at the end; the manifest,
# the way back from it, the tag.
TRACE: list[tuple[str, str, int, str, dict[str, int]]] = [
    ("HEAD", "manifests/v1", 0, "alice", {"GetObject": 2}),
    ("GET", "manifests/v1", 1000, "alice", {"GetObject": 1}),
    ("GET", f"blobs/{A}", 1000, "alice", {"GetObject": 1}),
    ("GET", f"blobs/{B}", 300_000, "alice", {"GetObject": 1}),
    ("GET", "manifests/v1", 1000, "bob", {"GetObject": 1}),
    ("GET", f"blobs/{A}", 1000, "bob", {"GetObject": 1}),
    ("PUT", f"blobs/uploads/1?digest={C}", 5000, "build", {"HeadObject": 1, "PutObject": 2}),
    ("PUT", "manifests/v2", 1200, "build", {"HeadObject": 2, "PutObject": 3}),
    ("GET", "manifests/v2", 1200, "alice", {"GetObject": 2}),
    ("GET", f"blobs/{C}", 5000, "alice", {"GetObject": 1}),
]
OPERATIONS = {"GetObject": 10, "HeadObject": 3, "PutObject": 5}
BLOBS = 1000 + 300_000 + 1000 + 5000
MANIFESTS = 1000 + 1000 + 1200
STORED = 1000 + 300_000 + 5000 + 1000 + 1200
MAX_HEAD = 800
"""No head of an answer is longer than this, presigned URL included."""


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    entries = [
        {
            "host": "h",
            "http.request.duration": 0.1,
            "http.request.method": method,
            "http.request.remoteaddr": client,
            "http.request.uri": f"v2/acme/app/{path}",
            "http.request.useragent": "u",
            "http.response.status": 201 if method == "PUT" else 200,
            "http.response.written": size,
            "id": str(number),
            "timestamp": f"2026-11-24T00:00:{number:02d}.000Z",
        }
        for number, (method, path, size, client, _) in enumerate(TRACE)
    ]
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps(entries))
    return path


async def replayed(
    trace: Path,
    folder: Path,
    target: Target = Target.EDGEPROXY_REDIRECT,
    store: StoreServer = StoreServer.DOUBLE,
    **options: Any,
) -> result.Result:
    said: list[str] = []
    found = await replay([trace], target, store, folder, Options(concurrency=1, **options), say=said.append)
    assert said == []
    return found


def assert_every_check_holds(found: result.Result) -> None:
    assert [check for check in found.checks() if not check.holds] == []
    assert found.totals.failed == 0
    # The registry's own counters are either all there and compared, or none of them is.
    compared = [check for check in found.checks() if "/ edgeproxy_" in check.sources]
    if "edgeproxy_requests_total" in found.totals.metrics:
        assert len(compared) == (5 if found.store == StoreServer.FILE else 6)


async def test_by_redirect_every_operation_and_byte_is_as_worked_out(trace: Path, tmp_path: Path) -> None:
    found = await replayed(trace, tmp_path / "run")
    registry, store = found.totals.at_registry, found.totals.at_store

    assert_every_check_holds(found)
    assert Counter(found.totals.store_says) == Counter(OPERATIONS)  # the double's own count
    assert store.operations == OPERATIONS
    assert registry.requests == {
        "look at manifest": 1, "pull manifest": 3, "pull blob": 4, "push blob": 1, "push manifest": 1, "other": 1,
    }  # fmt: skip
    assert registry.statuses == {"200": 4, "307": 4, "201": 2, "202": 1}
    assert registry.content == {"pull manifest": MANIFESTS}
    assert MANIFESTS < registry.sent < MANIFESTS + 11 * MAX_HEAD
    assert registry.received > 5000 + 1200
    assert (store.client_requests, store.content_to_clients) == (4, BLOBS)
    assert BLOBS < store.sent_to_clients < BLOBS + 4 * MAX_HEAD
    assert store.registry_reads == {"tag": 4, "manifest": 3, "blob bytes": 1, "other": 1}
    assert found.totals.audited == {
        "manifests": 3, "manifest_bytes": MANIFESTS, "blobs": 4, "blob_bytes": BLOBS, "pushed_blobs": 1, "pushed_manifests": 1,
    }  # fmt: skip
    assert STORED < found.storage < STORED + 3000  # what is beside the content: links, tags, the catalog
    assert found.totals.cpu_seconds > 0
    assert found.peak_bytes > 10_000_000


async def test_by_proxy_the_same_content_leaves_the_registry(trace: Path, tmp_path: Path) -> None:
    found = await replayed(trace, tmp_path / "run", Target.EDGEPROXY_PROXY)
    registry, store = found.totals.at_registry, found.totals.at_store

    assert_every_check_holds(found)
    assert store.operations == OPERATIONS
    assert registry.content == {"pull manifest": MANIFESTS, "pull blob": BLOBS}
    assert MANIFESTS + BLOBS < registry.sent < MANIFESTS + BLOBS + 11 * MAX_HEAD
    assert (store.client_requests, store.sent_to_clients) == (0, 0)
    assert store.sent_to_registry > BLOBS


async def test_each_request_costs_the_store_what_was_worked_out_for_it(trace: Path, tmp_path: Path) -> None:
    await replayed(trace, tmp_path / "run", segment=1)

    lines = [json.loads(line) for line in (tmp_path / "run" / "journal.jsonl").read_text().splitlines()[1:]]
    assert [line["totals"]["at_store"]["operations"] for line in lines] == [operations for *_, operations in TRACE]


async def test_without_bodies_redirects_are_counted_as_if_they_had_been_followed(trace: Path, tmp_path: Path) -> None:
    whole = await replayed(trace, tmp_path / "whole")
    bare = await replayed(trace, tmp_path / "bare", bodies=False)

    assert_every_check_holds(bare)
    assert bare.totals.at_store.client_requests == 0
    assert bare.totals.unfetched_bytes == BLOBS
    assert bare.usage().operations == whole.usage().operations
    assert bare.usage().store_egress == BLOBS
    assert bare.usage().store_client_requests == whole.usage().store_client_requests


async def test_the_estimate_from_the_log_alone_is_never_below_what_was_counted(trace: Path, tmp_path: Path) -> None:
    counted = (await replayed(trace, tmp_path / "run")).usage()

    estimated = estimate.usage(estimate.observe(read([trace], Reading()), None), "redirect")

    assert estimated.operations["PutObject"] == counted.operations["PutObject"]
    for name, count in counted.operations.items():
        assert estimated.operations[name] >= count, name
    assert estimated.registry_egress >= counted.registry_egress
    assert estimated.store_egress >= counted.store_egress
    assert estimated.storage == sum(SIZES.values())


async def test_over_a_directory_the_same_content_leaves_the_same_sockets(trace: Path, tmp_path: Path) -> None:
    for target, from_store in ((Target.EDGEPROXY_REDIRECT, BLOBS), (Target.EDGEPROXY_PROXY, 0)):
        found = await replayed(trace, tmp_path / target, target, StoreServer.FILE)

        assert_every_check_holds(found)
        assert found.totals.at_store.content_to_clients == from_store
        assert found.totals.at_registry.content[Kind.PULL_BLOB] == BLOBS - from_store
        assert found.usage().operations == (
            {"GetObject": 4} if from_store else {}
        )  # no socket shows the registry's own
        assert found.cache_hits() == {}
        assert STORED < found.storage < STORED + 3000


async def test_the_audit_of_a_replay_tells_the_same_workload_as_its_trace(trace: Path, tmp_path: Path) -> None:
    await replayed(trace, tmp_path / "run")
    audit = tmp_path / "run" / "audit.log"
    lines = audit.read_text().splitlines(keepends=True)
    # What was pushed before the trace began comes first: three blobs and one manifest, each blob with its POST.
    begin = next(number for number, line in enumerate(lines) if '"media_type"' in line and '"event":"pull"' in line)
    audit.write_text("".join(lines[begin:]))

    told, meant = (estimate.observe(read([path], Reading(strict=True)), None) for path in (audit, trace))

    assert told.requests - Counter({Kind.OTHER: 1}) == meant.requests  # the POST that opened the upload
    assert (told.blob_bytes, told.manifest_bytes, told.stored) == (meant.blob_bytes, meant.manifest_bytes, meant.stored)
    ours, theirs = estimate.usage(told, "redirect"), estimate.usage(meant, "redirect")
    assert ours.operations == theirs.operations
    assert ours.store_egress == theirs.store_egress


async def test_uploads_in_parts_and_misses_cost_the_store_what_the_estimate_takes_for_them() -> None:
    content = b"a layer that comes by PATCH"
    async with on_double() as (house, found):
        await house.push_blob("acme/app", b"so that the repository is there")
        found.double.counters.reset()
        location = await house.start_upload("acme/app")
        parted = (await house.ask("PATCH", location, body=content)).expect(202).header("location")
        (await house.ask("PUT", in_session(parted, digest_of(content)))).expect(201)
        upload = Counter(found.double.counters.operations)
        found.double.counters.reset()
        (await house.ask("HEAD", f"/v2/acme/app/blobs/{A}")).expect(404)
        miss_blob = Counter(found.double.counters.operations)
        found.double.counters.reset()
        (await house.ask("HEAD", "/v2/acme/app/manifests/v9")).expect(404)
        miss_manifest = Counter(found.double.counters.operations)

    costs = estimate.OPERATIONS
    assert upload == Counter(costs[Kind.PUSH_BLOB]) + Counter(costs[Kind.UPLOAD])
    assert miss_blob == Counter(costs[Kind.MISS_BLOB])
    assert miss_manifest == Counter(costs[Kind.MISS_MANIFEST])


async def test_a_replay_in_segments_counts_what_one_in_one_piece_does(trace: Path, tmp_path: Path) -> None:
    pieces = await replayed(trace, tmp_path / "run", segment=3)

    assert pieces.segments == 4
    assert_every_check_holds(pieces)
    assert pieces.totals.at_store.operations == OPERATIONS


async def test_an_open_loop_replay_counts_the_same(trace: Path, tmp_path: Path) -> None:
    found = await replayed(trace, tmp_path / "run", speed=100.0)

    assert_every_check_holds(found)
    assert found.totals.at_store.operations == OPERATIONS


@pytest.mark.parametrize("ended", [signal.SIGINT, signal.SIGKILL])
async def test_an_interrupted_replay_goes_on_where_its_last_segment_ended(
    trace: Path, tmp_path: Path, ended: signal.Signals
) -> None:
    program("versitygw")
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "benchmarks.egress", "replay", str(trace), "-o", str(folder), "--segment", "4"]
    command += ["--concurrency", "1", "--speed", "2"]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    journal = folder / "journal.jsonl"
    while not (
        journal.exists() and journal.read_bytes().count(b"\n") == 2
    ):  # the first segment is done, the second under way
        assert process.returncode is None
        await asyncio.sleep(0.02)
    process.send_signal(ended)
    said, _ = await process.communicate()
    assert process.returncode == (130 if ended is signal.SIGINT else -ended)
    assert (b"the same command with --resume goes on" in said) == (ended is signal.SIGINT)
    with journal.open("ab") as file:
        file.write(b'{"position": 8, "to')  # as a kill leaves a line

    options = Options(speed=2.0, concurrency=1, segment=4)
    arguments = ([trace], Target.EDGEPROXY_REDIRECT, StoreServer.VERSITYGW, folder, options)
    with pytest.raises(CannotResume, match="an interrupted replay: add --resume to go on"):
        await replay(*arguments, say=print)
    resumed = await replay(*arguments, resume=True, say=print)

    assert (resumed.segments, resumed.resumed) == (3, 1)
    assert_every_check_holds(resumed)
    assert resumed.totals.replayed == len(TRACE)
    assert resumed.totals.asked_of_store == BLOBS
    with pytest.raises(CannotResume, match=r"a finished replay, whose result is result\.json"):
        await replay(*arguments, resume=True, say=print)


async def test_a_replay_that_cannot_be_resumed_says_so(trace: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    await replayed(trace, folder)
    (folder / "result.json").unlink()

    for options, why in (
        (Options(concurrency=1), "the R2 double keeps nothing when it stops"),
        (Options(concurrency=2), "another trace, or with other options"),
    ):
        with pytest.raises(CannotResume, match=why):
            await replay(
                [trace], Target.EDGEPROXY_REDIRECT, StoreServer.DOUBLE, folder, options, resume=True, say=print
            )
    journal = folder / "journal.jsonl"
    journal.write_text(journal.read_text().partition("\n")[0] + "\nnonsense\n")
    with pytest.raises(CannotResume, match=r"journal\.jsonl:2: .*; this replay cannot be resumed"):
        Journal.open(
            journal, json.loads(journal.read_text().partition("\n")[0])["replay"], resume=True, persistent=True
        )


async def test_the_peer_is_counted_alike(trace: Path, tmp_path: Path) -> None:
    program("versitygw")
    program("registry")
    for target, from_store in ((Target.DISTRIBUTION_REDIRECT, BLOBS), (Target.DISTRIBUTION_PROXY, 0)):
        folder = tmp_path / target
        found = await replayed(trace, folder, target, StoreServer.VERSITYGW)
        shutil.rmtree(folder)

        assert_every_check_holds(found)
        assert found.totals.at_store.content_to_clients == from_store
        content = found.totals.at_registry.content
        assert content[Kind.PULL_MANIFEST] == MANIFESTS
        assert content[Kind.PULL_BLOB] == BLOBS - from_store


def test_the_command_replays_and_prices(trace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    assert main(["replay", str(trace), "--store", "r2-double", "-o", str(folder), "--concurrency", "1"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert Counter(figures["store_operations"]) == Counter(OPERATIONS)

    outcome = str(folder / "result.json")
    assert main(["price", outcome, "--as-of", "2026-11-24", "--scale", "30x", "--json"]) == 0
    priced = json.loads(capsys.readouterr().out)
    assert priced["scale"] == 30
    lines = {line["name"]: line["quantity"] for line in priced["bills"][0]["lines"]}
    assert lines["Class B operations"] == 1  # 30 times 13, rounded up to a million

    assert (
        main(["report", outcome, "--as-of", "2026-11-24", "--scale", "30x", "--svg", str(tmp_path / "chart.svg")]) == 0
    )
    assert "A month of this workload" in capsys.readouterr().out
    assert (tmp_path / "chart.svg").read_text().startswith("<svg")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--target", "edgeproxy-proxy", "--no-bodies"], "in proxy delivery the bytes pass through the registry"),
        (["--target", "distribution-redirect", "--store", "r2-double"], "does not take distribution's listings"),
        (["--target", "distribution-redirect", "--store", "file"], "distribution is compared over an S3 server"),
        (["--speed", "0"], "--speed is more than 0"),
    ],
)
def test_wrong_usage_is_told(
    trace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], why: str
) -> None:
    assert main(["replay", str(trace), "-o", str(tmp_path / "run"), *arguments]) == 2
    assert why in capsys.readouterr().err


def test_requests_that_no_registry_takes_are_left_out_and_told(
    trace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = json.loads(trace.read_text())
    entries[1]["http.request.uri"] = "v2/Acme/App/manifests/v1"
    trace.write_text(json.dumps(entries))

    assert main(["replay", str(trace), "--store", "r2-double", "-o", str(tmp_path / "run")]) == 0
    said = capsys.readouterr()
    assert "1 requests have names that no registry takes, and are left out" in said.err
    assert json.loads(said.out)["requests"] == len(TRACE) - 1 + 1  # and the POST of an upload

    trace.write_text(json.dumps(entries[1:2]))
    assert main(["replay", str(trace), "--store", "r2-double", "-o", str(tmp_path / "none")]) == 2
    assert "no request to replay in it" in capsys.readouterr().err


def test_results_of_different_workloads_are_not_priced_together(
    trace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, seconds in (("one", 9.0), ("same", 9.5), ("other", 90.0)):
        (tmp_path / name).write_text(json.dumps(bare_result(trace.name, span=seconds)))
    one, same, other = (str(tmp_path / name) for name in ("one", "same", "other"))

    assert main(["price", one, same, "--as-of", "2026-11-24", "--svg", str(tmp_path / "chart.svg")]) == 0
    assert (tmp_path / "chart.svg").read_text().startswith("<svg")
    assert main(["price", one, other, "--as-of", "2026-11-24"]) == 2
    assert "results of different workloads" in capsys.readouterr().err
    for wrong in ("[]", "{", '{"totals": {"at_registry": 3}}'):
        (tmp_path / "wrong").write_text(wrong)
        assert main(["price", str(tmp_path / "wrong")]) == 2
        assert "this is no result of a replay" in capsys.readouterr().err


def bare_result(trace: str, *, span: float, **totals: Any) -> dict[str, Any]:
    """A result of nothing, as its file has it."""
    return {
        "target": "edgeproxy-redirect", "delivery": "redirect", "store": "versitygw", "trace": trace, "date": "2026-11-24T00:00:00+00:00",
        "machine": "", "span": span, "error": 0.1, "storage": 0, "peak_bytes": 0, "segments": 1, "resumed": 0,
        "totals": result.Totals(**totals).as_json(),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("metric", "right"),
    [
        ("edgeproxy_requests_total", 2), ("edgeproxy_redirects_total", 1), ("edgeproxy_delegated_bytes_total", 40),
        ("edgeproxy_proxied_bytes_total", 30), ("edgeproxy_received_bytes_total", 7), ("edgeproxy_store_calls_total", 1),
    ],
)  # fmt: skip
def test_a_counter_of_the_registry_that_differs_from_the_sockets_fails_the_replay(
    tmp_path: Path, metric: str, right: int
) -> None:
    registry, store = AtRegistry(), AtStore()
    registry.count(Exchange("GET", "/v2/a/blobs/sha256:aa", 307, {}, 10, 100, 0, 0, 0.01))
    registry.count(Exchange("GET", "/v2/a/blobs/sha256:bb", 200, {}, 10, 100, 7, 30, 0.01))
    store.count(Exchange("GET", "/b/repos/a/_tags/v1", 200, {}, 10, 100, 0, 40, 0.01), by_client=False)
    store.count(Exchange("GET", "/b/blobs/sha256/aa", 200, {}, 10, 100, 0, 40, 0.01), by_client=True)

    for told in (right, right + 1):
        values = bare_result(
            "t", span=9, at_registry=registry, at_store=store, replayed=2, asked_of_registry=30, asked_of_store=40,
            socket_sent=200, metrics={metric: float(told)},
        )  # fmt: skip
        (tmp_path / "result").write_text(json.dumps(values))
        broken = [check.sources for check in result.load(tmp_path / "result").checks() if not check.holds]
        assert broken == ([] if told == right else [f"sockets / {metric}"])


def test_counters_are_read_off_a_page_of_metrics() -> None:
    page = """\
# TYPE edgeproxy_requests_total counter
edgeproxy_requests_total{operation="get_blob",outcome="ok"} 3.0
edgeproxy_requests_total{operation="ping",outcome="ok"} 1.0
edgeproxy_cache_hits_total{cache="link"} 8.0
edgeproxy_cache_hits_total{cache="tag"} 0.0
edgeproxy_cache_misses_total{cache="link"} 2.0
edgeproxy_asyncio_tasks 7.0
"""
    found = witness.counters(page)

    assert found["edgeproxy_requests_total"] == 4
    assert "edgeproxy_asyncio_tasks" not in found
    assert result.own_cache_hits(found) == {"link": 0.8}
