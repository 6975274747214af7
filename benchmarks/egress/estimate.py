"""From an access log to the quantities that edgeproxy would be billed for, without running anything.

What a request costs the store is what a registry whose caches are always cold was counted to do (`tests/egress` counts it anew): a
little more than any real one does, so that the estimate errs on the dear side.
"""

from __future__ import annotations

import math
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.egress.tallies import BILLED_SECONDS
from benchmarks.egress.usage import Delivery, Slices, Usage
from benchmarks.egress.workload import Kind, Request

OPERATIONS: Final[Mapping[Kind, Mapping[str, int]]] = {
    Kind.PULL_MANIFEST: {"GetObject": 2},
    Kind.LOOK_MANIFEST: {"GetObject": 2},
    Kind.PULL_BLOB: {"GetObject": 1, "HeadObject": 1},
    Kind.LOOK_BLOB: {"HeadObject": 1},
    Kind.PUSH_BLOB: {"HeadObject": 1, "PutObject": 2},
    Kind.PUSH_MANIFEST: {"HeadObject": 2, "PutObject": 3},
    Kind.UPLOAD: {
        "HeadObject": 2,
        "GetObject": 2,
        "PutObject": 2,
        "ListObjectsV2": 2,
        "CopyObject": 1,
        "DeleteObject": 3,
    },
    Kind.MISS_MANIFEST: {"GetObject": 1},
    Kind.MISS_BLOB: {"HeadObject": 1},
    Kind.OTHER: {},
}
"""Store operations of each request. Pulls: the tag and the manifest; the link and the bytes. Pushes: is it there, the bytes, the link;
what was deleted and is it still there, the manifest, its tag and the way back from it. An upload in parts: what it costs more than one that
comes whole, its session and the copy to the final key included."""

PART_BYTES: Final = 8 * 1024**2
"""Larger blobs are pushed in parts of this size, each an operation, and two more begin and complete them."""
REDIRECT_BYTES: Final = 900
"""A redirect with its presigned URL, headers included: 668 were counted on loopback, and real host names are longer."""
HEAD_BYTES: Final = 700
"""The head of any other answer: 420 were counted on loopback."""
CPU_SECONDS: Final = 0.0016
"""CPU time of one request under hypercorn: 1.0 to 1.7 s a thousand were counted in replays (2 busy cores, 2026-11-25)."""
CPU_SECONDS_A_BYTE: Final = 5e-9
"""CPU time of one byte that passes through the registry: 1.5 to 2.0 s for 399 MB were counted in the same replays."""
BATCH: Final = 10_000


@dataclass(slots=True)
class Observed:
    """What a log tells, summed up. `unknown` are pulls of blobs whose size it does not tell."""

    requests: Counter[Kind] = field(default_factory=Counter)
    manifest_bytes: int = 0
    blob_bytes: int = 0
    large_pushes: int = 0
    further_parts: int = 0
    unknown: int = 0
    guessed: int = 0
    stored: int = 0
    slices: Slices = field(default_factory=Slices)

    @property
    def mean_blob(self) -> int:
        """The mean size of the blobs whose size is known."""
        known = self.requests[Kind.PULL_BLOB] - self.unknown
        return self.blob_bytes // known if known else 0


class _Sizes:
    """The sizes of all distinct blobs, in a file that vanishes, as there may be more than fit into memory."""

    def __init__(self, folder: str) -> None:
        self._db = sqlite3.connect(Path(folder) / "sizes.sqlite")
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute("CREATE TABLE blobs (reference TEXT PRIMARY KEY, size INTEGER) WITHOUT ROWID")
        self._batch: list[tuple[str, int]] = []

    def close(self) -> None:
        self._db.close()

    def add(self, reference: str, size: int) -> None:
        self._batch.append((reference, size))
        if len(self._batch) >= BATCH:
            self._flush()

    def total(self, unknown: int) -> int:
        """Sum up, with that size for blobs of which none is known."""
        self._flush()
        return int(self._db.execute("SELECT coalesce(sum(iif(size, size, ?)), 0) FROM blobs", (unknown,)).fetchone()[0])

    def _flush(self) -> None:
        self._db.executemany(
            "INSERT INTO blobs VALUES (?, ?) ON CONFLICT DO UPDATE SET size = max(size, excluded.size)", self._batch
        )
        self._db.commit()
        self._batch.clear()


def observe(requests: Iterable[Request], blob_bytes: int | None) -> Observed:
    """Sum up a log. `blob_bytes` stands for blobs of unknown size; None: the mean of the known ones."""
    seen = Observed()
    with tempfile.TemporaryDirectory(prefix="egress-") as folder, closing(_Sizes(folder)) as sizes:
        for request in requests:
            seen.requests[request.kind] += 1
            _count(seen, request, blob_bytes)
            if request.kind in {Kind.PULL_BLOB, Kind.PUSH_BLOB}:
                sizes.add(request.reference, request.size or 0)
        seen.guessed = seen.mean_blob if blob_bytes is None else blob_bytes
        seen.blob_bytes += seen.guessed * seen.unknown
        seen.stored = sizes.total(seen.guessed)
    return seen


def _count(seen: Observed, request: Request, blob_bytes: int | None) -> None:
    moved = 0
    match request.kind:
        case Kind.PULL_BLOB if request.size is None:
            seen.unknown += 1
            moved = seen.mean_blob if blob_bytes is None else blob_bytes
        case Kind.PULL_BLOB:
            moved = request.size or 0
            seen.blob_bytes += moved
        case Kind.PULL_MANIFEST:
            moved = request.size or 0
            seen.manifest_bytes += moved
        case Kind.PUSH_BLOB | Kind.UPLOAD if (request.size or 0) > PART_BYTES:
            seen.large_pushes += 1
            seen.further_parts += math.ceil((request.size or 0) / PART_BYTES) - 1
    seen.slices.add(request.time, moved)


def usage(seen: Observed, delivery: Delivery) -> Usage:
    """Turn what was seen into what edgeproxy would use in that delivery."""
    requests, pulls = seen.requests.total(), seen.requests[Kind.PULL_BLOB]
    operations: Counter[str] = Counter()
    for kind, count in seen.requests.items():
        for name, each in OPERATIONS[kind].items():
            operations[name] += each * count
    operations["UploadPart"] += seen.further_parts
    operations["CreateMultipartUpload"] += seen.large_pushes
    operations["CompleteMultipartUpload"] += seen.large_pushes
    registry = HEAD_BYTES * (requests - pulls) + seen.manifest_bytes
    redirects = delivery == "redirect"
    heads = (REDIRECT_BYTES if redirects else HEAD_BYTES) * pulls
    through = 0 if redirects else seen.blob_bytes
    return Usage(
        name=f"edgeproxy-{delivery}",
        delivery=delivery,
        span=seen.slices.span,
        requests=requests,
        registry_egress=registry + heads + through,
        store_egress=seen.blob_bytes + HEAD_BYTES * pulls if redirects else 0,
        store_client_requests=pulls if redirects else 0,
        operations=dict(operations),
        storage=seen.stored,
        cpu_seconds=CPU_SECONDS * requests + CPU_SECONDS_A_BYTE * through,
        request_seconds=BILLED_SECONDS * requests,
        error=seen.slices.error(),
    )
