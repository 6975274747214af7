"""buildah: push, mount, pull, and read the layers out of a mounted container."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.clients.containers import tool
from tests.clients.journeys import mounts, pulls, pulls_nothing_new, pushes
from tests.images import Image
from tests.running import Observed

pytestmark = pytest.mark.timeout(300)


async def test_buildah_pushes_mounts_and_pulls(place: Observed, image: Image, folder: Path) -> None:
    buildah = tool("buildah", folder)
    one, two = (f"{place.host}/buildah/{name}:v1" for name in ("one", "two"))
    archive = image.write_archive(folder / "image.tar", one)
    await buildah("pull", f"docker-archive:{archive}")
    await pushes(place, lambda: buildah("push", "--tls-verify=false", one, f"docker://{one}"), "buildah/one", "v1")
    await mounts(
        place,
        lambda: buildah("push", "--tls-verify=false", one, f"docker://{two}"),
        "buildah/one",
        "buildah/two",
        "v1",
    )
    await buildah("rmi", "--all")
    await pulls(place, lambda: buildah("pull", "--tls-verify=false", one))
    await pulls_nothing_new(place, lambda: buildah("pull", "--tls-verify=false", one))
    pulled = await buildah("inspect", "--type", "image", "--format", "{{.FromImageID}}", one)
    container = (await buildah("from", "--pull-never", one)).strip()
    mounted = Path((await buildah("mount", container)).strip())
    large = hashlib.sha256((mounted / "large").read_bytes()).hexdigest()
    await buildah("umount", container)
    await buildah("rm", container)

    assert f"sha256:{pulled.strip()}" == image.config.digest
    assert image.greeting.endswith(large)
