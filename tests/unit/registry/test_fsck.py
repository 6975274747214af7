"""Buckets with one thing broken each, beside the whole one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest

from edgeproxy.oci.names import Digest, Repository, Tag
from edgeproxy.registry.fsck import LEFTOVER_SECONDS, Found, fsck
from edgeproxy.registry.fsck_index import Index
from edgeproxy.registry.tags import Tagged
from edgeproxy.storage import ObjectInfo, Store, StoreUnavailable, keys
from edgeproxy.storage.filesystem import FilesystemStore

IMAGE = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
APP = Repository("acme/app")
LATEST = Tag("latest")
NOW = 2_000_000_000.0


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket that is filled as a registry fills it."""

    store: FilesystemStore
    root: Path

    async def blob(self, content: bytes, repository: Repository = APP) -> Digest:
        digest = Digest.of(content)
        await self.store.put(keys.blob(digest), content)
        await self.store.put(keys.link(repository, digest), b"", metadata={"size": str(len(content))})
        return digest

    async def manifest(self, content: bytes, media_type: str = IMAGE, repository: Repository = APP) -> Digest:
        digest = Digest.of(content)
        await self.store.put(keys.catalog(repository), b"")
        await self.store.put(keys.manifest(repository, digest), content, content_type=media_type)
        return digest

    async def tag(self, digest: Digest, tag: Tag = LATEST, repository: Repository = APP) -> None:
        await self.store.put(keys.tagged(repository, digest, tag), b"")
        await self.store.put(keys.tag(repository, tag), Tagged(digest, IMAGE, 1, NOW, "").dump())

    async def image(self, subject: Digest | None = None) -> Image:
        config, layer = await self.blob(b"{}"), await self.blob(b"layer")
        document: dict[str, object] = {
            "schemaVersion": 2,
            "mediaType": IMAGE,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": str(config), "size": 2},
            "layers": [{"mediaType": LAYER, "digest": str(layer), "size": 5}],
        }
        if subject is not None:
            document["subject"] = {"mediaType": IMAGE, "digest": str(subject), "size": 10}
        content = orjson.dumps(document)
        return Image(config, layer, await self.manifest(content), content)

    async def found(self, *, rehash: bool = False, now: float = NOW, store: Store | None = None) -> list[Found]:
        return [item async for item in fsck(store or self.store, now=now, rehash=rehash, progress=lambda *_: None)]

    async def kinds(self, *, rehash: bool = False, store: Store | None = None) -> list[tuple[str, str, str]]:
        found = await self.found(rehash=rehash, store=store)
        return [(item.of, item.finding.kind, item.finding.key) for item in found]


@dataclass(frozen=True, slots=True)
class Image:
    config: Digest
    layer: Digest
    digest: Digest
    content: bytes


@pytest.fixture
async def bucket(tmp_path: Path) -> AsyncIterator[Bucket]:
    store = await FilesystemStore.open(tmp_path / "store")
    yield Bucket(store, tmp_path / "store" / "objects")
    await store.close()


@pytest.fixture
async def image(bucket: Bucket) -> Image:
    image = await bucket.image()
    await bucket.tag(image.digest)
    return image


async def test_an_empty_bucket_is_whole(bucket: Bucket) -> None:
    assert await bucket.found(rehash=True) == []


