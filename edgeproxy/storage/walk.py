"""Walk a tree of directories in byte order of the whole path, as buckets list, with bounded memory. Synchronous."""

# Names are strings and moves are the kernel's calls here: descriptors, errors by number, a million names at a time.
# ruff: noqa: PTH116, PTH118

from __future__ import annotations

import heapq
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Final

from edgeproxy.storage import NotFound, ObjectInfo, StoreUnavailable
from edgeproxy.storage.object_file import describe, etag, opened

PAGE_NAMES: Final = 50_000
"""Names held at once for each directory on the way down; a directory with more is read again for each such page."""


def objects(root: str, prefix: str, after: str, page: int = PAGE_NAMES) -> Iterator[ObjectInfo]:
    """Describe the objects whose key begins with `prefix` and is greater than `after`, in byte order of the key.

    `root` is the directory of keys; `page` bounds the names held at once. The descriptions have no content type and no
    metadata. What is written or removed meanwhile may or may not be among them.
    """
    base = prefix[: prefix.rfind("/") + 1]
    for key in _below(root, base, prefix, after, page):
        info = _listed(root, key)
        if info is not None:
            yield info


def _below(root: str, base: str, prefix: str, after: str, page: int) -> Iterator[str]:
    last = ""
    while True:
        names = heapq.nsmallest(page, _names(root, base, prefix, after, last))
        for name in names:
            if name.endswith("/"):
                yield from _below(root, base + name, prefix, after, page)
            else:
                yield base + name
        if len(names) < page:
            return
        last = names[-1]


def _names(root: str, base: str, prefix: str, after: str, last: str) -> Iterator[str]:
    # A directory sorts as its keys do, by name and slash: `a-b/x`, `a.b/x`, `a/x`, `a0`.
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(os.path.join(root, base)) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                name = entry.name + "/"
                key = base + name
                wanted = key.startswith(prefix) or prefix.startswith(key)
                wanted = wanted and (key > after or after.startswith(key))
            else:
                name = entry.name
                key = base + name
                wanted = key.startswith(prefix) and key > after
            if wanted and name > last:
                yield name


def _listed(root: str, key: str) -> ObjectInfo | None:
    path = os.path.join(root, key)
    try:
        with opened(path) as descriptor:
            return replace(describe(descriptor, key), content_type="", metadata={})
    except (FileNotFoundError, NotADirectoryError, NotFound):
        return None
    except StoreUnavailable:
        # One damaged file must not hide its neighbours; whoever reads it will be told.
        status = os.stat(path)
        return ObjectInfo(key, status.st_size, etag(status), status.st_mtime, content_type="")
