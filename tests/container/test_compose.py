"""compose.yaml, and what docs/container.md shows with it: run by docker-compose, with other ports and no hub."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgeproxy.access import lint
from edgeproxy.access.explain import run_tests
from edgeproxy.access.policy import load_policy
from edgeproxy.dev import STARTER_POLICY
from tests.container.conftest import Built, fences, shell
from tests.docs.pages import ROOT
from tests.docs.trying import three_ports, write_alpine
from tests.programs import program, run
from tests.running import free_ports, temporary_folder

pytestmark = pytest.mark.timeout(900)

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())

VERSITYGW = """\
FROM base
COPY versitygw /usr/local/bin/
COPY busybox /usr/local/bin/wget
ENTRYPOINT ["/usr/local/bin/versitygw"]
"""
"""Stands in for the image of versitygw: the program, which gets the arguments, and the `wget` of its base."""


@pytest.fixture
async def project(built: Built) -> AsyncIterator[tuple[Path, str]]:
    """Lay out compose.yaml with ports of our own; give its folder and what clients type."""
    program("docker-compose")
    port, (store_port,) = three_ports(), free_ports(1)
    async with temporary_folder() as folder:
        (folder / "image").mkdir()
        for name in ("versitygw", "busybox"):
            shutil.copy(program(name), folder / "image" / name)
        (folder / "image" / "Dockerfile").write_text(VERSITYGW)
        environment = {**built.docker.environment, "DOCKER_BUILDKIT": "0"}
        image = COMPOSE["services"]["versitygw"]["image"]
        await run(program("docker"), "build", "--tag", image, str(folder / "image"), environment=environment)
        await built.docker("import", str(write_alpine(folder / "alpine.tar", Path(program("busybox")))), "alpine")
        shutil.copytree(ROOT / "compose", folder / "compose")
        for name in ("compose.yaml", "compose/policy.yaml"):
            text = (ROOT / name).read_text()
            for shown, ours in ((":5000", port), (":5002", port + 2), (":7070", store_port)):
                text = text.replace(shown, f":{ours}")
            (folder / name).write_text(text)
        folder.chmod(0o755)
        try:
            yield folder, f"localhost:{port}"
        finally:
            await run(
                "docker-compose",
                "--project-directory",
                str(folder),
                "-f",
                str(folder / "compose.yaml"),
                "down",
                "--volumes",
                environment=built.docker.environment,
            )


async def healthy(built: Built) -> None:
    """Wait until both containers are healthy, as `--wait` does, which the docker-compose of tests does not know."""
    states: list[str] = []
    for _ in range(900):
        names = (await built.docker("ps", "--all", "--quiet", "--filter", "label=com.docker.compose.service")).split()
        states = [(await built.inspect(name))["State"]["Health"]["Status"] for name in names]
        if states == ["healthy", "healthy"]:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(states)


async def test_what_the_page_shows_works_with_nothing_to_type_first(built: Built, project: tuple[Path, str]) -> None:
    folder, host = project
    environment = {**built.docker.environment, "PATH": built.docker.environment["PATH"]}
    look, sign_in, leave = (
        fence.text.replace("docker compose", "docker-compose").replace("localhost:5000", host)
        for fence in fences("compose")
    )
    begin, _, look = look.partition("\n")
    assert begin == "docker-compose up --detach --wait"
    await shell("docker-compose up --detach --no-build", folder, environment)
    await healthy(built)
    said = await shell(look.replace("docker pull alpine\n", ""), folder, environment)

    assert "\nit works\n" in said
    pulls = [json.loads(line[line.index("{") :]) for line in said.splitlines() if '"delivery":"redirect"' in line]
    assert [line["repository"] for line in pulls if line["event"] == "pull"]
    refused = await shell(
        f"docker tag {host}/hello {host}/private/app:v1\n! docker push {host}/private/app:v1\n", folder, environment
    )
    assert "push private/app is denied to anonymous callers; sign in" in refused
    assert "Login Succeeded" in await shell(sign_in, folder, environment)

    containers = (await built.docker("ps", "--all", "--quiet", "--filter", "label=com.docker.compose.service")).split()
    for name in containers:
        host_config = (await built.inspect(name))["HostConfig"]
        assert (host_config["ReadonlyRootfs"], host_config["CapDrop"]) == (True, ["ALL"])
    assert len(containers) == 2
    await shell(leave, folder, environment)
    assert (await built.docker("volume", "ls", "--quiet")).split() == []


def test_both_services_have_no_power_and_nothing_to_write_to() -> None:
    for service in COMPOSE["services"].values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["healthcheck"]["test"][0] == "CMD"


def test_nothing_listens_beyond_this_machine() -> None:
    edge, store = COMPOSE["services"]["edgeproxy"], COMPOSE["services"]["versitygw"]

    assert edge["environment"]["EDGEPROXY_BIND"] == "localhost:5000"
    assert store["command"][:2] == ["--port", "127.0.0.1:7070"]
    assert "ports" not in {**edge, **store}


def test_the_store_has_the_version_that_all_tests_run() -> None:
    image = COMPOSE["services"]["versitygw"]["image"]

    assert f"versitygw/cmd/versitygw@{image.partition(':')[2]}\n" in (ROOT / ".ci" / "versions").read_text()


def test_the_policy_is_clean_and_keeps_its_promises() -> None:
    content = (ROOT / "compose" / "policy.yaml").read_bytes()
    policy = load_policy(content, source="policy.yaml", loopback=True, now=1_800_000_000.0)

    assert [str(result.explanation) for result in run_tests(policy, 1_800_000_000.0) if not result.passed] == []
    assert policy.rules
    # What lint has to say is what both are for: everyone may push, as everyone is this machine.
    found = {finding.code for finding in lint.lint(content, source="policy.yaml", now=1_800_000_000.0)}
    starter = {
        finding.code for finding in lint.lint(STARTER_POLICY.encode(), source="policy.yaml", now=1_800_000_000.0)
    }
    assert found <= starter
