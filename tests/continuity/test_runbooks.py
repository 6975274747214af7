"""docs/operations.md is executed, chapter by chapter, each in the situation that it is written for.

The words after the ticks of a fence say what happens to it: `sh runbook`, `sh restore` and `sh move` are run and must succeed, `sh refused` is run
and must fail. A `text` fence right after is part of what it prints. Variables that a fence sets are there in the next one.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from edgeproxy.access.signing import YOUNG_SECONDS
from tests.continuity.test_layout import SAID
from tests.continuity.test_store_credentials import add_user, signs_as, signs_at_last_as, write_profile
from tests.docs.pages import ROOT, Fence, Page
from tests.images import digest_of
from tests.issuer import JWKS, LocalIssuer
from tests.programs import EDGEPROXY, program
from tests.pushing import Client, Reply, client, manifest_of
from tests.running import Bucket, Registry, bucket, registry, temporary_folder, versitygw

pytestmark = pytest.mark.timeout(300)

PAGE = Page.read(ROOT / "docs" / "operations.md")
RUN = frozenset({"runbook", "restore", "move", "refused"})
POLICY = """\
version: 1
issuers:
  ci: {url: "https://issuer.example.com", audiences: [registry.example], keys: {file: keys.json}}
rules:
  - name: web-team
    issuer: ci
    match: {repository: acme/web}
    allow: [{repositories: [load, "team/web*"], actions: [pull, push]}]
public:
  - {repositories: [load, "team/web*"], actions: [pull]}
tests:
  - {issuer: ci, claims: {repository: acme/web}, repository: team/web, action: push, expect: allow}
  - {issuer: ci, claims: {repository: acme/web}, repository: team/app, action: pull, expect: deny}
