"""What is told of each request, and what never is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.http.harness import IMAGE, NOW, House, bearer, digest_of, identity, image, in_session, on_directory

POLICY = """\
version: 1
issuers:
  ci: {url: "https://ci.example", audiences: [r]}
rules:
  - {name: main-pushes, issuer: ci, match: {team: a, ref: main}, allow: [{repositories: ["acme/**"], actions: [pull, push, delete]}]}
  - {name: trial, issuer: ci, match: {team: a}, allow: [{repositories: ["acme/**"], actions: [pull]}], mode: audit}
"""
SECRET = "Bearer-that-nobody-may-see"
CALLERS = {SECRET: bearer(identity(team="a", ref="main")), "branch": bearer(identity(team="a", ref="x"))}
MANIFEST = image(b"layer")


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with on_directory(tmp_path, policy=POLICY, callers=CALLERS) as found:
        yield found


async def told(house: House, method: str, target: str, **options: Any) -> dict[str, Any]:
    """Send a request and give its line."""
    headers = {"user-agent": "docker/29", "content-type": IMAGE, **options.pop("headers", {})}
    await house.ask(method, target, headers=headers, as_=options.pop("as_", SECRET), **options)
    line = await house.event()
    text = repr(line)
    for secret in (SECRET, "signature=", "X-Amz", "expires="):
        assert secret not in text
    return line


async def push(house: House) -> None:
    for blob in (b"{}", b"layer"):
        await told(house, "POST", f"/v2/acme/app/blobs/uploads/?digest={digest_of(blob)}", body=blob)
    await told(house, "PUT", "/v2/acme/app/manifests/latest", body=MANIFEST)


async def test_a_push_is_told_with_who_what_and_which_rule(house: House) -> None:
    await push(house)
    line = await told(house, "PUT", "/v2/acme/app/manifests/v2", body=MANIFEST)
    assert line == {
        "time": NOW,
        "request_id": "r1",
        "event": "push",
        "outcome": "allowed",
        "issuer": "ci",
        "subject": "job",
        "rule": "main-pushes",
        "policy": house.policy.version,
        "claims": {"team": "a", "ref": "main"},
        "repository": "acme/app",
        "tag": "v2",
        "digest": digest_of(MANIFEST),
        "media_type": IMAGE,
        "bytes": len(MANIFEST),
        "client": {"address": "192.0.2.1", "user_agent": "docker/29"},
    } | {key: line[key] for key in line if key == "audit_only"}


async def test_every_kind_of_request_has_its_event(house: House) -> None:
    await push(house)
    blob, layer = f"/v2/acme/app/blobs/{digest_of(b'{}')}", digest_of(b"layer")
    pulled = await told(house, "GET", blob)
    assert (pulled["event"], pulled["digest"], pulled["delivery"], pulled["bytes"]) == (
        "pull",
        digest_of(b"{}"),
        "redirect",
        2,
    )
    manifest = await told(house, "GET", "/v2/acme/app/manifests/latest")
    assert (manifest["event"], manifest["tag"], manifest["digest"]) == ("pull", "latest", digest_of(MANIFEST))
    mounted = await told(house, "POST", f"/v2/acme/new/blobs/uploads/?mount={layer}&from=acme/app", body=b"")
    assert (mounted["event"], mounted["mounted_from"], mounted["repository"]) == ("push", "acme/app", "acme/new")
    location = await house.start_upload("acme/app", as_=SECRET)
    assert (await house.event())["event"] == "upload"
    finished = await told(house, "PUT", in_session(location, digest_of(b"new")), body=b"new")
    assert (finished["event"], finished["digest"], finished["bytes"]) == ("push", digest_of(b"new"), 3)
    for target, event in (
        ("/v2/acme/app/tags/list", "list"),
        ("/v2/_catalog", "list"),
        (f"/v2/acme/app/referrers/{layer}", "list"),
    ):
        assert (await told(house, "GET", target))["event"] == event
    for target in ("/v2/acme/app/manifests/latest", f"/v2/acme/app/blobs/{layer}"):
        line = await told(house, "DELETE", target)
        assert (line["event"], line["outcome"], line["repository"]) == ("delete", "allowed", "acme/app")


async def test_a_range_is_told_with_its_own_length(house: House) -> None:
    await push(house)
    line = await told(house, "GET", f"/v2/acme/app/blobs/{digest_of(b'layer')}", headers={"range": "bytes=1-2"})
    assert line["bytes"] == 2


async def test_a_denial_is_told_with_the_whole_explanation_that_the_caller_does_not_get(house: House) -> None:
    line = await told(house, "PUT", "/v2/acme/app/manifests/latest", body=MANIFEST, as_="branch")
    assert (line["event"], line["outcome"], line["reason"], line["action"]) == ("denied", "denied", "no_rule", "push")
    nearest = line["nearest"]
    assert (nearest["rule"], nearest["claim"]) == ("main-pushes", "ref")
    assert "x" in nearest["got"]
    assert "main" in nearest["wanted"]
    assert line["status"] == 403


async def test_a_rule_on_trial_is_told_and_decides_nothing(house: House) -> None:
    line = await told(house, "GET", "/v2/acme/app/tags/list", as_="branch")
    assert (line["outcome"], line["audit_only"]) == ("denied", ["trial"])


async def test_a_credential_that_is_not_believed_is_told_with_its_reason(house: House) -> None:
    line = await told(house, "GET", "/v2/acme/app/tags/list", as_="forged")
    assert (line["event"], line["outcome"], line["status"], line["reason"]) == ("denied", "denied", 401, "signature")
    assert line["detail"] == "for operators"
    assert "subject" not in line


async def test_what_failed_is_told_with_code_and_message(house: House) -> None:
    line = await told(house, "GET", "/v2/acme/app/manifests/none")
    assert (line["event"], line["outcome"], line["status"]) == ("pull", "failed", 404)
    assert line["reason"] == "MANIFEST_UNKNOWN: tag none is not in repository acme/app"


async def test_an_odd_user_agent_does_not_break_the_line(house: House) -> None:
    for agent in ("\xff\xfe", 'a"b\\', "x" * 5000):
        line = await told(house, "GET", "/v2/acme/app/tags/list", headers={"user-agent": agent})
        assert line["client"]["user_agent"] == agent
