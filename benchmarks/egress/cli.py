"""The commands of the harness. Exit codes: 0 done, 1 a check failed, 2 wrong usage or bad input, 130 interrupted."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from dataclasses import fields
from datetime import date, datetime
from pathlib import Path
from typing import get_type_hints

import orjson

from benchmarks.egress import places, price_files, report, result, synthetic
from benchmarks.egress import usage as used
from benchmarks.egress.estimate import observe, usage
from benchmarks.egress.price_files import PriceError
from benchmarks.egress.pricing import Bill, Pricer
from benchmarks.egress.result import ResultError
from benchmarks.egress.usage import Usage
from benchmarks.egress.workload import Reading, Refused
from benchmarks.egress.workloads import Format, read

OK, FAILED, WRONG, INTERRUPTED = 0, 1, 2, 130
TARGETS = ("edgeproxy-redirect", "edgeproxy-proxy", "distribution-redirect", "distribution-proxy")
STORES = ("versitygw", "r2-double")


class Wrong(ValueError):
    """An argument is wrong in a way that argparse cannot see."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; give its exit code."""
    given = _parser().parse_args(arguments)
    try:
        code: int = given.run(given)
    except (PriceError, Refused, ResultError, Wrong) as error:
        _say(str(error))
        return WRONG
    except KeyboardInterrupt:
        _say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        return OK
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="egress", description="What does a month of a registry's traffic cost, here and elsewhere?"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _estimate_parser(commands.add_parser("estimate", help="what would my registry cost here? from an access log"))
    _generate_parser(commands.add_parser("generate", help="write a synthetic trace"))
    _replay_parser(commands.add_parser("replay", help="replay a trace through a running registry, and count"))
    price = commands.add_parser("price", help="price the results of replays: every line of every bill")
    _priced(price)
    price.set_defaults(run=_price)
    whole = commands.add_parser("report", help="table, chart and sentence over the results of replays")
    _priced(whole)
    whole.set_defaults(run=_report)
    return parser


def _priced(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("results", nargs="+", type=Path, metavar="RESULT", help="result.json of a replay")
    _pricing_options(parser, "1x")


def _pricing_options(parser: argparse.ArgumentParser, factor: str) -> None:
    parser.add_argument(
        "--as-of", type=_day, default=None, metavar="DATE", help="prices as known on this day (default: today)"
    )
    parser.add_argument(
        "--scale", default=factor, help=f"how many of the workload are a month: 30x, or month (default: {factor})"
    )
    parser.add_argument("--prices", type=Path, default=price_files.FOLDER, metavar="DIR", help="folder of price files")
    parser.add_argument("--places", type=Path, default=places.FILE, metavar="FILE", help="places to price")
    parser.add_argument(
        "--region", action="append", default=[], metavar="PRICES=REGION", help="another region of a price file"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="also draw the chart")


def _reading_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--format", type=Format, choices=list(Format), default=None, help="default: found out by the first lines"
    )
    parser.add_argument("--strict", action="store_true", help="refuse malformed lines instead of skipping them")


def _estimate_parser(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("logs", nargs="+", type=Path, metavar="LOG")
    parser.add_argument(
        "--blob-bytes", type=int, metavar="N", help="mean size of blobs whose size the log does not tell"
    )
    parser.add_argument(
        "--stored-bytes", type=int, metavar="N", help="what the bucket holds; default: what the log has seen"
    )
    _reading_options(parser)
    _pricing_options(parser, "month")
    parser.set_defaults(run=_estimate)


def _generate_parser(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", "-o", type=Path, default=None, metavar="FILE", help="default: standard output")
    kinds, defaults = get_type_hints(synthetic.Parameters), synthetic.Parameters()
    for field in fields(synthetic.Parameters):
        kind = kinds[field.name]
        option = f"--{field.name.replace('_', '-')}"
        if field.name == "profile":
            parser.add_argument(option, choices=("hub", "ibm"), default=defaults.profile)
        else:
            default = getattr(defaults, field.name)
            parser.add_argument(option, type=kind, default=default, help=f"default: {default}")
    parser.set_defaults(run=_generate)


def _replay_parser(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("traces", nargs="+", type=Path, metavar="TRACE")
    parser.add_argument("--target", choices=TARGETS, default="edgeproxy-redirect")
    parser.add_argument("--store", choices=STORES, default="versitygw", help="the S3 server below (default: versitygw)")
    parser.add_argument(
        "--output", "-o", type=Path, required=True, metavar="DIR", help="everything of this replay is kept here"
    )
    parser.add_argument(
        "--speed", type=float, metavar="N", help="open loop, N times as fast as recorded (default: as fast as possible)"
    )
    parser.add_argument("--concurrency", type=int, default=16, help="requests in flight at most (default: 16)")
    parser.add_argument("--no-bodies", action="store_true", help="count what redirects lead to, and do not fetch it")
    parser.add_argument(
        "--segment", type=int, default=2000, help="requests between two entries of the journal (default: 2000)"
    )
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted replay")
    _reading_options(parser)
    parser.set_defaults(run=_replay)


def _estimate(given: argparse.Namespace) -> int:
    reading = Reading(strict=given.strict)
    seen = observe(read(given.logs, reading, given.format), given.blob_bytes)
    for line in reading.told():
        _say(line)
    if not reading.taken:
        raise Wrong(f"{given.logs[0]}: no requests to a registry in it")
    if seen.unknown:
        size = report.size(seen.guessed)
        _say(f"{seen.unknown} blobs were redirected, and the log does not tell their size")
        _say(f"{size} each is assumed; --blob-bytes N says otherwise")
        if not seen.guessed:
            raise Wrong("no size of any blob is known: give --blob-bytes N, the mean size of your layers")
    usages = [usage(seen, "redirect"), usage(seen, "proxy")]
    if given.stored_bytes is not None:
        usages = [used.usage_of(each.as_json() | {"storage": given.stored_bytes}) for each in usages]
    return _tell(given, usages)


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
    usages = [result.load(path).usage() for path in given.results]
    bills, pricer, factor = _bills(given, usages)
    if given.json:
        print(
            orjson.dumps(
                report.as_json(bills, factor, pricer.day, pricer.warnings), option=orjson.OPT_INDENT_2
            ).decode()
        )
    else:
        print(report.lines_text(bills), end="")
        for warning in pricer.warnings:
            _say(f"warning: {warning}")
    return OK


def _report(given: argparse.Namespace) -> int:
    return _tell(given, [result.load(path).usage() for path in given.results])


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
    if given.svg is not None:
        given.svg.write_text(report.svg(bills, factor, pricer.day), encoding="utf-8")
    return OK


def _bills(given: argparse.Namespace, usages: Sequence[Usage]) -> tuple[list[Bill], Pricer, float]:
    try:
        factor = used.scale(given.scale, max((each.span for each in usages), default=0.0))
    except ValueError as error:
        raise Wrong(str(error)) from None
    pricer = Pricer(given.as_of or datetime.now().astimezone().date(), given.prices)
    known = places.elsewhere(places.load(given.places), given.region)
    return pricer.bills(usages, known, factor), pricer, factor


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no date like 2026-11-24") from None


def _say(line: str) -> None:
    print(f"egress: {line}", file=sys.stderr)
