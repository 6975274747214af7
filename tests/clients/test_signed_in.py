"""Every client signed in with nothing but a token, at a registry that lets nobody else in: push, pull, and the same without the token."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.clients.containers import tool
from tests.clients.test_refusal_messages import Client, crane, ctr, docker, oras, podman
from tests.images import Image, make_image
from tests.issuer import LocalIssuer
from tests.programs import clean_environment, program, run
from tests.running import STORES, Registry, StoreKind, serving
from tests.signing_in import exchanged, write_login

pytestmark = pytest.mark.timeout(300)

POLICY = """\
version: 1
issuers:
  ci: {{url: "{url}", audiences: [registry.example]}}
rules:
  - name: app-team
    issuer: ci
    match: {{repository: acme/app}}
    allow: [{{repositories: ["team/**"], actions: [pull, push]}}]
"""


@asynccontextmanager
async def skopeo(registry: Registry, image: Image, folder: Path) -> AsyncIterator[Client]:
    command = tool("skopeo", folder)
    layout = image.write_layout(folder / "layout", "loaded:v1")
    options = ("--preserve-digests", "--src-tls-verify=false", "--dest-tls-verify=false")

    async def copy(source: str, target: str, token: str) -> str:
        write_login(folder, registry.host, token)
        login = ("--authfile", str(folder / ".docker" / "config.json"))
        copy = ("copy", *options, *login, source, target)
        return await run(command.binary, *command.options, *copy, environment=command.environment, status=None)

    yield Client(
        lambda name, token: copy(f"docker://{name}", f"dir:{folder / 'out'}", token),
        lambda name, token: copy(f"oci:{layout}:v1", f"docker://{name}", token),
    )


CLIENTS = {"docker": docker, "podman": podman, "skopeo": skopeo, "crane": crane, "oras": oras, "ctr": ctr}


@asynccontextmanager
async def place(kind: StoreKind) -> AsyncIterator[tuple[Registry, str, str]]:
    """Run a registry; give it with a token that it takes and one that has ended."""
    async with LocalIssuer().serving() as issuer, serving(kind, policy=POLICY.format(url=issuer.url)) as registry:
        now = time.time()
        claims = {"repository": "acme/app", "sub": "a job"}
        good = issuer.mint({**claims, "iat": now, "exp": now + 600})
        yield registry, good, issuer.mint({**claims, "iat": now - 900, "exp": now - 300})


async def held(registry: Registry, token: str, repository: str) -> tuple[bytes | None, list[int]]:
    """Give the manifest under tag v1, and how each of its blobs is answered."""
    _, answer = await exchanged(registry.url, token, repository)
    headers = {"Authorization": f"Bearer {answer['token']}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        async with session.get(f"{registry.url}/v2/{repository}/manifests/v1") as found:
            if found.status != 200:
                return None, []
            manifest = await found.read()
        parts = json.loads(manifest)
        statuses = []
        for part in (parts["config"], *parts["layers"]):
            async with session.head(f"{registry.url}/v2/{repository}/blobs/{part['digest']}") as blob:
                assert blob.headers["Content-Length"] == str(part["size"])
                statuses.append(blob.status)
        return manifest, statuses


def told(registry: Registry) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (registry.folder / "audit.log").read_text().splitlines()]


@pytest.mark.parametrize("kind", STORES)
@pytest.mark.parametrize("name", CLIENTS)
async def test_a_client_with_a_token_pushes_and_pulls_and_without_one_does_neither(
    name: str, kind: StoreKind, image: Image, busybox: Path, folder: Path
) -> None:
    one, two = folder / "1", folder / "2"
    one.mkdir()
    two.mkdir()
    # A second machine pulls: the first has everything.
    other = make_image(busybox, 4711)
    async with (
        place(kind) as (registry, good, ended),
        CLIENTS[name](registry, image, one) as client,
        CLIENTS[name](registry, other, two) as reader,
    ):
        reference = f"{registry.host}/team/app:v1"
        await client.push(reference, ended)
        assert await held(registry, good, "team/app") == (None, [])
        pushed = await client.push(reference, good)
        manifest, blobs = await held(registry, good, "team/app")
        assert manifest is not None, pushed
        assert set(blobs) == {200}
        refused = await reader.pull(reference, ended)
        pulled = await reader.pull(reference, good)
        await registry.stop()
        events, log = told(registry), registry.log.read_text()

    ours = [event for event in events if not event["client"]["user_agent"].startswith("Python")]
    allowed = [event for event in ours if event["outcome"] == "allowed" and event["event"] in ("push", "pull")]
    assert {event["event"] for event in allowed} == {"push", "pull"}, pulled
    assert {(event["issuer"], event["subject"], event["rule"]) for event in allowed} == {("ci", "a job", "app-team")}
    assert {event["repository"] for event in allowed} == {"team/app"}
    blobs_pulled = [event for event in allowed if event["event"] == "pull" and event.get("delivery") == "redirect"]
    assert blobs_pulled, pulled
    assert "expired" in [event.get("reason") for event in ours], refused
    for text in (log, json.dumps(events), refused, pulled):
        assert not any(part in text for part in (*good.split("."), *ended.split(".")))


@pytest.mark.parametrize("kind", STORES)
async def test_helm_with_a_token_pushes_and_pulls_a_chart_and_without_one_does_neither(
    kind: StoreKind, folder: Path
) -> None:
    binary, environment = program("helm"), clean_environment(folder)
    (folder / "chart").mkdir()
    (folder / "chart" / "Chart.yaml").write_text("apiVersion: v2\nname: hello\nversion: 1.2.3\n")
    (folder / "out").mkdir()
    chart = folder / "hello-1.2.3.tgz"
    async with place(kind) as (registry, good, ended):

        async def helm(token: str, *arguments: str) -> str:
            write_login(folder, registry.host, token)
            config = ("--registry-config", str(folder / ".docker" / "config.json"))
            return await run(binary, *arguments, *config, environment=environment, status=None)

        await run(binary, "package", str(folder / "chart"), "--destination", str(folder), environment=environment)
        charts = f"oci://{registry.host}/team/charts"
        push = ("push", "--plain-http", str(chart), charts)
        pull = ("pull", "--plain-http", f"{charts}/hello", "--version", "1.2.3", "--destination", str(folder / "out"))
        refused = await helm(ended, *push)
        assert "expired" in refused
        pushed = await helm(good, *push)
        assert "Digest: sha256:" in pushed, pushed
        assert "expired" in await helm(ended, *pull)
        assert not list((folder / "out").iterdir())
        printed = await helm(good, *pull)
        assert [path.read_bytes() for path in (folder / "out").iterdir()] == [chart.read_bytes()], printed
