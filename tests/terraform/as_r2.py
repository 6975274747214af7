"""An S3 server made to answer as R2 does where R2 knows less: what it has not implemented is 501 in front of it as well."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import aiohttp
from aiohttp import web
from yarl import URL

UNKNOWN: Final = frozenset(
    [
        "accelerate",
        "acl",
        "analytics",
        "intelligent-tiering",
        "inventory",
        "legal-hold",
        "logging",
        "metrics",
        "notification",
        "object-lock",
        "ownershipControls",
        "policy",
        "policyStatus",
        "publicAccessBlock",
        "replication",
        "requestPayment",
        "retention",
        "tagging",
        "torrent",
        "versioning",
        "website",
    ]
)
"""Subresources of buckets and objects that R2's list of S3 operations has as not implemented."""

_ANSWER: Final = '<?xml version="1.0" encoding="UTF-8"?><Error><Code>NotImplemented</Code><Message>{} not implemented</Message></Error>'
_HOP: Final = frozenset({"connection", "content-encoding", "content-length", "keep-alive", "transfer-encoding"})


@asynccontextmanager
async def as_r2(port: int) -> AsyncIterator[str]:
    """Stand before the server on a port of this machine; give the URL."""
    async with aiohttp.ClientSession(auto_decompress=False) as session:

        async def forward(request: web.Request) -> web.Response:
            if unknown := UNKNOWN & set(request.query):
                return web.Response(status=501, text=_ANSWER.format(min(unknown)), content_type="application/xml")
            # The same Host, as it is signed.
            target = URL(f"http://127.0.0.1:{port}{request.raw_path}", encoded=True)
            kept = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
            async with session.request(
                request.method, target, data=await request.read(), headers=kept, allow_redirects=False
            ) as answer:
                body = await answer.read()
                said = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP}
                if request.method == "HEAD" and "Content-Length" in answer.headers:
                    said["Content-Length"] = answer.headers["Content-Length"]
                return web.Response(status=answer.status, body=body, headers=said)

        application = web.Application(client_max_size=64 * 1024 * 1024)
        application.router.add_route("*", "/{path:.*}", forward)
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()
