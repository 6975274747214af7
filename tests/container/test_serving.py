"""The image at work: started as docs/container.md says, with no power and nothing to write to, over a real S3 server."""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from tests.clients.test_docker import dockerd
from tests.container.conftest import Built, fences, shell
from tests.docs.pages import Fence
from tests.docs.trying import write_alpine
from tests.programs import bound_to_us, clean_environment, program
from tests.running import OPEN_POLICY, Bucket, answering, end, free_ports, temporary_folder

pytestmark = pytest.mark.timeout(900)

REGISTRY: Final = "registry"
STS: Final = Path(__file__).with_name("sts.py")


@dataclass(frozen=True, slots=True)
class Container:
    """A container `registry` that serves on `port` of loopback, and the folder of its policy and settings."""

    built: Built
    port: int
    folder: Path

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def health(self) -> str:
        """Wait until docker has asked it how it is, and give the answer."""
        for _ in range(600):
            state = (await self.built.inspect(REGISTRY))["State"]
            assert state["Running"], await self.logs()
            if state["Health"]["Status"] != "starting":
                return str(state["Health"]["Status"])
            await asyncio.sleep(0.1)
        raise AssertionError(f"docker does not know how it is: {await self.logs()}")

    async def logs(self) -> str:
        return await self.built.docker("logs", REGISTRY)


def settings(port: int, store: Bucket, **more: str) -> str:
    """Write the file `registry.env`. Bind and public URL are loopback, so that the policy may let everyone push."""
    chosen = {
        "EDGEPROXY_BIND": f"127.0.0.1:{port}",
        "EDGEPROXY_PUBLIC_URL": f"http://127.0.0.1:{port}",
        "EDGEPROXY_STORE": store.location,
        "EDGEPROXY_STORE_PUBLIC_ENDPOINT": f"http://localhost:{store.port}",
        "EDGEPROXY_POLICY": "/etc/edgeproxy/policy.yaml",
        "EDGEPROXY_SIGNING_KEYS": "/var/lib/edgeproxy/keys",
        "AWS_EC2_METADATA_DISABLED": "true",
        **store.environment,
        **more,
    }
    return "".join(f"{name}={value}\n" for name, value in chosen.items() if value)


def as_tested(fence: Fence) -> str:
    """Put the network of the machine in place of published ports, and look at its health every second instead of every half minute."""
    shown = fence.text.replace("--publish 5000:5000", "--network host --health-interval 1s")
    return shown.replace("docker run --rm ", "docker run --rm --network host ")


@asynccontextmanager
async def running(built: Built, store: Bucket, **more: str) -> AsyncIterator[Container]:
    """Run the first commands that the page shows for it."""
    (port,) = free_ports(1)
    async with temporary_folder() as folder:
        (folder / "policy.yaml").write_text(OPEN_POLICY)
        (folder / "registry.env").write_text(settings(port, store, **more))
        folder.chmod(0o755)
        try:
            await shell(as_tested(fences("run")[0]), folder, built.docker.environment)
            yield Container(built, port, folder)
        finally:
            await built.docker("rm", "--force", "--volumes", REGISTRY)
            await built.docker("volume", "rm", "--force", "edgeproxy-state")


async def test_what_the_page_shows_serves_its_own_image_and_stops_gracefully(built: Built, store: Bucket) -> None:
    _, ask, leave = fences("run")
    async with running(built, store) as container:
        state = await built.inspect(REGISTRY)
        host = state["HostConfig"]
        assert (host["ReadonlyRootfs"], host["CapDrop"], host["SecurityOpt"]) == (True, ["ALL"], ["no-new-privileges"])
        assert await container.health() == "healthy"
        assert '"store":{"ok":true' in await shell(as_tested(ask), container.folder, built.docker.environment)

        await serves_its_own_image(container)
        held = await upload_that_waits(container)
        stopping = asyncio.create_task(built.docker("stop", REGISTRY))
        assert await held.finished_after(stopping) == 201
        await stopping

        assert (await built.inspect(REGISTRY))["State"]["ExitCode"] == 0
        assert [line["delivery"] for line in audit(await container.logs()) if line.get("delivery")]
        assert {line["delivery"] for line in audit(await container.logs()) if line.get("delivery")} == {"redirect"}
        await built.docker("start", REGISTRY)
        await shell(as_tested(leave), container.folder, built.docker.environment)


def audit(logs: str) -> list[dict[str, Any]]:
    """Find the audit among the lines of a container."""
    lines = [json.loads(line) for line in logs.splitlines() if line.startswith("{")]
    return [line for line in lines if "event" in line and "request_id" in line]


async def serves_its_own_image(container: Container) -> None:
    """Push the image into the registry that runs from it, and run what another machine pulls from there."""
    name, docker = f"{container.host}/edgeproxy:v1", container.built.docker
    await docker("tag", "edgeproxy", name)
    await docker("push", name)
    pushed = await container.built.inspect(name)
    await docker("rmi", name)

    async with temporary_folder() as folder, dockerd(folder) as other:
        await other("pull", name)
        (pulled,) = json.loads(await other("image", "inspect", name))
        said = await other("run", "--rm", "--network", "none", name, "--version")

    assert pulled["Id"] == pushed["Id"]
    assert pulled["RepoDigests"] == [digest for digest in pushed["RepoDigests"] if digest.startswith(container.host)]
    assert said.startswith("edgeproxy ")


