"""Docker's engine, with its classic store: push, mount, pull and run."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.clients.journeys import digest_at, mounts, pulls, pulls_nothing_new, pushes
from tests.images import Image
from tests.programs import bound_to_us, clean_environment, program, run, superuser
from tests.running import Observed, end

pytestmark = pytest.mark.timeout(300)


@dataclass(frozen=True, slots=True)
class Docker:
    """A client of a daemon of our own."""

    environment: dict[str, str]

    async def __call__(self, *arguments: str) -> str:
        """Run a docker command."""
        return await run(program("docker"), *arguments, environment=self.environment)


@asynccontextmanager
async def dockerd(folder: Path) -> AsyncIterator[Docker]:
    """Run a daemon that shares nothing with another one."""
    superuser("dockerd")
    binary, log = program("dockerd"), folder / "dockerd.log"
    program("docker")
    options = {
        "--data-root": "data",
        "--exec-root": "exec",
        "--pidfile": "pid",
        "--host": "docker.sock",
    }
    paths = [f"{name}={'unix://' if name == '--host' else ''}{folder / value}" for name, value in options.items()]
    environment = clean_environment(folder, {"DOCKER_HOST": f"unix://{folder / 'docker.sock'}"})
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *bound_to_us(binary, "--iptables=false", "--bridge=none", *paths),
            env=clean_environment(folder),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        docker = Docker(environment)
        # Another program's start can only be polled.
        for _ in range(600):
            assert process.returncode is None, log.read_text()
            if "Server Version" in await run(program("docker"), "info", environment=environment, status=None):
                break
            await asyncio.sleep(0.1)
        yield docker
    finally:
        await end(process)


async def test_docker_pushes_mounts_pulls_and_runs(place: Observed, image: Image, folder: Path) -> None:
    one, two = (f"{place.host}/docker/{name}:v1" for name in ("one", "two"))
    async with dockerd(folder) as docker:
        await docker("load", "-i", str(image.write_archive(folder / "image.tar", one)))
        await pushes(place, lambda: docker("push", one), "docker/one", "v1")
        await docker("tag", one, two)
        await mounts(place, lambda: docker("push", two), "docker/one", "docker/two", "v1")
        await docker("rmi", one, two)
        await pulls(place, lambda: docker("pull", one))
        inspected = json.loads(await docker("image", "inspect", one))[0]
        printed = await docker("run", "--rm", "--network", "host", one)
        await pulls_nothing_new(place, lambda: docker("pull", one))

    assert inspected["Id"] == image.config.digest
    assert inspected["RepoDigests"] == [f"{place.host}/docker/one@{await digest_at(place, 'docker/one', 'v1')}"]
    assert printed.strip() == image.greeting
