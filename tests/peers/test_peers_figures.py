"""The arithmetic of the comparison, on samples that can be worked out by hand."""

from __future__ import annotations

import pytest

from benchmarks.peers import wrk
from benchmarks.peers.figures import (
    GOALS,
    PEAK,
    RATE,
    ROWS,
    SECONDS,
    Contender,
    Goal,
    RowName,
    Sample,
    Spread,
    judge,
    ratio,
    summary,
    verdicts,
)
from benchmarks.peers.wrk import Load, WrkFailed
from tests.peers.results import BARE, GRANIAN, RIVAL, ZOT, result, samples


def test_a_median_has_the_smallest_and_the_largest_beside_it() -> None:
    assert summary(result().samples, RowName.BLOB, GRANIAN, "rate") == Spread(11_000, 10_000, 12_000)


def test_a_ratio_is_that_of_medians_and_its_spread_that_of_rounds() -> None:
    found = ratio(result().samples, RowName.BLOB, GRANIAN, RIVAL, "rate")

    assert found is not None
    assert found.median == pytest.approx(11_000 / 2_400)
    assert found.least == pytest.approx(11_000 / 2_600)
    assert found.most == pytest.approx(5.0)


def test_one_failed_round_leaves_no_median_and_no_ratio() -> None:
    taken = {RowName.BLOB: {GRANIAN: samples(RowName.BLOB, 5, 6), RIVAL: [Sample({"rate": 1}), Sample({}, "broke")]}}

    assert summary(taken, RowName.BLOB, GRANIAN, "rate") == Spread(5.5, 5, 6)
    assert summary(taken, RowName.BLOB, RIVAL, "rate") is None
    assert ratio(taken, RowName.BLOB, GRANIAN, RIVAL, "rate") is None


def test_nothing_is_divided_by_nothing() -> None:
    taken = {RowName.BLOB: {GRANIAN: samples(RowName.BLOB, 5), RIVAL: samples(RowName.BLOB, 0)}}

    assert ratio(taken, RowName.BLOB, GRANIAN, RIVAL, "rate") is None


@pytest.mark.parametrize(
    ("goal", "ours", "theirs", "reached"),
    [
        (Goal(RowName.BLOB, GRANIAN, RATE, 4, RIVAL), 4_000, 1_000, True),
        (Goal(RowName.BLOB, GRANIAN, RATE, 4, RIVAL), 3_999, 1_000, False),
        (Goal(RowName.PUT, GRANIAN, SECONDS, 0.5, RIVAL), 5, 10, True),
        (Goal(RowName.PUT, GRANIAN, SECONDS, 0.5, RIVAL), 5.01, 10, False),
        (Goal(RowName.PUSHES, GRANIAN, SECONDS, 1, RIVAL, strict=True), 9.99, 10, True),
        (Goal(RowName.PUSHES, GRANIAN, SECONDS, 1, RIVAL, strict=True), 10, 10, False),
        (Goal(RowName.START, GRANIAN, SECONDS, 1, strict=True), 0.99, 9, True),
        (Goal(RowName.START, GRANIAN, SECONDS, 1, strict=True), 1, 9, False),
    ],
)
def test_a_figure_is_reached_up_to_its_bound(goal: Goal, ours: float, theirs: float, reached: bool) -> None:
    taken = {goal.row: {GRANIAN: samples(goal.row, ours), RIVAL: samples(goal.row, theirs)}}

    assert judge(goal, taken).reached is reached


def test_what_failed_did_not_reach_its_figure_and_what_has_no_rival_is_not_known() -> None:
    peak = Goal(RowName.PUSHES, GRANIAN, PEAK, 300)
    beside = Goal(RowName.PUSHES, GRANIAN, SECONDS, 1, ZOT, strict=True)
    good = {RowName.PUSHES: {GRANIAN: samples(RowName.PUSHES, 8, peak_mib=300)}}
    bad = {RowName.PUSHES: {GRANIAN: samples(RowName.PUSHES, 8, failure="killed", peak_mib=300)}}

    assert judge(peak, good).reached is True
    assert judge(peak, bad).reached is False
    assert judge(beside, good).reached is None


def test_only_rows_that_were_run_are_judged() -> None:
    found = {(each.goal.row, each.goal.versus): each.reached for each in verdicts(result().samples)}

    assert found == {
        (RowName.BLOB, RIVAL): True,
        (RowName.BLOB, BARE): False,
        (RowName.PUSHES, RIVAL): True,
        (RowName.PUSHES, ZOT): None,
        (RowName.PUSHES, None): False,
    }


def test_every_row_has_a_figure_to_reach_for_both_servers_and_only_what_it_measures() -> None:
    for name in ROWS:
        assert {goal.contender for goal in GOALS if goal.row is name} == {
            Contender.EDGEPROXY_GRANIAN,
            Contender.EDGEPROXY_HYPERCORN,
        }
    for goal in GOALS:
        row = ROWS[goal.row]
        assert goal.measure in row.measures
        assert goal.contender in row.contenders
        assert goal.versus is None or goal.versus in row.contenders


_PRINTED = """\
Running 5s test @ http://127.0.0.1:5000
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     3.21ms    1.02ms  40.11ms   90.10%
  50005 requests in 5.00s, 40.00MB read
Requests/sec:  10001.00

{"requests": 50005, "microseconds": 5000000, "bytes": 41943040, "connect": 0, "read": 0, "write": 0, "status": 0, "timeout": 0, "p50": 3100, "p99": 8250}
"""


def test_what_wrk_prints_is_read() -> None:
    load = wrk.read(_PRINTED)

    assert (load.requests, load.rate, load.received) == (50_005, 10_001, 41_943_040)
    assert (load.p50_ms, load.p99_ms) == (3.1, 8.25)
    assert load.failure == ""


@pytest.mark.parametrize("kind", ["connect", "read", "write", "status", "timeout"])
def test_every_kind_of_error_of_wrk_fails_the_sample(kind: str) -> None:
    assert wrk.read(_PRINTED.replace(f'"{kind}": 0', f'"{kind}": 3')).failure == f"wrk counted errors: 3 {kind}"


def test_no_answer_at_all_is_a_failure_too() -> None:
    assert Load(0, 5, 0, {"read": 0}, 0, 0).failure == "wrk got no answer"


@pytest.mark.parametrize("output", ["", "unable to connect to 127.0.0.1:1 Connection refused", _PRINTED + _PRINTED])
def test_what_is_not_the_output_of_our_script_is_refused(output: str) -> None:
    with pytest.raises(WrkFailed):
        wrk.read(output)


def test_the_script_asks_for_the_paths_with_the_credential() -> None:
    text = wrk.script(["/v2/a/manifests/1", "/v2/a/manifests/2"], {"Authorization": "Bearer abc"})

    assert 'local paths = {"/v2/a/manifests/1", "/v2/a/manifests/2"}' in text
    assert 'local fields = {["Authorization"] = "Bearer abc"}' in text
    assert "summary.errors" in text


@pytest.mark.parametrize("path", ['/v2/"', "/v2/\\", "/v2/\n"])
def test_what_would_end_a_text_of_the_script_does_not_get_into_it(path: str) -> None:
    with pytest.raises(AssertionError):
        wrk.script([path], {})
