"""The synthetic workload, the estimate from a log, and what the report says of it."""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import date
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from benchmarks.egress import ibm, report, synthetic
from benchmarks.egress.chart import LABELS, WIDTH
from benchmarks.egress.cli import main
from benchmarks.egress.estimate import observe, usage
from benchmarks.egress.places import load as load_places
from benchmarks.egress.pricing import Bill, Pricer
from benchmarks.egress.sample.make import PARAMETERS, SAMPLE
from benchmarks.egress.synthetic import Parameters
from benchmarks.egress.workload import Kind, Reading, Request
from benchmarks.egress.workloads import read

DAY = date(2026, 11, 24)
SVG = "{http://www.w3.org/2000/svg}"


def request(kind: Kind, reference: str, size: int | None, time: float = 0.0) -> Request:
    return Request(time, kind, "acme/app", reference, size, "client")


def trace(**parameters: object) -> list[Request]:
    data = b"".join(synthetic.lines(Parameters(**parameters)))  # type: ignore[arg-type]
    return [found for line in json.loads(data) if (found := ibm.parse(json.dumps(line).encode())) is not None]


def bills() -> list[Bill]:
    seen = observe([request(Kind.PULL_BLOB, "a", 10**9, 3600.0 * hour) for hour in range(24)], None)
    return Pricer(DAY).bills([usage(seen, "redirect"), usage(seen, "proxy")], load_places(), 30)


def test_the_shipped_sample_is_what_its_script_makes() -> None:
    assert b"".join(synthetic.lines(PARAMETERS)) == SAMPLE.read_bytes()


def test_another_seed_is_another_workload() -> None:
    one, same, other = (b"".join(synthetic.lines(Parameters(seed=seed, events=20))) for seed in (1, 1, 2))

    assert one == same != other


def test_a_synthetic_workload_is_in_the_order_of_its_times_and_has_the_parts_that_were_asked_for() -> None:
    requests = trace(events=2000, looks=0.2, pushes=0.1, shrink=1000)

    assert [found.time for found in requests] == sorted(found.time for found in requests)
    kinds = Counter(found.kind for found in requests)
    assert kinds[Kind.LOOK_MANIFEST] == pytest.approx(400, rel=0.2)
    assert kinds[Kind.PUSH_MANIFEST] == pytest.approx(200, rel=0.25)
    assert kinds[Kind.PULL_MANIFEST] == pytest.approx(1400, rel=0.1)


def test_warm_clients_pull_fewer_blobs() -> None:
    cold, warm = (
        sum(r.kind is Kind.PULL_BLOB for r in trace(events=500, clients=2, repositories=10, warm=share))
        for share in (0.0, 1.0)
    )

    assert warm < cold / 3


def test_every_blob_has_one_size_and_every_pushed_one_was_not_there_before() -> None:
    requests = trace(events=500, pushes=0.2)
    sizes: dict[str, set[int | None]] = {}
    seen: set[str] = set()
    for found in requests:
        if found.kind is Kind.PUSH_BLOB:
            assert found.reference not in seen
        if found.kind in {Kind.PULL_BLOB, Kind.PUSH_BLOB}:
            seen.add(found.reference)
            sizes.setdefault(found.reference, set()).add(found.size)

    assert {len(each) for each in sizes.values()} == {1}