"""
ISSUER = LocalIssuer("https://issuer.example.com")
KEYS = json.dumps(ISSUER.document(JWKS))


class WebTeam(Client):
    """A client with a token of the team that may push."""

    async def ask(self, method: str, path: str, *, headers: dict[str, str] | None = None, **options: Any) -> Reply:
        """Send one request."""
        now = time.time()
        token = ISSUER.mint({"repository": "acme/web", "iat": now, "exp": now + 600})
        return await super().ask(
            method, path, headers={**(headers or {}), "Authorization": f"Bearer {token}"}, **options
        )


class Shell:
    """A person in the folder of a replica: commands run as they are typed, and what they set stays set."""

    def __init__(self, folder: Path, environment: Mapping[str, str], host: str) -> None:
        self._folder = folder
        self._host = host
        self._exports = folder / ".exports"
        path = os.pathsep.join((str(Path(EDGEPROXY).parent), environment["PATH"]))
        self._environment = {**environment, "PATH": path}
        self._exports.write_text("")

    def set(self, **variables: str) -> None:
        """Set variables for what comes next."""
        with self._exports.open("a") as file:
            file.writelines(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())

    def get(self, name: str) -> str:
        """Give a variable that a fence set."""
        (line,) = [line for line in self._exports.read_text().splitlines() if line.startswith(f"export {name}=")]
        (value,) = shlex.split(line.partition("=")[2])
        return value

    async def type(self, fence: Fence, shown: str | None) -> None:
        """Run a fence; hold how it ends and what it prints against the page."""
        script = f". {self._exports}\nset -ae\n{fence.text}\nexport -p > {self._exports}\n"
        process = await asyncio.create_subprocess_exec(
            "/bin/sh",
            "-c",
            script.replace("127.0.0.1:5000", self._host),
            cwd=self._folder,
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        printed = (await process.communicate())[0].decode()
        where = f"operations.md:{fence.line}: exit {process.returncode}\n{printed}"
        print(where)
        assert (process.returncode == 0) == (fence.use != "refused"), where
        if shown is not None:
            assert shown.strip() in printed, where


def chapter(heading: str, use: str = "runbook") -> Iterator[tuple[Fence, str | None]]:
    """Give the fences of a chapter that are run, each with what it prints if the page shows that."""
    fences = [fence for fence in PAGE.fences if fence.heading == heading]
    found = [
        (fence, after.text if after is not None and after.info == ("text",) else None)
        for fence, after in zip(fences, [*fences[1:], None], strict=True)
        if fence.language == "sh" and fence.use in {use, "refused"}
    ]
    assert found, f"the page has no chapter {heading!r} with commands"
    yield from found


@asynccontextmanager
async def replica(
    store: Bucket, folder: Path, adapt: Callable[[Registry], None] = lambda _: None, **settings: str
) -> AsyncIterator[tuple[Registry, Shell]]:
    """Run a replica as the page presupposes it, and a shell beside it."""
    (folder / "keys.json").write_text(KEYS)
    one = registry(store, folder, policy=POLICY, audit="file:audit.jsonl", **settings)
    for name in ("POLICY", "SIGNING_KEYS"):
        one.environment[f"EDGEPROXY_{name}"] = Path(one.environment[f"EDGEPROXY_{name}"]).name
    adapt(one)
    await one.start()
    try:
        yield one, Shell(folder, one.environment, one.host)
    finally:
        await one.stop()


async def push(one: Registry, repository: str, chance: Random) -> bytes:
    """Push an image under v1; give its manifest."""
    config = json.dumps({"architecture": "amd64", "os": "linux", "nonce": chance.random()}).encode()
    contents = [config, chance.randbytes(70_000)]
    async with client(one.url, kind=WebTeam) as to:
        for content in contents:
            await to.post_put(repository, content)
        manifest = manifest_of(*contents)
        (await to.push_manifest(repository, "v1", manifest)).expect(201)
    return manifest


@pytest.fixture
async def folder() -> AsyncIterator[Path]:
    async with temporary_folder() as made:
        yield made


async def test_exchanging_the_signing_key(folder: Path) -> None:
    program("curl")
    async with bucket("filesystem", folder) as store, replica(store, folder) as (one, shell):
        make, look, retire = chapter("Exchange the signing key")
        await shell.type(*make)
        old, new = shell.get("OLD"), shell.get("NEW")
        grown = time.time() - YOUNG_SECONDS - 1
        os.utime(folder / "keys" / f"{new}.pem", (grown, grown))
        while new not in await published(one):  # noqa: ASYNC110 - another process reads the folder when it likes
            await asyncio.sleep(0.2)
        assert old in await published(one)
        await shell.type(*look)
        await shell.type(*retire)
        while old in await published(one):  # noqa: ASYNC110
            await asyncio.sleep(0.2)
        assert new in await published(one)


async def published(one: Registry) -> str:
    async with client(one.url) as to:
        return (await to.ask("GET", "/.well-known/jwks.json")).expect(200).body.decode()


async def test_changing_the_policy_and_going_back_from_a_broken_one(folder: Path) -> None:
    program("curl")
    async with bucket("filesystem", folder) as store, replica(store, folder) as (_, shell):
        for fence, shown in chapter("Change the policy"):
            await shell.type(fence, shown)
        assert (folder / "policy.yaml").read_text() == POLICY


async def test_exchanging_the_stores_credential(folder: Path, chance: Random) -> None:
    (folder / "iam").mkdir()
    async with versitygw(folder, "--iam-dir", str(folder / "iam"), "--iam-cache-disable") as store:
        for access in ("old", "new"):
            await add_user(store, folder, access)
        write_profile(folder, "old", "secret-of-old")

        def by_profile(one: Registry) -> None:
            for name in store.environment:
                del one.environment[name]

        async with replica(store, folder, by_profile) as (one, shell):
            digest = json.loads(await push(one, "load", chance))["config"]["digest"]
            assert await signs_as(one, digest) == "old"
            shell.set(NEW_KEY_ID="new", NEW_KEY_SECRET="secret-of-new")
            for fence, shown in chapter("Exchange the store's credential"):
                await shell.type(fence, shown)
            await signs_at_last_as(one, digest, "new")


async def test_draining(folder: Path) -> None:
    program("curl")
    async with bucket("filesystem", folder) as store, replica(store, folder, drain_seconds="300") as (one, shell):
        shell.set(PID=str(one.pid))
        for fence, shown in chapter("Restart and drain"):
            await shell.type(fence, shown)
        async with client(one.url) as to:
            alive = (await to.ask("GET", "/healthz")).expect(200)
        assert alive.header("connection") == "close"
        assert await one.stop() == 0, "a second SIGTERM ends the wait"


async def test_trying_an_upgrade_out(folder: Path) -> None:
    async with bucket("filesystem", folder) as store, replica(store, folder) as (_, shell):
        for fence, shown in chapter("Upgrade and go back"):
            await shell.type(fence, shown)
    (told,) = [fence.text.strip() for fence in PAGE.fences if fence.info == ("text", "layout")]
    assert told == SAID


async def test_restoring_from_nothing_but_the_bucket_and_the_policy(folder: Path, chance: Random) -> None:
    async with versitygw(folder) as store:
        async with replica(store, folder) as (one, _):
            manifest = await push(one, "team/web", chance)
        anew = folder / "anew"
        anew.mkdir()
        there = registry(store, folder, policy=POLICY)
        for name in ("policy.yaml", "keys.json"):
            (anew / name).write_bytes((folder / name).read_bytes())
        there.environment |= {"EDGEPROXY_POLICY": "policy.yaml", "EDGEPROXY_SIGNING_KEYS": "keys"}
        there.folder = anew
        shell = Shell(anew, there.environment, there.host)
        for fence, shown in chapter("Back up, restore, move the bucket", "restore"):
            await shell.type(fence, shown)
        await there.start()
        try:
            async with client(there.url) as to:
                assert (await to.whole("team/web", "v1"))[0] == digest_of(manifest)
        finally:
            await there.stop()


def remote(name: str, store: Bucket) -> dict[str, str]:
    """Tell rclone of a store."""
    told = {
        "TYPE": "s3",
        "PROVIDER": "Other",
        "ENDPOINT": f"http://127.0.0.1:{store.port}",
        "ACCESS_KEY_ID": store.environment["AWS_ACCESS_KEY_ID"],
        "SECRET_ACCESS_KEY": store.environment["AWS_SECRET_ACCESS_KEY"],
        "REGION": store.region,
    }
    return {f"RCLONE_CONFIG_{name}_{key}": value for key, value in told.items()}


async def test_moving_the_bucket(folder: Path, chance: Random) -> None:
    program("rclone")
    (folder / "second").mkdir()

    def as_clients_see_it(store: Bucket) -> Bucket:
        return replace(store, location=store.location.replace("127.0.0.1", "localhost"))

    def without_other_names(one: Registry) -> None:
        del one.environment["EDGEPROXY_STORE_PUBLIC_ENDPOINT"]

    async with AsyncExitStack() as stack:
        old = as_clients_see_it(await stack.enter_async_context(versitygw(folder)))
        new = as_clients_see_it(await stack.enter_async_context(versitygw(folder / "second")))
        one, shell = await stack.enter_async_context(replica(old, folder, without_other_names))
        manifests = [await push(one, f"team/web{number}", chance) for number in range(2)]
        shell.set(**remote("OLD", old), **remote("NEW", new), NEW_STORE=new.location)
        first, second = chapter("Back up, restore, move the bucket", "move")
        await shell.type(*first)
        manifests.append(await push(one, "team/web2", chance))
        await shell.type(*second)
        await one.stop()
        one.environment["EDGEPROXY_STORE"] = new.location
        await one.start()
        async with client(one.url) as to:
            for number, manifest in enumerate(manifests):
                assert (await to.whole(f"team/web{number}", "v1"))[0] == digest_of(manifest)


async def test_finding_out_why_a_pull_fails(folder: Path, chance: Random) -> None:
    program("curl")
    async with bucket("filesystem", folder) as store, replica(store, folder) as (one, shell):
        await push(one, "team/web", chance)
        for fence, shown in chapter("Find out why a pull fails"):
            await shell.type(fence, shown)


def test_every_command_of_the_page_is_run() -> None:
    assert {fence.use for fence in PAGE.fences if fence.language == "sh"} == RUN
    assert {fence.info for fence in PAGE.fences if fence.language != "sh"} == {("text",), ("text", "layout")}