async def test_a_bucket_with_all_there_can_be_is_whole(bucket: Bucket, image: Image) -> None:
    signature = await bucket.image(subject=image.digest)
    descriptor = orjson.dumps({"mediaType": IMAGE, "digest": str(signature.digest), "size": len(signature.content)})
    await bucket.store.put(keys.referrer(APP, image.digest, signature.digest), descriptor)
    # A subject need not exist, and a layer that may not be distributed is not in the bucket.
    await bucket.store.put(keys.referrer(APP, Digest.of(b"none"), signature.digest), descriptor)
    foreign = {
        "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "digest": str(Digest.of(b"x")),
        "size": 1,
    }
    config = {"mediaType": "application/json", "digest": str(image.config), "size": 2}
    document = {"schemaVersion": 2, "mediaType": IMAGE, "config": config, "layers": [foreign]}
    await bucket.manifest(orjson.dumps(document))
    children = [
        {"mediaType": IMAGE, "digest": str(image.digest), "size": len(image.content)},
        {"mediaType": "application/octet-stream", "digest": str(image.layer), "size": 5},
    ]
    index = await bucket.manifest(orjson.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": children}), INDEX)
    await bucket.tag(index, Tag("all"))
    # A deleted tag, a note about a deletion, an unknown media type, blobs without any manifest, a kept policy.
    await bucket.store.put(keys.tag(APP, Tag("gone")), b"")
    await bucket.store.put(keys.deletions(APP), b"mark")
    await bucket.manifest(b"not even JSON", "application/vnd.example.thing")
    await bucket.blob(b"only a blob", Repository("acme"))
    await bucket.store.put(keys.POLICY, b"version: 1")
    await bucket.store.put(keys.LAYOUT, b'{"version":1}')
    assert await bucket.kinds(rehash=True) == []


async def test_a_link_without_its_blob_is_damage(bucket: Bucket, image: Image) -> None:
    await bucket.store.delete(keys.blob(image.layer))
    assert await bucket.kinds() == [("damage", "link-without-blob", keys.link(APP, image.layer))]


async def test_a_blob_of_another_size_than_its_link_says_is_damage(bucket: Bucket, image: Image) -> None:
    await bucket.store.put(keys.blob(image.layer), b"laye")
    kinds = await bucket.kinds()
    assert ("damage", "blob-size", keys.link(APP, image.layer)) in kinds
    assert ("damage", "manifest-part-size", keys.manifest(APP, image.digest)) in kinds
    assert len(kinds) == 2


async def test_a_blob_whose_bytes_are_not_its_digest_is_found_by_hashing_only(bucket: Bucket, image: Image) -> None:
    await bucket.store.put(keys.blob(image.layer), b"LAYER")
    assert await bucket.kinds() == []
    assert await bucket.kinds(rehash=True) == [("damage", "blob-digest", keys.blob(image.layer))]


async def test_a_manifest_whose_bytes_are_not_its_digest_is_damage(bucket: Bucket, image: Image) -> None:
    key = keys.manifest(APP, image.digest)
    await bucket.store.put(key, image.content + b" ", content_type=IMAGE)
    assert await bucket.kinds() == [("damage", "manifest-digest", key)]


async def test_a_manifest_whose_blob_the_repository_does_not_hold_is_damage(bucket: Bucket, image: Image) -> None:
    await bucket.store.delete(keys.link(APP, image.layer))
    # The bytes are in the bucket, and even in another repository: that is not enough.
    await bucket.blob(b"layer", Repository("other"))
    found = await bucket.found()
    assert [(item.of, item.finding.kind, item.finding.key) for item in found] == [
        ("damage", "manifest-part-missing", keys.manifest(APP, image.digest))
    ]
    assert str(image.layer) in found[0].finding.message


async def test_an_index_whose_child_is_missing_is_damage(bucket: Bucket, image: Image) -> None:
    child = {"mediaType": IMAGE, "digest": str(image.digest), "size": len(image.content)}
    index = await bucket.manifest(orjson.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [child]}), INDEX)
    assert await bucket.kinds() == []
    await bucket.store.put(keys.tag(APP, LATEST), b"")
    await bucket.store.delete(keys.manifest(APP, image.digest))
    kinds = await bucket.kinds()
    assert ("damage", "manifest-part-missing", keys.manifest(APP, index)) in kinds


async def test_a_tag_that_points_nowhere_is_damage(bucket: Bucket, image: Image) -> None:
    await bucket.store.delete(keys.manifest(APP, image.digest))
    kinds = await bucket.kinds()
    assert kinds == [("damage", "tag-without-manifest", keys.tag(APP, LATEST))]


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b"{}", b'{"digest": 5}', b'{"digest": "sha256:0"}', b"null", b"x" * 20_000]
)
async def test_a_tag_that_cannot_be_read_is_damage(bucket: Bucket, image: Image, content: bytes) -> None:
    await bucket.store.put(keys.tag(APP, LATEST), content)
    damage = [item for item in await bucket.kinds() if item[0] == "damage"]
    assert len(damage) == 1
    assert damage[0][1:] in [("tag-unreadable", keys.tag(APP, LATEST)), ("unreadable", keys.tag(APP, LATEST))]


