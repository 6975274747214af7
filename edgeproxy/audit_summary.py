"""Who pulled how much of what, counted from audit lines in one pass: memory grows with callers and repositories, not with lines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any, Final

import orjson

MAX_LINE_BYTES: Final = 1024 * 1024
"""A longer line is none of ours."""
MAX_ROWS: Final = 100_000
"""Rows kept apart; callers and repositories that appear later are counted in one row for all of them."""
SHOWN_PLACES: Final = 5
REST: Final = "(others)"


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """Who and where. Empty texts: an anonymous caller, or no repository."""

    issuer: str
    subject: str
    repository: str


@dataclass(slots=True)
class Counted:
    """What was counted. Pulls and pushes are manifests; `bytes` were handed out, by us or by the store."""

    pulls: int = 0
    blobs: int = 0
    bytes: int = 0
    pushes: int = 0
    deletes: int = 0
    denials: int = 0


@dataclass(slots=True)
class Summary:
    """The totals of all lines that were read so far."""

    lines: int = 0
    malformed: int = 0
    malformed_places: list[str] = field(default_factory=list)
    _rows: dict[Key, Counted] = field(default_factory=dict)

    def read(self, name: str, stream: IO[bytes]) -> None:
        """Count the lines of a file; `name` is told with the numbers of lines that are malformed.

        Raises:
            OSError: it cannot be read.

        """
        for number, line in enumerate(_lines(stream), 1):
            if line is not None and not line.strip():
                continue
            self.lines += 1
            event = _event(line)
            if event is None:
                self.malformed += 1
                if len(self.malformed_places) < SHOWN_PLACES:
                    self.malformed_places.append(f"{name}:{number}")
            else:
                self._count(event)

    def rows(self) -> list[tuple[Key, Counted]]:
        """Give the rows: the most bytes first, then by name."""
        return sorted(self._rows.items(), key=lambda row: (-row[1].bytes, row[0]))

    def as_json(self) -> dict[str, Any]:
        """Give everything as plain values; None stands for an anonymous caller and for no repository."""
        return {
            "lines": self.lines,
            "malformed": self.malformed,
            "malformed_lines": self.malformed_places,
            "rows": [
                {
                    "issuer": key.issuer or None,
                    "subject": key.subject or None,
                    "repository": key.repository or None,
                    "pulls": counted.pulls,
                    "blobs": counted.blobs,
                    "bytes": counted.bytes,
                    "pushes": counted.pushes,
                    "deletes": counted.deletes,
                    "denials": counted.denials,
                }
                for key, counted in self.rows()
            ],
        }

    def _count(self, event: dict[str, Any]) -> None:
        """Count one event. A look (HEAD, or an answer that nothing has changed) hands out nothing, so its line has no bytes."""
        kind, allowed = event["event"], event.get("outcome") == "allowed"
        size = event.get("bytes")
        size = size if isinstance(size, int) and size >= 0 else None
        is_manifest = "media_type" in event
        if kind == "pull" and allowed and size is not None:
            row = self._row(event)
            row.bytes += size
            if is_manifest:
                row.pulls += 1
            else:
                row.blobs += 1
        elif kind == "push" and allowed and is_manifest:
            self._row(event).pushes += 1
        elif kind == "delete" and allowed:
            self._row(event).deletes += 1
        elif event.get("outcome") == "denied" and not _is_challenge(event):
            self._row(event).denials += 1

    def _row(self, event: dict[str, Any]) -> Counted:
        key = Key(*(_text(event, name) for name in ("issuer", "subject", "repository")))
        if key not in self._rows and len(self._rows) >= MAX_ROWS:
            key = Key(REST, REST, REST)
        return self._rows.setdefault(key, Counted())


def _lines(stream: IO[bytes]) -> Iterator[bytes | None]:
    """Yield lines; None for one that is too long, which is passed over without being held."""
    while line := stream.readline(MAX_LINE_BYTES):
        if line.endswith(b"\n") or len(line) < MAX_LINE_BYTES:
            yield line
            continue
        while (rest := stream.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
            pass
        yield None


def _event(line: bytes | None) -> dict[str, Any] | None:
    try:
        event = orjson.loads(line or b"")
    except orjson.JSONDecodeError:
        return None
    return event if isinstance(event, dict) and isinstance(event.get("event"), str) else None


def _is_challenge(event: dict[str, Any]) -> bool:
    """Tell whether a ping without a credential was answered with the question for one, which refuses nothing."""
    return (
        event["event"] == "denied" and "repository" not in event and _text(event, "reason").startswith("UNAUTHORIZED:")
    )


def _text(event: dict[str, Any], name: str) -> str:
    value = event.get(name)
    return value if isinstance(value, str) else ""
