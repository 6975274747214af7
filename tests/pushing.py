"""Pushes and pulls over plain HTTP, in each of the shapes that clients use, with nothing retried and nothing hidden."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from yarl import URL

from tests.images import MANIFEST, digest_of

OCTETS = {"Content-Type": "application/octet-stream"}


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, read whole."""

    status: int
    headers: dict[str, str]
    body: bytes

    def header(self, name: str) -> str:
        """Give a header, whatever its case."""
        return {key.lower(): value for key, value in self.headers.items()}[name.lower()]

    def expect(self, *statuses: int) -> Reply:
        """Fail unless it has one of these statuses."""
        assert self.status in statuses, f"{self.status}, not {statuses}: {self.body[:1000]!r}"
        return self


class Client:
    """Speaks to one registry. Made by `client`."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self._session = session

    async def ask(
        self, method: str, path: str, *, data: Any = None, headers: dict[str, str] | None = None, follow: bool = False
    ) -> Reply:
        """Send one request to a path, or to a location that the registry gave."""
        if isinstance(data, bytes):
            data = io.BytesIO(data)  # as aiohttp wants large bodies; the length is known all the same
        # Signed URLs must arrive as they were signed.
        target = URL(path if path.startswith("http") else self.url + path, encoded=True)
        async with self._session.request(method, target, data=data, headers=headers, allow_redirects=follow) as answer:
            return Reply(answer.status, dict(answer.headers), await answer.read())

    async def start(self, repository: str) -> str:
        """Open an upload session and give its location."""
        return (await self.ask("POST", f"/v2/{repository}/blobs/uploads/")).expect(202).header("location")

    async def post_put(self, repository: str, content: bytes) -> str:
        """Push a blob as containerd, oras and helm do."""
        location = await self.start(repository)
        await self._put(location, content)
        return digest_of(content)

    async def patch_put(self, repository: str, content: bytes) -> str:
        """Push a blob as docker, podman and crane do: one PATCH of unknown length."""
        location = await self.start(repository)
        patched = (await self.ask("PATCH", location, data=pieces(content), headers=OCTETS)).expect(202)
        return await self.finish(patched.header("location"), digest_of(content))

    async def chunks(self, repository: str, content: bytes) -> str:
        """Push a blob as regclient does: two PATCHes that say where they begin."""
        location, middle = await self.start(repository), len(content) // 2
        for begin, end in ((0, middle), (middle, len(content))):
            if begin == end:
                continue  # no range says that there is nothing
            reply = await self.append(location, content[begin:end], begin)
            location = reply.expect(202).header("location")
        return await self.finish(location, digest_of(content))

    async def post_only(self, repository: str, content: bytes) -> str:
        """Push a blob with one request."""
        digest = digest_of(content)
        path = f"/v2/{repository}/blobs/uploads/?digest={digest}"
        (await self.ask("POST", path, data=content, headers=OCTETS)).expect(201)
        return digest

    async def append(self, location: str, chunk: bytes, begin: int) -> Reply:
        """Send one chunk of a session."""
        span = {"Content-Range": f"{begin}-{begin + len(chunk) - 1}"}
        return await self.ask("PATCH", location, data=chunk, headers=OCTETS | span)

    async def finish(self, location: str, digest: str) -> str:
        """Commit a session."""
        (await self.ask("PUT", with_digest(location, digest))).expect(201)
        return digest

    async def _put(self, location: str, content: bytes) -> None:
        (await self.ask("PUT", with_digest(location, digest_of(content)), data=content, headers=OCTETS)).expect(201)

    async def push_manifest(self, repository: str, reference: str, manifest: bytes) -> Reply:
        """Push a manifest under a tag or its digest."""
        path = f"/v2/{repository}/manifests/{reference}"
        return await self.ask("PUT", path, data=manifest, headers={"Content-Type": MANIFEST})

    async def manifest(self, repository: str, reference: str) -> bytes:
        """Pull a manifest, and check its digest against the header and, if it was asked for by digest, against that."""
        reply = await self.ask("GET", f"/v2/{repository}/manifests/{reference}", headers={"Accept": MANIFEST})
        reply.expect(200)
        digest = digest_of(reply.body)
        assert reply.header("docker-content-digest") == digest
        assert ":" not in reference or reference == digest
        return reply.body

    async def blob(self, repository: str, digest: str) -> bytes:
        """Pull a blob by way of the store, and check its bytes."""
        reply = (await self.ask("GET", f"/v2/{repository}/blobs/{digest}")).expect(307)
        assert reply.body == b""
        content = (await self.ask("GET", reply.header("location"))).expect(200).body
        assert digest_of(content) == digest
        return content

    async def whole(self, repository: str, reference: str) -> tuple[str, dict[str, bytes]]:
        """Pull an image with everything that its manifest names; give its digest, and the bytes by their digests."""
        manifest = await self.manifest(repository, reference)
        parts = json.loads(manifest)
        blobs = {}
        for descriptor in [parts["config"], *parts["layers"]]:
            content = await self.blob(repository, descriptor["digest"])
            assert len(content) == descriptor["size"]
            blobs[descriptor["digest"]] = content
        return digest_of(manifest), blobs


PushBlob = Callable[[Client, str, bytes], Awaitable[str]]
SHAPES: tuple[PushBlob, ...] = (Client.post_put, Client.patch_put, Client.chunks, Client.post_only)
"""Every way to push a blob."""


def with_digest(location: str, digest: str) -> str:
    """Add the digest to a location, as clients do."""
    return f"{location}{'&' if '?' in location else '?'}digest={digest}"


async def pieces(content: bytes, size: int = 64 * 1024) -> AsyncIterator[bytes]:
    """Give bytes as a body of unknown length."""
    for begin in range(0, len(content), size):
        yield content[begin : begin + size]


def manifest_of(config: bytes, *layers: bytes) -> bytes:
    """Make a manifest that names these bytes."""

    def described(media_type: str, content: bytes) -> dict[str, Any]:
        return {"mediaType": media_type, "digest": digest_of(content), "size": len(content)}

    layer_type = "application/vnd.oci.image.layer.v1.tar"
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": described("application/vnd.oci.image.config.v1+json", config),
            "layers": [described(layer_type, layer) for layer in layers],
        }
    ).encode()


@asynccontextmanager
async def client(url: str, *, seconds: float = 120, kind: type[Client] = Client) -> AsyncIterator[Client]:
    """Open a client of the registry at `url`, with as many connections as it needs."""
    timeout = aiohttp.ClientTimeout(total=seconds)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(
        timeout=timeout, connector=connector, requote_redirect_url=False, auto_decompress=False
    ) as session:
        yield kind(url, session)
