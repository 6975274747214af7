"""The command. Exit codes: 0 done, 1 a sample failed, 2 wrong usage or something is missing, 130 interrupted."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar

from benchmarks.peers import chart, report, result
from benchmarks.peers.figures import Contender, RowName
from benchmarks.peers.report import NoPlace
from benchmarks.peers.result import Result, ResultError

OK, FAILED, WRONG, INTERRUPTED = 0, 1, 2, 130
HERE: Final = Path(__file__).parent
README: Final = HERE.parent / "README.md"
RESULT: Final = "result.json"
CHART: Final = "chart.svg"
_Name = TypeVar("_Name", RowName, Contender)


class Wrong(ValueError):
    """An argument is wrong in a way that argparse cannot see."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; give its exit code."""
    given = _parser().parse_args(arguments)
    if given.programs:
        # Read when the tools of the tests are imported, which is later.
        os.environ["EDGEPROXY_TEST_PROGRAMS"] = os.pathsep.join(
            filter(None, (given.programs, os.environ.get("EDGEPROXY_TEST_PROGRAMS")))
        )
    from benchmarks.peers.machine import CannotRun  # noqa: PLC0415

    try:
        return _run(given)
    except (CannotRun, NoPlace, ResultError, Wrong) as error:
        _say(str(error))
        return WRONG
    except OSError as error:
        _say(f"{error.filename}: {error.strerror or error}")
        return WRONG
    except KeyboardInterrupt:
        _say("interrupted")
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers",
        description="How fast is edgeproxy beside its peers, on this machine, in one run, over the same S3 server?",
    )
    parser.add_argument(
        "--rows", type=_names(RowName), default=tuple(RowName), metavar="ROW,...", help=f"of {', '.join(RowName)}"
    )
    parser.add_argument(
        "--contenders",
        type=_names(Contender),
        default=tuple(Contender),
        metavar="WHO,...",
        help=f"of {', '.join(Contender)}",
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="samples of each row (default: 5, quick 2)")
    parser.add_argument(
        "--quick", action="store_true", help="some three minutes: shorter, fewer and smaller; not to be quoted"
    )
    parser.add_argument("--output", "-o", type=Path, metavar="DIR", help=f"write {RESULT} and {CHART} there")
    parser.add_argument("--programs", metavar="DIR:...", help="where to look for programs before PATH")
    parser.add_argument("--scratch", type=Path, metavar="DIR", help="where the S3 server keeps its objects meanwhile")
    parser.add_argument(
        "--from", dest="source", type=Path, metavar=RESULT, help="measure nothing; tell of an earlier run"
    )
    parser.add_argument(
        "--write-readme",
        action="store_true",
        help=f"also put the tables into benchmarks/README.md, {RESULT} and {CHART} beside the code",
    )
    return parser


def _names(kind: type[_Name]) -> Callable[[str], tuple[_Name, ...]]:
    def read(text: str) -> tuple[_Name, ...]:
        try:
            return tuple(kind(name) for name in text.split(","))
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{error}; known are {', '.join(kind)}") from None

    return read


def _run(given: argparse.Namespace) -> int:
    if given.rounds is not None and given.rounds < 1:
        raise Wrong("--rounds is at least 1")
    found = result.load(given.source) if given.source is not None else _measure(given)
    if given.output is not None:
        given.output.mkdir(parents=True, exist_ok=True)
        _write(found, given.output)
    if given.write_readme:
        if found.quick:
            raise Wrong("a quick run is not put into the page: run without --quick")
        README.write_text(report.put(README.read_text(encoding="utf-8"), found), encoding="utf-8")
        _write(found, HERE)
    print(report.plain(found), end="")
    for failure in found.failures:
        _say(f"failed: {failure}")
    return FAILED if found.failures else OK


def _measure(given: argparse.Namespace) -> Result:
    # Only this needs the programs and the tools of the tests, which start them.
    from benchmarks.egress.progress import progress  # noqa: PLC0415
    from benchmarks.peers import machine, measuring, running  # noqa: PLC0415

    for name in running.needed(given.rows):
        machine.program(name)
    size = measuring.QUICK if given.quick else measuring.FULL
    size = replace(size, rounds=given.rounds or size.rounds)
    missing = running.missing(given.contenders)
    for contender, why in missing.items():
        _say(f"{contender} does not take part: {why}")
    contenders = tuple(each for each in given.contenders if each not in missing)
    rows = tuple(name for name in RowName if name in given.rows)
    plan = running.Plan(rows, contenders, size)
    if not plan.total():
        raise Wrong("none of these contenders takes part in any of these rows")
    load = os.getloadavg()[0]
    if load > 0.5:
        _say(f"this machine is busy (load {load:.1f}): the figures will be a trial only")
    began = datetime.now(UTC)
    with tempfile.TemporaryDirectory(prefix="peers-", dir=given.scratch) as folder, progress() as bars:
        comparison = running.Comparison(plan, Path(folder), _say, bars("measuring", plan.total()))
        asyncio.run(comparison.run())
    return Result(
        date=began.isoformat(timespec="seconds"),
        quick=given.quick,
        machine=machine.described(),
        load=load,
        programs=asyncio.run(machine.versions()),
        size=asdict(size),
        missing=missing,
        samples=comparison.taken,
    )


def _write(found: Result, folder: Path) -> None:
    result.write(found, folder / RESULT)
    (folder / CHART).write_text(chart.draw(found), encoding="utf-8")


def _say(line: str) -> None:
    print(f"peers: {line}", file=sys.stderr)
