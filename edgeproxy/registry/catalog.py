"""Which repositories exist: one flat key each, written once, when the first manifest comes."""

from __future__ import annotations

from collections.abc import Callable

from edgeproxy.oci.errors import NameInvalid
from edgeproxy.oci.names import Repository
from edgeproxy.registry.tags import PAGE, Page
from edgeproxy.storage import IfAbsent, NotFound, PreconditionFailed, Store, keys

_KNOWN: int = 100_000


class Catalog:
    """The list of repositories."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, None] = {}

    async def add(self, repository: Repository) -> None:
        """Note that a repository exists."""
        if repository.name in self._known:
            return
        key = keys.catalog(repository)
        try:
            # A look costs a twelfth of a write, and nearly every push finds its repository there.
            await self._store.head(key)
        except NotFound:
            try:
                await self._store.put(key, b"", condition=IfAbsent())
            except PreconditionFailed:
                pass  # Another pusher was first.
        if len(self._known) >= _KNOWN:
            del self._known[next(iter(self._known))]
        self._known[repository.name] = None

    async def list(self, n: int | None, last: str, shown: Callable[[Repository], bool]) -> Page:
        """List the repositories that `shown` lets through, in byte order, those after `last`; `n` None: a full page."""
        wanted = PAGE if n is None else min(n, PAGE)
        names: list[str] = []
        if not wanted:
            return Page(names, more=False)
        after = keys.CATALOG + last.translate(keys.ENCODE) if last else ""
        async for info in self._store.list(keys.CATALOG, after=after):
            try:
                repository = keys.cataloged(info.key)
            except NameInvalid:
                continue  # Not written by a registry; `fsck` names it.
            if not shown(repository):
                continue
            if len(names) == wanted:
                return Page(names, more=True)
            names.append(repository.name)
        return Page(names, more=False)
