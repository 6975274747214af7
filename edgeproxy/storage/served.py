"""The filesystem store as clients of the registry reach it: the ASGI app that honours presigned URLs, on its own port.

It answers as S3 does where clients can see it: `GET` with one range, XML errors, one way of authentication only.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from edgeproxy.storage import NotFound, ObjectInfo, Store, StoreUnavailable
from edgeproxy.storage.file_presign import Expired, SignatureInvalid, verified

_log = logging.getLogger(__name__)
_RANGE: Final = re.compile(rb"bytes=(?:([0-9]{1,18})-([0-9]{1,18})?|-([0-9]{1,18}))")
_Headers = list[tuple[bytes, bytes]]


class _Refused(Exception):
    def __init__(
        self, status: HTTPStatus, code: str, message: str, headers: tuple[tuple[bytes, bytes], ...] = ()
    ) -> None:
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers


@dataclass(frozen=True, slots=True)
class _Found:
    """An object that is open, and the bytes `start` to `end` (excluded) of it that were asked for."""

    info: ObjectInfo
    pieces: AsyncIterator[bytes]
    start: int
    end: int
    partial: bool

    @property
    def headers(self) -> _Headers:
        headers = [
            (b"content-type", self.info.content_type.encode("latin-1")),
            (b"content-length", b"%d" % (self.end - self.start)),
            (b"etag", b'"%b"' % self.info.etag.encode()),
            (b"last-modified", formatdate(self.info.modified, usegmt=True).encode()),
            (b"accept-ranges", b"bytes"),
            # What people push must not run in a browser under this origin.
            (b"x-content-type-options", b"nosniff"),
        ]
        if self.partial:
            headers.append((b"content-range", b"bytes %d-%d/%d" % (self.start, self.end - 1, self.info.size)))
        return headers


def served_app(store: Store, key: bytes, clock: Callable[[], float]) -> ASGIApp:
    """Make the app. `key` is the presigner's, `clock` tells seconds since the epoch."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close"})
        else:
            await _answer(scope, receive, send)

    async def _answer(scope: Scope, receive: Receive, send: Send) -> None:
        async with AsyncExitStack() as stack:
            try:
                name = _authorized(scope, key, clock())
                found = await _find(store, name, scope, stack)
            except _Refused as refused:
                await _refuse(refused, send)
                return
            status = HTTPStatus.PARTIAL_CONTENT if found.partial else HTTPStatus.OK
            await send({"type": "http.response.start", "status": status, "headers": found.headers})
            # From here on an error of the store leaves this app: the server logs it and cuts the connection.
            await _send_pieces(found.pieces, receive, send)

    return app


async def _live(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def _authorized(scope: Scope, key: bytes, now: float) -> str:
    if scope["method"] not in ("GET", "HEAD"):
        refusal = "A presigned URL opens GET only."
        raise _Refused(HTTPStatus.METHOD_NOT_ALLOWED, "MethodNotAllowed", refusal, ((b"allow", b"GET"),))
    if _header(scope, b"authorization") is not None:
        refusal = "A presigned URL is the whole credential: send no Authorization header with it."
        raise _Refused(HTTPStatus.BAD_REQUEST, "InvalidArgument", refusal)
    if scope["method"] == "HEAD":
        raise _Refused(HTTPStatus.FORBIDDEN, "SignatureDoesNotMatch", "The URL was signed for GET.")
    try:
        return verified(key, scope["raw_path"], scope["query_string"], now)
    except SignatureInvalid:
        refusal = "The URL is not as it was signed: ask the registry for it, and use it unchanged."
        raise _Refused(HTTPStatus.FORBIDDEN, "SignatureDoesNotMatch", refusal) from None
    except Expired:
        refusal = "Request has expired: ask the registry for a new URL."
        raise _Refused(HTTPStatus.FORBIDDEN, "AccessDenied", refusal) from None


async def _find(store: Store, name: str, scope: Scope, stack: AsyncExitStack) -> _Found:
    try:
        return await _open(store, name, scope, stack)
    except NotFound:
        raise _Refused(HTTPStatus.NOT_FOUND, "NoSuchKey", "The object does not exist.") from None
    except StoreUnavailable as problem:
        _log.error("presigned GET refused with 503: %s", problem)
        later = ((b"retry-after", b"1"),)
        raise _Refused(HTTPStatus.SERVICE_UNAVAILABLE, "SlowDown", "The store failed: try again.", later) from None


async def _open(store: Store, name: str, scope: Scope, stack: AsyncExitStack) -> _Found:
    wanted = _header(scope, b"range")
    if wanted is not None:
        seen = await store.head(name)
        same = _header(scope, b"if-range") in (None, b'"%b"' % seen.etag.encode())
        span = _span(wanted, seen.size) if same else None
        if span is not None:
            start, end = span
            info, pieces = await stack.enter_async_context(store.stream(name, start, end - start))
            if info.etag != seen.etag:
                raise StoreUnavailable(f"{name} was replaced while it was being opened")
            return _Found(info, pieces, start, end, partial=True)
    info, pieces = await stack.enter_async_context(store.stream(name))
    return _Found(info, pieces, 0, info.size, partial=False)


def _span(wanted: bytes, size: int) -> tuple[int, int] | None:
    """Parse start and end (excluded) of the one range; None (the whole) for several and for none: RFC 9110, 14.2."""
    match = _RANGE.fullmatch(wanted.strip())
    if match is None:
        return None
    first, last, suffix = (None if group is None else int(group) for group in match.groups())
    if first is None:
        start, end = max(0, size - (suffix or 0)), size
    else:
        if last is not None and last < first:
            return None
        start, end = first, size if last is None else min(last + 1, size)
    if start >= size:
        unsatisfied = ((b"content-range", b"bytes */%d" % size),)
        refusal = f"The range lies outside the object, which has {size} bytes."
        raise _Refused(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, "InvalidRange", refusal, unsatisfied)
    return start, end


async def _send_pieces(pieces: AsyncIterator[bytes], receive: Receive, send: Send) -> None:
    gone = asyncio.create_task(_disconnected(receive))
    try:
        async for piece in pieces:
            if gone.done():
                return
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    finally:
        gone.cancel()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _refuse(refused: _Refused, send: Send) -> None:
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{refused.code}</Code><Message>{refused.message}</Message></Error>"
    ).encode()
    headers = [(b"content-type", b"application/xml"), (b"content-length", b"%d" % len(body)), *refused.headers]
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _header(scope: Scope, name: bytes) -> bytes | None:
    return next((value for header, value in scope["headers"] if header.lower() == name), None)
