"""Lists: tags, catalog, referrers. In byte order, in pages, and bounded whatever is asked."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from edgeproxy.oci.names import Digest, Repository
from edgeproxy.registry.tags import PAGE
from edgeproxy.storage import keys
from tests.http.harness import (
    CONFIG,
    IMAGE,
    INDEX,
    House,
    Reply,
    bearer,
    descriptor,
    digest_of,
    identity,
    image,
    index,
    on_directory,
)

SUBJECT = b"subject"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with on_directory(tmp_path) as found:
        await found.push_blob("acme/app", b"{}")
        yield found


async def follow(house: House, target: str, name: str) -> list[list[str]]:
    """Follow the links of a list to its end; give its pages."""
    pages: list[list[str]] = []
    while target:
        reply = (await house.ask("GET", target)).expect(200)
        pages.append(reply.json[name])
        target = next_page(reply)
    return pages


def next_page(reply: Reply) -> str:
    if not reply.has("link"):
        return ""
    target, _, relation = reply.header("link").partition(">; ")
    assert relation == 'rel="next"'
    assert target.startswith("</v2/")
    return target[1:]


async def tag(house: House, *names: str) -> None:
    for name in names:
        (await house.put_manifest("acme/app", name, image())).expect(201)


async def test_tags_come_in_byte_order(house: House) -> None:
    names = ["a", "Z", "_x", "1", "a.b", "a-b", "A", "v10", "v9", "latest"]
    await tag(house, *names)
    reply = (await house.ask("GET", "/v2/acme/app/tags/list")).expect(200)
    assert reply.json == {"name": "acme/app", "tags": sorted(names)}
    assert reply.header("content-type") == "application/json"
    assert not reply.has("link")


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6])
async def test_pages_of_tags_hold_n_each_and_miss_none(house: House, n: int) -> None:
    names = ["a", "b", "c", "d", "e"]
    await tag(house, *names)
    pages = await follow(house, f"/v2/acme/app/tags/list?n={n}", "tags")
    assert [name for page in pages for name in page] == names
    assert all(len(page) == n for page in pages[:-1])
    assert len(pages) == -(-len(names) // n)


async def test_no_tags_are_listed_for_n_zero_and_there_is_no_link(house: House) -> None:
    await tag(house, "a")
    reply = await house.ask("GET", "/v2/acme/app/tags/list?n=0")
    assert (reply.status, reply.json["tags"], reply.has("link")) == (200, [], False)


@pytest.mark.parametrize("last", ["a", "a0", "%00"[0:0] + "b~", "a/b", "../../catalog", "..", "/", " ", "a" * 256, "~"])
async def test_the_marker_need_not_be_a_tag(house: House, last: str) -> None:
    await tag(house, "a", "b", "c")
    reply = await house.ask("GET", f"/v2/acme/app/tags/list?last={quote(last, safe='')}")
    assert (reply.status, reply.json["tags"]) == (200, [name for name in ("a", "b", "c") if name > last])


async def test_tags_of_a_repository_that_is_not_there_are_not_an_empty_list(house: House) -> None:
    assert (await house.ask("GET", "/v2/acme/none/tags/list")).error == (404, "NAME_UNKNOWN")
    assert (await house.ask("GET", "/v2/acme/none/tags/list?n=0")).error == (404, "NAME_UNKNOWN")
    (await house.put_manifest("acme/app", digest_of(image()), image())).expect(201)
    assert (await house.ask("GET", "/v2/acme/app/tags/list")).json["tags"] == []


async def test_tags_of_a_repository_below_another_are_its_own(house: House) -> None:
    await house.push_blob("acme/app/sub", b"{}")
    await tag(house, "outer")
    (await house.put_manifest("acme/app/sub", "inner", image())).expect(201)
    assert (await house.ask("GET", "/v2/acme/app/tags/list")).json["tags"] == ["outer"]
    assert (await house.ask("GET", "/v2/acme/app/sub/tags/list")).json["tags"] == ["inner"]


async def test_unbounded_listing_is_prevented(house: House) -> None:
    """However many are asked for, no page holds more than a thousand."""
    prefix = keys.tags(Repository("acme/app"))
    await tag(house, "t")
    for number in range(PAGE + 1):
        await house.store.put(f"{prefix}u{number:05d}", b"x")
    for n in ("1000000000000", "9" * 5000, "10001", "00000000000000000000001001"):
        reply = (await house.ask("GET", f"/v2/acme/app/tags/list?n={n}")).expect(200)
        assert len(reply.json["tags"]) == PAGE
        assert "last=u00998" in next_page(reply)
    assert len((await house.ask("GET", "/v2/acme/app/tags/list")).json["tags"]) == PAGE


@pytest.mark.parametrize("n", ["-1", "abc", "1e3", "0x10", "+1", "%201", "1.0", "%D9%A3"])
async def test_a_page_size_that_is_no_number_is_refused(house: House, n: str) -> None:
    await tag(house, "a")
    for target in ("/v2/acme/app/tags/list", "/v2/_catalog"):
        assert (await house.ask("GET", f"{target}?n={n}")).error == (400, "UNSUPPORTED")
        (await house.ask("GET", f"{target}?n=1")).expect(200)


REPOSITORIES = ["a", "a-b", "a.b", "a/b", "a0", "ab", "b", "b/c-d.e__f/g"]


async def make_repositories(house: House) -> None:
    for name in REPOSITORIES:
        await house.push_blob(name, b"{}")
        (await house.put_manifest(name, "latest", image())).expect(201)


@pytest.mark.parametrize("n", [1, 3, 8, 9])
async def test_the_catalog_comes_in_byte_order_and_in_pages(house: House, n: int) -> None:
    await make_repositories(house)
    assert sorted(REPOSITORIES) == REPOSITORIES
    assert (await house.ask("GET", "/v2/_catalog")).json == {"repositories": REPOSITORIES}
    pages = await follow(house, f"/v2/_catalog?n={n}", "repositories")
    assert [name for page in pages for name in page] == REPOSITORIES
    assert (await house.ask("GET", "/v2/_catalog?n=0")).json == {"repositories": []}
    assert (await house.ask("GET", "/v2/_catalog?last=a.b")).json["repositories"] == REPOSITORIES[3:]


async def test_the_catalog_shows_a_caller_only_what_it_may_pull_and_see(tmp_path: Path) -> None:
    policy = """\
