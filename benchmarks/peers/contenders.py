"""Starts each contender on its core, over a bucket of the one S3 server, and gets the credential that it wants."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from benchmarks.peers.figures import Contender
from benchmarks.peers.machine import CannotRun, Cores, program, started
from tests.issuer import Key, sign
from tests.programs import clean_environment
from tests.running import ACCESS_KEY, SECRET_KEY, Bucket, free_ports, registry
from tests.signing_in import exchanged

ROOT: Final = Path(__file__).parents[2]
REPOSITORY: Final = "bench/app"
REGION: Final = "us-east-1"
START_SECONDS: Final = 60.0
_ISSUER: Final = "https://issuer.example"
_AUDIENCE: Final = "benchmarks"
_HOUR: Final = 3600

# A policy as it is written for a cluster: one issuer with its keys inline, one rule on a claim.
_POLICY: Final = """\
version: 1
issuers:
  bench:
    url: {issuer}
    audiences: [{audience}]
    keys: {{inline: {keys}}}
rules:
  - name: bench
    issuer: bench
    match: {{sub: bench}}
    allow: [{{repositories: ["bench/**"], actions: [pull, push]}}]
    token_seconds: {seconds}
"""

# As fast as its documentation lets it be: redirects, descriptors cached in memory, no access log.
_DISTRIBUTION: Final = """\
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage:
  s3:
    {{accesskey: {access}, secretkey: {secret}, region: {region}, regionendpoint: "http://localhost:{store}", bucket: {bucket},
    forcepathstyle: true, secure: false}}
  redirect: {{disable: false}}
  cache: {{blobdescriptor: inmemory}}
  delete: {{enabled: true}}
http: {{addr: "127.0.0.1:{port}", secret: of-the-comparison}}
{auth}
"""
_TOKEN_CHECK: Final = """\
auth:
  token: {{realm: "http://127.0.0.1:{port}/token", service: {audience}, issuer: "{issuer}", jwks: "{jwks}"}}