async def test_a_referrer_that_points_nowhere_is_damage(bucket: Bucket, image: Image) -> None:
    key = keys.referrer(APP, image.digest, Digest.of(b"gone"))
    await bucket.store.put(key, orjson.dumps({"digest": str(Digest.of(b"gone"))}))
    assert await bucket.kinds() == [("damage", "referrer-without-manifest", key)]


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b"[]", b'{"digest": "sha256:0"}'])
async def test_a_referrer_that_cannot_be_read_is_damage(bucket: Bucket, image: Image, content: bytes) -> None:
    key = keys.referrer(APP, Digest.of(b"subject"), image.digest)
    await bucket.store.put(key, content)
    assert await bucket.kinds() == [("damage", "referrer-unreadable", key)]


async def test_a_repository_that_is_not_in_the_catalog_is_damage(bucket: Bucket, image: Image) -> None:
    await bucket.store.delete(keys.catalog(APP))
    assert await bucket.kinds() == [("damage", "catalog-missing", keys.catalog(APP))]


async def test_a_file_that_something_else_wrote_into_is_damage_and_stops_nothing(bucket: Bucket, image: Image) -> None:
    key = keys.manifest(APP, image.digest)
    file = bucket.root / key
    damaged = file.read_bytes()
    file.write_bytes(damaged[:-40] + b"#" * 20 + damaged[-20:])
    await bucket.store.delete(keys.blob(image.layer))
    kinds = await bucket.kinds()
    assert ("damage", "unreadable", key) in kinds
    assert ("damage", "link-without-blob", keys.link(APP, image.layer)) in kinds


async def test_garbage_is_told_apart_from_damage(bucket: Bucket, image: Image) -> None:
    orphan = Digest.of(b"orphan")
    await bucket.store.put(keys.blob(orphan), b"orphan")
    stale = keys.tagged(APP, Digest.of(b"old"), LATEST)
    await bucket.store.put(stale, b"")
    await bucket.store.put(keys.catalog(Repository("empty")), b"")
    for key in (
        "blobs/sha256/short",
        "catalog/a/b",
        "repos/acme/app/_blobs/md5/00",
        "repos/acme/app/_other/x",
        "repos/acme/app/x",
    ):
        await bucket.store.put(key, b"")
    assert await bucket.kinds() == [
        ("garbage", "blob-unlinked", keys.blob(orphan)),
        ("garbage", "unknown-key", "blobs/sha256/short"),
        ("garbage", "unknown-key", "catalog/a/b"),
        ("garbage", "catalog-empty", keys.catalog(Repository("empty"))),
        ("garbage", "unknown-key", "repos/acme/app/_blobs/md5/00"),
        ("garbage", "unknown-key", "repos/acme/app/_other/x"),
        ("garbage", "tagged-stale", stale),
        ("garbage", "unknown-key", "repos/acme/app/x"),
    ]


async def test_the_leftovers_of_an_upload_are_garbage_after_a_day(bucket: Bucket) -> None:
    await bucket.store.put(keys.state("one", 1), b"1234")
    await bucket.store.put(keys.segment("one", "data"), b"123456")
    last = await bucket.store.put(keys.segment("two", "data"), b"")
    assert await bucket.found(now=last.modified + LEFTOVER_SECONDS - 60) == []
    found = await bucket.found(now=last.modified + LEFTOVER_SECONDS + 60)
    assert [(item.of, item.finding.kind, item.finding.key) for item in found] == [
        ("garbage", "upload-leftover", keys.session("one")),
        ("garbage", "upload-leftover", keys.session("two")),
    ]
    assert found[0].finding.message.startswith("2 objects, 10 bytes")


class Busy(FilesystemStore):
    """A store in which somebody works during the walk: `act` is done once, after `prefix` was listed."""

    prefix = keys.REPOSITORIES
    act: Callable[[], Awaitable[None]] | None = None

    async def list(self, prefix: str, *, after: str = "", limit: int | None = None) -> AsyncIterator[ObjectInfo]:
        async for info in super().list(prefix, after=after, limit=limit):
            yield info
        if prefix == self.prefix and self.act is not None:
            act, self.act = self.act, None
            await act()


