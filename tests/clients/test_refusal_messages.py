"""What people read when they are refused: every client prints the sentence that says why, where it prints bodies at all."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.clients.containers import tool
from tests.clients.test_containerd import containerd, died_of_its_own
from tests.clients.test_docker import dockerd
from tests.images import Image, make_image
from tests.issuer import LocalIssuer
from tests.programs import clean_environment, program, run
from tests.running import Registry, serving
from tests.signing_in import write_login

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
  - name: other-team
    issuer: ci
    match: {{repository: acme/other}}
    allow: [{{repositories: ["other/**"], actions: [pull, push]}}]
deny:
  - {{name: closed-for-audit, repositories: ["team/closed"], actions: [pull, push]}}
tags:
  - {{repositories: ["team/**"], tags: ["v*"], immutable: true}}
"""

Command = Callable[[str, str], Awaitable[str]]
"""Does something with a reference and a token, whatever becomes of it; gives what was printed."""


@dataclass(frozen=True, slots=True)
class Client:
    """A client. `push` pushes the image that it was made with."""

    pull: Command
    push: Command


@asynccontextmanager
async def docker(registry: Registry, image: Image, folder: Path) -> AsyncIterator[Client]:
    async with dockerd(folder) as command:
        await command("load", "-i", str(image.write_archive(folder / "image.tar", "loaded:v1")))

        async def do(*arguments: str, token: str) -> str:
            write_login(folder, registry.host, token)
            return await run(program("docker"), *arguments, environment=command.environment, status=None)

        async def push(name: str, token: str) -> str:
            await command("tag", "loaded:v1", name)
            return await do("push", name, token=token)

        yield Client(lambda name, token: do("pull", name, token=token), push)


@asynccontextmanager
async def podman(registry: Registry, image: Image, folder: Path) -> AsyncIterator[Client]:
    command = tool("podman", folder)
    await command("load", "-i", str(image.write_archive(folder / "image.tar", "localhost/loaded:v1")))
    login = ("--tls-verify=false", "--authfile", str(folder / ".docker" / "config.json"))

    async def do(*arguments: str, token: str) -> str:
        write_login(folder, registry.host, token)
        return await run(command.binary, *command.options, *arguments, environment=command.environment, status=None)

    yield Client(
        lambda name, token: do("pull", *login, name, token=token),
        lambda name, token: do("push", *login, "localhost/loaded:v1", name, token=token),
    )


@asynccontextmanager
async def crane(registry: Registry, image: Image, folder: Path) -> AsyncIterator[Client]:
    layout, environment = image.write_layout(folder / "layout", "loaded:v1"), clean_environment(folder)
    binary = program("crane")

    async def do(*arguments: str, token: str) -> str:
        write_login(folder, registry.host, token)
        return await run(binary, *arguments, environment=environment, status=None)

    yield Client(
        lambda name, token: do("pull", "--format", "oci", name, str(folder / "out"), token=token),
        lambda name, token: do("push", str(layout), name, token=token),
    )


@asynccontextmanager
async def oras(registry: Registry, image: Image, folder: Path) -> AsyncIterator[Client]:
    layout, environment = image.write_layout(folder / "layout", "loaded:v1"), clean_environment(folder)
    binary = program("oras")

    async def do(*arguments: str, token: str) -> str:
        write_login(folder, registry.host, token)
        return await run(binary, *arguments, environment=environment, status=None)

    yield Client(
        lambda name, token: do("copy", "--from-plain-http", "--to-oci-layout", name, f"{folder}/out:v1", token=token),
        lambda name, token: do("copy", "--from-oci-layout", "--to-plain-http", f"{layout}:v1", name, token=token),
    )


@asynccontextmanager
async def ctr(registry: Registry, image: Image, folder: Path) -> AsyncIterator[Client]:
    async with containerd(folder) as command:
        await command("images", "import", "--no-unpack", str(image.write_archive(folder / "image.tar", "loaded:v1")))
        environment = clean_environment(folder)
        socket = ("--address", str(folder / "ctr.sock"))

        async def do(*arguments: str) -> str:
            return await run(program("ctr"), *socket, *arguments, environment=environment, status=None)

        async def pull(name: str, token: str) -> str:
            return await do("content", "fetch", "--plain-http", "--user", f"oidc:{token}", name)

        async def push(name: str, token: str) -> str:
            command = ("images", "push", "--plain-http", "--user", f"oidc:{token}", name, "loaded:v1")
            printed = await do(*command)
            return await do(*command) if died_of_its_own(printed) else printed

        yield Client(pull, push)


CLIENTS = {"docker": docker, "podman": podman, "crane": crane, "oras": oras, "ctr": ctr}


