"""`edgeproxy audit`: reading what the audit has written."""

# ruff: noqa: PLC0415 - imports are made when a command runs, so that --help is quick

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from edgeproxy.cli.output import QUICK, Json, print_columns, print_json
from edgeproxy.command import WRONG, fail

if TYPE_CHECKING:
    from edgeproxy.audit_summary import Summary

app = typer.Typer(help="Read audit lines.", no_args_is_help=True, **QUICK)

_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


@app.callback()
def _group() -> None:
    pass


@app.command()
def summary(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Files of audit lines; - is standard input.")],
    as_json: Json = False,
) -> None:
    """Print who pulled how much of what.

    Pulls and pushes are manifests; bytes are what was handed out, blobs that the store delivered among them.
    """
    from edgeproxy.audit_summary import Summary

    found = Summary()
    for name in files:
        with ExitStack() as stack:
            try:
                stream = sys.stdin.buffer if name == "-" else stack.enter_context(Path(name).open("rb"))
                found.read(name, stream)
            except OSError as error:
                fail(f"{name}: {error.strerror}", WRONG)
    if as_json:
        print_json(found.as_json())
    else:
        _print(found)
    for place in found.malformed_places:
        typer.echo(f"edgeproxy: {place}: not an audit line", err=True)
    if found.malformed > len(found.malformed_places):
        typer.echo(f"edgeproxy: {found.malformed} lines are no audit lines; the first are named above", err=True)


def _print(found: Summary) -> None:
    head = ("ISSUER", "SUBJECT", "REPOSITORY", "PULLS", "BLOBS", "BYTES", "PUSHES", "DELETES", "DENIED")
    rows = [
        (
            key.issuer or "-",
            key.subject or "(anonymous)",
            key.repository or "-",
            *(str(number) for number in (counted.pulls, counted.blobs)),
            _size(counted.bytes),
            *(str(number) for number in (counted.pushes, counted.deletes, counted.denials)),
        )
        for key, counted in found.rows()
    ]
    print_columns([head, *rows])
    typer.echo(f"{found.lines} lines, {found.malformed} malformed")


def _size(number: int) -> str:
    size, unit = float(number), 0
    while size >= 1024 and unit < len(_UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{number} B" if unit == 0 else f"{size:.1f} {_UNITS[unit]}"
