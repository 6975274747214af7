"""What a replay counted, as one JSON file, and the checks that the counting itself must pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from benchmarks.egress import price_files, tallies
from benchmarks.egress.price_files import Item
from benchmarks.egress.tallies import AtRegistry, AtStore, Latencies
from benchmarks.egress.usage import Delivery, Usage
from benchmarks.egress.workload import Kind


class ResultError(ValueError):
    """A file is no result of a replay. The message says where."""


@dataclass(slots=True)
class Totals:
    """Everything that is added up over the segments of a replay.

    `asked` is the content that clients received, `unfetched` what they were only redirected to; `audited` and `metrics` are what the
    registry itself says.
    """

    at_registry: AtRegistry = field(default_factory=AtRegistry)
    at_store: AtStore = field(default_factory=AtStore)
    latencies: dict[str, Latencies] = field(default_factory=dict)
    replayed: int = 0
    failed: int = 0
    asked_of_registry: int = 0
    asked_of_store: int = 0
    unfetched_bytes: int = 0
    unfetched_requests: int = 0
    cpu_seconds: float = 0.0
    seconds: float = 0.0
    behind_seconds: float = 0.0
    untold: int = 0
    socket_sent: int = 0
    audited: dict[str, int] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    store_says: dict[str, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Give it as plain values."""
        values = {name: getattr(self, name) for name in self.__slots__}
        values["at_registry"], values["at_store"] = tallies.plain(self.at_registry), tallies.plain(self.at_store)
        values["latencies"] = {
            kind: {str(bucket): count for bucket, count in found.buckets.items()}
            for kind, found in self.latencies.items()
        }
        return values

    def add(self, values: Mapping[str, Any]) -> None:
        """Add what `as_json` gave of another segment."""
        tallies.add(self.at_registry, values["at_registry"])
        tallies.add(self.at_store, values["at_store"])
        for kind, buckets in values["latencies"].items():
            known = self.latencies.setdefault(kind, Latencies())
            known.buckets.update({int(bucket): count for bucket, count in buckets.items()})
        for name in ("audited", "metrics", "store_says"):
            present = getattr(self, name)
            for key, amount in values[name].items():
                present[key] = present.get(key, 0) + amount
        self.behind_seconds = max(self.behind_seconds, values["behind_seconds"])
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + values[name])


