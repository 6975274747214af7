"""The ceiling: an application that answers everything with one fixed 307, under the server as edgeproxy configures it.

python -m benchmarks.peers.bare granian 127.0.0.1:5000
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final

import uvloop

from edgeproxy.serving import Site, Stop, on_signals, serve_sites

LOCATION: Final = (
    "http://localhost:9000/registry/blobs/sha256/" + "0" * 64 + "?X-Amz-Algorithm=AWS4-HMAC-SHA256"
    "&X-Amz-Credential=AKID%2F20261125%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20261125T120000Z&X-Amz-Expires=300"
    "&X-Amz-SignedHeaders=host&X-Amz-Signature=" + "0" * 64
)
"""As long as a real one, so that as many bytes are written."""

_START: Final = {
    "type": "http.response.start",
    "status": 307,
    "headers": [
        (b"location", LOCATION.encode()),
        (b"content-length", b"0"),
        (b"cache-control", b"no-store"),
        (b"docker-content-digest", b"sha256:" + b"0" * 64),
    ],
}
_BODY: Final = {"type": "http.response.body", "body": b"", "more_body": False}


async def app(scope: Any, _: Any, send: Callable[[Any], Awaitable[None]]) -> None:
    """Answer."""
    if scope["type"] == "http":
        await send(_START)
        await send(_BODY)


async def serve(server: str, bind: str) -> None:
    """Serve until told to stop."""
    stop = Stop(0)
    on_signals(stop)
    await serve_sites([Site(app, (bind,))], stop.due, server)


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], sys.argv[2]))
