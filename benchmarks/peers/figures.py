"""The rows of the comparison, the figures to reach, and the arithmetic between samples and verdicts. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Contender(StrEnum):
    """Who takes part. One process each on one core, but for those that end with `-2`: they have two workers on two cores."""

    EDGEPROXY_GRANIAN = "edgeproxy-granian"
    EDGEPROXY_HYPERCORN = "edgeproxy-hypercorn"
    EDGEPROXY_GRANIAN_2 = "edgeproxy-granian-2"
    EDGEPROXY_HYPERCORN_2 = "edgeproxy-hypercorn-2"
    DISTRIBUTION_TOKEN = "distribution-token"
    DISTRIBUTION_OPEN = "distribution-open"
    ZOT = "zot"
    BARE_GRANIAN = "bare-granian"
    BARE_HYPERCORN = "bare-hypercorn"

    @property
    def family(self) -> str:
        """What program it is; those of a family share a bucket. `bare` is an application that only answers a fixed 307."""
        return self.value.partition("-")[0]

    @property
    def server(self) -> str:
        """The ASGI server below, where there is one."""
        return self.value.split("-")[1] if self.family in {"edgeproxy", "bare"} else ""

    @property
    def workers(self) -> int:
        """How many processes serve."""
        return 2 if self.value.endswith("-2") else 1

    @property
    def called(self) -> str:
        """What a table calls it."""
        return _TITLES[self]

    @property
    def ceiling(self) -> Contender | None:
        """The bare server that it is held against."""
        if self.family != "edgeproxy":
            return None
        return Contender(f"bare-{self.server}")


_TITLES: Final = {
    Contender.EDGEPROXY_GRANIAN: "edgeproxy, granian",
    Contender.EDGEPROXY_HYPERCORN: "edgeproxy, hypercorn",
    Contender.EDGEPROXY_GRANIAN_2: "edgeproxy, granian, 2 workers",
    Contender.EDGEPROXY_HYPERCORN_2: "edgeproxy, hypercorn, 2 workers",
    Contender.DISTRIBUTION_TOKEN: "distribution, token check",
    Contender.DISTRIBUTION_OPEN: "distribution, no check",
    Contender.ZOT: "zot, no check",
    Contender.BARE_GRANIAN: "bare granian",
    Contender.BARE_HYPERCORN: "bare hypercorn",
}
OURS: Final = (Contender.EDGEPROXY_GRANIAN, Contender.EDGEPROXY_HYPERCORN)
RIVAL: Final = Contender.DISTRIBUTION_TOKEN
"""Whom ratios are to: it answers the same question, with a credential, as we do."""


class RowName(StrEnum):
    """The rows, by the names that `--rows` takes."""

    BLOB = "blob"
    DIGEST = "digest"
    TAG = "tag"
    TAGS = "tags"
    PUT = "put"
    PATCH = "patch"
    PUSHES = "pushes"
    CALLS = "calls"
    START = "start"


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure of a sample. `more` tells whether a larger one is better; `digits` are those behind the point."""

    name: str
    title: str
    digits: int
    more: bool = False


RATE: Final = Measure("rate", "requests/s", 0, more=True)
CPU_1000: Final = Measure("cpu_1000", "CPU s per 1,000", 3)
P99: Final = Measure("p99_ms", "p99 ms", 1)
SECONDS: Final = Measure("seconds", "seconds", 2)
CPU: Final = Measure("cpu", "CPU s", 2)
PEAK: Final = Measure("peak_mib", "peak RSS MiB", 0)
RSS: Final = Measure("rss_mib", "RSS MiB", 0)
COLD: Final = Measure("cold", "calls, cold pull", 0)
WARM: Final = Measure("warm", "calls, warm pull", 0)
COLD_BYTES: Final = Measure("cold_bytes", "store bytes, cold", 0)
WARM_BYTES: Final = Measure("warm_bytes", "store bytes, warm", 0)
_REQUESTS: Final = (RATE, CPU_1000, P99, PEAK)
_PUSHED: Final = (SECONDS, CPU, PEAK)
_ANSWERING: Final = tuple(each for each in Contender if each.family != "bare")
_PUSHING: Final = (*OURS, RIVAL, Contender.ZOT)


@dataclass(frozen=True, slots=True)
class Row:
    """One question. The first measure is the one that contenders are compared by."""

    name: RowName
    title: str
    measures: tuple[Measure, ...]
    contenders: tuple[Contender, ...]

    @property
    def main(self) -> Measure:
        """What the chart shows."""
        return self.measures[0]


