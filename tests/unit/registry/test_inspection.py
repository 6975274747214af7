from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from edgeproxy.oci.errors import ManifestUnknown, NameUnknown
from edgeproxy.oci.names import Digest, Repository, Tag
from edgeproxy.registry.inspection import inspect_repository, inspect_tag
from edgeproxy.registry.tags import Tagged
from edgeproxy.storage import keys
from edgeproxy.storage.filesystem import FilesystemStore

IMAGE = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
APP = Repository("acme/app")
LATEST = Tag("latest")

LAYER_DIGEST = Digest.of(b"layer")
CONFIG_DIGEST = Digest.of(b"{}")
SUBJECT = Digest.of(b"subject")
MANIFEST = orjson.dumps(
    {
        "schemaVersion": 2,
        "mediaType": IMAGE,
        "config": {"mediaType": CONFIG, "digest": str(CONFIG_DIGEST), "size": 2},
        "layers": [{"mediaType": LAYER, "digest": str(LAYER_DIGEST), "size": 5}],
        "subject": {"mediaType": IMAGE, "digest": str(SUBJECT), "size": 7},
    }
)
DIGEST = Digest.of(MANIFEST)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[FilesystemStore]:
    """A bucket with one image, whose config is not there, two tags and a deleted one."""
    store = await FilesystemStore.open(tmp_path)
    await store.put(keys.catalog(APP), b"")
    await store.put(keys.blob(LAYER_DIGEST), b"layer")
    await store.put(keys.link(APP, LAYER_DIGEST), b"", metadata={"size": "5"})
    await store.put(keys.manifest(APP, DIGEST), MANIFEST, content_type=IMAGE)
    for name in ("latest", "v1"):
        await store.put(keys.tag(APP, Tag(name)), Tagged(DIGEST, IMAGE, len(MANIFEST), 12.5, "me").dump())
    await store.put(keys.tag(APP, Tag("gone")), b"")
    # A neighbour whose name begins alike.
    await store.put(keys.tag(Repository("acme/app2"), LATEST), Tagged(DIGEST, IMAGE, 1, 1.0, "").dump())
    yield store
    await store.close()


async def test_a_repository_is_its_manifests_tags_and_blobs(store: FilesystemStore) -> None:
    report = await inspect_repository(store, APP)
    (entry,) = report.manifests
    assert (entry.digest, entry.media_type, entry.size) == (DIGEST, IMAGE, len(MANIFEST))
    assert entry.tags == (LATEST, Tag("v1"))
    assert [tag.name for tag, _ in report.tags] == ["latest", "v1"]
    assert (report.blobs, report.blob_bytes) == (1, 5)


async def test_a_repository_that_is_not_there_is_refused(store: FilesystemStore) -> None:
    with pytest.raises(NameUnknown, match="no repository acme/ap"):
        await inspect_repository(store, Repository("acme/ap"))


async def test_an_empty_repository_is_there_as_long_as_the_catalog_has_it(store: FilesystemStore) -> None:
    await store.put(keys.catalog(Repository("empty")), b"")
    report = await inspect_repository(store, Repository("empty"))
    assert (report.manifests, report.tags, report.blobs) == ((), (), 0)


async def test_a_tag_is_what_it_points_at_and_its_parts(store: FilesystemStore) -> None:
    report = await inspect_tag(store, APP, LATEST)
    assert (report.tagged.digest, report.tagged.by, report.tagged.created) == (DIGEST, "me", 12.5)
    assert [(part.role, part.descriptor.digest, part.held) for part in report.parts] == [
        ("config", CONFIG_DIGEST, False),
        ("layer", LAYER_DIGEST, True),
        ("subject", SUBJECT, False),
    ]


async def test_a_manifest_that_we_do_not_read_has_no_parts(store: FilesystemStore) -> None:
    digest = Digest.of(b"thing")
    await store.put(keys.manifest(APP, digest), b"thing", content_type="application/vnd.example.thing")
    await store.put(keys.tag(APP, LATEST), Tagged(digest, "application/vnd.example.thing", 5, 1.0, "").dump())
    assert (await inspect_tag(store, APP, LATEST)).parts == ()


@pytest.mark.parametrize("name", ["gone", "never"])
async def test_a_tag_that_is_not_there_is_refused(store: FilesystemStore, name: str) -> None:
    with pytest.raises(ManifestUnknown, match=f"tag {name} is not in repository acme/app"):
        await inspect_tag(store, APP, Tag(name))


async def test_a_tag_whose_manifest_is_gone_is_told_so(store: FilesystemStore) -> None:
    await store.delete(keys.manifest(APP, DIGEST))
    with pytest.raises(ManifestUnknown, match="edgeproxy fsck"):
        await inspect_tag(store, APP, LATEST)
