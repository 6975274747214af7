"""A small OpenID provider for tests: explicit claims, keys of every algorithm, discovery and JWKS, faults on command.

It answers in process (`fetch`) or over loopback HTTP (`serving`), and counts what it was asked for.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from edgeproxy.access.issuers import FetchFailed

NOW = 1_800_000_000.0
DISCOVERY = "/.well-known/openid-configuration"
JWKS = "/keys"


@functools.cache
def rsa_key(number: int = 0, bits: int = 2048) -> rsa.RSAPrivateKey:
    """Making one costs a tenth of a second, so tests share them by number."""
    return rsa.generate_private_key(65537, bits)


def private_key(algorithm: str, number: int = 0) -> Any:
    if algorithm in ("RS256", "PS256", "RS512"):
        return rsa_key(number)
    if algorithm == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    if algorithm == "ES384":
        return ec.generate_private_key(ec.SECP384R1())
    return ed25519.Ed25519PrivateKey.generate()


@dataclass(frozen=True)
class Key:
    """One key pair, and how its public half is published; members of `jwk` replace or remove (None) published ones."""

    kid: str | None
    algorithm: str
    private: Any
    jwk: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def make(cls, kid: str | None = "one", algorithm: str = "ES256", number: int = 0, **jwk: Any) -> Key:
        return cls(kid, algorithm, private_key(algorithm, number), jwk)

    def published(self) -> dict[str, Any]:
        public = json.loads(jwt.get_algorithm_by_name(self.algorithm).to_jwk(self.private.public_key()))
        public.pop("key_ops", None)
        document = {**public, "kid": self.kid, "use": "sig", "alg": self.algorithm, **self.jwk}
        return {name: value for name, value in document.items() if value is not None}


def encoded(data: bytes | str | Mapping[str, Any]) -> str:
    """Encode a segment: bytes and text as they are, anything else as JSON."""
    if not isinstance(data, bytes | str):
        data = json.dumps(data)
    data = data.encode() if isinstance(data, str) else data
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def sign(key: Key, header: bytes | str | Mapping[str, Any], payload: bytes | str | Mapping[str, Any]) -> str:
    """Sign any two segments, however wrong they are."""
    text = f"{encoded(header)}.{encoded(payload)}"
    algorithm = jwt.get_algorithm_by_name(key.algorithm)
    return f"{text}.{encoded(algorithm.sign(text.encode(), key.private))}"


class LocalIssuer:
    """An issuer. `fault` is what its HTTP does in place of answering."""

    def __init__(self, url: str = "https://issuer.example", keys: tuple[Key, ...] | None = None) -> None:
        self.url = url
        self.keys = (Key.make(),) if keys is None else keys
        self.fetches: Counter[str] = Counter()
        self.fault = ""
        self.discovery: dict[str, Any] = {}
        self.gate: asyncio.Event | None = None
        """Answers wait for this event, where there is one."""
        self.asked = asyncio.Event()

    def mint(
        self,
        claims: Mapping[str, Any] | None = None,
        *,
        header: Mapping[str, Any] | None = None,
        key: Key | None = None,
        without: tuple[str, ...] = (),
    ) -> str:
        """Mint a token that is good at `NOW` for audience `registry.example`, but for what is given or left out."""
        key = key or self.keys[0]
        whole = {"iss": self.url, "sub": "someone", "aud": "registry.example", "iat": NOW - 10, "exp": NOW + 300}
        whole = {name: value for name, value in {**whole, **(claims or {})}.items() if name not in without}
        first = {"alg": key.algorithm, "typ": "JWT", "kid": key.kid, **(header or {})}
        return sign(key, {name: value for name, value in first.items() if value is not None}, whole)

    def document(self, path: str) -> dict[str, Any] | None:
        if path == DISCOVERY:
            return {"issuer": self.url, "jwks_uri": self.url + JWKS, **self.discovery}
        return {"keys": [key.published() for key in self.keys]} if path == JWKS else None

    async def fetch(self, url: str, ca: bytes | None) -> bytes:
        """Answer in process."""
        path = url.removeprefix(self.url)
        self.fetches[path] += 1
        self.asked.set()
        if self.gate is not None:
            await self.gate.wait()
        document = self.document(path)
        if self.fault or document is None:
            raise FetchFailed(self.fault or "the answer has status 404")
        return json.dumps(document).encode()

    @asynccontextmanager
    async def serving(self, tls: Any = None) -> AsyncIterator[LocalIssuer]:
        """Answer over HTTP on loopback; `url` is where."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls)
        port = server.sockets[0].getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
        try:
            yield self
        finally:
            server.close()
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line, *_ = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            path = line.split(" ")[1]
            self.fetches[path] += 1
            self.asked.set()
            if self.gate is not None:
                await self.gate.wait()
            writer.write(self._response(path))
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def _response(self, path: str) -> bytes:
        body = json.dumps(self.document(path) or {}).encode()
        answers: dict[str, Callable[[], tuple[str, bytes]]] = {
            "": lambda: ("200 OK", body),
            "down": lambda: ("503 Service Unavailable", b"down"),
            "redirect": lambda: (f"302 Found\r\nLocation: {self.url}/elsewhere", b""),
            "huge": lambda: ("200 OK", body + b" " * (1 << 20)),
            "compressed": lambda: ("200 OK\r\nContent-Encoding: gzip", b"\x1f\x8b" + body),
            "garbage": lambda: ("200 OK", b"<html>"),
        }
        if self.fault == "close":
            return b""
        status, content = answers[self.fault]()
        return f"HTTP/1.1 {status}\r\nContent-Length: {len(content)}\r\nConnection: close\r\n\r\n".encode() + content


