"""The client that replays: it pulls, looks and pushes as container clients do, and follows redirects to the store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Final

import aiohttp
from yarl import URL

from benchmarks.egress import contents
from benchmarks.egress.plan import Blob, Manifest

PIECE: Final = 256 * 1024
_OCTETS: Final = "application/octet-stream"
_ACCEPT: Final = {"Accept": f"{contents.MANIFEST}, {contents.INDEX}"}


class Failed(Exception):
    """A request did not end as it should. The message says how, without the URL's query."""


@dataclass(frozen=True, slots=True)
class Got:
    """What a request brought: bytes of content, from the registry or from the store, or a redirect that was not followed."""

    from_registry: int = 0
    from_store: int = 0
    unfetched: int = 0


class RegistryClient:
    """Speaks to one registry. With `bodies` False redirects are counted, not followed."""

    def __init__(self, url: str, session: aiohttp.ClientSession, *, bodies: bool) -> None:
        self._url = url
        self._session = session
        self._bodies = bodies

    async def pull_manifest(self, repository: str, reference: str) -> Got:
        """GET a manifest."""
        async with self._ask("GET", f"/v2/{repository}/manifests/{reference}", headers=_ACCEPT) as answer:
            _expect(answer, 200)
            return Got(from_registry=await _read(answer))

    async def look(self, repository: str, what: str, reference: str) -> Got:
        """HEAD a blob or a manifest, and a blob's redirect is an answer too."""
        async with self._ask("HEAD", f"/v2/{repository}/{what}/{reference}", headers=_ACCEPT) as answer:
            _expect(answer, 200, 307, 302)
            return Got()

    async def pull_blob(self, repository: str, blob: Blob) -> Got:
        """GET a blob, from where the registry sends us."""
        async with self._ask("GET", f"/v2/{repository}/blobs/{blob.digest}") as answer:
            _expect(answer, 200, 307, 302)
            if answer.status == 200:
                return Got(from_registry=_whole(await _read(answer), blob))
            location = answer.headers["Location"]
            await answer.read()
        if not self._bodies:
            return Got(unfetched=blob.size)
        # A signed URL must arrive as it was signed.
        async with self._session.get(URL(location, encoded=True), allow_redirects=False) as answer:
            _expect(answer, 200)
            return Got(from_store=_whole(await _read(answer), blob))

    async def push_blob(self, repository: str, blob: Blob) -> None:
        """Push a blob as containerd, oras and helm do: POST, then PUT with the digest."""
        async with self._ask("POST", f"/v2/{repository}/blobs/uploads/") as answer:
            _expect(answer, 202)
            location = answer.headers["Location"]
        target = f"{location}{'&' if '?' in location else '?'}digest={blob.digest}"
        headers = {"Content-Type": _OCTETS, "Content-Length": str(blob.size)}
        body = _sent(contents.pieces(blob.reference, blob.size)) if blob.size else b""
        async with self._ask("PUT", target, data=body, headers=headers) as answer:
            _expect(answer, 201)

    async def mount(self, repository: str, blob: Blob, source: str) -> None:
        """Let a repository hold a blob of another one; push it where the registry does not mount."""
        query = f"mount={blob.digest}&from={source}"
        async with self._ask("POST", f"/v2/{repository}/blobs/uploads/?{query}") as answer:
            _expect(answer, 201, 202)
            mounted = answer.status == 201
        if not mounted:
            await self.push_blob(repository, blob)

    async def push_manifest(self, manifest: Manifest, content: bytes) -> str:
        """Push a manifest; gives its digest."""
        digest = contents.digest_of_bytes(content)
        reference = manifest.reference if manifest.is_tag else digest
        path = f"/v2/{manifest.repository}/manifests/{reference}"
        async with self._ask(
            "PUT", path, data=content, headers={"Content-Type": contents.media_type(manifest.parts)}
        ) as answer:
            _expect(answer, 201)
        return digest

    def _ask(
        self,
        method: str,
        path: str,
        *,
        data: bytes | AsyncIterator[bytes] | None = None,
        headers: dict[str, str] | None = None,
    ) -> aiohttp.client._RequestContextManager:
        target = URL(path if path.startswith("http") else self._url + path, encoded=True)
        return self._session.request(method, target, data=data, headers=headers, allow_redirects=False)


def session(connections: int) -> aiohttp.ClientSession:
    """Make the HTTP client."""
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=120),
        connector=aiohttp.TCPConnector(limit=connections),
        auto_decompress=False,
        requote_redirect_url=False,
        read_bufsize=PIECE,
    )


async def _sent(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def _read(answer: aiohttp.ClientResponse) -> int:
    size = 0
    async for piece in answer.content.iter_any():
        size += len(piece)
    return size


def _whole(size: int, blob: Blob) -> int:
    if size != blob.size:
        raise Failed(f"a blob of {blob.size} bytes came as {size}")
    return size


def _expect(answer: aiohttp.ClientResponse, *statuses: int) -> None:
    if answer.status not in statuses:
        raise Failed(f"{answer.method} {answer.url.path}: {answer.status}, not {' or '.join(map(str, statuses))}")
