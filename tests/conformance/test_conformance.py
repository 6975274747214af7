"""The conformance tool of the distribution specification, run against the registry as it is deployed.

The tool ends with 0 when it cannot start, and skips what a registry does not offer: so the checks that passed are counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.programs import clean_environment, program, run
from tests.running import Registry, StoreKind, serving

pytestmark = pytest.mark.timeout(300)

STABLE_CHECKS = 850
DEV_CHECKS = 975
"""At least so many checks must pass; a little under what the pinned version of the tool runs."""


EVERYWHERE = pytest.mark.parametrize(
    ("kind", "server"), [("filesystem", "hypercorn"), ("versitygw", "hypercorn"), ("filesystem", "granian")]
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How many checks ended how, and what the tool printed."""

    passed: int
    failed: int
    skipped: int
    errors: int
    report: str


async def conformance(registry: Registry, results: Path, version: str, **switches: str) -> Outcome:
    """Run the tool; `switches` by their names without the prefix, in lower case."""
    settings = {
        "OCI_REGISTRY": registry.host,
        "OCI_TLS": "disabled",
        "OCI_REPO1": "conformance/one",
        "OCI_REPO2": "conformance/two",
        "OCI_VERSION": version,
        "OCI_USERNAME": "",
        "OCI_PASSWORD": "",
        "OCI_RESULTS_DIR": str(results),
        **{f"OCI_{name.upper()}": value for name, value in switches.items()},
    }
    binary = program("conformance")
    report = await run(binary, environment=clean_environment(results, settings), status=None)
    suites = ET.parse(results / "junit.xml").getroot()
    counts = {name: int(suites.get(name, "0")) for name in ("tests", "failures", "skipped", "errors", "disabled")}
    passed = counts["tests"] - sum(count for name, count in counts.items() if name != "tests")
    print(f"{version} {switches}: {passed} passed, {counts}")
    return Outcome(passed, counts["failures"], counts["skipped"], counts["errors"], report)


@EVERYWHERE
async def test_the_stable_specification_holds_with_redirects(kind: StoreKind, server: str, tmp_path: Path) -> None:
    program("conformance")
    async with serving(kind, server=server) as registry:
        outcome = await conformance(registry, tmp_path, "stable")

    assert (outcome.failed, outcome.errors) == (0, 0), outcome.report
    assert outcome.passed >= STABLE_CHECKS, outcome.report


@EVERYWHERE
async def test_the_coming_specification_holds_with_redirects_but_for_a_header_only_the_store_could_send(
    kind: StoreKind, server: str, tmp_path: Path
) -> None:
    program("conformance")
    async with serving(kind, server=server) as registry:
        outcome = await conformance(registry, tmp_path, "dev", api_blobs_digest_header="false")

    assert (outcome.failed, outcome.errors) == (0, 0), outcome.report
    assert outcome.passed >= DEV_CHECKS, outcome.report


@EVERYWHERE
async def test_the_coming_specification_holds_whole_where_the_registry_delivers_itself(
    kind: StoreKind, server: str, tmp_path: Path
) -> None:
    program("conformance")
    async with serving(kind, server=server, deliver="proxy") as registry:
        outcome = await conformance(registry, tmp_path, "dev")

    assert (outcome.failed, outcome.errors) == (0, 0), outcome.report
    assert outcome.passed >= DEV_CHECKS, outcome.report
