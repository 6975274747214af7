"""Says what a run found: tables for a terminal and for a page, with the figures to reach beside each row. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from benchmarks.peers.figures import (
    CPU_1000,
    RATE,
    RIVAL,
    ROWS,
    SECONDS,
    Contender,
    Measure,
    Row,
    RowName,
    Spread,
    Verdict,
    ratio,
    summary,
    verdicts,
)
from benchmarks.peers.result import Result

BEGIN: Final = "<!-- written by python -m benchmarks.peers --write-readme: begin -->"
END: Final = "<!-- written by python -m benchmarks.peers --write-readme: end -->"
_RATIOS: Final = {
    RATE: ("x distribution", "of bare", "CPU x distribution"),
    SECONDS: ("x distribution",),
}
"""Measures whose ratios say something. That of CPU says it even where other work made everything slow."""


class NoPlace(ValueError):
    """A page has no place for the tables. The message says what to put there."""


@dataclass(frozen=True, slots=True)
class Table:
    """Cells; the first column is the work, the second who does it."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def number(figure: float, digits: int) -> str:
    """Write a figure as people read it."""
    return f"{figure:,.{digits}f}"


def spread(found: Spread | None, digits: int) -> str:
    """Write a median, with its spread where there is one."""
    if found is None:
        return ""
    median, least, most = (number(each, digits) for each in (found.median, found.least, found.most))
    return median if least == most else f"{median} ({least}-{most})"


def judged(verdict: Verdict) -> str:
    """Say what is to be reached, and whether it is."""
    goal = verdict.goal
    sign = ">=" if goal.measure.more else "<" if goal.strict else "<="
    if goal.versus is None:
        what, digits = f"{goal.measure.title} {sign} {goal.bound:g}", goal.measure.digits
    else:
        what, digits = f"{sign} {goal.bound:g} x {goal.versus.family}", 2
    if verdict.reached is None:
        return f"{what}: not known"
    outcome = "yes" if verdict.reached else "NO"
    return f"{what}: {outcome}" + (f", {number(verdict.figure, digits)}" if verdict.figure is not None else ", failed")


def tables(result: Result) -> list[Table]:
    """Make the tables: one for all rows that have the same measures."""
    rows = [ROWS[name] for name in RowName if name in result.samples]
    judgements: dict[tuple[RowName, Contender], list[str]] = {}
    for verdict in verdicts(result.samples):
        judgements.setdefault((verdict.goal.row, verdict.goal.contender), []).append(judged(verdict))
    made = []
    for measures, group in groupby(rows, lambda row: row.measures):
        ratios = _RATIOS.get(measures[0], ())
        head = ("work", "who", measures[0].title, *ratios, *(each.title for each in measures[1:]), "to reach")
        lines: list[tuple[str, ...]] = []
        for row in group:
            for contender, taken in result.samples[row.name].items():
                first = row.title if contender is next(iter(result.samples[row.name])) else ""
                failed = next((sample.failure for sample in taken if sample.failure), "")
                cells = _failed(failed, len(head)) if failed else _cells(result, row, contender, measures, len(ratios))
                reach = "; ".join(judgements.get((row.name, contender), []))
                lines.append((first, contender.called, *cells, reach))
        made.append(Table(head, tuple(lines)))
    return made


def _failed(why: str, columns: int) -> list[str]:
    return [f"FAILED: {why[:120]}", *[""] * (columns - 4)]


def _cells(result: Result, row: Row, contender: Contender, measures: Sequence[Measure], ratios: int) -> Iterator[str]:
    found = [spread(summary(result.samples, row.name, contender, each.name), each.digits) for each in measures]
    yield found[0]
    ceiling = contender.ceiling if row.name is RowName.BLOB else None
    beside = ((RIVAL, measures[0]), (ceiling, measures[0]), (RIVAL, CPU_1000))[:ratios]
    for other, measure in beside:
        if other is None or other is contender:
            yield ""
        else:
            yield spread(ratio(result.samples, row.name, contender, other, measure.name), 2)
    yield from found[1:]


def conclusion(result: Result) -> str:
    """Say in a sentence how many figures are reached, and which are not."""
    found = verdicts(result.samples)
    missed = [f"{each.goal.row} ({each.goal.contender.called})" for each in found if each.reached is False]
    unknown = sum(each.reached is None for each in found)
    text = f"{sum(each.reached is True for each in found)} of {len(found)} figures are reached"
    if unknown:
        text += f", {unknown} could not be compared"
    return text + (f"; not reached: {', '.join(dict.fromkeys(missed))}." if missed else ".")


def about(result: Result) -> list[str]:
    """Say what it was measured on, and what limits the figures."""
    machine, size = result.machine, result.size
    programs = ", ".join(f"{name} {version}" for name, version in result.programs.items())
    where = f"{machine['cores']} cores of {machine['processor']}, {machine['memory_gib']:g} GiB, {machine['system']}"
    pushes = f"{size['pushes']:g} pushes of {size['push_mib']:g} MiB at once"
    lines = [
        f"{result.date[:10]}, {where}, Python {machine['python']}; {programs}.",
        f"Medians of {size['rounds']:g} rounds, with the smallest and the largest in brackets.",
        f"{size['seconds']:g} s of wrk; {size['tags']:,g} tags; a layer of {size['layer_mib']:,g} MiB; {pushes}.",
    ]
    if result.quick:
        lines.append("This was a quick run: too short and too small to be quoted.")
    if result.busy:
        lines.append(f"The machine was busy when it began (load {result.load:.1f}): these figures are a trial only.")
    lines += [f"{contender.called} is missing: {why}." for contender, why in result.missing.items()]
    return lines


def markdown(result: Result) -> str:
    """Write everything for a page."""
    parts = [" ".join(about(result)), conclusion(result)]
    for table in tables(result):
        lines = [table.head, tuple("---" for _ in table.head), *table.rows]
        parts.append("\n".join("| " + " | ".join(_escaped(cell) for cell in line) + " |" for line in lines))
    return "\n\n".join(parts)


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|").replace("<", "&lt;").replace("NO,", "**no**,").replace("FAILED", "**failed**")


def plain(result: Result) -> str:
    """Write everything for a terminal."""
    parts = []
    for table in tables(result):
        lines = [table.head, *table.rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(table.head))]
        parts.append("\n".join(_aligned(line, widths) for line in lines))
    return "\n\n".join([*parts, "\n".join(about(result)), conclusion(result)]) + "\n"


def _aligned(line: Sequence[str], widths: Sequence[int]) -> str:
    words = zip(line, widths, range(len(line)), strict=True)
    text = (
        cell.ljust(width) if column < 2 or column == len(line) - 1 else cell.rjust(width)
        for cell, width, column in words
    )
    return "  ".join(text).rstrip()


def put(page: str, result: Result) -> str:
    """Put the tables between the marks of a page, in place of what is there.

    Raises:
        NoPlace: the page has not both marks, once each, in this order.

    """
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    if page.count(BEGIN) != 1 or page.count(END) != 1 or END not in rest:
        raise NoPlace(f"the page needs the two lines\n{BEGIN}\n{END}")
    return f"{before}{BEGIN}\n\n{markdown(result)}\n\n{END}{after}"
