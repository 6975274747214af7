"""docs/metrics.md, the list of metrics in the code, and what a running registry prints are one and the same."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from edgeproxy.access.decisions import Reason
from edgeproxy.access.refusals import TokenReason
from edgeproxy.counters import OPERATIONS, Counters
from edgeproxy.exposition import counted, lasting, merged, printed
from edgeproxy.metrics import METRICS, Described, Samples
from edgeproxy.web.records import OPERATION_NAMES
from tests.docs.pages import Page
from tests.metrics.page import ROOT, names_of, page_of

DOCUMENT: Final = Page.read(ROOT / "docs" / "metrics.md")
SECTIONS: Final = (
    "Requests",
    "Bytes",
    "Access",
    "The store",
    "Caches",
    "Uploads",
    "Audit",
    "Policy and keys",
    "The process",
)


def label_cell(metric: Described) -> str:
    return ", ".join(f"`{label}`" for label in metric.labels)


def values_cell(values: Sequence[str] | str) -> str:
    return values if isinstance(values, str) else ", ".join(f"`{value}`" for value in values)


def test_the_page_lists_every_metric_with_its_kind_labels_and_meaning() -> None:
    told = [tuple(row) for section in SECTIONS for row in DOCUMENT.tables(section)[0]]

    assert sorted(told) == sorted(
        (f"`{metric.name}`", metric.kind, label_cell(metric), metric.text) for metric in METRICS
    )


def test_the_page_lists_all_values_of_every_label() -> None:
    told = {
        (name.strip("`"), label.strip("`")): values
        for names, label, values in DOCUMENT.tables("Labels")[0]
        for name in names.split(", ")
    }

    assert told == {
        (metric.name, label): values_cell(values) for metric in METRICS for label, values in metric.labels.items()
    }


def test_the_reasons_that_the_page_names_are_all_that_there_are() -> None:
    (reasons,) = (values for metric in METRICS for label, values in metric.labels.items() if label == "reason")
    assert isinstance(reasons, str)
    of_policy, of_credential, of_registry = (
        set(re.findall(r"`([a-z_]+)`", part)) for part in re.split(r"; of ", reasons)
    )

    assert of_policy == {"policy", *map(str, Reason), "insufficient_scope"}
    assert of_credential == {"credential", *map(str, TokenReason)}
    assert of_registry == {"registry", "unauthorized", "denied"}


def test_every_name_is_ours_and_counters_say_that_they_count() -> None:
    for metric in METRICS:
        assert re.fullmatch(r"edgeproxy_[a-z0-9_]+", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
    assert len({metric.name for metric in METRICS}) == len(METRICS)


def test_no_label_can_hold_what_callers_choose() -> None:
    labels = {label for metric in METRICS for label in metric.labels}
    assert labels.isdisjoint(
        {"repository", "subject", "tag", "digest", "address", "user_agent", "path", "method", "status"}
    )
    assert set(OPERATION_NAMES.values()) <= set(OPERATIONS)


def test_the_counters_of_workers_add_up_and_their_states_do_not() -> None:
    first, second = Counters(), Counters()
    first.requests_of("ping", "ok").add(0.0001)
    second.requests_of("ping", "ok").add(30)
    broken: Samples = {("edgeproxy_policy_broken", ()): 1.0}
    mended: Samples = {("edgeproxy_policy_broken", ()): 0.0}
    whole = page_of(merged([counted(first) | broken, counted(second) | mended]))

    assert whole['edgeproxy_requests_total{operation="ping",outcome="ok"}'] == 2
    assert whole['edgeproxy_request_seconds_bucket{le="0.0005",operation="ping"}'] == 1
    assert whole['edgeproxy_request_seconds_bucket{le="45.0",operation="ping"}'] == 2
    assert whole['edgeproxy_request_seconds_sum{operation="ping"}'] == 30.0001
    assert whole["edgeproxy_policy_broken"] == 1
    assert "edgeproxy_policy_broken" not in page_of(lasting(broken))


def test_what_alarms_watch_is_there_from_the_start() -> None:
    fresh = page_of(counted(Counters()))

    assert fresh['edgeproxy_requests_total{operation="get_blob",outcome="failed"}'] == 0
    assert fresh['edgeproxy_store_calls_total{class="A",operation="PutObject",outcome="failed"}'] == 0
    assert {"edgeproxy_redirects_total", "edgeproxy_store_retries_total"} <= names_of(fresh)


def test_a_page_stays_small_whatever_happens() -> None:
    counters = Counters()
    for number in range(10_000):
        counters.token(f"issuer {number}", "issued")
        counters.store_call("GetObject", 0.1, f"Code{number}")
        counters.store_call(f"Call{number}", 0.1, "ok")

    assert len(printed(counted(counters))) < 100_000


def test_the_folder_of_operations_is_linked_from_the_page() -> None:
    assert {"operations/alerts.yaml", "operations/dashboard.json"} <= set(DOCUMENT.links)
    assert all((Path(DOCUMENT.path).parent / name).exists() for name in DOCUMENT.links if "#" not in name)