ROWS: Final = {
    row.name: row
    for row in (
        Row(RowName.BLOB, "warm blob GET -> 307", _REQUESTS, tuple(Contender)),
        Row(RowName.DIGEST, "manifest by digest, warm", _REQUESTS, _ANSWERING),
        Row(RowName.TAG, "manifest by tag, one hot tag", _REQUESTS, _ANSWERING),
        Row(RowName.TAGS, "manifest by tag, many tags at random", _REQUESTS, _ANSWERING),
        Row(RowName.PUT, "push of one large layer, PUT with digest", _PUSHED, _PUSHING),
        Row(RowName.PATCH, "push of one large layer, PATCH + PUT", _PUSHED, _PUSHING),
        Row(RowName.PUSHES, "many pushes at once, half PUT, half PATCH", _PUSHED, _PUSHING),
        Row(RowName.CALLS, "pull of a 6-layer image, store calls", (COLD, WARM, COLD_BYTES, WARM_BYTES), _PUSHING),
        Row(RowName.START, "first answer after start", (SECONDS, RSS, CPU), _PUSHING),
    )
}


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement: figures by the names of measures, or why there are none."""

    figures: Mapping[str, float]
    failure: str = ""


Samples = Mapping[RowName, Mapping[Contender, Sequence[Sample]]]
"""Every sample, in the order of rounds."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A median with the smallest and the largest."""

    median: float
    least: float
    most: float


def spread(figures: Sequence[float]) -> Spread:
    """Make a median and its spread; there is at least one figure."""
    return Spread(statistics.median(figures), min(figures), max(figures))


def figures_of(samples: Samples, row: RowName, contender: Contender, measure: str) -> list[float]:
    """Give a measure of every round; nothing if any round failed, as a median of what went well says little."""
    taken = samples.get(row, {}).get(contender, ())
    if not taken or any(sample.failure for sample in taken):
        return []
    return [sample.figures[measure] for sample in taken]


def summary(samples: Samples, row: RowName, contender: Contender, measure: str) -> Spread | None:
    """Give median and spread, or None where it was not measured or failed."""
    figures = figures_of(samples, row, contender, measure)
    return spread(figures) if figures else None


def ratio(samples: Samples, row: RowName, contender: Contender, other: Contender, measure: str) -> Spread | None:
    """Give the ratio of two medians; its spread is that of the ratios within each round, as rounds are taken in turn."""
    ours, theirs = (figures_of(samples, row, each, measure) for each in (contender, other))
    if not ours or not theirs or not all(theirs):
        return None
    each = [one / another for one, another in zip(ours, theirs, strict=False)]
    return Spread(statistics.median(ours) / statistics.median(theirs), min(each), max(each))


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure to reach: a bound on a measure, or on its ratio to another contender's."""

    row: RowName
    contender: Contender
    measure: Measure
    bound: float
    versus: Contender | None = None
    strict: bool = False

    def __str__(self) -> str:
        """Say it."""
        sign = ">=" if self.measure.more else "<" if self.strict else "<="
        if self.versus is None:
            return f"{self.measure.title} {sign} {self.bound:g}"
        return f"{self.measure.title} {sign} {self.bound:g} x {self.versus.called}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a goal. `figure` is None where it could not be computed; then it is not reached, or not known."""

    goal: Goal
    figure: float | None
    reached: bool | None


def _goals() -> tuple[Goal, ...]:
    goals = []
    requests = {
        RowName.BLOB: (4, 1.4),
        RowName.DIGEST: (8, 2.5),
        RowName.TAG: (5, 2.5),
        RowName.TAGS: (2, 1.5),
    }
    for row, factors in requests.items():
        goals += [Goal(row, ours, RATE, factor, RIVAL) for ours, factor in zip(OURS, factors, strict=True)]
    for ours, part in zip(OURS, (0.5, 0.8), strict=True):
        goals.append(Goal(RowName.BLOB, ours, RATE, part, ours.ceiling))
    for ours in OURS:
        goals += [
            Goal(RowName.PUT, ours, SECONDS, 0.6, RIVAL),
            Goal(RowName.PATCH, ours, SECONDS, 0.8, RIVAL),
            Goal(RowName.PUSHES, ours, SECONDS, 1, RIVAL, strict=True),
            Goal(RowName.PUSHES, ours, SECONDS, 1, Contender.ZOT, strict=True),
            Goal(RowName.PUSHES, ours, PEAK, 300),
            Goal(RowName.CALLS, ours, COLD, 3),
            Goal(RowName.CALLS, ours, WARM, 1),
            Goal(RowName.START, ours, SECONDS, 1, strict=True),
            Goal(RowName.START, ours, RSS, 90, strict=True),
        ]
    return tuple(goals)


GOALS: Final = _goals()


def judge(goal: Goal, samples: Samples) -> Verdict:
    """Say whether a figure is reached. What failed did not reach it; what has nothing to be compared with is not known."""
    taken = samples.get(goal.row, {}).get(goal.contender, ())
    if any(sample.failure for sample in taken):
        return Verdict(goal, None, False)
    measure = goal.measure.name
    if goal.versus is None:
        found = summary(samples, goal.row, goal.contender, measure)
    else:
        found = ratio(samples, goal.row, goal.contender, goal.versus, measure)
    if found is None:
        return Verdict(goal, None, None)
    figure = found.median
    if goal.measure.more:
        return Verdict(goal, figure, figure >= goal.bound)
    return Verdict(goal, figure, figure < goal.bound if goal.strict else figure <= goal.bound)


def verdicts(samples: Samples) -> list[Verdict]:
    """Judge every goal of the rows that were run."""
    return [judge(goal, samples) for goal in GOALS if samples.get(goal.row, {}).get(goal.contender)]
