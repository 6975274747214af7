"""The code of the release before this one, taken out of the project's history into a folder."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Previous:
    """A release that can be run: `name` says which, `path` is what PYTHONPATH has to hold."""

    name: str
    path: Path


def previous_release(folder: Path, root: Path = ROOT) -> Previous:
    """Take the newest tag `v*` that is not the commit at hand; before there is one, the commit itself; without a history, the code as it lies there."""
    git = shutil.which("git")
    if git is None or not (root / ".git").exists():
        shutil.copytree(root / "edgeproxy", folder / "edgeproxy")
        return Previous("the code as it lies here, for want of a history", folder)
    tags = _git(
        git, root, "tag", "--list", "v*", "--merged", "HEAD", "--no-contains", "HEAD", "--sort=-version:refname"
    )
    name = tags.decode().split()[0] if tags.strip() else "HEAD"
    archive = folder / "release.tar"
    archive.write_bytes(_git(git, root, "archive", name, "edgeproxy"))
    shutil.unpack_archive(archive, folder, filter="data")
    return Previous(name, folder)


def _git(git: str, root: Path, *arguments: str) -> bytes:
    # The checkout may belong to another user than runs the tests.
    command = [git, "-c", f"safe.directory={root}", "-C", str(root), *arguments]
    return subprocess.run(command, check=True, capture_output=True).stdout
