"""/metrics of a registry that runs: the numbers of a worked-out exchange, every metric that the page names, and several workers as one."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from edgeproxy import __version__
from edgeproxy.metrics import METRICS
from tests.hostile.harness import basic
from tests.http.harness import IMAGE, digest_of, image
from tests.issuer import Key, LocalIssuer
from tests.metrics.page import Page, gained, names_of, parsed, total
from tests.programs import clean_environment, program, run
from tests.running import Registry, serving

LAYERS: Final = (b"one layer", b"another layer")
MANIFEST: Final = image(*LAYERS)
BLOBS: Final = (b"{}", *LAYERS)


def policy_for(issuer: LocalIssuer, others: str = "") -> str:
    jwks = json.dumps({"keys": [key.published() for key in issuer.keys]})
    return f"""\
version: 1
issuers:
  ci:
    url: {issuer.url}
    audiences: [registry.example]
    keys: {{inline: {jwks}, not_after: 2099-01-01}}
{others}rules:
  - name: builds
    issuer: ci
    match: {{team: a}}
    allow: [{{repositories: ["acme/**"], actions: [pull, push]}}]
"""


def minted(issuer: LocalIssuer, **claims: Any) -> str:
    now = int(time.time())
    return issuer.mint({"team": "a", "iat": now - 10, "exp": now + 600, **claims})


class Client:
    """What a client does, request by request."""

    def __init__(self, session: aiohttp.ClientSession, registry: Registry) -> None:
        self._session = session
        self._registry = registry
        self.token = ""

    async def ask(self, method: str, path: str, status: int, **options: Any) -> Any:
        headers = {**({"authorization": f"Bearer {self.token}"} if self.token else {}), **options.pop("headers", {})}
        url = self._registry.url + path
        async with self._session.request(method, url, headers=headers, allow_redirects=False, **options) as answer:
            body = await answer.read()
            assert answer.status == status, (answer.status, body)
            return json.loads(body) if body and answer.content_type == "application/json" else None

    async def sign_in(self, password: str, status: int = 200) -> None:
        self.token = ""
        headers = {"authorization": basic("oidc", password)}
        answer = await self.ask("GET", "/token?service=x&scope=repository:acme/app:pull,push", status, headers=headers)
        self.token = answer.get("token", "")

    async def push(self) -> None:
        for blob in BLOBS:
            await self.ask("POST", f"/v2/acme/app/blobs/uploads/?digest={digest_of(blob)}", 201, data=blob)
        await self.ask("PUT", "/v2/acme/app/manifests/latest", 201, data=MANIFEST, headers={"content-type": IMAGE})

    async def pull(self) -> None:
        await self.ask("HEAD", "/v2/acme/app/manifests/latest", 200)
        await self.ask("GET", f"/v2/acme/app/manifests/{digest_of(MANIFEST)}", 200)
        for blob in BLOBS:
            await self.ask("GET", f"/v2/acme/app/blobs/{digest_of(blob)}", 307)

    async def metrics(self) -> str:
        async with self._session.get(f"{self._registry.operations_url}/metrics") as answer:
            assert answer.status == 200
            assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
            return await answer.text()

    async def page(self) -> Page:
        return parsed(await self.metrics())


@asynccontextmanager
async def client_of(registry: Registry) -> AsyncIterator[Client]:
    # Not one connection for all: then one worker would answer everything.
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield Client(session, registry)


EXCHANGE: Final = {
    'edgeproxy_requests_total{operation="token",outcome="ok"}': 1,
    'edgeproxy_requests_total{operation="token",outcome="challenged"}': 1,
    'edgeproxy_token_requests_total{issuer="ci",outcome="issued"}': 1,
    'edgeproxy_token_requests_total{issuer="(unknown)",outcome="issuer"}': 1,
    'edgeproxy_requests_total{operation="upload_whole",outcome="ok"}': 3,
    'edgeproxy_requests_total{operation="put_manifest",outcome="ok"}': 1,
    'edgeproxy_requests_total{operation="head_manifest",outcome="ok"}': 2,
    'edgeproxy_requests_total{operation="get_manifest",outcome="ok"}': 2,
    'edgeproxy_requests_total{operation="get_blob",outcome="redirected"}': 6,
    'edgeproxy_requests_total{operation="get_blob",outcome="challenged"}': 1,
    'edgeproxy_denials_total{kind="policy",reason="insufficient_scope"}': 1,
    "edgeproxy_redirects_total": 6,
    "edgeproxy_delegated_bytes_total": 2 * sum(map(len, BLOBS)),
    "edgeproxy_received_bytes_total": sum(map(len, BLOBS)) + len(MANIFEST),
}


async def exchange(client: Client, issuer: LocalIssuer) -> None:
    """Two sign-ins of which one is refused, one push, two pulls, one denial."""
    await client.sign_in(minted(issuer, iss="https://stranger.example"), 401)
    await client.sign_in(minted(issuer))
    await client.push()
    await client.pull()
    await client.pull()
    await client.ask("GET", f"/v2/acme/other/blobs/{digest_of(b'{}')}", 401)


def counted_of(changes: Page) -> Page:
    wanted = ("requests_total", "denials_total", "token_requests", "redirects", "_bytes_total")
    return {name: change for name, change in changes.items() if any(part in name for part in wanted)}


@pytest.mark.parametrize("server", ["hypercorn", "granian"])
async def test_a_worked_out_exchange_is_counted_exactly(server: str) -> None:
    issuer = LocalIssuer("https://ci.example")
    async with (
        serving("filesystem", policy=policy_for(issuer), server=server) as registry,
        client_of(registry) as client,
    ):
        before = await client.page()
        await exchange(client, issuer)
        after = await client.page()
        changes = gained(before, after)
        assert counted_of(changes) == EXCHANGE
        # Written once and looked for before: three blobs, three links, manifest, tag, way back, catalog.
        assert total(changes, "edgeproxy_store_calls_total", 'operation="PutObject"', 'outcome="ok"') == 10
        assert total(changes, "edgeproxy_store_calls_total", 'operation="PutObject"') == 10
        # A warm pull asks for the tag alone; nothing else was ever forgotten here.
        assert total(changes, "edgeproxy_cache_misses_total", 'cache="tag"') == 2
        assert after["edgeproxy_workers"] == 1
        assert after["edgeproxy_uploads_in_flight"] == 0
        assert after["edgeproxy_upload_buffer_limit_bytes"] == 128 * 1024 * 1024
        (build,) = (name for name in after if name.startswith("edgeproxy_build_info"))
        assert f'server="{server}",store="file",version="{__version__}"' in build


async def test_the_page_names_every_metric_of_a_registry_in_use_and_promtool_takes_it(tmp_path: Path) -> None:
    issuer = LocalIssuer("https://ci.example")
    other = LocalIssuer("", (Key.make(),))
    async with other.serving():
        others = f"  cd:\n    url: {other.url}\n    audiences: [registry.example]\n"
        async with serving("filesystem", policy=policy_for(issuer, others)) as registry, client_of(registry) as client:
            await client.sign_in(minted(other))
            await exchange(client, issuer)
            text = await client.metrics()
    page = parsed(text)
    assert names_of(page) == {metric.name for metric in METRICS}
    assert 'edgeproxy_issuer_keys_age_seconds{issuer="cd"}' in page
    assert page['edgeproxy_issuer_keys_broken{issuer="ci"}'] == 0
    assert page['edgeproxy_unready{check="store"}'] == 0
    for metric in METRICS:
        for label, values in metric.labels.items():
            if not isinstance(values, str):
                told = {part.split(f'{label}="')[1].split('"')[0] for part in page if names_of([part]) == {metric.name}}
                assert told <= set(values), (metric.name, label)
    file = tmp_path / "page"
    file.write_text(text)
    shell = f'"{program("promtool")}" check metrics < "{file}"'
    assert await run("/bin/sh", "-c", shell, environment=clean_environment(tmp_path)) == ""
    file.write_text(text.replace("edgeproxy_redirects_total", "edgeproxy_redirects_of_blobs"))
    assert "_total" in await run("/bin/sh", "-c", shell, environment=clean_environment(tmp_path), status=3)


def children_of(pid: int) -> list[int]:
    listed = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False).stdout
    return [int(line) for line in listed.split()]


async def settled(client: Client, name: str, value: float) -> Page:
    """Ask until a number is reached; siblings publish once a second."""
    for _ in range(100):
        page = await client.page()
        if page.get(name) == value:
            return page
        await asyncio.sleep(0.1)
    raise AssertionError(f"{name} is {page.get(name)}, not {value}")


@pytest.mark.parametrize("server", ["hypercorn", "granian"])
async def test_two_workers_answer_as_one_and_no_counter_falls_when_one_is_killed(server: str) -> None:
    issuer = LocalIssuer("https://ci.example")
    policy = policy_for(issuer)
    async with (
        serving("filesystem", policy=policy, server=server, workers="2") as registry,
        client_of(registry) as client,
    ):
        before = await settled(client, "edgeproxy_workers", 2)
        await exchange(client, issuer)
        after = await settled(client, "edgeproxy_redirects_total", 6)
        # Only who signed in where differs: each worker verifies for itself.
        assert counted_of(gained(before, after)) == EXCHANGE
        # Each publishes once a second; a busy machine may keep it waiting.
        await asyncio.sleep(4)
        (first, *_) = children_of(registry.pid)
        os.kill(first, signal.SIGKILL)
        last = 0.0
        for _ in range(30):
            try:
                page = await client.page()
            except aiohttp.ClientError:
                continue  # This one went to the worker that was just killed.
            assert page["edgeproxy_redirects_total"] == 6
            assert total(page, "edgeproxy_requests_total") >= last
            last = total(page, "edgeproxy_requests_total")
            await asyncio.sleep(0.1)
        await settled(client, "edgeproxy_workers", 2)
        assert first not in children_of(registry.pid)
