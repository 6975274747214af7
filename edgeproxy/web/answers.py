"""Answers, and the one place that turns an error into bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

import orjson

from edgeproxy.oci.errors import RegistryError
from edgeproxy.web.bodies import RequestBody

Fields = Sequence[tuple[bytes, bytes]]
"""Header fields as ASGI has them: names in lower case."""

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

JSON: Final = "application/json"
RETRY_SECONDS: Final = "5"
SEND_SECONDS: Final = 60.0
"""A client that takes no byte of a streamed body for so long is given up."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A response: status, headers, and a body that is at hand or streamed. `facts` are what the audit line says of it.

    The headers of a HEAD are those of the GET: `length` is announced where `body` is empty because nobody may read it.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    stream: AsyncIterator[bytes] | None = None
    length: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


def json_answer(value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """Answer with a JSON document."""
    return Answer(status, {"Content-Type": JSON, **(headers or {})}, orjson.dumps(value))


def refusal(error: RegistryError, request_id: str) -> Answer:
    """Turn an error into an answer: the specification's body, and what goes with its status."""
    message = error.message
    headers = {"Content-Type": JSON, "Cache-Control": "no-store", **error.headers}
    if error.status in {403, 500, 503}:
        # The operator finds the whole story under this number.
        message = f"{message} (request {request_id})"
    if error.status >= 500 or error.status == 429:
        headers.setdefault("Retry-After", RETRY_SECONDS)
    item = {"code": error.code, "message": message}
    if error.detail is not None:
        item["detail"] = error.detail
    return Answer(error.status, headers, orjson.dumps({"errors": [item]}))


@lru_cache(maxsize=256)
def _name(name: str) -> bytes:
    return name.lower().encode()


async def send_answer(answer: Answer, body: RequestBody, send: Send, always: Fields, *, head: bool) -> None:
    """Send an answer, with the header fields that every answer has, and leave nothing unread behind it."""
    headers = [(_name(name), value.encode("latin-1")) for name, value in answer.headers.items()]
    headers += always
    if answer.status not in {204, 304}:
        length = len(answer.body) if answer.length is None else answer.length
        headers.append((b"content-length", str(length).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    if answer.stream is not None and not head:
        async for piece in answer.stream:
            async with asyncio.timeout(SEND_SECONDS):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
    elif body.finished:
        await send({"type": "http.response.body", "body": b"" if head else answer.body, "more_body": False})
        return
    elif not head:
        await send({"type": "http.response.body", "body": answer.body, "more_body": True})
    if not body.finished:
        # The client has the whole answer now; what it still sends must not break the pipe under it.
        await body.drain()
    await send({"type": "http.response.body", "body": b"", "more_body": False})
