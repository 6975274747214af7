"""oras: images between layouts and repositories, an artifact of files, and what refers to it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.clients.journeys import mounts, pulls, pushes_as_it_is
from tests.images import Image
from tests.programs import clean_environment, program, run
from tests.running import Observed

pytestmark = pytest.mark.timeout(300)


async def test_oras_copies_in_across_and_out(place: Observed, image: Image, folder: Path) -> None:
    binary, environment = program("oras"), clean_environment(folder)

    async def oras(*arguments: str) -> str:
        return await run(binary, *arguments, environment=environment)

    one, two = (f"{place.host}/oras/{name}:v1" for name in ("one", "two"))
    layout = image.write_layout(folder / "layout", one)
    into = ("copy", "--from-oci-layout", "--to-plain-http", f"{layout}:v1", one)
    across = ("copy", "--from-plain-http", "--to-plain-http", one, two)
    out = ("copy", "--from-plain-http", "--to-oci-layout", two, f"{folder / 'out'}:v1")
    await pushes_as_it_is(place, lambda: oras(*into), "oras/one", "v1", image)
    await mounts(place, lambda: oras(*across), "oras/one", "oras/two", "v1")
    await pulls(place, lambda: oras(*out))

    for blob in image.blobs:
        path = folder / "out" / "blobs" / blob.digest.replace(":", "/")
        assert path.read_bytes() == blob.content


async def test_oras_pushes_files_and_finds_what_refers_to_them(place: Observed, folder: Path) -> None:
    binary, environment = program("oras"), clean_environment(folder)
    (folder / "in").mkdir()
    (folder / "report.txt").write_bytes(b"all is well")
    (folder / "statement.json").write_bytes(b"{}")
    artifact = f"{place.host}/oras/report:v1"

    async def oras(*arguments: str) -> str:
        command = f'cd "{folder}" && exec "{binary}" "$@"'
        return await run("/bin/sh", "-c", command, "oras", *arguments, environment=environment)

    await oras("push", "--plain-http", artifact, "report.txt:text/plain")
    kind = "application/vnd.example.statement"
    await oras("attach", "--plain-http", "--artifact-type", kind, artifact, "statement.json")
    await oras("pull", "--plain-http", artifact, "--output", "in")
    found = json.loads(await oras("discover", "--plain-http", "--format", "json", "--artifact-type", kind, artifact))

    assert (folder / "in" / "report.txt").read_bytes() == b"all is well"
    assert [entry["artifactType"] for entry in found["referrers"]] == [kind]
