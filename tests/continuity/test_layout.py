"""A bucket whose layout is newer than the program: every command refuses it, says which two they are and what to do, and changes nothing."""

from __future__ import annotations

import json

import pytest

from edgeproxy.storage import keys
from tests.programs import EDGEPROXY, run
from tests.running import STORES, Registry, StoreKind, serving

pytestmark = pytest.mark.timeout(120)

COMMANDS = {"serve": ("serve",), "check": ("check",), "fsck": ("fsck",), "inspect": ("inspect", "one/app")}
SAID = (
    f"the bucket has layout {keys.LAYOUT_VERSION + 1}, this release knows layout {keys.LAYOUT_VERSION}: "
    "use the release that wrote it, or a newer one"
)


async def _write(registry: Registry, version: int) -> None:
    async with registry.store.open() as store:
        await store.put(keys.LAYOUT, json.dumps({"version": version}).encode(), content_type="application/json")


async def _read(registry: Registry) -> dict[str, int]:
    async with registry.store.open() as store:
        layout: dict[str, int] = json.loads((await store.read(keys.LAYOUT, 1024))[1])
        return layout


@pytest.mark.parametrize("kind", STORES)
async def test_a_newer_layout_is_refused_by_every_command_and_its_own_is_taken(kind: StoreKind) -> None:
    async with serving(kind) as registry:
        assert await _read(registry) == {"version": keys.LAYOUT_VERSION}, "the first start writes it"
        await registry.stop()
        for name in ("check", "fsck"):
            await run(EDGEPROXY, *COMMANDS[name], environment=registry.environment)
        await _write(registry, keys.LAYOUT_VERSION + 1)
        for name, command in COMMANDS.items():
            # `serve` says 2, as for every setting that cannot be used.
            status = 2 if name == "serve" else 1
            told = await run(EDGEPROXY, *command, environment=registry.environment, status=status)
            assert SAID in told, name
            assert "Traceback" not in told
        assert await _read(registry) == {"version": keys.LAYOUT_VERSION + 1}
        await _write(registry, keys.LAYOUT_VERSION)
        await registry.start()
