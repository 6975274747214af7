"""Manifests, tags, referrers and the catalog over HTTP."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote, urlencode

import orjson

from edgeproxy.oci.errors import ManifestTooLarge
from edgeproxy.oci.manifests import INDEX
from edgeproxy.oci.names import Digest, Repository, Tag
from edgeproxy.oci.operations import (
    Action,
    DeleteManifest,
    GetManifest,
    ListCatalog,
    ListReferrers,
    ListTags,
    PutManifest,
)
from edgeproxy.registry.manifests import StoredManifest
from edgeproxy.registry.push import Push
from edgeproxy.registry.service import Registry
from edgeproxy.web.answers import Answer, json_answer
from edgeproxy.web.exchanges import Exchange
from edgeproxy.web.gate import Gate

_EMPTY_INDEX: Final = {"schemaVersion": 2, "mediaType": INDEX, "manifests": []}


class ManifestEndpoints:
    """Answers manifest operations and lists that the gate let through."""

    def __init__(self, registry: Registry, gate: Gate, max_manifest_bytes: int) -> None:
        self._registry = registry
        self._gate = gate
        self._max_bytes = max_manifest_bytes

    async def get(self, operation: GetManifest, exchange: Exchange) -> Answer:
        """Answer GET and HEAD, by tag and by digest, with the same headers. `Accept` and `Range` do not matter here."""
        digest = operation.reference
        facts: dict[str, object] = {}
        if isinstance(digest, Tag):
            facts["tag"] = digest.name
            digest = (await self._registry.tags.resolve(operation.repository, digest)).digest
        manifest = await self._registry.manifests.get(operation.repository, digest)
        return _served(manifest, operation, exchange, facts)

    def get_at_once(self, operation: GetManifest, exchange: Exchange) -> Answer | None:
        """Answer from memory as `get` does; None where it would have to ask, as it has for every tag."""
        digest = operation.reference
        if isinstance(digest, Tag):
            return None
        manifest = self._registry.manifests.remembered(operation.repository, digest)
        return None if manifest is None else _served(manifest, operation, exchange, {})

    async def put(self, operation: PutManifest, exchange: Exchange) -> Answer:
        """Take in a manifest."""
        too_large = ManifestTooLarge(f"the manifest is larger than this registry accepts ({self._max_bytes} bytes)")
        content = await exchange.body.read(self._max_bytes, too_large)
        push = Push(operation, content, exchange.head.one(b"content-type"), exchange.subject, self._gate.immutable)
        pushed = await self._registry.pushes.push(push)
        reference = operation.reference
        headers = {
            "Location": f"/v2/{operation.repository}/manifests/{reference}",
            "Docker-Content-Digest": str(pushed.digest),
        }
        if pushed.subject is not None:
            headers["OCI-Subject"] = str(pushed.subject)
        if operation.tags:
            headers["OCI-Tag"] = ", ".join(tag.name for tag in operation.tags)
        facts = {
            "digest": str(pushed.digest),
            "media_type": pushed.media_type,
            "bytes": pushed.size,
            "tag": ",".join(tag.name for tag in pushed.tags) or None,
        }
        return Answer(201, headers, facts=facts)

    async def delete(self, operation: DeleteManifest, exchange: Exchange) -> Answer:
        """Delete a tag, or a manifest with its tags."""
        repository, reference = operation.repository, operation.reference
        if isinstance(reference, Digest):
            await self._registry.deletions.delete_manifest(repository, reference, self._gate.immutable)
        else:
            await self._registry.deletions.delete_tag(repository, reference, self._gate.immutable)
        return Answer(202)

    async def tags(self, operation: ListTags, exchange: Exchange) -> Answer:
        """List the tags of a repository."""
        page = await self._registry.tags.list(operation.repository, operation.n, operation.last)
        headers = {}
        if page.more:
            headers["Link"] = _next(f"/v2/{operation.repository}/tags/list", operation.n, page.names[-1])
        return json_answer({"name": operation.repository.name, "tags": page.names}, headers=headers)

    async def referrers(self, operation: ListReferrers, exchange: Exchange) -> Answer:
        """List what refers to a digest, which need not exist."""
        repository, artifact_type = operation.repository, operation.artifact_type
        page = await self._registry.referrers.list(repository, operation.digest, artifact_type, operation.last)
        headers = {"Content-Type": INDEX}
        if artifact_type is not None:
            headers["OCI-Filters-Applied"] = "artifactType"
        if page.next:
            query = {"artifactType": artifact_type} if artifact_type is not None else {}
            target = f"/v2/{repository}/referrers/{operation.digest}?{urlencode({**query, 'last': page.next})}"
            headers["Link"] = f'<{target}>; rel="next"'
        # The descriptors are JSON already; reading them only to print them again could change them.
        body = orjson.dumps({**_EMPTY_INDEX, "manifests": [orjson.Fragment(item) for item in page.descriptors]})
        return Answer(200, headers, body)

    async def catalog(self, operation: ListCatalog, exchange: Exchange) -> Answer:
        """List the repositories that this caller may see in a list and pull."""

        def shown(repository: Repository) -> bool:
            return self._gate.may(exchange.who, repository, Action.PULL) and (
                self._gate.may(exchange.who, repository, Action.CATALOG)
            )

        page = await self._registry.catalog.list(operation.n, operation.last, shown)
        headers = {"Link": _next("/v2/_catalog", operation.n, page.names[-1])} if page.more else {}
        return json_answer({"repositories": page.names}, headers=headers)


def _served(manifest: StoredManifest, operation: GetManifest, exchange: Exchange, facts: dict[str, object]) -> Answer:
    digest = manifest.digest
    by_tag = isinstance(operation.reference, Tag)
    etag = f'"{digest}"'
    headers = {
        "Content-Type": manifest.media_type,
        "Docker-Content-Digest": str(digest),
        "ETag": etag,
        # What is under a digest never changes, but whether this caller may have it does: no shared cache.
        "Cache-Control": "private, no-cache" if by_tag else "private, max-age=31536000, immutable",
    }
    facts |= {"digest": str(digest), "media_type": manifest.media_type}
    if _matches(exchange.head.first(b"if-none-match"), etag):
        return Answer(304, headers, facts=facts)
    # Bytes are those that leave: a line without them tells of a look.
    if not operation.head:
        facts["bytes"] = len(manifest.content)
    return Answer(200, headers, manifest.content, facts=facts)


def _next(path: str, n: int | None, last: str) -> str:
    """Make a `Link` to the next page: path-absolute, as clients refuse another origin."""
    query = f"last={quote(last, safe='')}" if n is None else f"n={n}&last={quote(last, safe='')}"
    return f'<{path}?{query}>; rel="next"'


def _matches(header: str | None, etag: str) -> bool:
    """Compare `If-None-Match` weakly (RFC 9110, 13.1.2)."""
    if header is None:
        return False
    tags = [item.strip().removeprefix("W/") for item in header.split(",")]
    return etag in tags or "*" in tags