@dataclass(frozen=True, slots=True)
class Tokens:
    """A good token, and what may be wrong with one."""

    good: str
    expired: str
    audience: str
    issuer: str

    @classmethod
    def made_by(cls, issuer: LocalIssuer) -> Tokens:
        now = time.time()
        claims = {"repository": "acme/app", "iat": now, "exp": now + 600}
        return cls(
            good=issuer.mint(claims),
            expired=issuer.mint({**claims, "iat": now - 4000, "exp": now - 400}),
            audience=issuer.mint({**claims, "aud": "another.example"}),
            issuer=issuer.mint({**claims, "iss": "https://stranger.example"}),
        )


async def refusals(client: Client, second: Client, registry: Registry, tokens: Tokens) -> dict[str, str]:
    """Push and pull what is allowed, then try everything that is not; give what was printed. `second` pushes another image."""
    ours, others, closed = (f"{registry.host}/{name}:v1" for name in ("team/app", "other/app", "team/closed"))
    await client.push(ours, tokens.good)
    return {
        "allowed": await client.pull(ours, tokens.good),
        "expired token": await client.pull(ours, tokens.expired),
        "wrong audience": await client.pull(ours, tokens.audience),
        "unknown issuer": await client.pull(ours, tokens.issuer),
        "no rule, pull": await client.pull(others, tokens.good),
        "no rule, push": await client.push(others, tokens.good),
        "denied, pull": await client.pull(closed, tokens.good),
        "denied, push": await client.push(closed, tokens.good),
        "immutable tag": await second.push(ours, tokens.good),
    }


@asynccontextmanager
async def place() -> AsyncIterator[tuple[Registry, Tokens]]:
    async with AsyncExitStack() as stack:
        issuer = await stack.enter_async_context(LocalIssuer().serving())
        registry = await stack.enter_async_context(serving("filesystem", policy=POLICY.format(url=issuer.url)))
        yield registry, Tokens.made_by(issuer)


async def printed(name: str, folder: Path, busybox: Path) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """Put a client through everything; give what it printed and what the audit tells."""
    make = CLIENTS[name]
    folders = [folder / "1", folder / "2"]
    for made in folders:
        made.mkdir()
    async with AsyncExitStack() as stack:
        registry, tokens = await stack.enter_async_context(place())
        one = await stack.enter_async_context(make(registry, make_image(busybox, 91), folders[0]))
        two = await stack.enter_async_context(make(registry, make_image(busybox, 92), folders[1]))
        found = await refusals(one, two, registry, tokens)
        await registry.stop()
        logs = (registry.folder / "audit.log").read_text(), registry.log.read_text(), *found.values()
        for token in astuple(tokens):
            assert not any(token in text for text in logs)
        return found, [json.loads(line) for line in logs[0].splitlines()]


SAID = {
    "expired token": "the token expired 6 minutes ago; get a fresh token and try again (request ",
    "wrong audience": "the token's audience is not this registry; request a token whose audience is this registry's",
    "unknown issuer": "this registry does not accept tokens of this issuer",
    "no rule, pull": "pull other/app is denied: no rule allows it; rule 'other-team' comes nearest, but 'repository' differs",
    "no rule, push": "push other/app is denied: no rule allows it; rule 'other-team' comes nearest, but 'repository' differs",
    "denied, pull": "pull team/closed is denied by deny rule 'closed-for-audit'; ask the owner of the policy (request ",
    "denied, push": "push team/closed is denied by deny rule 'closed-for-audit'; ask the owner of the policy (request ",
    "immutable tag": "tag v1 of team/app is immutable and points at another manifest; push under a new tag (request ",
}

# Before they push, these ask with HEAD what is there already, and give up at its answer, which has no body.
LOOKING_FIRST = {"podman", "crane", "oras"}
# ctr prints the status of an answer and nothing else.
STATUS_ONLY = {"ctr"}


@pytest.mark.parametrize("name", CLIENTS)
async def test_a_refused_client_says_why_where_it_prints_bodies(name: str, folder: Path, busybox: Path) -> None:
    found, audit = await printed(name, folder, busybox)
    for situation, sentence in SAID.items():
        text = found[situation]
        if name in STATUS_ONLY or (name in LOOKING_FIRST and situation in ("no rule, push", "denied, push")):
            status = "401" if situation in ("expired token", "wrong audience", "unknown issuer") else "403"
            assert status in text, situation
        else:
            assert sentence in text, situation
        assert "acme/other" not in text, "what the policy wants is not told"

    told = {(line["event"], line.get("repository")) for line in audit if line["outcome"] == "allowed"}
    assert {("push", "team/app"), ("pull", "team/app")} <= told
    reasons = {line.get("reason") for line in audit if line["outcome"] == "denied"}
    assert {"expired", "audience", "issuer", "no_rule", "deny_rule"} <= reasons
