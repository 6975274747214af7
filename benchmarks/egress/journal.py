"""The journal of a replay: one line for each finished segment, so that an interrupted replay goes on where it was."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

RESULT: Final = "result.json"
"""What a finished replay leaves beside its journal."""


class CannotResume(RuntimeError):
    """A folder holds a replay that cannot be gone on with. The message says why and what to do."""


def fingerprint(traces: Iterable[Path], options: Mapping[str, Any]) -> str:
    """Identify a replay by its traces (name, size, first and last bytes) and options."""
    digest = hashlib.sha256(orjson.dumps(dict(options), option=orjson.OPT_SORT_KEYS))
    for path in traces:
        with path.open("rb") as file:
            size = path.stat().st_size
            digest.update(f"{path.name} {size}".encode())
            digest.update(file.read(65536))
            file.seek(max(0, size - 65536))
            digest.update(file.read())
    return digest.hexdigest()


@dataclass(slots=True)
class Journal:
    """The finished segments. `position` is the number of requests that are done, `runs` how often the replay was begun or gone on with."""

    path: Path
    position: int
    runs: int
    segments: list[dict[str, Any]]

    @classmethod
    def open(cls, path: Path, identity: str, *, resume: bool, persistent: bool) -> Journal:
        """Begin a journal, or go on with one.

        Raises:
            CannotResume: there is one and `resume` was not asked for, or it is of another replay, or the store forgot what it held.

        """
        if not path.exists():
            path.write_bytes(orjson.dumps({"replay": identity}) + b"\n")
            return cls(path, 0, 1, [])
        if path.with_name(RESULT).exists():
            raise CannotResume(f"{path.parent} holds a finished replay, whose result is {RESULT}: name an empty folder")
        if not resume:
            raise CannotResume(
                f"{path.parent} holds an interrupted replay: add --resume to go on, or name an empty folder"
            )
        lines = _whole_lines(path)
        if not lines or lines[0].get("replay") != identity:
            raise CannotResume(
                f"{path.parent} holds a replay of another trace, or with other options: name an empty folder"
            )
        if not persistent:
            raise CannotResume(
                "the R2 double keeps nothing when it stops, so this replay cannot be resumed: name an empty folder"
            )
        segments = [line for line in lines[1:] if "position" in line]
        runs = 2 + sum("resumed" in line for line in lines)
        journal = cls(path, segments[-1]["position"] if segments else 0, runs, segments)
        # A line that was being written when the replay broke off is dropped: its segment is replayed.
        path.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
        journal.append({"resumed": journal.position})
        return journal

    def append(self, line: Mapping[str, Any]) -> None:
        """Add a line, whole and at once."""
        with self.path.open("ab") as file:
            file.write(orjson.dumps(dict(line)) + b"\n")

    def finished(self, position: int, totals: Mapping[str, Any]) -> None:
        """Note a finished segment."""
        self.position = position
        line = {"position": position, "totals": totals}
        self.segments.append(line)
        self.append(line)


def _whole_lines(path: Path) -> Sequence[dict[str, Any]]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
