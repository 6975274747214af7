"""What is counted of the exchanges at two sockets, the registry's and the store's: sums only, so that memory does not grow."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from benchmarks.egress.http1 import Exchange
from benchmarks.egress.operations import FAILED_UNBILLED, operation_of, part_of
from benchmarks.egress.workload import Kind, classify

BILLED_SECONDS: Final = 0.1
"""Request-billed compute is rounded up to this."""
_BUCKETS_PER_DOUBLING: Final = 32


@dataclass(slots=True)
class Latencies:
    """Durations in buckets 2.2 % wide."""

    buckets: Counter[int] = field(default_factory=Counter)

    def add(self, seconds: float) -> None:
        """Count one."""
        self.buckets[math.floor(math.log2(max(seconds, 1e-6)) * _BUCKETS_PER_DOUBLING)] += 1

    def percentile(self, part: float) -> float:
        """Give the duration in seconds that `part` of them did not pass; 0 where there is none."""
        left = math.ceil(part * self.buckets.total())
        for bucket in sorted(self.buckets):
            left -= self.buckets[bucket]
            if left <= 0:
                return float(2 ** ((bucket + 1) / _BUCKETS_PER_DOUBLING))
        return 0.0


@dataclass(slots=True)
class AtRegistry:
    """What passed between clients and the registry. Content is bodies of answered pulls: manifests and blobs."""

    requests: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    redirects: int = 0
    received: int = 0
    received_content: int = 0
    sent: int = 0
    content: Counter[str] = field(default_factory=Counter)
    request_seconds: float = 0.0

    def count(self, exchange: Exchange) -> None:
        """Count one exchange."""
        known = classify(exchange.method, exchange.target, exchange.status)
        kind = known[0] if known is not None else Kind.OTHER
        self.requests[kind.value] += 1
        self.statuses[str(exchange.status)] += 1
        self.received += exchange.received
        self.received_content += exchange.received_body
        self.sent += exchange.sent
        self.request_seconds += math.ceil(exchange.seconds / BILLED_SECONDS) * BILLED_SECONDS
        if 300 <= exchange.status < 400 and exchange.status != 304:
            self.redirects += 1
        elif kind.is_pull:
            self.content[kind.value] += exchange.sent_body


@dataclass(slots=True)
class AtStore:
    """What passed at the store: between it and clients, and between it and the registry."""

    operations: Counter[str] = field(default_factory=Counter)
    unbilled: Counter[str] = field(default_factory=Counter)
    registry_reads: Counter[str] = field(default_factory=Counter)
    registry_calls: int = 0
    client_requests: int = 0
    sent_to_clients: int = 0
    content_to_clients: int = 0
    sent_to_registry: int = 0
    received_from_registry: int = 0

    def count(self, exchange: Exchange, *, by_client: bool) -> None:
        """Count one exchange of a client, or of the registry."""
        operation, key = operation_of(exchange.method, exchange.target, exchange.fields)
        billed = exchange.status not in FAILED_UNBILLED and exchange.status < 500
        (self.operations if billed else self.unbilled)[operation] += 1
        if by_client:
            self.client_requests += 1
            self.sent_to_clients += exchange.sent
            if exchange.status < 300:
                self.content_to_clients += exchange.sent_body
            return
        self.registry_calls += 1
        self.sent_to_registry += exchange.sent
        self.received_from_registry += exchange.received
        if operation in {"GetObject", "HeadObject"}:
            self.registry_reads[part_of(key)] += 1


def plain(tally: Any) -> dict[str, Any]:
    """Give a tally as plain values."""
    values = {name: getattr(tally, name) for name in tally.__slots__}
    return {name: dict(value) if isinstance(value, Counter) else value for name, value in values.items()}


def add(into: Any, values: Mapping[str, Any]) -> None:
    """Add what `plain` gave to a tally."""
    for name, value in values.items():
        present = getattr(into, name)
        if isinstance(present, Counter):
            present.update(value)
        else:
            setattr(into, name, present + value)
