"""Progress bars, on a terminal only."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Advance = Callable[[float], None]
Begin = Callable[[str, float | None], Advance]
"""Begins a bar: what goes on, and how much of it there is, None if nobody knows. Gives what to tell the progress to."""


@contextmanager
def progress() -> Iterator[Begin]:
    """Show bars on a terminal, and nothing elsewhere."""
    console = Console(file=sys.stderr)
    columns = (TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not sys.stderr.isatty()) as bars:

        def begin(what: str, total: float | None) -> Advance:
            task = bars.add_task(what, total=total)
            return lambda amount: bars.advance(task, amount)

        yield begin
