"""Programs that tests run beside the registry: where they are, and what happens where they are not.

`EDGEPROXY_TEST_PROGRAMS` names folders to look into before PATH, separated as in PATH. Without a program a test is skipped and says
which one is missing; with `EDGEPROXY_REQUIRE_PROGRAMS` set, as in CI, it fails instead. Both are read once, when tests are collected: the
root conftest then takes every EDGEPROXY_ name out of the environment, as the program under test knows them for settings it does not have.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

PATH = os.pathsep.join(filter(None, (os.environ.get("EDGEPROXY_TEST_PROGRAMS"), os.environ.get("PATH", os.defpath))))
REQUIRED = bool(os.environ.get("EDGEPROXY_REQUIRE_PROGRAMS"))
_BASE = os.environ.get("EDGEPROXY_TEST_BASE")

EDGEPROXY = str(Path(sys.executable).with_name("edgeproxy"))
"""The command of the environment that runs the tests."""


def program(name: str) -> str:
    """Find a program; skip the test without it, or fail where programs are required."""
    found = shutil.which(name, path=PATH)
    if found is None:
        text = f"{name} is not installed (looked in EDGEPROXY_TEST_PROGRAMS and on PATH)"
        if REQUIRED:
            pytest.fail(text, pytrace=False)
        pytest.skip(text)
    return found


def base_archive() -> Path:
    """Find the archive that the image is built on in tests, made by `.ci/base`; skip the test without it, or fail where programs are required."""
    if _BASE is None or not Path(_BASE).is_file():
        text = "EDGEPROXY_TEST_BASE does not name the archive that .ci/base makes"
        if REQUIRED:
            pytest.fail(text, pytrace=False)
        pytest.skip(text)
    return Path(_BASE)


def superuser(what: str) -> None:
    """Skip the test, or fail where programs are required, unless it runs as root on Linux: `what` needs that."""
    if sys.platform != "linux" or os.geteuid() != 0:
        text = f"{what} runs as root on Linux only"
        if REQUIRED:
            pytest.fail(text, pytrace=False)
        pytest.skip(text)


def clean_environment(home: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Make an environment that holds nothing of whoever runs the tests."""
    return {"PATH": PATH, "HOME": str(home), "LANG": "C.UTF-8", "TMPDIR": str(home), **(extra or {})}


def bound_to_us(*command: str) -> list[str]:
    """Let a long-running program end with the process that runs the tests, even if that is killed."""
    guard = shutil.which("setpriv")
    return [guard, "--pdeathsig", "TERM", *command] if guard else list(command)


async def run(*command: str, environment: Mapping[str, str], seconds: float = 240, status: int | None = 0) -> str:
    """Run a program to its end and give what it printed, both streams in one.

    Fails with its output if it takes longer, or if its exit status is not `status` (None: any will do).
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        env=dict(environment),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), seconds)
    except TimeoutError:
        process.kill()
        output, _ = await process.communicate()
        pytest.fail(f"{' '.join(command)} did not end within {seconds} s:\n{output.decode(errors='replace')}")
    text = output.decode(errors="replace")
    assert status is None or process.returncode == status, f"{' '.join(command)}: exit {process.returncode}\n{text}"
    return text
