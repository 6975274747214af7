"""Blobs over HTTP: the redirect, and uploads."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal

from edgeproxy.oci.errors import BlobUploadInvalid, RangeNotSatisfiable, SizeInvalid
from edgeproxy.oci.names import Digest, Repository
from edgeproxy.oci.operations import (
    Action,
    AppendUpload,
    CancelUpload,
    DeleteBlob,
    FinishUpload,
    GetBlob,
    MountBlob,
    StartUpload,
    UploadStatus,
    UploadWhole,
)
from edgeproxy.oci.ranges import MultiRange, Range, parse_content_range, parse_range, upload_range
from edgeproxy.registry.service import Registry
from edgeproxy.registry.sessions import Session
from edgeproxy.registry.streams import Body
from edgeproxy.registry.uploads import OutOfOrder
from edgeproxy.storage import OCTETS, PresignedURL, Presigner, keys
from edgeproxy.web.answers import Answer
from edgeproxy.web.exchanges import Exchange
from edgeproxy.web.gate import Gate

UploadByToken = UploadStatus | AppendUpload | FinishUpload | CancelUpload


@dataclass(frozen=True, slots=True)
class Delivery:
    """How bytes reach clients where no rule says it: by presigned URL for so many `seconds`, or through us.

    `may_redirect` is False where the store's host is the registry's or lies under it: clients would show the store their token, so that no
    rule may choose it either.
    """

    default: Literal["redirect", "proxy"]
    seconds: int
    may_redirect: bool


class BlobEndpoints:
    """Answers blob and upload operations that the gate let through."""

    def __init__(self, registry: Registry, gate: Gate, presigner: Presigner, delivery: Delivery) -> None:
        self._registry = registry
        self._gate = gate
        self._presigner = presigner
        self._delivery = delivery

    async def get(self, operation: GetBlob, exchange: Exchange) -> Answer:
        """Answer a GET with a redirect to the store, a HEAD by ourselves (a URL signed for GET does not do for HEAD)."""
        digest = operation.digest
        size = await self._registry.blobs.size(operation.repository, digest)
        if operation.head:
            return _described(digest, size)
        wanted = parse_range(exchange.head.first(b"range"), size)
        if self._redirects(exchange):
            return _redirect(
                digest, size, wanted, await self._presigner.presign(keys.blob(digest), self._delivery.seconds)
            )
        return await self._proxy(digest, size, wanted, exchange)

    def get_at_once(self, operation: GetBlob, exchange: Exchange) -> Answer | None:
        """Answer from memory as `get` does; None where it would have to wait."""
        digest = operation.digest
        size = self._registry.blobs.remembered(operation.repository, digest)
        if size is None:
            return None
        if operation.head:
            return _described(digest, size)
        signed = (
            self._presigner.presign_now(keys.blob(digest), self._delivery.seconds)
            if self._redirects(exchange)
            else None
        )
        if signed is None:
            return None
        return _redirect(digest, size, parse_range(exchange.head.first(b"range"), size), signed)

    async def delete(self, operation: DeleteBlob, exchange: Exchange) -> Answer:
        """Take a blob out of a repository."""
        await self._registry.blobs.delete(operation.repository, operation.digest)
        return Answer(202)

    async def start(self, operation: StartUpload, exchange: Exchange) -> Answer:
        """Open an upload session."""
        session = self._registry.uploads.start(operation.algorithm)
        return self._standing(202, operation.repository, session, exchange)

    async def upload_whole(self, operation: UploadWhole, exchange: Exchange) -> Answer:
        """Take in a blob with one POST."""
        body = Body(exchange.body.chunks(), exchange.body.length)
        await self._registry.uploads.store_whole(operation.repository, operation.digest, body)
        return _created(operation.repository, operation.digest, exchange)

    async def mount(self, operation: MountBlob, exchange: Exchange) -> Answer:
        """Mount a blob from a source that the caller may pull from; otherwise open an upload session, whatever the reason."""
        source = operation.source
        readable = source is not None and self._gate.may_here(exchange.who, source, Action.PULL)
        if (
            source is not None
            and readable
            and await self._registry.uploads.mount(operation.repository, operation.digest, source)
        ):
            exchange.facts["mounted_from"] = source.name
            return _created(operation.repository, operation.digest, exchange)
        session = self._registry.uploads.start()
        return self._standing(202, operation.repository, session, exchange)

    async def status(self, operation: UploadStatus, exchange: Exchange) -> Answer:
        """Tell where an upload truly stands."""
        standing = await self._registry.uploads.standing(self._session(operation, exchange))
        return self._standing(204, operation.repository, standing, exchange)

    async def append(self, operation: AppendUpload, exchange: Exchange) -> Answer:
        """Take in one PATCH."""
        session = self._session(operation, exchange)
        body = Body(exchange.body.chunks(), exchange.body.length)
        try:
            after = await self._registry.uploads.append(session, body, _chunk_start(exchange))
        except OutOfOrder as error:
            raise self._out_of_order(operation, error, exchange) from None
        exchange.facts["bytes"] = after.offset - session.offset
        return self._standing(202, operation.repository, after, exchange)

    async def finish(self, operation: FinishUpload, exchange: Exchange) -> Answer:
        """Commit an upload."""
        session = self._session(operation, exchange)
        body = Body(exchange.body.chunks(), exchange.body.length) if exchange.head.has_body else None
        start = _chunk_start(exchange) if body is not None else None
        try:
            await self._registry.uploads.finish(operation.repository, session, operation.digest, body, start)
        except OutOfOrder as error:
            raise self._out_of_order(operation, error, exchange) from None
        return _created(operation.repository, operation.digest, exchange)

    async def cancel(self, operation: CancelUpload, exchange: Exchange) -> Answer:
        """Drop an upload."""
        await self._registry.uploads.cancel(self._session(operation, exchange))
        return Answer(204)

    def _redirects(self, exchange: Exchange) -> bool:
        chosen = exchange.grant.deliver if exchange.grant is not None else None
        return self._delivery.may_redirect and (chosen or self._delivery.default) == "redirect"

    async def _proxy(self, digest: Digest, size: int, wanted: Range | MultiRange | None, exchange: Exchange) -> Answer:
        headers = _headers(digest) | {"Content-Type": OCTETS, "ETag": f'"{digest}"'}
        start, length, status = 0, size, 200
        if isinstance(wanted, Range):
            start, length, status = wanted.start, wanted.end - wanted.start + 1, 206
            headers["Content-Range"] = f"bytes {wanted.start}-{wanted.end}/{size}"
        opened = self._registry.store.stream(keys.blob(digest), start, length)
        pieces: AsyncIterator[bytes]
        _, pieces = await exchange.enter(opened)
        facts = {"bytes": length, "delivery": "proxy"}
        return Answer(status, headers, stream=pieces, length=length, facts=facts)

    def _session(self, operation: UploadByToken, exchange: Exchange) -> Session:
        return self._registry.sessions.read(operation.session, operation.repository, exchange.session_owner)

    def _standing(self, status: int, repository: Repository, session: Session, exchange: Exchange) -> Answer:
        token = self._registry.sessions.issue(session, repository, exchange.session_owner)
        headers = {
            "Location": f"/v2/{repository}/blobs/uploads/{token}",
            "Range": upload_range(session.offset),
            "Docker-Upload-UUID": session.upload,
        }
        return Answer(status, headers)

    def _out_of_order(
        self, operation: AppendUpload | FinishUpload, error: OutOfOrder, exchange: Exchange
    ) -> RangeNotSatisfiable:
        at = error.standing.offset
        headers = self._standing(416, operation.repository, error.standing, exchange).headers
        return RangeNotSatisfiable(
            f"the chunk does not continue the upload, which has {at} bytes: send the bytes from {at} on to the Location given",
            headers=headers,
        )


def _headers(digest: Digest) -> dict[str, str]:
    # `no-store` for HEAD too: nobody but us may say that the blob still is in the repository.
    return {"Docker-Content-Digest": str(digest), "Accept-Ranges": "bytes", "Cache-Control": "no-store"}


def _described(digest: Digest, size: int) -> Answer:
    return Answer(200, _headers(digest) | {"Content-Type": OCTETS, "ETag": f'"{digest}"'}, length=size)


def _redirect(digest: Digest, size: int, wanted: Range | MultiRange | None, signed: PresignedURL) -> Answer:
    headers = _headers(digest)
    headers["Location"] = signed.url
    return Answer(307, headers, facts={"bytes": _length(wanted, size), "delivery": "redirect"})


def _created(repository: Repository, digest: Digest, exchange: Exchange) -> Answer:
    headers = {"Location": f"/v2/{repository}/blobs/{digest}", "Docker-Content-Digest": str(digest)}
    return Answer(201, headers, facts={"digest": str(digest), "bytes": exchange.body.received or None})


def _chunk_start(exchange: Exchange) -> int | None:
    """Read where a chunk says that it begins."""
    header = exchange.head.one(b"content-range")
    if header is None:
        return None
    start, end = parse_content_range(header)
    length = exchange.body.length
    if length is not None and length != end - start + 1:
        raise SizeInvalid(f"Content-Range {start}-{end} names {end - start + 1} bytes, Content-Length {length}")
    if length is None and not exchange.head.has_body:
        raise BlobUploadInvalid("Content-Range without a body")
    return start


def _length(wanted: Range | MultiRange | None, size: int) -> int:
    return wanted.end - wanted.start + 1 if isinstance(wanted, Range) else size
