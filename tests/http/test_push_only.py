"""Callers who may push but not pull: clients look before they push, so what they may not see has to be absent, not forbidden."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.http.harness import House, bearer, digest_of, identity, image, on_directory

POLICY = """\
version: 1
issuers:
  ci: {url: "https://ci.example", audiences: [registry.example]}
rules:
  - {name: both, issuer: ci, match: {role: owner}, allow: [{repositories: ["acme/**"], actions: [pull, push]}]}
  - {name: drop-box, issuer: ci, match: {role: sender}, allow: [{repositories: ["acme/**"], actions: [push]}]}
  - {name: reads, issuer: ci, match: {role: other}, allow: [{repositories: ["other/**"], actions: [pull]}]}
"""
BLOB = b"what somebody else pushed"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    callers = {role: bearer(identity(role, role=role)) for role in ("owner", "sender", "other")}
    async with on_directory(tmp_path, policy=POLICY, callers=callers) as house:
        await house.push_blob("acme/app", BLOB, as_="owner")
        yield house


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_what_exists_is_absent_for_who_may_only_push(house: House, method: str) -> None:
    existing = await house.ask(method, f"/v2/acme/app/blobs/{digest_of(BLOB)}", as_="sender")
    missing = await house.ask(method, f"/v2/acme/app/blobs/{digest_of(b'nowhere')}", as_="sender")

    assert existing.status == missing.status == 404
    assert existing.body.replace(digest_of(BLOB).encode(), b"D") == missing.body.replace(
        digest_of(b"nowhere").encode(), b"D"
    )


async def test_who_may_pull_sees_it(house: House) -> None:
    (await house.ask("HEAD", f"/v2/acme/app/blobs/{digest_of(BLOB)}", as_="owner")).expect(200)


async def test_who_may_neither_is_denied(house: House) -> None:
    reply = await house.ask("GET", f"/v2/acme/app/blobs/{digest_of(BLOB)}", as_="other")

    assert reply.error[0] == 403


async def test_a_whole_push_works_without_pull(house: House) -> None:
    for blob in (b"{}", BLOB):
        await house.push_blob("acme/app", blob, as_="sender")
    (await house.ask("HEAD", "/v2/acme/app/manifests/latest", as_="sender")).expect(404)
    (await house.put_manifest("acme/app", "latest", image(BLOB), as_="sender")).expect(201)

    (await house.ask("GET", "/v2/acme/app/manifests/latest", as_="sender")).expect(404)
    (await house.ask("GET", "/v2/acme/app/manifests/latest", as_="owner")).expect(200)
