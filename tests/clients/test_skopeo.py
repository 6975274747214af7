"""skopeo: copy an image in, between repositories, and out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clients.containers import tool
from tests.clients.journeys import mounts, pulls, pushes_as_it_is
from tests.images import Image
from tests.running import Observed

pytestmark = pytest.mark.timeout(300)


async def test_skopeo_copies_in_across_and_out(place: Observed, image: Image, folder: Path) -> None:
    skopeo = tool("skopeo", folder)
    one, two = (f"docker://{place.host}/skopeo/{name}:v1" for name in ("one", "two"))
    layout = image.write_layout(folder / "layout", "skopeo:v1")
    plain = ("--src-tls-verify=false", "--dest-tls-verify=false", "--preserve-digests")
    await pushes_as_it_is(place, lambda: skopeo("copy", *plain, f"oci:{layout}:v1", one), "skopeo/one", "v1", image)
    await mounts(place, lambda: skopeo("copy", *plain, one, two), "skopeo/one", "skopeo/two", "v1")
    await pulls(place, lambda: skopeo("copy", *plain, two, f"dir:{folder / 'out'}"))

    assert (folder / "out" / "manifest.json").read_bytes() == image.manifest
    for blob in image.blobs:
        assert (folder / "out" / blob.digest.removeprefix("sha256:")).read_bytes() == blob.content
