"""What `fsck` remembers of a bucket: its listing in a temporary database on disk, so that memory is bounded whatever the bucket holds."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from typing import Final, Self

_CACHE_KIB: Final = 32 * 1024
_PAGE: Final = 500

_SCHEMA: Final = """
CREATE TABLE object (key TEXT PRIMARY KEY, size INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE used (key TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE repository (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE suspect (key TEXT PRIMARY KEY) WITHOUT ROWID;
"""


class Index:
    """Keys with their sizes, and three sets: keys that others use, repositories with manifests, keys that look broken.

    SQLite compares text as bytes, so its order is the bucket's.
    """

    def __init__(self) -> None:
        # An empty name is a database in a temporary file of its own, which nobody else sees and which goes with the connection.
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.executescript(f"PRAGMA journal_mode=OFF; PRAGMA cache_size=-{_CACHE_KIB}; BEGIN; {_SCHEMA}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def add(self, objects: Iterable[tuple[str, int]]) -> None:
        """Note objects of the bucket; a key that is there already stays as it is."""
        self._database.executemany("INSERT OR IGNORE INTO object VALUES (?, ?)", objects)

    def use(self, keys: Iterable[str]) -> None:
        """Note that something healthy refers to these keys."""
        self._database.executemany("INSERT OR IGNORE INTO used VALUES (?)", ((key,) for key in keys))

    def hold(self, names: Iterable[str]) -> None:
        """Note repositories that have manifests."""
        self._database.executemany("INSERT OR IGNORE INTO repository VALUES (?)", ((name,) for name in names))

    def suspect(self, key: str) -> None:
        """Note a key that has to be looked at again."""
        self._database.execute("INSERT OR IGNORE INTO suspect VALUES (?)", (key,))

    def size(self, key: str) -> int | None:
        """Give the size of an object, or None if the listing did not have it."""
        row = self._database.execute("SELECT size FROM object WHERE key = ?", (key,)).fetchone()
        return None if row is None else int(row[0])

    def has_below(self, prefix: str) -> bool:
        """Say whether any key begins with `prefix`, which ends in a slash."""
        query = "SELECT 1 FROM object WHERE key > ? AND key < ? LIMIT 1"
        return self._database.execute(query, (prefix, prefix[:-1] + "0")).fetchone() is not None

    def objects(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Walk the objects below `prefix`, which ends in a slash; the index may change meanwhile."""
        last, end = prefix, prefix[:-1] + "0"
        query = "SELECT key, size FROM object WHERE key > ? AND key < ? ORDER BY key LIMIT ?"
        while rows := self._database.execute(query, (last, end, _PAGE)).fetchall():
            yield from rows
            last = rows[-1][0]

    def is_used(self, key: str) -> bool:
        """Say whether something healthy refers to the key."""
        return self._database.execute("SELECT 1 FROM used WHERE key = ?", (key,)).fetchone() is not None

    def repositories(self) -> Iterator[str]:
        """Walk the repositories that have manifests."""
        yield from self._names("SELECT name FROM repository WHERE name > ? ORDER BY name LIMIT ?")

    def suspects(self) -> Iterator[str]:
        """Walk the keys that look broken."""
        yield from self._names("SELECT key FROM suspect WHERE key > ? ORDER BY key LIMIT ?")

    def count(self, prefix: str) -> int:
        """Count the objects below `prefix`, which ends in a slash."""
        query = "SELECT count(*) FROM object WHERE key > ? AND key < ?"
        return int(self._database.execute(query, (prefix, prefix[:-1] + "0")).fetchone()[0])

    def _names(self, query: str) -> Iterator[str]:
        last = ""
        while rows := self._database.execute(query, (last, _PAGE)).fetchall():
            yield from (row[0] for row in rows)
            last = rows[-1][0]
