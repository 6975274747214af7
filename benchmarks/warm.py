"""What a warm answer costs in this process, without a server or a network: `python -m benchmarks.warm`. Asserts nothing.

The application is called as a server would call it, with a bearer that was verified before, on a repository that was pulled before. Figures
are CPU time of the whole process, so the thread that writes the audit is in them. `--profile` adds where the time goes.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import pstats
import secrets
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from edgeproxy.access.bearers import Bearers
from edgeproxy.access.credentials import Credentials
from edgeproxy.access.decisions import Identity
from edgeproxy.access.issuers import IssuerKeys
from edgeproxy.access.policy import load_policy
from edgeproxy.access.signing import SigningKeys, new_key
from edgeproxy.access.tokens import Verifier
from edgeproxy.audit import AuditLog, sinks_of
from edgeproxy.oci.names import Repository
from edgeproxy.registry.service import make_registry
from edgeproxy.storage.filesystem import FilesystemStore
from edgeproxy.storage.presign import Credentials as StoreCredentials
from edgeproxy.storage.s3 import S3Store
from edgeproxy.web.blobs import Delivery
from edgeproxy.web.front import Front, routed
from edgeproxy.web.gate import Gate
from edgeproxy.web.records import Record
from edgeproxy.web.registry import RegistryEndpoint
from tests.http.harness import call, digest_of, image
from tests.issuer import Key, LocalIssuer

URL = "https://registry.example.com"
ROUNDS, CALLS = 9, 3000
RULES = """
rules:
  - name: team
    issuer: ci
    match: {repository: acme/app}
    allow: [{repositories: ["acme/**"], actions: [pull, push]}]
"""

App = Callable[[dict[str, Any], Any, Any], Awaitable[None]]


async def receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def send(_: Any) -> None:
    pass


def scope_of(path: str, token: str) -> dict[str, Any]:
    """Make the scope that a server makes for one GET by a docker client."""
    headers = [
        (b"host", b"registry.example.com"),
        (b"user-agent", b"docker/29.0 go/go1.26 kernel/6.1 os/linux arch/amd64"),
        (b"accept-encoding", b"identity"),
        (b"authorization", f"Bearer {token}".encode()),
    ]
    return {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "client": ("192.0.2.1", 4711),
        "server": ("registry.example.com", 443),
    }


async def bare(_: Any, __: Any, send: Any) -> None:
    """Answer what a redirect looks like on the wire, with nothing behind it."""
    headers = [(b"location", b"https://store.example.com/" + b"x" * 400), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 307, "headers": headers})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def timed(app: App, scope: dict[str, Any], calls: int = CALLS) -> float:
    """Give microseconds of CPU for a request."""
    began = time.process_time()
    for _ in range(calls):
        await app(scope, receive, send)
        # Servers give the loop, and so the thread of the audit, a turn for each request.
        await asyncio.sleep(0)
    return (time.process_time() - began) / calls * 1e6


async def registry_app(folder: Path) -> tuple[App, str, str, str]:
    """Wire a registry as `app` does, and push one image; give the application, a bearer and what to ask for."""
    key = Key.make("one")
    issuer = LocalIssuer(keys=(key,))
    text = f"version: 1\nissuers:\n  ci: {{url: {issuer.url!r}, audiences: [registry.example.com]}}\n" + RULES
    policy = load_policy(text.encode(), source="policy.yaml", loopback=False, now=time.time())
    new_key(folder / "keys", time.time())
    keys = SigningKeys.load(folder / "keys")
    bearers = Bearers(keys, URL, secrets.token_bytes)
    credentials = Credentials(Verifier(IssuerKeys(issuer.fetch, time.time)), bearers)
    store = await FilesystemStore.open(folder / "store")
    bucket = S3Store(
        "registry", region="auto", endpoint="https://acc.example.com", credentials=StoreCredentials("AKID", "secret")
    )

    registry = make_registry(
        store,
        clock=time.time,
        name=lambda: secrets.token_hex(16),
        session_keys=lambda: [b"k" * 32],
        upload_memory_bytes=1 << 27,
        max_blob_bytes=None,
    )
    audit = AuditLog(sinks_of(f"file:{folder / 'audit.jsonl'}"))
    endpoint = RegistryEndpoint(
        registry,
        Gate(lambda: policy, credentials, time.time, URL),
        bucket.presigner("https://acc.example.com"),
        Delivery("redirect", 300, may_redirect=True),
        max_manifest_bytes=1 << 22,
        record=Record(audit, time.time, lambda: policy.version),
        make_id=lambda: "r1",
    )
    app = Front(endpoint, routed([]), lambda: "r1")
    caller = Identity("ci", "job", {"repository": "acme/app"}, time.time() + 3600)
    bearer = bearers.mint(caller, policy, [Repository.parse("acme/app")], 900, time.time()).token
    as_caller = [("authorization", f"Bearer {bearer}")]
    layer = b"layer"
    for blob in (b"{}", layer):
        path = f"/v2/acme/app/blobs/uploads/?digest={digest_of(blob)}"
        length = ("content-length", str(len(blob)))
        assert (await call(app, "POST", path, [*as_caller, length], blob)).status == 201
    manifest = image(layer)
    head = [
        *as_caller,
        ("content-type", "application/vnd.oci.image.manifest.v1+json"),
        ("content-length", str(len(manifest))),
    ]
    assert (await call(app, "PUT", "/v2/acme/app/manifests/latest", head, manifest)).status == 201
    return app, bearer, f"/v2/acme/app/blobs/{digest_of(layer)}", f"/v2/acme/app/manifests/{digest_of(manifest)}"


async def main(*, profile: bool, rounds: int) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as temporary:
        app, bearer, blob, manifest = await registry_app(Path(temporary))
        for path, status in ((blob, 307), (manifest, 200)):
            reply = await call(app, "GET", path, [("authorization", f"Bearer {bearer}")], None)
            assert reply.status == status, reply
        contenders = {
            "bare 307": (bare, scope_of(blob, bearer)),
            "warm redirect": (app, scope_of(blob, bearer)),
            "warm manifest by digest": (app, scope_of(manifest, bearer)),
        }
        figures: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(rounds):
            for name, (contender, scope) in contenders.items():
                figures[name].append(await timed(contender, scope))
        for name, each in figures.items():
            print(f"{name:26} {statistics.median(each):6.1f} us  ({min(each):.1f} to {max(each):.1f})")
        if profile:
            profiler = cProfile.Profile()
            profiler.enable()
            await timed(app, scope_of(blob, bearer), 20_000)
            profiler.disable()
            pstats.Stats(profiler).sort_stats("tottime").print_stats(40)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.warm", description=__doc__)
    parser.add_argument("--profile", action="store_true", help="print where the time of a redirect goes")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    asyncio.run(main(profile=options.profile, rounds=options.rounds))
