"""How this process is: what /readyz asks, and the probes over what /metrics reads off it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from edgeproxy.access.signing import SigningKeyError, SigningKeys
from edgeproxy.exposition import printed
from edgeproxy.metrics import Source
from edgeproxy.reload import CurrentPolicy
from edgeproxy.storage import Store
from edgeproxy.web.operations import Health, Probes, Readiness

STOPPING: Final = "stopping: send no more requests here; what is sent still is served"


def probes_of(
    store: Store,
    policy: CurrentPolicy,
    keys: SigningKeys,
    readiness: Readiness,
    numbers: Source,
    stopping: Callable[[], bool] = lambda: False,
) -> Probes:
    """Make the probes of a registry. `numbers` are those of /metrics, `readiness` is where it is noted what the checks found."""

    async def of_process() -> Health:
        return Health(ok=False, reason=STOPPING) if stopping() else Health(ok=True)

    async def of_policy() -> Health:
        return Health(ok=True, reason=policy.problem)

    async def of_keys() -> Health:
        return await _keys(keys)

    async def of_store() -> Health:
        return await _store(store)

    checks = {"process": of_process, "policy": of_policy, "signing keys": of_keys, "store": of_store}
    return Probes(checks, lambda: printed(numbers()), readiness)


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
