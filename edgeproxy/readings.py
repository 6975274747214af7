"""What /metrics reads off the parts of a running process, one function for each part."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Callable, Mapping
from functools import partial
from math import inf
from typing import Final, Protocol, runtime_checkable

from prometheus_client import ProcessCollector

from edgeproxy import __version__
from edgeproxy.access.credentials import Credentials
from edgeproxy.access.issuers import IssuerKeys
from edgeproxy.access.signing import SigningKeys
from edgeproxy.access.tokens import Verifier
from edgeproxy.audit import AuditLog
from edgeproxy.counters import Counters
from edgeproxy.exposition import counted
from edgeproxy.metrics import METRICS, Samples, Source
from edgeproxy.registry.service import Registry
from edgeproxy.reload import CurrentPolicy
from edgeproxy.web.gate import Gate
from edgeproxy.web.operations import Readiness

_NAMES: Final = frozenset(metric.name for metric in METRICS)


def of_serving(counters: Counters, registry: Registry, audit: AuditLog, readiness: Readiness) -> Source:
    """Make the source of what requests leave behind."""
    return together(
        partial(counted, counters),
        partial(of_registry, registry),
        partial(of_audit, audit),
        partial(of_readiness, readiness),
    )


def of_access(policy: CurrentPolicy, keys: SigningKeys, issuers: IssuerKeys, clock: Callable[[], float]) -> Source:
    """Make the source of what decisions rest on."""
    return together(
        partial(of_policy, policy, clock), partial(of_keys, keys, clock), partial(of_issuers, issuers, policy, clock)
    )


class Cache(Protocol):
    """What every cache counts."""

    hits: int
    misses: int


@runtime_checkable
class Keeping(Protocol):
    """A cache that keeps something: how many, and how many bytes."""

    weight: int

    def __len__(self) -> int:
        """Say how many."""


def together(*sources: Source) -> Source:
    """Read several parts as one."""

    def read() -> Samples:
        samples: Samples = {("edgeproxy_workers", ()): 1}
        for source in sources:
            samples |= source()
        return samples

    return read


def of_registry(registry: Registry) -> Samples:
    """Read uploads and the memory they hold."""
    budget = registry.budget
    return {
        ("edgeproxy_uploads_in_flight", ()): budget.uploads,
        ("edgeproxy_upload_buffer_bytes", ()): budget.used,
        ("edgeproxy_upload_buffer_limit_bytes", ()): budget.total,
        ("edgeproxy_uploads_waiting", ()): budget.waiting,
    }


def of_caches(caches: Mapping[str, Cache]) -> Samples:
    """Read caches by name."""
    samples: Samples = {}
    for name, cache in caches.items():
        labels = (("cache", name),)
        samples["edgeproxy_cache_hits_total", labels] = cache.hits
        samples["edgeproxy_cache_misses_total", labels] = cache.misses
        if isinstance(cache, Keeping):
            samples["edgeproxy_cache_entries", labels] = len(cache)
            samples["edgeproxy_cache_bytes", labels] = cache.weight
    return samples


def caches_of(registry: Registry, gate: Gate) -> dict[str, Cache]:
    """Name the caches of what is pulled and of what was decided."""
    return {
        "link": registry.blobs.links,
        "deletion": registry.blobs.deletions,
        "manifest": registry.manifests.memory,
        "tag": registry.tags.reads,
        "decision": gate,
    }


def caches_of_tokens(credentials: Credentials, verifier: Verifier) -> dict[str, Cache]:
    """Name the caches of who asks."""
    return {"token": credentials.cache, "identity": verifier.cache}


def of_policy(policy: CurrentPolicy, clock: Callable[[], float]) -> Samples:
    """Read how the policy is."""
    return {
        ("edgeproxy_policy_broken", ()): bool(policy.problem),
        ("edgeproxy_policy_age_seconds", ()): clock() - policy.since,
        ("edgeproxy_policy_info", (("version", policy().version),)): 1,
    }


def of_audit(audit: AuditLog) -> Samples:
    """Read how the audit keeps up."""
    return {
        ("edgeproxy_audit_waiting", ()): audit.waiting,
        ("edgeproxy_audit_written_total", ()): audit.written,
        ("edgeproxy_audit_dropped_total", ()): audit.dropped,
        ("edgeproxy_audit_dropped", ()): audit.dropped,
    }


def of_keys(keys: SigningKeys, clock: Callable[[], float]) -> Samples:
    """Read how old our signing keys are."""
    samples: Samples = {}
    for key in keys.listing():
        labels = (("kid", key.kid), ("signs", "true" if key.signs else "false"))
        samples["edgeproxy_signing_key_age_seconds", labels] = clock() - key.since
    return samples


def of_issuers(issuer_keys: IssuerKeys, policy: CurrentPolicy, clock: Callable[[], float]) -> Samples:
    """Read how fresh the keys of the policy's issuers are."""
    samples: Samples = {}
    read, problems = issuer_keys.read_times(), issuer_keys.problems()
    for name, issuer in policy().issuers.items():
        labels = (("issuer", name),)
        samples["edgeproxy_issuer_keys_broken", labels] = name in problems
        if name in read:
            samples["edgeproxy_issuer_keys_age_seconds", labels] = clock() - read[name]
        if issuer.keys.not_after not in (None, inf):
            samples["edgeproxy_issuer_keys_end_seconds", labels] = issuer.keys.not_after - clock()
    return samples


def of_readiness(readiness: Readiness) -> Samples:
    """Read what /readyz found."""
    return {("edgeproxy_unready", (("check", name),)): unready for name, unready in readiness.unready.items()}


def of_process(server: str, store: str) -> Source:
    """Make the source of what runs, and of what it takes of the machine."""
    process = ProcessCollector(namespace="edgeproxy", registry=None)
    build = (("version", __version__), ("python", platform.python_version()), ("server", server), ("store", store))

    def read() -> Samples:
        samples: Samples = {
            ("edgeproxy_build_info", build): 1,
            ("edgeproxy_asyncio_tasks", ()): len(asyncio.all_tasks()),
        }
        for family in process.collect():
            for sample in family.samples:
                if sample.name in _NAMES:
                    samples[sample.name, ()] = sample.value
        return samples

    return read