@pytest.fixture
async def busy(bucket: Bucket) -> AsyncIterator[Busy]:
    store = await Busy.open(bucket.root.parent)
    assert isinstance(store, Busy)
    yield store
    await store.close()


async def test_a_delete_meanwhile_is_no_damage(bucket: Bucket, image: Image, busy: Busy) -> None:
    async def delete() -> None:
        await bucket.store.put(keys.tag(APP, LATEST), b"")
        await bucket.store.delete(keys.tagged(APP, image.digest, LATEST))
        await bucket.store.delete(keys.manifest(APP, image.digest))
        await bucket.store.delete(keys.link(APP, image.layer))

    busy.act = delete
    assert [kind for kind in await bucket.kinds(store=busy) if kind[0] == "damage"] == []


async def test_a_push_meanwhile_is_no_damage(bucket: Bucket, image: Image, busy: Busy) -> None:
    busy.prefix = keys.BLOBS

    async def push() -> None:
        layer = await bucket.blob(b"another layer")
        config = {"mediaType": "application/json", "digest": str(image.config), "size": 2}
        document: dict[str, object] = {"schemaVersion": 2, "mediaType": IMAGE, "config": config}
        document["layers"] = [{"mediaType": LAYER, "digest": str(layer), "size": 13}]
        await bucket.tag(await bucket.manifest(orjson.dumps(document)))

    busy.act = push
    # The blob itself was not listed, its link was: only a second look tells that nothing is wrong.
    assert [kind for kind in await bucket.kinds(store=busy) if kind[0] == "damage"] == []


@pytest.mark.parametrize("forgotten", [False, True])
async def test_a_repository_that_is_listed_or_emptied_meanwhile_is_no_damage(
    bucket: Bucket, image: Image, busy: Busy, forgotten: bool
) -> None:
    await bucket.store.delete(keys.catalog(APP))
    busy.prefix = keys.CATALOG

    async def work() -> None:
        if forgotten:
            await bucket.store.put(keys.tag(APP, LATEST), b"")
            await bucket.store.delete(keys.manifest(APP, image.digest))
        else:
            await bucket.store.put(keys.catalog(APP), b"")

    busy.act = work
    assert [kind for kind in await bucket.kinds(store=busy) if kind[0] == "damage"] == []


class Down(FilesystemStore):
    """A store that stops answering after it was listed."""

    async def read(self, key: str, limit: int) -> tuple[ObjectInfo, bytes]:
        raise StoreUnavailable("the store is down")

    async def check(self) -> None:
        raise StoreUnavailable("the store is down")


async def test_a_store_that_stops_answering_ends_the_walk_rather_than_looking_damaged(
    bucket: Bucket, image: Image
) -> None:
    down = await Down.open(bucket.root.parent)
    with pytest.raises(StoreUnavailable, match="the store is down"):
        await bucket.found(store=down)
    await down.close()


async def test_progress_reaches_its_total(bucket: Bucket, image: Image) -> None:
    told: list[tuple[str, int, int | None]] = []
    async for _ in fsck(bucket.store, now=NOW, rehash=True, progress=lambda *step: told.append(step)):
        pass
    assert [step for step in told if step[0] == "listing"][-1] == ("listing", 8, None)
    assert told[-1] == ("checking", 7, 7)


def test_the_index_walks_in_byte_order_and_in_pages() -> None:
    with Index() as index:
        names = sorted(
            f"repos/{name}" for name in ["a/_x", "a-b/_x", "a0/_x", "a/b/_x", *(f"n{n}/_x" for n in range(1200))]
        )
        index.add((name, 1) for name in reversed(names))
        index.add([("catalog/a", 0), ("reposz", 0)])
        assert [key for key, _ in index.objects("repos/")] == names
        assert index.count("repos/") == len(names)
        assert index.has_below("repos/a/")
        assert not index.has_below("repos/b/")
        assert (index.size("catalog/a"), index.size("catalog/b")) == (0, None)
