"""The alert rules and the dashboard: promtool reads them, each alert fires when it should and is quiet one step away."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from edgeproxy.metrics import METRICS
from tests.metrics.page import ROOT
from tests.programs import clean_environment, program, run

ALERTS: Final = ROOT / "docs" / "operations" / "alerts.yaml"
DASHBOARD: Final = ROOT / "docs" / "operations" / "dashboard.json"
RULES: Final = {rule["alert"]: rule for rule in yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]}
DAY: Final = 86400

OK, FAILED = 'edgeproxy_requests_total{outcome="ok"}', 'edgeproxy_requests_total{outcome="failed"}'
CALLS, LIMITED = 'edgeproxy_store_calls_total{outcome="ok"}', 'edgeproxy_store_calls_total{outcome="slow_down"}'
READS: Final = 'edgeproxy_store_call_seconds_bucket{{operation="HeadObject",le="{}"}}'
OLD: Final = 'edgeproxy_signing_key_age_seconds{kid="k",signs="true"}'
ISSUER: Final = {"issuer": "ci"}
INSTANCE: Final = {"instance": "a"}

Series = dict[str, str]

# For each alert: what Prometheus sees every minute when it must fire, with the labels that it fires with, and when it must not.
CASES: Final[dict[str, tuple[Series, dict[str, str], Series]]] = {
    "EdgeproxyDown": (
        {'up{job="edgeproxy",instance="a"}': "0+0x200", 'up{job="other"}': "1+0x200"},
        {},
        {'up{job="edgeproxy",instance="a"}': "0+0x200", 'up{job="edgeproxy",instance="b"}': "1+0x200"},
    ),
    "EdgeproxyNoReadyReplica": (
        {
            'edgeproxy_unready{instance="a",check="store"}': "1+0x200",
            'edgeproxy_unready{instance="a",check="policy"}': "0+0x200",
            'edgeproxy_unready{instance="b",check="store"}': "1+0x200",
        },
        {},
        {
            'edgeproxy_unready{instance="a",check="store"}': "1+0x200",
            'edgeproxy_unready{instance="b",check="store"}': "0+0x200",
        },
    ),
    "EdgeproxyErrors": ({OK: "0+970x200", FAILED: "0+30x200"}, {}, {OK: "0+995x200", FAILED: "0+5x200"}),
    "EdgeproxyPolicyBroken": (
        {'edgeproxy_policy_broken{instance="a"}': "1+0x200"},
        INSTANCE,
        {'edgeproxy_policy_broken{instance="a"}': "0+0x200"},
    ),
    "EdgeproxyPoliciesDiffer": (
        {
            'edgeproxy_policy_info{instance="a",version="1"}': "1+0x200",
            'edgeproxy_policy_info{instance="b",version="2"}': "1+0x200",
        },
        {},
        {
            'edgeproxy_policy_info{instance="a",version="1"}': "1+0x200",
            'edgeproxy_policy_info{instance="b",version="1"}': "1+0x200",
        },
    ),
    "EdgeproxyAuditDropped": (
        {'edgeproxy_audit_dropped_total{instance="a"}': "0+1x200"},
        INSTANCE,
        {'edgeproxy_audit_dropped_total{instance="a"}': "7+0x200"},
    ),
    "EdgeproxyAuditBehind": (
        {'edgeproxy_audit_waiting{instance="a"}': "10001+0x200"},
        INSTANCE,
        {'edgeproxy_audit_waiting{instance="a"}': "10000+0x200"},
    ),
    "EdgeproxySigningKeyOld": (
        {OLD: f"{91 * DAY}+60x200"},
        {"kid": "k"},
        {OLD: f"{80 * DAY}+60x200", OLD.replace("true", "false"): f"{200 * DAY}+60x200"},
    ),
    "EdgeproxyIssuerKeysUnread": (
        {'edgeproxy_issuer_keys_broken{issuer="ci"}': "1+0x200"},
        ISSUER,
        {'edgeproxy_issuer_keys_broken{issuer="ci"}': "0+0x200"},
    ),
    "EdgeproxyIssuerKeysEnd": (
        {'edgeproxy_issuer_keys_end_seconds{issuer="ci"}': f"{10 * DAY}-60x200"},
        ISSUER,
        {'edgeproxy_issuer_keys_end_seconds{issuer="ci"}': f"{15 * DAY}-60x200"},
    ),
    "EdgeproxyStoreErrors": ({CALLS: "0+90x200", LIMITED: "0+10x200"}, {}, {CALLS: "0+99x200", LIMITED: "0+1x200"}),
    "EdgeproxyStoreSlow": (
        {READS.format("1.0"): "0+90x200", READS.format("2.5"): "0+100x200", READS.format("+Inf"): "0+100x200"},
        {},
        {READS.format("0.5"): "0+100x200", READS.format("1.0"): "0+100x200", READS.format("+Inf"): "0+100x200"},
    ),
    "EdgeproxyUploadMemory": (
        {'edgeproxy_uploads_waiting{instance="a"}': "3+0x200"},
        INSTANCE,
        {'edgeproxy_uploads_waiting{instance="a"}': "0+0x200"},
    ),
    "EdgeproxyWorkerMissing": (
        {'edgeproxy_workers{instance="a"}': "2+0x100 1+0x100"},
        INSTANCE,
        {'edgeproxy_workers{instance="a"}': "2+0x200"},
    ),
}
MOMENT: Final = "2h"


def case(name: str, series: Series, labels: dict[str, str] | None) -> dict[str, Any]:
    """Make one of promtool's unit tests; without labels the alert must not fire."""
    rule = RULES[name]
    fired = [{"exp_labels": {**rule["labels"], **(labels or {})}, "exp_annotations": rule["annotations"]}]
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [
            {"eval_time": MOMENT, "alertname": name, "exp_alerts": [] if labels is None else fired},
        ],
    }