class Upload:
    """A blob of which the first half was sent."""

    def __init__(self, url: str, content: bytes) -> None:
        self._release = asyncio.Event()
        self.half_sent = asyncio.Event()
        self._answer = asyncio.create_task(self._send(url, content))

    async def _send(self, url: str, content: bytes) -> int:
        async with aiohttp.ClientSession() as session, session.put(url, data=self._body(content)) as answer:
            return answer.status

    async def _body(self, content: bytes) -> AsyncIterator[bytes]:
        middle = len(content) // 2
        yield content[:middle]
        self.half_sent.set()
        await self._release.wait()
        yield content[middle:]

    async def finished_after(self, stopping: asyncio.Task[str]) -> int:
        """Send the rest once the container is being stopped; give the status of the answer."""
        await asyncio.sleep(1)
        assert not stopping.done()
        self._release.set()
        return await self._answer


async def upload_that_waits(container: Container) -> Upload:
    """Begin an upload with a known digest, and hold it in the middle."""
    content = secrets.token_bytes(4 * 1024 * 1024)
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    base = f"http://{container.host}"
    async with aiohttp.ClientSession() as session, session.post(f"{base}/v2/draining/blobs/uploads/") as answer:
        assert answer.status == 202
        location = answer.headers["Location"]
    held = Upload(f"{base}{location}{'&' if '?' in location else '?'}digest={digest}", content)
    await held.half_sent.wait()
    return held


async def test_granian_and_several_workers_need_nothing_to_write_to_either(built: Built, store: Bucket) -> None:
    async with running(built, store, EDGEPROXY_SERVER="granian", EDGEPROXY_WORKERS="2") as container:
        assert await container.health() == "healthy"
        name = f"{container.host}/small:v1"
        archive = write_alpine(container.folder / "small.tar", Path(program("busybox")))
        await built.docker("import", str(archive), name)
        await built.docker("push", name)
        await built.docker("rmi", name)
        await built.docker("pull", name)
        await built.docker("rmi", name)
        await built.docker("stop", REGISTRY)

        assert (await built.inspect(REGISTRY))["State"]["ExitCode"] == 0


async def test_the_store_is_used_with_the_credentials_of_a_web_identity(built: Built, store: Bucket) -> None:
    """A stand-in for STS gives the keys of the store to whoever shows the token; the SDK in the image has to know how to ask it."""
    async with temporary_folder() as folder:
        (port,) = free_ports(1)
        token, log = secrets.token_hex(16), folder / "sts.log"
        given = {
            "TOKEN": token,
            "ACCESS": store.environment["AWS_ACCESS_KEY_ID"],
            "SECRET": store.environment["AWS_SECRET_ACCESS_KEY"],
        }
        with log.open("wb") as output:
            sts = await asyncio.create_subprocess_exec(
                *bound_to_us(sys.executable, str(STS), str(port)),
                env=clean_environment(folder, given),
                stdout=output,
                stderr=output,
            )
        try:
            await answering(f"http://127.0.0.1:{port}/", sts, log)
            identity = {
                "AWS_ACCESS_KEY_ID": "",
                "AWS_SECRET_ACCESS_KEY": "",
                "AWS_ENDPOINT_URL_STS": f"http://127.0.0.1:{port}",
                "AWS_REGION": "us-east-1",
                "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/registry",
                "AWS_WEB_IDENTITY_TOKEN_FILE": "/var/lib/edgeproxy/token",
            }
            write = f"open('/var/lib/edgeproxy/token', 'w').write('{token}')"
            python = ("--entrypoint", "/opt/edgeproxy/bin/python", "edgeproxy", "-c", write)
            await built.docker(
                "run", "--rm", "--network", "none", "--volume", "edgeproxy-state:/var/lib/edgeproxy", *python
            )
            async with running(built, store, **identity) as container:
                assert await container.health() == "healthy"
                assert "store" in await built.docker("exec", REGISTRY, "edgeproxy", "health", "--ready")
        finally:
            await end(sts, 10)
        assert "AssumeRoleWithWebIdentity" in log.read_text()


async def test_without_settings_it_says_what_is_missing_and_ends(built: Built) -> None:
    environment = built.docker.environment
    said = await shell(
        "docker run --rm --read-only --network none edgeproxy && exit 9 || test $? -eq 2\n", built.context, environment
    )

    for name in ("EDGEPROXY_PUBLIC_URL", "EDGEPROXY_STORE", "EDGEPROXY_POLICY", "EDGEPROXY_SIGNING_KEYS"):
        assert f"{name} is required" in said


async def test_a_key_cannot_be_made_where_nothing_can_be_written(built: Built) -> None:
    make = "docker run --rm --network none --read-only edgeproxy keys new /var/lib/edgeproxy/keys"
    said = await shell(f"{make} && exit 9 || test $? -eq 1\n", built.context, built.docker.environment)

    assert "Read-only file system" in said