_SUMS = (
    "replayed", "failed", "asked_of_registry", "asked_of_store", "unfetched_bytes", "unfetched_requests", "cpu_seconds", "seconds",
    "untold", "socket_sent",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Check:
    """Two figures that must be equal, from two sources."""

    name: str
    counted: float
    expected: float
    sources: str

    @property
    def holds(self) -> bool:
        """Tell whether they are."""
        return self.counted == self.expected


@dataclass(frozen=True, slots=True)
class Result:
    """A finished replay."""

    target: str
    delivery: Delivery
    store: str
    trace: str
    date: str
    machine: str
    span: float
    error: float
    storage: int
    peak_bytes: int
    segments: int
    resumed: int
    totals: Totals

    def usage(self) -> Usage:
        """Give the quantities that are billed. Redirects that were only counted stand for a GetObject of their bytes."""
        totals = self.totals
        store = totals.at_store
        operations = dict(store.operations)
        if totals.unfetched_requests:
            operations["GetObject"] = operations.get("GetObject", 0) + totals.unfetched_requests
        return Usage(
            name=self.target,
            delivery=self.delivery,
            span=self.span,
            requests=sum(totals.at_registry.requests.values()),
            registry_egress=totals.at_registry.sent,
            store_egress=store.sent_to_clients + totals.unfetched_bytes,
            store_client_requests=store.client_requests + totals.unfetched_requests,
            operations=operations,
            storage=self.storage,
            cpu_seconds=totals.cpu_seconds,
            request_seconds=totals.at_registry.request_seconds,
            error=self.error,
        )

    def checks(self) -> list[Check]:
        """Give the conservation checks, and the cross-checks against what registry and store say themselves."""
        totals, registry, store = self.totals, self.totals.at_registry, self.totals.at_store
        served = sum(registry.content.values()) + store.content_to_clients
        checks = [
            Check(
                "content asked = content served",
                served,
                totals.asked_of_registry + totals.asked_of_store,
                "sockets / client",
            ),
            Check(
                "requests replayed = requests seen",
                _replayed(registry),
                totals.replayed - totals.failed,
                "registry socket / client",
            ),
            Check(
                "bytes of exchanges = bytes of connections",
                registry.sent,
                totals.socket_sent,
                "exchanges / registry socket",
            ),
            Check("connections that were not HTTP", totals.untold, 0, "sockets"),
        ]
        if totals.audited:
            checks += _audit_checks(totals)
        checks += _metric_checks(totals, operations_are_seen=self.store != "file")
        if totals.store_says:
            own = sum(totals.store_says.values())
            checks.append(
                Check(
                    "store operations", store.operations.total() + store.unbilled.total(), own, "store socket / store"
                )
            )
        return checks

    def as_json(self) -> dict[str, Any]:
        """Give it as plain values, with the derived figures that people read first."""
        totals = self.totals
        values = {name: getattr(self, name) for name in self.__slots__} | {"totals": totals.as_json()}
        values["figures"] = {
            "requests": sum(totals.at_registry.requests.values()),
            "bytes_out_of_registry": totals.at_registry.sent,
            "bytes_out_of_store_to_clients": totals.at_store.sent_to_clients + totals.unfetched_bytes,
            "store_operations": dict(self.usage().operations),
            "store_operations_by_class": _by_class(self.usage().operations),
            "storage_bytes": self.storage,
            "behind_schedule_seconds": round(totals.behind_seconds, 3),
            "cpu_seconds": round(totals.cpu_seconds, 2),
            "cpu_seconds_per_1000_requests": round(1000 * totals.cpu_seconds / max(1, totals.replayed), 3),
            "latency_ms": {
                kind: {f"p{part}": round(found.percentile(part / 100) * 1000, 2) for part in (50, 95, 99)}
                for kind, found in sorted(totals.latencies.items())
            },
            "cache_hits": self.cache_hits(),
            "cache_hits_as_the_registry_counts": own_cache_hits(totals.metrics),
        }
        values["checks"] = [asdict(check) | {"holds": check.holds} for check in self.checks()]
        return values

    def cache_hits(self) -> dict[str, float]:
        """Give the parts of requests for which edgeproxy read nothing of that sort from the store (its peer's layout does not tell)."""
        if not self.target.startswith("edgeproxy") or self.store == "file":
            return {}
        requests, reads = self.totals.at_registry.requests, self.totals.at_store.registry_reads
        manifests = requests[Kind.PULL_MANIFEST] + requests[Kind.LOOK_MANIFEST]
        blobs = requests[Kind.PULL_BLOB] + requests[Kind.LOOK_BLOB]
        asked = {"tag": manifests, "manifest": manifests, "link": blobs}
        return {part: round(max(0.0, 1 - reads[part] / count), 4) for part, count in asked.items() if count}


def _by_class(operations: Mapping[str, int]) -> dict[str, int]:
    """Add up operations by the classes under which R2 bills them."""
    classes = [price for price in price_files.load("r2").prices if price.item is Item.OPERATIONS]
    return {price.name: sum(operations.get(name, 0) for name in price.operations) for price in classes}


def _replayed(registry: AtRegistry) -> int:
    """Count what stands for one request of the trace each: the POST that opens an upload stands for none."""
    return sum(count for kind, count in registry.requests.items() if Kind(kind).is_replayed)


def _audit_checks(totals: Totals) -> list[Check]:
    registry, audited = totals.at_registry, totals.audited
    blobs = totals.asked_of_store + totals.unfetched_bytes + registry.content[Kind.PULL_BLOB]
    pairs = (
        ("blob pulls", registry.requests[Kind.PULL_BLOB], "blobs"),
        ("bytes of pulled blobs", blobs, "blob_bytes"),
        ("manifest pulls", registry.requests[Kind.PULL_MANIFEST], "manifests"),
        ("bytes of pulled manifests", registry.content[Kind.PULL_MANIFEST], "manifest_bytes"),
        ("pushed manifests", registry.requests[Kind.PUSH_MANIFEST], "pushed_manifests"),
    )
    return [Check(name, counted, audited.get(key, 0), "registry socket / audit") for name, counted, key in pairs]


def _metric_checks(totals: Totals, *, operations_are_seen: bool) -> list[Check]:
    """Compare with those of the registry's counters that it has."""
    registry, store = totals.at_registry, totals.at_store
    delegated = totals.asked_of_store + totals.unfetched_bytes
    pairs: tuple[tuple[str, int, str], ...] = (
        ("requests", sum(registry.requests.values()), "edgeproxy_requests_total"),
        ("redirects", registry.redirects, "edgeproxy_redirects_total"),
        ("bytes that redirects led to", delegated, "edgeproxy_delegated_bytes_total"),
        ("bytes of blobs passed on", registry.content[Kind.PULL_BLOB], "edgeproxy_proxied_bytes_total"),
        ("bytes of bodies received", registry.received_content, "edgeproxy_received_bytes_total"),
    )
    if operations_are_seen:
        pairs += (("store calls of the registry", store.registry_calls, "edgeproxy_store_calls_total"),)
    return [
        Check(name, counted, totals.metrics[metric], f"sockets / {metric}")
        for name, counted, metric in pairs
        if metric in totals.metrics
    ]


def own_cache_hits(metrics: Mapping[str, float]) -> dict[str, float]:
    """Give the parts of look-ups that each cache answered, as the registry itself counts."""
    hits, misses = "edgeproxy_cache_hits_total", "edgeproxy_cache_misses_total"
    caches = {name[len(hits) + 1 : -1] for name in metrics if name.startswith(f"{hits}{{")}
    asked = {cache: metrics[f"{hits}{{{cache}}}"] + metrics.get(f"{misses}{{{cache}}}", 0.0) for cache in caches}
    return {cache: round(metrics[f"{hits}{{{cache}}}"] / asked[cache], 4) for cache in sorted(caches) if asked[cache]}


def load(path: Path) -> Result:
    """Read a result.

    Raises:
        ResultError: it is none.

    """
    try:
        values = orjson.loads(path.read_bytes())
        totals = Totals()
        totals.add(values["totals"])
        return Result(**{name: values[name] for name in Result.__slots__ if name != "totals"}, totals=totals)
    except OSError as error:
        raise ResultError(f"{path}: {error.strerror}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ResultError(f"{path}: this is no result of a replay: {error}") from None
