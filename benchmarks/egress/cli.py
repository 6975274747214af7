"""The commands of the harness. Exit codes: 0 done, 1 a check failed, 2 wrong usage or bad input, 130 interrupted."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Final

import orjson

from benchmarks.egress import places, report, result, synthetic
from benchmarks.egress import usage as used
from benchmarks.egress.arguments import parser
from benchmarks.egress.estimate import observe, usage
from benchmarks.egress.price_files import PriceError
from benchmarks.egress.pricing import Bill, Pricer
from benchmarks.egress.progress import Advance, progress
from benchmarks.egress.result import ResultError
from benchmarks.egress.usage import Usage
from benchmarks.egress.workload import Reading, Refused, Request
from benchmarks.egress.workloads import read

OK, FAILED, WRONG, INTERRUPTED = 0, 1, 2, 130


class Wrong(ValueError):
    """An argument is wrong in a way that argparse cannot see."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; give its exit code."""
    given = parser().parse_args(arguments)
    try:
        code = _COMMANDS[given.command](given)
    except (PriceError, Refused, ResultError, Wrong) as error:
        _say(str(error))
        return WRONG
    except KeyboardInterrupt:
        _say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        return OK
    return code


def _estimate(given: argparse.Namespace) -> int:
    reading = Reading(strict=given.strict)
    with progress() as bars:
        advance = bars("reading", None)
        seen = observe(_told(read(given.logs, reading, given.format), advance), given.blob_bytes)
    for line in reading.told():
        _say(line)
    _say(f"{reading.taken} requests read, {reading.passed_over} lines tell of none")
    if not reading.taken:
        raise Wrong(f"{given.logs[0]}: no requests to a registry in it")
    if seen.unknown:
        _say(f"{seen.unknown} pulls of blobs were redirected, and the log does not tell their size")
        if not seen.guessed:
            raise Wrong(
                "the size of no blob is known: give --blob-bytes N, the mean of your layers (bytes of the bucket by its blobs)"
            )
        _say(f"{report.size(seen.guessed)} each is assumed; --blob-bytes N says otherwise")
    usages = [usage(seen, "redirect"), usage(seen, "proxy")]
    if given.stored_bytes is not None:
        usages = [used.usage_of(each.as_json() | {"storage": given.stored_bytes}) for each in usages]
    return _tell(given, usages)


def _told(requests: Iterable[Request], advance: Advance) -> Iterator[Request]:
    """Tell the progress of a reading, now and then."""
    for number, request in enumerate(requests, 1):
        if number % 1000 == 0:
            advance(1000)
        yield request


def _generate(given: argparse.Namespace) -> int:
    names = [field.name for field in fields(synthetic.Parameters)]
    try:
        parameters = synthetic.Parameters(**{name: getattr(given, name) for name in names})
    except ValueError as error:
        raise Wrong(str(error)) from None
    if given.output is None:
        sys.stdout.buffer.writelines(synthetic.lines(parameters))
    else:
        with given.output.open("wb") as file:
            file.writelines(synthetic.lines(parameters))
    return OK


