"""The image, built once as docs/container.md says, on a base that needs no hub; and what the page shows, to be run."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio

from tests.clients.test_docker import Docker, dockerd
from tests.docs.pages import ROOT, Fence, Page
from tests.programs import base_archive, program, run
from tests.running import Bucket, bucket, temporary_folder

CANARY: Final = "canary-9b1fe27d5c"
"""Stands in for every secret that lies about where the image is built."""

CONTEXT: Final = (
    ".dockerignore",
    "Dockerfile",
    "LICENSE",
    "Makefile",
    "README.md",
    "compose",
    "compose.yaml",
    "edgeproxy",
    "pyproject.toml",
    "requirements",
)


def fences(use: str) -> list[Fence]:
    """Give what docs/container.md shows for one use, in order; never none."""
    found = [fence for fence in Page.read(ROOT / "docs" / "container.md").fences if fence.use == use]
    assert found, f"docs/container.md has no fence `sh {use}`"
    return found


async def shell(script: str, folder: Path, environment: Mapping[str, str], seconds: float = 240) -> str:
    """Run what a page shows, in a folder, until a line fails."""
    file = folder / "shown.sh"
    file.write_text(f'set -e\ncd "{folder}"\n{script}')
    return await run("/bin/sh", str(file), environment=environment, seconds=seconds)


@dataclass(frozen=True, slots=True)
class Built:
    """The image `edgeproxy` in a daemon of its own. `context` is where it was built, `base` the size of what it stands on in bytes."""

    docker: Docker
    context: Path
    base: int

    async def inspect(self, what: str) -> dict[str, Any]:
        """Look at an image or a container."""
        (found,) = json.loads(await self.docker("inspect", what))
        assert isinstance(found, dict)
        return found


def make_context(folder: Path) -> Path:
    """Lay out a checkout as it is on a desk: with the sources, and with much that must not get into the image."""
    folder.mkdir()
    for name in CONTEXT:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    for name in (
        ".env",
        ".git/config",
        ".edgeproxy/signing-keys/key.pem",
        "keys/key.pem",
        "registry.env",
        "pip.conf",
        "tests/test_one.py",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{CANARY}\n")
    return folder


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def built() -> AsyncIterator[Built]:
    """Build the image, with no network, out of packages that were fetched before."""
    archive = base_archive()
    for name in ("docker", "dockerd", "make"):
        program(name)
    async with temporary_folder() as folder, dockerd(folder) as docker:
        await docker("import", str(archive), "base")
        (fence,) = fences("wheels")
        # The page speaks of the default base; the one here has another Python.
        script = fence.text.replace("--python-version 3.13", "--python-version 3.11")
        script = script.replace("--network none", "--network none --build-arg BASE=base")
        environment = {
            **docker.environment,
            "DOCKER_BUILDKIT": "0",
            "REVISION": "0123abc",
            "AWS_SECRET_ACCESS_KEY": CANARY,
        }
        context = make_context(folder / "context")
        await shell(script, context, environment, seconds=600)
        made = Built(docker, context, 0)
        yield Built(docker, context, int((await made.inspect("base"))["Size"]))


@pytest.fixture
async def store() -> AsyncIterator[Bucket]:
    """Give an empty bucket of a real S3 server."""
    async with temporary_folder() as folder, bucket("versitygw", folder) as made:
        yield made
