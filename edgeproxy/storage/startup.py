"""What must hold of a store before anything is served from it: the permissions, the layout of the bucket, conditional writes."""

from __future__ import annotations

from typing import Final

import orjson

from edgeproxy.storage import CertificateExpired, IfAbsent, NotFound, PreconditionFailed, Store, StoreError, keys

NO_CONDITIONS: Final = (
    "pushes and tag moves could overwrite each other: use a store that supports If-None-Match and If-Match"
)
"""What follows where a store ignores them."""

_LAYOUT_BYTES: Final = 64 * 1024


async def layout_problem(store: Store) -> str:
    """Say in one line why this release must not touch the bucket, or "".

    Raises:
        StoreError: the store does not answer.

    """
    try:
        _, data = await store.read(keys.LAYOUT, _LAYOUT_BYTES)
    except NotFound:
        return ""
    try:
        version = orjson.loads(data)["version"]
    except (orjson.JSONDecodeError, KeyError, TypeError, IndexError):
        version = None
    if version == keys.LAYOUT_VERSION:
        return ""
    if isinstance(version, int) and version > keys.LAYOUT_VERSION:
        return (
            f"the bucket has layout {version}, this release knows layout {keys.LAYOUT_VERSION}: "
            "use the release that wrote it, or a newer one"
        )
    return f"the object `{keys.LAYOUT}` is not edgeproxy's: use an empty bucket or prefix, or restore it"


async def startup_problems(store: Store) -> list[str]:
    """Find, with a few small calls, what makes serving from this store unsafe: one line each, naming what to do.

    Raises:
        CertificateExpired: as the store's certificate has; who knows the endpoint can say when.

    """
    body = orjson.dumps({"version": keys.LAYOUT_VERSION})
    try:
        if lacking := await store.lacking():
            return list(lacking)
        if problem := await layout_problem(store):
            return [problem]
        # The first write makes the object in a new bucket; one of the two has to be refused in any.
        for _ in range(2):
            try:
                await store.put(keys.LAYOUT, body, content_type="application/json", condition=IfAbsent())
            except PreconditionFailed:
                return []
    except CertificateExpired:
        raise
    except StoreError as error:
        return [str(error)]
    return [f"the store ignores conditional writes, so {NO_CONDITIONS}"]
