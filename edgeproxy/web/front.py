"""What stands before every request: what is no HTTP is refused, /v2/ goes to the registry, the rest to Starlette's routes.

/v2/ does not pass through a router: the registry parses the raw path itself, and this is its hot path.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.routing import BaseRoute

from edgeproxy.counters import Counters
from edgeproxy.oci.errors import BadRequest, RegistryError
from edgeproxy.web.answers import Send, refusal, send_answer
from edgeproxy.web.bodies import Receive, RequestBody
from edgeproxy.web.counting import counted
from edgeproxy.web.forwarding import Trusted, client_address
from edgeproxy.web.heads import Head

ASGIApp = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


class Front:
    """The ASGI application that the server runs."""

    def __init__(
        self,
        registry: ASGIApp,
        others: ASGIApp,
        make_id: Callable[[], str],
        trusted: Sequence[Trusted] = (),
        counters: Counters | None = None,
    ) -> None:
        """Take the routes, and the proxies whose `X-Forwarded-For` is believed."""
        self._counters = counters or Counters()
        self._registry = registry
        self._trusted = trusted
        self._others = others
        self._make_id = make_id
        self._draining: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one connection's event stream."""
        if scope["type"] == "http":
            if self._trusted:
                scope = self._seen_through(scope)
            path: bytes = scope["raw_path"]
            if path.startswith(b"/v2/") or path == b"/v2":
                await self._registry(scope, receive, send)
            else:
                await self._other(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000})
        elif scope["type"] == "lifespan":
            await _live(receive, send)

    def _seen_through(self, scope: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        forwarded = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
        peer = scope["client"][0] if scope.get("client") else ""
        return {**scope, "client": (client_address(peer, forwarded, self._trusted), 0)}

    async def _other(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        send = counted(scope["raw_path"], self._counters, send)
        try:
            head = Head.read(scope)
            if not head.raw_path.startswith(b"/"):
                raise BadRequest("the request target is not a path; send the path alone")
        except RegistryError as error:
            request_id = self._make_id()
            answer = refusal(error, request_id)
            # There may be a body, however it is framed.
            body = RequestBody(receive, Head(scope["method"], b"", b"", {}, None, has_body=True, peer=""))
            await send_answer(
                answer, body, send, [(b"x-request-id", request_id.encode())], head=scope["method"] == "HEAD"
            )
        else:
            body = RequestBody(receive, head)
            unread = _Unread(receive, send, body)
            await self._others(scope, unread.receive, unread.send)
        if not body.finished and not body.gone:
            # Nobody read this body; somebody must, or the server keeps the connection for good.
            task = asyncio.create_task(body.until_gone())
            self._draining.add(task)
            task.add_done_callback(self._draining.discard)


def routed(routes: Sequence[BaseRoute]) -> Starlette:
    """Make the application behind some routes, for paths as they are written and no others.

    Starlette would redirect `/token/` to `/token`, at the host that the request names in `Host`.
    """
    app = Starlette(routes=routes)
    app.router.redirect_slashes = False
    return app


class _Unread:
    """Watches how much of a body an application reads, and reads the rest before its answer ends."""

    def __init__(self, receive: Receive, send: Send, body: RequestBody) -> None:
        self._receive = receive
        self._send = send
        self._body = body

    async def receive(self) -> MutableMapping[str, Any]:
        message = await self._receive()
        self._body.gone = message["type"] == "http.disconnect"
        self._body.finished = self._body.finished or not message.get("more_body", False)
        return message

    async def send(self, message: MutableMapping[str, Any]) -> None:
        last = message["type"] == "http.response.body" and not message.get("more_body", False)
        if not last or self._body.finished or self._body.gone:
            await self._send(message)
            return
        await self._send({**message, "more_body": True})
        await self._body.drain()
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})


async def _live(receive: Receive, send: Send) -> None:
    """Follow the lifespan protocol; what lives as long as the process is opened and closed by `app`."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
