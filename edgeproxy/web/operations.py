"""/healthz, /readyz, /metrics: for those who run it. Never asks an identity provider, and names no repository."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edgeproxy.storage import StoreError

READY_SECONDS: Final = 5.0
REMEMBERED_SECONDS: Final = 60.0
"""How long /metrics tells what /readyz found."""
PAGE_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Health:
    """How one dependency is. `degraded` is worth an alarm but no reason to send traffic elsewhere."""

    ok: bool
    reason: str = ""

    @property
    def degraded(self) -> bool:
        """Say whether it serves but is not as it should be."""
        return self.ok and bool(self.reason)


Check = Callable[[], Awaitable[Health]]


class Readiness:
    """What /readyz found when it was last asked, for as long as that says something."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._noted = float("-inf")
        self._unready: dict[str, bool] = {}

    def note(self, unready: dict[str, bool]) -> None:
        """Note, for each check, whether what it looks at is not usable."""
        self._noted, self._unready = self._clock(), unready

    @property
    def unready(self) -> dict[str, bool]:
        """Give what was noted in the last minute, or nothing."""
        return self._unready if self._clock() - self._noted < REMEMBERED_SECONDS else {}


class Probes:
    """The routes of the two probes and of the metrics."""

    def __init__(
        self, checks: Mapping[str, Check], page: Callable[[], bytes], readiness: Readiness | None = None
    ) -> None:
        """Take the checks of /readyz, what prints /metrics, and where it is noted what the checks found."""
        self._checks = checks
        self._page = page
        self._readiness = readiness or Readiness()

    @property
    def probe_routes(self) -> list[Route]:
        """Give the routes that every port has."""
        return [Route("/healthz", self._healthz), Route("/readyz", self._readyz)]

    @property
    def all_routes(self) -> list[Route]:
        """Give the routes of the operations port."""
        return [*self.probe_routes, Route("/metrics", self._metrics_page)]

    async def _healthz(self, _: Request) -> Response:
        return Response(b'{"status":"ok"}', media_type=_JSON)

    async def _readyz(self, request: Request) -> Response:
        excluded = request.query_params.getlist("exclude")
        if unknown := sorted(set(excluded) - set(self._checks)):
            told = {"status": "unknown", "reason": f"no check is called {unknown[0]!r}", "checks": list(self._checks)}
            return Response(orjson.dumps(told), 400, media_type=_JSON)
        asked = {name: check for name, check in self._checks.items() if name not in excluded}
        health = dict(zip(asked, await asyncio.gather(*(run(check) for check in asked.values())), strict=True))
        self._readiness.note({name: not item.ok for name, item in health.items()})
        if not all(item.ok for item in health.values()):
            status = "unavailable"
        else:
            status = "degraded" if any(item.degraded for item in health.values()) else "ok"
        checks = {name: {"ok": item.ok, "reason": item.reason} for name, item in health.items()}
        body = orjson.dumps({"status": status, "checks": checks})
        headers = {"Retry-After": "5"} if status == "unavailable" else {}
        return Response(body, 503 if status == "unavailable" else 200, headers, media_type=_JSON)

    async def _metrics_page(self, _: Request) -> Response:
        return Response(self._page(), headers={"Content-Type": PAGE_TYPE})


async def run(check: Check) -> Health:
    """Run a check within its time."""
    try:
        async with asyncio.timeout(READY_SECONDS):
            return await check()
    except TimeoutError:
        return Health(ok=False, reason=f"no answer within {READY_SECONDS:.0f} s")
    except StoreError as error:
        return Health(ok=False, reason=str(error))
