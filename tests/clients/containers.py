"""podman, buildah and skopeo: one library, and the settings under which it works as root in a container of little power."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.programs import clean_environment, program, run, superuser

CONFIGURATION = """\
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
"""

POLICY = '{"default": [{"type": "insecureAcceptAnything"}]}'
"""Which signatures are wanted: none."""


@dataclass(frozen=True, slots=True)
class Tool:
    """One of the programs, with a store of its own."""

    binary: str
    options: tuple[str, ...]
    environment: dict[str, str]

    async def __call__(self, *arguments: str) -> str:
        """Run one of its commands."""
        return await run(self.binary, *self.options, *arguments, environment=self.environment)


def tool(name: str, folder: Path) -> Tool:
    """Set up a program that keeps everything below `folder`."""
    superuser(name)
    binary = program(name)
    (folder / "containers.conf").write_text(CONFIGURATION)
    (folder / "policy.json").write_text(POLICY)
    # Not the machine's registries, short names, mirrors or storage.
    (folder / "registries.conf").write_text("unqualified-search-registries = []\n")
    settings = {
        "CONTAINERS_CONF": str(folder / "containers.conf"),
        "CONTAINERS_REGISTRIES_CONF": str(folder / "registries.conf"),
    }
    storage = ("--root", str(folder / "root"), "--runroot", str(folder / "run"), "--storage-driver", "vfs")
    options = {
        "podman": (*storage, "--tmpdir", str(folder / "tmp")),
        "buildah": storage,
        "skopeo": ("--policy", str(folder / "policy.json")),
    }
    return Tool(binary, options[name], clean_environment(folder, settings))