"""


@dataclass(frozen=True, slots=True)
class Place:
    """A bucket of the S3 server. `port` is where the server is, or a proxy before it; `folder` is where the objects lie."""

    bucket: str
    port: int
    folder: Path


@dataclass(frozen=True, slots=True)
class Running:
    """A contender that answers. `seconds` is how long its first answer took; `audit` is where ours writes its audit."""

    contender: Contender
    pid: int
    port: int
    seconds: float
    audit: Path | None
    log: Path
    _key: Key = field(repr=False)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    async def headers(self) -> dict[str, str]:
        """Get a fresh credential for the repository, as the header that carries it; nothing where none is wanted.

        Raises:
            CannotRun: it is not given one.

        """
        if self.contender.family == "edgeproxy":
            token = sign(self._key, _header(self._key), _claims())
            status, answer = await exchanged(self.url, token, REPOSITORY)
            if status != 200:
                raise CannotRun(f"{self.contender} gives no bearer: {status} {answer.get('errors')}")
            return {"Authorization": f"Bearer {answer['token']}"}
        if self.contender is Contender.DISTRIBUTION_TOKEN:
            access = [{"type": "repository", "name": REPOSITORY, "actions": ["pull", "push"]}]
            return {"Authorization": f"Bearer {sign(self._key, _header(self._key), _claims() | {'access': access})}"}
        return {}


@asynccontextmanager
async def running(contender: Contender, place: Place | None, folder: Path, cores: Cores) -> AsyncIterator[Running]:
    """Start a contender over a bucket, with a folder of its own for what it keeps, and wait for its first answer.

    Raises:
        CannotRun: its program is missing, or it does not start.

    """
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    key = Key.make("bench", "ES256")
    command, environment, port, audit = await asyncio.to_thread(_prepare, contender, place, folder, key)
    log = folder / f"{contender}.log"
    began = time.perf_counter()
    async with started([*cores.for_server(contender.workers), *command], environment, folder, log) as process:
        await _first_answer(port, process, log)
        seconds = time.perf_counter() - began
        yield Running(contender, process.pid, port, seconds, audit, log, key)


def _prepare(
    contender: Contender, place: Place | None, folder: Path, key: Key
) -> tuple[list[str], dict[str, str], int, Path | None]:
    """Write what the program reads; give its command, environment, port and audit file."""
    if contender.family == "bare":
        (port,) = free_ports(1)
        command = [sys.executable, "-m", "benchmarks.peers.bare", contender.server, f"127.0.0.1:{port}"]
        return command, clean_environment(folder, {"PYTHONPATH": str(ROOT)}), port, None
    assert place is not None
    if contender.family == "edgeproxy":
        return _edgeproxy(contender, place, folder, key)
    (port,) = free_ports(1)
    write = _write_zot if contender is Contender.ZOT else _write_distribution
    binary, configuration = write(contender, place, folder, key, port)
    environment = clean_environment(folder, {"OTEL_TRACES_EXPORTER": "none"})
    return [binary, "serve", str(configuration)], environment, port, None


def _edgeproxy(
    contender: Contender, place: Place, folder: Path, key: Key
) -> tuple[list[str], dict[str, str], int, Path | None]:
    location = f"s3://{place.bucket}?endpoint=http://127.0.0.1:{place.port}&region={REGION}"
    keys = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
    bucket = Bucket("versitygw", location, place.port, place.folder, keys, REGION)
    inline = json.dumps({"keys": [key.published()]})
    policy = _POLICY.format(issuer=_ISSUER, audience=_AUDIENCE, keys=inline, seconds=_HOUR)
    made = registry(bucket, folder, policy=policy, server=contender.server, workers=str(contender.workers))
    # The code that is measured is what stands beside this file, whatever is installed.
    environment = made.environment | {"PYTHONPATH": str(ROOT)}
    return [sys.executable, "-m", "edgeproxy", "serve"], environment, made.port, folder / "audit.log"


def _write_distribution(contender: Contender, place: Place, folder: Path, key: Key, port: int) -> tuple[str, Path]:
    jwks, configuration = folder / "jwks.json", folder / "distribution.yml"
    jwks.write_text(json.dumps({"keys": [key.published()]}))
    check = _TOKEN_CHECK.format(port=port, audience=_AUDIENCE, issuer=_ISSUER, jwks=jwks)
    text = _DISTRIBUTION.format(
        access=ACCESS_KEY,
        secret=SECRET_KEY,
        region=REGION,
        store=place.port,
        bucket=place.bucket,
        port=port,
        auth=check if contender is Contender.DISTRIBUTION_TOKEN else "",
    )
    configuration.write_text(text)
    return program("registry"), configuration


def _write_zot(_: Contender, place: Place, folder: Path, __: Key, port: int) -> tuple[str, Path]:
    configuration = folder / "zot.json"
    driver = {
        "name": "s3",
        "rootdirectory": "/zot",
        "region": REGION,
        "regionendpoint": f"http://localhost:{place.port}",
        "forcepathstyle": True,
        "bucket": place.bucket,
        "accesskey": ACCESS_KEY,
        "secretkey": SECRET_KEY,
        "secure": False,
        "skipverify": True,
    }
    storage: dict[str, Any] = {
        "rootDirectory": str(folder / "zot"),
        "dedupe": False,
        "gc": False,
        "redirectBlobURL": True,
        "storageDriver": driver,
    }
    http = {"address": "127.0.0.1", "port": str(port)}
    document = {"distSpecVersion": "1.1.1", "storage": storage, "http": http, "log": {"level": "error"}}
    configuration.write_text(json.dumps(document))
    return program("zot"), configuration


def _header(key: Key) -> dict[str, Any]:
    return {"typ": "JWT", "alg": key.algorithm, "kid": key.kid}


def _claims() -> dict[str, Any]:
    now = int(time.time())
    times = {"iat": now, "nbf": now - 1, "exp": now + _HOUR}
    return {"iss": _ISSUER, "aud": _AUDIENCE, "sub": "bench", "jti": f"{time.perf_counter_ns():x}", **times}


async def _first_answer(port: int, process: asyncio.subprocess.Process, log: Path) -> None:
    """Wait until `/v2/` is answered, whatever with."""
    until = time.perf_counter() + START_SECONDS
    while time.perf_counter() < until and process.returncode is None:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /v2/ HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            line = await reader.readline()
            writer.transport.abort()
            if line.startswith(b"HTTP/1."):
                return
        except OSError:
            pass
        await asyncio.sleep(0.002)
    said = (await asyncio.to_thread(log.read_text, errors="replace"))[-4000:]
    raise CannotRun(f"it does not start (exit {process.returncode}):\n{said}")


@asynccontextmanager
async def store(folder: Path, cores: Cores) -> AsyncIterator[Store]:
    """Run the S3 server on the core of the load.

    Raises:
        CannotRun: it is missing or does not start.

    """
    data, log = folder / "store", folder / "versitygw.log"
    await asyncio.to_thread(data.mkdir)
    (port,) = free_ports(1)
    environment = clean_environment(folder, {"ROOT_ACCESS_KEY": ACCESS_KEY, "ROOT_SECRET_KEY": SECRET_KEY})
    binary = program("versitygw")
    command = [*cores.for_load(), binary, "--port", f"127.0.0.1:{port}", "--quiet", "--keep-alive", "posix", str(data)]
    async with started(command, environment, folder, log) as process:
        await _first_answer(port, process, log)
        yield Store(port, data)


@dataclass(frozen=True, slots=True)
class Store:
    """The S3 server. A bucket is a folder of its data."""

    port: int
    data: Path

    def bucket(self, name: str) -> Place:
        """Make an empty bucket."""
        place = self.place(name)
        place.folder.mkdir()
        return place

    def place(self, name: str) -> Place:
        """Give a bucket that is there."""
        return Place(name, self.port, self.data / name)


def behind(place: Place, port: int) -> Place:
    """Give the same bucket as it is reached through a proxy at `port`."""
    return replace(place, port=port)
