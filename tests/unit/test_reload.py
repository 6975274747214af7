from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from edgeproxy.access.policy import Policy, PolicyError, load_policy
from edgeproxy.access.rules import InlineKeys
from edgeproxy.reload import (
    MAX_DOCUMENT_BYTES,
    POLL_SECONDS,
    CurrentPolicy,
    DocumentUnreadable,
    FileDocument,
    FilesBeside,
    StoredDocument,
    watch_keys,
)
from edgeproxy.storage import keys
from edgeproxy.storage.filesystem import FilesystemStore
from tests.http.harness import NOW, Clock
from tests.interleaving import Interleaved
from tests.issuer import Key

FIRST = b"version: 1\n"
SECOND = b"version: 1\npublic: [{repositories: ['a'], actions: [pull]}]\n"
BROKEN = b"version: 1\npublic: [{repositories: 'a"


def load(text: bytes) -> Policy:
    return load_policy(text, source="policy.yaml", loopback=False, now=NOW)


class Current:
    """A current policy over a file, with what it told of changes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = Clock()
        self.changes: list[tuple[str, str]] = []
        self.policy = CurrentPolicy(
            FileDocument(path), load, self.clock, lambda old, new: self.changes.append((old.version, new.version))
        )

    def write(self, text: bytes) -> None:
        """Replace the file as editors do."""
        fresh = self.path.with_suffix(".new")
        fresh.write_bytes(text)
        fresh.rename(self.path)


@pytest.fixture
async def current(tmp_path: Path) -> Current:
    found = Current(tmp_path / "policy.yaml")
    found.write(FIRST)
    await found.policy.start()
    return found


async def test_a_changed_document_comes_into_force(current: Current) -> None:
    before = current.policy()
    current.clock.advance(10)
    current.write(SECOND)
    await current.policy.refresh()
    assert current.policy().version == load(SECOND).version
    assert current.policy.since == NOW + 10
    assert current.changes == [(before.version, current.policy().version)]
    assert current.policy.problem == ""


async def test_a_document_that_is_the_same_changes_nothing(current: Current) -> None:
    before = current.policy()
    await current.policy.refresh()
    assert current.policy() is before
    current.write(FIRST)
    await current.policy.refresh()
    assert current.policy().version == before.version
    assert current.changes == []


async def test_a_broken_document_keeps_the_old_one_and_says_why_until_it_is_mended(current: Current) -> None:
    before = current.policy()
    current.write(BROKEN)
    for _ in range(2):
        await current.policy.refresh()
        assert current.policy() is before
        assert "policy.yaml" in current.policy.problem
    current.write(SECOND)
    await current.policy.refresh()
    assert current.policy().version == load(SECOND).version
    assert current.policy.problem == ""


async def test_going_back_from_a_broken_document_to_the_old_one_ends_the_alarm(
    current: Current, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "edgeproxy.reload")
    current.write(BROKEN)
    await current.policy.refresh()
    assert current.policy.problem
    current.write(FIRST)
    await current.policy.refresh()
    assert current.policy.problem == ""
    assert current.policy().version == load(FIRST).version
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]
    assert caplog.messages[1] == f"policy {load(FIRST).version[:12]} is in force"


async def test_a_document_that_goes_away_keeps_the_old_one_and_comes_back(current: Current) -> None:
    kept = current.path.with_suffix(".kept")
    current.path.rename(kept)
    await current.policy.refresh()
    assert current.policy().version == load(FIRST).version
    assert "No such file" in current.policy.problem
    kept.rename(current.path)
    await current.policy.refresh()
    assert current.policy.problem == ""


async def test_a_switched_link_is_a_change(tmp_path: Path) -> None:
    """As a mounted ConfigMap changes."""
    for name, text in (("one", FIRST), ("two", SECOND)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "policy.yaml").write_bytes(text)
    (tmp_path / "data").symlink_to(tmp_path / "one")
    policy = CurrentPolicy(FileDocument(tmp_path / "data" / "policy.yaml"), load, Clock())
    await policy.start()
    (tmp_path / "fresh").symlink_to(tmp_path / "two")
    (tmp_path / "fresh").rename(tmp_path / "data")
    await policy.refresh()
    assert policy().version == load(SECOND).version


async def test_there_is_no_start_without_a_usable_policy(tmp_path: Path) -> None:
    with pytest.raises(DocumentUnreadable, match=r"none\.yaml"):
        await CurrentPolicy(FileDocument(tmp_path / "none.yaml"), load, Clock()).start()
    (tmp_path / "broken.yaml").write_bytes(BROKEN)
    with pytest.raises(PolicyError):
        await CurrentPolicy(FileDocument(tmp_path / "broken.yaml"), load, Clock()).start()


async def test_the_document_is_looked_at_often_enough_to_change_within_five_seconds(current: Current) -> None:
    assert POLL_SECONDS < 5
    slept: list[float] = []

    class Enough(Exception):
        pass

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            raise Enough
        current.write(SECOND)

    with pytest.raises(Enough):
        await current.policy.watch(sleep)
    assert slept == [POLL_SECONDS, POLL_SECONDS]
    assert current.policy().version == load(SECOND).version


async def test_a_surprise_does_not_end_the_watch_and_the_alarm_ends_with_it(
    current: Current, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a narrowed policy would never come into force, and nobody would know."""
    problems: list[str] = []

    class Enough(Exception):
        pass

    async def sleep(_: float) -> None:
        problems.append(current.policy.problem)
        if len(problems) == 1:
            current.write(SECOND)
            monkeypatch.setattr(current.policy, "_load", _surprised)
        elif len(problems) == 3:
            monkeypatch.setattr(current.policy, "_load", load)
        elif len(problems) == 4:
            raise Enough

    with pytest.raises(Enough):
        await current.policy.watch(sleep)
    told = "it could not be looked at (RecursionError); the log has the traceback"
    assert problems == ["", told, told, ""]
    assert current.policy().version == load(SECOND).version


