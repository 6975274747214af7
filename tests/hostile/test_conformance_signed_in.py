"""The conformance tool of the distribution specification, signed in with a token, against a registry that lets nobody else in."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.test_conformance import DEV_CHECKS, STABLE_CHECKS, Outcome, conformance
from tests.issuer import LocalIssuer
from tests.programs import program
from tests.running import StoreKind, serving

pytestmark = pytest.mark.timeout(300)

MOUNTS = 10
"""Checks of mounts, and of what is mounted: the tool shows a token that covers the target alone, so that its mounts become uploads."""

POLICY = """\
version: 1
issuers:
  ci: {{url: "{url}", audiences: [registry.example]}}
rules:
  - name: conformance
    issuer: ci
    match: {{team: conformance}}
    allow: [{{repositories: ["conformance/**"], actions: [pull, push, delete, catalog]}}]
"""


async def signed_in(kind: StoreKind, results: Path, version: str, team: str, **switches: str) -> Outcome:
    """Run the tool with a token of somebody in this team."""
    program("conformance")
    async with LocalIssuer().serving() as issuer, serving(kind, policy=POLICY.format(url=issuer.url)) as registry:
        now = time.time()
        token = issuer.mint({"team": team, "iat": now, "exp": now + 600})
        login: dict[str, Any] = {"username": "any", "password": token}
        return await conformance(registry, results, version, **login, **switches)


@pytest.mark.parametrize("kind", ["filesystem", "versitygw"])
async def test_the_stable_specification_holds_for_who_signs_in_with_a_token(kind: StoreKind, tmp_path: Path) -> None:
    outcome = await signed_in(kind, tmp_path, "stable", "conformance")

    assert (outcome.failed, outcome.errors) == (0, 0), outcome.report
    assert outcome.passed >= STABLE_CHECKS - MOUNTS, outcome.report


async def test_the_coming_specification_holds_for_who_signs_in_with_a_token(tmp_path: Path) -> None:
    outcome = await signed_in("filesystem", tmp_path, "dev", "conformance", api_blobs_digest_header="false")

    assert (outcome.failed, outcome.errors) == (0, 0), outcome.report
    assert outcome.passed >= DEV_CHECKS - MOUNTS, outcome.report


async def test_the_specification_does_not_hold_for_who_has_no_rule(tmp_path: Path) -> None:
    """The twin: the same run with a token that no rule matches gets nothing done."""
    outcome = await signed_in("filesystem", tmp_path, "stable", "another")

    assert outcome.failed + outcome.errors > 0
    assert outcome.passed < STABLE_CHECKS // 2
