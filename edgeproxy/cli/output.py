"""What every command prints alike: JSON, columns, progress; and options that several have."""

# ruff: noqa: PLC0415 - imports are made when a command runs, so that --help is quick

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final, TypedDict

import typer


class _Quick(TypedDict):
    add_completion: bool
    rich_markup_mode: None
    pretty_exceptions_enable: bool


QUICK: Final[_Quick] = {"add_completion": False, "rich_markup_mode": None, "pretty_exceptions_enable": False}
"""Options of every `Typer` here: rich's help and tracebacks cost a third of a second at each start."""

Config = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Settings file; default: edgeproxy.toml, if it is here.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

UNUSED: Final[Mapping[str, str]] = {"policy": "store:", "signing_keys": "unused"}
"""Defaults for commands that neither decide nor sign, so that nobody has to set these for them."""

Report = Callable[[str, int, int | None], None]


def print_json(value: Any) -> None:
    """Print a value as indented JSON."""
    import orjson

    typer.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


def print_columns(rows: Iterable[Sequence[object]]) -> None:
    """Print rows in aligned columns, whole: nothing is cut to the width of a terminal."""
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    for row in texts:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@contextmanager
def progress() -> Iterator[Report]:
    """Show a progress bar on standard error, if that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _what, _done, _total: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, Any] = {}

        def report(what: str, done: int, total: int | None) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total, description=f"{what} {done}")

        yield report