def _surprised(_: bytes) -> Policy:
    raise RecursionError


async def test_a_surprise_does_not_end_the_watch_of_the_keys(caplog: pytest.LogCaptureFixture) -> None:
    looked: list[str] = []

    class Enough(Exception):
        pass

    class Keys:
        def reload(self) -> bool:
            looked.append("")
            raise RecursionError

    async def sleep(_: float) -> None:
        if len(looked) == 2:
            raise Enough

    keys: Any = Keys()
    with pytest.raises(Enough):
        await watch_keys(keys, sleep)
    assert caplog.text.count("the old ones stay in force") == 2


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Interleaved]:
    opened = await FilesystemStore.open(tmp_path / "bucket")
    yield Interleaved(opened)
    await opened.close()


async def test_a_document_in_the_bucket_is_read_and_changes_too(store: Interleaved) -> None:
    policy = CurrentPolicy(StoredDocument(store), load, Clock())
    with pytest.raises(DocumentUnreadable, match="no such object"):
        await policy.start()
    await store.put(keys.POLICY, FIRST)
    await policy.start()
    await store.put(keys.POLICY, SECOND)
    await policy.refresh()
    assert policy().version == load(SECOND).version


async def test_a_bucket_that_is_out_of_order_keeps_the_old_policy(store: Interleaved) -> None:
    await store.put(keys.POLICY, FIRST)
    policy = CurrentPolicy(StoredDocument(store), load, Clock())
    await policy.start()
    await store.put(keys.POLICY, SECOND)
    store.failing = "*"
    await policy.refresh()
    assert policy().version == load(FIRST).version
    assert "out of order" in policy.problem
    store.failing = ""
    await policy.refresh()
    assert (policy().version, policy.problem) == (load(SECOND).version, "")


async def test_a_document_that_is_too_large_is_not_read(store: Interleaved) -> None:
    await store.put(keys.POLICY, b"#" * (MAX_DOCUMENT_BYTES + 1))
    with pytest.raises(DocumentUnreadable):
        await CurrentPolicy(StoredDocument(store), load, Clock()).start()


async def test_a_change_within_the_same_second_is_seen(current: Current) -> None:
    current.write(SECOND)
    os.utime(current.path, ns=(1, 1))
    await current.policy.refresh()
    current.write(FIRST)
    os.utime(current.path, ns=(1, 1))
    await current.policy.refresh()
    assert current.policy().version == load(FIRST).version


@pytest.mark.parametrize(
    "text", [b"", b"\xff\xfe", b"[]", b"a: " * 10_000, b"[" * 10_000, b"version: 1\nissuers: {a: {ca_file: none.pem}}"]
)
async def test_whatever_a_document_holds_the_old_policy_stays_in_force(current: Current, text: bytes) -> None:
    before = current.policy()
    current.write(text)
    await current.policy.refresh()
    assert current.policy() is before
    assert current.policy.problem


async def test_the_same_text_written_again_is_not_in_force_since_now(current: Current) -> None:
    current.clock.advance(10)
    current.write(FIRST)
    await current.policy.refresh()
    assert current.policy.since == NOW


async def test_a_changed_file_that_the_document_names_comes_into_force(tmp_path: Path) -> None:
    def write(name: str, text: str) -> None:
        fresh = tmp_path / f"{name}.new"
        fresh.write_text(text)
        fresh.rename(tmp_path / name)

    def keys_of(policy: Policy) -> object:
        source = policy.issuers["cluster"].keys
        assert isinstance(source, InlineKeys)
        return source.jwks

    old, new = ({"keys": [Key.make(kid, "ES256").published()]} for kid in ("old", "new"))
    write("jwks.json", json.dumps(old))
    write(
        "policy.yaml",
        "version: 1\nissuers:\n  cluster: {url: https://k8s.example, audiences: [registry.example], keys: {file: jwks.json}}\n",
    )
    beside = FilesBeside(tmp_path)
    policy = CurrentPolicy(
        FileDocument(tmp_path / "policy.yaml", beside),
        lambda text: load_policy(text, source="policy.yaml", loopback=False, now=NOW, files=beside),
        Clock(),
    )
    await policy.start()
    assert keys_of(policy()) == old

    write("jwks.json", json.dumps(new))
    await policy.refresh()
    assert keys_of(policy()) == new

    (tmp_path / "jwks.json").unlink()
    await policy.refresh()
    assert "jwks.json" in policy.problem
    assert keys_of(policy()) == new
