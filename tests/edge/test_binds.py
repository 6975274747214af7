"""Unix sockets and IPv6, under both servers: who may connect, what a crash leaves, and what clients and the audit are told."""

from __future__ import annotations

import asyncio
import json
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.check.telling import told
from tests.edge.fronts import POLICY
from tests.programs import clean_environment, program, run
from tests.running import Registry, bucket, registry, temporary_folder

pytestmark = pytest.mark.timeout(300)
SERVERS = ("hypercorn", "granian")
BOTH = pytest.mark.parametrize("server", SERVERS)


@asynccontextmanager
async def prepared(bind: str, **settings: str) -> AsyncIterator[Registry]:
    """Make a registry that is to listen on `bind`, in which {folder} and {port} stand for its own; it is not started."""
    async with temporary_folder() as folder, bucket("filesystem", folder) as store:
        made = registry(store, folder, policy=POLICY, **settings)
        made.environment["EDGEPROXY_BIND"] = bind.format(folder=folder, port=made.port)
        yield made


@asynccontextmanager
async def started(made: Registry) -> AsyncIterator[Registry]:
    await made.start(ready=f"{made.operations_url}/readyz")
    try:
        yield made
    finally:
        assert await made.stop() == 0


UNIX = "unix:{folder}/edgeproxy.sock"
URL = {"public_url": "https://registry.example"}


def path_of(made: Registry) -> Path:
    return Path(made.environment["EDGEPROXY_BIND"].removeprefix("unix:"))


async def ask(made: Registry, url: str, *options: str) -> tuple[int, str]:
    """Ask with curl, which knows sockets of every kind; give the status, and the head with the body."""
    shown = await run(
        program("curl"),
        *("--silent", "--show-error", "--globoff", "--include", "--write-out", "\n%{http_code}", *options, url),
        environment=clean_environment(made.folder),
    )
    text, _, status = shown.rpartition("\n")
    return int(status), text


async def by_socket(made: Registry, *options: str) -> int:
    status, _ = await ask(made, "http://registry.example/v2/a/tags/list", "--unix-socket", str(path_of(made)), *options)
    return status


async def addresses(made: Registry, number: int) -> list[Any]:
    """Give the client's address in each line of the audit, once there are so many: they come a moment after their answers."""
    lines: list[str] = []
    for _ in range(100):
        lines = (made.folder / "audit.log").read_text().splitlines()
        if len(lines) >= number:
            break
        await asyncio.sleep(0.05)
    return [json.loads(line)["client"]["address"] for line in lines]


@BOTH
async def test_user_and_group_may_connect_to_a_unix_socket_and_nobody_else(server: str) -> None:
    async with prepared(UNIX, server=server, **URL) as made, started(made):
        assert stat.S_IMODE(path_of(made).stat().st_mode) == 0o660
        assert await by_socket(made) == 401
        assert await addresses(made, 1) == [""]


@BOTH
async def test_what_a_killed_process_left_is_replaced(server: str) -> None:
    async with prepared(UNIX, server=server, **URL) as made:
        await made.start(ready=f"{made.operations_url}/readyz")
        await made.kill()
        assert path_of(made).is_socket()
        async with started(made):
            assert await by_socket(made) == 401


@BOTH
async def test_a_socket_on_which_somebody_listens_is_left_to_him(server: str) -> None:
    async with prepared(UNIX, server=server, **URL) as made:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
            other.bind(str(path_of(made)))
            other.listen()
            refused = await told(made, "serve")
            assert refused.status == 1
            assert "another process listens on this socket" in refused.text
            assert str(path_of(made)) in refused.text
            assert "EDGEPROXY_BIND" in refused.text
        assert path_of(made).is_socket()
        path_of(made).unlink()
        path_of(made).write_text("notes")
        refused = await told(made, "serve")
        assert refused.status == 1
        assert "something that is no socket has this name" in refused.text
        assert path_of(made).read_text() == "notes"


async def test_several_workers_share_a_unix_socket_under_hypercorn_and_granian_says_that_it_cannot() -> None:
    async with prepared(UNIX, workers="2", **URL) as made:
        refused = await told(made, "serve", changed={"EDGEPROXY_SERVER": "granian"})
        assert refused.status == 2
        assert "EDGEPROXY_BIND is a unix socket, which several workers of granian cannot share" in refused.text
        async with started(made):
            assert stat.S_IMODE(path_of(made).stat().st_mode) == 0o660
            assert [await by_socket(made) for _ in range(4)] == [401] * 4


@BOTH
async def test_the_other_end_of_a_unix_socket_is_believed_only_where_it_is_listed(server: str) -> None:
    forwarded = ("--header", "X-Forwarded-For: 203.0.113.9, 198.51.100.4, 10.0.0.7")
    async with prepared(UNIX, server=server, trusted_proxies="10.0.0.0/8", **URL) as made:
        async with started(made):
            await by_socket(made, *forwarded)
        made.environment["EDGEPROXY_TRUSTED_PROXIES"] = "10.0.0.0/8,unix"
        async with started(made):
            await by_socket(made, *forwarded)
        assert await addresses(made, 2) == ["", "198.51.100.4"]


@BOTH
async def test_ipv6_on_loopback_with_brackets_in_every_url(server: str) -> None:
    async with prepared("[::1]:{port}", server=server) as made, started(made):
        host = f"[::1]:{made.port}"
        status, text = await ask(made, f"http://{host}/v2/a/tags/list", "--header", "X-Forwarded-For: 203.0.113.9")
        assert status == 401
        assert f'bearer realm="http://{host}/token",service="{host}"' in text.lower()
        assert await addresses(made, 1) == ["::1"]


@BOTH
async def test_trusted_proxies_of_ipv6_and_their_hops(server: str) -> None:
    async with prepared(
        "[::1]:{port}", server=server, trusted_proxies="::1/128, fd00::/8, ::ffff:10.0.0.0/104"
    ) as made:
        async with started(made):
            for hops in (
                "2001:db8::7, fd00::1",
                "[2001:db8::7]:4711, ::ffff:10.1.2.3",
                "nonsense, 10.9.9.9, fd00::2",
                "nonsense",
            ):
                await ask(made, f"http://[::1]:{made.port}/v2/a/tags/list", "--header", f"X-Forwarded-For: {hops}")
        assert await addresses(made, 4) == ["2001:db8::7", "2001:db8::7", "10.9.9.9", "::1"]


@BOTH
async def test_a_socket_for_both_kinds_tells_ipv4_clients_as_what_they_are(server: str) -> None:
    async with prepared("[::]:{port}", server=server, **URL) as made, started(made):
        for host in ("127.0.0.1", "[::1]"):
            await ask(made, f"http://{host}:{made.port}/v2/a/tags/list")
        assert await addresses(made, 2) == ["127.0.0.1", "::1"]


def test_this_machine_has_ipv6() -> None:
    """Or else the tests above would say of the registry what is true of the machine."""
    assert socket.has_ipv6
    with socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
