"""Through a real proxy by HTTPS: clients push and pull, bodies stream, refusals arrive whole, and the audit has the true address."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.edge.fronts import FRONTS, Front, front, token
from tests.images import digest_of, make_image
from tests.programs import clean_environment, program, run
from tests.signing_in import write_login

pytestmark = pytest.mark.timeout(300)
CLIENT = "127.0.0.5"
"""The client's address, which is not the proxy's: all of 127/8 is this machine."""
PIECE = bytes(64 * 1024)
ANNOUNCED = 500 * len(PIECE)
VERSIONS = {"http1.1": "1.1", "http2": "2"}


@pytest.fixture(params=FRONTS)
async def through(request: pytest.FixtureRequest) -> AsyncIterator[Front]:
    async with front(request.param) as running:
        yield running


async def curl(
    through: Front, path: str, *options: str, version: str = "http2", bearer: str = ""
) -> tuple[int, str, str]:
    """Ask with a token; give status, version of HTTP and body."""
    shown = await run(
        program("curl"),
        *("--silent", "--show-error", "--cacert", str(through.authority), "--interface", CLIENT, f"--{version}"),
        *("--header", f"Authorization: Bearer {bearer or token()}"),
        *("--write-out", "\n%{http_code} %{http_version}", *options, through.url + path),
        environment=clean_environment(through.registry.folder),
    )
    body, _, last = shown.rpartition("\n")
    status, spoken = last.split(" ")
    return int(status), spoken, body


async def audited(through: Front) -> dict[str, Any]:
    """Give the one line of the audit, which comes a moment after its answer."""
    for _ in range(100):
        lines = (through.registry.folder / "audit.log").read_text().splitlines()
        if lines:
            line: dict[str, Any] = json.loads(lines[-1])
            return line
        await asyncio.sleep(0.05)
    raise AssertionError("no line came")


async def test_crane_pushes_and_pulls_by_https(through: Front) -> None:
    folder = through.registry.folder
    image = make_image(Path(program("busybox")), 1)
    name = f"{through.host}/open/app:v1"
    environment = clean_environment(folder, {"SSL_CERT_FILE": str(through.authority)})
    write_login(folder, through.host, token())
    layout = image.write_layout(folder / "layout", name)
    await run(program("crane"), "push", str(layout), name, environment=environment)
    await run(program("crane"), "pull", "--format", "oci", name, str(folder / "out"), environment=environment)
    for blob in image.blobs:
        assert (folder / "out" / "blobs" / blob.digest.replace(":", "/")).read_bytes() == blob.content


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_large_upload_passes_in_chunks_and_the_audit_has_the_clients_address(
    through: Front, version: str
) -> None:
    content = bytes(24 << 20)
    file = through.registry.folder / "layer"
    file.write_bytes(content)
    target = f"/v2/open/app/blobs/uploads/?digest={digest_of(content)}"
    # Written by anybody; what the proxy appends or puts in its place is what counts.
    spoofed = ("--header", "X-Forwarded-For: 203.0.113.9", "--header", "X-Real-IP: 203.0.113.9")
    chunked = ("--header", "Transfer-Encoding: chunked") if version == "http1.1" else ()
    upload = ("--request", "POST", "--data-binary", f"@{file}", "--header", "Content-Type: application/octet-stream")
    status, spoken, _ = await curl(through, target, *upload, *chunked, *spoofed, version=version)
    assert (status, spoken) == (201, VERSIONS[version])
    line = await audited(through)
    assert (line["event"], line["bytes"]) == ("push", len(content))
    assert line["client"]["address"] == CLIENT


async def test_a_refusal_arrives_whole_while_most_of_the_body_is_still_to_come(through: Front) -> None:
    """So nothing on the way collects bodies. The client reads while it sends, and sends no more than it must."""
    context = ssl.create_default_context(cafile=str(through.authority))
    context.set_alpn_protocols(["http/1.1"])
    host, port = through.host.split(":")
    reader, writer = await asyncio.open_connection(host, int(port), ssl=context, local_addr=(CLIENT, 0))
    head = f"POST /v2/closed/app/blobs/uploads/?digest={digest_of(b'')} HTTP/1.1\r\nHost: {through.host}\r\n"
    writer.write(f"{head}Authorization: Bearer {token()}\r\nContent-Length: {ANNOUNCED}\r\n\r\n".encode())
    answering = asyncio.ensure_future(reader.readuntil(b"\r\n\r\n"))
    sent = 0
    while not answering.done() and sent < ANNOUNCED // 2:
        writer.write(PIECE)
        await writer.drain()
        sent += len(PIECE)
        await asyncio.wait([answering], timeout=0.05)
    answer = (await asyncio.wait_for(answering, 30)).decode("latin-1").lower()
    length = next(line for line in answer.split("\r\n") if line.startswith("content-length: "))
    body = await reader.readexactly(int(length.removeprefix("content-length: ")))
    writer.transport.abort()
    assert answer.startswith("http/1.1 403 ")
    assert json.loads(body)["errors"][0]["code"] == "DENIED"
    assert (await audited(through))["client"]["address"] == CLIENT


async def test_over_http2_a_refused_upload_is_told_why(through: Front) -> None:
    file = through.registry.folder / "layer"
    file.write_bytes(bytes(1 << 20))
    target = f"/v2/closed/app/blobs/uploads/?digest={digest_of(b'')}"
    status, spoken, body = await curl(through, target, "--request", "POST", "--data-binary", f"@{file}")
    assert (status, spoken) == (403, "2")
    assert json.loads(body)["errors"][0]["code"] == "DENIED"


async def test_a_long_token_reaches_the_registry(through: Front) -> None:
    status, _, body = await curl(through, "/v2/", bearer="A" * 48_000)
    assert status == 401
    assert json.loads(body)["errors"][0]["code"] == "UNAUTHORIZED"
    status, _, _ = await curl(through, "/v2/")
    assert status == 200


async def test_locations_lead_back_through_the_proxy_and_the_challenge_names_it(through: Front) -> None:
    status, _, body = await curl(through, "/v2/open/app/blobs/uploads/", "--include", "--request", "POST")
    assert status == 202
    location = next(line for line in body.lower().splitlines() if line.startswith("location: "))
    assert location.startswith(("location: /v2/open/app/blobs/uploads/", f"location: {through.url}/v2/open/app/"))
    _, _, challenged = await curl(through, "/v2/", "--include", bearer="none")
    assert f'bearer realm="{through.url}/token",service="{through.host}"' in challenged.lower()
