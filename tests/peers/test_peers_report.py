"""What the comparison says: tables, the result file, the chart, the page."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from benchmarks.peers import chart, cli, report
from benchmarks.peers.figures import RowName
from benchmarks.peers.report import BEGIN, END, NoPlace
from benchmarks.peers.result import ResultError, load, write
from tests.peers.results import BARE, GRANIAN, RIVAL, result, samples

SVG = "{http://www.w3.org/2000/svg}"


def test_the_tables_have_medians_spread_ratios_and_what_is_to_be_reached() -> None:
    text = report.markdown(result())

    assert (
        "| warm blob GET -> 307 | edgeproxy, granian | 11,000 (10,000-12,000) | 4.58 (4.23-5.00) | 0.37 (0.33-0.50) | 0.22 | 0.090 |"
        in text.replace("&gt;", ">")
    )
    assert ">= 4 x distribution: yes, 4.58; >= 0.5 x bare: **no**, 0.37" in text
    assert "< 1 x zot: not known; peak RSS MiB <= 300: **no**, 301" in text.replace("&lt;", "<")
    assert "2 of 5 figures are reached, 1 could not be compared; not reached: blob (edgeproxy, granian), pushes" in text
    assert "2026-11-25, 2 cores of A <processor>, 8 GiB" in text
    assert "zot, no check is missing: there is no program named zot." in text


def test_a_line_of_a_table_has_as_many_cells_as_its_head() -> None:
    taken = {RowName.BLOB: {GRANIAN: samples(RowName.BLOB, 5, failure="it | broke"), RIVAL: samples(RowName.BLOB, 5)}}
    lines = [line for line in report.markdown(result(taken)).splitlines() if line.startswith("|")]

    assert len(lines) == 4
    assert {len(re.split(r"(?<!\\)\|", line)) for line in lines} == {12}
    assert "**failed**: it \\| broke" in lines[2]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [({"quick": True}, "too short and too small to be quoted"), ({"load": 3.0}, "busy when it began (load 3.0)")],
)
def test_what_is_not_to_be_quoted_says_so(changes: dict[str, Any], sentence: str) -> None:
    assert sentence in report.plain(result(**changes))
    assert sentence not in report.plain(result())
    assert "not to be quoted" in chart.draw(result(**changes))
    assert "not to be quoted" not in chart.draw(result())


def test_a_result_comes_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write(result(), path)
    told = json.loads(path.read_text())

    assert load(path) == result()
    assert told["medians"]["blob"]["edgeproxy-granian"]["rate"] == [11_000, 10_000, 12_000]
    assert {
        "row": "blob",
        "contender": "edgeproxy-granian",
        "goal": "requests/s >= 4 x distribution, token check",
    }.items() <= told["to_reach"][0].items()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "no result of the comparison"),
        ("[]", "no result of the comparison"),
        ('{"version": 1}', "no result of the comparison"),
        ('{"version": 9}', "a result of version 9; this program reads version 1"),
    ],
)
def test_another_file_is_refused_with_a_reason(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "result.json"
    path.write_text(text)

    with pytest.raises(ResultError, match=re.escape(why)):
        load(path)


def test_an_unknown_row_in_a_result_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write(result(), path)
    path.write_text(
        path.read_text().replace('"blob": {\n      "edgeproxy-granian": [', '"bolb": {\n      "edgeproxy-granian": [')
    )

    with pytest.raises(ResultError, match="'bolb' is not a valid RowName"):
        load(path)


def test_the_chart_is_well_formed_and_its_bars_are_as_long_as_the_figures() -> None:
    root = ET.fromstring(chart.draw(result()))

    bars = [each for each in root.iter(f"{SVG}rect") if each.get("height") == str(chart.BAR)]
    lengths = [float(each.get("width", "0")) for each in bars]
    assert [length / lengths[2] for length in lengths[:3]] == pytest.approx(
        [11_000 / 30_000, 2_400 / 30_000, 1], abs=0.001
    )
    assert lengths[3] / lengths[4] == pytest.approx(9 / 18, abs=0.001)
    words = {each.text for each in root.iter(f"{SVG}text")}
    assert {"11,000", "bare granian", "requests/s, more is better", "seconds, less is better"} <= words
    assert max(float(each.get("x2", "0")) for each in root.iter(f"{SVG}line")) <= float(root.get("width", "0"))


def test_a_failed_row_is_drawn_as_failed() -> None:
    taken = {RowName.BLOB: {GRANIAN: samples(RowName.BLOB, 5, failure="broke"), BARE: samples(RowName.BLOB, 5)}}
    root = ET.fromstring(chart.draw(result(taken)))

    assert "failed" in {each.text for each in root.iter(f"{SVG}text")}


def test_the_tables_go_between_the_marks_of_a_page_and_again() -> None:
    page = f"# Title\n\n{BEGIN}\nold\n{END}\n\n# After\n"

    once = report.put(page, result())

    assert once.startswith(f"# Title\n\n{BEGIN}\n\n2026-11-25")
    assert once.endswith(f"{END}\n\n# After\n")
    assert "old" not in once
    assert report.put(once, result()) == once


@pytest.mark.parametrize("page", ["", BEGIN, END, f"{END}{BEGIN}", f"{BEGIN}{BEGIN}{END}", f"{BEGIN}{END}{END}"])
def test_a_page_without_a_place_is_left_alone(page: str) -> None:
    with pytest.raises(NoPlace):
        report.put(page, result())


def test_the_page_has_a_place_and_what_is_there_was_written_by_the_command() -> None:
    page = cli.README.read_text()
    kept = cli.HERE / cli.RESULT

    if kept.exists():
        assert report.put(page, load(kept)) == page
        assert chart.draw(load(kept)) == (cli.HERE / cli.CHART).read_text()
    else:
        assert page.partition(BEGIN)[2].partition(END)[0].strip() == "Not measured yet."


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--rounds", "0"], "--rounds is at least 1"),
        (["--from", "nowhere.json"], "nowhere.json: No such file"),
    ],
)
def test_wrong_usage_says_what_is_wrong(arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == 2
    assert why in capsys.readouterr().err


def test_an_unknown_row_is_refused_and_the_known_ones_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["--rows", "blob,blobs"])
    assert "'blobs' is not a valid RowName; known are blob, digest" in capsys.readouterr().err


def test_a_quick_run_does_not_get_into_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = cli.README.read_text()
    write(result(quick=True), tmp_path / "result.json")

    assert cli.main(["--from", str(tmp_path / "result.json"), "--write-readme"]) == 2

    assert "a quick run is not put into the page" in capsys.readouterr().err
    assert cli.README.read_text() == before


def test_an_earlier_run_is_told_again_and_its_failures_are_an_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(result(), tmp_path / "good.json")
    write(result({RowName.TAG: {RIVAL: samples(RowName.TAG, 1, failure="broke")}}), tmp_path / "bad.json")

    assert cli.main(["--from", str(tmp_path / "good.json"), "--output", str(tmp_path / "out")]) == 0
    assert "11,000 (10,000-12,000)" in capsys.readouterr().out
    assert load(tmp_path / "out" / cli.RESULT) == result()
    assert (tmp_path / "out" / cli.CHART).read_text() == chart.draw(result())
    assert cli.main(["--from", str(tmp_path / "bad.json")]) == 1
    assert "failed: tag, distribution, token check: broke" in capsys.readouterr().err