async def promtool(folder: Path, *words: str, status: int | None = 0) -> str:
    return await run(program("promtool"), *words, environment=clean_environment(folder), status=status)


def test_every_alert_has_its_case() -> None:
    assert set(CASES) == set(RULES)


async def test_promtool_takes_the_rules(tmp_path: Path) -> None:
    assert f"SUCCESS: {len(RULES)} rules found" in await promtool(tmp_path, "check", "rules", str(ALERTS))


@pytest.mark.parametrize("name", RULES)
async def test_an_alert_fires_when_it_should_and_is_quiet_one_step_away(name: str, tmp_path: Path) -> None:
    firing, labels, quiet = CASES[name]
    for number, tests in enumerate(([case(name, firing, labels)], [case(name, quiet, None)])):
        file = tmp_path / f"{number}.yaml"
        file.write_text(yaml.safe_dump({"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": tests}))
        assert "SUCCESS" in await promtool(tmp_path, "test", "rules", str(file))
    # The test can fail: what must be quiet does not fire.
    file.write_text(
        yaml.safe_dump({"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": [case(name, quiet, labels)]})
    )
    assert "FAILED" in await promtool(tmp_path, "test", "rules", str(file), status=1)


def named_in(text: str) -> set[str]:
    return {re.sub(r"_seconds_(bucket|sum|count)$", "_seconds", name) for name in re.findall(r"edgeproxy_\w+", text)}


@pytest.mark.parametrize("file", [ALERTS, DASHBOARD], ids=["alerts", "dashboard"])
def test_every_metric_that_is_named_exists(file: Path) -> None:
    known = {metric.name for metric in METRICS}
    assert named_in(file.read_text())
    assert named_in(file.read_text()) <= known


def expressions() -> list[str]:
    dashboard = json.loads(DASHBOARD.read_text())
    return [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]


async def test_every_expression_of_the_dashboard_is_read_by_promtool(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": text.replace("$__rate_interval", "5m").replace("$instance", ".*")}
        for number, text in enumerate(expressions())
    ]
    assert len(rules) > 15
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"SUCCESS: {len(rules)} rules found" in await promtool(tmp_path, "check", "rules", str(file))
    rules[0]["expr"] += " +"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert "FAILED" in await promtool(tmp_path, "check", "rules", str(file), status=1)


def test_every_panel_says_what_it_shows_and_has_a_place_of_its_own() -> None:
    panels = [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        assert all(panel[part] for part in ("title", "description", "targets")), panel["title"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in panels}) == len(panels)
