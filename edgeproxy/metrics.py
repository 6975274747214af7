"""What every metric of /metrics means, and which values its labels have: the one list of names, which docs/metrics.md shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from edgeproxy.access.decisions import Reason
from edgeproxy.access.refusals import TokenReason
from edgeproxy.counters import (
    ANONYMOUS,
    FOLDED,
    OPERATIONS,
    OUTCOMES,
    STORE_CLASSES,
    STORE_OUTCOMES,
    UNKNOWN,
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
_REASONS: Final = "; ".join(
    f"of `{kind}`: " + ", ".join(f"`{reason}`" for reason in reasons)
    for kind, reasons in (
        ("policy", (*Reason, "insufficient_scope")),
        ("credential", TokenReason),
        ("registry", ("unauthorized", "denied")),
    )
)
_ISSUED: Final = "`issued`, `bad_request`, `timeout`, or a reason as of `credential` in `edgeproxy_denials_total`"

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
            "outcome": _ISSUED,
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
    Described(
        "edgeproxy_cache_bytes", "gauge", "Memory that the entries of a cache take, by estimate", {"cache": CACHES}
    ),
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
        {"check": ("process", "policy", "signing keys", "store")},
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
