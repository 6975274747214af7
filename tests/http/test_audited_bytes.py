"""Bytes in the audit line are those that leave, so that they can be summed: a look hands out nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.http.harness import House, digest_of, on_directory


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with on_directory(tmp_path) as found:
        yield found


async def pulled(house: House, method: str, target: str, **headers: str) -> dict[str, Any]:
    """Ask for something, and give the audit line of it."""
    identifier = f"{method}-{len(headers)}"
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    await house.ask(method, target, headers={**given, "x-request-id": identifier})
    while (event := await house.event())["request_id"] != identifier:
        pass
    return event


async def test_a_manifest_counts_when_it_is_sent_and_not_when_it_is_looked_at(house: House) -> None:
    manifest = await house.push_image("acme/app", "latest", b"layer")
    target = "/v2/acme/app/manifests/latest"
    assert (await pulled(house, "GET", target))["bytes"] == len(manifest)
    assert "bytes" not in await pulled(house, "HEAD", target)
    assert "bytes" not in await pulled(house, "GET", target, if_none_match=f'"{digest_of(manifest)}"')


async def test_a_blob_that_the_store_delivers_counts_by_its_size_and_a_look_at_it_does_not(house: House) -> None:
    await house.push_image("acme/app", "latest", b"layer")
    target = f"/v2/acme/app/blobs/{digest_of(b'layer')}"
    redirected = await pulled(house, "GET", target)
    assert (redirected["delivery"], redirected["bytes"]) == ("redirect", len(b"layer"))
    assert "bytes" not in await pulled(house, "HEAD", target)
