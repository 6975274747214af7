"""Byte ranges of pulls and chunks: what is satisfiable, what is clamped, and what is answered 416 or 400."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeproxy.oci.errors import BlobUploadInvalid, RangeInvalid
from edgeproxy.oci.ranges import MultiRange, Range, parse_content_range, parse_range, upload_range

SIZES = st.integers(0, 3000)


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        (None, None),
        ("items=0-1", None),
        ("bytes", None),
        ("bytes=0-0", Range(0, 0)),
        ("bytes=500-1499", Range(500, 1499)),
        ("bytes=500-", Range(500, 2047)),
        ("bytes=-500", Range(1548, 2047)),
        ("bytes=-5000", Range(0, 2047)),
        ("bytes=2000-5000", Range(2000, 2047)),
        ("bytes=2047-2047", Range(2047, 2047)),
        ("BYTES=0-1", Range(0, 1)),
        ("bytes= 0-1\t", Range(0, 1)),
        ("bytes=0-" + "9" * 18, Range(0, 2047)),
        ("bytes=0-1,5-9", MultiRange((Range(0, 1), Range(5, 9)))),
        ("bytes=0-1, -2", MultiRange((Range(0, 1), Range(2046, 2047)))),
        ("bytes=9000-,5-9", MultiRange((Range(5, 9),))),
        ("bytes=" + ",".join(["0-0"] * 64), MultiRange((Range(0, 0),) * 64)),
    ],
)
def test_a_range_of_a_blob_of_2048_bytes_is_understood(header: str | None, wanted: Range | MultiRange | None) -> None:
    assert parse_range(header, 2048) == wanted


@pytest.mark.parametrize(
    "header",
    [
        *("bytes=500-0", "bytes=5000-10000", "bytes=2048-", "bytes=2048-2048", "bytes=-0", "bytes=9000-,-0"),
        *(
            "bytes=",
            "bytes=-",
            "bytes=a-b",
            "bytes=1",
            "bytes=1-2-3",
            "bytes=--1",
            "bytes=+1-2",
            "bytes=0x1-2",
            "bytes=1 -2",
        ),
        *("bytes=,", "bytes=0-1,", "bytes=0-1,,2-3", "bytes=0-1,5-2", "bytes=0-1,x", "bytes=0-1;2-3", "bytes=٣-"),
        *("bytes=0-" + "9" * 19, "bytes=" + ",".join(["0-0"] * 65), "bytes=\r\n0-1"),
    ],
)
def test_a_range_that_no_byte_satisfies_or_that_is_garbage_is_416_with_the_size(header: str) -> None:
    with pytest.raises(RangeInvalid) as refused:
        parse_range(header, 2048)
    assert refused.value.status == 416
    assert refused.value.headers == {"Content-Range": "bytes */2048"}
    assert refused.value.message.isprintable()


@pytest.mark.parametrize("header", ["bytes=0-0", "bytes=0-", "bytes=-1"])
def test_no_range_of_an_empty_blob_is_satisfiable_but_the_whole_is_served(header: str) -> None:
    assert parse_range(None, 0) is None
    with pytest.raises(RangeInvalid):
        parse_range(header, 0)


@given(SIZES, st.integers(0, 4000), st.integers(0, 4000))
def test_one_range_selects_the_bytes_that_slicing_selects(size: int, start: int, end: int) -> None:
    content = list(range(size))
    selected = content[start : end + 1]
    if not selected or end < start:
        with pytest.raises(RangeInvalid):
            parse_range(f"bytes={start}-{end}", size)
    else:
        found = parse_range(f"bytes={start}-{end}", size)
        assert isinstance(found, Range)
        assert content[found.start : found.end + 1] == selected


@given(st.integers(1, 3000), st.integers(1, 4000))
def test_a_suffix_selects_the_last_bytes(size: int, length: int) -> None:
    content = list(range(size))
    found = parse_range(f"bytes=-{length}", size)
    assert isinstance(found, Range)
    assert content[found.start : found.end + 1] == content[-length:]


@given(st.text("bytes=0123456789-, \t*/x", max_size=30) | st.text(max_size=10), SIZES)
def test_whatever_is_sent_only_satisfiable_ranges_come_out(header: str, size: int) -> None:
    try:
        found = parse_range(header, size)
    except RangeInvalid:
        return
    ranges = found.ranges if isinstance(found, MultiRange) else [found] if found is not None else []
    assert found is None or ranges
    assert all(0 <= item.start <= item.end < size for item in ranges)


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        ("0-0", (0, 0)),
        ("0-1023", (0, 1023)),
        (" 1024-2047 ", (1024, 2047)),
        ("bytes 0-9", (0, 9)),
        ("bytes 0-9/10", (0, 9)),
        ("bytes 0-9/*", (0, 9)),
        ("5-9/100", (5, 9)),
    ],
)
def test_the_range_of_a_chunk_is_understood(header: str, wanted: tuple[int, int]) -> None:
    assert parse_content_range(header) == wanted


@pytest.mark.parametrize(
    "header",
    [
        "",
        "-",
        "0-",
        "-9",
        "9-0",
        "a-b",
        "0-9/",
        "0-9/x",
        "0-9/9",
        "bytes=0-9",
        "bytes */10",
        "bytes  0-9",
        "0-9,10-19",
        "0-٩",
        "0-" + "9" * 19,
    ],
)
def test_a_chunk_with_another_range_is_refused(header: str) -> None:
    with pytest.raises(BlobUploadInvalid, match=re.escape("<first>-<last>")) as refused:
        parse_content_range(header)
    assert refused.value.status == 400


@pytest.mark.parametrize(("size", "wanted"), [(0, "0-0"), (1, "0-0"), (2, "0-1"), (1024, "0-1023")])
def test_what_has_arrived_is_printed_with_its_last_byte(size: int, wanted: str) -> None:
    assert upload_range(size) == wanted
