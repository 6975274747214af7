"""podman: push, mount, pull and run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.clients.containers import tool
from tests.clients.journeys import digest_at, mounts, pulls, pulls_nothing_new, pushes
from tests.images import Image
from tests.running import Observed

pytestmark = pytest.mark.timeout(300)


async def test_podman_pushes_mounts_pulls_and_runs(place: Observed, image: Image, folder: Path) -> None:
    podman = tool("podman", folder)
    one, two = (f"{place.host}/podman/{name}:v1" for name in ("one", "two"))
    await podman("load", "-i", str(image.write_archive(folder / "image.tar", one)))
    await pushes(place, lambda: podman("push", "--tls-verify=false", one), "podman/one", "v1")
    await podman("tag", one, two)
    await mounts(place, lambda: podman("push", "--tls-verify=false", two), "podman/one", "podman/two", "v1")
    await podman("rmi", one, two)
    await pulls(place, lambda: podman("pull", "--tls-verify=false", one))
    inspected = json.loads(await podman("image", "inspect", one))[0]
    printed = await podman("run", "--rm", "--network", "host", one)
    await pulls_nothing_new(place, lambda: podman("pull", "--tls-verify=false", one))

    assert f"sha256:{inspected['Id']}" == image.config.digest
    assert inspected["Digest"] == await digest_at(place, "podman/one", "v1")
    assert printed.strip() == image.greeting
