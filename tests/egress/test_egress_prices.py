"""Price files are checked to the line, and bills are what the vendors' own rules make of a quantity."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from benchmarks.egress import places, price_files
from benchmarks.egress.price_files import Item, PriceError
from benchmarks.egress.pricing import Category, Pricer, instances_for
from benchmarks.egress.usage import Slices, Usage, scale

DAY = date(2026, 11, 24)
TB = 10**12
GIB = 1024**3

LINE = """\
# a comment
[[price]]
item = "egress"
name = "data"
region = "here"
unit = "GB"
size = 1e9
steps = [
    {{ from = 0, to = 100, price = 0 }},
    {steps}
]
date = {date}
source = "a page"
"""
GOOD = "{ from = 100, price = 0.09 }"


def write(folder: Path, steps: str = GOOD, day: str = "2026-05-01", more: str = "") -> Path:
    path = folder / "test.toml"
    path.write_text(LINE.format(steps=steps, date=day) + more)
    return path


def only(folder: Path, item: Item) -> price_files.Price:
    return next(price for price in price_files.load("test", folder).prices if price.item is item)


def shipped(service: str, item: Item, name: str = "") -> price_files.Price:
    return next(p for p in price_files.load(service).prices if p.item is item and p.name.startswith(name))


def usage(**changes: object) -> Usage:
    nothing = Usage("edgeproxy-redirect", "redirect", 3600.0, 0, 0, 0, 0, {}, 0, 0.0, 0.0, 0.0)
    return replace(nothing, **changes)  # type: ignore[arg-type]


def place(name: str) -> places.Place:
    return next(each for each in places.load() if each.name == name)


def test_steps_are_priced_one_after_the_other(tmp_path: Path) -> None:
    write(tmp_path, "{ from = 100, to = 200, price = 0.09 },\n{ from = 200, price = 0.05 }")
    price = only(tmp_path, Item.EGRESS)

    assert price.cost(50e9) == 0
    assert price.cost(150e9) == pytest.approx(4.5)
    assert price.cost(300e9) == pytest.approx(9 + 5)


@pytest.mark.parametrize(
    ("steps", "line", "why"),
    [
        pytest.param("{ from = 90, price = 0.09 }", 10, "overlaps the one before, which ends at 100", id="overlap"),
        pytest.param("{ from = 110, price = 0.09 }", 10, "between 100 and 110 there is no price", id="gap"),
        pytest.param("{ from = 100, to = 100, price = 0.09 }", 10, "where it begins or before", id="empty step"),
        pytest.param("{ from = 100, to = 200, price = 0.09 }", 2, "above 200 there is no price", id="no last step"),
        pytest.param("{ from = 100, price = -1 }", 10, "price must be a number of 0 or more", id="negative price"),
        pytest.param("{ from = 100, cost = 1 }", 10, "a step is", id="another key"),
    ],
)
def test_a_wrong_step_is_told_with_its_line(tmp_path: Path, steps: str, line: int, why: str) -> None:
    path = write(tmp_path, steps)

    with pytest.raises(PriceError, match=f"^{re.escape(str(path))}:{line}: .*{re.escape(why)}"):
        price_files.load("test", tmp_path)


def test_an_unknown_region_is_told_with_the_line_that_asks_for_it(tmp_path: Path) -> None:
    moved = places.elsewhere(places.load(), ["s3=mars-1"])
    s3 = next(each for each in moved if each.name == "S3, Fargate")

    with pytest.raises(
        PriceError, match=r"places\.toml:\d+: s3 has no prices for region 'mars-1'; s3\.toml has us-east-1"
    ):
        Pricer(DAY).bill(usage(), s3, 1)
    assert Pricer(DAY).bill(usage(), place("S3, Fargate"), 1).total > 0


@pytest.mark.parametrize(
    ("old", "new", "line", "why"),
    [
        pytest.param("size = 1e9", "size = 0", 2, "size must be more than 0", id="size"),
        pytest.param("size = 1e9", "size = 1e9\ntimes = 1.5", 2, "times must be a whole number", id="times"),
        pytest.param("size = 1e9", "size = 1e9\nround_up = 1", 2, "round_up true or false", id="round_up"),
        pytest.param("date = 2026-05-01", "date = 2026-05-01T00:00:00Z", 2, "'date' is missing or", id="a moment"),
        pytest.param("date = 2026-05-01", "date = ", 12, "Invalid value", id="not TOML"),
        pytest.param(
            'item = "egress"', 'item = "operations"\noperations = "GetObject"', 2, "a list of names", id="a text"
        ),
        pytest.param('item = "egress"', 'item = "operations"', 2, "belongs to item 'operations'", id="no operations"),
        pytest.param("[[price]]", "[[prices]]", 1, "and nothing else", id="another table"),
    ],
)
def test_a_wrong_value_is_told_with_its_line(tmp_path: Path, old: str, new: str, line: int, why: str) -> None:
    path = write(tmp_path)
    price_files.load("test", tmp_path)
    path.write_text(path.read_text().replace(old, new))

    with pytest.raises(PriceError, match=f"^{re.escape(str(path))}:{line}: .*{re.escape(why)}"):
        price_files.load("test", tmp_path)


@pytest.mark.parametrize("order", ["from = {begin}, to = {end}", "to = {end}, from = {begin}"])
def test_steps_that_overlap_on_one_line_are_told_with_that_line(tmp_path: Path, order: str) -> None:
    first, second = order.format(begin=0, end=100), order.format(begin=90, end=200)
    steps = (
        f"steps = [{{ {first}, price = 0 }}, {{ {second}, price = 1 }}, # {{ from = 7 }}\n{{ from = 200, price = 2 }}]"
    )
    path = write(tmp_path)
    text = path.read_text()
    begin, end = text.index("steps"), text.index("date")
    path.write_text(text + "\n" + text[:begin].replace('"here"', '"there"') + steps + "\n" + text[end:])

    with pytest.raises(PriceError, match=r"test\.toml:22: the step from 90 overlaps the one before"):
        price_files.load("test", tmp_path)
    path.write_text(path.read_text().replace("90", "100"))
    assert len(price_files.load("test", tmp_path).prices) == 2


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ('serves = ["redirect"]', 'serves = ["pigeon"]', "serves must name redirect, proxy or both"),
        ('serves = ["redirect"]', 'server = ["redirect"]', "'server' is no key of a place"),
        ('billing = "flat"', 'billing = "free"', "billing 'free' is not one of hours, requests, flat"),
        ("vcpu = 1, memory_gib = 2 }", "vcpu = 0, memory_gib = 2 }", "an instance has more than 0 vCPU"),
        ('compute = { prices = "vm", region = "any" }\n', "", "'compute' is missing"),
    ],
)
def test_a_wrong_place_is_told_with_its_line(tmp_path: Path, old: str, new: str, why: str) -> None:
    path = tmp_path / "places.toml"
    text = places.FILE.read_text()
    assert old in text
    path.write_text(text.replace(old, new))

    with pytest.raises(PriceError, match=rf"places\.toml:[0-9]+: .*{re.escape(why)}"):
        places.load(path)


def test_another_key_and_another_item_are_refused(tmp_path: Path) -> None:
    write(tmp_path, more='colour = "red"\n')
    with pytest.raises(PriceError, match=r"test\.toml:2: 'colour' is no key"):
        price_files.load("test", tmp_path)
    path = write(tmp_path)
    path.write_text(path.read_text().replace('item = "egress"', 'item = "beer"'))
    with pytest.raises(PriceError, match=r"test\.toml:2: item 'beer' is not one of"):
        price_files.load("test", tmp_path)


def test_a_day_gets_the_newest_price_that_was_known_by_then(tmp_path: Path) -> None:
    later = LINE.format(steps="{ from = 100, price = 0.07 }", date="2026-09-01")
    write(tmp_path, more=later)
    found = price_files.load("test", tmp_path)

    assert found.on(date(2026, 8, 31), "here", "x")[0].cost(200e9) == pytest.approx(9)
    assert found.on(date(2026, 9, 1), "here", "x")[0].cost(200e9) == pytest.approx(7)
    with pytest.raises(PriceError, match=r"test\.toml:2: .*known since 2026-05-01 only, so not on 2026-04-30"):
        found.on(date(2026, 4, 30), "here", "x")


def test_a_price_older_than_a_year_warns(tmp_path: Path) -> None:
    write(tmp_path)
    found = price_files.load("test", tmp_path).prices

    assert price_files.warnings(found, date(2027, 5, 1)) == []
    (warning,) = price_files.warnings(found, date(2027, 5, 2))
    assert "test.toml:2: the price of data is of 2026-05-01, more than a year before 2027-05-02" in warning


def test_every_shipped_price_has_a_source_and_is_not_from_the_future() -> None:
    for path in price_files.FOLDER.glob("*.toml"):
        for price in price_files.load(path.stem).prices:
            assert price.source
            assert price.date <= DAY


@pytest.mark.parametrize(
    ("gigabytes", "dollars"),
    # 100 are free, then 10,140 at 0.09, 40,960 at 0.085, 102,400 at 0.07, the rest at 0.05.
    [
        (100, 0),
        (1024, 83.16),
        (10_240, 912.6),
        (102_400, 912.6 + 3481.6 + 3584),
        (1_126_400, 912.6 + 3481.6 + 7168 + 48_640),
    ],
    ids=lambda value: f"{value:g}",
)
def test_what_leaves_aws_costs_what_its_steps_say(gigabytes: int, dollars: float) -> None:
    assert shipped("aws-egress", Item.EGRESS).cost(gigabytes * GIB) == pytest.approx(dollars)


@pytest.mark.parametrize(
    ("operations", "units", "dollars"),
    [(0, 0, 0), (1_000_000, 1, 0), (1_000_001, 2, 4.5), (3_000_000, 3, 9.0), (3_000_001, 4, 13.5)],
)
def test_r2_rounds_operations_up_to_whole_millions(operations: int, units: float, dollars: float) -> None:
    price = shipped("r2", Item.OPERATIONS, "Class A")

    assert price.units(operations) == units
    assert price.cost(operations) == pytest.approx(dollars)


def test_r2_rounds_storage_up_and_charges_nothing_for_bytes_that_leave() -> None:
    assert shipped("r2", Item.STORAGE).cost(10e9) == 0
    assert shipped("r2", Item.STORAGE).cost(10e9 + 1) == pytest.approx(0.015)
    assert shipped("r2", Item.EGRESS).cost(1100 * TB) == 0


def test_bytes_of_store_and_registry_share_the_steps_of_one_account() -> None:
    bill = Pricer(DAY).bill(usage(store_egress=80 * GIB, registry_egress=40 * GIB), place("S3, Fargate"), 1)

    (egress,) = [line for line in bill.lines if line.category is Category.EGRESS]
    assert egress.quantity == 120
    assert egress.cost == pytest.approx(20 * 0.09)


def test_a_bill_worked_out_by_hand() -> None:
    # A terabyte by redirect on R2 with one machine: nothing for bytes, 12 M reads, 2 M writes, 25 GB, one machine.
    used = usage(
        store_egress=TB,
        registry_egress=10**9,
        requests=12_000_000,
        operations={"GetObject": 11_000_000, "HeadObject": 1_000_000, "PutObject": 2_000_000, "DeleteObject": 5},
        storage=25 * 10**9,
        cpu_seconds=12_000,
    )

    bill = Pricer(DAY).bill(used, place("R2, VM"), 1)

    assert bill.by_category == {
        Category.EGRESS: 0,
        Category.OPERATIONS: pytest.approx(2 * 0.36 + 1 * 4.50),
        Category.STORAGE: pytest.approx(15 * 0.015),
        Category.COMPUTE: pytest.approx(12),
    }
    assert bill.total == pytest.approx(0.72 + 4.5 + 0.225 + 12)


def test_cloud_run_is_billed_by_the_time_of_requests_above_its_free_part() -> None:
    used = usage(requests=5_000_000, request_seconds=500_000.0)

    bill = Pricer(DAY).bill(used, place("R2, Cloud Run"), 1)

    costs = {line.price.name: line.cost for line in bill.lines if line.category is Category.COMPUTE}
    assert costs["vCPU"] == pytest.approx(320_000 * 0.000024)
    assert costs["memory"] == 0  # 250,000 of 360,000 GiB-seconds that are free
    assert costs["requests"] == pytest.approx(3 * 0.40)


def test_scaling_multiplies_what_flows_and_not_what_is_stored() -> None:
    used = usage(store_egress=10 * GIB, storage=20 * GIB, operations={"GetObject": 1_000_000}, error=0.1)

    one, thirty = (Pricer(DAY).bill(used, place("S3, Fargate"), factor) for factor in (1, 30))

    assert one.by_category[Category.STORAGE] == thirty.by_category[Category.STORAGE] == pytest.approx(0.46)
    assert thirty.by_category[Category.OPERATIONS] == pytest.approx(30 * 0.4)
    assert thirty.by_category[Category.EGRESS] == pytest.approx(200 * 0.09)
    assert thirty.low < thirty.total < thirty.high
    assert thirty.high - thirty.total == pytest.approx(30 * 0.09 + 3 * 0.4)


def test_a_delivery_is_priced_only_where_it_makes_sense() -> None:
    proxied = usage(name="edgeproxy-proxy", delivery="proxy")

    bills = Pricer(DAY).bills([proxied], places.load(), 1)

    assert "S3 + CloudFront, Fargate" not in {bill.place.name for bill in bills}
    assert "S3, Fargate" in {bill.place.name for bill in bills}


def test_an_operation_without_a_price_is_an_error() -> None:
    with pytest.raises(PriceError, match=r"r2\.toml:1: no price for the operation RestoreObject"):
        Pricer(DAY).bill(usage(operations={"RestoreObject": 1}), place("R2, VM"), 1)


def test_more_work_needs_more_instances() -> None:
    instance = place("R2, VM").instance
    half_a_core_all_month = 30 * 86_400 / 2

    assert instances_for(usage(), instance) == 1
    assert instances_for(usage(cpu_seconds=half_a_core_all_month / 4), instance) == 1
    assert instances_for(usage(cpu_seconds=half_a_core_all_month), instance) == 4


def test_the_scale_is_a_factor_or_a_month() -> None:
    assert scale("30x", 86_400) == 30
    assert scale("month", 86_400) == 30
    for wrong in ("30", "x", "0x", "-1x", "nanx", "year"):
        with pytest.raises(ValueError, match="neither like 30x nor month"):
            scale(wrong, 86_400)
    with pytest.raises(ValueError, match="too little to tell"):
        scale("month", 10)


def test_the_error_of_scaling_comes_from_the_spread_between_slices() -> None:
    even, uneven, short = Slices(), Slices(), Slices()
    for minute in range(10):
        even.add(60.0 * minute, 100)
        uneven.add(60.0 * minute, 1000 if minute == 3 else 0)
    short.add(0, 5)

    assert even.error() == 0
    assert uneven.error() == 1
    assert short.error() == 1


def test_slices_stay_few_however_long_the_workload_is() -> None:
    slices = Slices()
    for hour in range(24 * 75):
        slices.add(3600.0 * hour, 1)

    assert len(slices.sums) <= 481
    assert sum(slices.sums.values()) == 24 * 75
