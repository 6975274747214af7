"""The second chapter of the README: `edgeproxy dev` with its own issuer, and tokens of `edgeproxy dev-token`."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from tests.programs import EDGEPROXY, bound_to_us, clean_environment, run
from tests.running import answering, end, free_ports
from tests.signing_in import can, refusal


@dataclass(frozen=True, slots=True)
class Dev:
    """A running `edgeproxy dev`."""

    folder: Path
    port: int

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    @property
    def policy(self) -> Path:
        return self.folder / "data" / "policy.yaml"

    async def edgeproxy(self, *arguments: str, status: int = 0) -> str:
        return await run(EDGEPROXY, *arguments, environment=clean_environment(self.folder), status=status)

    async def token(self, *arguments: str) -> str:
        return (await self.edgeproxy("dev-token", "--data", str(self.folder / "data"), *arguments)).strip()

    async def status(self, repository: str) -> int:
        """What an anonymous caller gets for an upload."""
        url = f"{self.url}/v2/{repository}/blobs/uploads/"
        async with aiohttp.ClientSession() as session, session.post(url) as answer:
            return answer.status

    async def sign_in(self) -> None:
        """Take the line out as the document itself says, and wait until that is in force, which can only be asked again and again."""
        text = self.policy.read_text()
        assert re.search(r"challenge: false$", text, re.MULTILINE)
        self.policy.write_text(re.sub(r"^.*challenge: false\n", "", text, flags=re.MULTILINE))
        async with aiohttp.ClientSession() as session:
            while True:
                async with session.get(f"{self.url}/v2/") as answer:
                    if answer.status == 401:
                        return
                await asyncio.sleep(0.05)  # nothing tells when another process has read a file


@pytest.fixture
async def dev(tmp_path: Path) -> AsyncIterator[Dev]:
    (port,) = free_ports(1)
    log = tmp_path / "dev.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *bound_to_us(EDGEPROXY, "dev", "--data", str(tmp_path / "data"), "--port", str(port)),
            env=clean_environment(tmp_path),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        await answering(f"http://localhost:{port}/readyz", process, log)
        yield Dev(tmp_path, port)
    finally:
        await end(process)


async def test_everyone_pushes_anything_but_what_is_private_with_no_step_before(dev: Dev) -> None:
    async with aiohttp.ClientSession() as session, session.get(f"{dev.url}/v2/") as answer:
        assert answer.status == 200
    assert [await dev.status(name) for name in ("hello", "team/app", "private", "private/app")] == [202, 202, 202, 401]


async def test_a_token_is_believed_from_the_first_minute(dev: Dev) -> None:
    token = await dev.token("--claim", "repository=acme/app")
    assert await can(dev.url, token, "push", "private/app")
    assert not await can(dev.url, token, "push", "private/other")


async def test_a_token_opens_what_its_claims_allow_and_the_registry_was_not_restarted(dev: Dev) -> None:
    await dev.sign_in()

    team, oncall = await dev.token("--claim", "repository=acme/app"), await dev.token("--claim", "groups=oncall")
    assert await can(dev.url, team, "push", "private/app")
    assert not await can(dev.url, team, "push", "private/other")
    assert await can(dev.url, oncall, "delete", "private/other")
    assert not await can(dev.url, oncall, "delete", "private/releases/app")
    assert not await can(dev.url, await dev.token("--claim", "repository=acme/other"), "push", "private/app")
    assert await can(dev.url, await dev.token(), "push", "hello")
    assert [await dev.status(name) for name in ("hello", "private/app")] == [202, 401]


async def test_a_token_that_is_not_good_is_refused_with_the_reason(dev: Dev) -> None:
    await dev.sign_in()
    assert "expired" in await refusal(dev.url, await dev.token("--seconds", "-60"))
    assert "audience" in await refusal(dev.url, await dev.token("--audience", "another"))
    assert "issuer" in await refusal(dev.url, await dev.token("--claim", "iss=https://stranger.example"))


async def test_what_was_done_is_in_the_audit_and_no_token_is(dev: Dev) -> None:
    await dev.sign_in()
    token = await dev.token("--claim", "repository=acme/app")
    assert await can(dev.url, token, "push", "private/app")
    log = dev.folder / "data" / "audit.jsonl"
    while '"subject":"developer"' not in log.read_text():  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    assert token not in log.read_text()
    report = json.loads(await dev.edgeproxy("audit", "summary", "--json", str(log)))
    assert report["malformed"] == 0


async def test_the_policy_is_explained_for_a_token(dev: Dev) -> None:
    await dev.sign_in()
    good, other = await dev.token("--claim", "repository=acme/app"), await dev.token("--claim", "repository=acme/other")
    question = ("policy", "explain", str(dev.policy), "private/app", "push", "--token")
    assert "acme-app-pushes" in await dev.edgeproxy(*question, good)
    explained = await dev.edgeproxy(*question, other, status=1)
    assert "repository: got" in explained
    assert "acme/other" in explained