def _replay(given: argparse.Namespace) -> int:
    # Only this command needs the programs and the tools of the tests, which start them.
    from benchmarks.egress import running  # noqa: PLC0415
    from benchmarks.egress.client import Failed  # noqa: PLC0415
    from benchmarks.egress.journal import CannotResume  # noqa: PLC0415
    from benchmarks.egress.replay import Options  # noqa: PLC0415
    from benchmarks.egress.targets import CannotRun, StoreServer, Target  # noqa: PLC0415

    target = Target(given.target)
    if given.no_bodies and target.delivery == "proxy":
        raise Wrong(
            "--no-bodies counts what redirects lead to; in proxy delivery the bytes pass through the registry: leave it out"
        )
    if given.concurrency < 1 or given.segment < 1 or (given.speed is not None and given.speed <= 0):
        raise Wrong("--concurrency and --segment are at least 1, --speed is more than 0")
    options = Options(given.speed, given.concurrency, not given.no_bodies, given.segment)
    replaying = running.replay(
        given.traces, target, StoreServer(given.store), given.output, options,
        form=given.format, strict=given.strict, resume=given.resume, say=_say,
    )  # fmt: skip
    try:
        found = asyncio.run(replaying)
    except (CannotResume, CannotRun) as error:
        raise Wrong(str(error)) from None
    except Failed as error:
        _say(f"the registry cannot be filled: {error}; its log is in {given.output}")
        return FAILED
    except OSError as error:
        raise Wrong(f"{error.filename or given.output}: {error.strerror or error}") from None
    except KeyboardInterrupt:
        _say(f"interrupted; the same command with --resume goes on: {given.output}")
        return INTERRUPTED
    print(orjson.dumps(found.as_json()["figures"], option=orjson.OPT_INDENT_2).decode())
    broken = [check for check in found.checks() if not check.holds]
    for check in broken:
        _say(f"check failed: {check.name}: {check.counted:g} against {check.expected:g} ({check.sources})")
    if found.totals.failed:
        _say(f"{found.totals.failed} requests failed")
    return FAILED if broken or found.totals.failed else OK


def _price(given: argparse.Namespace) -> int:
    bills, pricer, factor = _bills(given, _usages(given))
    if given.json:
        print(
            orjson.dumps(
                report.as_json(bills, factor, pricer.day, pricer.warnings), option=orjson.OPT_INDENT_2
            ).decode()
        )
    else:
        print(report.lines_text(bills), end="")
        print(report.error_text(bills, factor))
        for warning in pricer.warnings:
            _say(f"warning: {warning}")
    _draw(given, bills, factor, pricer)
    return OK


def _report(given: argparse.Namespace) -> int:
    return _tell(given, _usages(given))


def _usages(given: argparse.Namespace) -> list[Usage]:
    found = [result.load(path) for path in given.results]
    for path, one in zip(given.results, found, strict=True):
        if one.store == "file":
            _say(
                f"{path}: what the registry did in its directory was not seen, so only reads of clients are in the operations"
            )
    return [one.usage() for one in found]


def _tell(given: argparse.Namespace, usages: Sequence[Usage]) -> int:
    bills, pricer, factor = _bills(given, usages)
    if given.json:
        print(
            orjson.dumps(
                report.as_json(bills, factor, pricer.day, pricer.warnings), option=orjson.OPT_INDENT_2
            ).decode()
        )
    else:
        print(report.text(bills, factor, pricer.day, pricer.warnings), end="")
    _draw(given, bills, factor, pricer)
    return OK


def _draw(given: argparse.Namespace, bills: Sequence[Bill], factor: float, pricer: Pricer) -> None:
    if given.svg is None:
        return
    try:
        given.svg.write_text(report.svg(bills, factor, pricer.day), encoding="utf-8")
    except OSError as error:
        raise Wrong(f"{given.svg}: {error.strerror}") from None


def _bills(given: argparse.Namespace, usages: Sequence[Usage]) -> tuple[list[Bill], Pricer, float]:
    if max((each.span for each in usages), default=0.0) - min((each.span for each in usages), default=0.0) > 1:
        raise Wrong("these are results of different workloads, which one --scale does not fit: price them one by one")
    try:
        factor = used.scale(given.scale, max((each.span for each in usages), default=0.0))
    except ValueError as error:
        raise Wrong(str(error)) from None
    pricer = Pricer(given.as_of or datetime.now().astimezone().date(), given.prices)
    known = places.elsewhere(places.load(given.places), given.region)
    return pricer.bills(usages, known, factor), pricer, factor


def _say(line: str) -> None:
    print(f"egress: {line}", file=sys.stderr)


_COMMANDS: Final[Mapping[str, Callable[[argparse.Namespace], int]]] = {
    "estimate": _estimate,
    "generate": _generate,
    "replay": _replay,
    "price": _price,
    "report": _report,
}
