"""The journal of a replay: one line for each finished segment, so that an interrupted replay goes on where it was."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from benchmarks.egress.result import Totals

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
    """The finished segments. Their sums are held here, the segments themselves only in the file.

    `position` is the number of requests that are done, `runs` how often the replay was begun or gone on with.
    """

    path: Path
    position: int = 0
    runs: int = 1
    segments: int = 0
    totals: Totals = field(default_factory=Totals)

    @classmethod
    def open(cls, path: Path, identity: str, *, resume: bool, persistent: bool) -> Journal:
        """Begin a journal, or go on with one.

        Raises:
            CannotResume: there is one and `resume` was not asked for, or it is of another replay, or the store forgot what it held.

        """
        if not path.exists():
            path.write_bytes(orjson.dumps({"replay": identity}) + b"\n")
            return cls(path)
        if path.with_name(RESULT).exists():
            raise CannotResume(f"{path.parent} holds a finished replay, whose result is {RESULT}: name an empty folder")
        if not resume:
            raise CannotResume(
                f"{path.parent} holds an interrupted replay: add --resume to go on, or name an empty folder"
            )
        lines = _whole_lines(path)
        if next(lines, {}).get("replay") != identity:
            raise CannotResume(
                f"{path.parent} holds a replay of another trace, or with other options: name an empty folder"
            )
        if not persistent:
            raise CannotResume(
                "the R2 double keeps nothing when it stops, so this replay cannot be resumed: name an empty folder"
            )
        journal = cls(path, runs=2)
        for line in lines:
            journal._again(line)
        journal.append({"resumed": journal.position})
        return journal

    def append(self, line: Mapping[str, Any]) -> None:
        """Add a line, whole and at once."""
        with self.path.open("ab") as file:
            file.write(orjson.dumps(dict(line)) + b"\n")

    def finished(self, totals: Totals) -> None:
        """Note a finished segment."""
        line = {"position": self.position + totals.replayed, "totals": totals.as_json()}
        self._again(line)
        self.append(line)

    def _again(self, line: Mapping[str, Any]) -> None:
        if "resumed" in line:
            self.runs += 1
            return
        self.position = line["position"]
        self.segments += 1
        self.totals.add(line["totals"])


def _whole_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Give the lines of a journal one by one. One that was being written when the replay broke off is cut off: its segment is replayed.

    Raises:
        CannotResume: a line is none of a journal's.

    """
    with path.open("r+b") as file:
        number = 0
        while line := file.readline():
            number += 1
            if not line.endswith(b"\n"):
                file.seek(-len(line), 1)
                file.truncate()
                return
            try:
                yield orjson.loads(line)
            except orjson.JSONDecodeError as error:
                raise CannotResume(
                    f"{path}:{number}: {error}; this replay cannot be resumed: name an empty folder"
                ) from None
