"""What is in the image, and what is not."""

from __future__ import annotations

import asyncio
import json
import tarfile
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio

import edgeproxy
from tests.container.conftest import CANARY, Built
from tests.docs.pages import ROOT
from tests.programs import program, run

pytestmark = pytest.mark.timeout(900)

LIMIT_BYTES: Final = 120_000_000
INTERPRETER: Final = "/opt/edgeproxy/bin/python"

SHELLS: Final = ("/bin/bash", "/bin/dash", "/bin/sh")
WITHOUT_SHELL: Final = f"FROM base\nRUN {json.dumps(['rm', *SHELLS])}\n"

CLIENTS: Final = """
import asyncio
from aiobotocore.session import get_session
from botocore.exceptions import UnknownServiceError

async def made(service):
    try:
        async with get_session().create_client(service, region_name="us-east-1"):
            return True
    except UnknownServiceError:
        return False

async def main():
    print(*[service for service in ("s3", "sts", "sso", "sso-oidc", "signin", "dynamodb") if await made(service)])

asyncio.run(main())
"""


Entry = tuple[tarfile.TarInfo, bytes]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def entries(built: Built) -> list[Entry]:
    """Give everything that the layers beyond the base hold."""
    archive = built.context.parent / "saved.tar"
    await built.docker("save", "--output", str(archive), "edgeproxy:latest")
    of_base = len((await built.inspect("base"))["RootFS"]["Layers"])
    return await asyncio.to_thread(_read, archive, of_base)


def _read(archive: Path, skipped: int) -> list[Entry]:
    read: list[Entry] = []
    with tarfile.open(archive) as saved:
        (manifest,) = json.loads(_content(saved, saved.getmember("manifest.json")))
        for name in manifest["Layers"][skipped:]:
            with tarfile.open(fileobj=saved.extractfile(name)) as layer:
                read += [(member, _content(layer, member)) for member in layer]
    return read


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member) if member.isfile() else None
    return file.read() if file is not None else b""


async def test_it_adds_little_to_its_base(built: Built) -> None:
    added = (await built.inspect("edgeproxy"))["Size"] - built.base

    print(f"image: {added / 1e6:.1f} MB beyond its base of {built.base / 1e6:.1f} MB")
    assert 0 < added <= LIMIT_BYTES


async def test_it_says_what_it_is(built: Built) -> None:
    labels = (await built.inspect("edgeproxy"))["Config"]["Labels"]

    assert {name.removeprefix("org.opencontainers.image."): value for name, value in labels.items()} == {
        "title": "edgeproxy",
        "description": "A container registry without passwords and without an egress bill",
        "licenses": "Apache-2.0",
        "version": edgeproxy.__version__,
        "revision": "0123abc",
        "source": "",
    }
    assert f"ARG VERSION={edgeproxy.__version__}\n" in (ROOT / "Dockerfile").read_text()


async def test_it_starts_as_nobody_and_without_a_shell(built: Built) -> None:
    config = (await built.inspect("edgeproxy"))["Config"]

    assert config["User"] == "65532:65532"
    assert config["Entrypoint"] == ["/opt/edgeproxy/bin/edgeproxy"]
    assert config["Cmd"] == ["serve"]
    assert config["Healthcheck"]["Test"] == ["CMD", "/opt/edgeproxy/bin/edgeproxy", "health"]
    assert {variable.partition("=")[0] for variable in config["Env"]} == {
        "PATH",
        "PYTHONDONTWRITEBYTECODE",
        "EDGEPROXY_BIND",
    }


async def test_the_last_stage_runs_nothing_so_that_a_base_needs_no_shell(built: Built) -> None:
    history = json.dumps(
        (await built.docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", "edgeproxy")).splitlines()
    )

    assert "COPY" in history
    assert "pip" not in history
    last = (ROOT / "Dockerfile").read_text().rpartition("\nFROM ")[2].splitlines()
    assert not [line for line in last if line.startswith(("RUN", "ADD"))]


async def test_a_base_without_a_shell_does(built: Built) -> None:
    environment = {**built.docker.environment, "DOCKER_BUILDKIT": "0"}
    folder = built.context.parent / "without-shell"
    folder.mkdir()
    (folder / "Dockerfile").write_text(WITHOUT_SHELL)
    await run(program("docker"), "build", "--tag", "without-shell", str(folder), environment=environment)
    given = ("PIP_NO_INDEX=1", "BUILD_BASE=base", "BASE=without-shell")
    options = [f"--build-arg={argument}" for argument in given]
    await run(
        program("docker"), "build", "--network", "none", *options, "--tag", "edgeproxy-without-shell", str(built.context), environment=environment
    )  # fmt: skip

    started = ("run", "--rm", "--network", "none")
    for shell in SHELLS:
        refused = await run(
            program("docker"), *started, "--entrypoint", shell, "edgeproxy-without-shell", "-c", "", environment=environment, status=127
        )  # fmt: skip
        assert "no such file or directory" in refused
    assert (
        await built.docker(*started, "edgeproxy-without-shell", "--version") == f"edgeproxy {edgeproxy.__version__}\n"
    )


async def test_it_describes_the_services_that_credentials_come_from_and_no_others(built: Built) -> None:
    said = await built.docker(
        "run", "--rm", "--read-only", "--network", "none", "--entrypoint", INTERPRETER, "edgeproxy", "-c", CLIENTS
    )

    assert said.split() == ["s3", "sts", "sso", "sso-oidc", "signin"]


async def test_granian_is_there_and_nothing_that_only_builds(built: Built) -> None:
    names = await built.docker(
        "run", "--rm", "--network", "none", "--entrypoint", INTERPRETER, "edgeproxy", "-c",
        "import importlib.metadata as m; print(*sorted(d.name.lower() for d in m.distributions()))",
    )  # fmt: skip

    assert "granian" in names.split()
    assert not {"pip", "setuptools", "hatchling", "pytest", "wheel", "uv"} & set(names.split())


async def test_nothing_of_the_place_where_it_was_built_is_in_it(built: Built, entries: list[Entry]) -> None:
    history = (await built.docker("history", "--no-trunc", "edgeproxy")).encode()
    files = {member.name: content for member, content in entries}
    strangers = (CANARY.encode(), bytes(built.context), bytes(ROOT), b"find-links", b"index-url")

    assert len(files) > 1000
    assert b"health" in files[next(name for name in files if name.endswith("/edgeproxy/cli/health.py"))]
    for stranger in strangers:
        assert stranger not in history
        assert [name for name, content in files.items() if stranger in content] == [], stranger
    assert [name for name in files if name.endswith(("direct_url.json", ".whl", "pip.conf", "test_one.py"))] == []


def test_every_module_has_its_bytecode_and_every_file_the_time_that_was_asked_for(entries: list[Entry]) -> None:
    files = [member for member, _ in entries if member.isfile()]
    names = {member.name for member in files}
    modules = [name for name in names if name.endswith(".py") and "/site-packages/edgeproxy/" in name]

    assert modules
    for name in modules:
        folder, _, file = name.rpartition("/")
        assert f"{folder}/__pycache__/{file.removesuffix('.py')}.cpython-311.pyc" in names
    assert {member.mtime for member in files} == {315532800}


def test_nothing_belongs_to_who_runs_it_but_the_folder_of_its_state(entries: list[Entry]) -> None:
    assert [member.name for member, _ in entries if member.uid != 0] == ["var/lib/edgeproxy"]
