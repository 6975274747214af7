"""What passes a socket is counted, however it is cut into pieces."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.egress.counting import counting
from benchmarks.egress.http1 import Connection, Exchange, NotHttp
from benchmarks.egress.operations import is_presigned, operation_of, part_of
from benchmarks.egress.tallies import AtRegistry, AtStore, Latencies, add, plain

REQUESTS = (
    b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
    b"HEAD /b HTTP/1.1\r\nHost: x\r\n\r\n"
    b"PUT /c HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello"
    b"PATCH /d HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nTrailer: t\r\n\r\n"
)
RESPONSES = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"
    b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"
    b"HTTP/1.1 100 Continue\r\n\r\n"
    b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
)
WORKED_OUT = [
    # method, status, bytes of the request and of its body, bytes of the response and of its body
    ("GET", 200, 28, 0, 41, 3),
    ("HEAD", 200, 29, 0, 39, 0),
    ("PUT", 201, 69 + 5, 5, 25 + 43, 0),
    ("PATCH", 200, 58 + 38, 7, 47 + 12, 2),
]


def told(exchange: Exchange) -> tuple[str, int, int, int, int, int]:
    return (
        exchange.method,
        exchange.status,
        exchange.received,
        exchange.received_body,
        exchange.sent,
        exchange.sent_body,
    )


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[begin:end] for begin, end in pairwise(ends) if begin < end]


@given(st.lists(st.integers(0, 1000), max_size=40), st.lists(st.integers(0, 1000), max_size=40))
def test_exchanges_are_the_same_however_the_bytes_are_cut(asked: list[int], answered: list[int]) -> None:
    exchanges: list[Exchange] = []
    connection = Connection(exchanges.append)

    for piece in cut(REQUESTS, asked):
        connection.from_client(piece, 0)
    for piece in cut(RESPONSES, answered):
        connection.from_server(piece, 0)

    assert [told(exchange) for exchange in exchanges] == WORKED_OUT
    assert sum(exchange.received for exchange in exchanges) == len(REQUESTS)
    assert sum(exchange.sent for exchange in exchanges) == len(RESPONSES)
    assert connection.in_flight == 0


def test_an_answer_without_a_length_ends_with_the_connection() -> None:
    exchanges: list[Exchange] = []
    connection = Connection(exchanges.append)
    connection.from_client(b"GET / HTTP/1.1\r\n\r\n", 1.0)
    connection.from_server(b"HTTP/1.1 200 OK\r\n\r\nsome", 2.0)
    connection.from_server(b" more", 3.0)

    assert exchanges == []
    connection.closed(4.0)

    (exchange,) = exchanges
    assert (exchange.sent_body, exchange.seconds) == (9, 3.0)


def test_an_upload_that_is_refused_before_its_body_came_still_counts() -> None:
    exchanges: list[Exchange] = []
    connection = Connection(exchanges.append)
    connection.from_client(b"PUT / HTTP/1.1\r\nContent-Length: 100\r\n\r\nhalf", 1.0)
    connection.from_server(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", 2.0)
    connection.closed(3.0)

    (exchange,) = exchanges
    assert (exchange.status, exchange.received_body) == (403, 4)


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01 hello\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"x" * 300_000,
        b"PUT / HTTP/1.1\r\nContent-Length: +5\r\n\r\n",
        b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    ],
)
def test_what_is_not_http_is_not_counted_as_such(data: bytes) -> None:
    connection = Connection(lambda _: None)

    with pytest.raises(NotHttp):
        connection.from_client(data, 0)


@pytest.mark.parametrize("line", [b"HTTP/1.1", b"HTTP/1.1 OK 200", b"HTTP/3 200 OK"])
def test_an_answer_without_a_status_is_not_counted_as_one(line: bytes) -> None:
    connection = Connection(lambda _: None)
    connection.from_client(b"GET / HTTP/1.1\r\n\r\n", 0)

    with pytest.raises(NotHttp):
        connection.from_server(line + b"\r\n\r\n", 0)


async def test_a_proxy_counts_what_client_and_server_say_it_was() -> None:
    body = bytes(300_000)
    exchanges: list[Exchange] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        writer.close()

    async with (
        await asyncio.start_server(answer, "127.0.0.1", 0) as server,
        counting(server.sockets[0].getsockname()[1], exchanges.append) as proxy,
        aiohttp.ClientSession() as session,
    ):
        async with session.get(f"http://127.0.0.1:{proxy.port}/v2/") as response:
            received = await response.read()
        await proxy.quiet()

        head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 300000\r\n\r\n"
        assert received == body
        (exchange,) = exchanges
        assert exchange.sent_body == len(body)
        assert proxy.sent == exchange.sent == len(body) + len(head)
        assert proxy.received == exchange.received
        assert proxy.untold == 0


@pytest.mark.parametrize(
    ("method", "target", "fields", "operation"),
    [
        ("GET", "/b/k", {}, "GetObject"),
        ("GET", "/b/k?X-Amz-Signature=1&x-id=GetObject", {}, "GetObject"),
        ("HEAD", "/b/k", {}, "HeadObject"),
        ("PUT", "/b/k", {}, "PutObject"),
        ("PUT", "/b/k", {"x-amz-copy-source": "/b/o"}, "CopyObject"),
        ("POST", "/b/k?uploads", {}, "CreateMultipartUpload"),
        ("PUT", "/b/k?partNumber=1&uploadId=u", {}, "UploadPart"),
        ("PUT", "/b/k?partNumber=1&uploadId=u", {"x-amz-copy-source": "/b/o"}, "UploadPartCopy"),
        ("POST", "/b/k?uploadId=u", {}, "CompleteMultipartUpload"),
        ("DELETE", "/b/k?uploadId=u", {}, "AbortMultipartUpload"),
        ("DELETE", "/b/k", {}, "DeleteObject"),
        ("GET", "/b?list-type=2&prefix=x", {}, "ListObjectsV2"),
        ("GET", "/b?uploads", {}, "ListMultipartUploads"),
        ("POST", "/b?delete", {}, "DeleteObjects"),
        ("HEAD", "/b", {}, "HeadBucket"),
        ("GET", "/", {}, "ListBuckets"),
        ("PATCH", "/b/k", {}, "PATCH object"),
    ],
)
def test_an_operation_is_named_as_bills_name_it(
    method: str, target: str, fields: dict[str, str], operation: str
) -> None:
    assert operation_of(method, target, fields)[0] == operation


@pytest.mark.parametrize(
    ("key", "part"),
    [
        (f"blobs/sha256/{'a' * 64}", "blob bytes"),
        (f"docker/registry/v2/blobs/sha256/aa/{'a' * 64}/data", "blob bytes"),
        ("repos/acme/app/_tags/v1", "tag"),
        ("docker/registry/v2/repositories/acme/app/_manifests/tags/v1/current/link", "tag"),
        (f"repos/acme/app/_manifests/sha256/{'a' * 64}", "manifest"),
        (f"repos/acme/app/_blobs/sha256/{'a' * 64}", "link"),
        (f"docker/registry/v2/repositories/acme/app/_layers/sha256/{'a' * 64}/link", "link"),
        ("uploads/x/data/y", "upload"),
        ("layout", "other"),
    ],
)
def test_an_object_is_a_part_of_a_registry(key: str, part: str) -> None:
    assert part_of(key) == part


def exchange(method: str, target: str, status: int = 200, sent: int = 100, body: int = 40) -> Exchange:
    return Exchange(method, target, status, {}, 10, sent, 0, body, 0.05)


def test_the_store_tells_clients_from_the_registry_and_bills_no_refused_credential() -> None:
    tally = AtStore()
    signed = "/b/blobs/sha256/aa?X-Amz-Signature=1"
    assert is_presigned(signed)
    assert not is_presigned("/b/blobs/sha256/aa")

    tally.count(exchange("GET", signed), by_client=True)
    tally.count(exchange("GET", signed, 403), by_client=True)
    # The registry may sign its own reads in the query too.
    tally.count(exchange("GET", "/b/repos/a/_tags/v1?X-Amz-Signature=1"), by_client=False)
    tally.count(exchange("PUT", "/b/k", 412), by_client=False)
    tally.count(exchange("PUT", "/b/k", 503), by_client=False)

    assert tally.operations == {"GetObject": 2, "PutObject": 1}
    assert tally.unbilled == {"GetObject": 1, "PutObject": 1}
    assert (tally.client_requests, tally.content_to_clients, tally.sent_to_clients) == (2, 40, 200)
    assert (tally.registry_calls, tally.sent_to_registry) == (3, 300)
    assert tally.registry_reads == {"tag": 1}


def test_the_registry_tells_content_from_redirects_and_rounds_time_up() -> None:
    tally = AtRegistry()

    tally.count(exchange("GET", "/v2/a/blobs/sha256:aa", 307, body=0))
    tally.count(exchange("GET", "/v2/a/blobs/sha256:aa", 200))
    tally.count(exchange("GET", "/v2/a/manifests/v1", 200, body=7))
    tally.count(exchange("GET", "/v2/a/manifests/v1", 404))

    assert tally.requests == {"pull blob": 2, "pull manifest": 1, "miss manifest": 1}
    assert tally.content == {"pull blob": 40, "pull manifest": 7}
    assert tally.redirects == 1
    assert tally.request_seconds == pytest.approx(0.4)


def test_tallies_add_up_again_after_they_were_written_down() -> None:
    one, two = AtRegistry(), AtRegistry()
    one.count(exchange("GET", "/v2/a/manifests/v1"))

    add(two, plain(one))
    add(two, plain(one))

    assert two.requests == {"pull manifest": 2}
    assert two.sent == 200


def test_percentiles_are_within_the_width_of_a_bucket() -> None:
    latencies = Latencies()
    for milliseconds in range(1, 1001):
        latencies.add(milliseconds / 1000)

    assert latencies.percentile(0.5) == pytest.approx(0.5, rel=0.03)
    assert latencies.percentile(0.99) == pytest.approx(0.99, rel=0.03)
    assert Latencies().percentile(0.5) == 0
