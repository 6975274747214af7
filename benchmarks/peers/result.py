"""What a run leaves behind: every sample, with what it was taken on. Written as JSON and read again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from benchmarks.peers.figures import ROWS, Contender, RowName, Sample, Samples, summary, verdicts

VERSION: Final = 1


class ResultError(ValueError):
    """A file is no result of ours. The message says which and why."""


@dataclass(frozen=True, slots=True)
class Result:
    """One run. `load` is the load average of the machine before it began; `missing` says who did not take part, and why."""

    date: str
    quick: bool
    machine: Mapping[str, Any]
    load: float
    programs: Mapping[str, str]
    size: Mapping[str, float]
    missing: Mapping[Contender, str]
    samples: Samples

    @property
    def busy(self) -> bool:
        """Tell whether other work ran on the machine when it began, so that the figures are a trial only."""
        return self.load > 0.5

    @property
    def failures(self) -> list[str]:
        """Say what failed."""
        return [
            f"{row}, {contender.called}: {sample.failure}"
            for row, by_contender in self.samples.items()
            for contender, taken in by_contender.items()
            for sample in taken
            if sample.failure
        ]

    def as_json(self) -> dict[str, Any]:
        """Give it with medians and verdicts, which are there for readers and computed again when it is loaded."""
        return {
            "version": VERSION,
            "date": self.date,
            "quick": self.quick,
            "machine": dict(self.machine),
            "load": self.load,
            "programs": dict(self.programs),
            "size": dict(self.size),
            "missing": dict(self.missing),
            "medians": self._medians(),
            "to_reach": [
                {
                    "row": verdict.goal.row,
                    "contender": verdict.goal.contender,
                    "goal": str(verdict.goal),
                    "figure": verdict.figure,
                    "reached": verdict.reached,
                }
                for verdict in verdicts(self.samples)
            ],
            "samples": {
                row: {
                    contender: [{"figures": dict(sample.figures), "failure": sample.failure} for sample in taken]
                    for contender, taken in by_contender.items()
                }
                for row, by_contender in self.samples.items()
            },
        }

    def _medians(self) -> dict[str, dict[str, dict[str, list[float]]]]:
        told: dict[str, dict[str, dict[str, list[float]]]] = {}
        for row, by_contender in self.samples.items():
            for contender in by_contender:
                for measure in ROWS[row].measures:
                    found = summary(self.samples, row, contender, measure.name)
                    if found is not None:
                        figures = [found.median, found.least, found.most]
                        told.setdefault(row, {}).setdefault(contender, {})[measure.name] = figures
        return told


def write(result: Result, path: Path) -> None:
    """Write a result."""
    path.write_bytes(
        orjson.dumps(result.as_json(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS)
    )


def load(path: Path) -> Result:
    """Read a result.

    Raises:
        ResultError: it cannot be read, or is something else.

    """
    try:
        told = orjson.loads(path.read_bytes())
        if told["version"] != VERSION:
            raise ResultError(f"{path}: a result of version {told['version']}; this program reads version {VERSION}")
        return Result(
            date=told["date"],
            quick=told["quick"],
            machine=told["machine"],
            load=told["load"],
            programs=told["programs"],
            size=told["size"],
            missing={Contender(name): why for name, why in told["missing"].items()},
            samples={
                RowName(row): {
                    Contender(name): [Sample(each["figures"], each["failure"]) for each in taken]
                    for name, taken in by_contender.items()
                }
                for row, by_contender in told["samples"].items()
            },
        )
    except OSError as error:
        raise ResultError(f"{path}: {error.strerror}") from None
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ResultError(f"{path}: this is no result of the comparison ({error!r})") from None
    except ValueError as error:
        raise error if isinstance(error, ResultError) else ResultError(f"{path}: {error}") from None
