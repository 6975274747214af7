"""Terraform for tests: a copy of terraform/ to work in, and the AWS provider from a local folder where the machine has one."""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.programs import clean_environment, program, run
from tests.terraform import module_docs

LOCAL_PROVIDERS = ("/opt", "/usr/local", "/usr/share", "/usr/lib", "/var/lib", str(Path.home()))
"""Where a folder of providers may lie, laid out as Terraform's `filesystem_mirror` wants it."""


@functools.cache
def provider_mirror() -> Path | None:
    """Find a folder that holds the AWS provider, or None: then `terraform init` fetches it."""
    places = [place for place in LOCAL_PROVIDERS if Path(place).is_dir()]
    found = subprocess.run(
        ["find", *places, "-maxdepth", "6", "-type", "d", "-path", "*/registry.terraform.io/hashicorp/aws", "-prune", "-print", "-quit"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()  # fmt: skip
    return Path(found).parents[2] if found else None


@dataclass(frozen=True, slots=True)
class Terraform:
    """The program, and a copy of terraform/ that belongs to the test session."""

    binary: str
    tree: Path
    environment: Mapping[str, str]

    async def __call__(
        self, folder: Path, *words: str, status: int | None = 0, seconds: float = 280, **environment: str
    ) -> str:
        """Run a command in a folder; give what it printed."""
        return await run(
            self.binary,
            f"-chdir={folder}",
            *words,
            environment={**self.environment, **environment},
            status=status,
            seconds=seconds,
        )

    async def ready(self, folder: Path) -> Path:
        """Initialise a folder, once."""
        if not (folder / ".terraform").exists():
            await self(folder, "init", "-backend=false", "-input=false", "-no-color")
        return folder


@pytest.fixture(scope="session")
def terraform(tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    binary = program("terraform")
    folder = tmp_path_factory.mktemp("terraform")
    shutil.copytree(module_docs.ROOT, folder / "terraform", ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*"))
    settings = folder / "terraformrc"
    mirror = provider_mirror()
    if mirror is None:
        (folder / "providers").mkdir()
        settings.write_text(f'plugin_cache_dir = "{folder / "providers"}"\n')
    else:
        settings.write_text(
            f'provider_installation {{\n  filesystem_mirror {{\n    path = "{mirror}"\n  }}\n'
            '  direct {\n    exclude = ["*/*/*"]\n  }\n}\n'
        )
    # The schema of the provider is large: several at a time would only wait for one another.
    environment = clean_environment(folder, {"TF_CLI_CONFIG_FILE": str(settings), "CHECKPOINT_DISABLE": "1"})
    return Terraform(binary, folder / "terraform", environment)
