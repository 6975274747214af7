"""What `edgeproxy check` and `edgeproxy serve` say of a registry that cannot start, as somebody at a terminal reads it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pytest

from tests.programs import EDGEPROXY, bound_to_us
from tests.running import Registry

ENDS_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Told:
    """How a command ended: its exit status, and the lines that it wrote to standard error."""

    status: int
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        """All lines."""
        return "\n".join(self.lines)


async def told(
    registry: Registry, command: str, *, changed: Mapping[str, str] | None = None, under: Sequence[str] = ()
) -> Told:
    """Run a command with the settings of a registry to its end; `under` is a command line that starts it."""
    process = await asyncio.create_subprocess_exec(
        *bound_to_us(*under, EDGEPROXY, command),
        env={**registry.environment, **(changed or {})},
        cwd=registry.folder,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        _, output = await asyncio.wait_for(process.communicate(), ENDS_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()
        pytest.fail(f"edgeproxy {command} did not end within {ENDS_SECONDS} s")
    assert process.returncode is not None
    return Told(process.returncode, tuple(output.decode().splitlines()))


async def refused(registry: Registry, *, changed: Mapping[str, str] | None = None, under: Sequence[str] = ()) -> str:
    """Expect that `check` finds one problem and that `serve` does not start, for the same reason; give what it says."""
    checked = await told(registry, "check", changed=changed, under=under)
    assert (checked.status, len(checked.lines)) == (1, 1), checked.text
    started = await told(registry, "serve", changed=changed, under=under)
    reasons = [line.removeprefix("edgeproxy: ") for line in started.lines if line.startswith("edgeproxy: ")]
    assert (started.status, len(reasons)) == (2, 1), started.text
    (reason,) = reasons
    assert checked.lines[0].partition(": ")[2] == reason, f"{checked.text}\n{reason}"
    return reason
