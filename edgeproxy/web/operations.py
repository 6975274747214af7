"""/healthz, /readyz, /metrics: for those who run it. Never asks an identity provider, and names no repository."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

import orjson
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edgeproxy.registry.service import Registry
from edgeproxy.storage import StoreError

READY_SECONDS: Final = 5.0
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


class Probes:
    """The routes of the two probes and of the metrics."""

    def __init__(self, checks: Mapping[str, Check], metrics: CollectorRegistry) -> None:
        self._checks = checks
        self._metrics = metrics

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
        if not all(item.ok for item in health.values()):
            status = "unavailable"
        else:
            status = "degraded" if any(item.degraded for item in health.values()) else "ok"
        checks = {name: {"ok": item.ok, "reason": item.reason} for name, item in health.items()}
        body = orjson.dumps({"status": status, "checks": checks})
        headers = {"Retry-After": "5"} if status == "unavailable" else {}
        return Response(body, 503 if status == "unavailable" else 200, headers, media_type=_JSON)

    async def _metrics_page(self, _: Request) -> Response:
        return Response(generate_latest(self._metrics), headers={"Content-Type": CONTENT_TYPE_LATEST})


async def run(check: Check) -> Health:
    """Run a check within its time."""
    try:
        async with asyncio.timeout(READY_SECONDS):
            return await check()
    except TimeoutError:
        return Health(ok=False, reason=f"no answer within {READY_SECONDS:.0f} s")
    except StoreError as error:
        return Health(ok=False, reason=str(error))


@dataclass(frozen=True, slots=True)
class Reading:
    """A gauge that is read when it is asked for, and what it tells."""

    text: str
    read: Callable[[], float]


def make_metrics(registry: Registry, readings: Mapping[str, Reading] | None = None) -> CollectorRegistry:
    """Make the metrics that are read off the running process, `readings` by name among them."""
    metrics = CollectorRegistry()
    own = {
        "edgeproxy_asyncio_tasks": Reading("Tasks of the event loop", lambda: len(asyncio.all_tasks())),
        "edgeproxy_upload_buffer_bytes": Reading("Memory granted to uploads in flight", lambda: registry.budget.used),
    }
    for name, reading in {**own, **(readings or {})}.items():
        Gauge(name, reading.text, registry=metrics).set_function(reading.read)
    return metrics
