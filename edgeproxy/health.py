"""How this process is: what /readyz asks, and what /metrics reads off it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from edgeproxy.access.signing import SigningKeyError, SigningKeys
from edgeproxy.audit import AuditLog
from edgeproxy.registry.service import Registry
from edgeproxy.reload import CurrentPolicy
from edgeproxy.storage import Store
from edgeproxy.web.operations import Health, Probes, Reading, make_metrics

STOPPING: Final = "stopping: send no more requests here; what is sent still is served"


def probes_of(
    registry: Registry,
    policy: CurrentPolicy,
    keys: SigningKeys,
    audit: AuditLog,
    clock: Callable[[], float],
    stopping: Callable[[], bool] = lambda: False,
) -> Probes:
    """Make the probes of a registry."""

    async def of_process() -> Health:
        return Health(ok=False, reason=STOPPING) if stopping() else Health(ok=True)

    async def of_policy() -> Health:
        return Health(ok=True, reason=policy.problem)

    async def of_keys() -> Health:
        return await _keys(keys)

    async def of_store() -> Health:
        return await _store(registry.store)

    readings = {
        "edgeproxy_policy_broken": Reading(
            "1 while the newest policy document is not usable", lambda: bool(policy.problem)
        ),
        "edgeproxy_policy_age_seconds": Reading(
            "Seconds since the policy came into force", lambda: clock() - policy.since
        ),
        "edgeproxy_audit_waiting": Reading("Audit events that wait for their sinks", lambda: audit.waiting),
        "edgeproxy_audit_dropped": Reading("Audit events that were dropped", lambda: audit.dropped),
    }
    checks = {"process": of_process, "policy": of_policy, "signing keys": of_keys, "store": of_store}
    return Probes(checks, make_metrics(registry, readings))


async def _keys(keys: SigningKeys) -> Health:
    try:
        await asyncio.to_thread(keys.reload)
    except SigningKeyError as error:
        # Those that were read before go on signing.
        return Health(ok=True, reason=str(error))
    return Health(ok=True)


async def _store(store: Store) -> Health:
    await store.check()
    return Health(ok=True)
