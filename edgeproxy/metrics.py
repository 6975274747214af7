"""The page of /metrics: what every metric means and which values its labels have, and how numbers become that page.

`METRICS` is the one list of names; docs/metrics.md shows it. Numbers travel as `Samples`, so that those of several workers can be added
up before they are printed. Names begin with `edgeproxy_`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import generate_latest

from edgeproxy.counters import (
    ANONYMOUS,
    FOLDED,
    OPERATIONS,
    OUTCOMES,
    REQUEST_BOUNDS,
    STORE_BOUNDS,
    STORE_CLASSES,
    STORE_OUTCOMES,
    UNKNOWN,
    Counters,
    Histogram,
)

Labels = tuple[tuple[str, str], ...]
Samples = dict[tuple[str, Labels], float]
"""Values by the name of a sample and its labels."""

Source = Callable[[], Samples]
"""Reads numbers off the running process."""

CACHES: Final = ("link", "deletion", "manifest", "tag", "token", "identity", "decision")
SERVERS: Final = ("hypercorn", "granian")


@dataclass(frozen=True, slots=True)
class Described:
    """One metric. `labels` tells, for each label, all of its values, or in words where an operator names them.

    `over_workers` says how the numbers of several workers become one: added up, or the largest of them.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    text: str
    labels: Mapping[str, Sequence[str] | str] = field(default_factory=dict)
    over_workers: Literal["sum", "max"] = "sum"


_ISSUER: Final = "a name under `issuers:` in the policy"
_POLICY_REASONS: Final = "of `policy`: `no_rule`, `deny_rule`, `anonymous`, `expired`, `insufficient_scope`"
_REASONS: Final = (
    f"{_POLICY_REASONS}; of `credential`: the reasons of `TokenReason`, such as `signature`, `audience`, `expired`; "
    "of `registry`: `unauthorized`, `denied`"
)

