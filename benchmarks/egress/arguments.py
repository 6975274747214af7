"""What can be said on the command line."""

from __future__ import annotations

import argparse
from dataclasses import fields
from datetime import date
from pathlib import Path
from typing import Final, get_type_hints

from benchmarks.egress import places, price_files, synthetic
from benchmarks.egress.workloads import Format

TARGETS: Final = ("edgeproxy-redirect", "edgeproxy-proxy", "distribution-redirect", "distribution-proxy")
STORES: Final = ("versitygw", "r2-double", "file")


def parser() -> argparse.ArgumentParser:
    """Make the parser. What it gives has the name of the command in `command`."""
    whole = argparse.ArgumentParser(
        prog="python -m benchmarks.egress",
        description="What does a month of a registry's traffic cost, here and elsewhere?",
    )
    commands = whole.add_subparsers(required=True, metavar="COMMAND", dest="command")
    _estimate_parser(commands.add_parser("estimate", help="what would my registry cost here? from an access log"))
    _generate_parser(commands.add_parser("generate", help="write a synthetic trace"))
    _replay_parser(commands.add_parser("replay", help="replay a trace through a running registry, and count"))
    price = commands.add_parser("price", help="price the results of replays: every line of every bill")
    _priced(price)
    tables = commands.add_parser("report", help="table, chart and sentence over the results of replays")
    _priced(tables)
    return whole


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
        "--format",
        type=Format,
        choices=list(Format),
        default=None,
        help="what the file is: a trace in the format of IBM's, a log of distribution, an access log in the combined format "
        "(nginx, Apache), an audit file of edgeproxy (default: found out by the first lines)",
    )
    parser.add_argument("--strict", action="store_true", help="refuse malformed lines instead of skipping them")


def _estimate_parser(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("logs", nargs="+", type=Path, metavar="LOG")
    parser.add_argument(
        "--blob-bytes", type=_bytes, metavar="N", help="mean size of blobs whose size the log does not tell"
    )
    parser.add_argument(
        "--stored-bytes", type=_bytes, metavar="N", help="what the bucket holds; default: what the log has seen"
    )
    _reading_options(parser)
    _pricing_options(parser, "month")


def _generate_parser(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", "-o", type=Path, default=None, metavar="FILE", help="default: standard output")
    kinds, defaults = get_type_hints(synthetic.Parameters), synthetic.Parameters()
    for field in fields(synthetic.Parameters):
        kind = kinds[field.name]
        option = f"--{field.name.replace('_', '-')}"
        default = getattr(defaults, field.name)
        text = f"{synthetic.ABOUT[field.name]} (default: {default})"
        if field.name == "profile":
            parser.add_argument(option, choices=("hub", "ibm"), default=default, help=text)
        else:
            parser.add_argument(option, type=kind, default=default, metavar="N", help=text)


def _replay_parser(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("traces", nargs="+", type=Path, metavar="TRACE")
    parser.add_argument("--target", choices=TARGETS, default="edgeproxy-redirect")
    parser.add_argument(
        "--store",
        choices=STORES,
        default="versitygw",
        help="what lies below: an S3 server, our double of R2, or a directory, whose operations are not seen (default: versitygw)",
    )
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


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no date like 2026-11-24") from None


def _bytes(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of bytes")
    return int(text)
