"""containerd: push, mount, pull and run, by way of ctr."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.clients.journeys import mounts, pulls, pulls_nothing_new, pushes_as_it_is
from tests.images import Image
from tests.programs import bound_to_us, clean_environment, program, run, superuser
from tests.running import Observed, end

pytestmark = pytest.mark.timeout(300)

CONFIGURATION = """\
version = 2
root = "{folder}/root"
state = "{folder}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
[grpc]
address = "{folder}/ctr.sock"
"""


RACES = ("send on closed channel", "rpc error: code = Internal desc = unexpected EOF")
"""What ctr 1.6 said when a push died of itself, now and then on a busy machine. The rpc is that between ctr and its containerd."""


def died_of_its_own(printed: str) -> bool:
    """Tell, and say, that a push died of a race that has nothing to do with the registry, to which ctr speaks HTTP."""
    died = any(race in printed for race in RACES)
    if died:
        print(f"ctr died of its own race and is run again: {printed}")
    return died


@dataclass(frozen=True, slots=True)
class Ctr:
    """A client of a containerd of our own."""

    folder: Path

    async def __call__(self, *arguments: str, status: int | None = 0) -> str:
        """Run a command."""
        command = (program("ctr"), "--address", str(self.folder / "ctr.sock"), *arguments)
        return await run(*command, environment=clean_environment(self.folder), status=status)

    async def push(self, reference: str) -> None:
        """Push an image; once more, and said so, if ctr died of a race of its own."""
        push = ("images", "push", "--plain-http", reference)
        printed = await self(*push, status=None)
        died_of_its_own(printed)
        # A push of what is there already costs nothing, and shows by its exit status that the first one went well.
        await self(*push)

    async def stored(self, digest: str) -> str:
        """Give the digest of the bytes that containerd holds under that digest."""
        path = self.folder / "root" / "io.containerd.content.v1.content" / "blobs" / digest.replace(":", "/")
        content = await asyncio.to_thread(path.read_bytes)
        return f"sha256:{hashlib.sha256(content).hexdigest()}"


@asynccontextmanager
async def containerd(folder: Path) -> AsyncIterator[Ctr]:
    """Run a containerd that shares nothing with another one."""
    superuser("containerd")
    binary, log = program("containerd"), folder / "containerd.log"
    program("ctr")
    (folder / "config.toml").write_text(CONFIGURATION.format(folder=folder))
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *bound_to_us(binary, "--config", str(folder / "config.toml")),
            env=clean_environment(folder),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        # Another program's start can only be polled.
        for _ in range(600):
            assert process.returncode is None, log.read_text()
            if "successfully booted" in log.read_text():
                break
            await asyncio.sleep(0.1)
        yield Ctr(folder)
    finally:
        await end(process)


async def test_containerd_pushes_mounts_pulls_and_runs(place: Observed, image: Image, folder: Path) -> None:
    one, two = (f"{place.host}/containerd/{name}:v1" for name in ("one", "two"))
    pull = ("images", "pull", "--plain-http", "--snapshotter", "native", one)
    async with containerd(folder) as ctr:
        await ctr("images", "import", "--no-unpack", str(image.write_archive(folder / "image.tar", one)))
        await pushes_as_it_is(place, lambda: ctr.push(one), "containerd/one", "v1", image)
        await ctr("images", "remove", "--sync", one)
        await pulls(place, lambda: ctr(*pull))
        # Only what was pulled carries the note of its source by which containerd asks for a mount.
        await ctr("images", "tag", one, two)
        await mounts(place, lambda: ctr.push(two), "containerd/one", "containerd/two", "v1")
        await pulls_nothing_new(place, lambda: ctr(*pull))
        stored = {blob.digest: await ctr.stored(blob.digest) for blob in image.blobs}
        printed = await ctr("run", "--rm", "--net-host", "--snapshotter", "native", one, "greeter")

    assert all(digest == found for digest, found in stored.items())
    assert printed.strip() == image.greeting
