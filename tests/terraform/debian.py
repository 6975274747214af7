"""Debian folders made by debootstrap: a small one that an image is made of, and a whole machine. Kept between runs, beside the programs of CI.

`python -m tests.terraform.debian` makes both before the tests ask for them.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.programs import clean_environment, program

SUITE: Final = "bookworm"
CACHE: Final = Path.home() / ".cache" / "edgeproxy-ci" / "debian"

BASE: Final = ("python3", "ca-certificates")
"""What the image of edgeproxy needs beneath it."""

MACHINE: Final = (
    # What a cloud's image of Debian has.
    "systemd", "systemd-sysv", "dbus", "cloud-init", "locales", "iproute2", "netbase", "procps", "udev",
    # What the module asks for. They lie here before, so that a machine in a test needs no network to install them.
    "caddy", "ca-certificates", "curl", "nftables", "podman", "unattended-upgrades", "netavark", "runc",
)  # fmt: skip


def base() -> Path:
    """Give the small folder, made on the first call; several minutes then. Nobody may write to it."""
    return kept("base", " ".join((SUITE, *BASE)), lambda folder: _bootstrap(folder, BASE))


def machine() -> Path:
    """Give the whole machine, likewise."""
    packages = (*BASE, *MACHINE)
    return kept("machine", " ".join((SUITE, *packages)), lambda folder: _machine(folder, packages))


def kept(name: str, recipe: str, make: Callable[[Path], None]) -> Path:
    """Give what a recipe makes, made on the first call. Processes that ask at one time wait for each other."""
    folder = CACHE / f"{name}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            unfinished = folder.with_suffix(".new")
            shutil.rmtree(unfinished, ignore_errors=True)
            make(unfinished)
            unfinished.rename(folder)
    return folder


def _bootstrap(folder: Path, packages: tuple[str, ...]) -> None:
    _run(program("debootstrap"), "--variant=minbase", f"--include={','.join(packages)}", SUITE, str(folder))
    _tidy(folder)


def _machine(folder: Path, packages: tuple[str, ...]) -> None:
    _run("cp", "--archive", str(base()), str(folder))
    # debootstrap itself cannot choose between packages that can stand for each other, so apt does the rest.
    refuse = folder / "usr/sbin/policy-rc.d"
    refuse.write_text("#!/bin/sh\nexit 101\n")
    refuse.chmod(0o755)
    shutil.copyfile("/etc/resolv.conf", folder / "etc/resolv.conf")
    _run("chroot", str(folder), "apt-get", "-qq", "update")
    _run("chroot", str(folder), "apt-get", "-qq", "install", "--yes", "--no-install-recommends", *packages)
    refuse.unlink()
    _tidy(folder)


def _tidy(folder: Path) -> None:
    for path in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man"):
        shutil.rmtree(folder / path, ignore_errors=True)
    (folder / "var/cache/apt/archives/partial").mkdir(parents=True)
    (folder / "var/lib/apt/lists/partial").mkdir(parents=True)


def _run(*command: str) -> None:
    environment = clean_environment(Path("/tmp"), {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"})
    environment["PATH"] = f"{environment['PATH']}{os.pathsep}/usr/sbin{os.pathsep}/sbin"
    done = subprocess.run(
        command,
        check=False,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, f"{' '.join(command)}: exit {done.returncode}\n{done.stdout[-5000:]}"


if __name__ == "__main__":
    print(machine())
