"""What must exist before a trace can be replayed, found by one pass over it and kept in SQLite, as there may be more than fits into memory.

A trace names blobs and manifests, not which blobs a manifest names. That is inferred: the blobs that a client pulls (or pushes) in a
repository between two manifests belong to the one it pulled before (or pushes after) them.
"""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from benchmarks.egress import contents
from benchmarks.egress.contents import Part
from benchmarks.egress.usage import Slices
from benchmarks.egress.workload import Kind, Request

MAX_FOLLOWED: Final = 50_000
"""Clients in repositories whose last manifest is remembered at a time."""
MAX_PARTS: Final = 127
MIN_MANIFEST: Final = 400
COMMIT_EVERY: Final = 20_000
PORTION: Final = 1000
"""So many rows or requests are taken at a time; in between the event loop has its turn, so that an interruption is noticed."""

V = TypeVar("V")

_SCHEMA: Final = """
CREATE TABLE blobs (reference TEXT PRIMARY KEY, size INTEGER NOT NULL, digest TEXT NOT NULL DEFAULT '') WITHOUT ROWID;
CREATE TABLE holds (repository TEXT, reference TEXT, missing INTEGER NOT NULL, PRIMARY KEY (repository, reference)) WITHOUT ROWID;
CREATE TABLE manifests (repository TEXT, reference TEXT, size INTEGER NOT NULL, missing INTEGER NOT NULL, digest TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (repository, reference)) WITHOUT ROWID;
CREATE TABLE parts (repository TEXT, manifest TEXT, blob TEXT, PRIMARY KEY (repository, manifest, blob)) WITHOUT ROWID;
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""

_NAME: Final = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*")
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


def is_replayable(request: Request) -> bool:
    """Tell requests that can be replayed: pulls, looks and pushes of named content under names that registries take."""
    if not request.kind.is_replayed or not _NAME.fullmatch(request.repository) or len(request.repository) > 255:
        return False
    named = request.reference.startswith("sha256:") or not request.kind.is_manifest or _TAG.fullmatch(request.reference)
    return bool(named and request.reference)


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob of the trace: its name there, its size, and the digest of the bytes that stand for it."""

    reference: str
    size: int
    digest: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest of the trace, with the blobs it names."""

    repository: str
    reference: str
    size: int
    digest: str
    parts: tuple[Part, ...]

    @property
    def is_tag(self) -> bool:
        """Tell whether the trace asks for it by a tag."""
        return not self.reference.startswith("sha256:")

    def content(self, revision: int = 0) -> bytes:
        """Give its bytes."""
        return contents.manifest(f"{self.repository}:{self.reference}", self.parts, self.size, revision)


class Plan:
    """The plan of one trace, in a file."""

    def __init__(self, path: Path) -> None:
        fresh = not path.exists()
        self._db = sqlite3.connect(path)
        self._db.execute("PRAGMA synchronous = OFF")
        if fresh:
            self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Let go of the file."""
        self._db.commit()
        self._db.close()

    def fact(self, name: str) -> str | None:
        """Give something that was noted."""
        row = self._db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def note(self, name: str, value: str) -> None:
        """Note something, for good."""
        self._db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))
        self._db.commit()

    async def learn(self, requests: Iterable[Request], unknown_bytes: int, advance: Callable[[int], None]) -> None:
        """Read the whole trace; `unknown_bytes` is the size of blobs that no request tells. `advance` is told how many requests were read.

        Notes `requests`, how many there are to replay, and `left_out`, how many of those that a replay should send have names that no
        registry takes.
        """
        pulled: OrderedDict[tuple[str, str], str] = OrderedDict()
        pushed: OrderedDict[tuple[str, str], list[str]] = OrderedDict()
        slices, count, left_out = Slices(), 0, 0
        for number, request in enumerate(requests, 1):
            slices.add(request.time, (request.size or 0) if request.kind.is_pull else 0)
            if is_replayable(request):
                count += 1
                self._learn(request, pulled, pushed)
            else:
                left_out += request.kind.is_replayed
            if number % PORTION == 0:
                advance(PORTION)
                await asyncio.sleep(0)
            if number % COMMIT_EVERY == 0:
                self._db.commit()
        self._db.execute("UPDATE blobs SET size = ? WHERE size <= 0", (unknown_bytes,))
        self.note("span", str(slices.span))
        self.note("error", str(slices.error()))
        self.note("left_out", str(left_out))
        self.note("requests", str(count))

    def _learn(
        self,
        request: Request,
        pulled: OrderedDict[tuple[str, str], str],
        pushed: OrderedDict[tuple[str, str], list[str]],
    ) -> None:
        repository, reference, who = request.repository, request.reference, (request.client, request.repository)
        size = request.size or 0
        if request.kind.is_manifest:
            size = max(size, MIN_MANIFEST)
            self._db.execute(
                "INSERT INTO manifests (repository, reference, size, missing) VALUES (?, ?, ?, ?)"
                " ON CONFLICT DO UPDATE SET size = max(size, excluded.size)",
                (repository, reference, size, request.kind.is_push),
            )
            if request.kind is Kind.PULL_MANIFEST:
                _remember(pulled, who, reference)
            elif request.kind is Kind.PUSH_MANIFEST:
                for blob in pushed.pop(who, []):
                    self._part(repository, reference, blob)
            return
        self._db.execute(
            "INSERT INTO blobs (reference, size) VALUES (?, ?) ON CONFLICT DO UPDATE SET size = max(size, excluded.size)",
            (reference, size),
        )
        self._db.execute("INSERT OR IGNORE INTO holds VALUES (?, ?, ?)", (repository, reference, request.kind.is_push))
        if request.kind is Kind.PULL_BLOB and who in pulled:
            self._part(repository, pulled[who], reference)
        elif request.kind is Kind.PUSH_BLOB:
            # A client that pushes blobs and never a manifest is not remembered for ever.
            _remember(pushed, who, [*pushed.get(who, [])[1 - MAX_PARTS :], reference])

    def _part(self, repository: str, manifest: str, blob: str) -> None:
        self._db.execute("INSERT OR IGNORE INTO parts VALUES (?, ?, ?)", (repository, manifest, blob))

    async def name_blobs(self, advance: Callable[[int], None]) -> None:
        """Hash the bytes that stand for each blob; `advance` is told how many were hashed."""
        # In portions, as rows must not change under a query that is being read.
        query = "SELECT reference, size FROM blobs WHERE digest = '' LIMIT ?"
        while rows := self._db.execute(query, (PORTION,)).fetchall():
            for reference, size in rows:
                digest = contents.digest_of(reference, size)
                self._db.execute("UPDATE blobs SET digest = ? WHERE reference = ?", (digest, reference))
                advance(size)
                await asyncio.sleep(0)
            self._db.commit()

    def total_bytes(self) -> int:
        """Give the bytes of all distinct blobs."""
        return int(self._db.execute("SELECT coalesce(sum(size), 0) FROM blobs").fetchone()[0])

    def counts(self) -> tuple[int, int]:
        """Give the numbers of (repository, blob) and of manifests that must be there before the trace."""
        holds = self._db.execute("SELECT count(*) FROM holds WHERE NOT missing").fetchone()[0]
        manifests = self._db.execute("SELECT count(*) FROM manifests WHERE NOT missing").fetchone()[0]
        return int(holds), int(manifests)

    def blobs_before(self) -> Iterator[tuple[Blob, list[str]]]:
        """Give the blobs that are pulled before anybody pushes them, with the repositories that hold them."""
        query = (
            "SELECT reference, size, digest, repository FROM blobs JOIN holds USING (reference)"
            " WHERE NOT missing ORDER BY reference, repository"
        )
        with closing(self._db.cursor()) as cursor:
            current: Blob | None = None
            repositories: list[str] = []
            for reference, size, digest, repository in cursor.execute(query):
                if current is not None and current.reference != reference:
                    yield current, repositories
                    repositories = []
                current = Blob(reference, size, digest)
                repositories.append(repository)
            if current is not None:
                yield current, repositories

    def manifests_before(self) -> Iterator[Manifest]:
        """Give the manifests that are pulled before anybody pushes them. They name only blobs that are there by then."""
        query = (
            "SELECT repository, reference FROM manifests WHERE NOT missing AND (repository, reference) > (?, ?)"
            " ORDER BY repository, reference LIMIT ?"
        )
        after = ("", "")
        while rows := self._db.execute(query, (*after, PORTION)).fetchall():
            for repository, reference in rows:
                yield self.manifest(repository, reference)
            after = rows[-1]

    def manifest(self, repository: str, reference: str) -> Manifest:
        """Give one manifest with those of its blobs that are in the repository by now."""
        query = (
            "SELECT b.digest, b.size FROM parts p JOIN blobs b ON b.reference = p.blob"
            " JOIN holds h ON h.repository = p.repository AND h.reference = p.blob"
            " WHERE p.repository = ? AND p.manifest = ? AND NOT h.missing"
            " ORDER BY b.size, b.reference LIMIT ?"
        )
        parts = tuple(self._db.execute(query, (repository, reference, MAX_PARTS)).fetchall())
        row = self._db.execute(
            "SELECT size, digest FROM manifests WHERE repository = ? AND reference = ?", (repository, reference)
        ).fetchone()
        return Manifest(repository, reference, row[0], row[1], parts)

    def blob(self, reference: str) -> Blob:
        """Give one blob."""
        row = self._db.execute("SELECT size, digest FROM blobs WHERE reference = ?", (reference,)).fetchone()
        return Blob(reference, row[0], row[1])

    def there(self, repository: str, blob: Blob) -> None:
        """Note that a blob is in a repository from now on."""
        query = "UPDATE holds SET missing = 0 WHERE repository = ? AND reference = ?"
        self._db.execute(query, (repository, blob.reference))
        self._db.commit()

    def set_digest(self, manifest: Manifest, digest: str) -> None:
        """Note under which digest a manifest was pushed, for those that the trace asks for by digest."""
        query = "UPDATE manifests SET digest = ? WHERE repository = ? AND reference = ?"
        self._db.execute(query, (digest, manifest.repository, manifest.reference))
        self._db.commit()


def _remember(followed: OrderedDict[tuple[str, str], V], who: tuple[str, str], value: V) -> None:
    followed[who] = value
    followed.move_to_end(who)
    if len(followed) > MAX_FOLLOWED:
        followed.popitem(last=False)
