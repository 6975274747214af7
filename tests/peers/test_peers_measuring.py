"""How a sample is taken: calls to the store are counted, answers are looked at before they are timed, memory is asked of the kernel."""

from __future__ import annotations

import asyncio
import platform
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import instructions, processes
from benchmarks.egress.counting import counting
from benchmarks.egress.http1 import Exchange
from benchmarks.egress.tallies import AtStore
from benchmarks.egress.witness import Audit
from benchmarks.peers import contents, measuring
from benchmarks.peers.contenders import REPOSITORY, Running
from benchmarks.peers.figures import Contender, RowName
from benchmarks.peers.measuring import Wrong, check_answer, is_by_client, paths_of, verify
from tests.images import digest_of
from tests.issuer import Key
from tests.pushing import Reply

MADE = contents.make(3)
PRESIGNED = {"Location": "http://store/blobs/x?X-Amz-Signature=0"}
Answer = Callable[[str], bytes]


@asynccontextmanager
async def answering(answer: Answer) -> AsyncIterator[int]:
    """Run a server that answers the head of each request, one a connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer((await reader.readuntil(b"\r\n\r\n")).decode()))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def exchanged(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    return answer


@pytest.mark.parametrize(
    ("family", "signature"),
    [
        ("distribution", b" HTTP/1.1\r\nHost: s\r\nAuthorization: AWS4-HMAC-SHA256 x\r\n\r\n"),
        ("edgeproxy", b"?X-Amz-Signature=1 HTTP/1.1\r\nHost: s\r\n\r\n"),
    ],
)
async def test_calls_of_the_registry_are_told_apart_from_its_clients_and_every_byte_is_counted(
    family: str, signature: bytes
) -> None:
    tally = AtStore()
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
    read = b"GET /registry/repos/a/_tags/v1" + signature
    fetched = b"GET /registry/blobs/sha256/00?X-Amz-Signature=1 HTTP/1.1\r\nHost: s\r\n\r\n"

    def count(exchange: Exchange) -> None:
        tally.count(exchange, by_client=is_by_client(exchange, family))

    async with answering(lambda _: answer) as port, counting(port, count) as proxy:
        assert await exchanged(proxy.port, read) == answer
        assert await exchanged(proxy.port, fetched) == answer
        await proxy.quiet()

    assert (tally.registry_calls, tally.client_requests) == (1, 1)
    assert (tally.sent_to_registry, tally.received_from_registry) == (len(answer), len(read))
    assert (tally.sent_to_clients, tally.content_to_clients) == (len(answer), 5)
    assert dict(tally.registry_reads) == {"tag": 1}


def test_the_image_has_six_layers_and_each_tag_a_manifest_of_its_own() -> None:
    assert len(MADE.layers) == 6
    assert len({digest_of(manifest) for manifest in (MADE.manifest, *MADE.tagged.values())}) == 4
    assert contents.make(3) == MADE


def test_each_row_asks_for_its_own() -> None:
    assert paths_of(RowName.BLOB, MADE) == [f"/v2/{REPOSITORY}/blobs/{digest_of(MADE.layers[0])}"]
    assert paths_of(RowName.DIGEST, MADE) == [f"/v2/{REPOSITORY}/manifests/{digest_of(MADE.manifest)}"]
    assert paths_of(RowName.TAG, MADE) == [f"/v2/{REPOSITORY}/manifests/latest"]
    assert paths_of(RowName.TAGS, MADE) == [f"/v2/{REPOSITORY}/manifests/1.0.{number}" for number in range(3)]


@pytest.mark.parametrize(
    ("row", "good", "bad"),
    [
        (RowName.BLOB, Reply(307, PRESIGNED, b""), Reply(200, {}, b"bytes")),
        (RowName.BLOB, Reply(307, PRESIGNED, b""), Reply(307, {"Location": "/elsewhere"}, b"")),
        (RowName.TAG, Reply(200, {}, b"manifest"), Reply(404, {}, b"manifest")),
        (RowName.TAG, Reply(200, {}, b"manifest"), Reply(200, {}, b"another!")),
    ],
)
def test_only_the_answer_that_is_meant_is_timed(row: RowName, good: Reply, bad: Reply) -> None:
    check_answer(row, good, b"manifest")
    with pytest.raises(Wrong):
        check_answer(row, bad, b"manifest")


def running(port: int) -> Running:
    return Running(Contender.DISTRIBUTION_TOKEN, 0, port, 0, None, Path("log"), Key.make())


async def test_a_server_that_checks_no_credential_is_found_out() -> None:
    found = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(MADE.manifest), MADE.manifest)
    refused = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"
    credential = {"Authorization": "Bearer x"}

    async with answering(lambda head: found if "Authorization" in head else refused) as port:
        await verify(running(port), RowName.DIGEST, MADE, credential)
    async with answering(lambda _: found) as port:
        await verify(running(port), RowName.DIGEST, MADE, {})
        with pytest.raises(Wrong, match="answers without the credential too"):
            await verify(running(port), RowName.DIGEST, MADE, credential)


async def test_lines_that_the_audit_dropped_fail_the_sample(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    line = b'{"event":"pull","outcome":"allowed","bytes":3}\n'
    server = replace(running(0), audit=log)
    log.touch()

    for lines, failure in ((3, ""), (2, "the audit has 2 lines of 3 requests")):
        audit = Audit(log)
        log.write_bytes(line * lines)
        assert await measuring.unaudited(server, audit, RowName.BLOB, 3) == failure
        assert log.read_bytes() == b""


async def test_lines_that_come_late_are_waited_for(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    log.touch()
    line = b'{"event":"pull","outcome":"allowed","bytes":3}\n'

    async def late() -> None:
        await asyncio.sleep(0.3)
        log.write_bytes(line)

    writing = asyncio.create_task(late())
    assert await measuring.unaudited(replace(running(0), audit=log), Audit(log), RowName.BLOB, 1) == ""
    await writing


async def test_a_line_that_is_being_written_is_counted_once_and_whole(tmp_path: Path) -> None:
    """By whoever looks at the file when its rest is there, and began to look before it was begun."""
    log = tmp_path / "audit.log"
    line = b'{"event":"pull","outcome":"allowed","bytes":3}\n'
    log.write_bytes(line + line[:10])
    late = Audit(log)
    assert await late.added() == {}
    with log.open("ab") as file:
        file.write(line[10:20])
        file.flush()
        assert await late.added() == {}
        file.write(line[20:] + line + line[:7])
        file.flush()
        assert await late.added() == {"blobs": 1, "blob_bytes": 3}
        file.write(line[7:])
        file.flush()
        assert await late.added() == {"blobs": 1, "blob_bytes": 3}
        assert await late.added() == {}
    assert await Audit(log).added() == {}


_CHILD = """\
import subprocess, sys
held = bytearray(64 << 20)
del held
child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
print(child.pid, flush=True)
input()
child.communicate(b"\\n")
"""


async def test_memory_and_cpu_are_those_of_a_process_and_its_children() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _CHILD, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        child = int(await process.stdout.readline())
        assert processes.family(process.pid) == [process.pid, child]
        peak, now = processes.peak_bytes(process.pid), processes.resident_bytes(process.pid)
        assert peak > now + (48 << 20)
        assert now > processes.resident_bytes(child) > 0
        assert processes.cpu_seconds(process.pid) > 0
        processes.forget_peak(process.pid)
        assert processes.peak_bytes(process.pid) < peak - (32 << 20)
    finally:
        await process.communicate(b"\n")


def test_instructions_are_read_from_what_each_counter_prints() -> None:
    assert instructions.perf_count("123456,,instructions:u,1000,100.00,,\n") == 123456
    assert instructions.perf_count("<not supported>,,instructions:u,0,100.00,,\n") is None
    assert instructions.callgrind_count("==7== Events    : Ir\n==7== Collected : 987654\n==7==\n") == 987654
    assert instructions.callgrind_count("==7== no such thing\n") is None


def test_a_redirect_costs_what_the_longer_run_has_more() -> None:
    more = instructions.MANY - instructions.FEW
    assert instructions.each(5_000_000, 5_000_000 + 700 * more) == 700


def test_a_figure_is_compared_only_with_one_that_was_counted_alike() -> None:
    kept = {
        "date": "2026-11-25",
        "instructions": 1000,
        "counter": "callgrind",
        "python": platform.python_version(),
    }

    assert instructions.compared(900, "callgrind", kept).endswith("0.900 of the 1,000 kept on 2026-11-25")
    assert instructions.compared(900, "perf", kept).endswith("and not comparable")
    assert instructions.compared(900, "callgrind", kept | {"python": "2.7"}).endswith("and not comparable")
    assert instructions.compared(900, "callgrind", None).endswith("none is kept yet")


async def test_what_is_counted_is_a_redirect() -> None:
    await instructions.answer(2)
