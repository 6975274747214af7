"""The strict double of R2 as an ASGI application: what R2 accepts it accepts, what R2 refuses it refuses, and it counts.

Rules: `rules`. Signatures: `sigv4`. Trouble on purpose: `faults`. Bytes: `objects`. What each operation does: `operations`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from tests.r2.counters import Counters
from tests.r2.faults import Fault, Faults
from tests.r2.objects import Bucket, Incoming
from tests.r2.operations import OPERATIONS, Call, Reply
from tests.r2.rules import S3Error, check_request, operation_of
from tests.r2.sigv4 import UNSIGNED, Secret, Signed, verify


class Cut(Exception):
    """The connection is to be dropped now."""


class Inbound:
    """The body of a request, to be read once, also in part."""

    def __init__(self, receive: Any) -> None:
        self._receive = receive
        self._more = True

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while self._more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise Cut
            self._more = message.get("more_body", False)
            yield message.get("body", b"")

    async def drain(self) -> None:
        """Read what is left and forget it."""
        async for _ in self:
            pass


class Double:
    """One bucket behind an account's credentials.

    `write_interval` is the time in seconds within which a key takes one write only (None: no such rule); `clock` gives seconds since the
    epoch, for signatures and that rule. `cut` drops a client's connection, given its address.
    """

    def __init__(
        self,
        folder: Path,
        *,
        bucket: str = "registry",
        secrets: dict[str, Secret] | None = None,
        write_interval: float | None = 1.0,
        expired_status: int = 400,
        clock: Callable[[], float] = time.time,
        seed: int = 0,
    ) -> None:
        self.name = bucket
        self.secrets = secrets if secrets is not None else {ACCESS_KEY: Secret(SECRET_KEY)}
        self.bucket = Bucket()
        self.counters = Counters()
        self.faults = Faults(seed)
        self.clock = clock
        self.expired_status = expired_status
        self.cut: Callable[[Any], None] = lambda _: None
        self.in_flight = 0
        self.idle = asyncio.Event()
        self.idle.set()
        self._folder = folder
        self._write_interval = write_interval
        self._written: dict[str, float] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        self.in_flight += 1
        self.idle.clear()
        try:
            await self._serve(scope, receive, send)
        except Cut:
            self.cut(scope["client"])
        finally:
            self.in_flight -= 1
            if not self.in_flight:
                self.idle.set()

    async def _serve(self, scope: Any, receive: Any, send: Any) -> None:
        request = Signed(
            scope["method"],
            scope["raw_path"].decode("latin-1"),
            scope["query_string"].decode("latin-1"),
            [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"]],
        )
        struck: list[Fault] = []
        inbound = Inbound(receive)
        try:
            call = await self._accept(request, inbound, struck)
            try:
                reply = OPERATIONS[call.operation](self, call)
            finally:
                call.body.drop()
            if any(fault.effect == "cut-after" for fault in struck):
                raise Cut
        except S3Error as error:
            self.counters.refused[error.code] += 1
            # A body that was refused unread is read all the same, so that the client sees the answer.
            await inbound.drain()
            reply = Reply(error.status, {"content-type": "application/xml"}, error.body())
        await self._answer(reply, request.method, send, cut=any(fault.effect == "cut-body" for fault in struck))

    async def _accept(self, request: Signed, inbound: Inbound, struck: list[Fault]) -> Call:
        headers = {name: request.header(name) or "" for name, _ in request.headers}
        if "aws-chunked" in headers.get("content-encoding", "") or "x-amz-trailer" in headers:
            self.counters.trailers += 1
        promised = verify(request, self.secrets, self.clock(), expired_status=self.expired_status)
        _, _, rest = request.raw_path.partition("/")
        bucket, _, raw_key = rest.partition("/")
        key, query = unquote(raw_key), dict(request.pairs())
        query = {name: value for name, value in query.items() if not name.startswith("X-Amz-")}
        operation = operation_of(request.method, key, query, headers)
        # Refused conditions are billed, refused signatures are not.
        self.counters.operations[operation] += 1
        struck.extend(self.faults.strike(operation, key))
        if bucket != self.name:
            raise S3Error(404, "NoSuchBucket", "The specified bucket does not exist.")
        check_request(operation, key, headers)
        body = await self._receive(inbound, promised)
        try:
            await self._suffer(struck)
        except (Cut, S3Error, asyncio.CancelledError):
            body.drop()
            raise
        return Call(operation, key, query, headers, body)

    async def _suffer(self, struck: list[Fault]) -> None:
        for fault in struck:
            if fault.effect == "latency":
                await asyncio.sleep(fault.seconds)
            if fault.effect == "cut-before":
                raise Cut
            if fault.effect == "error":
                raise S3Error(fault.status, fault.code, "a fault of the plan")

    async def _receive(self, inbound: Inbound, promised: str) -> Incoming:
        body = Incoming(self._folder)
        try:
            async for block in inbound:
                self.counters.received += len(block)
                body.add(block)
        except (Cut, asyncio.CancelledError):
            body.drop()
            raise
        if promised not in (UNSIGNED, body.sha256.hexdigest()):
            body.drop()
            raise S3Error(400, "XAmzContentSHA256Mismatch", "the body does not have the hash that was signed")
        return body

    def pace(self, key: str) -> None:
        """Refuse a second write of a key within a second; count this one."""
        now = self.clock()
        if self._write_interval is not None and now - self._written.get(key, float("-inf")) < self._write_interval:
            raise S3Error(429, "TooManyRequests", "Reduce your concurrent request rate for the same object.")
        self._written[key] = now

    async def _answer(self, reply: Reply, method: str, send: Any, *, cut: bool) -> None:
        length = str(reply.size)
        headers = [(name.encode(), value.encode("latin-1")) for name, value in reply.headers.items()]
        if reply.status != 204:
            headers.append((b"content-length", length.encode()))
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        if method != "HEAD":
            sent = 0
            for block in reply.blocks():
                if cut and sent + len(block) > reply.size // 2:
                    await send({"type": "http.response.body", "body": block[: len(block) // 2], "more_body": True})
                    raise Cut
                sent += len(block)
                self.counters.sent += len(block)
                await send({"type": "http.response.body", "body": block, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


ACCESS_KEY = "test-access-key"
SECRET_KEY = "test-secret-key-0123456789"
"""Credentials of the double when it is given none."""
