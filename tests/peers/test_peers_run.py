"""The comparison as people run it: the command, the real programs, a result."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from benchmarks.peers.cli import CHART, RESULT
from benchmarks.peers.figures import Contender, RowName
from benchmarks.peers.result import load
from tests.programs import PATH, clean_environment, program, run

ROOT = Path(__file__).parents[2]
OURS, RIVAL = Contender.EDGEPROXY_GRANIAN, Contender.DISTRIBUTION_TOKEN


def needed() -> None:
    for name in ("wrk", "versitygw", "registry", "taskset"):
        program(name)
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("the comparison needs two cores, one for the server and one for the load")


async def compare(folder: Path, *arguments: str, status: int = 0, path: str = PATH) -> str:
    environment = clean_environment(folder, {"PYTHONPATH": str(ROOT), "PATH": path})
    command = (
        sys.executable,
        "-m",
        "benchmarks.peers",
        "--quick",
        "--rounds",
        "1",
        "--output",
        str(folder),
        *arguments,
    )
    return await run(*command, environment=environment, status=status)


@pytest.mark.timeout(300)
async def test_a_quick_run_over_real_programs_has_figures_for_everyone(tmp_path: Path) -> None:
    needed()
    said = await compare(
        tmp_path, "--rows", "digest,pushes,calls", "--contenders", "edgeproxy-granian,distribution-token,zot"
    )

    found = load(tmp_path / RESULT)
    assert found.quick
    assert found.failures == []
    assert set(found.samples) == {RowName.DIGEST, RowName.PUSHES, RowName.CALLS}
    for taken in found.samples.values():
        assert {OURS, RIVAL} <= set(taken)
        assert all(len(each) == 1 for each in taken.values())
    (digest,), (calls,) = found.samples[RowName.DIGEST][OURS], found.samples[RowName.CALLS][OURS]
    assert digest.figures["rate"] > 0
    assert digest.figures["cpu_1000"] > 0
    assert calls.figures["cold"] <= 3
    assert calls.figures["warm"] <= 1
    assert found.samples[RowName.CALLS][RIVAL][0].figures["cold"] > calls.figures["cold"]
    assert 0 < found.samples[RowName.PUSHES][OURS][0].figures["peak_mib"] < 300
    assert "manifest by digest, warm" in said
    assert (tmp_path / CHART).read_text().startswith("<svg")
    if Contender.ZOT in found.missing:
        assert "zot does not take part: there is no program named zot" in said


async def test_without_the_load_generator_it_says_what_to_install(tmp_path: Path) -> None:
    for name in ("versitygw", "taskset"):
        program(name)
        (tmp_path / name).symlink_to(program(name))

    said = await compare(tmp_path, "--rows", "blob", "--contenders", "bare-granian", path=str(tmp_path), status=2)

    assert "wrk is not on PATH nor in a folder of --programs; get it: Debian's package wrk" in said


async def test_a_row_in_which_nobody_takes_part_is_refused(tmp_path: Path) -> None:
    needed()

    said = await compare(tmp_path, "--rows", "put", "--contenders", "bare-granian", status=2)

    assert "none of these contenders takes part in any of these rows" in said
