"""A machine that boots: Debian's systemd, cloud-init, podman and Caddy in a network of its own, by systemd-nspawn. Root on Linux only.

What a cloud does is done by hand: user data and the machine's id lie in cloud-init's seed folder. All else happens as on a virtual machine; the kernel is
this one's, and packages are there already.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.forwarding import Forwarder
from tests.programs import bound_to_us, clean_environment, program, run, superuser
from tests.terraform import debian

SEED = "var/lib/cloud/seed/nocloud"
BOOT_SECONDS = 180


@dataclass(frozen=True, slots=True)
class Link:
    """A network of two: this side, where tests and stores are, and the machine's."""

    name: str
    here: str
    there: str


@asynccontextmanager
async def link() -> AsyncIterator[Link]:
    """Make a network namespace, and a cable into it."""
    superuser("a machine in a network of its own")
    ip = program("ip")
    environment = clean_environment(Path("/tmp"))
    name = f"ep{secrets.token_hex(3)}"
    middle = secrets.randbelow(250) + 1
    made = Link(name, f"10.213.{middle}.1", f"10.213.{middle}.2")
    try:
        await run(ip, "netns", "add", name, environment=environment)
        for words in (
            f"link add {name} type veth peer name host0 netns {name}",
            f"addr add {made.here}/30 dev {name}",
            f"link set {name} up",
            f"-n {name} addr add {made.there}/30 dev host0",
            f"-n {name} link set host0 up",
            f"-n {name} link set lo up",
        ):
            await run(ip, *words.split(), environment=environment)
        yield made
    finally:
        await run(ip, "link", "del", name, environment=environment, status=None)
        await run(ip, "netns", "del", name, environment=environment, status=None)


@asynccontextmanager
async def reachable(network: Link, port: int) -> AsyncIterator[int]:
    """Let the machine reach a port of 127.0.0.1 here; give the port at this side's address."""
    server = await asyncio.start_server(Forwarder(port).connected, network.here, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


class Machine:
    """A booted machine."""

    def __init__(self, folder: Path, root: Path, network: Link) -> None:
        self.root = root
        self.network = network
        self.console = folder / "console.log"
        self._environment = clean_environment(folder)
        self._process: asyncio.subprocess.Process | None = None

    async def boot(self) -> None:
        """Start it, and wait until its first or its next boot is done."""
        options = (
            f"--directory={self.root}",
            "--machine=registry",
            f"--network-namespace-path=/run/netns/{self.network.name}",
            # No daemon of this machine is asked for anything.
            "--register=no", "--keep-unit", "--resolv-conf=off", "--timezone=off", "--link-journal=no",
            # podman in it needs what it would have on a machine.
            "--capability=all", "--system-call-filter=bpf keyctl add_key request_key",
        )  # fmt: skip
        # The layout of control groups that a machine has today, whatever this one's is.
        environment = {**self._environment, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"}
        with self.console.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *bound_to_us(program("systemd-nspawn"), *options, "--boot"),
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        await self.until_booted()

    async def until_booted(self) -> None:
        """Wait until cloud-init has nothing left to do. Polled, as systemd cannot be asked before it runs."""
        for _ in range(BOOT_SECONDS * 2):
            assert self._process is not None
            assert self._process.returncode is None, self.console.read_text()[-5000:]
            if self._leader() and re.search(
                "status: (done|error)", await self.run("cloud-init", "status", status=None)
            ):
                return
            await asyncio.sleep(0.5)
        raise AssertionError(f"it does not boot:\n{self.console.read_text()[-5000:]}")

    def _leader(self) -> str:
        """Find its first process, as this system counts: the child of systemd-nspawn."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        return children.read_text().split()[0] if children.exists() and children.read_text().split() else ""

    async def run(self, *command: str, status: int | None = 0, seconds: float = 240) -> str:
        """Run a command in it as root, and give what it printed."""
        inside = (
            "--target",
            self._leader(),
            "--mount",
            "--uts",
            "--ipc",
            "--net",
            "--pid",
            "--cgroup",
            "--root",
            "--wd",
        )
        environment = {"PATH": "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}
        nsenter = program("nsenter")
        return await run(nsenter, *inside, *command, environment=environment, status=status, seconds=seconds)

    async def sh(self, script: str, status: int | None = 0) -> str:
        """Run a line of shell in it."""
        return await self.run("/bin/sh", "-ec", script, status=status)

    async def journal(self, unit: str) -> str:
        """Give what a unit wrote."""
        return await self.run("journalctl", "--no-pager", "--output=cat", "--all", f"--unit={unit}")

    async def becomes(self, script: str, seconds: int = 90) -> bool:
        """Tell whether a line of shell succeeds within that time; the machine's units can only be polled."""
        loop = f"until {{ {script}; }} >/dev/null 2>&1; do sleep 0.2; done; echo so"
        return await self.run("timeout", str(seconds), "/bin/sh", "-c", loop, status=None) == "so\n"

    async def off(self) -> None:
        """Pull the plug: its first process goes, and so all others."""
        if self._process is None or self._process.returncode is not None:
            return
        if leader := self._leader():
            os.kill(int(leader), signal.SIGKILL)
        else:
            self._process.kill()
        await self._process.wait()


@asynccontextmanager
async def booted(folder: Path, network: Link, user_data: str, files: dict[str, str]) -> AsyncIterator[Machine]:
    """Boot a machine with this user data for the first time; `files` are what was on it before, as path to content, for root alone to read."""
    root = folder / "root"
    await run(
        "cp",
        "--archive",
        str(await asyncio.to_thread(debian.machine)),
        str(root),
        environment=clean_environment(folder),
    )
    given = {
        # What a cloud's image of Debian says.
        "etc/cloud/cloud.cfg.d/90-locale.cfg": "locale: C.UTF-8\n",
        # Nobody in a container raises limits above its own.
        "etc/containers/containers.conf": '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n',
        # Without sources, apt finds that what is there is the newest.
        "etc/apt/sources.list": "",
        "etc/resolv.conf": "",
    }
    seed = {
        f"{SEED}/user-data": user_data,
        f"{SEED}/meta-data": f"instance-id: {network.name}\nlocal-hostname: registry\n",
    }
    for path, content in {**given, **seed, **files}.items():
        target = root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        target.touch(mode=0o600 if path in files else 0o644)
        target.write_text(content)
    async with AsyncExitStack() as stack:
        machine = Machine(folder, root, network)
        stack.push_async_callback(asyncio.to_thread, shutil.rmtree, root, ignore_errors=True)
        stack.push_async_callback(machine.off)
        await machine.boot()
        yield machine


def in_root(root: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder that is no machine yet, without changing it."""
    return subprocess.run(
        [program("unshare"), "--mount", "--pid", "--fork", "--kill-child", "chroot", str(root), *command],
        env={"PATH": os.defpath + ":/usr/sbin:/sbin", "LANG": "C.UTF-8", "HOME": "/root"},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
