"""Small results of the comparison, made up so that every figure can be worked out by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from benchmarks.peers.figures import ROWS, Contender, RowName, Sample
from benchmarks.peers.result import Result

GRANIAN, RIVAL, BARE = Contender.EDGEPROXY_GRANIAN, Contender.DISTRIBUTION_TOKEN, Contender.BARE_GRANIAN
ZOT = Contender.ZOT


def samples(row: RowName, *figures: float, failure: str = "", **more: float) -> list[Sample]:
    """Make one sample for each figure of the row's first measure; the others are 1, but for what is given."""
    measures = ROWS[row].measures
    others = {measure.name: 1.0 for measure in measures} | more
    return [Sample(others | {measures[0].name: figure}, failure) for figure in figures]


def result(taken: Mapping[RowName, Mapping[Contender, list[Sample]]] | None = None, **changes: object) -> Result:
    """Make a result of three rounds."""
    made = Result(
        date="2026-11-25T12:00:00+00:00",
        quick=False,
        machine={"cores": 2, "processor": "A <processor>", "memory_gib": 8, "system": "Linux 6", "python": "3.11.7"},
        load=0.1,
        programs={"distribution": "v3.1.2", "wrk": "4.1.0"},
        size={"rounds": 3, "seconds": 5, "tags": 1000, "layer_mib": 1024, "pushes": 32, "push_mib": 64},
        missing={ZOT: "there is no program named zot"},
        samples=taken
        if taken is not None
        else {
            RowName.BLOB: {
                GRANIAN: samples(RowName.BLOB, 12_000, 10_000, 11_000, cpu_1000=0.09, peak_mib=120),
                RIVAL: samples(RowName.BLOB, 2_400, 2_000, 2_600, cpu_1000=0.4, peak_mib=50),
                BARE: samples(RowName.BLOB, 30_000, 20_000, 33_000),
            },
            RowName.PUSHES: {
                GRANIAN: samples(RowName.PUSHES, 8, 9, 10, peak_mib=301),
                RIVAL: samples(RowName.PUSHES, 16, 18, 20, peak_mib=900),
            },
        },
    )
    return replace(made, **changes)  # type: ignore[arg-type]
