"""crane: push a layout, copy between repositories, pull a layout, and read one blob."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.clients.journeys import mounts, pulls, pushes_as_it_is
from tests.images import Image
from tests.programs import clean_environment, program, run
from tests.running import STORES, Observed, observed

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(params=[(kind, server) for kind in STORES for server in ("hypercorn", "granian")], ids="-".join)
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Observed]:
    """Give a registry over each kind of store, under each server."""
    kind, server = request.param
    async with observed(kind, server=server) as running:
        yield running


async def test_crane_pushes_copies_and_pulls(place: Observed, image: Image, folder: Path) -> None:
    binary, environment = program("crane"), clean_environment(folder)

    async def crane(*arguments: str) -> str:
        return await run(binary, *arguments, environment=environment)

    one, two = (f"{place.host}/crane/{name}:v1" for name in ("one", "two"))
    layout = image.write_layout(folder / "layout", one)
    await pushes_as_it_is(place, lambda: crane("push", str(layout), one), "crane/one", "v1", image)
    await mounts(place, lambda: crane("copy", one, two), "crane/one", "crane/two", "v1")
    await pulls(place, lambda: crane("pull", "--format", "oci", two, str(folder / "out")))

    assert (await crane("digest", one)).strip() == image.digest
    for blob in image.blobs:
        path = folder / "out" / "blobs" / blob.digest.replace(":", "/")
        assert path.read_bytes() == blob.content