version: 1
issuers:
  ci: {url: "https://ci.example", audiences: [r]}
rules:
  - {name: all, issuer: ci, match: {team: a}, allow: [{repositories: ["a", "a/**", "ab"], actions: [pull, catalog]}, {repositories: ["b"], actions: [pull]}, {repositories: ["a0"], actions: [catalog]}]}
  - {name: root, issuer: ci, match: {team: root}, allow: [{repositories: ["**"], actions: [pull, push, catalog]}]}
"""
    callers = {"a": bearer(identity(team="a")), "root": bearer(identity(team="root"))}
    async with on_directory(tmp_path, policy=policy, callers=callers) as house:
        for name in REPOSITORIES:
            await house.push_blob(name, b"{}", as_="root")
            (await house.put_manifest(name, "latest", image(), as_="root")).expect(201)
        assert (await house.ask("GET", "/v2/_catalog", as_="root")).json["repositories"] == REPOSITORIES
        assert (await house.ask("GET", "/v2/_catalog", as_="a")).json["repositories"] == ["a", "a/b", "ab"]
        assert (await house.ask("GET", "/v2/_catalog")).json["repositories"] == []
        first = await house.ask("GET", "/v2/_catalog?n=2", as_="a")
        assert first.json["repositories"] == ["a", "a/b"]
        last = await house.ask("GET", next_page(first), as_="a")
        assert (last.json["repositories"], last.has("link")) == (["ab"], False)


async def test_an_object_in_the_catalog_that_no_registry_wrote_does_not_break_it(house: House) -> None:
    await house.store.put("catalog/NotAName", b"")
    await tag(house, "a")
    assert (await house.ask("GET", "/v2/_catalog")).json == {"repositories": ["acme/app"]}


def referring(number: int, **more: Any) -> bytes:
    return image(subject=descriptor(SUBJECT, IMAGE), annotations={"n": str(number)}, **more)


TARGET = f"/v2/acme/app/referrers/{digest_of(SUBJECT)}"


async def test_what_refers_to_nothing_known_is_an_empty_index_and_never_404(house: House) -> None:
    for name in ("acme/app", "not/there"):
        reply = await house.ask("GET", f"/v2/{name}/referrers/{digest_of(b'unknown')}")
        assert (reply.status, reply.header("content-type")) == (200, INDEX)
        assert reply.json == {"schemaVersion": 2, "mediaType": INDEX, "manifests": []}


async def test_a_referrer_is_listed_with_its_type_and_its_annotations(house: House) -> None:
    typed = referring(1, artifactType="application/vnd.example.sbom")
    untyped = referring(2)
    fat = index(subject=descriptor(SUBJECT, IMAGE))
    for manifest, media_type in ((typed, IMAGE), (untyped, IMAGE), (fat, INDEX)):
        (await house.put_manifest("acme/app", digest_of(manifest), manifest, media_type)).expect(201)
    found = {item["digest"]: item for item in (await house.ask("GET", TARGET)).json["manifests"]}
    assert found == {
        digest_of(typed): {
            **descriptor(typed, IMAGE),
            "artifactType": "application/vnd.example.sbom",
            "annotations": {"n": "1"},
        },
        digest_of(untyped): {**descriptor(untyped, IMAGE), "artifactType": CONFIG, "annotations": {"n": "2"}},
        digest_of(fat): descriptor(fat, INDEX),
    }


async def test_referrers_are_filtered_by_type_and_the_answer_says_so(house: House) -> None:
    wanted = referring(1, artifactType="application/vnd.example.a+json")
    other = referring(2, artifactType="application/vnd.example.b+json")
    for manifest in (wanted, other):
        (await house.put_manifest("acme/app", digest_of(manifest), manifest)).expect(201)
    for spelled in ("application/vnd.example.a+json", "application%2Fvnd.example.a%2Bjson"):
        reply = await house.ask("GET", f"{TARGET}?artifactType={spelled}")
        assert [item["digest"] for item in reply.json["manifests"]] == [digest_of(wanted)]
        assert reply.header("oci-filters-applied") == "artifactType"
    assert not (await house.ask("GET", TARGET)).has("oci-filters-applied")


async def many_referrers(house: House, count: int) -> list[str]:
    subject = Digest.of(SUBJECT)
    digests = []
    for number in range(count):
        digest = Digest.of(b"%d" % number)
        digests.append(str(digest))
        item = {"mediaType": IMAGE, "digest": str(digest), "size": 1, "artifactType": f"a/{number % 2}"}
        await house.store.put(keys.referrer(Repository("acme/app"), subject, digest), json.dumps(item).encode())
    return sorted(digests)


@pytest.mark.parametrize("count", [100, 199, 200, 450])
async def test_pages_of_referrers_hold_at_least_a_hundred_and_miss_none(house: House, count: int) -> None:
    digests = await many_referrers(house, count)
    pages = await follow(house, TARGET, "manifests")
    assert [item["digest"] for page in pages for item in page] == digests  # type: ignore[index]
    assert all(len(page) >= 100 for page in pages[:-1])
    filtered = await follow(house, f"{TARGET}?artifactType=a/1", "manifests")
    assert len([item for page in filtered for item in page]) == count // 2


async def test_large_annotations_end_a_page_early(house: House) -> None:
    subject = Digest.of(SUBJECT)
    for number in range(40):
        digest = Digest.of(b"%d" % number)
        item = {"digest": str(digest), "annotations": {"a": "x" * 1024 * 1024}}
        await house.store.put(keys.referrer(Repository("acme/app"), subject, digest), json.dumps(item).encode())
    reply = await house.ask("GET", TARGET)
    assert len(reply.body) < 32 * 1024 * 1024
    pages = await follow(house, TARGET, "manifests")
    assert sum(map(len, pages)) == 40


async def test_a_marker_of_referrers_that_is_not_ours_is_refused(house: House) -> None:
    for last in ("x", "../..", f"sha256-{'a' * 63}", f"sha256:{'a' * 64}"):
        assert (await house.ask("GET", f"{TARGET}?last={last}")).error == (400, "UNSUPPORTED")
    (await house.ask("GET", f"{TARGET}?last=sha256-{'a' * 64}")).expect(200)


async def test_a_link_carries_what_was_asked_for_and_nothing_else(house: House) -> None:
    await many_referrers(house, 450)
    reply = await house.ask("GET", f"{TARGET}?artifactType=a/1%22%3E%3Cx&last=")
    assert not reply.has("link") or "<x" not in reply.header("link")[1:]
    following = await house.ask("GET", f"{TARGET}?artifactType=a/1")
    assert f"{TARGET}?artifactType=a%2F1&last=sha256-" in next_page(following)
