"""Each permission taken away in turn: `check` and the start of `serve` name it, and with those of docs/deployment.md both pass."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest

from tests.check.accounts import ACTIONS, Gateway, gateway
from tests.check.telling import refused, told
from tests.images import digest_of
from tests.pushing import client, manifest_of
from tests.running import registry, temporary_folder

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
async def versitygw() -> AsyncIterator[Gateway]:
    async with temporary_folder() as folder, gateway(folder) as running:
        yield running


def actions_named(text: str) -> list[str]:
    return re.findall(r"s3:[A-Za-z]+", text)


def test_the_page_grants_five_actions_and_no_wildcard() -> None:
    assert len(ACTIONS) == len(set(ACTIONS)) == 5
    assert not any("*" in action for action in ACTIONS)


async def test_with_the_permissions_of_the_page_check_passes_and_everything_is_served(versitygw: Gateway) -> None:
    await versitygw.grant(ACTIONS)
    running = registry(versitygw.bucket(), versitygw.folder)
    checked = await told(running, "check")
    assert (checked.status, checked.text) == (0, "")
    assert await versitygw.keys() == []

    await running.start()
    assert await versitygw.keys() == ["layout"]
    config, whole, chunked = b"{}", bytes(12 << 20), b"in several chunks" * 100_000
    manifest = manifest_of(config, whole, chunked)
    async with client(running.url) as caller:
        await caller.post_put("a/b", config)
        await caller.post_put("a/b", whole)  # in parts
        await caller.chunks("a/b", chunked)
        (await caller.push_manifest("a/b", "v1", manifest)).expect(201)
        assert set((await caller.whole("a/b", "v1"))[1]) == {digest_of(blob) for blob in (config, whole, chunked)}
        mount = f"/v2/c/d/blobs/uploads/?mount={digest_of(whole)}&from=a/b"
        (await caller.ask("POST", mount)).expect(201)
        (await caller.ask("GET", "/v2/a/b/tags/list")).expect(200)
        refused_upload = f"/v2/a/b/blobs/uploads/?digest={digest_of(b'else')}"
        (await caller.ask("POST", refused_upload, data=whole)).expect(400)  # whose parts are given up
        (await caller.ask("DELETE", "/v2/a/b/manifests/v1")).expect(202)
        (await caller.ask("DELETE", f"/v2/a/b/manifests/{digest_of(manifest)}")).expect(202)
        (await caller.ask("DELETE", f"/v2/a/b/blobs/{digest_of(whole)}")).expect(202)
    assert (await running.fsck())["damage"] == []
    assert await running.stop() == 0
    assert "AccessDenied" not in running.log.read_text()
    assert (await versitygw.owner._calls.call("ListMultipartUploads")).get("Uploads", []) == []


@pytest.mark.parametrize("action", ACTIONS)
async def test_without_one_permission_both_stop_and_name_it_and_leave_nothing(versitygw: Gateway, action: str) -> None:
    await versitygw.grant([other for other in ACTIONS if other != action])
    running = registry(versitygw.bucket(), versitygw.folder)

    if action == "s3:PutObject":
        # Found by the first write, which differs between the two.
        checked, started = await told(running, "check"), await told(running, "serve")
        assert (checked.status, len(checked.lines)) == (1, 1), checked.text
        assert (started.status, len(started.lines)) == (2, 1), started.text
        assert actions_named(checked.text) == actions_named(started.text) == [action]
        assert started.lines[0].startswith("edgeproxy: EDGEPROXY_STORE: ")
    else:
        said = await refused(running)
        assert said.startswith("EDGEPROXY_STORE: ")
        assert actions_named(said) == [action]
        assert ("the bucket itself" in said) == (action == "s3:ListBucket")
    assert await versitygw.keys() == []


async def test_without_any_permission_each_is_named_on_a_line_of_its_own(versitygw: Gateway) -> None:
    running = registry(versitygw.bucket(), versitygw.folder)

    started = await told(running, "serve")
    assert started.status == 2
    # Whether it may read is not told to who may not list; it may not write either, but the start ends before it writes.
    assert actions_named(started.text) == ["s3:ListBucket", "s3:DeleteObject", "s3:AbortMultipartUpload"]
    assert len(started.lines) == 3


async def test_several_workers_say_it_too(versitygw: Gateway) -> None:
    await versitygw.grant([action for action in ACTIONS if action != "s3:DeleteObject"])
    running = registry(versitygw.bucket(), versitygw.folder, workers="2")

    started = await told(running, "serve")
    assert started.status == 2
    assert set(actions_named(started.text)) == {"s3:DeleteObject"}