METRICS: Final = (
    Described(
        "edgeproxy_requests_total",
        "counter",
        "Requests, by what was asked and how it ended",
        {"operation": OPERATIONS, "outcome": OUTCOMES},
    ),
    Described(
        "edgeproxy_request_seconds",
        "histogram",
        "Time from the head of a request to its answer; an upload's time is mostly its sender's",
        {"operation": OPERATIONS},
    ),
    Described("edgeproxy_redirects_total", "counter", "Blob requests that were answered with a redirect to the store"),
    Described(
        "edgeproxy_delegated_bytes_total",
        "counter",
        "Bytes that these redirects entitle clients to fetch from the store",
    ),
    Described("edgeproxy_proxied_bytes_total", "counter", "Bytes of blobs that passed through the registry to clients"),
    Described("edgeproxy_received_bytes_total", "counter", "Bytes of request bodies that were read, pushes nearly all"),
    Described(
        "edgeproxy_denials_total",
        "counter",
        "Requests under /v2/ that were denied, by who said no and why",
        {"kind": ("policy", "credential", "registry"), "reason": _REASONS},
    ),
    Described(
        "edgeproxy_token_requests_total",
        "counter",
        "Requests for a bearer at /token, by issuer of the token shown and outcome",
        {
            "issuer": f"{_ISSUER}, `{ANONYMOUS}`, `{UNKNOWN}`, or `{FOLDED}` beyond 200 names",
            "outcome": "`issued`, `bad_request`, `timeout`, or a reason of `TokenReason`",
        },
    ),
    Described(
        "edgeproxy_store_calls_total",
        "counter",
        "Attempts at calls of the object store, and what R2 bills them as",
        {"operation": tuple(STORE_CLASSES), "class": ("A", "B", "free"), "outcome": STORE_OUTCOMES},
    ),
    Described(
        "edgeproxy_store_call_seconds",
        "histogram",
        "Time of one attempt at a store call",
        {"operation": tuple(STORE_CLASSES)},
    ),
    Described(
        "edgeproxy_store_retries_total",
        "counter",
        "Attempts that followed a failed one of the same store call",
        {"operation": tuple(STORE_CLASSES)},
    ),
    Described("edgeproxy_cache_hits_total", "counter", "Look-ups that a cache answered", {"cache": CACHES}),
    Described("edgeproxy_cache_misses_total", "counter", "Look-ups that a cache could not answer", {"cache": CACHES}),
    Described("edgeproxy_cache_entries", "gauge", "Entries of a cache", {"cache": CACHES}),
    Described("edgeproxy_uploads_in_flight", "gauge", "Streams of bytes that are being received"),
    Described("edgeproxy_upload_buffer_bytes", "gauge", "Memory granted to uploads in flight"),
    Described(
        "edgeproxy_upload_buffer_limit_bytes", "gauge", "Memory that uploads may have (EDGEPROXY_UPLOAD_MEMORY_BYTES)"
    ),
    Described("edgeproxy_uploads_waiting", "gauge", "Parts of uploads that wait for memory"),
    Described("edgeproxy_audit_waiting", "gauge", "Audit events that wait for their sinks"),
    Described("edgeproxy_audit_written_total", "counter", "Audit events that were handed to every sink"),
    Described("edgeproxy_audit_dropped_total", "counter", "Audit events that were dropped"),
    Described("edgeproxy_audit_dropped", "gauge", "The same number under its older name"),
    Described(
        "edgeproxy_policy_broken", "gauge", "1 while the newest policy document is not usable", over_workers="max"
    ),
    Described("edgeproxy_policy_age_seconds", "gauge", "Seconds since the policy came into force", over_workers="max"),
    Described(
        "edgeproxy_policy_info",
        "gauge",
        "1 for the version of the policy that is in force",
        {"version": "the SHA-256 of the policy in force, as in the audit"},
        over_workers="max",
    ),
    Described(
        "edgeproxy_signing_key_age_seconds",
        "gauge",
        "Seconds since a signing key was made",
        {"kid": "the names of the signing keys", "signs": ("true", "false")},
        over_workers="max",
    ),
    Described(
        "edgeproxy_issuer_keys_age_seconds",
        "gauge",
        "Seconds since an issuer's keys were read; none for keys that stand in the policy or were never read",
        {"issuer": _ISSUER},
        over_workers="max",
    ),
    Described(
        "edgeproxy_issuer_keys_broken",
        "gauge",
        "1 while an issuer's keys could not be read when last tried",
        {"issuer": _ISSUER},
        over_workers="max",
    ),
    Described(
        "edgeproxy_issuer_keys_end_seconds",
        "gauge",
        "Seconds until keys that were given with `not_after` are no longer believed; none without it",
        {"issuer": _ISSUER},
        over_workers="max",
    ),
    Described(
        "edgeproxy_unready",
        "gauge",
        "1 for a dependency that was not usable when /readyz was last asked, in the last minute; 0 if it was",
        {"check": ("policy", "signing keys", "store")},
        over_workers="max",
    ),
    Described("edgeproxy_asyncio_tasks", "gauge", "Tasks of the event loop"),
    Described("edgeproxy_workers", "gauge", "Processes whose numbers are on this page"),
    Described(
        "edgeproxy_build_info",
        "gauge",
        "1, for what is running",
        {
            "version": "the version of edgeproxy",
            "python": "the version of Python",
            "server": SERVERS,
            "store": ("file", "s3"),
        },
        over_workers="max",
    ),
    Described("edgeproxy_process_cpu_seconds_total", "counter", "Processor time used"),
    Described(
        "edgeproxy_process_resident_memory_bytes", "gauge", "Memory in use; pages that workers share count for each"
    ),
    Described("edgeproxy_process_open_fds", "gauge", "Open file descriptors"),
    Described(
        "edgeproxy_process_start_time_seconds",
        "gauge",
        "When the process started, in seconds since the epoch; of several workers the youngest",
        over_workers="max",
    ),
)


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
    samples: Samples = {}
    for operation in operations:
        kinds = [histogram for (named, _), histogram in counted.items() if named == operation]
        labels = (("operation", operation),)
        sum_so_far = 0
        for at, bound in enumerate((*map(str, bounds), "+Inf")):
            sum_so_far += sum(histogram.counts[at] for histogram in kinds)
            samples[f"{name}_bucket", (*labels, ("le", bound))] = sum_so_far
        samples[f"{name}_count", labels] = sum_so_far
        samples[f"{name}_sum", labels] = sum(histogram.total for histogram in kinds)
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
