"""A registry: the verbs of this room, made once over one store and handed to `web` together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgeproxy.registry.blobs import Blobs
from edgeproxy.registry.catalog import Catalog
from edgeproxy.registry.deletion import Deletions
from edgeproxy.registry.manifests import Manifests
from edgeproxy.registry.memory import Budget
from edgeproxy.registry.push import Pushes
from edgeproxy.registry.referrers import Referrers
from edgeproxy.registry.sessions import SessionTokens
from edgeproxy.registry.streams import Receiver
from edgeproxy.registry.tags import Tags
from edgeproxy.registry.uploads import Uploads
from edgeproxy.storage import Store


@dataclass(frozen=True, slots=True)
class Registry:
    """Everything a registry can do."""

    store: Store
    budget: Budget
    blobs: Blobs
    manifests: Manifests
    tags: Tags
    pushes: Pushes
    deletions: Deletions
    referrers: Referrers
    catalog: Catalog
    uploads: Uploads
    sessions: SessionTokens


def make_registry(
    store: Store,
    *,
    clock: Callable[[], float],
    name: Callable[[], str],
    session_keys: Callable[[], Sequence[bytes]],
    upload_memory_bytes: int,
    max_blob_bytes: int | None,
) -> Registry:
    """Make a registry over a store.

    `clock` gives seconds since the epoch, `name` URL-safe random names that never come twice, `session_keys` the secrets behind upload
    sessions, newest first.
    """
    budget = Budget(upload_memory_bytes)
    blobs = Blobs(store, clock, lambda: name().encode())
    manifests = Manifests(store, blobs, clock)
    tags = Tags(store, clock)
    referrers = Referrers(store)
    catalog = Catalog(store)
    return Registry(
        store=store,
        budget=budget,
        blobs=blobs,
        manifests=manifests,
        tags=tags,
        pushes=Pushes(blobs, manifests, tags, referrers, catalog, clock),
        deletions=Deletions(manifests, tags, referrers),
        referrers=referrers,
        catalog=catalog,
        uploads=Uploads(store, blobs, Receiver(store, budget, max_blob_bytes), clock, name),
        sessions=SessionTokens(session_keys, clock),
    )
