"""How numbers become the page of /metrics. They travel as `Samples`, so that those of workers are made one before they are printed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import generate_latest

from edgeproxy.counters import OPERATIONS, REQUEST_BOUNDS, STORE_BOUNDS, STORE_CLASSES, Counters, Histogram
from edgeproxy.metrics import METRICS, Described, Samples


def _samples_of(metric: Described) -> tuple[str, ...]:
    if metric.kind == "histogram":
        return (f"{metric.name}_bucket", f"{metric.name}_count", f"{metric.name}_sum")
    return (metric.name,)


_BY_SAMPLE: Final[Mapping[str, Described]] = {name: metric for metric in METRICS for name in _samples_of(metric)}


def counted(counters: Counters) -> Samples:
    """Give the numbers of the counters; those that alarms watch are there from the start, as 0."""
    samples: Samples = {
        ("edgeproxy_redirects_total", ()): sum(
            requests.number for (_, outcome), requests in counters.requests.items() if outcome == "redirected"
        ),
        ("edgeproxy_delegated_bytes_total", ()): counters.delegated_bytes,
        ("edgeproxy_proxied_bytes_total", ()): counters.proxied_bytes,
        ("edgeproxy_received_bytes_total", ()): counters.received_bytes,
    }
    for (operation, outcome), number in _numbers(counters.requests, OPERATIONS).items():
        samples["edgeproxy_requests_total", (("operation", operation), ("outcome", outcome))] = number
    for (kind, reason), number in counters.denials.items():
        samples["edgeproxy_denials_total", (("kind", kind), ("reason", reason))] = number
    for (issuer, outcome), number in counters.tokens.items():
        samples["edgeproxy_token_requests_total", (("issuer", issuer), ("outcome", outcome))] = number
    for (operation, outcome), number in _numbers(counters.store_calls, STORE_CLASSES).items():
        labels = (("operation", operation), ("class", STORE_CLASSES[operation]), ("outcome", outcome))
        samples["edgeproxy_store_calls_total", labels] = number
    for operation in STORE_CLASSES:
        samples["edgeproxy_store_retries_total", (("operation", operation),)] = counters.store_retries[operation]
    samples |= _histograms("edgeproxy_request_seconds", counters.requests, OPERATIONS, REQUEST_BOUNDS)
    samples |= _histograms("edgeproxy_store_call_seconds", counters.store_calls, STORE_CLASSES, STORE_BOUNDS)
    return samples


Kinds = Mapping[tuple[str, str], Histogram]
"""What was counted, by operation and outcome."""


def _numbers(counted: Kinds, operations: Iterable[str]) -> dict[tuple[str, str], int]:
    numbers = {(operation, outcome): 0 for operation in operations for outcome in ("ok", "failed")}
    return numbers | {kind: histogram.number for kind, histogram in counted.items()}


def _histograms(name: str, counted: Kinds, operations: Iterable[str], bounds: Sequence[float]) -> Samples:
    """Make one histogram for each operation, whatever the outcome."""
    by_operation: dict[str, list[Histogram]] = {operation: [] for operation in operations}
    for (operation, _), histogram in counted.items():
        by_operation[operation].append(histogram)
    edges = [("le", edge) for edge in (*map(str, bounds), "+Inf")]
    samples: Samples = {}
    for operation, kinds in by_operation.items():
        label = ("operation", operation)
        counts = [sum(numbers) for numbers in zip(*(kind.counts for kind in kinds), strict=True)] or [0] * len(edges)
        for edge, number in zip(edges, accumulate(counts), strict=True):
            samples[f"{name}_bucket", (label, edge)] = number
        samples[f"{name}_count", (label,)] = sum(counts)
        samples[f"{name}_sum", (label,)] = sum(kind.total for kind in kinds)
    return samples


def merged(pages: Iterable[Samples]) -> Samples:
    """Make one page of those of several workers."""
    together: Samples = {}
    for page in pages:
        for key, value in page.items():
            known = together.get(key)
            if known is None:
                together[key] = value
            else:
                together[key] = max(known, value) if _BY_SAMPLE[key[0]].over_workers == "max" else known + value
    return together


def lasting(page: Samples) -> Samples:
    """Keep what outlives the worker that counted it: counters and histograms, not the state that it was in."""
    return {key: value for key, value in page.items() if _BY_SAMPLE[key[0]].kind != "gauge"}


class _Page:
    """Samples in the shape that the library prints."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for (name, labels), value in self._samples.items():
            metric = _BY_SAMPLE[name]
            family = families.get(metric.name)
            if family is None:
                family = families[metric.name] = Metric(metric.name.removesuffix("_total"), metric.text, metric.kind)
            family.add_sample(name, dict(labels), value)
        return (families[metric.name] for metric in METRICS if metric.name in families)


def printed(samples: Samples) -> bytes:
    """Print a page in the text format of Prometheus."""
    library = CollectorRegistry()
    library.register(_Page(samples))
    return generate_latest(library)
