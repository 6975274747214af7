"""Tags as objects: what is written, what a deleted one looks like, what is asked of the store."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeproxy.oci.errors import ManifestUnknown
from edgeproxy.oci.names import Digest, Repository, Tag
from edgeproxy.registry.tags import Tagged, TagMoved, Tags
from edgeproxy.storage import keys
from edgeproxy.storage.filesystem import FilesystemStore
from tests.interleaving import Interleaved

APP, LATEST = Repository("acme/app"), Tag("latest")
ONE = Tagged(Digest.of(b"one"), "application/x", 3, 1.0, "ci")
TWO = Tagged(Digest.of(b"two"), "application/x", 3, 2.0, "")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Interleaved]:
    opened = await FilesystemStore.open(tmp_path)
    yield Interleaved(opened)
    await opened.close()


@pytest.fixture
def tags(store: Interleaved) -> Tags:
    return Tags(store, lambda: 0.0)


@given(
    st.builds(
        Tagged,
        digest=st.binary().map(Digest.of),
        media_type=st.text(),
        size=st.integers(0, 2**53),
        created=st.floats(0, 2**40),
        by=st.text(st.characters(codec="utf-8")),
    )
)
def test_a_tag_s_object_gives_the_tag_back(tagged: Tagged) -> None:
    assert Tagged.load(tagged.dump()) == tagged


async def test_a_tag_says_what_it_points_at_and_who_set_it(store: Interleaved, tags: Tags) -> None:
    await tags.set(APP, LATEST, ONE)
    _, data = await store.read(keys.tag(APP, LATEST), 1000)
    assert json.loads(data) == {
        "digest": str(ONE.digest),
        "media_type": "application/x",
        "size": 3,
        "created": 1.0,
        "by": "ci",
    }
    assert await tags.resolve(APP, LATEST) == ONE
    assert await tags.of(APP, ONE.digest) == [LATEST]


async def test_the_way_back_is_written_before_the_tag(store: Interleaved, tags: Tags) -> None:
    await tags.set(APP, LATEST, ONE)
    written = [key for operation, key in store.calls if operation == "put"]
    assert written == [keys.tagged(APP, ONE.digest, LATEST), keys.tag(APP, LATEST)]


async def test_a_deleted_tag_is_an_empty_object(store: Interleaved, tags: Tags) -> None:
    await tags.set(APP, LATEST, ONE)
    assert await tags.delete(APP, LATEST)
    assert (await store.head(keys.tag(APP, LATEST))).size == 0
    with pytest.raises(ManifestUnknown):
        await tags.resolve(APP, LATEST)
    assert not await tags.delete(APP, LATEST)
    assert not await tags.delete(APP, Tag("never"))


async def test_a_tag_that_points_elsewhere_is_not_deleted_with_a_digest(tags: Tags) -> None:
    await tags.set(APP, LATEST, TWO)
    assert not await tags.delete(APP, LATEST, only=ONE.digest)
    assert await tags.resolve(APP, LATEST) == TWO
    assert await tags.delete(APP, LATEST, only=TWO.digest)


async def test_a_tag_is_created_once_and_may_be_created_again_only_as_what_it_is(tags: Tags) -> None:
    await tags.create(APP, LATEST, ONE)
    await tags.create(APP, LATEST, ONE)
    with pytest.raises(TagMoved) as moved:
        await tags.create(APP, LATEST, TWO)
    assert moved.value.digest == ONE.digest
    await tags.delete(APP, LATEST)
    await tags.create(APP, LATEST, TWO)
    assert await tags.resolve(APP, LATEST) == TWO


async def test_of_many_creations_at_once_one_wins(tags: Tags) -> None:
    rivals = [Tagged(Digest.of(b"%d" % number), "a/b", 1, 0.0, "") for number in range(10)]
    results = await asyncio.gather(*(tags.create(APP, LATEST, rival) for rival in rivals), return_exceptions=True)
    won = [rival for rival, result in zip(rivals, results, strict=True) if result is None]
    assert len(won) == 1
    assert await tags.resolve(APP, LATEST) == won[0]
    assert all(isinstance(result, TagMoved) for result in results if result is not None)


async def test_a_list_skips_deleted_tags_and_fills_its_page(tags: Tags) -> None:
    for name in "abcdef":
        await tags.set(APP, Tag(name), ONE)
    for name in "bd":
        await tags.delete(APP, Tag(name))
    page = await tags.list(APP, 3, "")
    assert (page.names, page.more) == (["a", "c", "e"], True)
    page = await tags.list(APP, 3, "e")
    assert (page.names, page.more) == (["f"], False)
    page = await tags.list(APP, 4, "")
    assert (page.names, page.more) == (["a", "c", "e", "f"], False)
