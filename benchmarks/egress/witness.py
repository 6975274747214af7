"""What the registry says of itself: its audit lines and its metrics, read for what they add between two moments."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import aiohttp
import orjson

_LOOKS: Final = 200
_LOOK_SECONDS: Final = 0.02
_STILL: Final = 5
_CACHE: Final = re.compile(r'\bcache="([^"]+)"')


class Audit:
    """Counts the audit lines that are added to a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = path.stat().st_size if path.exists() else 0

    async def added(self) -> dict[str, int]:
        """Count the lines since the last call, once the thread that writes them has come to rest."""
        still, size = 0, -1
        for _ in range(_LOOKS):
            now = self._path.stat().st_size if self._path.exists() else 0
            still, size = (still + 1, size) if now == size else (0, now)
            if still >= _STILL:
                break
            await asyncio.sleep(_LOOK_SECONDS)
        return await asyncio.to_thread(self._read)

    def _read(self) -> dict[str, int]:
        counts: Counter[str] = Counter()
        if not self._path.exists():
            return {}
        with self._path.open("rb") as file:
            # The size of a file that is being written to is no end of a line: what was begun then counts as what was there before.
            file.seek(max(self._offset - 1, 0))
            if self._offset:
                self._offset += len(file.readline()) - 1
            for line in file:
                if not line.endswith(b"\n"):
                    break
                counts.update(dict(_counted(orjson.loads(line))))
                self._offset += len(line)
        return dict(counts)


def _counted(event: dict[str, object]) -> Iterator[tuple[str, int]]:
    if event.get("outcome") != "allowed":
        return
    size, is_manifest = event.get("bytes"), "media_type" in event
    if event["event"] == "pull" and isinstance(size, int):
        yield ("manifests" if is_manifest else "blobs"), 1
        yield ("manifest_bytes" if is_manifest else "blob_bytes"), size
    elif event["event"] == "push":
        yield ("pushed_manifests" if is_manifest else "pushed_blobs"), 1


async def totals_of(url: str | None) -> dict[str, float]:
    """Read the counters of a metrics page, if there is one."""
    if url is None:
        return {}
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return counters(await answer.text())


def counters(page: str) -> dict[str, float]:
    """Sum up over labels each name that ends with `_total`. Those of caches are also told apart by cache, as `name{cache}`."""
    sums: dict[str, float] = {}
    for line in page.splitlines():
        sample, _, value = line.rpartition(" ")
        name = sample.partition("{")[0]
        if not name.endswith("_total") or line.startswith("#"):
            continue
        cache = _CACHE.search(sample)
        for key in (name, f"{name}{{{cache[1]}}}") if cache is not None else (name,):
            sums[key] = sums.get(key, 0.0) + float(value)
    return sums