@pytest.mark.parametrize(
    ("profile", "median", "mean"), [("ibm", (0.04e6, 0.2e6), (3e6, 8e6)), ("hub", (2.5e6, 6e6), (20e6, 80e6))]
)
def test_layers_have_the_sizes_of_their_profile(
    profile: str, median: tuple[float, float], mean: tuple[float, float]
) -> None:
    sizes: dict[str, int] = {}
    for found in trace(profile=profile, repositories=300, events=3000, warm=0.0, zipf=0.0):
        if found.kind is Kind.PULL_BLOB:
            sizes[found.reference] = found.size or 0
    ordered = sorted(sizes.values())

    assert len(ordered) > 1000
    assert median[0] < ordered[len(ordered) // 2] < median[1]
    assert mean[0] < sum(ordered) / len(ordered) < mean[1]


def test_a_log_is_summed_up_as_worked_out_by_hand() -> None:
    seen = observe(
        [
            request(Kind.PULL_MANIFEST, "v1", 1000),
            request(Kind.PULL_BLOB, "a", 5_000_000, 60),
            request(Kind.PULL_BLOB, "a", 5_000_000, 120),
            request(Kind.PULL_BLOB, "b", None, 180),
            request(Kind.LOOK_BLOB, "a", 0, 240),
            request(Kind.PUSH_BLOB, "c", 20 * 1024**2, 300),
        ],
        1_000_000,
    )
    redirect, proxy = usage(seen, "redirect"), usage(seen, "proxy")

    assert (seen.blob_bytes, seen.unknown, seen.stored) == (11_000_000, 1, 6_000_000 + 20 * 1024**2)
    # Manifest 2 reads; three blobs a link and the bytes each; one look at a link; a push of three parts.
    assert redirect.operations == {
        "GetObject": 2 + 3, "HeadObject": 3 + 1 + 1, "PutObject": 2, "UploadPart": 2,
        "CreateMultipartUpload": 1, "CompleteMultipartUpload": 1,
    }  # fmt: skip
    assert redirect.requests == 6
    assert (redirect.store_egress, redirect.registry_egress) == (11_000_000 + 3 * 700, 3 * 700 + 1000 + 3 * 900)
    assert (proxy.store_egress, proxy.registry_egress) == (0, 11_000_000 + 6 * 700 + 1000)
    assert redirect.span == 300


def test_blobs_of_unknown_size_are_taken_for_the_mean_of_the_others() -> None:
    seen = observe(
        [request(Kind.PULL_BLOB, "a", 100), request(Kind.PULL_BLOB, "b", 300), request(Kind.PULL_BLOB, "c", None)], None
    )

    assert (seen.guessed, seen.blob_bytes, seen.stored) == (200, 600, 600)


def test_one_sentence_says_what_it_costs_here_and_elsewhere() -> None:
    said = report.sentence(bills(), 30, DAY)

    assert said.startswith("A month of this workload (720.0 GB to clients in 720 requests, 1.0 GB stored) costs $")
    assert "on R2, Cloud Run (edgeproxy with redirects), and $" in said
    assert " on GCS, Cloud Run (edgeproxy " in said
    assert " on S3 + CloudFront, Fargate (edgeproxy with redirects)" in said
    assert said.endswith("at list prices as known on 2026-11-24.")


def test_the_table_says_where_the_money_goes_and_how_sure_it_is() -> None:
    text = report.text(bills(), 30, DAY, ["an old price"])

    head, *rows = (re.split(r"\s{2,}", line) for line in text.splitlines()[2:15] if not line.startswith("---"))
    assert head == ["place", "registry", "egress", "operations", "storage", "compute", "total", "range"]
    shown = {(place, registry): float(total.replace(",", "")) for place, registry, *_, total, _ in rows if place}
    assert shown == {
        (bill.place.name, bill.usage.name): pytest.approx(bill.total, abs=0.5 if bill.total >= 1000 else 0.005)
        for bill in bills()
    }
    assert "30 times a workload of 23.0 hours stand for a month, give or take" in text
    assert "note: R2, Cloud Run and GCS, Cloud Run: takes request bodies of up to 32 MiB" in text
    assert "warning: an old price" in text


def test_no_figure_of_the_table_is_cut_however_large_it_is() -> None:
    seen = observe([request(Kind.PULL_BLOB, "a", 10**12, 3600.0 * hour) for hour in range(24)], None)

    text = report.text(Pricer(DAY).bills([usage(seen, "proxy")], load_places(), 3000), 3000, DAY, [])

    assert "72.0 PB to clients" in text
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    assert re.search(r"^GCS, Cloud Run +edgeproxy-proxy +8,0[0-9]{2},[0-9]{3} ", text, re.MULTILINE)


def test_the_chart_is_well_formed_and_its_bars_are_as_long_as_the_costs() -> None:
    found = bills()

    root = ET.fromstring(report.svg(found, 30, DAY))

    totals = sorted(bill.total for bill in found)
    ends: dict[float, float] = {}
    for bar in root.iter(f"{SVG}rect"):
        if bar.get("height") == "18":
            row = float(bar.get("y", "0"))
            ends[row] = max(ends.get(row, 0.0), float(bar.get("x", "0")) + float(bar.get("width", "0")) - LABELS)
    lengths = [ends[row] for row in sorted(ends)]
    scale = max(lengths) / max(totals)
    assert [length / scale for length in lengths] == pytest.approx(
        [total for total in totals if total * scale > 0.05], abs=0.05
    )
    assert max(lengths) <= WIDTH - LABELS


def test_one_command_answers_what_a_registry_would_cost_here(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chart = tmp_path / "chart.svg"

    assert main(["estimate", str(SAMPLE), "--as-of", "2026-11-24", "--svg", str(chart)]) == 0

    said = capsys.readouterr().out
    assert "A month of this workload" in said
    assert ET.parse(chart).getroot().tag == f"{SVG}svg"
    assert main(["estimate", str(SAMPLE), "--as-of", "2026-11-24", "--scale", "30x", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["scale"] == 30


def test_old_prices_warn_and_prices_from_before_all_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", str(SAMPLE), "--as-of", "2028-01-01"]) == 0
    assert "more than a year before 2028-01-01" in capsys.readouterr().out
    assert main(["estimate", str(SAMPLE), "--as-of", "2020-01-01"]) == 2
    assert "so not on 2020-01-01" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--scale", "lots"], "neither like 30x nor month"),
        (["--region", "r2=mars"], "r2 has no prices for region 'mars'"),
        (["--region", "mars"], "write PRICES=REGION"),
        (["--prices", "/nowhere"], "No such file"),
    ],
)
def test_what_cannot_be_priced_is_told(capsys: pytest.CaptureFixture[str], arguments: list[str], why: str) -> None:
    assert main(["estimate", str(SAMPLE), "--as-of", "2026-11-24", *arguments]) == 2
    assert why in capsys.readouterr().err


def test_a_log_of_redirects_alone_asks_for_the_size_of_blobs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = '10.0.0.7 - - [24/Nov/2026:03:{minute:02d}:18 +0000] "GET /v2/a/b/blobs/sha256:1 HTTP/1.1" 307 88 "-" "x"\n'
    log = tmp_path / "access.log"
    log.write_text("".join(line.format(minute=minute) for minute in range(20)))

    assert main(["estimate", str(log), "--as-of", "2026-11-24"]) == 2
    assert "give --blob-bytes N" in capsys.readouterr().err
    assert main(["estimate", str(log), "--as-of", "2026-11-24", "--blob-bytes", "1000000"]) == 0


def test_a_malformed_line_is_skipped_or_with_strict_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "broken.json"
    broken.write_bytes(SAMPLE.read_bytes().replace(b"[\n", b"[\nnonsense,\n", 1))

    assert main(["estimate", str(broken), "--as-of", "2026-11-24"]) == 0
    assert "skipped broken.json:2: not a JSON object" in capsys.readouterr().err
    assert main(["estimate", str(broken), "--as-of", "2026-11-24", "--strict"]) == 2


def test_wrong_parameters_of_the_generator_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "--events", "0"]) == 2
    assert "--events must be 1 or more" in capsys.readouterr().err
    assert main(["generate", "--looks", "0.8", "--pushes", "0.3"]) == 2


def test_the_shipped_sample_reads_without_a_malformed_line() -> None:
    reading = Reading(strict=True)

    assert sum(found.kind is Kind.PULL_BLOB for found in read([SAMPLE], reading)) > 400