# Claims in the shapes that the providers document.

GITHUB = {
    "jti": "example-id",
    "sub": "repo:octo-org@65/octo-repo@74:environment:prod",
    "environment": "prod",
    "ref": "refs/heads/main",
    "sha": "0c8e1f6d4a1f2c9b8f1f0b1c3d7e9a5b6c7d8e9f",
    "repository": "octo-org/octo-repo",
    "repository_owner": "octo-org",
    "actor_id": "12",
    "repository_visibility": "private",
    "repository_id": "74",
    "repository_owner_id": "65",
    "run_id": "30433642",
    "run_number": "10",
    "run_attempt": "2",
    "runner_environment": "github-hosted",
    "actor": "octocat",
    "workflow": "example-workflow",
    "head_ref": "",
    "base_ref": "",
    "event_name": "workflow_dispatch",
    "ref_type": "branch",
    "job_workflow_ref": "octo-org/octo-automation/.github/workflows/oidc.yml@refs/heads/main",
    "workflow_ref": "octo-org/octo-repo/.github/workflows/example.yml@refs/heads/main",
}
GITLAB = {
    "namespace_id": "72",
    "namespace_path": "my-group",
    "project_id": "20",
    "project_path": "my-group/my-project",
    "user_id": "1",
    "user_login": "sample-user",
    "pipeline_id": "574",
    "pipeline_source": "push",
    "job_id": "302",
    "ref": "feature-branch-1",
    "ref_type": "branch",
    "ref_path": "refs/heads/feature-branch-1",
    "ref_protected": "false",
    "runner_environment": "self-hosted",
    "sub": "project_path:my-group/my-project:ref_type:branch:ref:feature-branch-1",
}
KUBERNETES = {
    "aud": ["registry.example"],
    "sub": "system:serviceaccount:prod:puller",
    "kubernetes.io": {
        "namespace": "prod",
        "serviceaccount": {"name": "puller", "uid": "14ee3fa4-a7e2-420f-9f9a-dbc4507c3798"},
        "pod": {"name": "web-0", "uid": "83a2b54e-7d2a-4d8d-8d7c-1f4bb3f0d0a5"},
    },
}
