"""regctl: copies between layouts and repositories, and pushes in real chunks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clients.journeys import mounts, pulls, pushes_as_it_is
from tests.images import Image
from tests.programs import clean_environment, program, run
from tests.pushing import client
from tests.running import Observed

pytestmark = pytest.mark.timeout(300)

CHUNK = 1024 * 1024


async def test_regctl_copies_in_across_and_out(place: Observed, image: Image, folder: Path) -> None:
    binary, environment = program("regctl"), clean_environment(folder)

    async def regctl(*arguments: str) -> str:
        return await run(binary, *arguments, environment=environment)

    one, two = (f"{place.host}/regctl/{name}:v1" for name in ("one", "two"))
    layout = image.write_layout(folder / "layout", one)
    await regctl("registry", "set", place.host, "--tls", "disabled")
    await pushes_as_it_is(
        place, lambda: regctl("image", "copy", f"ocidir://{layout}:v1", one), "regctl/one", "v1", image
    )
    await mounts(place, lambda: regctl("image", "copy", one, two), "regctl/one", "regctl/two", "v1")
    await pulls(place, lambda: regctl("image", "copy", two, f"ocidir://{folder / 'out'}:v1"))

    for blob in image.blobs:
        path = folder / "out" / "blobs" / blob.digest.replace(":", "/")
        assert path.read_bytes() == blob.content


async def test_regctl_pushes_in_chunks(place: Observed, image: Image, folder: Path) -> None:
    binary, environment = program("regctl"), clean_environment(folder)
    large = max(image.blobs, key=lambda blob: len(blob.content))
    (folder / "blob").write_bytes(large.content)
    chunks = ("--blob-chunk", str(CHUNK), "--blob-max", str(CHUNK))
    await run(binary, "registry", "set", place.host, "--tls", "disabled", *chunks, environment=environment)
    put = f'exec "{binary}" blob put "{place.host}/regctl/chunks" < "{folder / "blob"}"'
    printed = await run("/bin/sh", "-c", put, environment=environment)

    assert large.digest in printed
    async with client(place.registry.url) as reader:
        assert await reader.blob("regctl/chunks", large.digest) == large.content
