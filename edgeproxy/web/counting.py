"""Counting the requests that do not pass through the registry's record: tokens, well-known documents, probes, and what nothing answers."""

from __future__ import annotations

import time
from collections.abc import Mapping, MutableMapping
from typing import Any, Final

from edgeproxy.counters import Counters, outcome_of
from edgeproxy.web.answers import Send

_PATHS: Final[Mapping[bytes, str]] = {
    b"/token": "token",
    b"/.well-known/openid-configuration": "well_known",
    b"/.well-known/jwks.json": "well_known",
    b"/healthz": "probe",
    b"/readyz": "probe",
}


def counted(raw_path: bytes, counters: Counters, send: Send) -> Send:
    """Wrap `send`, so that a request is counted when its answer begins."""
    operation = _PATHS.get(raw_path, "other")
    started = time.perf_counter()

    async def counting(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            counters.requests_of(operation, outcome_of(message["status"])).add(time.perf_counter() - started)
        await send(message)

    return counting
