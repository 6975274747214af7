"""What a running process takes over without a restart: a changed policy, by itself or at SIGHUP, and rotated audit files."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest

from tests.running import Registry, serving

POLICY = 'version: 1\npublic:\n  - {repositories: ["public/**"], actions: [pull]}\n'
NARROWED = POLICY.replace("public/**", "public/one")
BROKEN = 'version: 1\npublic:\n  - {repositories: ["confidential/**"], actions: [pul]}\n'


@pytest.fixture
async def registry() -> AsyncIterator[Registry]:
    async with serving("filesystem", policy=POLICY) as running:
        yield running


async def status(registry: Registry, repository: str) -> int:
    """What an anonymous caller gets: 403 is a refusal, 404 means that it may pull what is not there."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{registry.url}/v2/{repository}/manifests/v1") as answer,
    ):
        return answer.status


async def readiness(registry: Registry) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"{registry.url}/readyz") as answer:
        return answer.status, await answer.text()


async def eventually(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait until it holds. Another process tells nobody when it has read a file, so that can only be polled."""
    while not await holds():  # noqa: ASYNC110
        await asyncio.sleep(0.02)


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_a_changed_policy_is_in_force_with_no_signal(registry: Registry) -> None:
    assert await status(registry, "public/two") == 404
    (registry.folder / "policy.yaml").write_text(NARROWED)

    async def refused() -> bool:
        return await status(registry, "public/two") == 403

    await eventually(refused)
    assert await status(registry, "public/one") == 404


async def test_a_signal_has_it_read_at_once_and_the_change_is_audited(registry: Registry) -> None:
    (registry.folder / "policy.yaml").write_text(NARROWED)
    os.kill(registry.pid, signal.SIGHUP)

    async def refused() -> bool:
        return await status(registry, "public/two") == 403

    await eventually(refused)
    await registry.stop()
    (change,) = [line for line in lines(registry.folder / "audit.log") if line["event"] == "policy"]
    assert change["policy"] != change["before"]


async def test_a_broken_document_keeps_the_old_one_and_degrades_without_telling_what_it_holds(
    registry: Registry,
) -> None:
    assert "degraded" not in (await readiness(registry))[1]
    (registry.folder / "policy.yaml").write_text(BROKEN)
    os.kill(registry.pid, signal.SIGHUP)

    async def degraded() -> bool:
        return "degraded" in (await readiness(registry))[1]

    await eventually(degraded)
    code, text = await readiness(registry)
    assert code == 200
    assert "policy.yaml:3" in text
    assert "confidential" not in text
    assert await status(registry, "public/two") == 404
    assert await status(registry, "confidential/two") == 403

    (registry.folder / "policy.yaml").write_text(NARROWED)
    os.kill(registry.pid, signal.SIGHUP)

    async def mended() -> bool:
        return "degraded" not in (await readiness(registry))[1]

    await eventually(mended)
    assert await status(registry, "public/two") == 403


async def test_a_rotated_audit_file_is_let_go_at_a_signal_and_no_line_is_lost(registry: Registry) -> None:
    current, rotated = registry.folder / "audit.log", registry.folder / "audit.log.1"
    await status(registry, "public/before")
    current.rename(rotated)
    await status(registry, "public/between")
    os.kill(registry.pid, signal.SIGHUP)

    asked = 0

    async def reopened() -> bool:
        nonlocal asked
        asked += 1
        await status(registry, f"public/after-{asked}")
        return current.exists()

    await eventually(reopened)
    await registry.stop()
    told = [line.get("repository") for path in (rotated, current) for line in lines(path)]
    wanted = ["public/before", "public/between", *(f"public/after-{number + 1}" for number in range(asked))]
    assert [name for name in told if name] == wanted
    assert current.read_text()
