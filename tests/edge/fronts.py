"""Proxies as docs/deployment.md sets them up, in front of a registry that runs: the page's own text, with names and ports of the test."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.docs.pages import ROOT, Page
from tests.issuer import JWKS, LocalIssuer
from tests.programs import bound_to_us, clean_environment, program
from tests.r2.certificates import loopback_tls
from tests.running import Registry, bucket, end, free_ports, registry, temporary_folder

FRONTS = ("caddy", "caddy, unix socket", "nginx")
ISSUER = LocalIssuer()
POLICY = f"""\
version: 1
issuers:
  ci: {{url: {ISSUER.url}, audiences: [registry], keys: {{inline: {json.dumps(ISSUER.document(JWKS))}}}}}
rules:
  - name: builds
    issuer: ci
    match: {{sub: builder}}
    allow: [{{repositories: ["open/**"], actions: [pull, push]}}]
"""
"""Behind a proxy nobody may push without a token."""
CADDY_GLOBALS = """\
{{
	admin off
	local_certs
	skip_install_trust
	auto_https disable_redirects
	http_port {port}
	log {{
		output discard
	}}
}}
"""
NGINX_MAIN = """\
daemon off;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{}}
http {{
access_log off;
client_body_temp_path {folder}/body;
proxy_temp_path {folder}/proxy;
fastcgi_temp_path {folder}/fastcgi;
uwsgi_temp_path {folder}/uwsgi;
scgi_temp_path {folder}/scgi;
{server}
}}
"""


def token() -> str:
    """Mint a token of somebody who may push to `open/`."""
    now = int(time.time())
    return ISSUER.mint({"sub": "builder", "aud": "registry", "iat": now, "exp": now + 3600})


def shown(language: str, use: str = "") -> str:
    """Give a configuration of docs/deployment.md."""
    (fence,) = (
        fence
        for fence in Page.read(ROOT / "docs" / "deployment.md").fences
        if (fence.language, fence.use) == (language, use)
    )
    return fence.text


@dataclass(frozen=True, slots=True)
class Front:
    """A proxy that runs: what clients type, and the authority that they have to trust."""

    kind: str
    registry: Registry
    host: str
    authority: Path

    @property
    def url(self) -> str:
        """URL of the registry as clients reach it."""
        return f"https://{self.host}"


def _replaced(text: str, **changes: str) -> str:
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


def _caddy(folder: Path, text: str, host: str) -> tuple[list[str], Path]:
    (spare,) = free_ports(1)
    config = folder / "Caddyfile"
    config.write_text(CADDY_GLOBALS.format(port=spare) + _replaced(text, **{"registry.example.com": f"https://{host}"}))
    command = [program("caddy"), "run", "--config", str(config), "--adapter", "caddyfile"]
    return command, folder / "share" / "caddy" / "pki" / "authorities" / "local" / "root.crt"


def _nginx(folder: Path, text: str, port: int) -> tuple[list[str], Path]:
    _, certificate = loopback_tls(folder)
    changes = {
        "listen 443 ": f"listen 127.0.0.1:{port} ",
        "registry.example.com.pem": str(certificate),
        "registry.example.com.key": str(folder / "key.pem"),
        "server_name registry.example.com;": "server_name 127.0.0.1;",
    }
    config = folder / "nginx.conf"
    config.write_text(NGINX_MAIN.format(folder=folder, server=_replaced(text, **changes)))
    return [program("nginx"), "-c", str(config), "-p", str(folder), "-e", "stderr"], certificate


@asynccontextmanager
async def front(kind: str, *, policy: str = POLICY, **settings: str) -> AsyncIterator[Front]:
    """Run a registry over a directory, and a proxy in front of it."""
    program("caddy" if kind.startswith("caddy") else "nginx")
    async with temporary_folder() as folder, bucket("filesystem", folder) as store:
        (port,) = free_ports(1)
        host = f"127.0.0.1:{port}"
        running = registry(store, folder, policy=policy, public_url=f"https://{host}", **settings)
        upstream = {"127.0.0.1:5000": running.host}
        trusted = "127.0.0.1/32"
        if kind == "caddy, unix socket":
            path = folder / "edgeproxy.sock"
            running.environment["EDGEPROXY_BIND"] = f"unix:{path}"
            upstream, trusted = {"/run/edgeproxy/edgeproxy.sock": str(path)}, "unix"
        running.environment["EDGEPROXY_TRUSTED_PROXIES"] = trusted
        if kind == "nginx":
            command, authority = _nginx(folder, _replaced(shown("nginx"), **upstream), port)
        else:
            text = shown("caddyfile", "unix" if "unix" in kind else "port")
            command, authority = _caddy(folder, _replaced(text, **upstream), host)
        await running.start(ready=f"{running.operations_url}/readyz")
        try:
            async with _running(command, folder, port, authority):
                yield Front(kind, running, host, authority)
        finally:
            await running.stop()


@asynccontextmanager
async def _running(command: list[str], folder: Path, port: int, authority: Path) -> AsyncIterator[None]:
    log = folder / "front.log"
    environment = clean_environment(folder, {"XDG_DATA_HOME": str(folder / "share"), "XDG_CONFIG_HOME": str(folder)})
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *bound_to_us(*command), env=environment, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        # It listens before it has a certificate, and its authority is on the disk before that.
        for _ in range(1200):
            said = await asyncio.to_thread(log.read_text)
            assert process.returncode is None, said
            if await asyncio.to_thread(authority.exists) and await _speaks_tls(port, authority):
                break
            await asyncio.sleep(0.05)
        else:
            raise AssertionError(f"the proxy does not answer:\n{said}")
        yield
    finally:
        await end(process, 10)


async def _speaks_tls(port: int, authority: Path) -> bool:
    try:
        trusting = await asyncio.to_thread(ssl.create_default_context, cafile=str(authority))
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting)
    except OSError:
        return False
    writer.close()
    return True
