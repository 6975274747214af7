"""A pull whose every step is remembered is answered at once, and exactly as it would be after asking."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.http.harness import OPEN, House, Reply, bearer, digest_of, identity, on_directory

RULES = """\
version: 1
issuers:
  ci: {url: https://ci.example, audiences: [registry.example]}
rules:
  - name: team
    issuer: ci
    match: {team: a}
    allow: [{repositories: ["team/**"], actions: [pull, push, delete]}]
"""
NOBODY = """\
version: 1
issuers:
  ci: {url: https://ci.example, audiences: [registry.example]}
deny:
  - {name: closed, repositories: ["**"], actions: [pull]}
"""
LAYER = b"a layer"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    callers = {"member": bearer(identity(team="a")), "stranger": bearer(identity("other", team="b"))}
    async with on_directory(tmp_path, policy=OPEN, callers=callers) as house:
        house.manifest = await house.push_image("team/app", "latest", LAYER)  # type: ignore[attr-defined]
        house.set_policy(RULES)
        yield house


def targets(house: House) -> dict[str, str]:
    return {
        "blob": f"/v2/team/app/blobs/{digest_of(LAYER)}",
        "manifest": f"/v2/team/app/manifests/{digest_of(house.manifest)}",  # type: ignore[attr-defined]
    }


def at_once(house: House, method: str, target: str, as_: str, *headers: tuple[str, str]) -> Reply | None:
    """Ask in one step: None if the application had to wait for anything."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    fields = [("authorization", f"Bearer {as_}"), *headers]
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "raw_path": target.encode(),
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in fields],
        "client": ("192.0.2.1", 4711),
    }
    answering = house.app(scope, receive, send).__await__()
    try:
        next(answering)
    except StopIteration:
        start, *rest = sent
        names = tuple((name.decode(), value.decode()) for name, value in start["headers"])
        return Reply(start["status"], names, b"".join(message["body"] for message in rest), complete=True)
    answering.close()
    return None


@pytest.mark.parametrize("headers", [(), (("range", "bytes=1-3"),), (("if-none-match", "*"),)])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("kind", ["blob", "manifest"])
async def test_a_warm_pull_is_answered_without_a_wait_as_a_cold_one_was_with_it(
    house: House, kind: str, method: str, headers: tuple[tuple[str, str], ...]
) -> None:
    target = targets(house)[kind]
    house.registry.blobs.links.clear()
    house.registry.manifests.memory.clear()
    assert at_once(house, method, target, "member", *headers) is None
    cold = await house.ask(method, target, headers=headers, as_="member")
    warm = at_once(house, method, target, "member", *headers)
    assert warm == cold
    lines = [await house.event() for _ in range(5)]
    assert lines[3] == lines[4], "three of the push, then these"


async def test_what_is_remembered_of_a_repository_opens_nothing_to_a_caller_who_may_not_pull(house: House) -> None:
    for target in targets(house).values():
        await house.ask("GET", target, as_="member")
        refused = at_once(house, "GET", target, "stranger")
        assert refused is not None
        assert refused.error == (403, "DENIED")
        assert refused == await house.ask("GET", target, as_="stranger")
        allowed = at_once(house, "GET", target, "member")
        assert allowed is not None
        assert allowed.status in {200, 307}


async def test_a_changed_policy_holds_for_the_very_next_warm_pull(house: House) -> None:
    for target in targets(house).values():
        house.set_policy(RULES)
        await house.ask("GET", target, as_="member")
        house.set_policy(NOBODY)
        refused = at_once(house, "GET", target, "member")
        assert refused is not None
        assert refused.error == (403, "DENIED")


async def test_a_deleted_blob_is_not_served_from_memory(house: House) -> None:
    target = targets(house)["blob"]
    assert (await house.ask("GET", target, as_="member")).status == 307
    (await house.ask("DELETE", target, as_="member")).expect(202)
    assert at_once(house, "GET", target, "member") is None
    assert (await house.ask("GET", target, as_="member")).error == (404, "BLOB_UNKNOWN")


async def test_what_a_manifest_vouches_for_is_served_once_it_is_known_that_nothing_was_deleted_since(
    house: House,
) -> None:
    found = targets(house)
    for memory in (house.registry.blobs.links, house.registry.blobs.deletions, house.registry.manifests.memory):
        memory.clear()
    await house.ask("GET", found["manifest"], as_="member")
    assert at_once(house, "GET", found["blob"], "member") is None, "nobody knows yet whether a blob was deleted since"
    assert (await house.ask("GET", found["blob"], as_="member")).status == 307
    assert at_once(house, "GET", found["blob"], "member") is not None
