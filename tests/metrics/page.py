"""A page of /metrics as a test reads it: sample lines and their values, and what two pages differ in."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from edgeproxy.exposition import printed
from edgeproxy.metrics import Samples

Page = dict[str, float]

ROOT = Path(__file__).parents[2]

_PASSING = re.compile(
    r"edgeproxy_(process_|asyncio_|audit_|policy_age|signing_key_age|issuer_keys_age|\w+_seconds_(sum|bucket))"
)


def parsed(text: str) -> Page:
    """Read a page: the value of each sample, by its name with its labels."""
    lines = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


def page_of(samples: Samples) -> Page:
    return parsed(printed(samples).decode())


def names_of(page: Iterable[str]) -> set[str]:
    """Give the names of the metrics on a page, histograms by the name that they have in common."""
    names = {sample.partition("{")[0] for sample in page}
    return {re.sub(r"(_seconds)_(bucket|sum|count)$", r"\1", name) for name in names}


def gained(before: Page, after: Page) -> Page:
    """Give what was counted in between, but for what time alone changes."""
    changes = {name: value - before.get(name, 0.0) for name, value in after.items() if not _PASSING.match(name)}
    return {name: change for name, change in changes.items() if change}


def total(page: Page, name: str, *labels: str) -> float:
    """Add up the samples of a metric that have these labels, such as `outcome="ok"`."""
    return sum(
        value
        for sample, value in page.items()
        if sample.partition("{")[0] == name and all(label in sample for label in labels)
    )
